/* SPDX-License-Identifier: Apache-2.0 */
/* top_view.h - what `gaitd top` shows: /api/status and /api/alerts as lines of text. */
#ifndef GAIT_TOP_VIEW_H
#define GAIT_TOP_VIEW_H

#include <jansson.h>
#include <stdio.h>

/* Lines that begin with a letter are headings; "!" begins one that wants attention. `alerts` may be NULL. */
void top_view(FILE *out, const json_t *status, const json_t *alerts, int alerts_most);

#endif
