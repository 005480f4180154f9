// SPDX-License-Identifier: Apache-2.0
// unit_rule_parse.c - what a person who makes a mistake in a rules file is told: file, line, column, and what would be
// right. A file with a mistake is refused as a whole.
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module window_rolling, rule_fraud;

/* The error that `rules` gives; "" when it is good. */
static const char *error_of(const char *rules, size_t len)
{
    static struct error err;
    char path[] = "/tmp/gait-rules-XXXXXX";
    const char *at = path;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, rules, len) == (ssize_t)len);
    close(fd);
    struct rig *rig = rig_new(NULL);
    void *conf = rig_conf(rig, &rule_fraud);
    rig_set(conf, &rule_fraud, "rules", &at, sizeof at);
    rig_open(rig, &window_rolling, NULL, NULL);
    err.text[0] = '\0';
    if (rig_open(rig, &rule_fraud, conf, &err))
        assert_string_equal(err.text, "");
    else
        assert_string_not_equal(err.text, "");
    rig_free(&rig);
    unlink(path);
    return err.text;
}

#define HEAD "actions: {review: 5}\nrules:\n"
#define RULE(rest) HEAD "  - {name: r, weight: 1, when: gap < 0, " rest "}\n"

static const struct { const char *rules, *place, *says; } mistakes[] = {
    {"", "", "is empty"},
    {"rules: []\n", "", "'actions' is missing"},
    {"actions: {a: 1}\n", "", "'rules' is missing"},
    {"actions: {a: 1}\nrules: [\n", ":3:1:", "did not find"},
    {"actions: {a: 1}\nrule: []\n", ":2:1:", "there is no 'rule'; there are actions, quiet, lists and rules"},
    {"actions: {a: 1}\nactions: {a: 1}\n", ":2:1:", "'actions' stands there twice"},
    {"- a\n", ":1:1:", "the file must be a map"},
    {"actions: [5]\nrules: []\n", ":1:10:", "actions must be a map"},
    {"actions: {a: high}\nrules: []\n", ":1:14:", "must be a number, not 'high'"},
    {"actions: {a: 0}\nrules: []\n", ":1:14:", "must begin above 0"},
    {"actions: {a: .inf}\nrules: []\n", ":1:14:", "must be a number"},
    {"actions: {a: 5, b: 5}\nrules: []\n", ":1:20:", "begin at the same score"},
    {"actions: {'a b': 5}\nrules: []\n", ":1:11:", "must be a word"},
    {"actions: {a: 5}\nquiet: 10 parsecs\nrules: []\n", ":2:8:", "must be a duration such as 30s, 10m or 1h"},
    {"actions: {a: 5}\nquiet: -1s\nrules: []\n", ":2:8:", "must be a duration"},
    {"actions: {a: 5}\nquiet: 400d\nrules: []\n", ":2:8:", "at most 366d"},
    {"actions: {a: 5}\nlists: {l: [[]]}\nrules: []\n", ":2:13:", "a list's entry must be a text"},
    {"actions: {a: 5}\nlists: {l: ['']}\nrules: []\n", ":2:13:", "a list's entry must be a text"},
    {"actions: {a: 5}\nlists: {l: {}}\nrules: []\n", ":2:12:", "a list must be a list"},
    {HEAD "  - name: r\n    weight: 1\n", ":3:5:", "rule 'r' has no condition"},
    {HEAD "  - name: r\n    when: gap < 0\n", ":3:5:", "rule 'r' has no weight"},
    {HEAD "  - weight: 1\n    when: gap < 0\n", ":3:5:", "a rule without a name"},
    {HEAD "  - fast\n", ":3:5:", "a rule must be a map"},
    {"actions: {a: 5}\nrules: {}\n", ":2:8:", "rules must be a list"},
    {RULE("wieght: 2"), ":3:41:", "a rule has no 'wieght'; it has name, on, when, weight, text and shadow"},
    {RULE("on: purchases"), ":3:45:", "'purchases' is no event type"},
    {RULE("on: {a: b}"), ":3:45:", "on must be a list"},
    {RULE("shadow: yes"), ":3:49:", "shadow must be true or false"},
    {RULE("text: '{amount} too much'"), ":3:47:", "'{amount} too much' is none of {value}, {threshold} and {user}"},
    {RULE("text: [a]"), ":3:47:", "text must be a text"},
    {HEAD "  - {name: r, weight: x, when: gap < 0}\n", ":3:23:", "weight must be a number, not 'x'"},
    {HEAD "  - {name: r, weight: 1, when: count.purchase.5min >= 5}\n", ":3:32:",
     "there is no column 'count.purchase.5min'; did you mean 'count.purchase.5m'?"},
    {HEAD "  - {name: r, weight: 1, when: astronomy >= 5}\n", ":3:32:", "there is no column 'astronomy'"},
    {HEAD "  - {name: r, weight: 1, when: gap => 5}\n", ":3:32:", "'=>' is no operator"},
    {HEAD "  - {name: r, weight: 1, when: gap >= five}\n", ":3:32:", "'five' is no number"},
    {HEAD "  - {name: r, weight: 1, when: gap >= nan}\n", ":3:32:", "'nan' is no number"},
    {HEAD "  - {name: r, weight: 1, when: gap >= 1e400}\n", ":3:32:", "'1e400' is no number"},
    {HEAD "  - {name: r, weight: 1, when: gap}\n", ":3:32:", "'gap' is no condition"},
    {HEAD "  - {name: r, weight: 1, when: gap >= 1 and more to come}\n", ":3:32:", "is no condition"},
    {HEAD "  - {name: r, weight: 1, when: [gap >= 1, [a]]}\n", ":3:43:", "a condition must be a text"},
    {HEAD "  - {name: r, weight: 1, when: ip in offices}\n", ":3:32:", "there is no list 'offices'"},
    {"lists: {l: [a]}\n" HEAD "  - {name: r, weight: 1, when: price in l}\n", ":4:32:", "'price' is no field"},
    {HEAD "  - {name: r, weight: 1, when: gap < 0}\n  - {name: r, weight: 1, when: gap < 0}\n", ":4:5:",
     "a second rule 'r'"},
    {HEAD "  - {name: r, weight: 1, when: [gap<0,a,a,a,a,a,a,a,a,a]}\n", ":3:33:", "'gap<0' is no condition"},
    {HEAD "  - {name: r, weight: 1, when: [gap < 0,gap < 0,gap < 0,gap < 0,gap < 0,gap < 0,gap < 0,gap < 0,gap < 0]}\n",
     ":3:97:", "more than 8 conditions"},
    {"actions: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9}\nrules: []\n", ":1:59:", "more than 8 actions"},
    {"actions: {a: 1}\n\tquiet: 1s\n", ":2:1:", "cannot start any token"},
    {"actions: {a: \"\xff\"}\n", "", "UTF-8"},
};

static void every_mistake_has_its_place(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        const char *text = error_of(mistakes[i].rules, strlen(mistakes[i].rules));
        if (strstr(text, mistakes[i].place) && strstr(text, mistakes[i].says))
            continue;
        print_error("%s\n  gave: %s\n  expected: %s %s\n", mistakes[i].rules, text, mistakes[i].place,
                    mistakes[i].says);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void good_files(void **state)
{
    (void)state;
    static const char *const good[] = {
        "actions: {review: 5}\nrules: []\n",
        RULE("text: plain, shadow: true"),
        RULE("on: [purchase, login]"),
        "{\"actions\": {\"review\": 5}, \"rules\": [{\"name\": \"json\", \"weight\": -1.5e1, \"when\": \"gap < 0\"}]}",
        HEAD "  - &a {name: r, weight: 1, when: \" gap   >=  -0.5 \"}\n",
        "quiet: 1.5h\nactions: {low: 1, high: 2}\nlists: {one: a, none: []}\nrules:\n"
        "  - {name: r, weight: 1, when: [user not in one, session in none, amount.z != 3]}\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_string_equal(error_of(good[i], strlen(good[i])), "");
}

static void a_file_that_is_not_there(void **state)
{
    (void)state;
    struct rig *rig = rig_new(NULL);
    struct error err;
    const char *path = "/nowhere/rules.yaml";
    void *conf = rig_conf(rig, &rule_fraud);
    rig_set(conf, &rule_fraud, "rules", &path, sizeof path);
    assert_null(rig_open(rig, &rule_fraud, conf, &err));
    assert_non_null(strstr(err.text, "/nowhere/rules.yaml: cannot read it: No such file"));
    rig_free(&rig);
}

/* Any bytes are refused or read: run under the sanitizers. */
static void any_bytes(void **state)
{
    (void)state;
    static const char good[] = "actions: {review: 5, block: 10}\nquiet: 5m\nlists: {one: [a, b], two: &x [c]}\nrules:\n"
                               "  - {name: r, on: [login], weight: 1, when: [gap >= 1, ip in one], text: '{value}'}\n";
    uint64_t seed = 12345;
    for (int round = 0; round < 1500; round++) {
        char bytes[sizeof good];
        memcpy(bytes, good, sizeof good);
        for (int flips = 1 + round % 4; flips > 0; flips--) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            char any = (char)(seed >> 56), sign = ":[]{},'\"&*-\n #x0"[seed >> 60];
            bytes[(seed >> 33) % (sizeof good - 1)] = round % 2 ? sign : any;
        }
        error_of(bytes, sizeof good - 1 - (size_t)(round % 3 == 0 ? (seed >> 40) % (sizeof good - 1) : 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_has_its_place),
        cmocka_unit_test(good_files),
        cmocka_unit_test(a_file_that_is_not_there),
        cmocka_unit_test(any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
