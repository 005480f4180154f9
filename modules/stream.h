/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - the bytes of a file, a pipe or standard input, unpacked when they are gzip or zstd (told by their first
 * bytes, not by the name). Never waits for a pipe: it says so, and the caller watches the descriptor. */
#ifndef GAIT_STREAM_H
#define GAIT_STREAM_H

#include "gait/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct stream;

enum {
    STREAM_END = 0,
    STREAM_WAIT = -1,   /* a pipe with nothing in it just now */
    STREAM_BROKEN = -2, /* read error or damaged archive; stream_problem() says which */
};

/* `path` "-" is standard input (not closed with the stream). NULL with a text. */
struct stream *stream_open(const char *path, struct error *err);
void stream_close(struct stream **stream);

/* Bytes read (> 0), or one of the above. After STREAM_END more may come when the file has grown. */
ssize_t stream_read(struct stream *stream, void *buf, size_t cap);
const char *stream_problem(const struct stream *stream);

int stream_fd(const struct stream *stream);
bool stream_is_file(const struct stream *stream);   /* regular: can be followed and sought */
bool stream_is_packed(const struct stream *stream); /* known after the first read only */
const struct stat *stream_stat(const struct stream *stream); /* as it was when opened */

/* Go to `offset` of a plain regular file nothing of which was read yet. False: it is something else, or shorter. */
bool stream_seek(struct stream *stream, int64_t offset);
/* True when a regular file has become shorter than what was read of it; reading then begins at its start again. */
bool stream_restart_truncated(struct stream *stream);

#endif
