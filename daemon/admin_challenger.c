// SPDX-License-Identifier: Apache-2.0
// admin_challenger.c - the challenger in shadow for the operators: how the comparison stands; and a promotion is a
// change like any other, so it is in the audit log.
#include "admin_inside.h"

#include "gait/challenger.h"
#include "gait/lstm.h"

#include <math.h>

/* What stands beside the model stage; NULL without a model. */
static const struct instance *challenger_of(const struct engine *e)
{
    for (size_t i = 0; i < e->instances_n; i++)
        if (e->instances[i].module->stage == STAGE_MODEL && e->instances[i].module->beside)
            return &e->instances[i];
    return NULL;
}

static json_t *figures_json(const struct challenger_figures *f)
{
    return json_pack("{s:o,s:o,s:o,s:{s:o,s:o,s:o,s:o}}", "log_loss", admin_number(f->log_loss), "reciprocal_rank",
                     admin_number(f->reciprocal_rank), "intent_brier", admin_number(f->brier), "recall", "1",
                     admin_number(f->recall[0]), "5", admin_number(f->recall[1]), "10", admin_number(f->recall[2]),
                     "20", admin_number(f->recall[3]));
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? admin_string(str_of(text)) : json_null();
}

json_t *admin_challenger_json(const struct admin *a)
{
    const struct instance *in = challenger_of(a->engine);
    struct challenger_status s;
    if (!in)
        return json_null();
    challenger_status(in, &s);
    if (s.state == CHALLENGER_OFF)
        return json_null();
    json_t *json = json_pack("{s:s,s:o,s:o,s:o}", "state", challenger_state_name(s.state), "id",
                             s.model ? json_string(model_id(s.model)) : json_null(),
                             "path", text_or_null(s.path), "why", text_or_null(s.why));
    json_object_update_new(json, json_pack("{s:f,s:I,s:I,s:b,s:I,s:o,s:o}", "share", s.share, "users",
                                           (json_int_t)s.users, "users_max", (json_int_t)s.users_max, "promotes",
                                           (int)s.promotes, "promotions", (json_int_t)s.promotions, "promoted",
                                           text_or_null(s.promoted), "replaced", text_or_null(s.replaced)));
    json_object_set_new(json, "test", json_pack("{s:I,s:I,s:o,s:f,s:f,s:f}", "events", (json_int_t)s.pairs, "intents",
                                                (json_int_t)s.intents, "advantage", admin_number(s.advantage), "margin",
                                                s.margin, "p", s.p, "alpha", s.alpha));
    json_object_set_new(json, "serving_figures", figures_json(&s.serving));
    json_object_set_new(json, "figures", figures_json(&s.challenger));
    return json;
}

void admin_challenger_watch(struct admin *a)
{
    const struct instance *in = challenger_of(a->engine);
    struct challenger_status s;
    if (!in)
        return;
    challenger_status(in, &s);
    if (s.promotions == a->promotions)
        return;
    char about[64];
    a->promotions = s.promotions;
    snprintf(about, sizeof about, "%s in the place of %s", s.promoted, s.replaced);
    admin_audit_line(a, "model.challenger", "promote", about, true, "");
}
