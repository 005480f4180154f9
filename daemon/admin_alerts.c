// SPDX-License-Identifier: Apache-2.0
// admin_alerts.c - what the shop sees now: the last alerts, the funnel and the interests of the last hour.
#include "admin_inside.h"

#include "gait/lstm.h"

#include <math.h>
#include <stdlib.h>

enum { ALERTS_DEFAULT = 100, INTERESTS_SHOWN = 40, RECENT_MINUTES = 5 };

/* ---- alerts: they are JSON texts already, so they are only strung together ---------------------------------- */

/* -1 when `limit` is no number from 1 to WATCH_ALERTS. */
static int read_limit(struct admin_request *r)
{
    char text[8];
    int given = admin_query(r, "limit", text, sizeof text);
    if (given <= 0)
        return given < 0 ? -1 : ALERTS_DEFAULT;
    for (const char *c = text; *c; c++)
        if (*c < '0' || *c > '9')
            return -1;
    int limit = atoi(text);
    return limit >= 1 && limit <= WATCH_ALERTS ? limit : -1;
}

enum MHD_Result admin_get_alerts(struct admin_request *r)
{
    const struct watch *w = r->admin->watch;
    char user_text[ADMIN_ID_MAX + 1], rule_text[ADMIN_ID_MAX + 1];
    int limit = read_limit(r), by_user = admin_query(r, "user", user_text, sizeof user_text);
    int by_rule = admin_query(r, "rule", rule_text, sizeof rule_text);
    if (limit < 0)
        return admin_answer_error(r, MHD_HTTP_BAD_REQUEST, "limit has to be a number from 1 to %d", WATCH_ALERTS);
    if (by_user < 0 || by_rule < 0)
        return admin_answer_error(r, MHD_HTTP_BAD_REQUEST, "%s is not percent-encoded as it should be, or too long",
                                  by_user < 0 ? "user" : "rule");
    struct str user = by_user ? str_of(user_text) : (struct str){0};
    struct str rule = by_rule ? str_of(rule_text) : (struct str){0};
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return MHD_NO;
    uint64_t newest = watch_alerts_newest(w), oldest = newest - watch_alerts_kept(w);
    struct watch_alert alert;
    int shown = 0;
    fputs("{\"alerts\":[", out);
    for (uint64_t number = newest; number > oldest && shown < limit; number--)
        if (watch_alert_at(w, number, user, rule, &alert))
            fprintf(out, "%s%.*s", shown++ ? "," : "", (int)alert.text.len, alert.text.at);
    fprintf(out, "],\"total\":%llu,\"kept\":%llu}", (unsigned long long)newest, (unsigned long long)(newest - oldest));
    fclose(out);
    metric_add(metric_cell(r->admin->engine->metrics, "gait_admin_requests_total", "/api/alerts"), 1);
    return admin_answer_text(r, "application/json", text, n);
}

/* ---- funnel ------------------------------------------------------------------------------------------------- */

static json_t *funnel_json(const struct admin *a)
{
    const struct event_types *types = &a->engine->types;
    uint32_t minutes = watch_minutes(a->watch), counts[WATCH_MINUTES];
    json_t *json = json_array();
    for (uint32_t type = 0; type < types->n; type++) {
        json_t *by_minute = json_array();
        uint64_t total = 0;
        watch_events(a->watch, type, counts);
        for (uint32_t i = 0; i < minutes; i++) {
            json_array_append_new(by_minute, json_integer(counts[i]));
            total += counts[i];
        }
        json_array_append_new(json, json_pack("{s:s,s:I,s:o}", "type", types->name[type], "count", (json_int_t)total,
                                              "by_minute", by_minute));
    }
    return json;
}

/* ---- interests ---------------------------------------------------------------------------------------------- */

struct interest {
    uint32_t id;
    double now, before;  /* share of all interest in the recent minutes, and in those before */
};

static int by_share(const void *x, const void *y)
{
    const struct interest *a = x, *b = y;
    return a->now != b->now ? (a->now < b->now) - (a->now > b->now) : (a->id > b->id) - (a->id < b->id);
}

/* Recent are the last five minutes or, soon after the start, the newer half of what there is. */
static uint32_t recent_minutes(uint32_t minutes)
{
    uint32_t half = (minutes + 1) / 2;
    return half < RECENT_MINUTES ? half : RECENT_MINUTES;
}

static void sum_interest(const float *by_minute, uint32_t minutes, double *now, double *before)
{
    uint32_t recent = recent_minutes(minutes);
    *now = *before = 0;
    for (uint32_t i = 0; i < minutes; i++)
        *(i + recent >= minutes ? now : before) += by_minute[i];
}

static json_t *interest_json(const struct admin *a, const struct model *m, const struct interest *one, bool compare)
{
    float by_minute[WATCH_MINUTES];
    uint32_t minutes = watch_minutes(a->watch);
    json_t *json = json_object(), *line = json_array();
    watch_interest(a->watch, one->id, by_minute);
    for (uint32_t i = 0; i < minutes; i++)
        json_array_append_new(line, admin_number(by_minute[i]));
    json_object_set_new(json, "category", admin_string(model_category_name(m, one->id)));
    json_object_set_new(json, "share", admin_number(one->now));
    json_object_set_new(json, "change", compare ? admin_number(one->now - one->before) : json_null());
    json_object_set_new(json, "by_minute", line);
    return json;
}

/* Those with the largest share; ordered in a copy on the heap, a few thousand classes at most. */
static json_t *interests_json(const struct admin *a)
{
    struct instance *in = engine_instance(a->engine, STAGE_MODEL);
    const struct model *m = in ? lstm_at_work(in)->model : NULL;
    uint32_t classes = watch_classes(a->watch), minutes = watch_minutes(a->watch);
    json_t *json = json_array();
    if (!m || m->id != watch_model_id(a->watch) || classes == 0)
        return json;
    struct interest *all = calloc(classes, sizeof *all);
    double now = 0, before = 0;
    float by_minute[WATCH_MINUTES];
    for (uint32_t id = 0; all && id < classes; id++) {
        all[id].id = id;
        watch_interest(a->watch, id, by_minute);
        sum_interest(by_minute, minutes, &all[id].now, &all[id].before);
        now += all[id].now;
        before += all[id].before;
    }
    for (uint32_t id = 0; all && id < classes && now == 0; id++)
        all[id].now = all[id].before; /* nothing of late: what the hour was like, without comparison */
    bool quiet = now == 0;
    now = quiet ? before : now;
    for (uint32_t id = 0; all && id < classes; id++) {
        all[id].now = now > 0 ? all[id].now / now : 0;
        all[id].before = before > 0 ? all[id].before / before : 0;
    }
    if (all)
        qsort(all, classes, sizeof *all, by_share);
    for (uint32_t i = 0; all && i < classes && i < INTERESTS_SHOWN && all[i].now > 0; i++)
        json_array_append_new(json, interest_json(a, m, &all[i], before > 0 && !quiet));
    free(all);
    return json;
}

json_t *admin_shop_json(struct admin *a)
{
    uint32_t minutes = watch_minutes(a->watch);
    return json_pack("{s:i,s:i,s:o,s:o}", "minutes", (int)minutes, "recent_minutes", (int)recent_minutes(minutes),
                     "funnel", funnel_json(a), "interests", interests_json(a));
}

enum MHD_Result admin_get_shop(struct admin_request *r)
{
    metric_add(metric_cell(r->admin->engine->metrics, "gait_admin_requests_total", "/api/shop"), 1);
    return admin_answer_json(r, MHD_HTTP_OK, admin_shop_json(r->admin));
}
