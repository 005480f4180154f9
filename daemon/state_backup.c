// SPDX-License-Identifier: Apache-2.0
// state_backup.c - `gaitd state export` and `import`: the records of all partitions to a file and back.
//
// An export is consistent for each partition while daemons run, though it takes its time: W is read first, the records
// after it. Each record says by its `next` which events it contains, so one that has moved on since is no fault: events
// between W and `next` are passed over when the log is replayed. What must never be is a W beyond a record, and that
// cannot happen when W is older than all records. The same holds for the erasures.
#include "state.h"
#include "state_file.h"

#include <inttypes.h>
#include <stdio.h>

int state_partitions(const struct state_call *call, int32_t *partitions, struct error *err)
{
    if (offline_meta(call->offline, partitions, err) < 0)
        return -1;
    return *partitions > 0 ? 0 : offline_partitions(call->offline, partitions, err);
}

static int on_exported(void *self, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms, struct error *err)
{
    return state_file_record(self, name, bytes, n, ttl_ms, err);
}

static int export_partition(const struct state_call *call, struct state_file *f, int32_t p, struct error *err)
{
    struct offline_place place;
    if (offline_place(call->offline, p, &place, err) < 0 || state_file_partition(f, p, &place, err) < 0)
        return -1;
    return offline_records(call->offline, p, on_exported, f, err);
}

int state_export(const struct state_call *call, struct error *err)
{
    int32_t partitions;
    uint64_t records;
    if (state_partitions(call, &partitions, err) < 0)
        return -1;
    if (call->partition >= partitions)
        return error_set(err, "there is no partition %d; there are %d", call->partition, partitions);
    struct state_file *f = state_file_create(call->operand, partitions, err);
    int rc = f ? 0 : -1;
    for (int32_t p = 0; p < partitions && rc == 0; p++)
        if (call->partition < 0 || call->partition == p)
            rc = export_partition(call, f, p, err);
    if (rc == 0)
        rc = state_file_finish(f, &records, err);
    if (rc == 0)
        printf("%" PRIu64 " records of %d partitions written to %s\n", records, call->partition < 0 ? partitions : 1,
               call->operand);
    state_file_destroy(&f);
    return rc;
}

/* ---- import ---------------------------------------------------------------------------------------------------- */

static int on_deleted(void *self, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms, struct error *err)
{
    const struct state_call *call = self;
    (void)bytes, (void)n, (void)ttl_ms;
    return offline_delete(call->offline, call->partition, name, err);
}

int state_clear(struct offline *o, int32_t partition, struct error *err)
{
    struct state_call call = {.offline = o, .partition = partition};
    return offline_records(o, partition, on_deleted, &call, err);
}

struct restore {
    const struct state_call *call;
    int32_t partition;         /* whose records come now; -1 = none */
    bool wanted;
    struct offline_place place;
    int32_t done;
};

/* W last: whoever is interrupted before it leaves a partition without W, which a daemon replays from the log's
 * beginning. */
static int restore_end(struct restore *r, struct error *err)
{
    if (r->partition < 0 || !r->wanted)
        return 0;
    r->done++;
    return offline_place_set(r->call->offline, r->partition, &r->place, err);
}

static int on_partition(void *self, int32_t id, const struct offline_place *place, struct error *err)
{
    struct restore *r = self;
    const struct offline_place none = {OFFSET_NONE, OFFSET_NONE};
    if (restore_end(r, err) < 0)
        return -1;
    r->partition = id;
    r->place = *place;
    r->wanted = r->call->partition < 0 || r->call->partition == id;
    if (!r->wanted)
        return 0;
    return offline_place_set(r->call->offline, id, &none, err) < 0 || state_clear(r->call->offline, id,
                                                                                  err) < 0 ? -1 : 0;
}

static int on_restored(void *self, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms, struct error *err)
{
    struct restore *r = self;
    return r->wanted ? offline_put(r->call->offline, r->partition, name, bytes, n, ttl_ms, err) : 0;
}

/* The file is read twice: nothing is touched before all of it is known to be whole. */
int state_import(const struct state_call *call, struct error *err)
{
    int32_t partitions, now;
    uint64_t records;
    struct restore r = {.call = call, .partition = -1};
    const struct state_reader reader = {.self = &r, .partition = on_partition, .record = on_restored};
    if (state_file_read(call->operand, NULL, &partitions, &records, err) < 0 || state_partitions(call, &now, err) < 0)
        return -1;
    if (partitions != now)
        return error_set(err, "%s holds the records of %d partitions, but there are %d now: users are in other "
                              "partitions",
                         call->operand, partitions, now);
    if (call->config && offline_no_daemons(call->offline, err) < 0)
        return -1;
    if (!call->yes)
        return error_set(err, "this replaces the records of %s by the %" PRIu64 " in %s; say --yes to do it",
                         call->partition < 0 ? "all partitions" : "the partition", records, call->operand);
    if (state_file_read(call->operand, &reader, &partitions, &records, err) < 0 || restore_end(&r, err) < 0)
        return -1;
    printf("%d partitions restored from %s; the log refills what came later\n", r.done, call->operand);
    return offline_meta_set(call->offline, partitions, err);
}
