// SPDX-License-Identifier: Apache-2.0
// sink_redis.c - the hash that readers use: one key, one round trip, no client library.
//
//   HGETALL PREFIX:user:USER
//     interests    JSON, best first: [{"category":"shoes.running","score":0.31}, …]; "[]" without a model
//     intent       0..1, will buy within the model's horizon; empty when the model has no such head
//     risk         sum of the weights of the rules that fired at the last event; 0 when none did
//     event_ts     time of the last event that is contained, Unix ms
//     written_ts   when this was written, Unix ms
//     model        id of the model; empty without one
//     degraded     1 when events are known to be missing from the user's record, else 0
//     NAME         each feature that the option `features` names, as a number; empty when it is not known
//
// Last stage of the flow, beside other sinks. A user is written at most once in `every_ms`, with the latest values,
// which lie in the sink's section of the record until then. Records are saved only after the hashes that belong to them
// (ticket_hold_save), so a crash repeats what a hash may lack: replayed events refresh it too, though they are silent.
// Hashes live in one Redis, or behind a proxy: their keys carry no {p}, since readers do not know the partition.
#include "sink_redis.h"

#include "gait/log.h"
#include "gait/output.h"

#include <assert.h>
#include <ev.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { FEATURES_MAX = 64, INTERESTS_BYTES = 16 << 10, NUMBER_BYTES = 32, FIXED_VALUES = 7, SLICE_MS = 5 };
enum { DECIMALS = 6, FIELD_BYTES_MAX = 256, NAMES_KEPT = 4 };

static const struct metric sink_redis_metrics[] = {
    {"gait_serving_written_total", METRIC_COUNTER, NULL, "Hashes written for readers."},
    {"gait_serving_refused_total", METRIC_COUNTER, NULL, "Partitions whose hashes somebody with a newer fence writes."},
    {"gait_serving_waiting", METRIC_GAUGE, NULL, "Users whose hash is older than their record."},
    {"gait_serving_lag_seconds", METRIC_HISTOGRAM, NULL,
     "From a user's first unwritten event computed to its hash sent, in seconds."},
    {NULL, 0, NULL, NULL},
};

static const char claim_text[] =
    "local old = redis.call('GET', KEYS[1]) "
    "if old and tonumber(string.match(old, '^%d+')) > tonumber(ARGV[2]) then return old end "
    "redis.call('SET', KEYS[1], ARGV[1]) "
    "return ARGV[1]";

/* ---- a user's latest values ------------------------------------------------------------------------------------- */

static double *features_of(struct serving *serving)
{
    return (double *)(void *)(serving + 1);
}

static uint32_t *top_of(const struct sink_redis *s, struct serving *serving)
{
    return (uint32_t *)(void *)(features_of(serving) + s->features_n);
}

static float *top_p_of(const struct sink_redis *s, struct serving *serving)
{
    return (float *)(void *)(top_of(s, serving) + s->conf->top);
}

static size_t section_bytes(const struct sink_redis *s)
{
    return sizeof(struct serving) + s->features_n * sizeof(double) +
           (size_t)s->conf->top * (sizeof(uint32_t) + sizeof(float));
}

static void keep_values(struct sink_redis *s, const struct batch *b, uint32_t i, struct serving *serving)
{
    const struct event *event = &b->events[i];
    const struct score *score = &b->scores[i];
    const double *row = batch_row(b, i);
    double *features = features_of(serving);
    serving->event_ts = event->ts_ms;
    serving->forgotten = false;
    serving->risk = b->risk[i];
    serving->degraded = event->record->degraded;
    for (uint32_t f = 0; f < s->features_n; f++)
        features[f] = row[s->feature_places[f]];
    if (score->n == 0)
        return; /* only the user's last event of a batch may have been scored */
    serving->intent = score->intent;
    serving->names = s->names->sequence;
    serving->n = score->n < s->conf->top ? score->n : (uint8_t)s->conf->top;
    memcpy(top_of(s, serving), score->top_id, serving->n * sizeof *score->top_id);
    memcpy(top_p_of(s, serving), score->top_p, serving->n * sizeof *score->top_p);
}

/* What it is queued by stays: a call may have it. */
void serving_forget(struct sink_redis *s, struct user *user, int64_t erased_ms)
{
    struct serving *serving = serving_of(s, user);
    if (serving->event_ts > erased_ms)
        return;
    memset(features_of(serving), 0, section_bytes(s) - sizeof *serving);
    serving->forgotten = true;
    serving->n = 0;
    serving->event_ts = serving->expire_ms = 0;
    serving->intent = serving->risk = 0;
}

static const struct names *names_of(const struct sink_redis *s, uint32_t sequence)
{
    const struct names *names = s->names;
    while (names && names->sequence != sequence)
        names = names->next;
    return names;
}

static char *add_number(struct sink_redis *s, char *at, double value)
{
    size_t n = 0;
    if (fabs(value) < 1e15)
        n = output_number(value, DECIMALS, at, NUMBER_BYTES);
    else if (isfinite(value))
        n = (size_t)snprintf(at, NUMBER_BYTES, "%.17g", value);
    redis_add(s->redis, at, n);
    return at + n;
}

static char *add_interests(struct sink_redis *s, struct serving *serving, const struct names *names, char *at)
{
    struct score score = {.n = names ? serving->n : 0};
    struct batch b = {.scores = &score, .model = names ? &names->model : NULL};
    memcpy(score.top_id, top_of(s, serving), score.n * sizeof *score.top_id);
    memcpy(score.top_p, top_p_of(s, serving), score.n * sizeof *score.top_p);
    size_t n = output_interests(&b, 0, at, INTERESTS_BYTES);
    while (n == 0) { /* huge names: fewer of them */
        assert(score.n > 0);
        score.n--;
        n = output_interests(&b, 0, at, INTERESTS_BYTES);
    }
    redis_add(s->redis, at, n);
    return at + n;
}

/* The time to live is renewed when a good part of it has passed, not with every write. */
static bool expire_is_due(const struct sink_redis *s, struct serving *serving, int64_t now_ms)
{
    if (serving->expire_ms > 0 && now_ms >= serving->expire_ms && now_ms - serving->expire_ms < s->conf->ttl_ms / 16)
        return false;
    serving->expire_ms = now_ms;
    return true;
}

char *serving_add(struct sink_redis *s, struct user *user, char *at, int64_t now_ms)
{
    struct serving *serving = serving_of(s, user);
    const struct names *names = names_of(s, serving->names);
    const double *features = features_of(serving);
    at = add_interests(s, serving, names, at);
    at = add_number(s, at, serving->n ? (double)serving->intent : (double)NAN);
    at = add_number(s, at, (double)serving->risk);
    at = add_number(s, at, (double)serving->event_ts);
    redis_add(s->redis, names ? names->model.id_text : "", names ? strlen(names->model.id_text) : 0);
    redis_add(s->redis, serving->degraded ? "1" : "0", 1);
    for (uint32_t f = 0; f < s->features_n; f++)
        at = add_number(s, at, features[f]);
    redis_add(s->redis, expire_is_due(s, serving, now_ms) ? "1" : "0", 1);
    if (serving->queued_ms > 0)
        metric_observe_ns(s->lag, clock_mono_ns(s->in->clock) - (uint64_t)serving->queued_ms * 1000000, 1);
    return at;
}

/* Room for one user's key and values. */
size_t serving_text_max(const struct sink_redis *s)
{
    return strlen(s->conf->redis.prefix) + 6 + users_name_bytes(s->in->users) + INTERESTS_BYTES +
           (FIXED_VALUES + s->features_n) * NUMBER_BYTES;
}

/* ---- category names --------------------------------------------------------------------------------------------- */

static void free_names(struct names *names)
{
    struct model_vocabulary *v = &names->model.heads[0].vocabulary;
    free(v->json);
    free(v->text);
    free(names);
}

static void copy_vocabulary(struct model_vocabulary *to, const struct model_vocabulary *from)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < from->n; i++)
        bytes += from->json[i].len;
    to->n = from->n;
    to->json = calloc(from->n ? from->n : 1, sizeof *to->json);
    to->text = malloc(bytes ? bytes : 1);
    assert(to->json && to->text);
    char *at = to->text;
    for (uint32_t i = 0; i < from->n; i++) {
        memcpy(at, from->json[i].at, from->json[i].len);
        to->json[i] = (struct str){at, from->json[i].len};
        at += from->json[i].len;
    }
}

/* A new model: its names in front. Old ones are forgotten when nobody waits any more, but the last few are kept: a
 * user's next event may come without a score. */
static void look_at_model(struct sink_redis *s, const struct model *m)
{
    if (!m || (s->names && s->names->model.id == m->id))
        return;
    struct names *names = calloc(1, sizeof *names);
    assert(names);
    names->next = s->names;
    names->sequence = s->names ? s->names->sequence + 1 : 1;
    names->model.id = m->id;
    memcpy(names->model.id_text, m->id_text, sizeof m->id_text);
    names->model.heads_n = 1;
    if (m->interest >= 0)
        copy_vocabulary(&names->model.heads[0].vocabulary, &m->heads[m->interest].vocabulary);
    s->names = names;
}

static void forget_old_names(struct sink_redis *s)
{
    struct names **at = &s->names;
    if (s->queued > 0 || s->calls_n > 0)
        return;
    for (int kept = 0; *at && kept < NAMES_KEPT; kept++)
        at = &(*at)->next;
    while (*at) {
        struct names *old = *at;
        *at = old->next;
        free_names(old);
    }
}

/* ---- the flow --------------------------------------------------------------------------------------------------- */

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    struct sink_redis *s = w->data;
    (void)events;
    queue_flush(s);
    forget_old_names(s);
    if (s->queued == 0 && s->calls_n == 0)
        ev_timer_stop(loop, w);
}

static void run(struct instance *in, struct batch *b)
{
    struct sink_redis *s = in->self;
    struct place *place = NULL;
    int64_t mono_ms = (int64_t)(clock_mono_ns(in->clock) / 1000000);
    bool any = false;
    look_at_model(s, b->model);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        if (event->verdict != EVENT_OK)
            continue;
        if (!place || place->partition->id != event->partition)
            place = queue_place(s, event->partition);
        assert(place);
        keep_values(s, b, i, serving_of(s, event->record));
        queue_user(s, place, event->record, mono_ms);
        any = true;
    }
    if (!any)
        return;
    queue_ticket(s, b->ticket);
    if (s->draining)
        queue_flush(s);
    if (!ev_is_active(&s->timer))
        ev_timer_again(in->loop, &s->timer);
}

static void flow(struct instance *in, const struct flow *f)
{
    struct sink_redis *s = in->self;
    if (f->kind == FLOW_TICK) {
        redis_tick(s->redis);
        erase_send(s);
    } else if (f->kind == FLOW_ERASE) {
        erase_user(s, f->erasure);
    } else if (f->kind == FLOW_CLOSED) {
        queue_close_partition(s, f->partition);
    } else if (f->kind == FLOW_DRAIN) {
        s->draining = true;
        queue_flush(s);
    }
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

static int want_features(struct sink_redis *s, struct error *err)
{
    const struct option_strings *names = &s->conf->features;
    if (names->n > FEATURES_MAX)
        return error_set(err, "features: names %zu columns; at most %d fit", names->n, FEATURES_MAX);
    s->feature_places = calloc(names->n ? names->n : 1, sizeof *s->feature_places);
    assert(s->feature_places);
    for (size_t i = 0; i < names->n; i++) {
        int at = strlen(names->at[i]) < FIELD_BYTES_MAX ? columns_want(s->in->columns, names->at[i]) : -1;
        if (at < 0) {
            const char *near = columns_nearest(s->in->columns, names->at[i]);
            return error_set(err, "features: there is no column %s%s%s; `gaitd options` lists them", names->at[i],
                             near ? "; do you mean " : "", near ? near : "");
        }
        s->feature_places[s->features_n++] = (uint16_t)at;
    }
    return 0;
}

/* Lua text with the field names in it, so that the calls carry values only. */
static void make_write_text(struct sink_redis *s)
{
    static const char *const fields[] = {"interests", "intent", "risk", "event_ts", "model", "degraded"};
    enum { FIELDS = sizeof fields / sizeof fields[0] };
    size_t cap = 2048 + s->features_n * (FIELD_BYTES_MAX + 32), n = 0;
    s->write_text = malloc(cap);
    assert(s->write_text);
    n += (size_t)snprintf(s->write_text, cap,
                          "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
                          "local a = 4 "
                          "for i = 2, #KEYS do "
                          "local new = redis.call('HSET', KEYS[i], 'written_ts', ARGV[2]");
    for (uint32_t i = 0; i < FIELDS + s->features_n; i++)
        n += (size_t)snprintf(s->write_text + n, cap - n, ", '%s', ARGV[a + %u]",
                              i < FIELDS ? fields[i] : s->conf->features.at[i - FIELDS], i);
    n += (size_t)snprintf(s->write_text + n, cap - n,
                          ") if new > 0 or ARGV[a + %u] == '1' then redis.call('EXPIRE', KEYS[i], ARGV[3]) end "
                          "a = a + %u end return 1", FIELDS + s->features_n, FIELDS + s->features_n + 1);
    assert(n < cap);
}

static int open_sink(struct instance *in, bool check, struct error *err)
{
    struct sink_redis *s = calloc(1, sizeof *s);
    assert(s);
    in->self = s;
    s->in = in;
    s->conf = in->conf;
    s->written = metric_cell(in->metrics, "gait_serving_written_total", NULL);
    s->refused = metric_cell(in->metrics, "gait_serving_refused_total", NULL);
    s->waiting = metric_cell(in->metrics, "gait_serving_waiting", NULL);
    s->lag = metric_cell(in->metrics, "gait_serving_lag_seconds", NULL);
    if (want_features(s, err) < 0)
        return -1;
    in->user_size = section_bytes(s);
    if (check)
        return 0;
    make_write_text(s);
    s->redis = redis_create(in, &s->conf->redis, &(struct redis_owner){.self = s, .up = queue_came_up});
    s->script_claim = redis_script(s->redis, claim_text);
    s->script_erase = redis_script(s->redis, sink_redis_erase_text);
    s->script_write = redis_script(s->redis, s->write_text);
    ev_init(&s->timer, on_timer);
    s->timer.data = s;
    s->timer.repeat = SLICE_MS * 1e-3;
    return 0;
}

static void close_sink(struct instance *in)
{
    struct sink_redis *s = in->self;
    if (!s)
        return;
    s->closing = true;
    if (s->redis)
        ev_timer_stop(in->loop, &s->timer);
    redis_destroy(&s->redis);
    queue_destroy(s);
    erase_end(s);
    while (s->names) {
        struct names *names = s->names;
        s->names = names->next;
        free_names(names);
    }
    free(s->feature_places);
    free(s->write_text);
    free(s->scratch);
    free(s);
    in->self = NULL;
}

#define AT(member) offsetof(struct sink_redis_conf, member)
static const struct option sink_redis_options[] = {
    REDIS_OPTIONS(struct sink_redis_conf, redis),
    {.name = "features", .type = OPTION_STRINGS, .offset = AT(features), .flags = OPTION_RESTART,
     .help = "Columns that become fields of the hash under their own names, such as count.purchase.24h."},
    {.name = "top", .type = OPTION_INT, .offset = AT(top), .initial = "5", .min = 1, .max = SCORE_TOP_MAX,
     .flags = OPTION_RESTART, .help = "Number of interests, at most as many as the score has."},
    {.name = "every_ms", .type = OPTION_DURATION, .offset = AT(every_ms), .initial = "200ms", .min = 0, .max = 60000,
     .help = "A user's hash is written at most this often: how old a reader's view may be, against load on Redis."},
    {.name = "ttl_ms", .type = OPTION_DURATION, .offset = AT(ttl_ms), .initial = "30d", .min = 60000,
     .max = 3650 * 86400000.0,
     .help = "A hash that is not written for so long vanishes; up to a sixteenth of it earlier."},
    {.name = NULL},
};

const struct module sink_redis = {
    .name = "sink_redis",
    .summary = "Writes each user's latest interests, intent, risk and chosen features to a hash that readers use.",
    .stage = STAGE_SINK,
    .options = sink_redis_options,
    .conf_size = sizeof(struct sink_redis_conf),
    .metrics = sink_redis_metrics,
    .shared_metrics = redis_metrics,
    .redis_needs = REDIS_NEEDS " get set hset hget del expire :{*}:serving :user:*",
    .open = open_sink,
    .run = run,
    .flow = flow,
    .close = close_sink,
};
