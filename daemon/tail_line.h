/* SPDX-License-Identifier: Apache-2.0 */
/* tail_line.h - a score or an alert as a line for people. */
#ifndef GAIT_TAIL_LINE_H
#define GAIT_TAIL_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct tail_form {
    const char *user;    /* only of this one; NULL = all */
    bool json;           /* the bytes as they came */
    bool colours;
};

/* Whether a line was written: it is of that user, and JSON. */
bool tail_line(FILE *out, const char *bytes, size_t n, const struct tail_form *form);

#endif
