/* SPDX-License-Identifier: Apache-2.0 */
/* offline.h - what `gaitd user` and `gaitd state` do with the servers of a configuration, beside the daemons or without
 * them. Every call waits for its answer; -1 with a text. Implemented in modules/offline*.c, which know the settings of
 * source_kafka, store_redis and sink_kafka. */
#ifndef GAIT_OFFLINE_H
#define GAIT_OFFLINE_H

#include "gait/module.h"

/* A module of the configuration, not opened. */
struct offline_module {
    const struct module *module;
    const void *conf;
};

struct offline;

struct offline *offline_create(const struct offline_module *found, size_t n);
void offline_destroy(struct offline **offline);

/* ---- the input (needs source.kafka) ---- */
int offline_partitions(struct offline *o, int32_t *partitions, struct error *err);
int offline_log_range(struct offline *o, int32_t partition, int64_t *low, int64_t *high, struct error *err);
/* The first offset whose message is of `time_ms` or newer; the end when there is none. */
int offline_log_at(struct offline *o, int32_t partition, int64_t time_ms, int64_t *offset, struct error *err);
int offline_commit(struct offline *o, int32_t partition, int64_t offset, struct error *err);
/* A message of the log, lent until the next call. */
struct offline_message {
    struct str key, value;   /* at NULL = absent */
    int64_t offset, time_ms; /* time_ms: the log's, <= 0 = not known */
};
/* Read what is committed of `partition` from `from` up to, not including, `to`; the beginning must be retained. */
int offline_read_begin(struct offline *o, int32_t partition, int64_t from, int64_t to, struct error *err);
int offline_read_next(struct offline *o, struct offline_message *m, struct error *err); /* 1, or 0 at the end */
/* -1 with a text that names them when the group has members: daemons are running. */
int offline_no_daemons(struct offline *o, struct error *err);
/* Ask for a user to be erased and wait for the receipts of all partitions. erased_ms 0: all until now. */
int offline_erase(struct offline *o, const char *user, int64_t erased_ms, int64_t wait_ms, struct error *err);
/* The partition that a key has by Java's default rule (murmur2). */
int32_t offline_partition_of(struct str key, int32_t partitions);

/* ---- the store (needs store.redis) ---- */
struct offline_place {
    int64_t at, erased; /* W of the clicks and of the erasures; OFFSET_NONE = not there */
};
typedef int offline_record(void *self, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms,
                           struct error *err);

int offline_place(struct offline *o, int32_t partition, struct offline_place *place, struct error *err);
/* Take the fence, so that whoever had it can write no more, and set both W (OFFSET_NONE removes one). */
int offline_place_set(struct offline *o, int32_t partition, const struct offline_place *place, struct error *err);
/* Every record of the partition that is there all the while, at least once; those that come or go meanwhile perhaps. */
int offline_records(struct offline *o, int32_t partition, offline_record *each, void *self, struct error *err);
/* The names alone, much faster; one may come twice. */
typedef int offline_name(void *self, struct str name, struct error *err);
int offline_names(struct offline *o, int32_t partition, offline_name *each, void *self, struct error *err);
/* 0 = there is none, 1 = `*bytes` is the caller's to free. */
int offline_get(struct offline *o, int32_t partition, struct str name, uint8_t **bytes, size_t *n, struct error *err);
int offline_put(struct offline *o, int32_t partition, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms,
                struct error *err);
int offline_delete(struct offline *o, int32_t partition, struct str name, struct error *err);
int offline_meta(struct offline *o, int32_t *partitions, struct error *err); /* 0 = not said */
int offline_meta_set(struct offline *o, int32_t partitions, struct error *err);

#endif
