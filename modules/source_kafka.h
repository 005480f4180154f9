/* SPDX-License-Identifier: Apache-2.0 */
/* source_kafka.h - the inside of source_kafka, shared by source_kafka.c (reading, committing, the module),
 * source_kafka_group.c (what the consumer group gives and takes), source_kafka_committed.c (what it has committed) and
 * source_kafka_erase.c (requests to erase users). */
#ifndef GAIT_MODULES_SOURCE_KAFKA_H
#define GAIT_MODULES_SOURCE_KAFKA_H

#include "kafka.h"

enum {
    INPUTS_MAX = 16,
    RETRY_MS = 1000,
    PROBE_WAIT_MS = 50,      /* the loop stands still so long at most, and only while no broker is known to be there */
    RETAKE_MS = 2500,        /* longer than two heartbeats: a zombie has heard by then that it is one */
    GAUGE_MS = 1000,
    CLOSE_WAIT_MS = 700,     /* together with engine.drain_ms less than 5 s */
    MESSAGE_OVERHEAD = 320,  /* bytes that librdkafka spends on a queued message beside its content */
};

enum { ASSIGN_COOPERATIVE, ASSIGN_RANGE, ASSIGN_ROUNDROBIN };
enum { BEGIN_EARLIEST, BEGIN_LATEST };

struct source_kafka_conf {
    struct kafka_conf kafka; /* first: KAFKA_OPTIONS */
    const char *topic, *group, *group_instance_id, *erase_topic;
    int assignment, start;
    int64_t prefetch_bytes;
};

enum claim_state {
    CLAIM_ASKING,            /* C is asked for */
    CLAIM_OPENING,           /* the engine was told; it asks the store */
    CLAIM_ERASING,           /* it is known where to begin; requests to erase users come first */
    CLAIM_STARTED,           /* it is known where to begin; the others of this assignment are waited for */
    CLAIM_READING,
    CLAIM_CLOSING,           /* revoked; the engine finishes */
    CLAIM_DROPPED,           /* the engine has let it go though the group says that it is ours */
};

/* A partition that the group says is ours. */
struct claim {
    int32_t id;
    enum claim_state state;
    bool assigned;           /* librdkafka was told to read it */
    uint64_t asked;          /* the question for C that will be answered, 0 = none yet */
    int64_t offset;          /* STARTED: where to begin. READING: the offset that should come next, -1 = any */
    uint64_t again_ms;       /* DROPPED: when to take it back, 0 = not told to yet */
};

/* The messages that one batch borrows. */
struct input {
    rd_kafka_message_t **messages;
    size_t n, cap;
    bool in_use;
};

/* The topic of erasures. */
struct erase_log {
    struct kafka_client client;      /* client.rk NULL = off */
    struct kafka_wakeup wakeup;
    rd_kafka_queue_t *queue;
    rd_kafka_topic_t *topic;
    rd_kafka_message_t *held;        /* the engine could not take it yet */
    int64_t next;                    /* offset that is read next, -1 = the earliest */
    int partitions;                  /* 0 = not known */
    const char *why;                 /* it cannot be used */
    uint64_t probe_ms;
    struct metric_cell *bad;
};

struct source_kafka {
    struct instance *in;
    const struct source_kafka_conf *conf;
    struct kafka_client client;
    struct kafka_wakeup wakeup;
    rd_kafka_queue_t *group, *messages, *answers;
    rd_kafka_topic_t *topic;         /* for metadata only */
    struct committed *committed;     /* who asks for C */
    struct erase_log erasures;
    struct input inputs[INPUTS_MAX];
    struct claim *claims;
    size_t claims_n, claims_cap;
    enum { ANSWER_NONE, ANSWER_ASSIGN, ANSWER_UNASSIGN } owed; /* what the group waits for */
    rd_kafka_topic_partition_list_t *unassigning;
    uint64_t asked;                  /* counts questions for C */
    bool asking;
    uint64_t ask_ms, probe_ms, gauge_ms; /* monotonic: not before these */
    struct commit **failures;        /* answered at the next tick, so that a commit that fails at once does not spin */
    size_t failures_n, failures_cap;
    int partitions;                  /* of the topic when first seen; 0 = not known yet */
    int64_t retention_ms;            /* the topic's, 0 = not known or without end */
    bool reachable, joined, draining, closing;
    bool assigned;                   /* the group has given us an assignment at least once, be it an empty one */
    rd_kafka_resp_err_t topic_error; /* why the topic or group cannot be used */
    bool grown;                      /* the topic has got more partitions */
    struct metric_cell *fetched, *fetched_bytes, *rebalances, *queued;
};

static inline uint64_t source_mono_ms(const struct source_kafka *s)
{
    return clock_mono_ns(s->in->clock) / 1000000;
}

void source_ready(struct source_kafka *s); /* say whether we can work, and if not, why */

/* ---- source_kafka_group.c -------------------------------------------------------------------------------------- */
struct claim *claim_find(struct source_kafka *s, int32_t id); /* NULL when the group has not given it to us */
void claim_start(struct source_kafka *s, const struct partition *p, int64_t offset); /* FLOW_START */
void claim_begin(struct source_kafka *s,
                 int32_t id);                                /* no request comes before its clicks */
void claim_close(struct source_kafka *s, const struct partition *p);                 /* FLOW_CLOSED */
void claim_reopen(struct source_kafka *s, int32_t id);                               /* FLOW_REOPEN */
void claim_lose(struct source_kafka *s, int32_t id);     /* a closing one that the group has given away meanwhile */
void claims_tick(struct source_kafka *s);
/* The answer to the question for C; the list is borrowed. */
void claims_committed(struct source_kafka *s, const rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t code);
void source_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *opaque);

/* ---- source_kafka_committed.c ---------------------------------------------------------------------------------- */
struct committed *committed_create(struct source_kafka *s);
void committed_destroy(struct committed **committed); /* before the client goes */
/* One question at a time, answered by claims_committed(). The list is taken over. */
void committed_ask(struct committed *committed, rd_kafka_topic_partition_list_t *list);

/* ---- source_kafka_erase.c -------------------------------------------------------------------------------------- */
int erase_log_open(struct source_kafka *s, struct error *err);
void erase_log_close(struct source_kafka *s);
bool erase_log_used(const struct source_kafka *s);
void erase_log_want(struct source_kafka *s, int64_t offset); /* all from there on; at the end, claim_begin() */
void erase_log_serve(struct source_kafka *s);
void erase_log_tick(struct source_kafka *s);

#endif
