/* SPDX-License-Identifier: Apache-2.0 */
/* sink_redis.h - the inside of sink_redis: sink_redis.c (options, what is kept of each user, the script) and
 * sink_redis_queue.c (who waits to be written, calls in flight, which saves wait for them). */
#ifndef GAIT_SINK_REDIS_H
#define GAIT_SINK_REDIS_H

#include "redis.h"

#include "gait/model.h"

#include <ev.h>

enum { CALL_USERS = 128, EPOCHS_MAX = 1024 };

struct sink_redis_conf {
    struct redis_conf redis;
    struct option_strings features;
    int64_t every_ms, ttl_ms, top;
};

/* The latest values of a user, in the sink's section of the record (sink_redis.c lays out the rest behind it:
 * double features[], uint32_t top_id[], float top_p[]). Nothing of it is saved: the hash in Redis is its copy. */
struct serving {
    int64_t event_ts;
    int64_t expire_ms;      /* wall clock of the last EXPIRE; 0 = none in this life */
    int64_t queued_ms;      /* monotonic */
    uint32_t epoch;         /* while queued */
    uint32_t names;         /* sequence number of the vocabulary that top_id refers to */
    float intent, risk;
    uint8_t n;              /* entries of top */
    bool degraded;
    bool forgotten;         /* erased while it waited to be written: it is not */
};

/* A copy of a model's category names: it must outlive the model for those who wait. Only what output_interests reads is
 * filled in. */
struct names {
    struct names *next;
    uint32_t sequence;
    struct model model;
};

struct place;

/* Up to CALL_USERS hashes of one partition on their way. */
struct call {
    struct call *next;
    struct place *place;    /* NULL = the partition is gone, and its users with it */
    uint32_t n;
    struct user *users[CALL_USERS];
    uint32_t epochs[CALL_USERS];
};

/* A partition of which users wait or are being written. */
struct place {
    struct place *next;
    struct partition *partition;
    struct user *first, *last; /* in order of queued_ms */
    bool claimed;              /* the claim for this connection was sent */
    bool refused;              /* somebody else has a newer fence: nothing of it is written any more */
    uint64_t retry_ms;
};

/* Users that were queued within one slice of time, and the batches they came from. The batches' records may be saved
 * once all users of this and every earlier epoch are written. */
struct epoch {
    uint32_t outstanding;
    struct ticket **tickets;
    uint32_t tickets_n, tickets_cap;
};

struct sink_redis {
    struct instance *in;
    const struct sink_redis_conf *conf;
    struct redis *redis;
    struct place *places;
    struct epoch epochs[EPOCHS_MAX]; /* a ring */
    uint32_t epoch_first, epoch_now;
    struct call *free, *calls;       /* calls: those in flight */
    size_t calls_n, queued;
    uint64_t connections;            /* the token of a claim ends in it */
    struct gone *gone;               /* hashes of erased users, to be deleted */
    int script_claim, script_write, script_erase;
    char *write_text;                /* the script */
    uint16_t *feature_places;        /* [features] of the row of columns */
    uint32_t features_n;
    struct names *names;             /* newest first */
    char *scratch;                   /* texts of one call */
    ev_timer timer;
    bool closing, draining;
    struct metric_cell *written, *refused, *waiting, *lag;
};

/* ---- sink_redis.c ---- */
static inline struct serving *serving_of(const struct sink_redis *s, struct user *user)
{
    return user_section(user, s->in->user_offset);
}
/* Append the values of one user to the command, their texts at `at`; returns the end of them. */
char *serving_add(struct sink_redis *s, struct user *user, char *at, int64_t now_ms);
size_t serving_text_max(const struct sink_redis *s);

void serving_forget(struct sink_redis *s, struct user *user, int64_t erased_ms);

/* ---- sink_redis_erase.c ---- */
extern const char sink_redis_erase_text[];
void erase_user(struct sink_redis *s, const struct erasure *erasure);
void erase_send(struct sink_redis *s); /* what waits, as far as it may be sent */
void erase_end(struct sink_redis *s);

/* ---- sink_redis_queue.c ---- */
struct place *queue_place(struct sink_redis *s, int32_t partition); /* made at need; NULL when it is not ours */
void queue_user(struct sink_redis *s, struct place *place, struct user *user, int64_t mono_ms);
void queue_ticket(struct sink_redis *s, struct ticket *ticket); /* its users are queued */
void queue_flush(struct sink_redis *s); /* write whom it is time to write */
void queue_came_up(void *sink);
void queue_close_partition(struct sink_redis *s, const struct partition *p);
void queue_destroy(struct sink_redis *s);

#endif
