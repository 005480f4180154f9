// SPDX-License-Identifier: Apache-2.0
// record.c - a user record as bytes: the frame here, each section by its module's `record` function.
//
// Bytes from a store are never trusted: every length is checked before it is used, and a record that fails anywhere is
// refused as a whole, with zeroed sections left behind.
#include "engine.h"

#include <assert.h>
#include <math.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { RECORD_FORMAT = 1, RECORD_DEGRADED = 1, RECORD_TOMBSTONE = 2 };
enum { RECORD_SUM_FROM = 16 }; /* the checksum covers everything behind itself */

static bool record_room(struct record_io *io, size_t n)
{
    if (!io->failed && (size_t)(io->end - io->at) < n)
        io->failed = true;
    return !io->failed;
}

void record_bytes(struct record_io *io, void *bytes, size_t n)
{
    if (!record_room(io, n))
        return;
    if (io->writing)
        memcpy(io->at, bytes, n);
    else
        memcpy(bytes, io->at, n);
    io->at += n;
}

void record_u8(struct record_io *io, uint8_t *value)
{
    record_bytes(io, value, sizeof *value);
}

/* Little-endian on the wire; every machine we run on is, and the assertion below says so to those that are not. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian");

void record_u16(struct record_io *io, uint16_t *value)
{
    record_bytes(io, value, sizeof *value);
}

void record_u32(struct record_io *io, uint32_t *value)
{
    record_bytes(io, value, sizeof *value);
}

void record_u64(struct record_io *io, uint64_t *value)
{
    record_bytes(io, value, sizeof *value);
}

void record_i64(struct record_io *io, int64_t *value)
{
    record_bytes(io, value, sizeof *value);
}

void record_f32(struct record_io *io, float *value)
{
    record_f32s(io, value, 1);
}

void record_f64(struct record_io *io, double *value)
{
    record_bytes(io, value, sizeof *value);
    if (!io->writing && !io->failed && !isfinite(*value))
        io->failed = true;
}

void record_f32s(struct record_io *io, float *values, size_t n)
{
    record_bytes(io, values, n * sizeof *values);
    if (io->writing || io->failed)
        return;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            io->failed = true;
}

/* ---- frame ----------------------------------------------------------------------------------------------------- */

static bool has_section(const struct instance *in)
{
    return in->module->record && in->user_size > 0;
}

static void write_section(struct record_io *io, struct instance *in, struct user *user)
{
    const char *name = in->module->name;
    uint8_t name_len = (uint8_t)strlen(name);
    uint16_t version = in->module->record_version;
    uint32_t len = 0;
    record_u8(io, &name_len);
    record_bytes(io, (void *)(uintptr_t)name, name_len);
    record_u16(io, &version);
    uint8_t *len_at = io->at;
    record_u32(io, &len);
    uint8_t *from = io->at;
    io->version = version;
    in->module->record(in, user, io);
    if (io->failed)
        return;
    len = (uint32_t)(io->at - from);
    memcpy(len_at, &len, sizeof len);
}

size_t record_encode(struct engine *e, struct user *user, uint8_t *out, size_t cap)
{
    struct record_io io = {.at = out, .end = out + cap, .writing = true};
    uint8_t format = RECORD_FORMAT;
    uint8_t flags = (user->degraded ? RECORD_DEGRADED : 0) | (user->erased_ms != INT64_MIN ? RECORD_TOMBSTONE : 0);
    uint16_t sections = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < e->instances_n; i++)
        sections += has_section(&e->instances[i]);
    record_bytes(&io, (void *)(uintptr_t)"GAIT", 4);
    record_u8(&io, &format);
    record_u8(&io, &flags);
    record_u16(&io, &sections);
    record_u64(&io, &sum);
    record_i64(&io, &user->next);
    record_i64(&io, &user->erased_ms);
    record_i64(&io, &user->touched_ms);
    for (size_t i = 0; i < e->instances_n; i++)
        if (has_section(&e->instances[i]))
            write_section(&io, &e->instances[i], user);
    if (io.failed)
        return 0;
    size_t n = (size_t)(io.at - out);
    sum = XXH3_64bits(out + RECORD_SUM_FROM, n - RECORD_SUM_FROM);
    memcpy(out + 8, &sum, sizeof sum);
    return n;
}

static struct instance *section_owner(struct engine *e, const char *name, size_t len)
{
    for (size_t i = 0; i < e->instances_n; i++) {
        const char *own = e->instances[i].module->name;
        if (has_section(&e->instances[i]) && strlen(own) == len && memcmp(own, name, len) == 0)
            return &e->instances[i];
    }
    return NULL;
}

static int read_section(struct engine *e, struct record_io *io, struct user *user, struct error *err)
{
    uint8_t name_len = 0;
    char name[256];
    uint16_t version = 0;
    uint32_t len = 0;
    record_u8(io, &name_len);
    record_bytes(io, name, name_len);
    record_u16(io, &version);
    record_u32(io, &len);
    if (!record_room(io, len))
        return error_set(err, "cut short in a section's head");
    struct instance *in = section_owner(e, name, name_len);
    struct record_io part = {.at = io->at, .end = io->at + len, .version = version};
    io->at += len;
    if (!in)
        return 0; /* another configuration's; its state is not ours to keep */
    if (version == 0 || version > in->module->record_version)
        return error_set(err, "section %s has version %u, this program knows up to %u", in->module->name, version,
                         in->module->record_version);
    in->module->record(in, user, &part);
    if (part.failed || part.at != part.end)
        return error_set(err, "section %s does not hold what its version says", in->module->name);
    return 0;
}

static int read_frame(struct engine *e, struct user *user, const uint8_t *bytes, size_t n, struct error *err)
{
    struct record_io io = {.at = (uint8_t *)(uintptr_t)bytes, .end = (uint8_t *)(uintptr_t)bytes + n};
    char magic[4] = "";
    uint8_t format = 0, flags = 0;
    uint16_t sections = 0;
    uint64_t sum = 0;
    record_bytes(&io, magic, 4);
    record_u8(&io, &format);
    record_u8(&io, &flags);
    record_u16(&io, &sections);
    record_u64(&io, &sum);
    if (io.failed || memcmp(magic, "GAIT", 4) != 0)
        return error_set(err, "%zu bytes that are no record", n);
    if (format != RECORD_FORMAT)
        return error_set(err, "format %u, this program knows %u", format, RECORD_FORMAT);
    if (sum != XXH3_64bits(bytes + RECORD_SUM_FROM, n - RECORD_SUM_FROM))
        return error_set(err, "wrong checksum");
    record_i64(&io, &user->next);
    record_i64(&io, &user->erased_ms);
    record_i64(&io, &user->touched_ms);
    if (io.failed || user->next < -1)
        return error_set(err, "cut short");
    user->degraded = flags & RECORD_DEGRADED;
    for (unsigned i = 0; i < sections; i++)
        if (read_section(e, &io, user, err) < 0)
            return -1;
    return io.at == io.end ? 0 : error_set(err, "%zu bytes too long", (size_t)(io.end - io.at));
}

void record_empty(struct engine *e, struct user *user)
{
    for (size_t i = 0; i < e->instances_n; i++)
        if (has_section(&e->instances[i]))
            memset(user_section(user, e->instances[i].user_offset), 0, e->instances[i].user_size);
    users_blocks_drop(e->users, user);
    user->next = -1;
    user->degraded = false;
}

int record_decode(struct engine *e, struct user *user, const uint8_t *bytes, size_t n, struct error *err)
{
    assert(user->state == USER_LOADING);
    int rc = read_frame(e, user, bytes, n, err);
    if (rc < 0) {
        user->next = -1;
        user->erased_ms = INT64_MIN;
        user->touched_ms = 0;
        user->degraded = false;
        users_blocks_drop(e->users, user);
        size_t from = users_sections_offset(e->users);
        memset(user_section(user, from), 0, users_slot_bytes(e->users) - from);
    }
    return rc;
}

/* Sections are written more compactly than they lie in memory, or as large; names, versions and lengths come on top. */
size_t record_bytes_max(struct engine *e)
{
    return 512 + e->instances_n * 300 + users_slot_bytes(e->users) * (USER_BLOCKS_MAX + 1);
}
