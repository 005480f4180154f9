// SPDX-License-Identifier: Apache-2.0
// admin_status.c - how the daemon is: health, metrics, /api/status, /api/history, /api/models, /api/reload.
#include "admin_inside.h"
#include "config_compare.h"

#include "gait/lstm.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static const double quantiles[] = {0.5, 0.99, 0.999, 0.9999};
static const char *const quantile_names[] = {"p50", "p99", "p999", "p9999"};
enum { QUANTILES = sizeof quantiles / sizeof *quantiles };

static const char *phase_name(enum engine_phase phase)
{
    static const char *const names[] = {"running", "draining", "closing", "stopped"};
    return names[phase];
}

static void count_call(struct admin_request *r, const char *call)
{
    metric_add(metric_cell(r->admin->engine->metrics, "gait_admin_requests_total", call), 1);
}

/* ---- health and metrics ------------------------------------------------------------------------------------- */

/* It answers, so the loop turns. */
enum MHD_Result admin_get_livez(struct admin_request *r)
{
    count_call(r, "/livez");
    return admin_answer_static(r, "text/plain; charset=utf-8", "ok\n", 3);
}

/* For who routes work to us: stopping is not ready either. */
static bool is_ready(const struct admin *a, const char **why)
{
    *why = "draining";
    return a->engine->phase == ENGINE_RUNNING && engine_ready(a->engine, why);
}

enum MHD_Result admin_get_readyz(struct admin_request *r)
{
    const char *why;
    count_call(r, "/readyz");
    if (!is_ready(r->admin, &why))
        return admin_answer_error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "not ready: %s", why);
    return admin_answer_static(r, "text/plain; charset=utf-8", "ok\n", 3);
}

enum MHD_Result admin_get_metrics(struct admin_request *r)
{
    char *text = NULL;
    size_t n = 0;
    count_call(r, "/metrics");
    FILE *out = open_memstream(&text, &n);
    if (!out)
        return MHD_NO;
    metrics_write(r->admin->engine->metrics, out);
    fclose(out);
    return admin_answer_text(r, "text/plain; version=0.0.4; charset=utf-8", text, n);
}

/* ---- status ------------------------------------------------------------------------------------------------- */

static json_t *offset_json(int64_t offset)
{
    return offset >= 0 ? json_integer(offset) : json_null();
}

static json_t *partition_json(const struct partition *p)
{
    static const char *const states[] = {"opening", "open", "closing", "lost"};
    int64_t lag = p->high - (p->applied_next < 0 ? 0 : p->applied_next);
    json_t *json = json_object();
    json_object_set_new(json, "id", json_integer(p->id));
    json_object_set_new(json, "state", json_string(states[p->state]));
    json_object_set_new(json, "lag", p->high >= 0 ? json_integer(lag > 0 ? lag : 0) : json_null());
    json_object_set_new(json, "committed", offset_json(p->committed_next)); /* C */
    json_object_set_new(json, "saved", offset_json(p->saved_next));         /* W */
    json_object_set_new(json, "applied", offset_json(p->applied_next));
    json_object_set_new(json, "end", offset_json(p->high));
    json_object_set_new(json, "silent_below", offset_json(p->committed));
    json_object_set_new(json, "fence", offset_json(p->fence));
    json_object_set_new(json, "unsaved_users", json_integer((json_int_t)p->dirty_n));
    json_object_set_new(json, "degraded", json_boolean(p->degraded));
    return json;
}

static json_t *partitions_json(const struct engine *e)
{
    json_t *json = json_array();
    for (size_t i = 0; i < e->partitions_n; i++)
        json_array_append_new(json, partition_json(e->partitions[i]));
    return json;
}

static json_t *table_json(const struct engine *e)
{
    size_t slot = users_slot_bytes(e->users);
    json_t *json = json_object();
    json_object_set_new(json, "users", json_integer((json_int_t)users_count(e->users)));
    json_object_set_new(json, "unsaved_users",
                        json_integer((json_int_t)(users_count(e->users) - users_clean(e->users))));
    json_object_set_new(json, "used_bytes", json_integer((json_int_t)(users_slots_used(e->users) * slot)));
    json_object_set_new(json, "limit_bytes", json_integer((json_int_t)(users_slots(e->users) * slot)));
    json_object_set_new(json, "record_bytes", json_integer((json_int_t)slot));
    return json;
}

static json_t *latency_json(const struct admin *a, bool end_to_end)
{
    json_t *json = json_object();
    for (size_t i = 0; i < QUANTILES; i++)
        json_object_set_new(json, quantile_names[i],
                            admin_number(admin_rates_quantile_ms(a, end_to_end, quantiles[i])));
    return json;
}

/* Microseconds an event, over the last seconds. */
static json_t *stages_json(const struct admin *a)
{
    const struct admin_rates *rates = &a->rates;
    uint64_t now = rates->samples_n, then = now > ADMIN_WINDOW_S ? now - ADMIN_WINDOW_S : 0;
    size_t n = now % (ADMIN_WINDOW_S + 1), t = then % (ADMIN_WINDOW_S + 1);
    double events = rates->events[n] - rates->events[t];
    json_t *json = json_object();
    for (size_t i = 0; i < STAGES; i++)
        json_object_set_new(json, stage_name((enum stage)i),
                            admin_number(events > 0 ? 1e6 * (rates->stage_s[n][i] - rates->stage_s[t][i]) / events
                                                    : NAN));
    return json;
}

static json_t *results_json(const struct engine *e)
{
    json_t *json = json_object();
    for (int i = 0; i < EVENT_VERDICTS; i++)
        if (e->m_result[i]->value > 0)
            json_object_set_new(json, event_verdict_name((enum event_verdict)i),
                                json_integer((json_int_t)e->m_result[i]->value));
    return json;
}

static json_t *rates_json(const struct admin *a)
{
    const struct admin_sample *now = admin_rates_latest(a);
    json_t *json = json_object();
    json_object_set_new(json, "events_per_s", admin_number(now->events_per_s));
    json_object_set_new(json, "alerts_per_s", admin_number(now->alerts_per_s));
    json_object_set_new(json, "cpu_share", admin_number(now->cpu_share));
    json_object_set_new(json, "lag", admin_number(now->lag));
    json_object_set_new(json, "own_ms", latency_json(a, false));
    json_object_set_new(json, "end_to_end_ms", latency_json(a, true));
    json_object_set_new(json, "stages_us", stages_json(a));
    return json;
}

/* The model at work; NULL when there is none. */
static const struct model *model_of(const struct engine *e)
{
    struct instance *in = engine_instance((struct engine *)(uintptr_t)e, STAGE_MODEL);
    return in ? lstm_at_work(in)->model : NULL;
}

/* Of the settings as they are now, as the log tells it at the start and after a reload. */
static json_t *config_json(const struct admin *a)
{
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, config_hash(a->config));
    return json_pack("{s:o,s:s}", "file", admin_string(str_of(a->config->name)), "hash", hash);
}

json_t *admin_status_json(struct admin *a)
{
    struct engine *e = a->engine;
    const char *why;
    const struct model *model = model_of(e);
    bool ready = is_ready(a, &why);
    json_t *json = json_object();
    json_object_set_new(json, "version", json_string(GAIT_VERSION));
    json_object_set_new(json, "process", json_integer(getpid()));
    json_object_set_new(json, "started_ms", json_integer(a->started_ms));
    json_object_set_new(json, "now_ms", json_integer(clock_wall_ms(&e->clock)));
    json_object_set_new(json, "uptime_s", json_real((double)(clock_mono_ns(&e->clock) - a->started_ns) * 1e-9));
    json_object_set_new(json, "phase", json_string(phase_name(e->phase)));
    json_object_set_new(json, "ready", json_boolean(ready));
    json_object_set_new(json, "why", ready ? json_null() : admin_string(str_of(why)));
    json_object_set_new(json, "paused", json_boolean(e->source_paused));
    json_object_set_new(json, "config", config_json(a));
    json_object_set_new(json, "model", model ? json_string(model_id(model)) : json_null());
    json_object_set_new(json, "events", json_integer((json_int_t)metrics_sum(e->metrics, "gait_events_total")));
    json_object_set_new(json, "events_by_result", results_json(e));
    json_object_set_new(json, "alerts", json_integer((json_int_t)watch_alerts_newest(a->watch)));
    json_object_set_new(json, "rates", rates_json(a));
    json_object_set_new(json, "partitions", partitions_json(e));
    json_object_set_new(json, "table", table_json(e));
    json_object_set_new(json, "unsaved_age_s", admin_number(e->m_unsaved_age->value));
    json_object_set_new(json, "listeners", json_integer(a->streams_n));
    return json;
}

enum MHD_Result admin_get_status(struct admin_request *r)
{
    count_call(r, "/api/status");
    return admin_answer_json(r, MHD_HTTP_OK, admin_status_json(r->admin));
}

/* ---- history: columns, oldest first ------------------------------------------------------------------------- */

static void history_column(const struct admin_rates *rates, json_t *json, const char *name, size_t offset)
{
    uint64_t n = rates->samples_n < ADMIN_HISTORY ? rates->samples_n : ADMIN_HISTORY;
    json_t *column = json_array();
    for (uint64_t i = rates->samples_n - n; i < rates->samples_n; i++) {
        const char *sample = (const char *)&rates->history[i % ADMIN_HISTORY];
        double value;
        memcpy(&value, sample + offset, sizeof value);
        json_array_append_new(column, admin_number(value));
    }
    json_object_set_new(json, name, column);
}

enum MHD_Result admin_get_history(struct admin_request *r)
{
    const struct admin_rates *rates = &r->admin->rates;
    json_t *json = json_pack("{s:i}", "seconds_apart", 1);
    count_call(r, "/api/history");
#define COLUMN(name) history_column(rates, json, #name, offsetof(struct admin_sample, name))
    COLUMN(events_per_s);
    COLUMN(alerts_per_s);
    COLUMN(lag);
    COLUMN(own_p50_ms);
    COLUMN(own_p99_ms);
    COLUMN(end_p50_ms);
    COLUMN(end_p99_ms);
    COLUMN(cpu_share);
#undef COLUMN
    return admin_answer_json(r, MHD_HTTP_OK, json);
}

/* ---- models ------------------------------------------------------------------------------------------------- */

static json_t *text_as_json(const char *text)
{
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    return json ? json : json_null();
}

/* What the model earned since the daemon started: each event was predicted before it was seen. */
static json_t *prequential_json(const struct engine *e)
{
    static const char *const at[] = {"1", "5", "10", "20"};
    double n = metrics_sum(e->metrics, "gait_model_predictions_total");
    json_t *json = json_pack("{s:I}", "predictions", (json_int_t)n), *recall = json_object();
    double loss = metrics_sum(e->metrics, "gait_model_log_loss_total");
    json_object_set_new(json, "log_loss", admin_number(n > 0 ? loss / n : NAN));
    double ranks = metrics_sum(e->metrics, "gait_model_reciprocal_ranks_total");
    json_object_set_new(json, "reciprocal_rank", admin_number(n > 0 ? ranks / n : NAN));
    double intents = metrics_sum(e->metrics, "gait_model_intents_total");
    double squares = metrics_sum(e->metrics, "gait_model_intent_squares_total");
    json_object_set_new(json, "intent_brier", admin_number(intents > 0 ? squares / intents : NAN));
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        double hits = n > 0 ? metric_cell(e->metrics, "gait_model_hits_total", at[i])->value : 0;
        json_object_set_new(recall, at[i], admin_number(n > 0 ? hits / n : NAN));
    }
    json_object_set_new(json, "recall", recall);
    return json;
}

/* The setting `path` of the model stage, whatever module it is. */
static const char *model_path(const struct instance *in)
{
    for (const struct option *o = in->module->options; o && o->name; o++)
        if (strcmp(o->name, "path") == 0)
            return *(const char **)((char *)in->conf + o->offset);
    return NULL;
}

static json_t *heads_json(const struct model *m)
{
    json_t *json = json_array();
    for (uint32_t i = 0; i < m->heads_n; i++)
        json_array_append_new(json, json_pack("{s:s,s:s,s:s,s:i}", "name", m->heads[i].name, "kind",
                                              model_head_kind_name(m->heads[i].kind), "target", m->heads[i].target,
                                              "classes", (int)m->heads[i].classes));
    return json;
}

static json_t *layers_json(const struct model *m)
{
    json_t *json = json_array();
    for (uint32_t i = 0; i < m->layers_n; i++)
        json_array_append_new(json, json_integer(m->layers[i].hidden));
    return json;
}

enum MHD_Result admin_get_models(struct admin_request *r)
{
    struct admin *a = r->admin;
    struct instance *in = engine_instance(a->engine, STAGE_MODEL);
    const struct model *m = model_of(a->engine);
    json_t *models = json_array();
    count_call(r, "/api/models");
    if (m) {
        json_t *json = json_pack("{s:s,s:b}", "id", model_id(m), "at_work", 1);
        const char *path = model_path(in);
        int64_t since = watch_model_id(a->watch) == m->id ? watch_model_since_ms(a->watch) : 0;
        json_object_set_new(json, "path", path ? admin_string(str_of(path)) : json_null());
        json_object_set_new(json, "first_used_ms", since ? json_integer(since) : json_null());
        json_object_set_new(json, "input", json_integer(m->input));
        json_object_set_new(json, "layers", layers_json(m));
        json_object_set_new(json, "heads", heads_json(m));
        json_object_set_new(json, "training", text_as_json(m->training));
        json_object_set_new(json, "validation", text_as_json(m->metrics));
        bool scored = engine_instance(a->engine, STAGE_SCORE);
        json_object_set_new(json, "live", scored ? prequential_json(a->engine) : json_null());
        json_array_append_new(models, json);
    }
    return admin_answer_json(r, MHD_HTTP_OK, json_pack("{s:o,s:o}", "models", models, "challenger",
                                                       admin_challenger_json(a)));
}

/* ---- changes ------------------------------------------------------------------------------------------------ */

enum MHD_Result admin_post_reload(struct admin_request *r)
{
    struct admin *a = r->admin;
    struct error err = {""};
    count_call(r, "/api/reload");
    bool ok = a->calls.reload(a->calls.self, &err) == 0;
    admin_audit(r, "reload", a->config->name, ok, err.text);
    if (!ok)
        return admin_answer_error(r, MHD_HTTP_CONFLICT, "%s", err.text);
    return admin_answer_json(r, MHD_HTTP_OK, json_pack("{s:s}", "result", *err.text ? err.text : "ok"));
}
