// SPDX-License-Identifier: Apache-2.0
// state_move.c - `gaitd state rewind` and `rekey`: back in the log, and to another number of partitions. Both need that
// no daemon runs, and take the fences, so that one that is merely asleep can write nothing afterwards.
#include "state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* ---- rewind ---------------------------------------------------------------------------------------------------- */

/* "earliest", an offset, or a time such as 2026-03-01T06:00:00Z. */
static int parse_to(const char *to, int64_t *offset, int64_t *time_ms, struct error *err)
{
    char *end;
    struct tm tm = {0};
    *offset = *time_ms = -1;
    if (!to)
        return error_set(err, "--to is missing: an offset, a time like 2026-03-01T06:00:00Z, or earliest");
    if (strcmp(to, "earliest") == 0)
        return 0;
    errno = 0;
    *offset = strtoll(to, &end, 10);
    if (*to && *end == 0 && errno == 0 && *offset >= 0)
        return 0;
    *offset = -1;
    end = strptime(to, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end || strcmp(end, "Z") != 0)
        return error_set(err, "--to: '%s' is no offset, no time like 2026-03-01T06:00:00Z (UTC) and not earliest", to);
    *time_ms = (int64_t)timegm(&tm) * 1000;
    return 0;
}

static int find_offset(struct offline *o, int32_t p, int64_t wanted, int64_t time_ms, int64_t *offset,
                       struct error *err)
{
    int64_t low, high;
    if (offline_log_range(o, p, &low, &high, err) < 0)
        return -1;
    if (time_ms >= 0)
        return offline_log_at(o, p, time_ms, offset, err);
    *offset = wanted < 0 ? low : wanted;
    if (*offset < low || *offset > high)
        return error_set(err, "partition %d: offset %" PRId64 " is not there, the log holds "
                                                              "%" PRId64 " to %" PRId64, p, *offset,
                         low, high);
    return 0;
}

/* Without W first: interrupted after it, a daemon begins at the start of the log. */
static int rewind_partition(struct offline *o, int32_t p, int64_t offset, struct error *err)
{
    const struct offline_place none = {OFFSET_NONE, OFFSET_NONE};
    const struct offline_place place = {offset, OFFSET_NONE}; /* the tombstones go with the records: erase again */
    if (offline_place_set(o, p, &none, err) < 0 || state_clear(o, p, err) < 0 ||
        offline_commit(o, p, offset, err) < 0 || offline_place_set(o, p, &place, err) < 0)
        return -1;
    printf("partition %d: reading begins at %" PRId64 "\n", p, offset);
    return 0;
}

int state_rewind(const struct state_call *call, struct error *err)
{
    int64_t wanted, time_ms, offset;
    int32_t partitions;
    if (parse_to(call->to, &wanted, &time_ms, err) < 0 || offline_partitions(call->offline, &partitions, err) < 0)
        return -1;
    if (call->partition >= partitions)
        return error_set(err, "there is no partition %d; there are %d", call->partition, partitions);
    if (wanted >= 0 && call->partition < 0 && partitions > 1)
        return error_set(err, "an offset means one partition: say which by --partition");
    if (offline_no_daemons(call->offline, err) < 0)
        return -1;
    if (!call->yes)
        return error_set(err, "this deletes the records of %s, which then contain nothing that lies before that place "
                              "in the log, and the daemons produce all scores and alerts from there once more; say "
                              "--yes to do it",
                         call->partition < 0 ? "all partitions" : "the partition");
    for (int32_t p = 0; p < partitions; p++) {
        if (call->partition >= 0 && call->partition != p)
            continue;
        if (find_offset(call->offline, p, wanted, time_ms, &offset, err) < 0 ||
            rewind_partition(call->offline, p, offset, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- rekey ----------------------------------------------------------------------------------------------------- */

enum { RECORD_SUM_AT = 8, RECORD_NEXT_AT = 16, RECORD_TOUCHED_AT = 32, RECORD_HEAD_BYTES = 40 };

struct rekey {
    struct offline *offline;
    int32_t from, partitions;
    uint64_t moved, stayed;
};

static int64_t touched_of(const uint8_t *bytes)
{
    int64_t touched_ms;
    memcpy(&touched_ms, bytes + RECORD_TOUCHED_AT, sizeof touched_ms);
    return touched_ms;
}

/* A user who was erased has a tombstone in every partition; the one that was touched last has what came after it. */
static int is_newer(const struct rekey *r, int32_t to, struct str name, const uint8_t *bytes, struct error *err)
{
    uint8_t *there = NULL;
    size_t n = 0;
    int rc = offline_get(r->offline, to, name, &there, &n, err);
    int newer = rc < 0 ? -1 : rc == 0 || n < RECORD_HEAD_BYTES || touched_of(bytes) > touched_of(there);
    free(there);
    return newer;
}

/* No event of the new partition is contained in it. */
static int move(const struct rekey *r, int32_t to, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms,
                struct error *err)
{
    int64_t next = OFFSET_NONE;
    uint8_t *copy = malloc(n);
    if (!copy)
        return error_set(err, "out of memory for a record of %zu bytes", n);
    memcpy(copy, bytes, n);
    memcpy(copy + RECORD_NEXT_AT, &next, sizeof next);
    uint64_t sum = XXH3_64bits(copy + RECORD_NEXT_AT, n - RECORD_NEXT_AT);
    memcpy(copy + RECORD_SUM_AT, &sum, sizeof sum);
    int rc = offline_put(r->offline, to, name, copy, n, ttl_ms, err);
    free(copy);
    return rc;
}

static int on_record(void *self, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms, struct error *err)
{
    struct rekey *r = self;
    int32_t to = offline_partition_of(name, r->partitions);
    if (to == r->from || n < RECORD_HEAD_BYTES) {
        r->stayed++;
        return 0;
    }
    int newer = is_newer(r, to, name, bytes, err);
    if (newer < 0 || (newer && move(r, to, name, bytes, n, ttl_ms, err) < 0))
        return -1;
    r->moved++;
    return offline_delete(r->offline, r->from, name, err);
}

/* Everything that was produced before must be in the records: afterwards it would be looked for elsewhere. */
static int check_drained(struct offline *o, int32_t partitions, int64_t *erased, struct error *err)
{
    *erased = INT64_MAX;
    for (int32_t p = 0; p < partitions; p++) {
        struct offline_place place;
        int64_t low, high;
        if (offline_place(o, p, &place, err) < 0 || offline_log_range(o, p, &low, &high, err) < 0)
            return -1;
        if (high > low && place.at < high)
            return error_set(err, "partition %d is not drained: its events up to "
                                  "%" PRId64 " are saved, it has %" PRId64 "; stop "
                             "the producers and let the daemons work it off", p, place.at, high);
        if (place.erased < *erased)
            *erased = place.erased;
    }
    return 0;
}

int state_rekey(const struct state_call *call, struct error *err)
{
    struct rekey r = {.offline = call->offline, .partitions = call->partitions};
    int32_t old, now;
    int64_t erased;
    if (offline_no_daemons(r.offline, err) < 0 || offline_meta(r.offline, &old, err) < 0 ||
        offline_partitions(r.offline, &now, err) < 0)
        return -1;
    if (r.partitions != now)
        return error_set(err, "--partitions is %d, but the topic has %d: change the topic first", r.partitions, now);
    if (old == 0)
        return error_set(err, "the store does not know of how many partitions its records are; there is nothing to "
                              "move");
    if (check_drained(r.offline, old, &erased, err) < 0)
        return -1;
    if (!call->yes)
        return error_set(err, "this moves the records of %d partitions to %d, by the rule of Java's producers (murmur2 "
                              "of the user id as key); say --yes to do it", old, now);
    for (int32_t p = 0; p < old || p < now; p++) {
        int64_t low, high;
        if (p < now && offline_log_range(r.offline, p, &low, &high, err) < 0)
            return -1;
        const struct offline_place place = {p < now ? high : OFFSET_NONE, erased};
        if (offline_place_set(r.offline, p, &place, err) < 0 ||
            (p >= old && offline_commit(r.offline, p, high, err) < 0))
            return -1;
    }
    for (r.from = 0; r.from < old; r.from++)
        if (offline_records(r.offline, r.from, on_record, &r, err) < 0)
            return -1;
    printf("%" PRIu64 " records moved, %" PRIu64 " stay where they are\n", r.moved, r.stayed);
    return offline_meta_set(r.offline, now, err);
}
