/* SPDX-License-Identifier: Apache-2.0 */
/* state_file.h - a backup of records: one file, written and read as a stream.
 *
 *   gzip of: "GAITBAK1" | i32 partitions of the input |
 *            for each partition: 'P' i32 id, i64 W, i64 W of the erasures | its records: 'R' u32 name length,
 *            u32 length, i64 milliseconds to live (0 = for ever), name, bytes |
 *            'E' u64 records in all, u64 XXH3 of everything before the sum
 * Little-endian. Whatever is cut short or changed is refused. */
#ifndef GAIT_STATE_FILE_H
#define GAIT_STATE_FILE_H

#include "gait/offline.h"

struct state_file;

struct state_file *state_file_create(const char *path, int32_t partitions, struct error *err);
int state_file_partition(struct state_file *f, int32_t id, const struct offline_place *place, struct error *err);
int state_file_record(struct state_file *f, struct str name, const uint8_t *bytes, size_t n, int64_t ttl_ms,
                      struct error *err);
int state_file_finish(struct state_file *f, uint64_t *records, struct error *err); /* on the disk, under its name */
void state_file_destroy(struct state_file **f); /* an unfinished one leaves nothing behind */

/* What a file holds, in order. */
struct state_reader {
    void *self;
    int (*partition)(void *self, int32_t id, const struct offline_place *place, struct error *err);
    offline_record *record;
};
/* `reader` NULL: only check it to its end. -1 with a text. */
int state_file_read(const char *path, const struct state_reader *reader, int32_t *partitions, uint64_t *records,
                    struct error *err);

#endif
