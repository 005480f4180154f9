// SPDX-License-Identifier: Apache-2.0
// unit_config_yaml.c - the first look at a configuration file: a tree with lines and columns, or what is wrong with it
// as YAML, in words that say what to do.
#include "../daemon/config_yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct node *tree(struct arena *memory, const char *text, size_t len, struct config_errors *errors)
{
    *errors = (struct config_errors){0};
    /* A copy that ends where the text ends, so that a sanitizer sees a step too far. */
    char *exact = malloc(len ? len : 1);
    memcpy(exact, text, len);
    struct node *root = yaml_tree(memory, exact, len, errors);
    free(exact);
    return root;
}

static void nodes_know_their_place(void **state)
{
    (void)state;
    struct config_errors errors;
    struct arena *memory = arena_create(4096, 1 << 20);
    const char text[] = "a: 1\nb:\n  c: [x, \"y\", ~]\n  d:\n";
    const struct node *root = tree(memory, text, strlen(text), &errors);
    assert_int_equal(errors.n, 0);
    assert_int_equal(root->kind, NODE_MAP);
    assert_int_equal(root->n, 2);
    const struct node *b = node_find(root, "b"), *c = node_find(b, "c"), *d = node_find(b, "d");
    assert_int_equal(b->key->line, 2);
    assert_int_equal(b->key->column, 1);
    assert_int_equal(c->kind, NODE_LIST);
    assert_int_equal(c->n, 3);
    assert_int_equal(c->line, 3);
    assert_int_equal(c->column, 6);
    assert_string_equal(c->children->next->text, "y");
    assert_true(c->children->next->quoted);
    assert_false(c->children->quoted);
    assert_true(node_is_null(c->children->next->next));
    assert_true(node_is_null(d));
    assert_null(node_find(root, "c"));
    arena_destroy(&memory);
}

static void nothing_in_quotes_is_something(void **state)
{
    (void)state;
    struct config_errors errors;
    struct arena *memory = arena_create(4096, 1 << 20);
    const char text[] = "[null, 'null', \"\", ~, '~', NULL]";
    const struct node *item = tree(memory, text, strlen(text), &errors)->children;
    static const bool nothing[] = {true, false, false, true, false, true};
    for (size_t i = 0; i < 6; i++, item = item->next)
        assert_int_equal(node_is_null(item), nothing[i]);
    arena_destroy(&memory);
}

#define TEXT(literal) literal, sizeof literal - 1
static const struct bad {
    const char *text;
    size_t len;
    int line, column;
    const char *because;
} bad[] = {
    {TEXT(""), 0, 0, "the file is empty"},
    {TEXT("# only a remark\n"), 0, 0, "the file is empty"},
    {TEXT("a:\n\tb: 1\n"), 2, 1, "a tab indents this line; use spaces"},
    {TEXT("a: b: c\n"), 1, 5, "wants quotes; or the line is indented too far"},
    {TEXT("a: 1\n b: 2\n"), 2, 3, "the line is indented too far"},
    {TEXT("a: [1, 2\nb: 3\n"), 2, 2, "a list in [ ] is not closed"},
    {TEXT("a: {b: 1\n"), 2, 1, "a map in { } is not closed"},
    {TEXT("a: \"x\n"), 2, 1, "a quote is not closed"},
    {TEXT("a: @x\n"), 1, 4, "wants quotes"},
    {TEXT("a: \"\\q\"\n"), 1, 5, "write \\\\ or use single quotes"},
    {TEXT("a: 1\nb\nc: 2\n"), 3, 1, "a key wants ': ' behind it"},
    {TEXT("a: 1\n---\nb: 2\n"), 2, 1, "a second document"},
    {TEXT("a: &x 1\n"), 1, 4, "anchors (&x) are not supported"},
    {TEXT("a: *x\n"), 1, 4, "aliases (*x) are not supported"},
    {TEXT("a: !!int 1\n"), 1, 4, "tags (tag:yaml.org,2002:int) are not supported"},
    {TEXT("a: 1\nb: 2\na: 3\n"), 3, 1, "'a' is set twice; first in line 1"},
    {TEXT("? [a]\n: b\n"), 1, 3, "a key must be a text"},
    {TEXT("a: \"x\\0y\"\n"), 1, 4, "must not contain a NUL"},
    {TEXT("a: \0\n"), 1, 4, "this is not a text"},
    {TEXT("a: b\nc: \xff\n"), 2, 4, "this is not a text: invalid leading UTF-8 octet (0xFF)"},
    {TEXT("\x7f" "ELF\x02\x01\x01\x00"), 1, 1, "this is not a text"},
    {TEXT("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), 1, 18, "nested deeper than 16 levels"},
    {TEXT("- - - - - - - - - - - - - - - - - - - -"), 1, 35, "nested deeper than 16 levels"},
};

static void each_mistake_is_named_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct config_errors errors;
        struct arena *memory = arena_create(4096, 1 << 20);
        tree(memory, bad[i].text, bad[i].len, &errors);
        if (errors.n != 1 || errors.at[0].line != bad[i].line || errors.at[0].column != bad[i].column ||
            !strstr(errors.at[0].text, bad[i].because))
            fail_msg("case %zu, %s: %zu errors, %d:%d: %s", i, bad[i].text, errors.n, errors.at[0].line,
                     errors.at[0].column, errors.at[0].text);
        arena_destroy(&memory);
    }
}

static void every_prefix_of_a_file_is_survived(void **state)
{
    (void)state;
    const char text[] = "# c\nsource: {kafka: {brokers: [\"a:1\", 'b'], x: >\n  y}}\n"
                        "sink:\n  - a: &x |\n      t\n  - *x\n...\n";
    for (size_t len = 0; len < sizeof text; len++) {
        struct config_errors errors;
        struct arena *memory = arena_create(4096, 1 << 20);
        const struct node *root = tree(memory, text, len, &errors);
        assert_true(root || errors.n > 0);
        arena_destroy(&memory);
    }
}

/* A million values, or a file of brackets, costs a bounded amount of memory and one complaint. */
static void huge_inputs_are_cut_short(void **state)
{
    (void)state;
    static const char *const units[] = {"[", "{a: ", "- ", "a,", "\"", "\n", "a:\n"};
    size_t len = CONFIG_BYTES_MAX;
    char *text = malloc(len);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct config_errors errors;
        struct arena *memory = arena_create(4096, 64 << 20);
        size_t n = strlen(units[i]);
        for (size_t at = 0; at < len; at++)
            text[at] = units[i][at % n];
        text[0] = i == 3 ? '[' : text[0];
        tree(memory, text, len, &errors);
        assert_true(errors.n > 0);
        arena_destroy(&memory);
    }
    free(text);
}

static void errors_are_counted_beyond_those_kept(void **state)
{
    (void)state;
    struct config_errors errors = {.name = "f.yaml"};
    for (int i = 0; i < CONFIG_ERRORS_MAX + 5; i++)
        config_errors_add(&errors, CONFIG_ERRORS_MAX - i % 7, 1, "mistake %d\x1b[31m\xc2\x9b\xc3\x9b", i);
    assert_int_equal(errors.n, CONFIG_ERRORS_MAX + 5);
    for (int i = 1; i < CONFIG_ERRORS_MAX; i++)
        assert_true(errors.at[i - 1].line <= errors.at[i].line);
    char *printed;
    size_t n;
    FILE *out = open_memstream(&printed, &n);
    config_errors_print(&errors, out);
    fclose(out);
    assert_null(strchr(printed, '\x1b')); /* a file must not talk to the terminal through our texts */
    assert_non_null(strstr(printed, "f.yaml:64:1: mistake 0?[31m??\xc3\x9b\n"));
    assert_non_null(strstr(printed, "f.yaml: 5 more\n"));
    free(printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_know_their_place),
        cmocka_unit_test(nothing_in_quotes_is_something),
        cmocka_unit_test(each_mistake_is_named_once),
        cmocka_unit_test(every_prefix_of_a_file_is_survived),
        cmocka_unit_test(huge_inputs_are_cut_short),
        cmocka_unit_test(errors_are_counted_beyond_those_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
