/* SPDX-License-Identifier: Apache-2.0 */
/* kafka.h - what source_kafka and sink_kafka share: a librdkafka client made from option rows, its log lines and
 * errors, and the bridge from its threads to the event loop.
 *
 * librdkafka owns its threads; everything of ours runs in the loop's thread. Callbacks (log, error, rebalance) are
 * served from queues that the module polls, never from a thread of the library. */
#ifndef GAIT_MODULES_KAFKA_H
#define GAIT_MODULES_KAFKA_H

#include "gait/log.h"
#include "gait/module.h"

#include <ev.h>
#include <librdkafka/rdkafka.h>

/* The settings of every client; the first member of the modules' own configuration. */
struct kafka_conf {
    const char *brokers, *client_id;
    struct option_map settings;     /* passed on to librdkafka as they are */
};

#define KAFKA_OPTIONS \
    {"brokers", OPTION_STRING, offsetof(struct kafka_conf, brokers), NULL, 0, 0, NULL, \
     OPTION_REQUIRED | OPTION_RESTART, \
     "Brokers to begin with, as host:port, separated by commas."}, \
    {"client_id", OPTION_STRING, offsetof(struct kafka_conf, client_id), "gaitd", 0, 0, NULL, OPTION_RESTART, \
     "Name under which the broker's logs and quotas know this client."}, \
    {"settings", OPTION_MAP, offsetof(struct kafka_conf, settings), NULL, 0, 0, NULL, OPTION_RESTART | OPTION_SECRET, \
     "Further settings of librdkafka by their own names, for example security.protocol or ssl.ca.location. Those " \
     "that gait's promises depend on are refused."}

/* A setting that gait decides by itself. */
struct kafka_setting {
    const char *name, *value;
};

/* One client and what its callbacks need. Lies in the module's own state and outlives `rk`. */
struct kafka_client {
    rd_kafka_t *rk;
    const char *who;                /* the instance's name, for log lines */
    struct log_site log_site;       /* the library repeats itself while a broker is away */
    struct metric_cell *errors;
    void *self;                     /* the module's state: rd_kafka_opaque() is the client */
    void (*on_error)(void *self, rd_kafka_resp_err_t code, const char *reason);
};

/* The library's configuration: `own` (ended by a row without name) first, then the operator's settings. NULL with a
 * text that names the setting. The caller gives it to kafka_client_open() or destroys it. */
rd_kafka_conf_t *kafka_conf_create(const struct kafka_conf *conf, const struct kafka_setting *own, struct error *err);
/* Sets a setting only where this version of the library has it. */
void kafka_conf_try(rd_kafka_conf_t *conf, const char *name, const char *value);
/* Takes the configuration over, also on failure (-1 with a text). */
int kafka_client_open(struct kafka_client *client, rd_kafka_type_t type, rd_kafka_conf_t *conf, struct error *err);

/* For modules that poll events instead of having callbacks called: an event of kind ERROR or LOG. */
void kafka_client_event(struct kafka_client *client, rd_kafka_event_t *event);

/* Ask the brokers for the topic, waiting `wait_ms` at most: the answer tells that they can be reached. The number of
 * its partitions; 0 with `code` set when it cannot be used; -1 when no broker answered. */
int kafka_probe(rd_kafka_t *rk, rd_kafka_topic_t *topic, int wait_ms, rd_kafka_resp_err_t *code);

/* source_kafka.c: the consumer behind a source, for transactions that contain its offsets. NULL when `source` is
 * another module, or connects to nothing. */
rd_kafka_t *source_kafka_consumer(const struct instance *source);

/* A queue that becomes non-empty wakes the loop and calls `call`. It is called once per wake-up, so it must empty
 * every watched queue or come back by itself. */
struct kafka_wakeup {
    ev_io io;
    struct ev_loop *loop;
    int fd;                         /* eventfd, written by the library's threads */
    bool open;
    void (*call)(void *self);
    void *self;
};
int kafka_wakeup_open(struct kafka_wakeup *w, struct ev_loop *loop, void (*call)(void *self), void *self,
                      struct error *err);
void kafka_wakeup_watch(struct kafka_wakeup *w, rd_kafka_queue_t *queue);
void kafka_wakeup_close(struct kafka_wakeup *w); /* after the queues are gone; accepts one that was never opened */

#endif
