// SPDX-License-Identifier: Apache-2.0
// settings.c - what all daemons of a group have to have in common, as text: how events are read, which windows are
// kept, how rules keep state; and which model and rules are at work.
#include "engine.h"

#include "config_compare.h"

#include "gait/lstm.h"

#include <assert.h>
#include <inttypes.h>

static void put_content(struct engine *e, FILE *out)
{
    const struct instance *model = engine_instance(e, STAGE_MODEL), *rule = engine_instance(e, STAGE_RULE);
    if (model)
        fprintf(out, "model=%016" PRIx64 "\n", lstm_at_work(model)->model->id);
    if (rule)
        fprintf(out, "rules=%016" PRIx64 "\n", rule->content);
}

char *engine_settings(struct engine *e, bool content)
{
    static const enum stage stages[] = {STAGE_DECODE, STAGE_WINDOW, STAGE_RULE};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert(out);
    fputs("engine.event_types=", out);
    for (uint32_t i = EVENT_TYPES_BUILTIN; i < e->types.n; i++)
        fprintf(out, "%s%s", i > EVENT_TYPES_BUILTIN ? "," : "", e->types.name[i]);
    fputc('\n', out);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        config_put_stage(e->config, stages[i], out);
    if (content)
        put_content(e, out);
    fclose(out);
    return text;
}
