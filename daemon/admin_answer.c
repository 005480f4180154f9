// SPDX-License-Identifier: Apache-2.0
// admin_answer.c - answers: JSON by jansson, errors as {"error": …}, and the headers that each answer carries.
#include "admin_inside.h"

#include "gait/output.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

/* Pages load nothing from elsewhere and run no script of their own text; answers are not stored anywhere. */
#define POLICY "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " \
               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

void admin_headers(struct MHD_Response *response, const char *type)
{
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Content-Security-Policy", POLICY);
}

static enum MHD_Result send_response(struct admin_request *r, unsigned status, const char *type, char *text, size_t len,
                                     enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(len, text, mode);
    if (!response) {
        if (mode == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    char seconds[16];
    admin_headers(response, type);
    if (r->retry_after_s) {
        snprintf(seconds, sizeof seconds, "%u", r->retry_after_s);
        MHD_add_response_header(response, "Retry-After", seconds);
    }
    if (r->allow)
        MHD_add_response_header(response, "Allow", r->allow);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer realm=\"gait\"");
    r->answered = true;
    enum MHD_Result result = MHD_queue_response(r->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result admin_answer_json(struct admin_request *r, unsigned status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text)
        return MHD_NO;
    return send_response(r, status, "application/json", text, strlen(text), MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result admin_answer_error(struct admin_request *r, unsigned status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_t *json = json_object();
    json_object_set_new(json, "error", admin_string(str_of(text)));
    return admin_answer_json(r, status, json);
}

enum MHD_Result admin_answer_text(struct admin_request *r, const char *type, char *text, size_t len)
{
    return send_response(r, MHD_HTTP_OK, type, text, len, MHD_RESPMEM_MUST_FREE);
}

enum MHD_Result admin_answer_static(struct admin_request *r, const char *type, const char *text, size_t len)
{
    return send_response(r, MHD_HTTP_OK, type, (char *)(uintptr_t)text, len, MHD_RESPMEM_PERSISTENT);
}

json_t *admin_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* jansson takes valid UTF-8 only; what is not becomes readable by way of our own escapes. */
json_t *admin_string(struct str text)
{
    json_t *json = text.at ? json_stringn(text.at, text.len) : json_null();
    if (json)
        return json;
    size_t cap = 6 * (size_t)text.len + 3;
    char *quoted = malloc(cap);
    if (!quoted)
        return json_null();
    size_t n = output_escape(text, quoted + 1, cap - 2);
    quoted[0] = quoted[n + 1] = '"';
    json = json_loadb(quoted, n + 2, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    free(quoted);
    return json ? json : json_null();
}
