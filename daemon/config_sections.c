// SPDX-License-Identifier: Apache-2.0
// config_sections.c - the option rows of the sections that are no modules: engine, log, metrics.
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

const struct config_section config_sections[] = {
    {"engine", "Batches, the table of user records, saving and committing.", offsetof(struct config, engine),
     engine_options},
    {"log", "What is logged, and how.", offsetof(struct config, log), log_options},
    {"metrics", "Metrics to a file.", offsetof(struct config, metrics), metrics_options},
    {.name = NULL},
};
