// SPDX-License-Identifier: Apache-2.0
// sim.c - the simulator: three gaitd with the real engine and the real modules between source and sink, in a data
// centre that lives in sim_world.c. A seed draws a log of clicks and a history of faults; then everything heals, and
// records and outputs must equal the oracle's bit for bit: each output once, or, at least once, none missing.
//
//   sim [--seeds N] [--from N] [--bug NAME] [--verbose]   a failing seed alone: sim --from SEED --seeds 1
//   sim --prove [--seeds N]                               each of the planted bugs must be found within so many seeds
#include "sim_world.h"

#include "gait/log.h"

#include <assert.h>
#include "../daemon/arguments.h"
#include <stdlib.h>

enum { FAULT_STEPS = 6000, HEAL_STEPS = 400000, TICK_NS = 100000000 };
static const uint64_t SETTLE_NS = 25000000000;
static const int64_t FIRST_MS = 1764547200000;

/* ---- the log --------------------------------------------------------------------------------------------------- */

static int64_t make_event(struct world *w, int p, int64_t i, int64_t *ts)
{
    static const char *const types[] = {"product_view", "product_view", "search", "add_to_cart", "purchase", "login",
                                        "login_failed", "page_view"};
    struct log_event *e = &w->log[p][i];
    *ts += (int64_t)world_random(w, 60000);
    int64_t at = *ts;
    if (world_chance(w, 60))
        at -= (int64_t)world_random(w, 600000);    /* late, within what is allowed */
    if (world_chance(w, 20))
        at -= 7200000 + (int64_t)world_random(w, 7200000); /* too late */
    e->user = (uint32_t)(p + PARTITIONS * (int)world_random(w, USERS / PARTITIONS));
    unsigned id = (unsigned)i;
    if (i > 0 && world_chance(w, 40)) { /* the producer sends one twice */
        id = (unsigned)world_random(w, (uint64_t)i);
        e->user = w->log[p][id].user;
    }
    char name[32] = ""; /* without one, nothing but `next` tells that an event was applied already */
    if (world_chance(w, 600))
        snprintf(name, sizeof name, "\"event_id\":\"e%d-%u\",", p, id);
    snprintf(e->text, sizeof e->text,
             "{%s\"type\":\"%s\",\"user_id\":\"u%u\",\"session_id\":\"s%u\",\"ts\":%lld,"
             "\"item_id\":\"i%u\",\"category\":\"c%u\",\"price\":%u.5,\"quantity\":1,\"device_id\":\"d%u\","
             "\"country\":\"%s\",\"lat\":%u,\"lon\":%u}%s",
             name, types[world_random(w, 8)], e->user, (unsigned)(i / 20), (long long)at,
             (unsigned)world_random(w, 9), (unsigned)world_random(w, 5), (unsigned)world_random(w, 300),
             (unsigned)world_random(w, 3), world_chance(w, 900) ? "DE" : "BR", (unsigned)world_random(w, 60),
             (unsigned)world_random(w, 60), world_chance(w, 15) ? "}" : "");
    return at;
}

/* What the producer has sent of the user until then is to be forgotten. Each user at most once. */
static void make_erasure(struct world *w, int p, int64_t offset, const int64_t *newest)
{
    uint32_t user = (uint32_t)(p + PARTITIONS * (int)world_random(w, USERS / PARTITIONS));
    for (int64_t i = 0; i < w->erasures_n; i++)
        if (w->erasures[i].user == user)
            return;
    w->erasures[w->erasures_n++] = (struct sim_erasure){
        .user = user, .partition = p, .offset = offset, .erased_ms = newest[user] ? newest[user] : FIRST_MS,
    };
}

static void make_log(struct world *w)
{
    for (int p = 0; p < PARTITIONS; p++) {
        int64_t ts = FIRST_MS, newest[USERS] = {0};
        w->log[p] = calloc(EVENTS_MAX, sizeof *w->log[p]);
        assert(w->log[p]);
        w->log_n[p] = 60 + (int64_t)world_random(w, EVENTS_MAX - 60);
        for (int64_t i = 0; i < w->log_n[p]; i++) {
            if (i >= 5 && w->erasures_n < ERASURES && world_chance(w, 10))
                make_erasure(w, p, i, newest);
            int64_t at = make_event(w, p, i, &ts);
            if (at > newest[w->log[p][i].user])
                newest[w->log[p][i].user] = at;
        }
        w->log_end[p] = 5;
        w->committed[p] = w->w[p] = w->erased[p] = -1;
        w->owner[p] = -1;
    }
}

/* ---- members --------------------------------------------------------------------------------------------------- */

static int64_t wall_ms(void *self)
{
    (void)self;
    return 1767225600000; /* stands still: records then do not depend on when they were written */
}

static uint64_t mono_ns(void *self)
{
    return ((struct world *)self)->now_ns;
}

static void wake(void *self)
{
    ((struct member *)self)->awake = true;
}

static void member_start(struct world *w, struct member *m)
{
    struct error err;
    m->clock = (struct clock){.wall_ms = wall_ms, .mono_ns = mono_ns, .self = w};
    m->batch_events = 1 + (int)world_random(w, 12);
    m->config = sim_config(m, &(struct sim_settings){.batch_events = m->batch_events, .table_kb = 1024});
    m->engine = engine_create(m->config, NULL, &m->clock, false, &err);
    if (!m->engine) {
        fprintf(stderr, "a member cannot start: %s\n", err.text);
        abort();
    }
    m->joined = ++w->joined[m->index];
    m->awake = m->frozen = m->paused = m->draining = false;
    memset(m->held, 0, sizeof m->held);
    m->engine->wake = wake;
    m->engine->wake_self = m;
    engine_start(m->engine);
    world_say(w, "member %d starts", m->index);
}

static void member_end(struct world *w, struct member *m)
{
    engine_destroy(&m->engine);
    config_destroy(&m->config);
    connection_clear(&m->redis);
    connection_clear(&m->broker);
    m->transaction.n = 0;
    w->joined[m->index]++;
}

/* kill -9: what was on the wire may still arrive. */
static void member_crash(struct world *w, struct member *m)
{
    world_say(w, "member %d crashes", m->index);
    while (world_chance(w, 700) && redis_execute(w, &m->redis))
        ;
    while (world_chance(w, 700) && broker_execute(w, m))
        ;
    member_end(w, m);
}

static bool can_own(const struct member *m)
{
    return m->engine && !m->frozen && !is_zombie(m) && !m->draining;
}

/* ---- the group ------------------------------------------------------------------------------------------------- */

static int draw_owner(struct world *w)
{
    int able[MEMBERS], n = 0;
    for (int i = 0; i < MEMBERS; i++)
        if (can_own(&w->members[i]))
            able[n++] = i;
    return n ? able[world_random(w, (uint64_t)n)] : -1;
}

static void group_advance(struct world *w)
{
    for (int p = 0; p < PARTITIONS; p++) {
        struct member *owner = w->owner[p] >= 0 ? &w->members[w->owner[p]] : NULL;
        if (owner && (!owner->engine || is_zombie(owner)) && world_chance(w, 100))
            w->owner[p] = -1; /* the session has timed out */
        else if (owner && owner->engine && !owner->held[p].mine)
            w->owner[p] = -1; /* given back, or a new life of the member */
        if (w->owner[p] >= 0)
            continue;
        if (w->target[p] < 0 || !can_own(&w->members[w->target[p]]))
            w->target[p] = draw_owner(w);
        if (w->target[p] < 0)
            continue;
        w->owner[p] = w->target[p];
        w->assigned[p]++;
        source_assign(&w->members[w->owner[p]], p);
        world_say(w, "partition %d goes to member %d, C %lld, W %lld", p, w->owner[p], (long long)w->committed[p],
                  (long long)w->w[p]);
    }
}

static void rebalance(struct world *w)
{
    for (int p = 0; p < PARTITIONS; p++) {
        int to = draw_owner(w);
        if (to < 0)
            return;
        struct member *owner = w->owner[p] >= 0 ? &w->members[w->owner[p]] : NULL;
        if (!owner || !can_own(owner) || !owner->held[p].mine || owner->held[p].revoking)
            continue;
        w->target[p] = to;
        if (to != owner->index) {
            world_say(w, "partition %d is revoked from member %d", p, owner->index);
            source_revoke(owner, p);
        }
    }
}

/* A zombie hears from the group that it is none of it any more, and joins again. */
static void zombie_learns(struct world *w, struct member *m)
{
    world_say(w, "member %d learns that it was expelled", m->index);
    source_lost(m);
    m->joined = w->joined[m->index];
}

/* ---- faults ---------------------------------------------------------------------------------------------------- */

/* Connections break when something is on its way, above all: of the members, one that is being served by Redis. */
static struct member *asking_redis(struct world *w, struct member *m)
{
    for (int i = 0; i < MEMBERS; i++) {
        struct member *other = &w->members[(m->index + i) % MEMBERS];
        if (other->engine && !other->frozen && other->redis.executed < other->redis.end)
            return other;
    }
    return m;
}

static void fault(struct world *w)
{
    struct member *m = &w->members[world_random(w, MEMBERS)];
    switch (world_random(w, 10)) {
    case 0:
        if (m->engine)
            member_crash(w, m);
        break;
    case 1:
        if (m->engine && !m->frozen) {
            world_say(w, "member %d is stopped", m->index);
            m->frozen = true;
        }
        break;
    case 2:
        if (m->engine && m->frozen && !is_zombie(m)) {
            world_say(w, "the group expels member %d", m->index);
            w->joined[m->index]++;
        }
        break;
    case 3:
    case 4:
        if (world_chance(w, 500))
            m = asking_redis(w, m);
        if (m->engine && !m->frozen && world_chance(w, 500)) {
            world_say(w, "member %d loses its connection to Redis", m->index);
            redis_reset(m);
        } else if (m->engine && !m->frozen) {
            world_say(w, "member %d loses its connection to the broker", m->index);
            broker_reset(m);
        }
        break;
    case 5:
        world_say(w, "Redis loses its tail");
        redis_lose_tail(w, 1 + world_random(w, 20));
        break;
    case 6:
        if (world_chance(w, 200)) {
            world_say(w, "FLUSHALL");
            redis_flush(w);
        }
        break;
    case 7:
        if (m->engine && !m->frozen)
            sim_reload(m);
        break;
    default:
        rebalance(w);
    }
}

static void recover(struct world *w)
{
    for (int i = 0; i < MEMBERS; i++) {
        struct member *m = &w->members[i];
        if (!m->engine)
            member_start(w, m);
        m->frozen = false;
    }
}

/* ---- time ------------------------------------------------------------------------------------------------------ */

static void member_step(struct world *w, struct member *m)
{
    if (!m->engine || m->frozen)
        return;
    if (w->now_ns >= m->next_tick_ns) {
        m->next_tick_ns = w->now_ns + TICK_NS;
        engine_tick(m->engine);
    }
    if (!m->awake)
        return;
    source_feed(m);
    m->awake = false; /* a wake-up from within the step counts */
    m->awake |= engine_step(m->engine);
}

/* The clicks of a partition wait for the receipt of an erasure that stands before them. */
static int64_t log_limit(struct world *w, int p)
{
    for (int64_t i = 0; i < w->erasures_n; i++) {
        const struct sim_erasure *erasure = &w->erasures[i];
        if (erasure->partition == p && !erasure->receipts[p] && erasure->offset < w->log_n[p])
            return erasure->offset;
    }
    return w->log_n[p];
}

/* An erasure is sent when all before it in its partition is; they are numbered in the order of their partitions, so the
 * earlier ones are waited for. */
static void log_grow(struct world *w, int p)
{
    int64_t limit = log_limit(w, p);
    const struct sim_erasure *next = w->erasures_end < w->erasures_n ? &w->erasures[w->erasures_end] : NULL;
    if (w->log_end[p] < limit && (w->healing || world_chance(w, 300)))
        w->log_end[p] = w->healing ? limit : w->log_end[p] + 1;
    if (next && w->log_end[next->partition] == next->offset) {
        world_say(w, "user u%u is to be erased", next->user);
        w->erasures_end++;
    }
}

static void step(struct world *w)
{
    struct member *m = &w->members[world_random(w, MEMBERS)];
    w->now_ns += world_random(w, 3000000);
    switch (world_random(w, 7)) {
    case 0:
        redis_execute(w, world_chance(w, 20) ? &w->late : &m->redis);
        break;
    case 1:
        broker_execute(w, m);
        break;
    case 2:
        if (m->engine && !m->frozen)
            redis_answer(m);
        break;
    case 3:
        if (m->engine && !m->frozen)
            broker_answer(m);
        break;
    case 4:
        log_grow(w, (int)world_random(w, PARTITIONS));
        break;
    default:
        member_step(w, m);
    }
    group_advance(w);
}

static bool all_applied(const struct world *w)
{
    for (int p = 0; p < PARTITIONS; p++) {
        if (w->owner[p] < 0)
            return false;
        const struct partition *part = engine_partition(w->members[w->owner[p]].engine, p);
        if (!part || part->state != PARTITION_OPEN || part->applied_next != w->log_n[p] ||
            (w->erasures_n > 0 && part->erase_done != w->erasures_n))
            return false;
    }
    return true;
}

/* For whoever looks into a seed that does not come to rest. */
static void say_state(const struct world *w)
{
    for (int i = 0; i < MEMBERS; i++) {
        const struct member *m = &w->members[i];
        const struct engine *e = m->engine;
        world_say(w, "member %d: phase %d, %u wait (first: %u loads), batch %lld durable %lld, Redis %zu broker %zu", i,
                  e->phase, e->queue_n, e->queue_n ? e->queue[0]->batch.loads : 0, (long long)e->seq,
                  (long long)e->durable_seq, m->redis.end - m->redis.first, m->broker.end - m->broker.first);
        for (size_t k = 0; k < e->partitions_n; k++) {
            const struct partition *p = e->partitions[k];
            world_say(w, "  partition %d: state %d, in work %u, read %lld, applied %lld, save %d, reading %d at %lld",
                      p->id, p->state, p->in_work, (long long)p->read_next, (long long)p->applied_next,
                      p->save != NULL, m->held[p->id].reading, (long long)m->held[p->id].position);
        }
    }
    for (int p = 0; p < PARTITIONS; p++)
        world_say(w, "partition %d: owner %d, target %d, %d events", p, w->owner[p], w->target[p], (int)w->log_n[p]);
}

/* NULL when it came to rest, else what did not. */
static const char *heal(struct world *w)
{
    recover(w);
    for (int i = 0; i < MEMBERS; i++)
        if (is_zombie(&w->members[i]))
            zombie_learns(w, &w->members[i]);
    w->healing = true;
    int steps = 0;
    /* Long enough for everybody to notice what Redis has lost, though no event comes. */
    for (uint64_t until_ns = w->now_ns + SETTLE_NS; w->now_ns < until_ns || !all_applied(w);) {
        if (++steps > HEAL_STEPS) {
            say_state(w);
            return "not every event was applied";
        }
        step(w);
    }
    for (int i = 0; i < MEMBERS; i++) {
        w->members[i].draining = true;
        engine_drain(w->members[i].engine, 0);
    }
    for (int i = 0; i < MEMBERS; i++) {
        while (w->members[i].engine->phase != ENGINE_STOPPED) {
            if (++steps > 2 * HEAL_STEPS) {
                say_state(w);
                return "a member does not stop";
            }
            step(w);
            w->members[i].awake = true;
        }
    }
    return NULL;
}

/* ---- one seed -------------------------------------------------------------------------------------------------- */

static void world_end(struct world *w)
{
    for (int i = 0; i < MEMBERS; i++) {
        if (w->members[i].engine)
            member_end(w, &w->members[i]);
        connection_clear(&w->members[i].redis);
        connection_clear(&w->members[i].broker);
        free(w->members[i].transaction.at);
    }
    connection_clear(&w->late);
    redis_flush(w);
    for (int p = 0; p < PARTITIONS; p++)
        free(w->log[p]);
    free(w->outputs.at);
    free(w->journal);
    free(w);
}

/* What was compared, so that nobody mistakes silence for success. */
struct tally {
    uint64_t scores, alerts, dead_letters, reloads, refused_reloads;
};

static void count_outputs(struct tally *tally, const struct outputs *outputs)
{
    for (size_t i = 0; i < outputs->n; i++) {
        tally->scores += outputs->at[i].kind == 's';
        tally->alerts += outputs->at[i].kind == 'a';
        tally->dead_letters += outputs->at[i].kind == 'd';
    }
}

/* NULL when all is as it must be, else what is not. */
static const char *run_seed(uint64_t seed, enum bug bug, bool verbose, struct tally *tally, char *text, size_t cap)
{
    struct world *w = calloc(1, sizeof *w);
    assert(w);
    w->journal = calloc(JOURNAL_MAX, sizeof *w->journal);
    assert(w->journal);
    w->random = seed;
    w->bug = bug;
    w->verbose = verbose;
    w->exactly_once = seed % 2 || bug == BUG_COMMIT_POISONED;
    make_log(w);
    for (int i = 0; i < MEMBERS; i++) {
        w->members[i].world = w;
        w->members[i].index = i;
        member_start(w, &w->members[i]);
    }
    unsigned faults = (unsigned)world_random(w, 30);
    for (int i = 0; i < FAULT_STEPS; i++) {
        step(w);
        if (world_chance(w, faults))
            fault(w);
        if (world_chance(w, 10))
            recover(w);
        struct member *m = &w->members[world_random(w, MEMBERS)];
        if (m->engine && !m->frozen && is_zombie(m) && world_chance(w, 30))
            zombie_learns(w, m);
    }
    const char *wrong = heal(w);
    if (!wrong)
        wrong = world_compare(w, text, cap);
    count_outputs(tally, &w->outputs);
    tally->reloads += w->reloads;
    tally->refused_reloads += w->refused_reloads;
    world_end(w);
    return wrong;
}

static int run_seeds(uint64_t from, uint64_t seeds, enum bug bug, bool verbose)
{
    uint64_t passed = 0, failed = 0;
    struct tally tally = {0};
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        char text[256];
        const char *wrong = run_seed(seed, bug, verbose, &tally, text, sizeof text);
        passed += !wrong;
        failed += wrong != NULL;
        if (wrong)
            printf("seed %llu (%s): %s\n", (unsigned long long)seed, seed % 2 ? "exactly once" : "at least once",
                   wrong);
        if (wrong && bug != BUG_NONE)
            break;
    }
    printf("compared: %llu scores, %llu alerts, %llu dead letters, and the records\n", (unsigned long long)tally.scores,
           (unsigned long long)tally.alerts, (unsigned long long)tally.dead_letters);
    printf("reloads of the configuration: %llu done, %llu refused\n", (unsigned long long)tally.reloads,
           (unsigned long long)tally.refused_reloads);
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed ? 1 : 0;
}

/* A simulator that cannot fail proves nothing. */
static int prove(uint64_t seeds)
{
    int passed = 0, failed = 0;
    struct tally tally = {0};
    for (int bug = BUG_NONE + 1; bug < BUGS; bug++) {
        char text[256];
        const char *wrong = NULL;
        uint64_t seed = 0;
        while (!wrong && seed < seeds)
            wrong = run_seed(++seed, (enum bug)bug, false, &tally, text, sizeof text);
        passed += wrong != NULL;
        failed += !wrong;
        if (wrong)
            printf("%-18s found by seed %llu: %s\n", bug_names[bug], (unsigned long long)seed, wrong);
        else
            printf("%-18s NOT found within %llu seeds\n", bug_names[bug], (unsigned long long)seeds);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}

static int bug_find(const char *name)
{
    for (int i = 0; i < BUGS; i++)
        if (strcmp(name, bug_names[i]) == 0)
            return i;
    return -1;
}

int main(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"seeds", required_argument, NULL, 's'}, {"from", required_argument, NULL, 'f'},
        {"bug", required_argument, NULL, 'b'}, {"verbose", no_argument, NULL, 'v'}, {"prove", no_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    uint64_t seeds = 0, from = 1;
    int bug = BUG_NONE;
    bool verbose = false, proving = false;
    for (int c; (c = getopt_long(argc, argv, "s:f:b:vp", options, NULL)) != -1;) {
        if (c == 's')
            seeds = strtoull(optarg, NULL, 10);
        else if (c == 'f')
            from = strtoull(optarg, NULL, 10);
        else if (c == 'b')
            bug = bug_find(optarg);
        else if (c == 'v')
            verbose = true;
        else if (c == 'p')
            proving = true;
        if (c == '?' || bug < 0) {
            fputs("Usage: sim [--seeds N] [--from SEED] [--bug NAME] [--verbose] | sim --prove [--seeds N]\n", stderr);
            return 2;
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(verbose ? LOG_DEBUG : LOG_ERROR, LOG_FORMAT_TEXT);
    if (proving)
        return prove(seeds ? seeds : 1000);
    return run_seeds(from, seeds ? seeds : 200, (enum bug)bug, verbose);
}
