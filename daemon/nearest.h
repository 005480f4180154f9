/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.h - "did you mean …?": which known word is nearest to one that is not known. */
#ifndef GAIT_NEAREST_H
#define GAIT_NEAREST_H

#include <stddef.h>

enum { NEAREST_WORD_MAX = 64 }; /* longer words are near to nothing but themselves */

/* Edits (one byte inserted, left out or replaced, or two neighbours swapped) that lead from a to b, letters compared
 * without case, '-' equal to '_'. Larger than any limit when one is longer than NEAREST_WORD_MAX. */
size_t nearest_distance(const char *a, const char *b);

/* How many edits from `word` still count as a slip of the pen: a third of its length, at least 1. */
size_t nearest_limit(const char *word);

/* Search step: show it each known word in turn; `best` starts as {0}. Afterwards best.word is the nearest within
 * nearest_limit(), the first of equals, or NULL. */
struct nearest {
    const char *word;
    size_t distance;
};
void nearest_try(struct nearest *best, const char *wanted, const char *known);

#endif
