// SPDX-License-Identifier: Apache-2.0
// config_sections.c - the option rows of the sections that are no modules: engine, log, metrics, admin.
#include "config.h"

static const char *const state_lost_choices[] = {
    [STATE_LOST_REPLAY] = "replay", [STATE_LOST_CONTINUE] = "continue", NULL,
};

static const char *const delivery_choices[] = {
    [DELIVERY_AT_LEAST_ONCE] = "at_least_once", [DELIVERY_EXACTLY_ONCE] = "exactly_once", NULL,
};

#define ROW(member) #member, .offset = offsetof(struct engine_conf, member)
static const struct option engine_options[] = {
    {ROW(event_types), .type = OPTION_STRINGS, .initial = "[]", .flags = OPTION_RESTART,
     .help = "Event types beside the built-in ones: page_view product_view search impression campaign_click "
             "add_to_cart remove_from_cart checkout purchase login login_failed logout error. At most 19 more."},
    {ROW(batches), .type = OPTION_INT, .initial = "3", .min = 1, .max = 8, .flags = OPTION_RESTART,
     .help = "Batches in work at a time: one is computed while the others wait for records of the store. More help "
             "when the store is far away."},
    {ROW(batch_events), .type = OPTION_INT, .initial = "1024", .min = 1, .max = 65536, .flags = OPTION_RESTART,
     .help = "Most events in a batch. A batch takes what is there and waits for no more; larger ones raise "
             "throughput under load, and latency with it."},
    {ROW(table_bytes), .type = OPTION_BYTES, .initial = "256MB", .min = 1 << 16, .max = 0x1p43, .flags = OPTION_RESTART,
     .help = "Bound on the table of user records in memory. Users beyond it live in the store and come back with "
             "their next event."},
    {ROW(user_id_bytes), .type = OPTION_INT, .initial = "128", .min = 1, .max = 4096, .flags = OPTION_RESTART,
     .help = "Longest user id, in bytes. Room for it is taken in each record; events with a longer one are "
             "dead letters."},
    {ROW(delivery), .type = OPTION_ENUM, .initial = "at_least_once", .choices = delivery_choices,
     .flags = OPTION_RESTART,
     .help = "at_least_once: outputs go out at once, and after a crash some are repeated. exactly_once: outputs and "
             "offsets become visible together, in one transaction an epoch; readers must read committed messages only. "
             "Records are exact either way."},
    {ROW(epoch_ms), .type = OPTION_DURATION, .initial = "100ms", .min = 10, .max = 60000,
     .help = "With exactly_once: how often a transaction ends. Readers see outputs that much later."},
    {ROW(save_ms), .type = OPTION_DURATION, .initial = "2s", .min = 10, .max = 600000,
     .help = "How long a changed record may wait until it is saved to the store. This is what a take-over has to read "
             "again; a longer time coalesces more changes into one write."},
    {ROW(save_records), .type = OPTION_INT, .initial = "256", .min = 1, .max = 4096, .flags = OPTION_RESTART,
     .help = "Most records in one call to the store, which stands still for others meanwhile."},
    {ROW(commit_ms), .type = OPTION_DURATION, .initial = "1s", .min = 10, .max = 600000,
     .help = "How often offsets are committed to the source. After a crash, outputs of at most this time are "
             "repeated."},
    {ROW(record_ttl_ms), .type = OPTION_DURATION, .initial = "90d", .min = 60000, .max = 3650 * 86400000.0,
     .help = "A user's record expires in the store when no event has come for this long."},
    {ROW(drain_ms), .type = OPTION_DURATION, .initial = "4s", .min = 100, .max = 600000,
     .help = "How long finishing, saving and committing may take after SIGTERM; what is not saved then is rebuilt "
             "from the log. Keep it below the service manager's own limit."},
    {ROW(core_dumps), .type = OPTION_BOOL, .initial = "false", .flags = OPTION_RESTART,
     .help = "Let a crash leave a core dump, and other processes of the same user look into this one. Both show clicks "
             "and passwords. The service unit's LimitCORE=0 has to be lifted too."},
    {ROW(state_lost), .type = OPTION_ENUM, .initial = "replay", .choices = state_lost_choices,
     .help = "What to do with a partition whose state the store has lost: replay it from the earliest retained event, "
             "without repeating outputs, or continue at the committed offset with records that are marked degraded."},
    {.name = NULL},
};
#undef ROW

static const char *const level_choices[] = {
    [LOG_ERROR] = "error", [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug", NULL,
};
static const char *const format_choices[] = {[LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json", NULL};

static const struct option log_options[] = {
    {"level", OPTION_ENUM, offsetof(struct log_conf, level), .initial = "notice", .choices = level_choices,
     .help = "The least important lines that are still written."},
    {"format", OPTION_ENUM, offsetof(struct log_conf, format), .initial = "text", .choices = format_choices,
     .help = "Lines on standard error as text for people, or as JSON, one object a line."},
    {.name = NULL},
};

static const struct option metrics_options[] = {
    {"file", OPTION_PATH, offsetof(struct metrics_conf, file),
     .help = "File that the metrics are written to in Prometheus' text format, by rename, so that a reader never sees "
             "half of it; the node exporter's textfile collector takes it. Not set: none is written."},
    {"file_ms", OPTION_DURATION, offsetof(struct metrics_conf, file_ms), .initial = "10s", .min = 100, .max = 3600000,
     .help = "How often the metrics file is written; it is also written at SIGUSR1 and at the end."},
    {.name = NULL},
};

#define ROW(member) #member, .offset = offsetof(struct admin_conf, member)
static const struct option admin_options[] = {
    {ROW(listen), .type = OPTION_STRING, .initial = "127.0.0.1:8466", .flags = OPTION_RESTART,
     .help = "Where health, metrics, the dashboard and the calls for operators are served: HOST:PORT with a numeric "
             "address, unix:PATH for a socket that its owner and group may use, or off. An address that others can "
             "reach needs a token or tls_client_ca."},
    {ROW(token), .type = OPTION_STRING, .flags = OPTION_SECRET | OPTION_RESTART,
     .help = "What callers send as \"Authorization: Bearer TOKEN\", at least 16 characters. Not set: whoever reaches "
             "the address may call. /livez, /readyz and the dashboard's empty page never need it."},
    {ROW(tls_certificate), .type = OPTION_PATH, .flags = OPTION_RESTART,
     .help = "Certificate chain in PEM; with it, HTTPS alone is served. It needs tls_key."},
    {ROW(tls_key), .type = OPTION_PATH, .flags = OPTION_RESTART, .help = "The certificate's private key in PEM."},
    {ROW(tls_client_ca), .type = OPTION_PATH, .flags = OPTION_RESTART,
     .help = "Certificates in PEM that sign those of allowed callers: mutual TLS. Whoever shows none of theirs is "
             "refused."},
    {ROW(audit_file), .type = OPTION_PATH, .flags = OPTION_RESTART,
     .help = "File to which each change made by a call is appended, a JSON line with who, what, when and the result. "
             "They are in the log in any case."},
    {ROW(connections), .type = OPTION_INT, .initial = "128", .min = 4, .max = 4096, .flags = OPTION_RESTART,
     .help = "Most connections at a time; further ones are refused with 503."},
    {ROW(streams), .type = OPTION_INT, .initial = "16", .min = 0, .max = 256, .flags = OPTION_RESTART,
     .help = "Most listeners of /api/stream at a time, such as open dashboards; they count as connections too."},
    {ROW(requests_per_s), .type = OPTION_INT, .initial = "50", .min = 1, .max = 100000, .flags = OPTION_RESTART,
     .help = "Requests a second that each caller's address may make on average; further ones are answered with 429."},
    {ROW(burst), .type = OPTION_INT, .initial = "200", .min = 1, .max = 100000, .flags = OPTION_RESTART,
     .help = "Requests that a caller's address may make at once before the average counts."},
    {ROW(body_bytes), .type = OPTION_BYTES, .initial = "64kB", .min = 0, .max = 1 << 24, .flags = OPTION_RESTART,
     .help = "Longest body of a request; a longer one is refused before it is read."},
    {ROW(timeout_ms), .type = OPTION_DURATION, .initial = "10s", .min = 100, .max = 600000, .flags = OPTION_RESTART,
     .help = "How long a request may take from its first byte to the end of its answer, and a connection may idle."},
    {.name = NULL},
};
#undef ROW

const struct config_section config_sections[] = {
    {"engine", "Batches, the table of user records, saving and committing.", offsetof(struct config, engine),
     engine_options},
    {"log", "What is logged, and how.", offsetof(struct config, log), log_options},
    {"metrics", "Metrics to a file.", offsetof(struct config, metrics), metrics_options},
    {"admin", "Health, metrics, the dashboard and calls for operators, by HTTP.", offsetof(struct config, admin),
     admin_options},
    {.name = NULL},
};
