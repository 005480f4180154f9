// SPDX-License-Identifier: Apache-2.0
// rule_condition.c - one condition of a fraud rule, and the lists that conditions look into:
//
//   count.login_failed.5m >= 5        a column, an operator, a number
//   ip in office                      a field of the event and a list of the file; also `not in`
#include "rule_parts.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { WORDS_MAX = 4, WORD_BYTES = 128 };

static const char *const operators[] = {
    [RULE_GE] = ">=", [RULE_GT] = ">", [RULE_LE] = "<=", [RULE_LT] = "<", [RULE_EQ] = "==", [RULE_NE] = "!=",
};

static const char *const fields[RULE_FIELDS] = {
    [RULE_USER] = "user", [RULE_IP] = "ip", [RULE_DEVICE] = "device", [RULE_COUNTRY] = "country",
    [RULE_SESSION] = "session", [RULE_ITEM] = "item", [RULE_CATEGORY] = "category", [RULE_CAMPAIGN] = "campaign",
};

/* ---- lists ---------------------------------------------------------------------------------------------------- */

static uint64_t hash_of(struct str value)
{
    uint64_t hash = XXH3_64bits(value.at, value.len);
    return hash ? hash : 1;
}

void rule_list_add(struct rule_list *list, struct str value)
{
    uint64_t hash = hash_of(value), i = hash & list->mask;
    while (list->places[i] && list->places[i] != hash)
        i = (i + 1) & list->mask;
    list->places[i] = hash;
}

bool rule_list_holds(const struct rule_list *list, struct str value)
{
    if (value.len == 0)
        return false;
    uint64_t hash = hash_of(value), i = hash & list->mask;
    while (list->places[i] && list->places[i] != hash)
        i = (i + 1) & list->mask;
    return list->places[i] == hash;
}

/* ---- words ---------------------------------------------------------------------------------------------------- */

/* -1 when there are more than WORDS_MAX or one is too long. */
static int split(const char *text, char words[WORDS_MAX][WORD_BYTES])
{
    int n = 0;
    while (*text) {
        size_t len = strcspn(text, " \t\n");
        if (len >= WORD_BYTES || (len > 0 && n == WORDS_MAX))
            return -1;
        if (len > 0) {
            memcpy(words[n], text, len);
            words[n++][len] = '\0';
        }
        text += len;
        text += strspn(text, " \t\n");
    }
    return n;
}

static int index_of(const char *word, const char *const *among, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, among[i]) == 0)
            return i;
    return -1;
}

static int parse_membership(const struct rule_set *set, const char *field, bool in, const char *name,
                            struct rule_condition *out, struct error *err)
{
    int index = index_of(field, fields, RULE_FIELDS);
    if (index < 0)
        return error_set(err, "'%s' is no field that can be looked up in a list; there are user, ip, device, country, "
                         "session, item, category and campaign", field);
    for (uint32_t i = 0; i < set->lists_n; i++) {
        if (strcmp(set->lists[i].name, name) == 0) {
            out->operator = in ? RULE_IN : RULE_NOT_IN;
            out->field = (uint8_t)index;
            out->list = (uint16_t)i;
            return 0;
        }
    }
    return error_set(err, "there is no list '%s' under 'lists'", name);
}

static int parse_comparison(struct instance *in, const char *column, const char *operator, const char *number,
                            struct rule_condition *out, struct error *err)
{
    int index = index_of(operator, operators, RULE_NE + 1);
    if (index < 0)
        return error_set(err, "'%s' is no operator; there are >= > <= < == != and, with lists, in and "
                         "not in", operator);
    char *end;
    errno = 0;
    double value = strtod(number, &end);
    if (*number == '\0' || *end != '\0' || errno == ERANGE || !isfinite(value))
        return error_set(err, "'%s' is no number to compare with", number);
    int place = columns_want(in->columns, column);
    if (place < 0) {
        const char *nearest = columns_nearest(in->columns, column);
        return error_set(err, nearest ? "there is no column '%s'; did you mean '%s'?"
                                      : "there is no column '%s'", column, nearest);
    }
    out->operator = (uint8_t)index;
    out->place = (uint16_t)place;
    out->number = value;
    return 0;
}

int rule_condition_parse(struct instance *in, const struct rule_set *set, const char *text, struct rule_condition *out,
                         struct error *err)
{
    char words[WORDS_MAX][WORD_BYTES];
    int n = split(text, words);
    *out = (struct rule_condition){0};
    if (n == 3 && strcmp(words[1], "in") == 0)
        return parse_membership(set, words[0], true, words[2], out, err);
    if (n == 4 && strcmp(words[1], "not") == 0 && strcmp(words[2], "in") == 0)
        return parse_membership(set, words[0], false, words[3], out, err);
    if (n == 3)
        return parse_comparison(in, words[0], words[1], words[2], out, err);
    return error_set(err, "'%.100s' is no condition; write COLUMN OPERATOR NUMBER, as in count.purchase.5m >= 5, or "
                     "FIELD in LIST", text);
}
