// SPDX-License-Identifier: Apache-2.0
// admin_users.c - one user: what is known about them and why, and erasing them.
//
// The record may have to come from the store, so the caller's connection is suspended until it is there; the answer is
// made inside the lookup's call, while the record is held, and goes out when the connection goes on.
#include "admin_inside.h"

#include "gait/lstm.h"
#include "gait/window.h"

#include <math.h>
#include <stdlib.h>

enum { ALERTS_SHOWN = 10, INTERESTS_SHOWN = 10 };

/* ---- what the record says ----------------------------------------------------------------------------------- */

/* The ring keeps hashes of names; the model's vocabularies know most of the names. */
static json_t *name_json(const struct model *m, enum model_field field, uint32_t hash)
{
    char text[16];
    if (hash == 0)
        return json_null();
    for (uint32_t i = 0; m && i < m->embeddings_n; i++) {
        const struct model_vocabulary *v = &m->embeddings[i].vocabulary;
        int id = m->embeddings[i].field == field ? model_vocabulary_find(v, hash) : -1;
        if (id >= 0)
            return admin_string(v->name[id]);
    }
    snprintf(text, sizeof text, "#%08x", hash);
    return json_string(text);
}

static json_t *event_json(const struct admin *a, const struct model *m, const struct window_event *event)
{
    json_t *json = json_object();
    json_object_set_new(json, "ts", json_integer(event->ts_ms));
    json_object_set_new(json, "type", json_string(event->type < a->engine->types.n ? a->engine->types.name[event->type]
                                                                                   : "unknown"));
    json_object_set_new(json, "category", name_json(m, MODEL_CATEGORY, event->category));
    json_object_set_new(json, "item", name_json(m, MODEL_ITEM, event->item));
    json_object_set_new(json, "price", event->has & HAS_PRICE ? admin_number(event->price) : json_null());
    json_object_set_new(json, "quantity", event->has & HAS_QUANTITY ? admin_number(event->quantity) : json_null());
    json_object_set_new(json, "session", event->session ? json_integer(event->session) : json_null());
    return json;
}

/* Newest first. */
static json_t *events_json(const struct admin *a, const struct instance *window, const struct model *m,
                           struct user *user)
{
    json_t *json = json_array();
    for (uint32_t i = window_ring_count(window, user); i-- > 0;) {
        struct window_event event = window_ring_at(window, user, i);
        json_array_append_new(json, event_json(a, m, &event));
    }
    return json;
}

/* Every window column by its name, as of the newest event. */
static json_t *windows_json(const struct admin *a, const struct instance *window, struct user *user)
{
    const struct columns *columns = a->engine->columns;
    uint32_t n = columns_count(columns), events = window_ring_count(window, user);
    double *by_id = malloc((n + 1) * sizeof *by_id);
    json_t *json = json_object();
    for (uint32_t i = 0; by_id && i < n; i++)
        by_id[i] = NAN; /* other modules' columns stay so and are left out */
    if (by_id && events > 0)
        window_columns_all(window, user, events - 1, by_id);
    for (uint32_t i = 0; by_id && i < n; i++)
        if (isfinite(by_id[i]))
            json_object_set_new(json, columns_name(columns, i), json_real(by_id[i]));
    free(by_id);
    return json;
}

static json_t *top_json(const struct model *m, const float *p, uint32_t classes)
{
    json_t *json = json_array();
    float below = INFINITY;
    for (uint32_t k = 0; k < INTERESTS_SHOWN && k < classes; k++) {
        uint32_t best = classes;
        for (uint32_t id = 0; id < classes; id++)
            if (p[id] < below && (best == classes || p[id] > p[best]))
                best = id;
        if (best == classes)
            break; /* only equal ones are left */
        below = p[best];
        json_array_append_new(json, json_pack("{s:o,s:o}", "category",
                                              admin_string(model_category_name(m, best)), "score",
                                              admin_number(p[best])));
    }
    return json;
}

/* What the model says of the state in the record: the same as the last score. */
static void scores_json(const struct admin *a, struct user *user, json_t *json)
{
    const struct instance *in = engine_instance(a->engine, STAGE_MODEL);
    const struct lstm *l = in ? lstm_at_work(in) : NULL;
    const float *h = l ? lstm_user_hidden(in, user) : NULL;
    json_t *interests = NULL, *intent = NULL;
    if (h && l->model->interest >= 0) {
        uint32_t classes = l->model->heads[l->model->interest].classes;
        float *p = malloc(classes * sizeof *p);
        if (p) {
            lstm_head(l, (uint32_t)l->model->interest, 1, h, p);
            l->kernel->softmax(p, classes);
            interests = top_json(l->model, p, classes);
        }
        free(p);
    }
    if (h && l->model->intent >= 0) {
        float logit;
        lstm_head(l, (uint32_t)l->model->intent, 1, h, &logit);
        intent = admin_number(1 / (1 + exp(-(double)logit)));
    }
    json_object_set_new(json, "model", h ? json_string(model_id(l->model)) : json_null());
    json_object_set_new(json, "interests", interests ? interests : json_array());
    json_object_set_new(json, "intent", intent ? intent : json_null());
}

/* The alerts about the user among the last ones, newest first: what fired, with values and thresholds. */
static void why_json(const struct admin *a, struct str name, json_t *json)
{
    uint64_t newest = watch_alerts_newest(a->watch), oldest = newest - watch_alerts_kept(a->watch);
    json_t *alerts = json_array();
    struct watch_alert alert;
    for (uint64_t number = newest; number > oldest && json_array_size(alerts) < ALERTS_SHOWN; number--)
        if (watch_alert_at(a->watch, number, name, (struct str){0}, &alert))
            json_array_append_new(alerts, json_loadb(alert.text.at, alert.text.len, 0, NULL));
    json_t *last = json_object_get(json_array_get(alerts, 0), "score");
    json_object_set_new(json, "risk", last ? json_incref(last) : json_null());
    json_object_set_new(json, "alerts", alerts);
}

static json_t *user_json(const struct admin *a, struct user *user, bool loaded)
{
    const struct instance *window = engine_instance(a->engine, STAGE_WINDOW);
    const struct instance *in = engine_instance(a->engine, STAGE_MODEL);
    const struct model *m = in ? lstm_at_work(in)->model : NULL;
    struct str name = {user->name, user->name_len};
    uint32_t events = window ? window_ring_count(window, user) : 0;
    int64_t now_ms = clock_wall_ms(&a->engine->clock);
    int64_t last_ms = events ? window_ring_at(window, user, events - 1).ts_ms : 0;
    json_t *json = json_object();
    json_object_set_new(json, "user", admin_string(name));
    json_object_set_new(json, "partition", json_integer(user->partition));
    json_object_set_new(json, "from", json_string(loaded ? "store" : "table"));
    json_object_set_new(json, "next_offset", user->next >= 0 ? json_integer(user->next) : json_null());
    json_object_set_new(json, "last_event_ms", events ? json_integer(last_ms) : json_null());
    json_object_set_new(json, "age_s", events ? json_real((double)(now_ms - last_ms) / 1000) : json_null());
    json_object_set_new(json, "unsaved", json_boolean(user->dirty_from >= 0));
    json_object_set_new(json, "degraded", json_boolean(user->degraded));
    json_object_set_new(json, "erased_ms", user->erased_ms == INT64_MIN ? json_null() : json_integer(user->erased_ms));
    scores_json(a, user, json);
    why_json(a, name, json);
    json_object_set_new(json, "windows", window ? windows_json(a, window, user) : json_object());
    json_object_set_new(json, "events", window ? events_json(a, window, m, user) : json_array());
    return json;
}

/* ---- the calls ---------------------------------------------------------------------------------------------- */

/* The record is here: keep what the answer needs, and let the connection go on. */
static void resume(struct admin_request *r)
{
    struct admin_request **at = &r->admin->waiting;
    while (*at != r)
        at = &(*at)->next_waiting;
    *at = r->next_waiting;
    MHD_resume_connection(r->connection);
    admin_turn_soon(r->admin);
}

static void on_found(void *self, struct user *user, bool loaded)
{
    struct admin_request *r = self;
    r->waiting = NULL;
    r->found = user != NULL;
    if (user) {
        r->partition = user->partition;
        r->json = r->route->handle == admin_get_user ? user_json(r->admin, user, loaded) : NULL;
    }
    resume(r);
}

static void cancel(struct admin_request *r)
{
    lookup_cancel(r->waiting);
    r->waiting = NULL;
}

/* Begins it, or says what is wrong. */
static enum MHD_Result begin_lookup(struct admin_request *r)
{
    struct admin *a = r->admin;
    r->asked = true;
    r->waiting = lookup_begin(a->engine, (struct str){r->id, r->id_len}, on_found, r);
    if (!r->waiting) {
        r->retry_after_s = 1;
        return admin_answer_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "too many look-ups are under way");
    }
    r->cancel = cancel;
    r->until_ms = engine_mono_ms(a->engine) + ADMIN_LOOKUP_MS;
    r->next_waiting = a->waiting;
    a->waiting = r;
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

static enum MHD_Result answer_not_found(struct admin_request *r)
{
    size_t n = r->admin->engine->partitions_n;
    if (r->overdue)
        return admin_answer_error(r, MHD_HTTP_GATEWAY_TIMEOUT, "the store has not answered within %d s",
                                  ADMIN_LOOKUP_MS / 1000);
    return admin_answer_error(r, MHD_HTTP_NOT_FOUND, "none of this process's %zu partitions has a record of this user",
                              n);
}

enum MHD_Result admin_get_user(struct admin_request *r)
{
    if (!r->asked) {
        metric_add(metric_cell(r->admin->engine->metrics, "gait_admin_requests_total", "/api/users/ID"), 1);
        return begin_lookup(r);
    }
    if (!r->found)
        return answer_not_found(r);
    json_t *json = r->json;
    r->json = NULL;
    return admin_answer_json(r, MHD_HTTP_OK, json);
}

/* The engine empties the record, saves the tombstone and has the receipt sent; all that takes its way from here. */
enum MHD_Result admin_post_erase(struct admin_request *r)
{
    struct admin *a = r->admin;
    if (!r->asked) {
        metric_add(metric_cell(a->engine->metrics, "gait_admin_requests_total", "/api/users/ID/erase"), 1);
        return begin_lookup(r);
    }
    int64_t now_ms = clock_wall_ms(&a->engine->clock);
    bool ok = r->found && engine_erase(a->engine, r->partition, (struct str){r->id, r->id_len}, now_ms, OFFSET_NONE);
    admin_audit(r, "erase", r->id, ok,
                ok ? "accepted" : r->found ? "too many erasures are under way" : "no such record");
    if (!r->found)
        return answer_not_found(r);
    if (!ok) {
        r->retry_after_s = 1;
        return admin_answer_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "too many erasures are under way");
    }
    return admin_answer_json(r, MHD_HTTP_ACCEPTED, json_pack("{s:o,s:i,s:I}", "user", admin_string(str_of(r->id)),
                                                             "partition", (int)r->partition, "erased_ms",
                                                             (json_int_t)now_ms));
}

void admin_lookups_overdue(struct admin *a, bool all)
{
    uint64_t now_ms = engine_mono_ms(a->engine);
    for (struct admin_request *r = a->waiting, *next; r; r = next) {
        next = r->next_waiting;
        if (!all && now_ms < r->until_ms)
            continue;
        cancel(r);
        r->overdue = true;
        resume(r);
    }
}
