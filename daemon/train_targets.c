// SPDX-License-Identifier: Apache-2.0
// train_targets.c - what each head is to say after each event, and when the answer was known.
#include "train_set.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void train_target_create(struct train_target *t, const struct train_set *s, bool is_label)
{
    *t = (struct train_target){.is_label = is_label};
    t->value = malloc((s->n + 1) * sizeof *t->value);
    t->known_ms = malloc((s->n + 1) * sizeof *t->known_ms);
    assert(t->value && t->known_ms);
    for (size_t i = 0; i < s->n; i++) {
        t->value[i] = -1;
        t->known_ms[i] = INT64_MIN;
    }
}

void train_target_destroy(struct train_target *t)
{
    free(t->value);
    free(t->known_ms);
    *t = (struct train_target){0};
}

static void set(struct train_target *t, size_t i, int32_t value, int64_t known_ms)
{
    t->value[i] = value;
    t->known_ms[i] = known_ms;
    t->total += value >= 0;
    t->unsayable += value == TRAIN_UNSAYABLE;
    t->positives += t->is_label && value == 1;
}

void train_target_next(struct train_target *t, const struct train_set *s, enum model_field field,
                       const int32_t *class_of)
{
    for (size_t k = 0; k < s->sequences_n; k++)
        for (size_t i = s->sequences[k].start; i + 1 < s->sequences[k].start + s->sequences[k].length; i++)
            if (s->fields[field][i + 1])
                set(t, i, class_of[s->fields[field][i + 1]], s->ts_ms[i + 1]);
}

/* Backwards through the user's events: `bought` is the next purchase after the event at hand. Sequences may be
 * sessions, a purchase in a later one counts too; so the walk is over each user's events of all sequences. */
void train_target_intent(struct train_target *t, const struct train_set *s, const char *type, int64_t horizon_ms,
                         int64_t until_ms)
{
    uint32_t purchase = train_names_find(&s->names[MODEL_TYPE], str_of(type));
    size_t *order = train_set_by_user(s);
    int64_t bought = INT64_MAX;
    for (size_t k = s->n; k-- > 0;) {
        size_t i = order[k];
        if (k + 1 == s->n || s->user[order[k + 1]] != s->user[i])
            bought = INT64_MAX;
        int64_t ends = s->ts_ms[i] + horizon_ms;
        if (s->ts_ms[i] <= until_ms) {
            /* Known when the horizon is over, for a purchase too: were early answers let in, the last hours before a
             * split would consist of buyers only. */
            if (ends <= until_ms)
                set(t, i, bought <= ends, ends);
        }
        if (purchase && s->fields[MODEL_TYPE][i] == purchase && s->ts_ms[i] <= until_ms)
            bought = s->ts_ms[i];
    }
    free(order);
}

/* ---- labels from a file ----------------------------------------------------------------------------------------- */

/* The user's last event at or before ts_ms; −1 = none. order[first[user] … first[user + 1]) are theirs by time. */
static int64_t event_before(const struct train_set *s, const size_t *order, const size_t *first, uint32_t user,
                            int64_t ts_ms)
{
    size_t low = first[user], high = first[user + 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->ts_ms[order[middle]] <= ts_ms)
            low = middle + 1;
        else
            high = middle;
    }
    return low > first[user] ? (int64_t)order[low - 1] : -1;
}

/* A time in the text's column; `missing` when there is none. */
static int read_time(const char *text, int64_t missing, int64_t *ms, struct error *err)
{
    char *end = NULL;
    errno = 0;
    *ms = text && *text ? strtoll(text, &end, 10) : missing;
    if (end && (errno || *end))
        return error_set(err, "the time is '%s'; it has to be Unix time in milliseconds", text);
    return 0;
}

static int read_line(struct train_target *t, const struct train_set *s, const size_t *order, const size_t *first,
                     char *line, uint64_t *unknown_users, struct error *err)
{
    char *rest = line, *user = strsep(&rest, ","), *label = strsep(&rest, ","), *when = strsep(&rest, ","),
         *since = strsep(&rest, ",");
    int64_t ts_ms, known_ms;
    if (!label || (strcmp(label, "0") != 0 && strcmp(label, "1") != 0))
        return error_set(err, "the label is '%s'; it has to be 0 or 1", label ? label : "");
    if (read_time(when, INT64_MAX, &ts_ms, err) < 0 || read_time(since, INT64_MIN, &known_ms, err) < 0)
        return -1;
    uint32_t id = train_names_find(&s->users, str_of(user));
    int64_t event = id ? event_before(s, order, first, id, ts_ms) : -1;
    if (event < 0)
        ++*unknown_users;
    else
        set(t, (size_t)event, *label - '0', known_ms > s->ts_ms[event] ? known_ms : s->ts_ms[event]);
    return 0;
}

static int read_lines(struct train_target *t, const struct train_set *s, FILE *in, const char *name,
                      const size_t *order, const size_t *first, uint64_t *unknown_users, struct error *err)
{
    char line[8192];
    for (size_t number = 1; fgets(line, sizeof line, in); number++) {
        line[strcspn(line, "\r\n")] = 0;
        if (number == 1) {
            char *rest = line;
            strsep(&rest, ",");
            char *second = strsep(&rest, ",");
            if (!second || strcmp(second, name) != 0)
                return error_set(err, "line 1: the second column is '%s'; for label:%s it has to be '%s'",
                                 second ? second : "", name, name);
        } else if (*line && read_line(t, s, order, first, line, unknown_users, err) < 0) {
            return error_prefix(err, "line %zu", number);
        }
    }
    return ferror(in) ? error_set(err, "cannot be read") : 0;
}

/* The file of the list, by commas, whose header names the label, or else the last one. *path: the caller's to free. */
static FILE *open_labels(const char *list, const char *name, char **path, struct error *err)
{
    char *all = strdup(list), *rest = all, line[8192];
    FILE *found = NULL;
    int failed = 0;
    assert(all);
    *path = NULL;
    for (char *part; !found && !failed && (part = strsep(&rest, ",")) != NULL;) {
        FILE *in = fopen(part, "re");
        if (!in) {
            failed = error_set(err, "%s: %s", part, strerror(errno));
            break;
        }
        char *second = fgets(line, sizeof line, in) ? strchr(line, ',') : NULL;
        size_t n = second ? strcspn(second + 1, ",\r\n") : 0;
        bool named = second && n == strlen(name) && memcmp(second + 1, name, n) == 0;
        if (named || !rest) { /* the last one will say what its header has instead */
            rewind(in);
            found = in;
            *path = strdup(part);
            assert(*path);
        } else {
            fclose(in);
        }
    }
    free(all);
    return found;
}

int train_target_labels(struct train_target *t, const struct train_set *s, const char *paths, const char *name,
                        uint64_t *unknown_users, struct error *err)
{
    char *path;
    FILE *in = open_labels(paths, name, &path, err);
    if (!in)
        return -1;
    size_t *order = train_set_by_user(s), *first = calloc(s->users.n + 2, sizeof *first);
    assert(first);
    for (size_t i = 0; i < s->n; i++)
        first[s->user[i] + 1]++;
    for (uint32_t u = 1; u <= s->users.n + 1; u++)
        first[u] += first[u - 1];
    *unknown_users = 0;
    int rc = read_lines(t, s, in, name, order, first, unknown_users, err);
    if (rc < 0)
        error_prefix(err, "%s", path);
    free(order), free(first), free(path);
    fclose(in);
    return rc;
}
