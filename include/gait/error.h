/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - how a function that opens, parses or validates says what went wrong.
 *
 * Such a function returns -1 (or NULL) and fills the caller's `struct error` with one sentence that names the thing,
 * the value found and what would be right. It never prints and never exits. */
#ifndef GAIT_ERROR_H
#define GAIT_ERROR_H

struct error {
    char text[2048];
};

/* Write the text (cut to fit) and return -1, so that callers can `return error_set(err, …)`. `err` may be NULL. */
int error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One more text, on a line of its own: for who collects several mistakes; returns -1. */
int error_also(struct error *err, const char *text);

/* Put "PREFIX: " before the text that is there; returns -1. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
