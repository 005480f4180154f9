// SPDX-License-Identifier: Apache-2.0
// reference.c - the reference as text for the terminal, and as the full configuration file. Nothing here knows a
// setting by name: what the option rows say is all there is.
#include "reference.h"

#include "config_value.h"
#include "module.h"

#include <stdarg.h>

bool reference_at(size_t index, struct reference *out)
{
    bool taken[STAGES] = {0};
    for (size_t i = 0; modules[i]; i++) {
        const struct module *m = modules[i];
        if (i == index) {
            *out = (struct reference){stage_name(m->stage), module_kind(m), m->summary, m->options, m->several,
                                      !taken[m->stage],
                                      taken[m->stage] && m->stage != STAGE_SINK && !m->beside};
            return true;
        }
        taken[m->stage] = true;
    }
    for (size_t i = 0; modules[i]; i++)
        index--;
    for (size_t i = 0; config_sections[i].name; i++) {
        const struct config_section *s = &config_sections[i];
        if (i == index) {
            *out = (struct reference){.kind = s->name, .summary = s->summary, .options = s->options};
            return true;
        }
    }
    return false;
}

void reference_name(const struct reference *ref, char *text, size_t cap)
{
    snprintf(text, cap, "%s%s%s", ref->stage ? ref->stage : "", ref->stage ? "." : "", ref->kind);
}

/* ---- phrases ----------------------------------------------------------------------------------------------------- */

static void add(char *text, size_t cap, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void add(char *text, size_t cap, const char *format, ...)
{
    size_t n = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + n, cap - n, format, args);
    va_end(args);
}

void reference_facts(const struct option *o, char *text, size_t cap)
{
    char bound[VALUE_TEXT_MAX];
    *text = 0;
    if (o->type == OPTION_ENUM) {
        for (int i = 0; o->choices[i]; i++)
            add(text, cap, "%s%s", i ? (o->choices[i + 1] ? ", " : " or ") : "", o->choices[i]);
    } else {
        add(text, cap, "%s", option_type_phrase(o->type));
    }
    if (o->min != 0 || o->max != 0) {
        add(text, cap, o->max >= o->min ? " from %s" : " of at least %s", option_bound_text(o, o->min, bound));
        if (o->max >= o->min)
            add(text, cap, " to %s", option_bound_text(o, o->max, bound));
    }
    if (o->flags & OPTION_SECRET)
        add(text, cap, "%s {file: PATH} or {credential: NAME}", o->type >= OPTION_STRINGS ? ", each may be" : ", or");
    if (o->flags & OPTION_REQUIRED)
        add(text, cap, "; required");
    else if (o->initial)
        add(text, cap, "; default %s", o->initial[0] ? o->initial : "\"\"");
    else
        add(text, cap, "; not set by default");
    if (o->flags & OPTION_RESTART)
        add(text, cap, "; a change needs a restart");
}

void reference_wrap(FILE *out, const char *indent, int width, const char *text)
{
    int column = 0;
    while (*text) {
        size_t word = strcspn(text, " \n");
        int shown = 0;
        for (size_t i = 0; i < word; i++)
            shown += ((unsigned char)text[i] & 0xC0) != 0x80; /* UTF-8: one for each character */
        if (column > 0 && column + 1 + shown > width) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%s%.*s", column ? " " : indent, (int)word, text);
        column += shown + (column > 0);
        text += word;
        text += strspn(text, " \n");
    }
    fputc('\n', out);
}

/* ---- for the terminal -------------------------------------------------------------------------------------------- */

bool reference_text(FILE *out, const char *only)
{
    struct reference ref;
    bool found = false;
    for (size_t i = 0; reference_at(i, &ref); i++) {
        char name[64], facts[1024];
        reference_name(&ref, name, sizeof name);
        if (only && strcmp(only, name) != 0 && !(ref.stage && strcmp(only, ref.stage) == 0))
            continue;
        fprintf(out, "%s%s\n", found ? "\n" : "", name);
        reference_wrap(out, "  ", 76, ref.summary);
        for (const struct option *o = ref.options; o && o->name; o++) {
            reference_facts(o, facts, sizeof facts);
            fprintf(out, "\n  %s: ", o->name);
            fprintf(out, "%s\n", facts);
            reference_wrap(out, "      ", 72, o->help);
        }
        found = true;
    }
    return found;
}

/* ---- the full configuration -------------------------------------------------------------------------------------- */

/* A default as YAML: lists and maps are written so already, texts get quotes where YAML would misread them. */
static void put_value(FILE *out, const struct option *o)
{
    bool text = o->type == OPTION_STRING || o->type == OPTION_PATH;
    const char *value = o->initial;
    if (text && (!*value || strpbrk(value, ":#{}[]&*!|>'\"%@`,?~ ") || *value == '-'))
        fprintf(out, "\"%s\"", value); /* no default has a quote or a backslash; the test would notice */
    else
        fputs(value, out);
}

static const char *placeholder(const struct option *o)
{
    switch (o->type) {
    case OPTION_BOOL:      return "true";
    case OPTION_INT:
    case OPTION_REAL:      return "1";
    case OPTION_STRING:    return "TEXT";
    case OPTION_PATH:      return "PATH";
    case OPTION_ENUM:      return o->choices[0];
    case OPTION_DURATION:  return "1h";
    case OPTION_BYTES:     return "1MB";
    case OPTION_STRINGS:   return "[TEXT]";
    case OPTION_PATHS:     return "[PATH]";
    case OPTION_DURATIONS: return "[1h]";
    case OPTION_MAP:       return "{KEY: TEXT}";
    }
    return "";
}

static void put_option(FILE *out, const struct option *o, const char *indent)
{
    char comment[32], facts[1024];
    snprintf(comment, sizeof comment, "%s# ", indent);
    reference_facts(o, facts, sizeof facts);
    reference_wrap(out, comment, 110, o->help);
    reference_wrap(out, comment, 110, facts);
    if (o->initial) {
        fprintf(out, "%s%s: ", indent, o->name);
        put_value(out, o);
        fputc('\n', out);
    } else {
        fprintf(out, "%s%s%s: %s\n", indent, o->flags & OPTION_REQUIRED ? "" : "#", o->name, placeholder(o));
    }
}

void reference_yaml(FILE *out)
{
    fputs("# SPDX-License-Identifier: Apache-2.0\n"
          "# Every setting of gaitd with its default. Written by `gaitd options --yaml`; a file of one's own needs\n"
          "# only what differs (see gaitd.yaml). Settings without a default stand commented out, or with a word in\n"
          "# capitals where one is required. Of source, decode, store, window, model, score and rule there can be one\n"
          "# each: the others stand commented out.\n", out);
    struct reference ref;
    for (size_t i = 0; reference_at(i, &ref); i++) {
        const char *indent = !ref.stage ? "  " : ref.alternative ? "#   " : "    ";
        if (!ref.stage)
            fprintf(out, "\n# %s\n%s:\n", ref.summary, ref.kind);
        else if (ref.first_of_stage)
            fprintf(out, "\n%s:\n", ref.stage);
        if (ref.stage) {
            if (!ref.first_of_stage)
                fputc('\n', out);
            reference_wrap(out, ref.alternative ? "# # " : "  # ", 110, ref.summary);
            if (ref.several)
                fputs("  # May be a list of such settings.\n", out);
            fprintf(out, "%s %s:%s\n", ref.alternative ? "#" : " ", ref.kind, ref.options ? "" : " {}");
        }
        for (const struct option *o = ref.options; o && o->name; o++) {
            if (o > ref.options)
                fputc('\n', out);
            put_option(out, o, indent);
        }
    }
}
