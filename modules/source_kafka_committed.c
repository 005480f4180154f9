// SPDX-License-Identifier: Apache-2.0
// source_kafka_committed.c - asks the group for the offsets that it has committed (C). The library's call waits for the
// brokers, so a thread makes it. (Its asynchronous twin among the admin calls ends the process by a failed assertion in
// librdkafka 2.0.2 when the broker is away for as long as the call's time-out.)
//
//   loop: committed_ask(list) ─► thread: rd_kafka_committed ─► loop: claims_committed(list, code)
//
// A mutex guards the question and its answer, nothing else. Offsets of a transaction that is not finished are not
// answered yet, since they may still be committed: the consumer's isolation level is read_committed.
#include "source_kafka.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

enum { ASK_WAIT_MS = 500 }; /* it is asked again; closing need not wait longer */

struct committed {
    struct source_kafka *s;
    ev_async done;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wanted;
    /* under the mutex */
    rd_kafka_topic_partition_list_t *question, *answer;
    rd_kafka_resp_err_t code;
    bool quit;
};

static void *work(void *self)
{
    struct committed *c = self;
    pthread_mutex_lock(&c->mutex);
    for (;;) {
        while (!c->question && !c->quit)
            pthread_cond_wait(&c->wanted, &c->mutex);
        if (c->quit)
            break;
        rd_kafka_topic_partition_list_t *list = c->question;
        pthread_mutex_unlock(&c->mutex);
        rd_kafka_resp_err_t code = rd_kafka_committed(c->s->client.rk, list, ASK_WAIT_MS);
        pthread_mutex_lock(&c->mutex);
        c->question = NULL;
        c->answer = list;
        c->code = code;
        ev_async_send(c->s->in->loop, &c->done);
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

static void on_done(struct ev_loop *loop, ev_async *w, int events)
{
    struct committed *c = w->data;
    (void)loop, (void)events;
    pthread_mutex_lock(&c->mutex);
    rd_kafka_topic_partition_list_t *list = c->answer;
    rd_kafka_resp_err_t code = c->code;
    c->answer = NULL;
    pthread_mutex_unlock(&c->mutex);
    if (!list)
        return;
    claims_committed(c->s, list, code);
    rd_kafka_topic_partition_list_destroy(list);
}

struct committed *committed_create(struct source_kafka *s)
{
    struct committed *c = calloc(1, sizeof *c);
    assert(c);
    c->s = s;
    pthread_mutex_init(&c->mutex, NULL);
    pthread_cond_init(&c->wanted, NULL);
    ev_async_init(&c->done, on_done);
    c->done.data = c;
    ev_async_start(s->in->loop, &c->done);
    int rc = pthread_create(&c->thread, NULL, work, c);
    assert(rc == 0);
    return c;
}

void committed_ask(struct committed *c, rd_kafka_topic_partition_list_t *list)
{
    pthread_mutex_lock(&c->mutex);
    assert(!c->question && !c->answer);
    c->question = list;
    pthread_cond_signal(&c->wanted);
    pthread_mutex_unlock(&c->mutex);
}

void committed_destroy(struct committed **committed)
{
    struct committed *c = *committed;
    if (!c)
        return;
    pthread_mutex_lock(&c->mutex);
    c->quit = true;
    pthread_cond_signal(&c->wanted);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    ev_async_stop(c->s->in->loop, &c->done);
    if (c->question)
        rd_kafka_topic_partition_list_destroy(c->question);
    if (c->answer)
        rd_kafka_topic_partition_list_destroy(c->answer);
    pthread_cond_destroy(&c->wanted);
    pthread_mutex_destroy(&c->mutex);
    free(c);
    *committed = NULL;
}
