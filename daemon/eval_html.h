/* SPDX-License-Identifier: Apache-2.0 */
/* eval_html.h - what `gaitd eval` found, as one page for people: figures with intervals beside the baselines,
 * calibration, precision and recall, learning curves, groups. Drawn in SVG within the page: it needs no network and no
 * script, and forbids itself both. Every text that comes from a model or an event is escaped. */
#ifndef GAIT_EVAL_HTML_H
#define GAIT_EVAL_HTML_H

#include "gait/error.h"

#include <jansson.h>
#include <stdio.h>

/* `figures` is eval_head()'s object, `training` the model's record (NULL = none). */
void eval_html_write(FILE *out, const json_t *figures, const json_t *training, const char *model_id);
/* To a file, by way of a temporary one. -1 with a text. */
int eval_html_save(const char *path, const json_t *figures, const json_t *training, const char *model_id,
                   struct error *err);

#endif
