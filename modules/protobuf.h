/* SPDX-License-Identifier: Apache-2.0 */
/* protobuf.h - the wire format of Protocol Buffers, as much as ONNX files need: numbers, byte strings and messages in
 * messages. (https://protobuf.dev/programming-guides/encoding) A generated parser would bring a compiler and a library
 * into the build for nine small messages.
 *
 * Reading trusts nothing: a length past the end, an endless number or an unknown wire type sets `failed`, and then
 * there are no more fields. What is read points into the bytes given. */
#ifndef MODULES_PROTOBUF_H
#define MODULES_PROTOBUF_H

#include "gait/str.h"

enum { PROTOBUF_VARINT = 0, PROTOBUF_FIXED64 = 1, PROTOBUF_BYTES = 2, PROTOBUF_FIXED32 = 5 };

struct protobuf_in {
    const uint8_t *at, *end;
    bool failed;
};

struct protobuf_field {
    uint32_t number;
    int wire;
    uint64_t value;              /* VARINT, FIXED64, FIXED32: its bits */
    const uint8_t *bytes;        /* BYTES; n = 0 of the others, so that a mistaken reader finds nothing, not NULL */
    size_t n;
};

/* The next field; false at the end or after a failure. */
bool protobuf_next(struct protobuf_in *in, struct protobuf_field *field);
uint64_t protobuf_varint(struct protobuf_in *in);
static inline struct protobuf_in protobuf_inside(const struct protobuf_field *field)
{
    return (struct protobuf_in){.at = field->bytes, .end = field->bytes + field->n};
}
static inline bool protobuf_text_is(const struct protobuf_field *field, const char *text)
{
    return field->n == strlen(text) && memcmp(field->bytes, text, field->n) == 0;
}

/* A message that grows. Begin with zero; protobuf_free() gives the memory back. */
struct protobuf_out {
    uint8_t *at;
    size_t n, cap;
};

void protobuf_put_number(struct protobuf_out *out, uint32_t field, uint64_t value);
void protobuf_put_bytes(struct protobuf_out *out, uint32_t field, const void *bytes, size_t n);
void protobuf_put_text(struct protobuf_out *out, uint32_t field, const char *text);
/* Takes the message over: it is empty afterwards. */
void protobuf_put_message(struct protobuf_out *out, uint32_t field, struct protobuf_out *message);
void protobuf_free(struct protobuf_out *out);

#endif
