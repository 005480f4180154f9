/* SPDX-License-Identifier: Apache-2.0 */
/* admin_inside.h - the admin server's parts. One way down:
 *
 *   admin.c (server on the loop) → admin_request.c (routes) → admin_{status,users,alerts,…}.c (the calls)
 *        → admin_gate.c (who may), admin_stream.c (listeners), admin_answer.c (JSON out), admin_audit.c */
#ifndef GAIT_ADMIN_INSIDE_H
#define GAIT_ADMIN_INSIDE_H

#include "admin.h"
#include "engine.h"
#include "watch.h"

#include <ev.h>
#include <jansson.h>
#include <microhttpd.h>
#include <sys/socket.h>

enum { ADMIN_CLIENTS = 1024, ADMIN_HISTORY = 300, ADMIN_WINDOW_S = 10, ADMIN_ID_MAX = 4096, ADMIN_WHO_MAX = 160,
       ADMIN_LOOKUP_MS = 3000 };

/* One connection that MHD holds for us. */
struct admin_connection {
    int fd;                        /* MHD's; -1 = free */
    uint64_t since_ms;             /* monotonic: when the request under way (or the idling) began */
    bool streaming;                /* has no deadline: it is bounded by what it has not read */
};

/* What one caller's address has used up: a token bucket, and the pause after wrong tokens. */
struct admin_client {
    uint64_t address;              /* hash; 0 = free */
    double tokens;
    uint64_t at_ms;
    uint32_t wrong;                /* wrong tokens in a row */
    uint64_t blocked_until_ms;
};

/* What the last second was like. */
struct admin_sample {
    double events_per_s, alerts_per_s, lag, own_p50_ms, own_p99_ms, end_p50_ms, end_p99_ms, cpu_share;
};

/* Rates and quantiles of the last ADMIN_WINDOW_S seconds, from differences of counters (admin_rates.c). */
struct admin_rates {
    struct admin_sample history[ADMIN_HISTORY]; /* ring, by samples_n */
    uint64_t samples_n;
    uint64_t last_ns;
    double last_events, last_alerts, last_cpu_s;
    uint64_t own[ADMIN_WINDOW_S + 1][METRIC_BUCKETS], end[ADMIN_WINDOW_S + 1][METRIC_BUCKETS];
    double stage_s[ADMIN_WINDOW_S + 1][STAGES], events[ADMIN_WINDOW_S + 1];
};

struct admin_stream;
struct admin_request;

struct admin {
    struct config *config;
    const struct admin_conf *conf;
    struct engine *engine;
    struct ev_loop *loop;
    struct admin_calls calls;
    struct MHD_Daemon *daemon;
    int listen_fd;                 /* -1 = not yet: the address is taken */
    char *unix_path;               /* to be removed at the end; NULL for TCP */
    bool loopback;                 /* only this machine reaches it */
    char *tls_certificate, *tls_key, *tls_client_ca; /* the files' texts */
    ev_io accept, ready;
    ev_timer turn, second, stream_tick;
    struct admin_connection *connections; /* [conf->connections] */
    struct admin_client clients[ADMIN_CLIENTS];
    uint64_t seed;                 /* of the addresses' hashes */
    struct admin_rates rates;
    struct admin_request *waiting; /* suspended, for a record */
    struct admin_stream *streams;  /* listeners */
    uint32_t streams_n;
    uint64_t alerts_sent;          /* number of the last alert that the listeners got */
    uint32_t ticks;
    struct watch *watch;
    int64_t started_ms;            /* wall clock */
    uint64_t started_ns;
    int audit_fd;                  /* -1 = none */
    uint64_t promotions;           /* of challengers, that are in the audit log */
    struct metric_cell *m_open, *m_refused, *m_streams, *m_streams_dropped, *m_audit_failed;
};

/* ---- admin_answer.c: every answer goes out by one of these -------------------------------------------------- */
enum MHD_Result admin_answer_json(struct admin_request *r, unsigned status, json_t *json); /* takes the reference */
enum MHD_Result admin_answer_error(struct admin_request *r, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `text` is malloced and taken. */
enum MHD_Result admin_answer_text(struct admin_request *r, const char *type, char *text, size_t len);
/* `text` is constant. */
enum MHD_Result admin_answer_static(struct admin_request *r, const char *type, const char *text, size_t len);
void admin_headers(struct MHD_Response *response, const char *type);
json_t *admin_number(double value);        /* null when it is not finite */
json_t *admin_string(struct str text);     /* what is not UTF-8 becomes U+FFFD */

/* ---- a request ---------------------------------------------------------------------------------------------- */
enum admin_access {
    ADMIN_PROBE,                         /* health: anybody, as often as they like */
    ADMIN_PAGE,                          /* the dashboard's files, which hold no data: anybody */
    ADMIN_CALL,                          /* whoever the configuration allows */
};

struct admin_route {
    const char *method, *before, *after; /* path = before [id after]; after NULL: no id */
    enum admin_access access;
    enum MHD_Result (*handle)(struct admin_request *r);
};

struct admin_request {
    struct admin *admin;
    struct MHD_Connection *connection;
    const struct admin_route *route;
    char who[ADMIN_WHO_MAX];             /* for the audit log */
    char id[ADMIN_ID_MAX + 1];           /* decoded from the path */
    uint32_t id_len;
    bool answered;
    bool head;
    unsigned retry_after_s;              /* 0 = says nothing */
    const char *allow;                   /* for 405 */
    /* a call that looks a user up; its connection is suspended meanwhile */
    struct admin_request *next_waiting;  /* in admin.waiting */
    struct lookup *waiting;              /* for this; NULL = for nothing */
    void (*cancel)(struct admin_request *r); /* the caller went away meanwhile */
    uint64_t until_ms;                   /* monotonic */
    bool asked, found, overdue;
    int32_t partition;
    json_t *json;                        /* the answer, made while the record was at hand */
};

extern const struct admin_route admin_routes[]; /* admin_request.c; ended by a row without method */
enum MHD_Result admin_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_n, void **state);
void admin_request_end(void *cls, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code);
/* A query parameter, decoded into `buf`: 1 there, 0 absent, -1 not decodable or longer than cap - 1 bytes. */
int admin_query(struct admin_request *r, const char *name, char *buf, size_t cap);
/* %XX decoded in place of `out` [cap]; the length, -1 when it is malformed or too long. */
int64_t admin_unescape(const char *text, size_t len, char *out, size_t cap);
/* Let MHD go on soon: a suspended connection was resumed. */
void admin_turn_soon(struct admin *a);

/* ---- admin_gate.c ------------------------------------------------------------------------------------------- */
/* False when it has answered itself: too many requests, no or a wrong token, a foreign page, no client certificate. */
bool admin_gate(struct admin_request *r, enum admin_access access, const char *method, enum MHD_Result *result);
void admin_deny(struct admin *a, const char *reason); /* counts */
bool admin_token_equal(const char *token, const char *given);
bool admin_client_spend(struct admin *a, struct admin_client *client, uint64_t now_ms);
struct admin_client *admin_client_find(struct admin *a, uint64_t address, uint64_t now_ms);
uint64_t admin_client_wrong(struct admin_client *client, uint64_t now_ms); /* until when it is blocked */

/* ---- admin_listen.c ----------------------------------------------------------------------------------------- */
/* What `listen` says. -1 with a text. */
struct admin_address {
    bool off, is_unix, loopback;
    struct sockaddr_storage at;
    socklen_t len;
    const char *path;
};
int admin_address(const char *listen, struct admin_address *address, struct error *err);
int admin_listen(const struct admin_address *address, struct error *err); /* the descriptor, or -1 with a text */

/* ---- admin_rates.c ------------------------------------------------------------------------------------------ */
void admin_rates_begin(struct admin *a);
void admin_rates_second(struct admin *a);
double admin_rates_quantile_ms(const struct admin *a, bool end_to_end, double q); /* NaN when nothing came */
const struct admin_sample *admin_rates_latest(const struct admin *a);

/* ---- admin_audit.c ------------------------------------------------------------------------------------------ */
int admin_audit_open(struct admin *a, struct error *err);
void admin_audit(struct admin_request *r, const char *what, const char *about, bool ok, const char *result);
/* The same of a change that no caller asked for. */
void admin_audit_line(struct admin *a, const char *who, const char *what, const char *about, bool ok,
                      const char *result);

/* ---- admin_challenger.c ------------------------------------------------------------------------------------- */
json_t *admin_challenger_json(const struct admin *a); /* null when none is configured */
void admin_challenger_watch(struct admin *a);         /* each second: a promotion goes into the audit log */

/* ---- admin_stream.c ----------------------------------------------------------------------------------------- */
enum MHD_Result admin_get_stream(struct admin_request *r);
void admin_streams_tick(struct admin *a);
void admin_streams_end(struct admin *a);   /* all of them, at the end */

/* ---- the calls ---------------------------------------------------------------------------------------------- */
json_t *admin_status_json(struct admin *a);
json_t *admin_shop_json(struct admin *a);
enum MHD_Result admin_get_livez(struct admin_request *r);
enum MHD_Result admin_get_readyz(struct admin_request *r);
enum MHD_Result admin_get_metrics(struct admin_request *r);
enum MHD_Result admin_get_status(struct admin_request *r);
enum MHD_Result admin_get_history(struct admin_request *r);
enum MHD_Result admin_get_shop(struct admin_request *r);
enum MHD_Result admin_get_alerts(struct admin_request *r);
enum MHD_Result admin_get_models(struct admin_request *r);
enum MHD_Result admin_get_user(struct admin_request *r);
enum MHD_Result admin_post_erase(struct admin_request *r);
void admin_lookups_overdue(struct admin *a, bool all); /* ends those that wait too long, or all */
enum MHD_Result admin_post_reload(struct admin_request *r);
enum MHD_Result admin_get_page(struct admin_request *r);      /* /, /dashboard.js, … (admin_assets.c) */

#endif
