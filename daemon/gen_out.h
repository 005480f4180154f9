/* SPDX-License-Identifier: Apache-2.0 */
/* gen_out.h - where `gaitd gen` writes: standard output, a file (gzip when it ends in .gz), or a Kafka topic. */
#ifndef GAIT_GEN_OUT_H
#define GAIT_GEN_OUT_H

#include "gait/error.h"

#include <stdbool.h>
#include <stddef.h>

struct gen_out;

/* "-" is standard output. NULL with a text. */
struct gen_out *gen_out_file(const char *path, struct error *err);

/* `set` are n further librdkafka properties, each "key=value". `prompt` sends each event at once instead of collecting
 * for some milliseconds. NULL with a text. */
struct gen_out *gen_out_kafka(const char *brokers, const char *topic, const char *const *set, size_t n, bool prompt,
                              struct error *err);

/* One line with its newline (a topic gets it without). `key` is the user: all events of one stay in order. Waits while
 * the output is full. -1 with a text. */
int gen_out_write(struct gen_out *out, const char *key, size_t key_len, const char *line, size_t len,
                  struct error *err);

/* Hand on what is buffered; called before a pause. */
int gen_out_push(struct gen_out *out, struct error *err);

/* Everything written or acknowledged, or -1 with a text that says how much is not. Frees in both cases. */
int gen_out_close(struct gen_out **out, struct error *err);

#endif
