/* SPDX-License-Identifier: Apache-2.0 */
/* check_compare.h - what a test expects against what came out, as JSON; differences in words. */
#ifndef GAIT_CHECK_COMPARE_H
#define GAIT_CHECK_COMPARE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Maps: the fields that `expected` names. Lists: its elements in their order, others may lie between; but interests
 * from the first one on, since their order is what they say. Numbers to within `tolerance`. */
bool check_equal(const json_t *expected, const json_t *found, double tolerance);

/* The same with a line for each difference: "      PATH: expected …, found …". Returns the number of differences. */
unsigned check_fields(const json_t *expected, const json_t *found, double tolerance, const char *path, FILE *out);
/* A list of outputs of which none may be missing and, if `exact`, none too many. */
unsigned check_list(const json_t *expected, const json_t *found, bool exact, double tolerance, const char *path,
                    FILE *out);

#endif
