/* SPDX-License-Identifier: Apache-2.0 */
/* offline.h - the inside of the tools' access to the servers: offline_kafka.c (log, group, erasures), offline_redis.c
 * (records). */
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
    redisContext *redis;
};

void offline_kafka_end(struct offline *o);

#endif
