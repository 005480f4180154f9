// SPDX-License-Identifier: Apache-2.0
// state_verify.c - `gaitd state verify`: are the records what the log makes of it? Some users are chosen, their records
// read, and the same records worked out anew from the log (state_replay.c), up to W or as far as each record goes.
//
// Daemons may run meanwhile: W is read first and the records after it, so that each record contains all events below W,
// and says by its `next` how many more. What is written later is not looked at.
#include "state_verify.h"

#include "engine.h"

#include "gait/lstm.h"
#include "gait/window.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECTIONS_TEXT = 512 };

static int compare_users(const void *a, const void *b)
{
    const struct verify_user *x = a, *y = b;
    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return strcmp(x->name, y->name);
}

struct verify_user *verify_find(const struct verify *v, int32_t partition, struct str name)
{
    size_t from = 0, to = v->users_n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        struct verify_user *user = &v->users[middle];
        int order = user->partition != partition ? (user->partition < partition ? -1 : 1)
                                                 : strncmp(user->name, name.at, name.len);
        if (order == 0 && user->name[name.len])
            order = 1;
        if (order == 0)
            return user;
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return NULL;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/* Every record has the same chance (reservoir sampling); the seed makes the choice repeatable. */
struct choice {
    struct verify *v;
    size_t cap;
    uint64_t seen, random;
    int32_t partition;
};

static uint64_t draw(struct choice *c, uint64_t below)
{
    c->random += 0x9e3779b97f4a7c15; /* splitmix64 */
    uint64_t z = c->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % below;
}

static int on_name(void *self, struct str name, struct error *err)
{
    struct choice *c = self;
    struct verify *v = c->v;
    uint64_t place = c->seen++;
    if (place >= c->cap && (place = draw(c, c->seen)) >= c->cap)
        return 0;
    if (place == v->users_n)
        v->users[v->users_n++] = (struct verify_user){0};
    struct verify_user *user = &v->users[place];
    free(user->name);
    user->name = strndup(name.at, name.len);
    user->partition = c->partition;
    assert(user->name);
    (void)err;
    return 0;
}

static void drop_doubles(struct verify *v)
{
    size_t kept = 0;
    for (size_t i = 0; i < v->users_n; i++) {
        if (kept && compare_users(&v->users[kept - 1], &v->users[i]) == 0)
            free(v->users[i].name);
        else
            v->users[kept++] = v->users[i];
    }
    v->users_n = kept;
}

static int choose(struct verify *v, const struct state_call *call, struct error *err)
{
    struct choice c = {.v = v, .cap = call->user ? (size_t)v->log.partitions_n : (size_t)call->sample,
                       .random = (uint64_t)call->seed};
    v->users = calloc(c.cap, sizeof *v->users);
    assert(v->users);
    for (int32_t p = 0; p < v->log.partitions_n; p++) {
        c.partition = p;
        if (call->partition >= 0 && call->partition != p)
            continue;
        int rc = call->user ? on_name(&c, str_of(call->user), err) : offline_names(v->log.offline, p, on_name, &c, err);
        if (rc < 0)
            return -1;
    }
    qsort(v->users, v->users_n, sizeof *v->users, compare_users);
    drop_doubles(v);
    return 0;
}

/* The chosen ones' records, and how far the log has to be read for them. A record that is gone by now has expired. */
static int read_records(struct verify *v, struct error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < v->users_n; i++) {
        struct verify_user user = v->users[i];
        int64_t next = -1;
        int rc = offline_get(v->log.offline, user.partition, str_of(user.name), &user.stored, &user.stored_n, err);
        if (rc == 1) {
            int64_t *until = &v->until[user.partition];
            v->users[kept++] = user;
            if (user.stored_n >= STATE_HEAD_BYTES)
                memcpy(&next, user.stored + 16, sizeof next);
            if (*until < 0) /* needed from now on: to W at least */
                *until = -*until - 1;
            if (next > *until)
                *until = next;
        } else {
            free(user.name);
        }
        if (rc < 0) {
            for (i++; i < v->users_n; i++)
                free(v->users[i].name);
            v->users_n = kept;
            return -1;
        }
    }
    v->users_n = kept;
    return 0;
}

/* W before the records, as an export does. It is kept as −W − 1 until a user of the partition is chosen. */
static int read_places(struct verify *v, struct error *err)
{
    for (int32_t p = 0; p < v->log.partitions_n; p++) {
        struct offline_place place;
        if (offline_place(v->log.offline, p, &place, err) < 0)
            return -1;
        v->until[p] = -(place.at > 0 ? place.at : 0) - 1;
    }
    return 0;
}

/* A damaged `next` must not have us wait for what the log does not hold. */
static int read_ranges(struct verify *v, struct error *err)
{
    for (int32_t p = 0; p < v->log.partitions_n; p++) {
        int64_t high;
        if (v->until[p] < 0)
            v->until[p] = 0;
        if (v->until[p] > 0 && offline_log_range(v->log.offline, p, &v->low[p], &high, err) < 0)
            return -1;
        if (v->until[p] > 0 && v->until[p] > high)
            v->until[p] = high;
    }
    return 0;
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

/* A record as the modules understand it. */
struct view {
    uint8_t *bytes;          /* written anew by this program */
    size_t n;
    int64_t next;
    double events;           /* column total.events, 0 without a window */
    bool degraded, erased;
    bool model;              /* it has a state of the model at work */
};

static double total_events(struct engine *e, struct user *user)
{
    const struct instance *window = engine_instance(e, STAGE_WINDOW);
    uint32_t ring = window ? window_ring_count(window, user) : 0;
    double total = 0, *by_id = calloc(columns_count(e->columns) + 1, sizeof *by_id);
    assert(by_id);
    if (ring)
        window_columns_all(window, user, ring - 1, by_id);
    for (uint32_t id = 0; id < columns_count(e->columns); id++)
        if (strcmp(columns_name(e->columns, id), "total.events") == 0)
            total = by_id[id];
    free(by_id);
    return total;
}

static int look_at(struct engine *e, const struct verify_user *own, const uint8_t *bytes, size_t n, struct view *view,
                   struct error *err)
{
    bool made;
    struct user *user = users_get(e->users, own->partition, str_of(own->name), &made);
    assert(user && made); /* the table is empty */
    int rc = record_decode(e, user, bytes, n, err);
    user->state = USER_READY;
    if (rc == 0) {
        struct instance *model = engine_instance(e, STAGE_MODEL);
        size_t cap = record_bytes_max(e);
        *view = (struct view){.bytes = malloc(cap), .next = user->next, .events = total_events(e, user),
                              .degraded = user->degraded, .erased = user->erased_ms != INT64_MIN,
                              .model = model && lstm_user_hidden(model, user)};
        assert(view->bytes);
        view->n = record_encode(e, user, view->bytes, cap);
    }
    users_remove(e->users, user);
    return rc;
}

static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == n && strncmp(at, name, n) == 0)
            return true;
    return false;
}

static void add_name(char *names, const char *name)
{
    size_t n = strlen(names);
    snprintf(names + n, SECTIONS_TEXT - n, "%s%s", n ? ", " : "", name);
}

/* The names of the sections that are not equal. Both records are written by this program, so the same sections stand
 * in the same order. A state of a model that is not at work any more is dropped at the user's next event: it is no
 * difference. */
static void compare(struct engine *e, const struct view *stored, const struct view *computed, const char *ignore,
                    char *names)
{
    const struct instance *model = engine_instance(e, STAGE_MODEL);
    const uint8_t *a = stored->bytes + STATE_HEAD_BYTES, *b = computed->bytes + STATE_HEAD_BYTES;
    struct state_section x, y;
    *names = 0;
    if (stored->next != computed->next)
        add_name(names, "next");
    while (state_section(&a, stored->bytes + stored->n, &x)) {
        bool both = state_section(&b, computed->bytes + computed->n, &y);
        assert(both && strcmp(x.name, y.name) == 0);
        bool other_model = model && !stored->model && strcmp(x.name, model->module->name) == 0;
        if (!other_model && !is_listed(ignore, x.name) && (x.len != y.len || memcmp(x.at, y.at, x.len) != 0))
            add_name(names, x.name);
    }
}

/* ---- judging ----------------------------------------------------------------------------------------------------- */

enum verdict { VERIFIED, DIFFERS, NOT_VERIFIABLE, VERDICTS };

static const char *why_not(const struct engine *e, const struct verify *v, const struct verify_user *user,
                           const struct view *stored, const struct view *computed)
{
    bool begins_later = v->low[user->partition] > 0;
    if (stored->erased)
        return "the user was erased, and the clicks do not tell when";
    if (stored->degraded)
        return "the record is marked as degraded: events are known to be missing from it";
    if (begins_later && stored->events > computed->events)
        return "history begins before the retained log";
    if (user->silence_ms >= e->conf.record_ttl_ms)
        return "the record may have expired between two events";
    return NULL;
}

/* `text`: of a difference the sections, else the reason. */
static enum verdict judge(struct engine *e, const struct verify *v, const struct verify_user *user,
                          const char *ignore, char *text)
{
    struct view stored = {0}, computed = {0};
    struct error err;
    enum verdict verdict = VERIFIED;
    if (look_at(e, user, user->stored, user->stored_n, &stored, &err) < 0) {
        snprintf(text, SECTIONS_TEXT, "record (%.400s)", err.text);
        return DIFFERS;
    }
    if (user->computed) {
        int rc = look_at(e, user, user->computed, user->computed_n, &computed, &err);
        assert(rc == 0); /* the engine has just written it */
        compare(e, &stored, &computed, ignore, text);
    } else {
        snprintf(text, SECTIONS_TEXT, "record (the log holds no event of the user)");
    }
    if (*text) {
        const char *why = why_not(e, v, user, &stored, &computed);
        verdict = why ? NOT_VERIFIABLE : DIFFERS;
        if (why)
            snprintf(text, SECTIONS_TEXT, "%s", why);
    }
    free(stored.bytes);
    free(computed.bytes);
    return verdict;
}

static void tell(json_t *list, const struct verify_user *user, enum verdict verdict, const char *text, bool json)
{
    const char *what = verdict == DIFFERS ? "differs" : "not_verifiable";
    json_array_append_new(list, json_pack("{s:s, s:i, s:s, s:s}", "user", user->name, "partition", user->partition,
                                          "result", what, verdict == DIFFERS ? "sections" : "reason", text));
    if (!json)
        printf("user %s, partition %d %s %s\n", user->name, user->partition,
               verdict == DIFFERS ? "differs:" : "is not verifiable:", text);
}

static int report(struct engine *e, const struct verify *v, const struct state_call *call)
{
    int count[VERDICTS] = {0};
    json_t *list = json_array();
    for (size_t i = 0; i < v->users_n; i++) {
        char text[SECTIONS_TEXT] = "";
        enum verdict verdict = judge(e, v, &v->users[i], call->ignore, text);
        count[verdict]++;
        if (verdict != VERIFIED)
            tell(list, &v->users[i], verdict, text, call->json);
    }
    if (call->json) {
        json_t *all = json_pack("{s:i, s:i, s:i, s:O}", "verified", count[VERIFIED], "differ", count[DIFFERS],
                                "not_verifiable", count[NOT_VERIFIABLE], "users", list);
        json_dumpf(all, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(all);
    } else {
        printf("verified %d, differ %d, not verifiable %d\n", count[VERIFIED], count[DIFFERS], count[NOT_VERIFIABLE]);
    }
    json_decref(list);
    return count[DIFFERS] > 0;
}

static int prepare(struct verify *v, const struct state_call *call, struct error *err)
{
    v->low = calloc((size_t)v->log.partitions_n, sizeof *v->low);
    v->log.until = v->until = calloc((size_t)v->log.partitions_n, sizeof *v->until);
    assert(v->low && v->until);
    if (call->partition >= v->log.partitions_n)
        return error_set(err, "there is no partition %d; there are %d", call->partition, v->log.partitions_n);
    if (call->user && (!*call->user || strlen(call->user) > (size_t)call->config->engine.user_id_bytes))
        return error_set(err, "a user id has 1 to %lld bytes here", (long long)call->config->engine.user_id_bytes);
    if (read_places(v, err) < 0 || choose(v, call, err) < 0 || read_records(v, err) < 0 || read_ranges(v, err) < 0)
        return -1;
    if (v->users_n == 0 && call->user)
        return error_set(err, "there is no record of user %s in the store", call->user);
    return 0;
}

int state_verify(const struct state_call *call, struct error *err)
{
    struct verify v = {.log = {.offline = call->offline}};
    struct config own;
    struct config_module flow[CONFIG_MODULES_MAX + 3];
    int rc = state_partitions(call, &v.log.partitions_n, err);
    if (rc == 0)
        rc = prepare(&v, call, err);
    struct engine *e = rc == 0 ? replay_create(&v, call->config, &own, flow, err) : NULL;
    rc = e ? replay_run(e, &v, err) : -1;
    if (rc == 0)
        rc = report(e, &v, call);
    engine_destroy(&e);
    for (size_t i = 0; i < v.users_n; i++) {
        free(v.users[i].name);
        free(v.users[i].stored);
        free(v.users[i].computed);
    }
    free(v.users);
    free(v.low);
    free(v.until);
    return rc;
}
