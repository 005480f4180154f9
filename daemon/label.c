// SPDX-License-Identifier: Apache-2.0
// label.c - labels from what users did afterwards.
#include "label.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *label_kind_name(enum label_kind kind)
{
    static const char *const names[] = {"churn", "returns", "abandon"};
    return names[kind];
}

/* The sequence, which is the session, of each event. */
static uint32_t *session_of(const struct train_set *s)
{
    uint32_t *session = calloc(s->n + 1, sizeof *session);
    assert(session);
    for (size_t k = 0; k < s->sequences_n; k++)
        for (uint32_t i = 0; i < s->sequences[k].length; i++)
            session[s->sequences[k].start + i] = (uint32_t)k;
    return session;
}

/* Backwards: `next_ms` is when the user's next session begins, seen from the event at hand. */
static void answer_returns(const struct train_set *s, const size_t *order, int64_t within_ms, bool churn, int8_t *out)
{
    uint32_t *session = session_of(s);
    int64_t next_ms = INT64_MAX;
    for (size_t k = s->n; k-- > 0;) {
        size_t i = order[k], after = k + 1 < s->n ? order[k + 1] : i;
        if (s->user[after] != s->user[i] || k + 1 == s->n)
            next_ms = INT64_MAX;
        else if (session[after] != session[i])
            next_ms = s->ts_ms[after];
        bool comes = next_ms != INT64_MAX && next_ms - s->ts_ms[i] <= within_ms;
        out[i] = churn ? !comes : comes;
    }
    free(session);
}

/* What is in the cart after each event, as far as it shows: additions less removals since the last purchase. */
static void answer_abandon(const struct train_set *s, const size_t *order, int64_t within_ms, int8_t *out)
{
    const struct train_names *types = &s->names[MODEL_TYPE];
    uint32_t add = train_names_find(types, str_of("add_to_cart")), cart = 0,
             removed = train_names_find(types, str_of("remove_from_cart")),
             bought = train_names_find(types, str_of("purchase"));
    for (size_t k = 0; k < s->n; k++) {
        size_t i = order[k];
        uint32_t type = s->fields[MODEL_TYPE][i];
        if (k == 0 || s->user[order[k - 1]] != s->user[i])
            cart = 0;
        if (type && type == add)
            cart++;
        else if (type && type == removed)
            cart -= cart > 0;
        else if (type && type == bought)
            cart = 0;
        out[i] = cart > 0 ? 1 : TRAIN_NOTHING;
    }
    int64_t bought_ms = INT64_MAX;
    for (size_t k = s->n; k-- > 0;) {
        size_t i = order[k];
        if (k + 1 == s->n || s->user[order[k + 1]] != s->user[i])
            bought_ms = INT64_MAX;
        if (out[i] == 1)
            out[i] = bought_ms == INT64_MAX || bought_ms - s->ts_ms[i] > within_ms;
        if (bought && s->fields[MODEL_TYPE][i] == bought)
            bought_ms = s->ts_ms[i];
    }
}

void label_answers(const struct train_set *s, enum label_kind kind, int64_t within_ms, int8_t *out)
{
    size_t *order = train_set_by_user(s);
    if (kind == LABEL_ABANDON)
        answer_abandon(s, order, within_ms, out);
    else
        answer_returns(s, order, within_ms, kind == LABEL_CHURN, out);
    free(order);
}

void label_write(FILE *out, const struct train_set *s, const char *name, const int8_t *answers, int64_t within_ms,
                 struct label_counts *counts)
{
    size_t *order = train_set_by_user(s);
    *counts = (struct label_counts){0};
    fprintf(out, "user,%s,ts,known\n", name);
    for (size_t k = 0; k < s->n; k++) {
        size_t i = order[k];
        const char *user = s->users.name[s->user[i]];
        /* Two events of one moment cannot be told apart in the file: the later one stands for both. */
        bool last = k + 1 == s->n || s->user[order[k + 1]] != s->user[i] || s->ts_ms[order[k + 1]] != s->ts_ms[i];
        if (answers[i] < 0 || !last)
            continue;
        if (s->ts_ms[i] > s->last_ms - within_ms) {
            counts->open++;
            continue;
        }
        if (user[strcspn(user, ",\r\n")] || strlen(user) != s->users.length[s->user[i]]) {
            counts->unwritable++;
            continue;
        }
        counts->ones += answers[i] == 1;
        counts->zeros += answers[i] == 0;
        fprintf(out, "%s,%d,%" PRId64 ",%" PRId64 "\n", user, answers[i], s->ts_ms[i], s->ts_ms[i] + within_ms);
    }
    free(order);
}
