// SPDX-License-Identifier: Apache-2.0
// config_tests.c - the section `tests:` read and checked. Running it is check_tests.c.
#include "config_tests.h"

#include "nearest.h"
#include "value.h"

#include <string.h>

struct reading {
    struct config_errors *errors;
    const char *test; /* its name, for the texts */
};

static void complain(struct reading *r, const struct node *at, const char *what)
{
    config_errors_add(r->errors, at->line, at->column, "tests: '%.60s': %s", r->test, what);
}

/* Whether all keys of the map are among the known ones. */
static void check_keys(struct reading *r, const struct node *map, const char *const *known)
{
    for (const struct node *child = map->children; child; child = child->next) {
        struct nearest near = {0};
        bool found = false;
        for (size_t i = 0; known[i]; i++) {
            found |= strcmp(known[i], child->key->text) == 0;
            nearest_try(&near, child->key->text, known[i]);
        }
        if (!found)
            config_errors_add(r->errors, child->key->line, child->key->column,
                              near.word ? "tests: '%.60s': there is no '%.60s'; did you mean '%s'?"
                                        : "tests: '%.60s': there is no '%.60s'", r->test, child->key->text, near.word);
    }
}

static void check_events(struct reading *r, const struct node *events)
{
    if (events->kind != NODE_LIST || events->n == 0)
        complain(r, events, "events wants a list with at least one event");
    for (const struct node *e = events->kind == NODE_LIST ? events->children : NULL; e; e = e->next) {
        const struct node *file = e->kind == NODE_MAP && e->n == 1 ? node_find(e, "file") : NULL;
        if (e->kind == NODE_LIST || node_is_null(e))
            complain(r, e, "an event is a map, its bytes in quotes, or {file: PATH}");
        else if (file && (file->kind != NODE_SCALAR || node_is_null(file)))
            complain(r, file, "file wants a path");
    }
}

static const struct node *list_of_maps(struct reading *r, const struct node *expect, const char *key)
{
    const struct node *list = node_find(expect, key);
    bool good = !list || list->kind == NODE_LIST;
    for (const struct node *e = list && good ? list->children : NULL; e; e = e->next)
        good &= e->kind == NODE_MAP;
    if (!good)
        complain(r, list, "scores, alerts and dead_letters are lists of maps, as [{user: u1}]; [] expects none");
    return good ? list : NULL;
}

static const struct node *windows_of(struct reading *r, const struct node *expect)
{
    const struct node *windows = node_find(expect, "windows");
    bool good = !windows || windows->kind == NODE_MAP;
    for (const struct node *user = windows && good ? windows->children : NULL; user; user = user->next) {
        good &= user->kind == NODE_MAP;
        for (const struct node *column = good ? user->children : NULL; column; column = column->next) {
            double number;
            struct error err;
            if (column->kind != NODE_SCALAR || (!node_is_null(column) && value_real(column->text, &number, &err) < 0))
                complain(r, column, "a column is a number, or null where there is none");
        }
    }
    if (!good)
        complain(r, windows, "windows is a map of users, as {u1: {count.all.1h: 3}}");
    return good ? windows : NULL;
}

static void read_expect(struct reading *r, const struct node *expect, struct config_test *test)
{
    static const char *const keys[] = {"scores", "alerts", "dead_letters", "windows", NULL};
    if (expect->kind != NODE_MAP || expect->n == 0) {
        complain(r, expect, "expect wants at least one of scores, alerts, dead_letters and windows");
        return;
    }
    check_keys(r, expect, keys);
    test->scores = list_of_maps(r, expect, "scores");
    test->alerts = list_of_maps(r, expect, "alerts");
    test->dead_letters = list_of_maps(r, expect, "dead_letters");
    test->windows = windows_of(r, expect);
}

static void read_numbers(struct reading *r, const struct node *map, struct config_test *test)
{
    const struct node *tolerance = node_find(map, "tolerance"), *now = node_find(map, "now");
    struct error err;
    test->tolerance = 0.001;
    if (tolerance && (tolerance->kind != NODE_SCALAR || value_real(tolerance->text, &test->tolerance, &err) < 0 ||
                      test->tolerance < 0))
        complain(r, tolerance, "tolerance wants a number that is not negative");
    if (now && (now->kind != NODE_SCALAR || value_int(now->text, &test->now_ms, &err) < 0 || test->now_ms <= 0))
        complain(r, now, "now wants Unix time in milliseconds");
}

static void read_test(struct config_errors *errors, const struct node *map, struct config_test *test)
{
    static const char *const keys[] = {"name", "events", "expect", "tolerance", "now", NULL};
    struct reading r = {errors, "a test without name"};
    *test = (struct config_test){.line = map->line};
    if (map->kind != NODE_MAP) {
        complain(&r, map, "wants name, events and expect");
        return;
    }
    const struct node *name = node_find(map, "name"), *events = node_find(map, "events");
    const struct node *expect = node_find(map, "expect");
    if (name && name->kind == NODE_SCALAR && *name->text)
        r.test = test->name = name->text;
    else
        complain(&r, map, "name is missing");
    check_keys(&r, map, keys);
    if (events)
        check_events(&r, test->events = events);
    else
        complain(&r, map, "events is missing");
    if (expect)
        read_expect(&r, expect, test);
    else
        complain(&r, map, "expect is missing");
    read_numbers(&r, map, test);
}

size_t config_tests_read(const struct config *config, struct config_test *tests, struct config_errors *errors)
{
    const struct node *list = config->tests;
    size_t n = 0;
    snprintf(errors->name, sizeof errors->name, "%s", config->name);
    if (!list || node_is_null(list))
        return 0;
    if (list->kind != NODE_LIST) {
        config_errors_add(errors, list->line, list->column, "tests wants a list of tests: name, events, expect");
        return 0;
    }
    for (const struct node *test = list->children; test; test = test->next) {
        if (n == CONFIG_TESTS_MAX) {
            config_errors_add(errors, test->line, test->column, "more than %d tests", CONFIG_TESTS_MAX);
            break;
        }
        read_test(errors, test, &tests[n++]);
    }
    return n;
}
