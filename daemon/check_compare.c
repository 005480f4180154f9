// SPDX-License-Identifier: Apache-2.0
// check_compare.c - see check_compare.h. Pure functions over JSON values.
#include "check_compare.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 300 };

/* The next element of `found` from *at on that is equal; *at is then behind it. */
static bool find_equal(const json_t *expected, const json_t *found, double tolerance, size_t *at)
{
    while (*at < json_array_size(found))
        if (check_equal(expected, json_array_get(found, (*at)++), tolerance))
            return true;
    return false;
}

static bool equal_lists(const json_t *expected, const json_t *found, double tolerance)
{
    size_t at = 0;
    for (size_t i = 0; i < json_array_size(expected); i++)
        if (!find_equal(json_array_get(expected, i), found, tolerance, &at))
            return false;
    return true;
}

static bool equal_starts(const json_t *expected, const json_t *found, double tolerance)
{
    for (size_t i = 0; i < json_array_size(expected); i++)
        if (!check_equal(json_array_get(expected, i), json_array_get(found, i), tolerance))
            return false;
    return true;
}

static bool equal_field(const char *key, const json_t *expected, const json_t *found, double tolerance)
{
    if (strcmp(key, "interests") == 0 && json_is_array(expected) && json_is_array(found))
        return equal_starts(expected, found, tolerance);
    return check_equal(expected, found, tolerance);
}

bool check_equal(const json_t *expected, const json_t *found, double tolerance)
{
    const char *key;
    const json_t *value;
    if (json_is_number(expected) && json_is_number(found))
        return fabs(json_number_value(expected) - json_number_value(found)) <= tolerance;
    if (!found || json_typeof(expected) != json_typeof(found))
        return false;
    if (json_is_array(expected))
        return equal_lists(expected, found, tolerance);
    if (!json_is_object(expected))
        return json_equal(expected, found);
    json_object_foreach((json_t *)(uintptr_t)expected, key, value)
        if (!equal_field(key, value, json_object_get(found, key), tolerance))
            return false;
    return true;
}

/* ---- in words ---------------------------------------------------------------------------------------------------- */

static void put_value(FILE *out, const json_t *value)
{
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_REAL_PRECISION(9);
    char *text = value ? json_dumps(value, flags) : NULL;
    if (!text)
        fputs("nothing", out);
    else
        fprintf(out, "%.*s%s", SHOWN_BYTES, text, strlen(text) > SHOWN_BYTES ? "…" : "");
    free(text);
}

unsigned check_fields(const json_t *expected, const json_t *found, double tolerance, const char *path, FILE *out)
{
    const char *key;
    const json_t *value;
    unsigned n = 0;
    json_object_foreach((json_t *)(uintptr_t)expected, key, value) {
        const json_t *there = json_object_get(found, key);
        if (equal_field(key, value, there, tolerance))
            continue;
        fprintf(out, "      %s.%s: expected ", path, key);
        put_value(out, value);
        fputs(", found ", out);
        put_value(out, there);
        fputc('\n', out);
        n++;
    }
    return n;
}

static unsigned count_equal(const json_t *expected, const json_t *found, double tolerance)
{
    const char *key;
    const json_t *value;
    unsigned n = 0;
    json_object_foreach((json_t *)(uintptr_t)expected, key, value)
        n += equal_field(key, value, json_object_get(found, key), tolerance);
    return n;
}

/* Nothing is equal: the differences to what comes nearest, so that one reads two values and not two hundred. */
static void show_nearest(const json_t *expected, const json_t *found, double tolerance, const char *path, FILE *out)
{
    const json_t *best = NULL, *one;
    size_t i;
    unsigned most = 0;
    json_array_foreach((json_t *)(uintptr_t)found, i, one) {
        unsigned n = count_equal(expected, one, tolerance);
        if (n > most) {
            most = n;
            best = one;
        }
    }
    if (best && check_fields(expected, best, tolerance, path, out) > 0)
        return;
    fprintf(out, "      %s: expected ", path);
    put_value(out, expected);
    if (best)
        fputs(", which comes earlier than the one expected before it\n", out);
    else
        fprintf(out, ", and none of the %zu is like it\n", json_array_size(found));
}

static unsigned check_exact(const json_t *expected, const json_t *found, double tolerance, const char *path, FILE *out)
{
    size_t wanted = json_array_size(expected), there = json_array_size(found);
    unsigned differences = 0;
    for (size_t i = 0; i < wanted || i < there; i++) {
        char at[64];
        snprintf(at, sizeof at, "%s[%zu]", path, i);
        if (i < wanted && i < there) {
            differences += check_fields(json_array_get(expected, i), json_array_get(found, i), tolerance, at, out);
            continue;
        }
        fprintf(out, i < wanted ? "      %s: missing: " : "      %s: not expected: ", at);
        put_value(out, json_array_get(i < wanted ? expected : found, i));
        fputc('\n', out);
        differences++;
    }
    return differences;
}

unsigned check_list(const json_t *expected, const json_t *found, bool exact, double tolerance, const char *path,
                    FILE *out)
{
    unsigned differences = 0;
    size_t at = 0;
    if (exact)
        return check_exact(expected, found, tolerance, path, out);
    for (size_t i = 0; i < json_array_size(expected); i++) {
        size_t before = at;
        char where[64];
        if (find_equal(json_array_get(expected, i), found, tolerance, &at))
            continue;
        snprintf(where, sizeof where, "%s[%zu]", path, i);
        show_nearest(json_array_get(expected, i), found, tolerance, where, out);
        differences++;
        at = before;
    }
    return differences;
}
