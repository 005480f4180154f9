/* SPDX-License-Identifier: Apache-2.0 */
/* sink_kafka.h - the inside of sink_kafka, shared by sink_kafka.c (what goes out, the module) and sink_kafka_producer.c
 * (how it goes out: one librdkafka producer, delivery reports, what happens to messages that fail) and
 * sink_kafka_transaction.c (exactly once). */
#ifndef GAIT_MODULES_SINK_KAFKA_H
#define GAIT_MODULES_SINK_KAFKA_H

#include "kafka.h"

enum output { OUTPUT_SCORE, OUTPUT_ALERT, OUTPUT_DEAD, OUTPUT_ERASED, OUTPUTS };

struct sink_kafka_conf {
    struct kafka_conf kafka;           /* first: KAFKA_OPTIONS */
    const char *topics[OUTPUTS];       /* "off": that output is not wanted */
    int64_t queue_messages, queue_bytes, message_bytes, batch_bytes, linger_ms;
    const char *transactional_id;
    int64_t transaction_timeout_ms;
};

/* A message that could not be delivered for now, or waits for the next transaction. Counts as outstanding. */
struct parked {
    struct parked *next;
    enum output output;
    struct ticket *ticket;             /* NULL in a transaction */
    rd_kafka_headers_t *headers;       /* owned; NULL without */
    size_t key_len, len;
    char bytes[];                      /* key, then value */
};

struct producer_topic {
    rd_kafka_topic_t *handle;          /* NULL when the output is off */
    rd_kafka_resp_err_t error;         /* why it cannot be written, as last heard */
    bool known;                        /* a broker has said that it exists */
    size_t limit;                      /* transactions: messages so long were refused for their size; 0 = none */
    struct metric_cell *sent, *undeliverable;
};

struct producer {
    struct instance *in;
    const struct sink_kafka_conf *conf;
    struct kafka_client client;
    struct kafka_wakeup wakeup;
    struct transaction *transaction;   /* NULL = at least once */
    rd_kafka_queue_t *queue;           /* delivery reports, errors, log */
    struct producer_topic topics[OUTPUTS];
    uint64_t outstanding_n, outstanding_bytes; /* handed to the library or parked, not acknowledged */
    struct parked *parked_first, **parked_last;
    uint64_t parked_n;
    uint64_t retry_ms, probe_ms;       /* monotonic: not before these */
    bool reachable, fatal;
    int64_t batch_bytes;               /* largest request that is put together from several messages */
    bool crowded, convicted;           /* a request was refused for its size: with several messages, with one */
    struct metric_cell *retried, *queued, *queued_bytes, *ack_time;
};

/* -1 with a text. `conf` is taken over, also on failure. Accepts one that lies zeroed. */
int producer_open(struct producer *p, struct instance *in, rd_kafka_conf_t *conf, struct error *err);
/* Accepts a half-open one; what is outstanding is given up. False: a thread still needs it, it must not be freed. */
bool producer_close(struct producer *p);

/* Hand over n messages of one output: payload, key (copied) and _private = the ticket, which is held for each (NULL
 * in a transaction). Cannot fail: what the library refuses is parked and tried again, or spoils the transaction. */
void producer_send(struct producer *p, enum output output, rd_kafka_message_t *messages, int n);
/* The same for one message with headers, which are taken over. */
void producer_send_with_headers(struct producer *p, enum output output, struct ticket *ticket, struct str key,
                                struct str value, rd_kafka_headers_t *headers);
void producer_serve(struct producer *p); /* delivery reports and errors that have come */
void producer_tick(struct producer *p);
bool producer_full(const struct producer *p);

void producer_judge_sizes(struct producer *p); /* a request was refused for its size: find out for which message's */
void producer_changed(struct producer *p); /* say again whether we are ready and busy */
void producer_send_parked(struct producer *p);
void producer_forget_parked(struct producer *p);

/* ---- sink_kafka_transaction.c ------------------------------------------------------------------------------------ */
struct transaction *transaction_create(struct producer *p);
bool transaction_destroy(struct transaction **transaction); /* false: its thread still works, and needs the producer */
void transaction_end(struct transaction *t, struct commit *c); /* answered by commit_done() */
bool transaction_is_open(const struct transaction *t);         /* messages may go to the library now */
bool transaction_takes(const struct transaction *t);           /* messages may be handed over, to be sent or kept */
void transaction_use(struct transaction *t);                   /* a message was handed to the library */
void transaction_spoil(struct transaction *t);                 /* a message of it was lost */
void transaction_break(struct transaction *t);                 /* the producer is at its end */
void transaction_restart(struct transaction *t);               /* a new producer is there */
bool transaction_is_working(struct transaction *t);            /* the thread holds the producer */
void transaction_tick(struct transaction *t);
const char *transaction_trouble(const struct transaction *t);  /* why we are not ready; NULL = nothing is wrong */

/* sink_kafka.c: the library's configuration. NULL with a text. */
rd_kafka_conf_t *sink_kafka_make_conf(const struct instance *in, struct error *err);

#endif
