// SPDX-License-Identifier: Apache-2.0
// decode_json.c - the decode stage for JSON: from a message's bytes to a struct event, or to a verdict that refuses it.
//
//   raw bytes ─(decode_simdjson.cc, along the plan)─► values ─(decode_fields.c, by the rules)─► event, verdict, detail
//
// Owns plan, type names and decoder, made at opening and only read by `run`. What it takes: any JSON object in which
// the configured paths lead to the event's fields. Bad input never stops it: each event gets a verdict of its own.
#include "decode_fields.h"

#include "gait/module.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONSENT_OBEY, CONSENT_IGNORE };
enum { UNKNOWN_REFUSE, UNKNOWN_IGNORE };
enum { USER_IDS_PLAIN, USER_IDS_ANY };
enum { USER_BYTES_WITHOUT_TABLE = 1024, PREFETCH_EVENTS = 2, CACHE_LINE_BYTES = 64, PREFETCH_BYTES_MAX = 512,
       LONG_EVENT_BYTES = 16384, PRESET_BYTES = 1 << 16, PRESET_BYTES_MAX = 64 << 20 };

/* What a preset file may say, and the configuration too. */
struct decode_mapping {
    struct option_map fields, types;
    struct option_strings ignore_types;
};

struct decode_json_conf {
    const char *preset;
    struct decode_mapping mapping;
    int time, consent, unknown_types, user_ids;
    int64_t max_event_bytes, max_depth;
};

struct decode_json {
    struct arena *memory;        /* of the preset */
    struct decode_mapping preset;
    struct decode_plan *plan;
    struct decode_types *types;
    struct decoder *decoder;
    char *long_room;             /* where long events are parsed: max_event_bytes and the padding */
    struct decode_rules rules;
};

static const char *const time_choices[] = {"auto", "ms", "s", "us", "iso8601", NULL};
static const char *const consent_choices[] = {"obey", "ignore", NULL};
static const char *const unknown_choices[] = {"refuse", "ignore", NULL};
static const char *const user_id_choices[] = {"plain", "any", NULL};

/* ---- opening --------------------------------------------------------------------------------------------------- */

static const struct option_map_entry *map_find(const struct option_map *map, const char *key)
{
    for (size_t i = 0; i < map->n; i++)
        if (strcmp(map->at[i].key, key) == 0)
            return &map->at[i];
    return NULL;
}

static int check_field_names(const struct option_map *fields, struct error *err)
{
    for (size_t i = 0; i < fields->n; i++) {
        int field = 0;
        while (field < DECODE_FIELDS && strcmp(fields->at[i].key, decode_field_names[field]) != 0)
            field++;
        if (field < DECODE_FIELDS)
            continue;
        char all[512] = "";
        for (int f = 0; f < DECODE_FIELDS; f++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", f ? ", " : "", decode_field_names[f]);
        return error_set(err, "fields: line %d: an event has no field '%s'; it has %s", fields->at[i].line,
                         fields->at[i].key, all);
    }
    return 0;
}

/* A field without a mapping is looked for under its own name, but not beside a preset: in a foreign format the same
 * name can mean something else. The path "" switches a field off. */
static int open_plan(struct decode_json *d, const struct decode_json_conf *conf, struct error *err)
{
    d->plan = decode_plan_create();
    if (check_field_names(&conf->mapping.fields, err) < 0)
        return -1;
    if (check_field_names(&d->preset.fields, err) < 0)
        return error_prefix(err, "preset %s", conf->preset);
    for (int f = 0; f < DECODE_FIELDS; f++) {
        const char *name = decode_field_names[f];
        const struct option_map_entry *entry = map_find(&conf->mapping.fields, name);
        const struct option_strings own = {.at = (const char *[]){name}, .n = conf->preset ? 0 : 1};
        if (!entry)
            entry = map_find(&d->preset.fields, name);
        const struct option_strings *paths = entry ? &entry->values : &own;
        for (size_t i = 0; i < paths->n; i++)
            if (paths->at[i][0] && decode_plan_add(d->plan, (enum decode_field)f, paths->at[i], err) < 0)
                return error_prefix(err, "fields: %s", name);
    }
    return 0;
}

/* The names of one mapping. `given` holds those that have a meaning already and keep it. */
static int add_types(struct decode_types *types, const struct decode_types *given, const struct decode_mapping *mapping,
                     const struct event_types *known, struct error *err)
{
    for (size_t i = 0; i < mapping->types.n; i++) {
        const struct option_map_entry *entry = &mapping->types.at[i];
        int type = event_type_find(known, str_of(entry->key));
        if (type < 0)
            return error_set(err, "types: line %d: '%s' is no event type; types beside the built-in ones are named in "
                             "engine.event_types", entry->line, entry->key);
        for (size_t j = 0; j < entry->values.n; j++) {
            const char *name = entry->values.at[j];
            if (decode_types_find(given, str_of(name)) < 0 && !decode_types_add(types, name, type))
                return error_set(err, "types: line %d: '%s' stands for two event types", entry->line, name);
        }
    }
    for (size_t i = 0; i < mapping->ignore_types.n; i++) {
        const char *name = mapping->ignore_types.at[i];
        if (decode_types_find(given, str_of(name)) < 0 && !decode_types_add(types, name, DECODE_TYPE_IGNORED))
            return error_set(err, "ignore_types: '%s' stands for an event type already", name);
    }
    return 0;
}

/* The configuration's names come before the preset's, and those before our own. */
static int open_types(struct decode_json *d, const struct decode_json_conf *conf, const struct event_types *known,
                      struct error *err)
{
    struct decode_types *given = decode_types_create();
    d->types = decode_types_create();
    int rc = add_types(d->types, given, &conf->mapping, known, err);
    if (rc == 0)
        rc = add_types(given, given, &conf->mapping, known, err);
    if (rc == 0 && add_types(d->types, given, &d->preset, known, err) < 0)
        rc = error_prefix(err, "preset %s", conf->preset);
    for (uint32_t i = 0; i < known->n; i++)
        decode_types_add(d->types, known->name[i], (int)i);
    decode_types_destroy(&given);
    return rc;
}

static int open_preset(struct decode_json *d, const struct decode_json_conf *conf, struct error *err)
{
    static const struct option rows[] = {
        {"fields", OPTION_MAP, offsetof(struct decode_mapping, fields), NULL, 0, 0, NULL, 0, NULL},
        {"types", OPTION_MAP, offsetof(struct decode_mapping, types), NULL, 0, 0, NULL, 0, NULL},
        {"ignore_types", OPTION_STRINGS, offsetof(struct decode_mapping, ignore_types), NULL, 0, 0, NULL, 0, NULL},
        {NULL, 0, 0, NULL, 0, 0, NULL, 0, NULL},
    };
    if (!conf->preset)
        return 0;
    d->memory = arena_create(PRESET_BYTES, PRESET_BYTES_MAX);
    if (option_file(conf->preset, rows, &d->preset, d->memory, err) < 0)
        return error_prefix(err, "preset");
    return 0;
}

/* What may change at any time, as the settings are now. */
static void take_rules(struct decode_json *d, const struct decode_json_conf *conf)
{
    d->rules.time = (enum decode_time)conf->time;
    d->rules.obey_consent = conf->consent == CONSENT_OBEY;
    d->rules.ignore_unknown = conf->unknown_types == UNKNOWN_IGNORE;
    d->rules.any_user = conf->user_ids == USER_IDS_ANY;
}

static int decode_json_open(struct instance *in, bool check, struct error *err)
{
    const struct decode_json_conf *conf = in->conf;
    struct decode_json *d = calloc(1, sizeof *d);
    (void)check;
    assert(d);
    in->self = d;
    if (open_preset(d, conf, err) < 0 || open_plan(d, conf, err) < 0 || open_types(d, conf, in->types, err) < 0)
        return -1;
    d->decoder = decoder_create(d->plan, (size_t)conf->max_event_bytes, (size_t)conf->max_depth, true);
    d->long_room = malloc((size_t)conf->max_event_bytes + DECODE_PADDING);
    if (!d->decoder || !d->long_room)
        return error_set(err, "max_event_bytes: no memory for a parser of %lld bytes",
                         (long long)conf->max_event_bytes);
    d->rules = (struct decode_rules){.user_bytes = USER_BYTES_WITHOUT_TABLE, .types = d->types};
    take_rules(d, conf);
    return 0;
}

static void decode_json_flow(struct instance *in, const struct flow *flow)
{
    if (flow->kind == FLOW_SWAP)
        take_rules(in->self, in->conf);
}

static void decode_json_close(struct instance *in)
{
    struct decode_json *d = in->self;
    if (!d)
        return;
    decoder_destroy(&d->decoder);
    free(d->long_room);
    arena_destroy(&d->memory);
    decode_plan_destroy(&d->plan);
    decode_types_destroy(&d->types);
    free(d);
    in->self = NULL;
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

/* Messages lie wherever the source's buffers are: have the next ones on their way while this one is parsed. */
static void prefetch(const struct batch *b, uint32_t i)
{
    if (i >= b->n)
        return;
    struct str raw = b->events[i].raw;
    uint32_t bytes = raw.len < PREFETCH_BYTES_MAX ? raw.len : PREFETCH_BYTES_MAX;
    for (uint32_t at = 0; at < bytes; at += CACHE_LINE_BYTES)
        __builtin_prefetch(raw.at + at);
}

/* Of a long event only the few strings that matter go into the arena. False when it is full. */
static bool keep_texts(struct decode_values *values, struct arena *arena)
{
    for (int i = 0; i < DECODE_FIELDS; i++) {
        struct str *text = &values->at[i].text;
        if (values->kind[i] == DECODE_TEXT && !(text->at = arena_copy(arena, text->at, text->len)))
            return false;
    }
    return true;
}

static void parse_event(struct decode_json *d, struct event *event, struct arena *arena)
{
    struct decode_values values;
    bool is_long = event->raw.len > LONG_EVENT_BYTES;
    char *room = is_long ? d->long_room : arena_take(arena, event->raw.len + DECODE_PADDING);
    if (!room) {
        decode_out_of_room(event);
        return;
    }
    event->verdict = decoder_parse(d->decoder, event->raw, room, &values, &event->detail);
    if (event->verdict != EVENT_OK)
        return;
    if (is_long && !keep_texts(&values, arena))
        decode_out_of_room(event);
    else
        decode_fields(&d->rules, &values, event, arena);
}

static void decode_event(struct decode_json *d, struct event *event, struct arena *arena)
{
    size_t from = offsetof(struct event, verdict), to = offsetof(struct event, record);
    enum event_verdict source_says = event->verdict;
    memset((char *)event + from, 0, to - from);
    if (source_says != EVENT_OK && source_says != EVENT_EMPTY) {
        event->verdict = source_says; /* a line that is too long, say: the first reason found stays */
        event->detail = "refused by the source";
        return;
    }
    if (event->raw.len == 0) {
        event->verdict = EVENT_EMPTY;
        event->detail = "a message without a value";
        return;
    }
    parse_event(d, event, arena);
}

static void decode_json_run(struct instance *in, struct batch *b)
{
    struct decode_json *d = in->self;
    if (in->users) /* the table's bound on user ids is ours too */
        d->rules.user_bytes = users_name_bytes(in->users);
    for (uint32_t i = 0; i < b->n; i++) {
        prefetch(b, i + PREFETCH_EVENTS);
        decode_event(d, &b->events[i], b->arena);
    }
}

static const struct option decode_json_options[] = {
    {"preset", OPTION_PATH, offsetof(struct decode_json_conf, preset), NULL, 0, 0, NULL, OPTION_RESTART,
     "A file with fields, types and ignore_types for a known format: presets/segment.yaml, presets/snowplow.yaml or "
     "presets/ga4.yaml, or one of your own. What the settings beside it say comes first, name by name."},
    {"fields", OPTION_MAP, offsetof(struct decode_json_conf, mapping.fields), NULL, 0, 0, NULL, OPTION_RESTART,
     "Where the event's fields are found: field name to a path of keys joined by dots, such as properties.price or "
     "items.0.item_id; of several paths the first one present wins. A field not named here is looked for under its own "
     "name, unless there is a preset; \"\" switches it off. A dot inside a key is written \\."},
    {"types", OPTION_MAP, offsetof(struct decode_json_conf, mapping.types), NULL, 0, 0, NULL, OPTION_RESTART,
     "Names of event types in the input: our name to one or several of theirs. Our own names hold as well."},
    {"ignore_types", OPTION_STRINGS, offsetof(struct decode_json_conf, mapping.ignore_types), NULL, 0, 0, NULL,
     OPTION_RESTART, "Event types that are passed over: counted as ignored, no dead letter."},
    {"unknown_types", OPTION_ENUM, offsetof(struct decode_json_conf, unknown_types), "refuse", 0, 0, unknown_choices, 0,
     "What becomes of other types: refuse (dead letter) or ignore (counted)."},
    {"time", OPTION_ENUM, offsetof(struct decode_json_conf, time), "auto", 0, 0, time_choices, 0,
     "How ts is written: ms, s or us since 1970 (fractions allowed), iso8601, or auto, which tells them apart: numbers "
     "below 1e11 are seconds, below 1e14 milliseconds, below 1e17 microseconds."},
    {"consent", OPTION_ENUM, offsetof(struct decode_json_conf, consent), "obey", 0, 0, consent_choices, 0,
     "obey: an event with consent: false is counted and neither processed nor kept. ignore: the field is not read."},
    {"user_ids", OPTION_ENUM, offsetof(struct decode_json_conf, user_ids), "plain", 0, 0, user_id_choices, 0,
     "plain: a user id with a double quote or a control character, a line break for instance, is a dead letter. any: "
     "only NUL and more than engine.user_id_bytes are."},
    {"max_event_bytes", OPTION_BYTES, offsetof(struct decode_json_conf, max_event_bytes), "1MB", 256, 1 << 28, NULL,
     OPTION_RESTART, "Longer events are refused. About 16 times this is reserved, and used as far as events are long."},
    {"max_depth", OPTION_INT, offsetof(struct decode_json_conf, max_depth), "64", 2, 1024, NULL, OPTION_RESTART,
     "Deeper nested events are refused."},
    {NULL, 0, 0, NULL, 0, 0, NULL, 0, NULL},
};

const struct module decode_json = {
    .name = "decode_json",
    .summary = "Clicks as JSON objects, one a message, with a mapping for foreign formats.",
    .stage = STAGE_DECODE,
    .options = decode_json_options,
    .conf_size = sizeof(struct decode_json_conf),
    .open = decode_json_open,
    .run = decode_json_run,
    .flow = decode_json_flow,
    .close = decode_json_close,
};
