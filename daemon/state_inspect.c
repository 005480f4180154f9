// SPDX-License-Identifier: Apache-2.0
// state_inspect.c - `gaitd state inspect`: one user's record, decoded by the modules that wrote it.
#include "engine.h"
#include "state.h"

#include "gait/window.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static json_t *time_text(int64_t ms)
{
    char text[64];
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (ms == INT64_MIN || !gmtime_r(&seconds, &tm))
        return json_null();
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%03dZ", (int)(ms % 1000 < 0 ? 0 : ms % 1000));
    return json_string(text);
}

static json_t *describe_event(const struct engine *e, const struct window_event *event)
{
    json_t *made = json_pack("{s:o, s:s, s:i, s:i, s:i}", "time", time_text(event->ts_ms), "type",
                             event->type < e->types.n ? e->types.name[event->type] : "?", "category_hash",
                             (json_int_t)event->category, "item_hash", (json_int_t)event->item, "session_hash",
                             (json_int_t)event->session);
    if (event->has & HAS_PRICE)
        json_object_set_new(made, "price", json_real((double)event->price));
    if (event->has & HAS_QUANTITY)
        json_object_set_new(made, "quantity", json_real((double)event->quantity));
    return made;
}

/* As they were at the newest event. */
static json_t *describe_windows(struct engine *e, const struct instance *window, struct user *user)
{
    json_t *made = json_object();
    uint32_t n = window_ring_count(window, user);
    if (n == 0)
        return made;
    for (uint32_t id = 0; id < columns_count(e->columns); id++)
        columns_want(e->columns, columns_name(e->columns, id));
    double *row = calloc(columns_width(e->columns), sizeof *row);
    assert(row);
    for (uint32_t i = 0; i < columns_width(e->columns); i++)
        row[i] = NAN; /* other modules' columns are left alone */
    window_columns_at(window, user, n - 1, -1, row);
    for (uint32_t id = 0; id < columns_count(e->columns); id++) {
        double value = row[columns_place(e->columns, id)];
        if (isfinite(value) && value != 0)
            json_object_set_new(made, columns_name(e->columns, id), json_real(value));
    }
    free(row);
    return made;
}

bool state_section(const uint8_t **at, const uint8_t *end, struct state_section *s)
{
    const uint8_t *from = *at;
    size_t room = (size_t)(end - from), head = room ? (size_t)from[0] + 7 : 0;
    if (room == 0 || room < head)
        return false;
    memset(s->name, 0, sizeof s->name);
    memcpy(s->name, from + 1, from[0]);
    memcpy(&s->version, from + head - 6, 2);
    memcpy(&s->len, from + head - 4, 4);
    s->at = from + head;
    if (room - head < s->len)
        return false;
    *at = s->at + s->len;
    return true;
}

/* The frame's sections, those of modules that this configuration does not have included. */
static json_t *describe_sections(const uint8_t *bytes, size_t n)
{
    json_t *made = json_object();
    const uint8_t *at = bytes + STATE_HEAD_BYTES;
    struct state_section s;
    while (state_section(&at, bytes + n, &s))
        json_object_set_new(made, s.name, json_pack("{s:i, s:i}", "version", s.version, "bytes", (json_int_t)s.len));
    return made;
}

static json_t *describe(struct engine *e, struct user *user, const uint8_t *bytes, size_t n)
{
    const struct instance *window = engine_instance(e, STAGE_WINDOW);
    json_t *made = json_pack("{s:s%, s:i, s:i, s:I, s:b, s:o, s:o, s:o}", "user", user->name, (size_t)user->name_len,
                             "partition", user->partition, "bytes", (json_int_t)n, "next",
                                                                     (json_int_t)user->next, "degraded",
                             user->degraded, "erased", time_text(user->erased_ms), "last_applied",
                                                                 time_text(user->touched_ms),
                             "sections", describe_sections(bytes, n));
    assert(made);
    if (!window)
        return made;
    json_t *events = json_array();
    for (uint32_t i = window_ring_count(window, user); i-- > 0;) {
        struct window_event event = window_ring_at(window, user, i);
        json_array_append_new(events, describe_event(e, &event));
    }
    json_object_set_new(made, "events", events);
    json_object_set_new(made, "windows", describe_windows(e, window, user));
    return made;
}

/* The names in front, so that a person finds their way; JSON for programs. */
static void print_text(const json_t *record)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)record, key, value) {
        if (json_is_array(value)) {
            size_t i;
            json_t *one;
            printf("%s, newest first:\n", key);
            json_array_foreach(value, i, one) {
                char *text = json_dumps(one, JSON_COMPACT);
                printf("  %s\n", text);
                free(text);
            }
        } else if (json_is_object(value)) {
            const char *name;
            json_t *one;
            printf("%s:\n", key);
            json_object_foreach(value, name, one) {
                char *text = json_dumps(one, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(10));
                printf("  %-32s %s\n", name, text);
                free(text);
            }
        } else {
            char *text = json_dumps(value, JSON_ENCODE_ANY);
            printf("%-14s %s\n", key, text);
            free(text);
        }
    }
}

static int show(struct engine *e, const struct state_call *call, int32_t partition, const uint8_t *bytes, size_t n,
                struct error *err)
{
    bool made;
    struct user *user = users_get(e->users, partition, str_of(call->operand), &made);
    assert(user && made);
    if (record_decode(e, user, bytes, n, err) < 0)
        return error_prefix(err, "the record in partition %d cannot be read", partition);
    user->state = USER_READY;
    json_t *record = describe(e, user, bytes, n);
    if (call->json) {
        char *text = json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(15));
        puts(text);
        free(text);
    } else {
        print_text(record);
    }
    json_decref(record);
    return 0;
}

/* Which rule the producers chose the partition by is not known, so all are looked into. */
int state_inspect(const struct state_call *call, struct error *err)
{
    int32_t partitions, found = 0;
    if (state_partitions(call, &partitions, err) < 0)
        return -1;
    if (strlen(call->operand) > (size_t)call->config->engine.user_id_bytes)
        return error_set(err, "a user id has at most %lld bytes here", (long long)call->config->engine.user_id_bytes);
    struct engine *e = engine_create(call->config, NULL, &clock_system, true, err);
    if (!e)
        return -1;
    int rc = 0;
    for (int32_t p = 0; p < partitions && rc >= 0; p++) {
        uint8_t *bytes = NULL;
        size_t n = 0;
        if (call->partition >= 0 && call->partition != p)
            continue;
        rc = offline_get(call->offline, p, str_of(call->operand), &bytes, &n, err);
        found += rc == 1;
        if (rc == 1)
            rc = show(e, call, p, bytes, n, err);
        free(bytes);
    }
    engine_destroy(&e);
    if (rc < 0)
        return -1;
    return found ? 0 : error_set(err, "there is no record of user %s in the store; one that was never saved, or has "
                                      "expired",
                                 call->operand);
}
