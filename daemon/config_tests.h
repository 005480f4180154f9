/* SPDX-License-Identifier: Apache-2.0 */
/* config_tests.h - the section `tests:` of a configuration: events in, and what is expected to come out.
 *
 *   tests:
 *     - name: five purchases within five minutes are reviewed
 *       events:
 *         - {type: purchase, user_id: u1, ts: 1764000000000, price: 10}   # as the topic would have it, or
 *         - '{"type": '                                                   # its bytes, or
 *         - {file: more.jsonl}                                            # a file with an event a line
 *       expect:
 *         alerts: [{user: u1, action: review}]       # these and no others; of each the named fields
 *         dead_letters: [{reason: bad_json}]         # these and no others
 *         scores: [{user: u1, intent: 0.12}]         # these, in this order; others may lie between
 *         windows: {u1: {count.purchase.1h: 5}}      # columns after the user's last event
 *       tolerance: 0.001                             # of numbers, absolute; this is the default
 *       now: 1764000500000                           # what the clock says, Unix ms; not given: the real time
 *
 * `gaitd run` passes the section over; `gaitd check` validates it, `gaitd check --test` runs it. */
#ifndef GAIT_CONFIG_TESTS_H
#define GAIT_CONFIG_TESTS_H

#include "config_yaml.h"

enum { CONFIG_TESTS_MAX = 200 };

/* What one test says, borrowed from the configuration's tree. */
struct config_test {
    const char *name;
    int line;
    const struct node *events;                                    /* a list, not empty */
    const struct node *scores, *alerts, *dead_letters, *windows;  /* NULL = nothing is expected of them */
    double tolerance;
    int64_t now_ms;                                               /* 0 = the real time */
};

/* Read the section into tests[CONFIG_TESTS_MAX]; every mistake is added to the errors. Returns their number. */
size_t config_tests_read(const struct config *config, struct config_test *tests, struct config_errors *errors);

/* One test's outcome, with the differences indented below. An engine of the file's decode, window, model, score and
 * rule with source, store and sinks in memory. */
bool config_test_run(const struct config *config, const struct config_test *test, FILE *out);

#endif
