// SPDX-License-Identifier: Apache-2.0
// sink_kafka_transaction.c - delivery: exactly_once. The producer's messages and the group's offsets become visible
// in one transaction, whose end the engine decides on (epoch.c).
//
//   INIT ─(thread: init)─► OPEN ─(commit from the engine; thread: offsets, commit)─► ENDING ─► OPEN, answer: good
//    ▲                      │ a message failed: spoiled                               └─(aborted)─► OPEN, answer: void
//    └──(new producer)── BROKEN ◄─(fatal: fenced, unknown end)──────────────────────────┘
//
// The library's calls that end a transaction wait for the brokers, some 20 to 30 ms. They run in a thread of their own;
// meanwhile the engine computes on and what it hands over is kept and sent in the next transaction. A mutex guards what
// the thread and the loop share: the job and its outcome, nothing else.
#include "sink_kafka.h"

#include <assert.h>
#include <ev.h>
#include <pthread.h>
#include <stdlib.h>

/* The library takes a call that timed out up again when it is repeated, so waiting in short pieces costs nothing, and a
 * daemon that is told to stop while the brokers are away need not wait for them. */
enum { WAIT_MS = 500, END_ATTEMPTS = 80, LEAVING_ATTEMPTS = 2 };

static const uint64_t LEAVE_WAIT_NS = 1000000000;

/* One that is aborted is nothing special; so many in a row are, until there has been none for a while. A new attempt
 * comes about every three seconds. */
enum { FAILURES_MAX = 3 };
static const uint64_t TROUBLE_NS = 10000000000;

enum transaction_state { TRANSACTION_INIT, TRANSACTION_OPEN, TRANSACTION_ENDING, TRANSACTION_BROKEN };
enum job { JOB_NONE, JOB_INIT, JOB_COMMIT, JOB_ABORT, JOB_QUIT };
enum outcome { OUTCOME_NONE, OUTCOME_READY, OUTCOME_LATER, OUTCOME_COMMITTED, OUTCOME_ABORTED, OUTCOME_FATAL };

struct transaction {
    struct producer *p;
    enum transaction_state state;
    bool spoiled;              /* what was handed over since the last good commit lacks something: it is void */
    bool used;                 /* something was handed over since it was begun */
    struct commit *commit;     /* the engine's question under way */
    uint32_t failures;         /* in a row */
    uint64_t failed_ns;        /* when the last one was */
    bool unauthorised;         /* one of them for want of rights */
    ev_async done;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wanted;
    /* under the mutex */
    enum job job;
    enum outcome outcome;
    bool leaving;              /* the process is about to end */
    rd_kafka_t *rk;
    rd_kafka_topic_partition_list_t *offsets;
    rd_kafka_consumer_group_metadata_t *group;
    char text[512];            /* why it failed */
    bool refused;              /* … the broker does not authorise us */
};

/* ---- the thread -------------------------------------------------------------------------------------------------- */

static bool is_of_authorisation(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

/* What an error means; takes it over. NULL is success. */
static enum outcome judge(struct transaction *t, rd_kafka_error_t *error, enum outcome good)
{
    if (!error)
        return good;
    enum outcome outcome = rd_kafka_error_is_fatal(error)                ? OUTCOME_FATAL
                           : rd_kafka_error_txn_requires_abort(error)    ? OUTCOME_ABORTED
                           : rd_kafka_error_is_retriable(error)          ? OUTCOME_LATER
                                                                         : OUTCOME_ABORTED;
    snprintf(t->text, sizeof t->text, "%s", rd_kafka_error_string(error));
    t->refused |= is_of_authorisation(rd_kafka_error_code(error));
    rd_kafka_error_destroy(error);
    return outcome;
}

static bool again(struct transaction *t, int attempts)
{
    pthread_mutex_lock(&t->mutex);
    bool leaving = t->leaving;
    pthread_mutex_unlock(&t->mutex);
    return attempts < (leaving ? LEAVING_ATTEMPTS : END_ATTEMPTS);
}

/* When even the abort has no known end, only a new producer under the same name can settle it. */
static enum outcome abort_now(struct transaction *t)
{
    for (int i = 0; again(t, i); i++) {
        enum outcome outcome = judge(t, rd_kafka_abort_transaction(t->rk, WAIT_MS), OUTCOME_READY);
        if (outcome == OUTCOME_READY)
            return OUTCOME_ABORTED;
        if (outcome != OUTCOME_LATER)
            break;
    }
    return OUTCOME_FATAL;
}

static enum outcome commit_now(struct transaction *t)
{
    enum outcome outcome = t->offsets ? OUTCOME_LATER : OUTCOME_READY;
    for (int i = 0; outcome == OUTCOME_LATER && again(t, i); i++)
        outcome = judge(t, rd_kafka_send_offsets_to_transaction(t->rk, t->offsets, t->group, WAIT_MS), OUTCOME_READY);
    if (outcome == OUTCOME_READY) {
        outcome = OUTCOME_LATER;
        for (int i = 0; outcome == OUTCOME_LATER && again(t, i); i++)
            outcome = judge(t, rd_kafka_commit_transaction(t->rk, WAIT_MS), OUTCOME_COMMITTED);
        if (outcome == OUTCOME_LATER)
            return OUTCOME_FATAL; /* perhaps committed: nothing but the broker knows */
    }
    return outcome == OUTCOME_COMMITTED || outcome == OUTCOME_FATAL ? outcome : abort_now(t);
}

static void *work(void *self)
{
    struct transaction *t = self;
    pthread_mutex_lock(&t->mutex);
    for (;;) {
        while (t->job == JOB_NONE)
            pthread_cond_wait(&t->wanted, &t->mutex);
        enum job job = t->job;
        pthread_mutex_unlock(&t->mutex);
        enum outcome outcome = OUTCOME_NONE;
        if (job == JOB_INIT)
            outcome = judge(t, rd_kafka_init_transactions(t->rk, WAIT_MS), OUTCOME_READY);
        else if (job == JOB_COMMIT)
            outcome = commit_now(t);
        else if (job == JOB_ABORT)
            outcome = abort_now(t);
        pthread_mutex_lock(&t->mutex);
        t->job = JOB_NONE;
        t->outcome = outcome;
        if (job == JOB_QUIT || t->leaving) /* nobody may be there any more who hears of it */
            break;
        ev_async_send(t->p->in->loop, &t->done);
    }
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

static void give_job(struct transaction *t, enum job job)
{
    pthread_mutex_lock(&t->mutex);
    assert(t->job == JOB_NONE && t->outcome == OUTCOME_NONE);
    t->rk = t->p->client.rk;
    t->job = job;
    pthread_cond_signal(&t->wanted);
    pthread_mutex_unlock(&t->mutex);
}

/* ---- the loop's side --------------------------------------------------------------------------------------------- */

static void answer(struct transaction *t, bool ok)
{
    struct commit *c = t->commit;
    t->commit = NULL;
    if (!ok)
        t->spoiled = false; /* the engine starts over */
    if (c)
        commit_done(t->p->in->engine, t->p->in, c, ok);
}

static void begin(struct transaction *t)
{
    t->state = TRANSACTION_OPEN;
    t->used = false;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(t->p->client.rk);
    if (!error)
        return;
    log_error(t->p->in->name, "cannot begin a transaction: %s", rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    transaction_break(t);
}

static void note_failure(struct transaction *t)
{
    t->failures++;
    t->failed_ns = clock_mono_ns(t->p->in->clock);
    t->unauthorised |= t->refused;
}

const char *transaction_trouble(const struct transaction *t)
{
    if (t->failures == 0 || clock_mono_ns(t->p->in->clock) > t->failed_ns + TROUBLE_NS)
        return NULL;
    if (t->unauthorised) /* not always known: the library may only say that an error came before */
        return "the transaction is not authorised: an output topic, the group, or the transactional id";
    return t->failures < FAILURES_MAX
        ? NULL : "one transaction after the other fails; librdkafka's lines in the log say why";
}

static void ended(struct transaction *t, enum outcome outcome)
{
    bool good = outcome == OUTCOME_COMMITTED && !t->commit->abort;
    if (t->offsets)
        rd_kafka_topic_partition_list_destroy(t->offsets);
    if (t->group)
        rd_kafka_consumer_group_metadata_destroy(t->group);
    t->offsets = NULL;
    t->group = NULL;
    if (!good && !t->commit->abort && t->text[0])
        log_warning(t->p->in->name, "the transaction could not be committed: %s", t->text);
    if (good)
        t->failures = 0, t->unauthorised = false;
    else if (!t->commit->abort)
        note_failure(t);
    t->text[0] = 0;
    t->refused = false;
    if (!good)
        producer_forget_parked(t->p);
    producer_judge_sizes(t->p);
    t->state = TRANSACTION_BROKEN;
    if (outcome == OUTCOME_FATAL || t->p->fatal) {
        transaction_break(t);
    } else {
        begin(t);
        if (good)
            producer_send_parked(t->p);
    }
    answer(t, good);
}

static void on_done(struct ev_loop *loop, ev_async *w, int events)
{
    struct transaction *t = w->data;
    (void)loop, (void)events;
    pthread_mutex_lock(&t->mutex);
    enum outcome outcome = t->outcome;
    t->outcome = OUTCOME_NONE;
    pthread_mutex_unlock(&t->mutex);
    if (outcome == OUTCOME_NONE)
        return;
    producer_serve(t->p); /* what failed belongs to this transaction, not to the next */
    if (t->state == TRANSACTION_ENDING) {
        ended(t, outcome);
    } else if (outcome == OUTCOME_READY) {
        log_info(t->p->in->name, "transactions are ready");
        begin(t);
    } else {
        log_often(LOG_WARNING, t->p->in->name, "transactions cannot be initialised: %s; trying again", t->text);
        if (outcome != OUTCOME_LATER)
            transaction_break(t);
    }
    producer_changed(t->p);
}

struct transaction *transaction_create(struct producer *p)
{
    struct transaction *t = calloc(1, sizeof *t);
    assert(t);
    t->p = p;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wanted, NULL);
    ev_async_init(&t->done, on_done);
    t->done.data = t;
    ev_async_start(p->in->loop, &t->done);
    int rc = pthread_create(&t->thread, NULL, work, t);
    assert(rc == 0);
    return t;
}

/* The thread may be waiting for a broker. Without one, the library's call for offsets does not come back at its
 * time-out (2.0.2): then thread and producer are left to the end of the process, which is near. */
bool transaction_destroy(struct transaction **transaction)
{
    struct transaction *t = *transaction;
    if (!t)
        return true;
    uint64_t until_ns = clock_mono_ns(t->p->in->clock) + LEAVE_WAIT_NS;
    ev_async_stop(t->p->in->loop, &t->done);
    pthread_mutex_lock(&t->mutex);
    t->leaving = true;
    while (t->job != JOB_NONE) {
        if (clock_mono_ns(t->p->in->clock) > until_ns) {
            pthread_detach(t->thread);
            pthread_mutex_unlock(&t->mutex);
            *transaction = NULL;
            return false;
        }
        pthread_mutex_unlock(&t->mutex);
        producer_serve(t->p); /* a commit waits for delivery reports */
        ev_sleep(0.001);
        pthread_mutex_lock(&t->mutex);
    }
    t->job = JOB_QUIT;
    pthread_cond_signal(&t->wanted);
    pthread_mutex_unlock(&t->mutex);
    pthread_join(t->thread, NULL);
    if (t->offsets)
        rd_kafka_topic_partition_list_destroy(t->offsets);
    if (t->group)
        rd_kafka_consumer_group_metadata_destroy(t->group);
    pthread_cond_destroy(&t->wanted);
    pthread_mutex_destroy(&t->mutex);
    free(t);
    *transaction = NULL;
    return true;
}

bool transaction_is_open(const struct transaction *t)
{
    return t->state == TRANSACTION_OPEN;
}

/* Between INIT and OPEN, and after a break, nothing can be taken; while one ends, what comes is kept for the next. */
bool transaction_takes(const struct transaction *t)
{
    return t->state == TRANSACTION_OPEN || t->state == TRANSACTION_ENDING;
}

void transaction_use(struct transaction *t)
{
    t->used = true;
}

void transaction_spoil(struct transaction *t)
{
    t->spoiled = true;
}

void transaction_break(struct transaction *t)
{
    t->spoiled = true;
    t->p->fatal = true;
    if (t->state != TRANSACTION_ENDING) /* the thread has it until then */
        t->state = TRANSACTION_BROKEN;
}

/* A new producer is there. */
void transaction_restart(struct transaction *t)
{
    t->state = TRANSACTION_INIT;
}

void transaction_tick(struct transaction *t)
{
    pthread_mutex_lock(&t->mutex);
    bool idle = t->job == JOB_NONE && t->outcome == OUTCOME_NONE;
    pthread_mutex_unlock(&t->mutex);
    if (idle && t->state == TRANSACTION_INIT)
        give_job(t, JOB_INIT);
}

bool transaction_is_working(struct transaction *t)
{
    pthread_mutex_lock(&t->mutex);
    bool working = t->job != JOB_NONE || t->outcome != OUTCOME_NONE; /* on_done() is still to come */
    pthread_mutex_unlock(&t->mutex);
    return working;
}

/* False when the group has given our partitions away. The broker refuses the offsets of a member that it has thrown
 * out, but the library may know already that it was and then speaks as no member at all, whose offsets the broker
 * takes. Its two answers come from one thread, so if it spoke as nobody it knows of the loss by now. */
static bool take_offsets(struct transaction *t, const struct commit *c)
{
    const struct instance *source = engine_instance(t->p->in->engine, STAGE_SOURCE);
    rd_kafka_t *consumer = source_kafka_consumer(source);
    if (c->offsets_n == 0)
        return true;
    t->offsets = rd_kafka_topic_partition_list_new((int)c->offsets_n);
    for (uint32_t i = 0; i < c->offsets_n; i++)
        rd_kafka_topic_partition_list_add(t->offsets, source->input, c->offsets[i].partition)->offset =
            c->offsets[i].offset;
    t->group = rd_kafka_consumer_group_metadata(consumer);
    assert(t->group);
    return !rd_kafka_assignment_lost(consumer);
}

void transaction_end(struct transaction *t, struct commit *c)
{
    assert(!t->commit);
    t->commit = c;
    if (t->state != TRANSACTION_OPEN) {
        answer(t, false);
    } else if (!t->spoiled && !c->abort && !t->used && c->offsets_n == 0) {
        answer(t, true);
    } else {
        bool void_it = t->spoiled || c->abort || !take_offsets(t, c);
        t->state = TRANSACTION_ENDING;
        give_job(t, void_it ? JOB_ABORT : JOB_COMMIT);
    }
}
