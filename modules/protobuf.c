// SPDX-License-Identifier: Apache-2.0
// protobuf.c - fields out of bytes and into bytes. The caller owns the bytes that are read, and what is written until
// it frees it or gives it to another message.
#include "protobuf.h"

#include <assert.h>
#include <stdlib.h>

enum { VARINT_BYTES_MAX = 10 };

/* ---- reading ---------------------------------------------------------------------------------------------------- */

uint64_t protobuf_varint(struct protobuf_in *in)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && in->at < in->end; i++) {
        uint8_t byte = *in->at++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80))
            return value;
    }
    in->failed = true;
    return 0;
}

static uint64_t fixed(struct protobuf_in *in, size_t bytes)
{
    uint64_t value = 0;
    if ((size_t)(in->end - in->at) < bytes) {
        in->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)in->at[i] << (8 * i);
    in->at += bytes;
    return value;
}

bool protobuf_next(struct protobuf_in *in, struct protobuf_field *field)
{
    if (in->failed || in->at == in->end)
        return false;
    uint64_t key = protobuf_varint(in);
    *field = (struct protobuf_field){.number = (uint32_t)(key >> 3), .wire = (int)(key & 7), .bytes = in->at};
    switch (field->wire) {
    case PROTOBUF_VARINT: field->value = protobuf_varint(in); break;
    case PROTOBUF_FIXED64: field->value = fixed(in, 8); break;
    case PROTOBUF_FIXED32: field->value = fixed(in, 4); break;
    case PROTOBUF_BYTES: {
        uint64_t n = protobuf_varint(in);
        if (in->failed || n > (uint64_t)(in->end - in->at)) {
            in->failed = true;
            break;
        }
        field->bytes = in->at;
        field->n = n;
        in->at += n;
        break;
    }
    default: in->failed = true;
    }
    return !in->failed;
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static void append(struct protobuf_out *out, const void *bytes, size_t n)
{
    if (out->n + n > out->cap) {
        out->cap = 2 * out->cap > out->n + n ? 2 * out->cap : out->n + n + 64;
        out->at = realloc(out->at, out->cap);
        assert(out->at);
    }
    if (n)
        memcpy(out->at + out->n, bytes, n);
    out->n += n;
}

static void append_varint(struct protobuf_out *out, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (uint8_t)value | 0x80;
    bytes[n++] = (uint8_t)value;
    append(out, bytes, n);
}

void protobuf_put_number(struct protobuf_out *out, uint32_t field, uint64_t value)
{
    append_varint(out, (uint64_t)field << 3 | PROTOBUF_VARINT);
    append_varint(out, value);
}

void protobuf_put_bytes(struct protobuf_out *out, uint32_t field, const void *bytes, size_t n)
{
    append_varint(out, (uint64_t)field << 3 | PROTOBUF_BYTES);
    append_varint(out, n);
    append(out, bytes, n);
}

void protobuf_put_text(struct protobuf_out *out, uint32_t field, const char *text)
{
    protobuf_put_bytes(out, field, text, strlen(text));
}

void protobuf_put_message(struct protobuf_out *out, uint32_t field, struct protobuf_out *message)
{
    protobuf_put_bytes(out, field, message->at, message->n);
    protobuf_free(message);
}

void protobuf_free(struct protobuf_out *out)
{
    free(out->at);
    *out = (struct protobuf_out){0};
}
