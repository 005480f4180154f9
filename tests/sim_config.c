// SPDX-License-Identifier: Apache-2.0
// sim_config.c - what a member of the simulation runs with, and a new configuration for one at work. Reloads change
// when things are saved and committed, and have model and rules read and built anew; what comes out must stay the same,
// which is why the oracle need not know of them. Some are refused, halfway through, and must leave no trace.
#include "sim_world.h"

#include "../daemon/reload.h"

#include <assert.h>
#include <stdlib.h>

static void use_sim_module(struct config_module *cm, const struct module *module, struct member *m)
{
    struct sim_conf *conf = calloc(1, sizeof *conf);
    assert(conf);
    conf->member = m;
    free(cm->conf);
    cm->conf = conf;
    cm->module = module;
}

static void add_module(struct config *config, const struct module *module, struct member *m)
{
    config->modules = realloc(config->modules, (config->modules_n + 1) * sizeof *config->modules);
    assert(config->modules);
    config->modules[config->modules_n] = (struct config_module){.name = (char *)(uintptr_t)module->name};
    use_sim_module(&config->modules[config->modules_n++], module, m);
}

/* Everything between source and sink is what a shop would run. */
struct config *sim_config(struct member *m, const struct sim_settings *s)
{
    char text[2048];
    int n = snprintf(text, sizeof text,
                     "log: {level: %s}\n"
                     "engine: {batch_events: %d, batches: 3, table_bytes: %dKB, user_id_bytes: 16, save_ms: %dms,\n"
                     "         save_records: 16, commit_ms: %dms, drain_ms: 5s, epoch_ms: %dms, delivery: %s}\n"
                     "source: {file: {paths: ['-']}}\nstore: {memory: {}}\n"
                     "window: {rolling: {ring: 8, lateness: 1h}}\n"
                     "model: {lstm: {path: %s, watch: false}}\nscore: {interest: {}}\n"
                     "rule: {fraud: {rules: %s}}\n",
                     m->world->verbose ? "debug" : "error", s->batch_events, s->table_kb, s->save_ms ? s->save_ms : 300,
                     s->commit_ms ? s->commit_ms : 200, s->epoch_ms ? s->epoch_ms : 100,
                     m->world->exactly_once ? "exactly_once" : "at_least_once",
                     s->model ? s->model : "conf/demo.safetensors", s->rules ? s->rules : "conf/rules.yaml");
    struct config_errors errors = {0};
    struct config *config = config_parse(text, (size_t)n, "sim.yaml", &errors);
    if (!config) {
        config_errors_print(&errors, stderr);
        abort();
    }
    for (size_t i = 0; i < config->modules_n; i++) {
        struct config_module *cm = &config->modules[i];
        if (cm->module->stage == STAGE_SOURCE)
            use_sim_module(cm, &sim_source, m);
        else if (cm->module->stage == STAGE_STORE)
            use_sim_module(cm, &sim_store, m);
    }
    add_module(config, &sim_chain, m);
    add_module(config, &sim_sink, m);
    return config;
}

void sim_reload(struct member *m)
{
    struct world *w = m->world;
    struct sim_settings s = {.batch_events = m->batch_events, .table_kb = 1024};
    struct reload reload = {.config = m->config, .engine = m->engine};
    uint64_t kind = world_random(w, 6);
    s.save_ms = 50 + (int)world_random(w, 1000);
    s.commit_ms = 50 + (int)world_random(w, 500);
    s.epoch_ms = 20 + (int)world_random(w, 300);
    if (world_chance(w, 500)) /* the same files by other names */
        s.rules = "conf/../conf/rules.yaml";
    if (world_chance(w, 300))
        s.model = "conf/../conf/demo.safetensors";
    if (kind == 0)
        s.batch_events++; /* needs a restart */
    if (kind == 1)
        s.rules = "conf/no-such-file"; /* the model has prepared already when the rules refuse */
    struct config *next = sim_config(m, &s);
    bool right = kind > 1 && m->engine->phase == ENGINE_RUNNING;
    struct reload_result result = reload_apply(&reload, &next);
    world_say(w, "member %d reloads its configuration: %s", m->index, result.rc == 0 ? "done" : result.text.text);
    assert((result.rc == 0) == right);
    w->reloads += right;
    w->refused_reloads += !right;
}
