// SPDX-License-Identifier: Apache-2.0
// model_numpy.c - tensors from numpy's .npz: a zip archive of .npy files, stored or deflated. The archive is read by
// its central directory, which has the true sizes also when it was written as a stream.
#include "model_foreign.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

enum { END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30, COMMENT_MAX = 65535, STORED = 0, DEFLATED = 8 };
static const size_t member_bytes_max = (size_t)1 << 32;

static uint32_t u16_at(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8;
}

static uint32_t u32_at(const uint8_t *at)
{
    return u16_at(at) | u16_at(at + 2) << 16;
}

/* ---- .npy ------------------------------------------------------------------------------------------------------- */

/* The text behind 'KEY': in the header, which is a Python dictionary; NULL when it is not there. */
static const char *header_value(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(header, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static int header_shape(const char *at, uint32_t *dims, size_t *shape)
{
    if (!at || *at++ != '(')
        return -1;
    for (*dims = 0; *dims < FOREIGN_DIMS_MAX;) {
        at += strspn(at, " ,");
        if (*at == ')')
            return 0;
        char *end;
        unsigned long long size = strtoull(at, &end, 10);
        if (end == at || *at == '-')
            return -1;
        shape[(*dims)++] = (size_t)size;
        at = end;
    }
    at += strspn(at, " ,");
    return *at == ')' ? 0 : -1;
}

static int read_npy(struct foreign *f, const char *name, const uint8_t *at, size_t n, struct error *err)
{
    static const char magic[] = "\x93NUMPY";
    if (n < 12 || memcmp(at, magic, 6) != 0)
        return error_set(err, "member %.80s is not a .npy file", name);
    size_t begin = at[6] == 1 ? 10 : 12, length = at[6] == 1 ? u16_at(at + 8) : u32_at(at + 8);
    if (length > n - begin)
        return error_set(err, "member %.80s is cut short", name);
    char *header = strndup((const char *)at + begin, length);
    assert(header);
    const char *type = header_value(header, "descr"), *order = header_value(header, "fortran_order");
    uint32_t dims;
    size_t shape[FOREIGN_DIMS_MAX];
    int known = !type ? -1 : strncmp(type, "'<f4'", 5) == 0 ? FOREIGN_F32 : strncmp(type, "'<f8'", 5) == 0 ? FOREIGN_F64
              : strncmp(type, "'<f2'", 5) == 0 ? FOREIGN_F16 : -1;
    int result = 0;
    if (known >= 0 && (!order || strncmp(order, "False", 5) != 0))
        result = error_set(err, "array %.80s is in Fortran order; save it with numpy.ascontiguousarray", name);
    else if (known >= 0 && header_shape(header_value(header, "shape"), &dims, shape) < 0)
        result = error_set(err, "array %.80s: its shape cannot be read, or has more than %d dimensions", name,
                           FOREIGN_DIMS_MAX);
    else if (known >= 0) /* another type is no weight: passed over */
        result = foreign_add_bytes(f, name, dims, shape, (enum foreign_type)known, at + begin + length,
                                   n - begin - length, err);
    free(header);
    return result;
}

/* ---- zip -------------------------------------------------------------------------------------------------------- */

static bool inflate_all(const uint8_t *from, size_t from_n, uint8_t *to, size_t to_n)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)from, .avail_in = (uInt)from_n, .next_out = to,
                  .avail_out = (uInt)to_n};
    if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
        return false;
    bool ok = inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_out == 0;
    inflateEnd(&z);
    return ok;
}

static int read_member(struct foreign *f, const struct foreign_file *file, const uint8_t *entry, struct error *err)
{
    uint32_t method = u16_at(entry + 10), packed = u32_at(entry + 20), size = u32_at(entry + 24);
    uint32_t name_n = u16_at(entry + 28), local = u32_at(entry + 42);
    char name[FOREIGN_NAME_MAX + 1];
    if (name_n > FOREIGN_NAME_MAX)
        return error_set(err, "a member's name is longer than %d bytes", FOREIGN_NAME_MAX);
    memcpy(name, entry + ENTRY_BYTES, name_n);
    name[name_n] = 0;
    if (name_n > 4 && strcmp(name + name_n - 4, ".npy") == 0)
        name[name_n - 4] = 0;
    if (size >= member_bytes_max - 1 || (method != STORED && method != DEFLATED))
        return error_set(err, "member %.80s is larger than 4 GB, or packed in an unknown way", name);
    if (file->n < LOCAL_BYTES || local > file->n - LOCAL_BYTES || u32_at(file->at + local) != 0x04034b50)
        return error_set(err, "member %.80s is not where the directory says: damaged", name);
    size_t at = (size_t)local + LOCAL_BYTES + u16_at(file->at + local + 26) + u16_at(file->at + local + 28);
    if (at > file->n || packed > file->n - at || (method == STORED && packed != size))
        return error_set(err, "member %.80s is cut short", name);
    if (method == STORED)
        return read_npy(f, name, file->at + at, size, err);
    /* Deflate packs at most 1,032 to one: a short file must not ask for much memory. */
    uint8_t *plain = size / 1100 <= packed ? malloc(size + 1) : NULL;
    int result = plain && inflate_all(file->at + at, packed, plain, size)
                     ? read_npy(f, name, plain, size, err) : error_set(err, "member %.80s is damaged", name);
    free(plain);
    return result;
}

int foreign_read_npz(struct foreign *f, const struct foreign_file *file, struct error *err)
{
    size_t end = file->n >= END_BYTES ? file->n - END_BYTES : 0, lowest = end > COMMENT_MAX ? end - COMMENT_MAX : 0;
    while (end > lowest && u32_at(file->at + end) != 0x06054b50)
        end--;
    if (file->n < END_BYTES || u32_at(file->at + end) != 0x06054b50)
        return error_set(err, "not a zip archive, or cut short: numpy.savez writes one");
    uint32_t members = u16_at(file->at + end + 10);
    size_t at = u32_at(file->at + end + 16);
    for (uint32_t i = 0; i < members; i++) {
        if (at > file->n || file->n - at < ENTRY_BYTES || u32_at(file->at + at) != 0x02014b50)
            return error_set(err, "the archive's directory is damaged");
        const uint8_t *entry = file->at + at;
        size_t bytes = ENTRY_BYTES + u16_at(entry + 28) + u16_at(entry + 30) + u16_at(entry + 32);
        if (file->n - at < bytes)
            return error_set(err, "the archive's directory is damaged");
        if (read_member(f, file, entry, err) < 0)
            return -1;
        at += bytes;
    }
    return 0;
}
