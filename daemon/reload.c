// SPDX-License-Identifier: Apache-2.0
// reload.c - see the drawing in reload.h. Nothing of the old configuration is touched before every part of the new one
// has been read, checked and built; from there on nothing can fail.
#include "reload.h"

#include "config_compare.h"

#include "gait/log.h"

#include <assert.h>
#include <inttypes.h>

/* ---- step 1: settings that need a restart ------------------------------------------------------------------------ */

struct compared {
    struct reload_result *result;
    struct error refused;
};

static void add_line(struct error *to, const char *line)
{
    if (to->text[0])
        error_also(to, line);
    else
        error_set(to, "%s", line);
}

static void note_difference(void *self, const struct config_difference *d)
{
    struct compared *c = self;
    char line[sizeof d->where + sizeof d->text + 32];
    snprintf(line, sizeof line, d->restart ? "%s needs a restart: %s" : "%s: %s", d->where, d->text);
    if (d->restart)
        add_line(&c->refused, line);
    else
        add_line(&c->result->text, line);
    c->result->changes += !d->restart;
}

/* ---- step 2: every module builds beside what it has -------------------------------------------------------------- */

static const void *conf_of(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->modules_n; i++)
        if (strcmp(config->modules[i].name, name) == 0)
            return config->modules[i].conf;
    assert(!"compared: both have the same modules");
    return NULL;
}

static void tell(struct instance *in, enum flow_kind kind, struct flow_change *change)
{
    if (in->module->flow)
        in->module->flow(in, &(struct flow){.kind = kind, .change = change});
}

/* The number of instances that have prepared; fewer than there are when the last of them refused, with a text. All are
 * asked, also those whose settings are the same: the files that they name may be others. */
static size_t prepare(struct reload *r, const struct config *next, struct reload_result *result)
{
    struct engine *e = r->engine;
    for (size_t i = 0; i < e->instances_n; i++) {
        struct instance *in = &e->instances[i];
        struct flow_change change = {.conf = conf_of(next, in->name)};
        tell(in, FLOW_PREPARE, &change);
        if (change.refused) {
            error_set(&result->text, "%s: %s", in->name, change.text.text);
            return i;
        }
        if (change.text.text[0]) {
            error_prefix(&change.text, "%s", in->name);
            add_line(&result->text, change.text.text);
            result->changes++;
        }
    }
    return e->instances_n;
}

/* ---- step 3: nothing can fail any more --------------------------------------------------------------------------- */

static void swap(struct reload *r, struct config *next)
{
    struct engine *e = r->engine;
    config_exchange(r->config, next);
    e->conf = r->config->engine;
    log_setup(r->config->log.level, r->config->log.format);
    for (size_t i = 0; i < e->instances_n; i++)
        tell(&e->instances[i], FLOW_SWAP, NULL);
    if (r->done)
        r->done(r->self);
    engine_wake(e);
}

struct reload_result reload_apply(struct reload *r, struct config **next)
{
    struct reload_result result = {.rc = -1};
    struct compared compared = {.result = &result};
    struct engine *e = r->engine;
    config_compare(r->config, *next, note_difference, &compared);
    if (e->phase != ENGINE_RUNNING) {
        error_set(&result.text, "the daemon is stopping");
    } else if (compared.refused.text[0]) {
        result.text = compared.refused;
    } else {
        size_t prepared = prepare(r, *next, &result);
        result.rc = prepared == e->instances_n ? 0 : -1;
        if (result.rc == 0)
            swap(r, *next);
        else
            for (size_t i = 0; i <= prepared; i++)
                tell(&e->instances[i], FLOW_DISCARD, NULL);
    }
    if (result.rc < 0)
        result.changes = 0;
    config_destroy(next);
    return result;
}

/* ---- the request ------------------------------------------------------------------------------------------------- */

static void add_errors(const struct config_errors *errors, struct reload_result *result)
{
    size_t kept = errors->n < CONFIG_ERRORS_MAX ? errors->n : CONFIG_ERRORS_MAX;
    for (size_t i = 0; i < kept; i++) {
        const struct config_error *e = &errors->at[i];
        struct error line;
        if (e->line)
            error_set(&line, "%s:%d:%d: %s", errors->name, e->line, e->column, e->text);
        else
            error_set(&line, "%s: %s", errors->name, e->text);
        log_error("reload", "%s", line.text);
        add_line(&result->text, line.text);
    }
    if (errors->n > kept)
        log_error("reload", "%s: %zu more", errors->name, errors->n - kept);
}

/* Lines apart, because a line of the log is one line. */
static void log_lines(enum log_level level, const char *text)
{
    while (*text) {
        int len = (int)strcspn(text, "\n");
        log_line(level, "reload", "%.*s", len, text);
        text += (size_t)len + (text[len] == '\n');
    }
}

struct reload_result reload_request(struct reload *r, const char *who)
{
    struct config_errors errors = {0};
    struct reload_result result = {.rc = -1};
    struct config *next = config_load(r->path, &errors);
    if (next) {
        result = reload_apply(r, &next);
        log_lines(result.rc == 0 ? LOG_NOTICE : LOG_ERROR, result.text.text);
    } else {
        add_errors(&errors, &result);
    }
    metric_add(metric_cell(r->engine->metrics, "gait_config_reloads_total", result.rc == 0 ? "ok" : "refused"), 1);
    if (result.rc < 0)
        log_error("audit", "%s: reload of %s: refused, everything stays as it was; configuration %016" PRIx64, who,
                  r->path, config_hash(r->config));
    else
        log_notice("audit", "%s: reload of %s: ok, %u changes; configuration %016" PRIx64, who, r->path, result.changes,
                   config_hash(r->config));
    if (result.rc == 0 && result.changes == 0)
        error_set(&result.text, "nothing has changed");
    return result;
}
