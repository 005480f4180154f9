// SPDX-License-Identifier: Apache-2.0
// admin.c - the HTTP server on the daemon's loop. libmicrohttpd speaks HTTP and TLS; we accept, count, bound and time.
//
//   accept (ours) ─► MHD_add_connection ─► MHD's epoll descriptor ─(ev_io)─► MHD_run ─► admin_request()
//
// Its watchers have a lower priority than the flow's. Accepting ourselves makes the limit exact: the connection beyond
// it gets 503 at once instead of waiting in the kernel's queue; and a deadline for each request, which a caller cannot
// stretch by a byte now and then, gives the places back.
#include "admin_inside.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

enum { ACCEPTS_AT_ONCE = 64, RETRY_S = 5, TOKEN_MIN = 16, FILE_MAX = 1 << 20, PRIORITY = -1 };
enum { CONNECTION_MEMORY = 32 << 10 };

const struct metric admin_metrics[] = {
    {"gait_build_info", METRIC_GAUGE, "version,compiler,libmicrohttpd", "1; the labels say what is running."},
    {"gait_admin_requests_total", METRIC_COUNTER, "call", "Requests that reached a call, by its path."},
    {"gait_admin_denied_total", METRIC_COUNTER, "reason", "Requests and connections refused: token, paused (after "
     "wrong tokens), rate, connections, host, origin, certificate, body."},
    {"gait_admin_timeouts_total", METRIC_COUNTER, NULL, "Connections closed: a request took too long, or none came."},
    {"gait_admin_connections", METRIC_GAUGE, NULL, "Open connections of the admin server."},
    {"gait_admin_streams", METRIC_GAUGE, NULL, "Listeners of /api/stream."},
    {"gait_admin_streams_dropped_total", METRIC_COUNTER, NULL, "Listeners dropped because they read too slowly."},
    {"gait_admin_audit_failed_total", METRIC_COUNTER, NULL, "Audit lines that could not be written to their file."},
    {NULL, 0, NULL, NULL},
};

/* ---- the loop ----------------------------------------------------------------------------------------------- */

/* MHD does what is ready, and says when it wants to be called again at the latest. */
static void run_daemon(struct admin *a)
{
    MHD_UNSIGNED_LONG_LONG ms;
    MHD_run(a->daemon);
    ev_timer_stop(a->loop, &a->turn);
    if (MHD_get_timeout(a->daemon, &ms) == MHD_YES) {
        ev_timer_set(&a->turn, (double)ms * 1e-3, 0);
        ev_timer_start(a->loop, &a->turn);
    }
}

void admin_turn_soon(struct admin *a)
{
    ev_timer_stop(a->loop, &a->turn);
    ev_timer_set(&a->turn, 0, 0);
    ev_timer_start(a->loop, &a->turn);
}

static void on_ready(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop, (void)events;
    run_daemon(w->data);
}

static void on_turn(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    run_daemon(w->data);
}

/* ---- connections -------------------------------------------------------------------------------------------- */

static unsigned open_connections(const struct admin *a)
{
    return MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct admin *a = cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct admin_connection *c = *context;
        if (c)
            c->fd = -1;
        return;
    }
    for (int64_t i = 0; i < a->conf->connections; i++) {
        struct admin_connection *c = &a->connections[i];
        if (c->fd >= 0)
            continue;
        *c = (struct admin_connection){
            .fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
            .since_ms = engine_mono_ms(a->engine),
        };
        *context = c;
        return;
    }
}

static void refuse_connection(struct admin *a, int fd)
{
    static const char body[] = "{\"error\":\"too many connections (admin.connections)\"}";
    char text[512];
    int n = snprintf(text, sizeof text, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                     "Retry-After: 1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", sizeof body - 1, body);
    admin_deny(a, "connections");
    if (!a->tls_certificate && send(fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        shutdown(fd, SHUT_WR);
    close(fd);
}

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
    struct admin *a = w->data;
    (void)loop, (void)events;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        int fd = accept4(a->listen_fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                log_often(LOG_ERROR, "admin", "cannot accept: %s; raise the limit of open files", strerror(errno));
            break;
        }
        if (open_connections(a) >= a->conf->connections)
            refuse_connection(a, fd);
        else
            MHD_add_connection(a->daemon, fd, (struct sockaddr *)&from, len); /* closes it when it fails */
    }
    run_daemon(a);
}

/* MHD notices the end of the socket and closes its side. */
static void close_overdue(struct admin *a)
{
    uint64_t now_ms = engine_mono_ms(a->engine);
    for (int64_t i = 0; i < a->conf->connections; i++) {
        struct admin_connection *c = &a->connections[i];
        if (c->fd < 0 || c->streaming || now_ms < c->since_ms + (uint64_t)a->conf->timeout_ms)
            continue;
        shutdown(c->fd, SHUT_RDWR);
        c->since_ms = now_ms;
        metric_add(metric_cell(a->engine->metrics, "gait_admin_timeouts_total", NULL), 1);
    }
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int listen_now(struct admin *a, struct error *err)
{
    struct admin_address address;
    if (admin_address(a->conf->listen, &address, err) < 0)
        return -1;
    a->listen_fd = admin_listen(&address, err);
    if (a->listen_fd < 0)
        return -1;
    ev_io_init(&a->accept, on_accept, a->listen_fd, EV_READ);
    ev_set_priority(&a->accept, PRIORITY);
    a->accept.data = a;
    ev_io_start(a->loop, &a->accept);
    log_notice("admin", "listening on %s%s", a->conf->listen, a->tls_certificate ? " (HTTPS)" : "");
    return 0;
}

static void on_second(struct ev_loop *loop, ev_timer *w, int events)
{
    struct admin *a = w->data;
    struct error err;
    (void)loop, (void)events;
    watch_advance(a->watch, clock_mono_ns(&a->engine->clock));
    admin_rates_second(a);
    admin_challenger_watch(a);
    close_overdue(a);
    admin_lookups_overdue(a, false);
    metric_set(a->m_open, open_connections(a));
    metric_set(a->m_streams, a->streams_n);
    if (a->listen_fd < 0 && a->rates.samples_n % RETRY_S == 0 && listen_now(a, &err) < 0)
        log_debug("admin", "%s", err.text);
}

static void on_stream_tick(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    admin_streams_tick(w->data);
}

static char *read_file(const char *option, const char *path, struct error *err)
{
    FILE *in = fopen(path, "re");
    char *text = malloc(FILE_MAX);
    size_t n = in && text ? fread(text, 1, FILE_MAX - 1, in) : 0;
    bool failed = !in || !text || ferror(in) || n == 0;
    if (failed)
        error_set(err, "admin.%s: cannot read %s: %s", option, path, in ? "it is empty or no file" : strerror(errno));
    else
        text[n] = 0;
    if (in)
        fclose(in);
    if (!failed)
        return text;
    free(text);
    return NULL;
}

/* The key has to fit the certificate, which MHD would only tell as "cannot start". */
static int check_tls(const struct admin *a, struct error *err)
{
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t certificate = {(unsigned char *)a->tls_certificate, (unsigned)strlen(a->tls_certificate)};
    gnutls_datum_t key = {(unsigned char *)a->tls_key, (unsigned)strlen(a->tls_key)};
    gnutls_certificate_allocate_credentials(&credentials);
    int rc = gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        error_set(err, "admin.tls_certificate, admin.tls_key: %s with %s: %s", a->conf->tls_certificate,
                  a->conf->tls_key, gnutls_strerror(rc));
    if (rc >= 0 && a->tls_client_ca) {
        gnutls_datum_t ca = {(unsigned char *)a->tls_client_ca, (unsigned)strlen(a->tls_client_ca)};
        rc = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM);
        if (rc <= 0)
            rc = error_set(err, "admin.tls_client_ca: %s holds no certificate in PEM", a->conf->tls_client_ca);
    }
    gnutls_certificate_free_credentials(credentials);
    return rc < 0 ? -1 : 0;
}

static int read_settings(struct admin *a, struct error *err)
{
    const struct admin_conf *conf = a->conf;
    struct admin_address address;
    if (admin_address(conf->listen, &address, err) < 0)
        return -1;
    a->loopback = address.loopback;
    if (conf->token && strlen(conf->token) < TOKEN_MIN)
        return error_set(err, "admin.token: %zu characters are too few to be safe; at least %d, for example from "
                         "openssl rand -hex 32", strlen(conf->token), TOKEN_MIN);
    if (!conf->tls_certificate != !conf->tls_key)
        return error_set(err, "admin.%s is set without admin.%s", conf->tls_key ? "tls_key" : "tls_certificate",
                         conf->tls_key ? "tls_certificate" : "tls_key");
    if (conf->tls_client_ca && !conf->tls_certificate)
        return error_set(err, "admin.tls_client_ca needs admin.tls_certificate and admin.tls_key");
    if (!address.off && !address.loopback && !conf->token && !conf->tls_client_ca)
        return error_set(err, "admin.listen: %s can be reached from other machines; set admin.token or "
                         "admin.tls_client_ca, or listen on 127.0.0.1 or on a unix: socket", conf->listen);
    if ((conf->tls_certificate && !(a->tls_certificate = read_file("tls_certificate", conf->tls_certificate, err))) ||
        (conf->tls_key && !(a->tls_key = read_file("tls_key", conf->tls_key, err))) ||
        (conf->tls_client_ca && !(a->tls_client_ca = read_file("tls_client_ca", conf->tls_client_ca, err))))
        return -1;
    a->unix_path = address.is_unix ? strdup(address.path) : NULL;
    return a->tls_certificate ? check_tls(a, err) : 0;
}

/* MHD would decode a path before we could tell a slash from an escaped one. */
static size_t leave_escaped(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls, (void)connection;
    return strlen(text);
}

static void on_log(void *cls, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *format, va_list args)
{
    char text[512];
    (void)cls;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\r\n")] = 0;
    if (log_wants(LOG_DEBUG))
        log_often(LOG_DEBUG, "admin", "%s", text);
}

static int start_daemon(struct admin *a, struct error *err)
{
    struct MHD_OptionItem options[12] = {{MHD_OPTION_END, 0, NULL}};
    size_t n = 0;
    options[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_LIMIT, (intptr_t)a->conf->connections, NULL};
    options[n++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, NULL};
    options[n++] = (struct MHD_OptionItem){MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)leave_escaped, NULL};
    options[n++] = (struct MHD_OptionItem){MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)admin_request_end, a};
    options[n++] = (struct MHD_OptionItem){MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, a};
    if (a->tls_certificate) {
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, a->tls_certificate};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, a->tls_key};
        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
                                               "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
        if (a->tls_client_ca)
            options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, a->tls_client_ca};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (a->tls_certificate ? MHD_USE_TLS : 0);
    a->daemon = MHD_start_daemon(flags, 0, NULL, NULL, admin_request, a, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
                                 MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!a->daemon)
        return error_set(err, "admin: libmicrohttpd cannot start%s",
                         a->tls_certificate ? " (is it built with TLS?)" : "");
    ev_io_init(&a->ready, on_ready, MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EV_READ);
    ev_set_priority(&a->ready, PRIORITY);
    a->ready.data = a;
    ev_io_start(a->loop, &a->ready);
    return 0;
}

static void start_timer(struct admin *a, ev_timer *w, void (*call)(struct ev_loop *, ev_timer *, int), double every)
{
    ev_timer_init(w, call, every, every);
    ev_set_priority(w, PRIORITY);
    w->data = a;
    ev_timer_start(a->loop, w);
}

static void bind_metrics(struct admin *a)
{
    struct metrics *m = a->engine->metrics;
    char build[256];
    metrics_declare(m, admin_metrics);
    snprintf(build, sizeof build, GAIT_VERSION METRIC_VALUES_SEPARATOR "%s" METRIC_VALUES_SEPARATOR "%s", __VERSION__,
             MHD_get_version());
    metric_set(metric_cell(m, "gait_build_info", build), 1);
    a->m_open = metric_cell(m, "gait_admin_connections", NULL);
    a->m_streams = metric_cell(m, "gait_admin_streams", NULL);
    a->m_streams_dropped = metric_cell(m, "gait_admin_streams_dropped_total", NULL);
    a->m_audit_failed = metric_cell(m, "gait_admin_audit_failed_total", NULL);
}

static int open_admin(struct admin *a, struct error *err)
{
    if (read_settings(a, err) < 0 || admin_audit_open(a, err) < 0)
        return -1;
    a->connections = calloc((size_t)a->conf->connections, sizeof *a->connections);
    if (!a->connections || getrandom(&a->seed, sizeof a->seed, 0) != sizeof a->seed)
        return error_set(err, "admin: out of memory or of randomness");
    for (int64_t i = 0; i < a->conf->connections; i++)
        a->connections[i].fd = -1;
    bind_metrics(a);
    a->started_ms = clock_wall_ms(&a->engine->clock);
    a->started_ns = clock_mono_ns(&a->engine->clock);
    a->watch = watch_create(a->started_ns);
    a->engine->watch = a->watch;
    admin_rates_begin(a);
    ev_timer_init(&a->turn, on_turn, 0, 0);
    ev_set_priority(&a->turn, PRIORITY);
    a->turn.data = a;
    if (start_daemon(a, err) < 0)
        return -1;
    start_timer(a, &a->second, on_second, 1);
    start_timer(a, &a->stream_tick, on_stream_tick, 0.25);
    if (listen_now(a, err) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return error_prefix(err, "admin.listen: %s", a->conf->listen);
    log_warning("admin", "admin.listen: %s is taken by another process; it is tried again every %d s, and events are "
                "processed meanwhile", a->conf->listen, RETRY_S);
    return 0;
}

int admin_create(struct admin **admin, struct config *config, struct engine *engine, struct ev_loop *loop,
                 const struct admin_calls *calls, struct error *err)
{
    *admin = NULL;
    if (strcmp(config->admin.listen, "off") == 0)
        return 0;
    struct admin *a = calloc(1, sizeof *a);
    if (!a)
        return error_set(err, "admin: out of memory");
    a->config = config;
    a->conf = &config->admin;
    a->engine = engine;
    a->loop = loop;
    a->calls = *calls;
    a->listen_fd = a->audit_fd = -1;
    if (open_admin(a, err) < 0) {
        admin_destroy(&a);
        return -1;
    }
    *admin = a;
    return 0;
}

int admin_check(const struct config *config, struct error *err)
{
    struct admin a = {.conf = &config->admin};
    int rc = read_settings(&a, err);
    free(a.tls_certificate);
    free(a.tls_key);
    free(a.tls_client_ca);
    free(a.unix_path);
    return rc;
}

void admin_destroy(struct admin **admin)
{
    struct admin *a = *admin;
    if (!a)
        return;
    if (a->listen_fd >= 0) {
        ev_io_stop(a->loop, &a->accept);
        close(a->listen_fd);
        if (a->unix_path)
            unlink(a->unix_path);
    }
    if (a->daemon) {
        admin_lookups_overdue(a, true);
        admin_streams_end(a);
        ev_io_stop(a->loop, &a->ready);
        ev_timer_stop(a->loop, &a->turn);
        ev_timer_stop(a->loop, &a->second);
        ev_timer_stop(a->loop, &a->stream_tick);
        MHD_stop_daemon(a->daemon);
    }
    if (a->audit_fd >= 0)
        close(a->audit_fd);
    if (a->watch)
        a->engine->watch = NULL;
    watch_destroy(&a->watch);
    free(a->connections);
    free(a->tls_certificate);
    free(a->tls_key);
    free(a->tls_client_ca);
    free(a->unix_path);
    free(a);
    *admin = NULL;
}
