/* SPDX-License-Identifier: Apache-2.0 */
/* str.h - a borrowed slice of bytes: not owned, not terminated. */
#ifndef GAIT_STR_H
#define GAIT_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *at; /* NULL when absent */
    uint32_t len;   /* bytes */
};

static inline struct str str_of(const char *text)
{
    return (struct str){text, text ? (uint32_t)strlen(text) : 0};
}

static inline bool str_equal(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool str_is(struct str a, const char *text)
{
    return str_equal(a, str_of(text));
}

#endif
