// SPDX-License-Identifier: Apache-2.0
// rule_fraud.c - weighted rules over windows and signals. Stage rule: after score, before sink.
//
// Every rule that fires is a symbol with a weight; the sum of weights decides the action. b->risk gets the sum, and an
// event whose sum reaches the lowest action's score an alert with the symbols. The rules are a file; when it changes it
// is read again between batches, as a whole or not at all.
#include "file_mark.h"
#include "rule_parts.h"

#include "gait/log.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CACHE_LINE = 64, PREFETCH_AHEAD = 6, TEXT_BYTES = 512 };

static const struct option options[] = {
    {.name = "rules", .type = OPTION_PATH, .offset = offsetof(struct rule_conf, path),
     .flags = OPTION_REQUIRED,
     .help = "The rules file. It is read again when it changes; a file with a mistake is refused and the rules before "
             "it stay."},
    {.name = "new_for", .type = OPTION_DURATION, .offset = offsetof(struct rule_conf, new_ms), .initial = "24h",
     .min = 1000, .max = 366.0 * 86400000, .flags = OPTION_RESTART,
     .help = "How long a user's device or country counts as new (device.new)."},
    {.name = "failed_within", .type = OPTION_DURATION, .offset = offsetof(struct rule_conf, failed_ms),
     .initial = "10m", .min = 1000, .max = 86400000, .flags = OPTION_RESTART,
     .help = "How far back login.failed_before_success looks."},
    {.name = "amount_purchases", .type = OPTION_INT, .offset = offsetof(struct rule_conf, amount_purchases),
     .initial = "5", .min = 2, .max = 64, .flags = OPTION_RESTART,
     .help = "Purchases of a user that amount.z needs before it says anything."},
    {.name = "regularity_clicks", .type = OPTION_INT, .offset = offsetof(struct rule_conf, regularity_clicks),
     .initial = "12", .min = 3, .max = SIGNAL_GAPS, .flags = OPTION_RESTART,
     .help = "Gaps between clicks of a visit that click.regularity and click.rate need before they say anything."},
    {.name = NULL},
};

static const struct metric metrics[] = {
    {"gait_alerts_total", METRIC_COUNTER, "action", "Alerts by action, without those of replayed events."},
    {"gait_alerts_quiet_total", METRIC_COUNTER, NULL, "Alerts held back because an earlier one said as much."},
    {"gait_alerts_lost_total", METRIC_COUNTER, NULL, "Alerts that found no room in the batch's memory."},
    {"gait_rule_fired_total", METRIC_COUNTER, "rule", "Events for which a rule fired."},
    {"gait_rule_shadow_fired_total", METRIC_COUNTER, "rule", "Events for which a rule in shadow fired."},
    {"gait_rule_reloads_total", METRIC_COUNTER, "result", "Times the changed rules file was read: ok or refused."},
    {"gait_rules", METRIC_GAUGE, NULL, "Rules at work."},
    {NULL, 0, NULL, NULL},
};

struct rule_self {
    struct signals signals;
    struct rule_set *set;
    struct rule_set *next;    /* between FLOW_PREPARE and FLOW_SWAP */
    struct file_mark seen;    /* of the file as last looked at, good or not */
    struct file_mark next_seen;
    struct metric_cell *m_quiet, *m_lost, *m_rules;
};

/* ---- opening and reloading ------------------------------------------------------------------------------------ */

static void use_set(struct instance *in, struct rule_set *set)
{
    struct rule_self *self = in->self;
    for (uint32_t i = 0; i < set->rules_n; i++) {
        struct rule *rule = &set->rules[i];
        const char *row = rule->shadow ? "gait_rule_shadow_fired_total" : "gait_rule_fired_total";
        rule->fired = metric_cell(in->metrics, row, rule->name);
    }
    for (uint32_t i = 0; i < set->bands_n; i++)
        set->bands[i].alerts = metric_cell(in->metrics, "gait_alerts_total", set->bands[i].name);
    rule_set_destroy(&self->set);
    self->set = set;
    in->content = set->hash;
    metric_set(self->m_rules, set->rules_n);
}

static int rule_open(struct instance *in, bool check, struct error *err)
{
    const struct rule_conf *conf = in->conf;
    struct rule_self *self = calloc(1, sizeof *self);
    assert(self);
    (void)check;
    in->self = self;
    in->user_size = sizeof(struct signal_state);
    self->m_quiet = metric_cell(in->metrics, "gait_alerts_quiet_total", NULL);
    self->m_lost = metric_cell(in->metrics, "gait_alerts_lost_total", NULL);
    self->m_rules = metric_cell(in->metrics, "gait_rules", NULL);
    self->signals.new_ms = conf->new_ms;
    self->signals.failed_ms = conf->failed_ms;
    self->signals.amount_purchases = (uint32_t)conf->amount_purchases;
    self->signals.regularity_clicks = (uint32_t)conf->regularity_clicks;
    signals_announce(&self->signals, in);
    file_mark_renewed(&self->seen, conf->path);
    struct rule_set *set = rule_set_load(in, conf->path, err);
    if (!set)
        return -1;
    use_set(in, set);
    return 0;
}

/* NULL with a text. Counts, whoever asked for it. */
static struct rule_set *read_again(struct instance *in, const char *path, struct error *err)
{
    struct rule_set *set = rule_set_load(in, path, err);
    metric_add(metric_cell(in->metrics, "gait_rule_reloads_total", set ? "ok" : "refused"), 1);
    return set;
}

static void read_changed(struct instance *in, const char *path)
{
    struct error err;
    struct rule_set *set = read_again(in, path, &err);
    if (!set) {
        log_error(in->name, "the changed rules are refused, those before stay at work: %s", err.text);
        return;
    }
    use_set(in, set);
    log_notice(in->name, "rules read again from %s: %u rules, %u lists", path, set->rules_n, set->lists_n);
}

static void prepare(struct instance *in, struct flow_change *change)
{
    struct rule_self *self = in->self;
    const char *path = ((const struct rule_conf *)change->conf)->path;
    self->next_seen = (struct file_mark){0};
    file_mark_renewed(&self->next_seen, path);
    self->next = read_again(in, path, &change->text);
    change->refused = !self->next;
    if (self->next && self->next->hash != self->set->hash)
        error_set(&change->text, "other rules: %u rules, %u lists", self->next->rules_n, self->next->lists_n);
}

static void rule_flow(struct instance *in, const struct flow *flow)
{
    struct rule_self *self = in->self;
    const struct rule_conf *conf = in->conf;
    if (flow->kind == FLOW_PREPARE) {
        prepare(in, flow->change);
    } else if (flow->kind == FLOW_DISCARD) {
        rule_set_destroy(&self->next);
    } else if (flow->kind == FLOW_SWAP) {
        use_set(in, self->next);
        self->next = NULL;
        self->seen = self->next_seen;
    } else if (flow->kind == FLOW_TICK && file_mark_renewed(&self->seen, conf->path)) {
        read_changed(in, conf->path);
    }
}

static void rule_close(struct instance *in)
{
    struct rule_self *self = in->self;
    if (self) {
        rule_set_destroy(&self->set);
        rule_set_destroy(&self->next);
    }
    free(self);
    in->self = NULL;
}

/* ---- evaluation ----------------------------------------------------------------------------------------------- */

static struct str field_of(const struct event *event, enum rule_field field)
{
    switch (field) {
    case RULE_USER: return event->user;
    case RULE_IP: return event->ip;
    case RULE_DEVICE: return event->device;
    case RULE_COUNTRY: return event->country;
    case RULE_SESSION: return event->session;
    case RULE_ITEM: return event->item;
    case RULE_CATEGORY: return event->category;
    case RULE_CAMPAIGN: return event->campaign;
    case RULE_FIELDS: break;
    }
    return (struct str){0};
}

static bool holds(const struct rule_set *set, const struct rule_condition *c, const struct event *event,
                  const double *row)
{
    double value = c->operator < RULE_IN ? row[c->place] : 0;
    switch ((enum rule_operator)c->operator) {
    case RULE_GE: return value >= c->number;
    case RULE_GT: return value > c->number;
    case RULE_LE: return value <= c->number;
    case RULE_LT: return value < c->number;
    case RULE_EQ: return value == c->number;
    case RULE_NE: return value != c->number;
    case RULE_IN: return rule_list_holds(&set->lists[c->list], field_of(event, c->field));
    case RULE_NOT_IN: return !rule_list_holds(&set->lists[c->list], field_of(event, c->field));
    }
    return false;
}

static bool fires(const struct rule_set *set, const struct rule *rule, const struct event *event, const double *row)
{
    for (uint32_t i = 0; i < rule->conditions_n; i++)
        if (!holds(set, &rule->conditions[i], event, row))
            return false;
    return true;
}

/* ---- alerts --------------------------------------------------------------------------------------------------- */

/* Whole numbers as such, others with two decimals. */
static int put_number(char *out, size_t cap, double value)
{
    if (value == floor(value) && fabs(value) < 1e15)
        return snprintf(out, cap, "%.0f", value);
    return snprintf(out, cap, fabs(value) < 1e15 ? "%.2f" : "%g", value);
}

/* The rule's text with {value}, {threshold} and {user} filled in, cut at TEXT_BYTES. */
static const char *alert_text(struct arena *arena, const struct rule *rule, const struct alert_symbol *symbol,
                              struct str user)
{
    char out[TEXT_BYTES];
    size_t n = 0;
    for (const char *at = rule->text; *at && n < sizeof out - 1;) {
        size_t room = sizeof out - n;
        int len = -1;
        if (strncmp(at, "{value}", 7) == 0 && (at += 7))
            len = put_number(out + n, room, symbol->value);
        else if (strncmp(at, "{threshold}", 11) == 0 && (at += 11))
            len = put_number(out + n, room, symbol->threshold);
        else if (strncmp(at, "{user}", 6) == 0 && (at += 6))
            len = snprintf(out + n, room, "%.*s", (int)user.len, user.at);
        if (len < 0) {
            out[n++] = *at++;
            continue;
        }
        n += (size_t)len < room ? (size_t)len : room - 1;
    }
    char *text = arena_copy(arena, out, n);
    return text ? text : rule->name;
}

static struct alert_symbol symbol_of(const struct rule *rule, const struct event *event, const double *row,
                                     struct arena *arena)
{
    const struct rule_condition *shown = rule->shown >= 0 ? &rule->conditions[rule->shown] : NULL;
    struct alert_symbol symbol = {
        .name = rule->name,
        .weight = rule->weight,
        .value = shown ? row[shown->place] : NAN,
        .threshold = shown ? shown->number : NAN,
    };
    symbol.text = alert_text(arena, rule, &symbol, event->user);
    return symbol;
}

static uint64_t alert_id(const struct rule_set *set, const struct event *event)
{
    struct {
        int64_t offset, partition;
        uint64_t set;
    } key = {event->offset, event->partition, set->hash};
    return XXH3_64bits(&key, sizeof key);
}

static const struct rule_band *band_of(const struct rule_set *set, double score)
{
    const struct rule_band *band = NULL;
    for (uint32_t i = 0; i < set->bands_n && score >= set->bands[i].least; i++)
        band = &set->bands[i];
    return band;
}

/* An earlier alert within the quiet time said as much: of the same action or a higher one. */
static bool is_quiet(const struct rule_set *set, struct signal_state *state, const struct event *event,
                     const struct rule_band *band)
{
    int64_t since_ms = event->ts_ms - state->alert_ms;
    bool recent = state->alert_ms > 0 && since_ms < set->quiet_ms && -since_ms < set->quiet_ms;
    const struct rule_band *before = recent ? band_of(set, state->alert_score) : NULL;
    return before && before >= band;
}

static void raise_alert(struct instance *in, struct batch *b, uint32_t i, double score, const uint16_t *fired,
                        uint32_t n)
{
    struct rule_self *self = in->self;
    const struct rule_set *set = self->set;
    const struct event *event = &b->events[i];
    struct signal_state *state = user_section(event->record, in->user_offset);
    const struct rule_band *band = band_of(set, score);
    if (!band)
        return;
    if (is_quiet(set, state, event, band)) {
        metric_add(self->m_quiet, 1);
        return;
    }
    state->alert_ms = event->ts_ms;
    state->alert_score = score;
    struct alert_symbol *symbols = arena_take(b->arena, n * sizeof *symbols);
    struct str *ids = arena_take(b->arena, sizeof *ids);
    if (!symbols || !ids) {
        metric_add(self->m_lost, 1);
        log_often(LOG_ERROR, in->name, "an alert is lost: the batch has no memory left; lower engine.batch_events");
        return;
    }
    for (uint32_t k = 0; k < n; k++)
        symbols[k] = symbol_of(&set->rules[fired[k]], event, batch_row(b, i), b->arena);
    *ids = event->event_id;
    b->alerts[b->alerts_n++] = (struct alert){
        .event = i,
        .id = alert_id(set, event),
        .action = band->name,
        .score = score,
        .n = n,
        .symbols = symbols,
        .n_event_ids = event->event_id.len > 0,
        .event_ids = ids,
    };
    if (!event->silent)
        metric_add(band->alerts, 1);
}

static void judge(struct instance *in, struct batch *b, uint32_t i)
{
    const struct rule_set *set = ((struct rule_self *)in->self)->set;
    const struct event *event = &b->events[i];
    const double *row = batch_row(b, i);
    uint16_t fired[ALERT_SYMBOLS_MAX];
    uint32_t n = 0;
    double score = 0;
    for (uint32_t k = 0; k < set->of_type_n[event->type]; k++) {
        uint16_t index = set->of_type[event->type][k];
        const struct rule *rule = &set->rules[index];
        if (!fires(set, rule, event, row))
            continue;
        metric_add(rule->fired, 1);
        if (rule->shadow)
            continue;
        score += rule->weight;
        if (n < ALERT_SYMBOLS_MAX)
            fired[n++] = index;
    }
    b->risk[i] = (float)score;
    if (score > 0)
        raise_alert(in, b, i, score, fired, n);
}

static void prefetch(struct instance *in, struct batch *b, uint32_t i)
{
    if (i >= b->n || !b->events[i].record)
        return;
    const char *at = user_section(b->events[i].record, in->user_offset);
    for (size_t k = 0; k < offsetof(struct signal_state, login_ms); k += CACHE_LINE)
        __builtin_prefetch(at + k, 1);
}

static void rule_run(struct instance *in, struct batch *b)
{
    struct rule_self *self = in->self;
    signals_plan(&self->signals, in);
    for (uint32_t i = 0; i < b->n; i++) {
        prefetch(in, b, i + PREFETCH_AHEAD);
        if (b->events[i].verdict != EVENT_OK)
            continue;
        struct signal_state *state = user_section(b->events[i].record, in->user_offset);
        signals_step(&self->signals, state, &b->events[i], batch_row(b, i));
        judge(in, b, i);
    }
}

static void rule_record(struct instance *in, struct user *user, struct record_io *io)
{
    signals_record(user_section(user, in->user_offset), io);
}

const struct module rule_fraud = {
    .name = "rule_fraud",
    .summary = "Weighted rules over windows and signals; their sum decides the action, alerts say why.",
    .stage = STAGE_RULE,
    .options = options,
    .conf_size = sizeof(struct rule_conf),
    .metrics = metrics,
    .record_version = 1,
    .open = rule_open,
    .run = rule_run,
    .flow = rule_flow,
    .record = rule_record,
    .close = rule_close,
};
