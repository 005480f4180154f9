// SPDX-License-Identifier: Apache-2.0
// admin_request.c - one request from its first line to its end: which call it is, whether it may, its parameters.
//
//   headers ─► route ─► gate ─► body (passed over, bounded) ─► the call ─► answer
//                                                  └─ suspended while the store is asked ─► called again
#include "admin_inside.h"

#include <stdlib.h>

const struct admin_route admin_routes[] = {
    {"GET", "/livez", NULL, ADMIN_PROBE, admin_get_livez},
    {"GET", "/readyz", NULL, ADMIN_PROBE, admin_get_readyz},
    {"GET", "/metrics", NULL, ADMIN_CALL, admin_get_metrics},
    {"GET", "/api/status", NULL, ADMIN_CALL, admin_get_status},
    {"GET", "/api/history", NULL, ADMIN_CALL, admin_get_history},
    {"GET", "/api/shop", NULL, ADMIN_CALL, admin_get_shop},
    {"GET", "/api/alerts", NULL, ADMIN_CALL, admin_get_alerts},
    {"GET", "/api/models", NULL, ADMIN_CALL, admin_get_models},
    {"GET", "/api/stream", NULL, ADMIN_CALL, admin_get_stream},
    {"POST", "/api/reload", NULL, ADMIN_CALL, admin_post_reload},
    {"GET", "/api/users/", "", ADMIN_CALL, admin_get_user},
    {"POST", "/api/users/", "/erase", ADMIN_CALL, admin_post_erase},
    {"GET", "/api/openapi.json", NULL, ADMIN_PAGE, admin_get_page},
    {"GET", "/", NULL, ADMIN_PAGE, admin_get_page},
    {"GET", "/dashboard.js", NULL, ADMIN_PAGE, admin_get_page},
    {"GET", "/dashboard.css", NULL, ADMIN_PAGE, admin_get_page},
    {.method = NULL},
};

/* ---- parameters --------------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    int letter = c | 0x20;
    return c >= '0' && c <= '9' ? c - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

int64_t admin_unescape(const char *text, size_t len, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = text[i] == '%' && i + 2 < len ? hex_digit(text[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
        if (n == cap || (text[i] == '%' && low < 0))
            return -1;
        out[n++] = text[i] == '%' ? (char)(high << 4 | low) : text[i];
        i += text[i] == '%' ? 2 : 0;
    }
    return (int64_t)n;
}

int admin_query(struct admin_request *r, const char *name, char *buf, size_t cap)
{
    const char *raw = MHD_lookup_connection_value(r->connection, MHD_GET_ARGUMENT_KIND, name);
    if (!raw)
        return 0;
    int64_t n = admin_unescape(raw, strlen(raw), buf, cap - 1);
    if (n < 0 || memchr(buf, 0, (size_t)n))
        return -1;
    buf[n] = 0;
    return 1;
}

/* ---- routes ------------------------------------------------------------------------------------------------- */

/* True when the path is the route's; then its id, still escaped, is in `id`. */
static bool route_matches(const struct admin_route *route, const char *path, struct str *id)
{
    size_t before = strlen(route->before), after = route->after ? strlen(route->after) : 0, len = strlen(path);
    *id = (struct str){0};
    if (!route->after)
        return strcmp(path, route->before) == 0;
    if (len <= before + after || strncmp(path, route->before, before) != 0 ||
        strcmp(path + len - after, route->after) != 0)
        return false;
    *id = (struct str){path + before, (uint32_t)(len - before - after)};
    return !memchr(id->at, '/', id->len);
}

/* The route, or NULL: then *allow says which methods the path has (NULL: there is no such path). */
static const struct admin_route *route_find(const char *path, const char *method, struct str *id, const char **allow)
{
    *allow = NULL;
    for (const struct admin_route *route = admin_routes; route->method; route++) {
        if (!route_matches(route, path, id))
            continue;
        if (strcmp(route->method, method) == 0)
            return route;
        *allow = strcmp(route->method, "GET") == 0 ? "GET, HEAD" : route->method;
    }
    return NULL;
}

static enum MHD_Result check_body(struct admin_request *r)
{
    const char *length = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Content-Length");
    if (MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Transfer-Encoding")) {
        admin_deny(r->admin, "body");
        return admin_answer_error(r, MHD_HTTP_LENGTH_REQUIRED, "a body needs a Content-Length");
    }
    if (length && strtoull(length, NULL, 10) > (unsigned long long)r->admin->conf->body_bytes) {
        admin_deny(r->admin, "body");
        return admin_answer_error(r, MHD_HTTP_CONTENT_TOO_LARGE, "the body is longer than %lld bytes",
                                  (long long)r->admin->conf->body_bytes);
    }
    return MHD_YES;
}

/* Headers are there, the body is not read yet: everything that can be refused is refused now. */
static enum MHD_Result begin(struct admin_request *r, const char *path, const char *method)
{
    struct str id;
    enum MHD_Result result = MHD_YES;
    r->head = strcmp(method, "HEAD") == 0;
    r->route = route_find(path, r->head ? "GET" : method, &id, &r->allow);
    if (!admin_gate(r, r->route ? r->route->access : ADMIN_CALL, method, &result)) {
        r->allow = NULL;
        return result;
    }
    if (!r->route && r->allow)
        return admin_answer_error(r, MHD_HTTP_METHOD_NOT_ALLOWED, "this path takes %s", r->allow);
    if (!r->route)
        return admin_answer_error(r, MHD_HTTP_NOT_FOUND, "there is no such path; /api/openapi.json lists them");
    if (id.at) {
        int64_t n = admin_unescape(id.at, id.len, r->id, ADMIN_ID_MAX);
        if (n > r->admin->engine->conf.user_id_bytes)
            return admin_answer_error(r, MHD_HTTP_NOT_FOUND, "no user id is longer than %lld bytes "
                                      "(engine.user_id_bytes)", (long long)r->admin->engine->conf.user_id_bytes);
        if (n < 1 || memchr(r->id, 0, (size_t)n))
            return admin_answer_error(r, MHD_HTTP_BAD_REQUEST, "the user id has to be percent-encoded and without NUL");
        r->id_len = (uint32_t)n;
        r->id[n] = 0;
    }
    return check_body(r);
}

enum MHD_Result admin_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_n, void **state)
{
    struct admin_request *r = *state;
    (void)version, (void)upload;
    if (!r) {
        r = calloc(1, sizeof *r);
        if (!r)
            return MHD_NO;
        r->admin = cls;
        r->connection = connection;
        *state = r;
        return begin(r, url, method);
    }
    if (*upload_n > 0) { /* no call looks at it */
        *upload_n = 0;
        return MHD_YES;
    }
    return r->answered ? MHD_YES : r->route->handle(r);
}

void admin_request_end(void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    struct admin *a = cls;
    struct admin_request *r = *state;
    (void)code;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct admin_connection *c = info ? info->socket_context : NULL;
    if (c) {
        c->since_ms = engine_mono_ms(a->engine);
        c->streaming = false;
    }
    if (!r)
        return;
    if (r->waiting)
        r->cancel(r);
    json_decref(r->json);
    free(r);
    *state = NULL;
}
