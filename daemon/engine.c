// SPDX-License-Identifier: Apache-2.0
// engine.c - the flow. engine_step() is the diagram of the README in code:
//
//   source → decode → load → window → model → score → rule → sink → (durable) → save → commit
//
// While one batch waits for its records, the next is filled; batches are computed strictly in order. Nothing here
// waits: a step does what can be done and returns, whoever runs the loop calls again when engine_wake() asked for it.
#include "engine.h"

#include "watch.h"

#include "gait/log.h"

#include <assert.h>
#include <stdlib.h>

enum { STALL_MS = 1000 };

const struct metric engine_metrics[] = {
    {"gait_events_total", METRIC_COUNTER, "result", "Events by what became of them."},
    {"gait_events_silent_total", METRIC_COUNTER, NULL, "Events replayed below the committed offset, without outputs."},
    {"gait_batches_total", METRIC_COUNTER, NULL, "Batches computed."},
    {"gait_waves_total", METRIC_COUNTER, NULL, "Waves computed: the k-th event of each user of a batch is wave k."},
    {"gait_stage_seconds_total", METRIC_COUNTER, "stage", "Time spent in each stage, in seconds."},
    {"gait_stage_batch_seconds", METRIC_HISTOGRAM, "stage", "Time that one batch spent in a stage, in seconds."},
    {"gait_own_latency_seconds", METRIC_HISTOGRAM, NULL,
     "From an event fetched to its outputs handed over, in seconds."},
    {"gait_end_to_end_seconds", METRIC_HISTOGRAM, NULL,
     "From the log's time of an event to its outputs handed over, by "
     "the wall clock, in seconds; replayed events and those without a time of the log do not count."},
    {"gait_records_saved_total", METRIC_COUNTER, NULL, "User records written to the store."},
    {"gait_saves_failed_total", METRIC_COUNTER, NULL,
     "Save calls that the store refused or lost; they are tried again."},
    {"gait_save_seconds", METRIC_HISTOGRAM, NULL, "From a save sent to its answer, in seconds."},
    {"gait_commits_total", METRIC_COUNTER, NULL, "Offsets committed to the source."},
    {"gait_loads_total", METRIC_COUNTER, NULL, "User records asked of the store."},
    {"gait_bad_records_total", METRIC_COUNTER, NULL, "Stored records that could not be read and were begun anew."},
    {"gait_state_lost_total", METRIC_COUNTER, NULL, "Partitions whose state the store had lost at take-over."},
    {"gait_gap_events_total", METRIC_COUNTER, NULL, "Events that retention deleted before they were read."},
    {"gait_fenced_total", METRIC_COUNTER, NULL,
     "Partitions that the store refused us because somebody took them over."},
    {"gait_transactions_aborted_total", METRIC_COUNTER, NULL,
     "Transactions that failed; their events were computed again."},
    {"gait_erased_total", METRIC_COUNTER, NULL,
     "Erasures done: tombstone saved, receipt sent. Counted once a partition."},
    {"gait_table_users", METRIC_GAUGE, NULL, "User records in the table."},
    {"gait_table_used_bytes", METRIC_GAUGE, NULL, "Bytes of the table in use."},
    {"gait_table_clean_users", METRIC_GAUGE, NULL, "User records in the table that are saved."},
    {"gait_unsaved_age_seconds", METRIC_GAUGE, NULL, "Age of the oldest unsaved change of a record, in seconds."},
    {"gait_partitions", METRIC_GAUGE, NULL, "Partitions that this process owns."},
    {"gait_lag_events", METRIC_GAUGE, "partition", "Events behind the end of the partition."},
    {"gait_lag_seconds", METRIC_GAUGE, "partition", "Age of the newest event computed while the partition has more, in "
                                                    "seconds."},
    {"gait_time_to_loss_seconds", METRIC_GAUGE, "partition",
     "Time until retention reaches what is still to be read: retention minus lag, in seconds; where retention is "
     "known."},
    {"gait_oldest_unsaved_offset", METRIC_GAUGE, "partition", "W: the first offset that some unsaved record needs."},
    {"gait_watermark_age_seconds", METRIC_GAUGE, "partition", "Time since W was last written, in seconds."},
    {"gait_ready", METRIC_GAUGE, NULL, "1 when source, store and sinks are all connected."},
    {"gait_config_reloads_total", METRIC_COUNTER, "result", "Requests to read the configuration again: ok or refused."},
    {NULL, 0, NULL, NULL},
};

static void metrics_bind(struct engine *e)
{
    struct metrics *m = e->metrics;
    metrics_declare(m, engine_metrics);
    for (int i = 0; i < EVENT_VERDICTS; i++)
        e->m_result[i] = metric_cell(m, "gait_events_total", event_verdict_name((enum event_verdict)i));
    for (int i = 0; i < STAGES; i++)
        e->m_stage[i] = metric_cell(m, "gait_stage_seconds_total", stage_name((enum stage)i));
    for (int i = 0; i < STAGES; i++)
        e->m_stage_batch[i] = metric_cell(m, "gait_stage_batch_seconds", stage_name((enum stage)i));
    e->m_silent = metric_cell(m, "gait_events_silent_total", NULL);
    e->m_batches = metric_cell(m, "gait_batches_total", NULL);
    e->m_waves = metric_cell(m, "gait_waves_total", NULL);
    e->m_own = metric_cell(m, "gait_own_latency_seconds", NULL);
    e->m_end_to_end = metric_cell(m, "gait_end_to_end_seconds", NULL);
    e->m_saved = metric_cell(m, "gait_records_saved_total", NULL);
    e->m_save_failed = metric_cell(m, "gait_saves_failed_total", NULL);
    e->m_save_time = metric_cell(m, "gait_save_seconds", NULL);
    e->m_committed = metric_cell(m, "gait_commits_total", NULL);
    e->m_loads = metric_cell(m, "gait_loads_total", NULL);
    e->m_bad_records = metric_cell(m, "gait_bad_records_total", NULL);
    e->m_state_lost = metric_cell(m, "gait_state_lost_total", NULL);
    e->m_gap = metric_cell(m, "gait_gap_events_total", NULL);
    e->m_aborted = metric_cell(m, "gait_transactions_aborted_total", NULL);
    e->m_erased = metric_cell(m, "gait_erased_total", NULL);
    e->m_fenced = metric_cell(m, "gait_fenced_total", NULL);
    e->m_table_users = metric_cell(m, "gait_table_users", NULL);
    e->m_table_used = metric_cell(m, "gait_table_used_bytes", NULL);
    e->m_table_clean = metric_cell(m, "gait_table_clean_users", NULL);
    e->m_unsaved_age = metric_cell(m, "gait_unsaved_age_seconds", NULL);
    e->m_partitions = metric_cell(m, "gait_partitions", NULL);
    e->m_ready = metric_cell(m, "gait_ready", NULL);
    metric_cell(m, "gait_config_reloads_total", "ok");
    metric_cell(m, "gait_config_reloads_total", "refused");
}

/* ---- creation -------------------------------------------------------------------------------------------------- */

static int open_instance(struct engine *e, const struct config_module *cm, struct ev_loop *loop, bool check,
                         struct error *err)
{
    assert(e->instances_n < INSTANCES_MAX);
    struct instance *in = &e->instances[e->instances_n++];
    *in = (struct instance){
        .module = cm->module,
        .name = cm->name,
        .conf = cm->conf,
        .engine = e,
        .loop = loop,
        .clock = &e->clock,
        .metrics = e->metrics,
        .types = &e->types,
        .exactly_once = e->conf.delivery == DELIVERY_EXACTLY_ONCE,
        .columns = e->columns,
    };
    if (in->module->metrics)
        metrics_declare(e->metrics, in->module->metrics);
    if (in->module->shared_metrics)
        metrics_declare(e->metrics, in->module->shared_metrics);
    if (in->module->open(in, check, err) < 0)
        return error_prefix(err, "%s", in->name);
    return 0;
}

/* A check goes on after a mistake, to find them all; but not to those who stand on what has failed: theirs would be
 * complaints about nothing. */
static int open_instances(struct engine *e, const struct config *config, struct ev_loop *loop, bool check,
                          struct error *err)
{
    bool failed[STAGES] = {0}, any = false;
    for (size_t i = 0; i < config->modules_n; i++) {
        enum stage stage = config->modules[i].module->stage;
        struct error one;
        if ((failed[STAGE_WINDOW] || failed[STAGE_MODEL]) && stage > STAGE_WINDOW && stage < STAGE_SINK)
            continue;
        if (open_instance(e, &config->modules[i], loop, check, &one) == 0)
            continue;
        if (any)
            error_also(err, one.text);
        else
            error_set(err, "%s", one.text);
        failed[stage] = any = true;
        if (!check)
            break;
    }
    return any ? -1 : 0;
}

static int create_table(struct engine *e, struct error *err)
{
    struct users_conf conf = {
        .table_bytes = (size_t)e->conf.table_bytes,
        .name_bytes = (size_t)e->conf.user_id_bytes,
    };
    for (size_t i = 0; i < e->instances_n; i++)
        conf.section_bytes += (e->instances[i].user_size + 15) / 16 * 16;
    e->users = users_create(&conf, e->metrics, err);
    if (!e->users)
        return -1;
    size_t needed = 4 * (size_t)(e->conf.batches * e->conf.batch_events);
    if (users_slots(e->users) < needed)
        return error_set(err, "engine.table_bytes: %lld bytes hold %zu records of %zu bytes; with %lld batches of %lld "
                         "events at least %zu are needed (%zu MB)", (long long)e->conf.table_bytes,
                         users_slots(e->users), users_slot_bytes(e->users), (long long)e->conf.batches,
                         (long long)e->conf.batch_events, needed,
                         needed * (users_slot_bytes(e->users) + 33) / 1000000 + 1);
    size_t offset = users_sections_offset(e->users);
    for (size_t i = 0; i < e->instances_n; i++) {
        e->instances[i].user_offset = offset;
        e->instances[i].users = e->users;
        offset += (e->instances[i].user_size + 15) / 16 * 16;
    }
    return 0;
}

static int find_transactional(struct engine *e, struct error *err)
{
    for (size_t i = 0; i < e->instances_n; i++) {
        if (!e->instances[i].transactional)
            continue;
        if (e->transactional)
            return error_set(err, "%s and %s are both transactional; one transaction cannot span two producers",
                             e->transactional->name, e->instances[i].name);
        e->transactional = &e->instances[i];
    }
    if (e->conf.delivery == DELIVERY_EXACTLY_ONCE && !e->transactional)
        return error_set(err, "engine.delivery: exactly_once needs a sink with transactions (sink.kafka)");
    return 0;
}

struct engine *engine_create(struct config *config, struct ev_loop *loop, const struct clock *clock, bool check,
                             struct error *err)
{
    struct engine *e = calloc(1, sizeof *e);
    assert(e);
    e->conf = config->engine;
    e->config = config;
    e->clock = *clock;
    e->metrics = metrics_create();
    e->columns = columns_create();
    metrics_bind(e);
    if (event_types_init(&e->types, e->conf.event_types.at, e->conf.event_types.n, err) < 0) {
        error_prefix(err, "engine.event_types");
        goto fail;
    }
    if (open_instances(e, config, loop, check, err) < 0)
        goto fail;
    e->source = engine_instance(e, STAGE_SOURCE);
    e->decode = engine_instance(e, STAGE_DECODE);
    e->store = engine_instance(e, STAGE_STORE);
    assert(e->source && e->decode && e->store); /* config.c has seen to it */
    if (find_transactional(e, err) < 0)
        goto fail;
    if (create_table(e, err) < 0)
        goto fail;
    batches_create(e);
    saves_create(e);
    erases_create(e);
    return e;
fail:
    engine_destroy(&e);
    return NULL;
}

void engine_destroy(struct engine **engine)
{
    struct engine *e = *engine;
    if (!e)
        return;
    batches_destroy(e);
    for (size_t i = e->instances_n; i-- > 0;)
        if (e->instances[i].module->close)
            e->instances[i].module->close(&e->instances[i]);
    saves_destroy(e);
    erases_destroy(e);
    lookups_destroy(e);
    epochs_destroy(e);
    partitions_destroy(e);
    users_destroy(&e->users);
    columns_destroy(&e->columns);
    metrics_destroy(&e->metrics);
    free(e);
    *engine = NULL;
}

struct instance *engine_instance(struct engine *e, enum stage stage)
{
    for (size_t i = 0; i < e->instances_n; i++)
        if (e->instances[i].module->stage == stage)
            return &e->instances[i];
    return NULL;
}

/* ---- small services for modules -------------------------------------------------------------------------------- */

void engine_wake(struct engine *e)
{
    if (e->wake)
        e->wake(e->wake_self);
}

void instance_busy(struct instance *in, bool busy)
{
    if (in->busy && !busy)
        engine_wake(in->engine);
    in->busy = busy;
}

void instance_ready(struct instance *in, bool ready, const char *why)
{
    struct engine *e = in->engine;
    e->not_ready[in - e->instances] = ready ? NULL : why;
    engine_wake(e);
}

bool engine_ready(const struct engine *e, const char **why)
{
    for (size_t i = 0; i < e->instances_n; i++) {
        if (e->not_ready[i]) {
            if (why)
                *why = e->not_ready[i];
            return false;
        }
    }
    return true;
}

void engine_input_ended(struct engine *e, bool whole)
{
    e->input_ended = true;
    e->input_damaged = !whole;
    engine_wake(e);
}

void engine_flow(struct engine *e, const struct flow *flow)
{
    for (size_t i = 0; i < e->instances_n; i++)
        if (e->instances[i].module->flow)
            e->instances[i].module->flow(&e->instances[i], flow);
}

/* ---- the flow -------------------------------------------------------------------------------------------------- */

/* Run every instance of one stage over the batch and charge the time to it. */
static void run_stage(struct engine *e, enum stage stage, struct batch *b)
{
    for (size_t i = 0; i < e->instances_n; i++)
        if (e->instances[i].module->stage == stage)
            e->instances[i].module->run(&e->instances[i], b);
    uint64_t now = clock_mono_ns(&e->clock);
    metric_add(e->m_stage[stage], (double)(now - b->phase_ns) * 1e-9);
    if (b->n > 0) /* asking an idle source is no batch */
        metric_observe_ns(e->m_stage_batch[stage], now - b->phase_ns, 1);
    b->phase_ns = now;
}

/* source → decode → load. True when there was something. */
static bool fill_batch(struct engine *e)
{
    bool may = e->phase == ENGINE_RUNNING && !e->source_paused && !erases_waiting(e);
    struct batch_slot *slot = may ? batch_free_slot(e) : NULL;
    if (!slot)
        return false;
    struct batch *b = &slot->batch;
    b->phase_ns = clock_mono_ns(&e->clock);
    run_stage(e, STAGE_SOURCE, b);
    batch_accept(e, b);
    if (b->n == 0) {
        if (b->input_done)
            b->input_done(b->input);
        b->input_done = NULL;
        arena_reset(b->arena);
        return false;
    }
    run_stage(e, STAGE_DECODE, b);
    e->queue[e->queue_n++] = slot;
    slot->state = BATCH_RESOLVING;
    return true;
}

/* Answers that come at once must not make the batch ready under our hands. */
void engine_load(struct engine *e, struct batch *b, uint32_t from)
{
    b->loading_from = from;
    b->loads++;
    run_stage(e, STAGE_STORE, b);
    b->loads--;
}

static void load_batch(struct engine *e, struct batch_slot *slot)
{
    struct batch *b = &slot->batch;
    uint32_t known = b->loading_n;
    b->phase_ns = clock_mono_ns(&e->clock);
    batch_resolve(e, slot);
    if (b->loading_n > known)
        engine_load(e, b, known);
}

/* A batch finds its records only after those before it have, or a full table could be filled in the wrong order. */
static void load_batches(struct engine *e)
{
    for (uint32_t i = 0; i < e->queue_n; i++) {
        if (e->queue[i]->state == BATCH_RESOLVING)
            load_batch(e, e->queue[i]);
        if (e->queue[i]->state == BATCH_RESOLVING)
            return;
    }
}

/* The record has seen this event already: it was saved after it, and the log is being replayed. */
static void skip_applied(struct batch *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        struct event *event = &b->events[i];
        if (event->verdict == EVENT_OK && event->offset < event->record->next)
            event->verdict = EVENT_ALREADY_APPLIED;
    }
}

static void observe_latency(struct engine *e, const struct batch *b)
{
    uint64_t now = clock_mono_ns(&e->clock);
    for (uint32_t i = 0, from = 0; i < b->n; i++) {
        if (i + 1 < b->n && b->events[i + 1].fetched_ns == b->events[i].fetched_ns)
            continue;
        metric_observe_ns(e->m_own, now - b->events[i].fetched_ns, i + 1 - from);
        from = i + 1;
    }
}

/* The log's time is in whole milliseconds, so events of one millisecond are observed together. */
static void observe_end_to_end(struct engine *e, const struct batch *b)
{
    int64_t now_ms = clock_wall_ms(&e->clock), log_ms = 0;
    uint64_t times = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        if (event->silent || event->log_ms <= 0)
            continue;
        if (event->log_ms != log_ms && times > 0) {
            metric_observe_ns(e->m_end_to_end, now_ms > log_ms ? (uint64_t)(now_ms - log_ms) * 1000000 : 0, times);
            times = 0;
        }
        log_ms = event->log_ms;
        times++;
    }
    if (times > 0)
        metric_observe_ns(e->m_end_to_end, now_ms > log_ms ? (uint64_t)(now_ms - log_ms) * 1000000 : 0, times);
}

/* window → model → score → rule → sink. */
static void compute_batch(struct engine *e, struct batch_slot *slot)
{
    struct batch *b = &slot->batch;
    batch_prepare(e, b);
    b->phase_ns = clock_mono_ns(&e->clock);
    skip_applied(b);
    run_stage(e, STAGE_WINDOW, b);
    run_stage(e, STAGE_MODEL, b);
    run_stage(e, STAGE_SCORE, b);
    run_stage(e, STAGE_RULE, b);
    run_stage(e, STAGE_SINK, b);
    observe_latency(e, b);
    observe_end_to_end(e, b);
    if (e->watch)
        watch_batch(e->watch, b, b->phase_ns);
    metric_add(e->m_batches, 1);
    metric_add(e->m_waves, b->waves);
    batch_finish(e, slot);
    memmove(&e->queue[0], &e->queue[1], --e->queue_n * sizeof e->queue[0]);
}

bool engine_sinks_accept(const struct engine *e)
{
    for (size_t i = 0; i < e->instances_n; i++)
        if (e->instances[i].busy)
            return false;
    return ticket_free(e);
}

/* Nothing has moved for a while though events wait: stop fetching, so that what waits elsewhere stays small. */
static void watch_stall(struct engine *e, bool progress, uint64_t mono_ms)
{
    if (progress || e->queue_n == 0) {
        e->progress_ms = mono_ms;
        if (e->source_paused && e->phase == ENGINE_RUNNING) {
            e->source_paused = false;
            log_notice("engine", "events flow again");
            e->source->module->flow(e->source, &(struct flow){.kind = FLOW_RESUME});
        }
    } else if (!e->source_paused && mono_ms > e->progress_ms + STALL_MS && e->phase == ENGINE_RUNNING) {
        e->source_paused = true;
        log_warning("engine",
                    "nothing has moved for %d ms (store or sink slow or down, or the table is full of unsaved "
                    "records): pausing the source; nothing is lost", STALL_MS);
        e->source->module->flow(e->source, &(struct flow){.kind = FLOW_PAUSE});
    }
}

static void advance_phase(struct engine *e, uint64_t mono_ms)
{
    if (e->phase == ENGINE_RUNNING && e->input_ended && e->queue_n == 0)
        engine_drain(e, 0);
    if (e->phase == ENGINE_DRAINING && e->partitions_n == 0 && e->queue_n == 0)
        e->phase = ENGINE_STOPPED;
    if (e->phase == ENGINE_DRAINING && e->drain_until_ms && mono_ms > e->drain_until_ms) {
        size_t unsaved = users_count(e->users) - users_clean(e->users);
        log_warning("engine", "stopping with %zu records unsaved: the time to drain is over; the log rebuilds them",
                    unsaved);
        e->phase = ENGINE_STOPPED;
    }
}

bool engine_step(struct engine *e)
{
    if (e->phase == ENGINE_STOPPED)
        return false;
    tickets_retire(e);
    erases_advance(e);
    lookups_advance(e);
    bool filled = fill_batch(e), computed = false;
    load_batches(e);
    if (e->queue_n > 0 && batch_is_ready(e->queue[0]) && engine_sinks_accept(e)) {
        compute_batch(e, e->queue[0]);
        computed = true;
    }
    uint64_t mono_ms = engine_mono_ms(e);
    epoch_advance(e, mono_ms);
    saves_advance(e, mono_ms);
    partitions_advance(e);
    watch_stall(e, computed, mono_ms);
    advance_phase(e, mono_ms);
    return filled || computed;
}

void engine_start(struct engine *e)
{
    e->progress_ms = engine_mono_ms(e);
    engine_tick(e);
    engine_wake(e);
}

void engine_drain(struct engine *e, int64_t limit_ms)
{
    if (e->phase <= ENGINE_DRAINING && e->drain_until_ms == 0 && limit_ms > 0)
        e->drain_until_ms = engine_mono_ms(e) + (uint64_t)limit_ms;
    if (e->phase != ENGINE_RUNNING)
        return;
    e->phase = ENGINE_DRAINING;
    engine_flow(e, &(struct flow){.kind = FLOW_DRAIN});
    partitions_close_all(e);
    engine_wake(e);
}

/* ---- every 100 ms ---------------------------------------------------------------------------------------------- */

static void tick_readiness(struct engine *e)
{
    const char *why = NULL;
    bool ready = engine_ready(e, &why);
    if (ready && !e->was_ready)
        log_notice("engine", "ready");
    if (!ready && e->was_ready)
        log_warning("engine", "not ready: %s", why);
    e->was_ready = ready;
    metric_set(e->m_ready, ready);
}

static void set_gauge(struct engine *e, const char *name, const struct partition *p, double value)
{
    char id[16];
    snprintf(id, sizeof id, "%d", p->id);
    metric_set(metric_cell(e->metrics, name, id), value);
}

static void tick_partition(struct engine *e, const struct partition *p, uint64_t mono_ms, int64_t wall_ms)
{
    if (p->saved_next >= 0) {
        set_gauge(e, "gait_oldest_unsaved_offset", p, (double)p->saved_next);
        set_gauge(e, "gait_watermark_age_seconds", p, p->saved_ms ? (double)(mono_ms - p->saved_ms) / 1000 : 0);
    }
    if (p->high < 0)
        return;
    int64_t lag = p->high - (p->applied_next < 0 ? 0 : p->applied_next);
    double lag_s = lag > 0 && p->applied_ms > 0 ? (double)(wall_ms - p->applied_ms) / 1000 : 0;
    set_gauge(e, "gait_lag_events", p, lag > 0 ? (double)lag : 0);
    set_gauge(e, "gait_lag_seconds", p, lag_s > 0 ? lag_s : 0);
    if (p->retention_ms > 0)
        set_gauge(e, "gait_time_to_loss_seconds", p, (double)p->retention_ms / 1000 - lag_s);
}

static void tick_gauges(struct engine *e)
{
    uint64_t mono_ms = engine_mono_ms(e);
    int64_t wall_ms = clock_wall_ms(&e->clock);
    double oldest = 0;
    for (size_t i = 0; i < e->partitions_n; i++) {
        const struct partition *p = e->partitions[i];
        if (p->dirty_first && (double)mono_ms - (double)p->dirty_first->dirty_ms > oldest)
            oldest = (double)mono_ms - (double)p->dirty_first->dirty_ms;
        tick_partition(e, p, mono_ms, wall_ms);
    }
    metric_set(e->m_unsaved_age, oldest / 1000);
    metric_set(e->m_table_users, (double)users_count(e->users));
    metric_set(e->m_table_clean, (double)users_clean(e->users));
    metric_set(e->m_table_used, (double)users_slots_used(e->users) * (double)users_slot_bytes(e->users));
    metric_set(e->m_partitions, (double)e->partitions_n);
}

void engine_tick(struct engine *e)
{
    engine_flow(e, &(struct flow){.kind = FLOW_TICK});
    tick_readiness(e);
    tick_gauges(e);
    engine_wake(e);
}
