// SPDX-License-Identifier: Apache-2.0
// nearest.c - edit distance for error texts: configuration keys, module names, columns. Pure functions, nothing owned.
#include "nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static char fold(char c)
{
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

static size_t min2(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance: three rows of the table are enough, since a swap looks two rows back. */
size_t nearest_distance(const char *a, const char *b)
{
    size_t a_n = strlen(a), b_n = strlen(b);
    if (a_n > NEAREST_WORD_MAX || b_n > NEAREST_WORD_MAX)
        return a_n + b_n + NEAREST_WORD_MAX;
    size_t rows[3][NEAREST_WORD_MAX + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_n; j++)
        last[j] = before[j] = j;
    for (size_t i = 1; i <= a_n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_n; j++) {
            bool same = fold(a[i - 1]) == fold(b[j - 1]);
            row[j] = min2(min2(last[j] + 1, row[j - 1] + 1), last[j - 1] + !same);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]))
                row[j] = min2(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = last;
        last = row;
        row = oldest;
    }
    return last[b_n];
}

size_t nearest_limit(const char *word)
{
    size_t limit = strlen(word) / 3;
    return limit ? limit : 1;
}

void nearest_try(struct nearest *best, const char *wanted, const char *known)
{
    size_t distance = nearest_distance(wanted, known);
    if (distance <= nearest_limit(wanted) && (!best->word || distance < best->distance))
        *best = (struct nearest){known, distance};
}
