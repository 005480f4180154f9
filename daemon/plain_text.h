/* SPDX-License-Identifier: Apache-2.0 */
/* plain_text.h - what events carry, on a terminal: control characters would be commands to it. */
#ifndef GAIT_PLAIN_TEXT_H
#define GAIT_PLAIN_TEXT_H

#include <stdio.h>

/* UTF-8 as it is; control characters, also those that UTF-8 writes as C2 80 to C2 9F, as '?'. At most `most` bytes, cut
 * between characters. NULL is "-". */
static inline void plain_text(FILE *out, const char *text, size_t most)
{
    const unsigned char *c = (const unsigned char *)(text ? text : "-");
    for (; *c && (most > 0 || (*c & 0xC0) == 0x80); c++, most -= most > 0) {
        if (*c == 0xC2 && c[1] >= 0x80 && c[1] < 0xA0)
            c++, fputc('?', out);
        else
            fputc(*c < ' ' || *c == 127 ? '?' : *c, out);
    }
}

#endif
