/* SPDX-License-Identifier: Apache-2.0 */
/* offline.h - the inside of the tools' access to the servers: offline_kafka.c (log, group, erasures), offline_read.c
 * (messages of the log), offline_redis.c (records). */
#ifndef GAIT_MODULES_OFFLINE_H
#define GAIT_MODULES_OFFLINE_H

#include "sink_kafka.h"
#include "source_kafka.h"
#include "store_redis.h"

#include "gait/offline.h"

enum { OFFLINE_WAIT_MS = 10000 };

struct offline {
    const struct source_kafka_conf *source; /* NULL = the configuration has another */
    const struct sink_kafka_conf *sink;
    const struct store_redis_conf *store;
    rd_kafka_t *consumer;                   /* made at need */
    struct {                                /* offline_read_begin … */
        rd_kafka_t *rk;                     /* a client of its own, made at need */
        rd_kafka_message_t *lent;
        int32_t partition;
        int64_t to;
        bool ended;
    } reader;
    redisContext *redis;
};

void offline_kafka_end(struct offline *o);

#endif
