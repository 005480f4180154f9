/* SPDX-License-Identifier: Apache-2.0 */
/* reference.h - the reference of all settings and metrics, in its several dresses, from the option and metric rows. */
#ifndef GAIT_REFERENCE_H
#define GAIT_REFERENCE_H

#include "gait/option.h"

#include <stdbool.h>
#include <stdio.h>

/* One section of the configuration: a module's or the daemon's own. */
struct reference {
    const char *stage;      /* "source"; NULL for the daemon's own */
    const char *kind;       /* "kafka", or "engine" */
    const char *summary;
    const struct option *options;  /* may be NULL */
    bool several;           /* may be a list */
    bool first_of_stage;
    bool alternative;       /* another of its stage is in the full configuration already, and only one can be */
};
/* The `index`-th in the order of the flow, then the daemon's own. False past the end. */
bool reference_at(size_t index, struct reference *out);
void reference_name(const struct reference *ref, char *text, size_t cap); /* "source.kafka" */

/* "a duration from 10ms to 10m; default 2s" */
void reference_facts(const struct option *o, char *text, size_t cap);

/* Words up to `width` characters a line, each line behind `indent`. */
void reference_wrap(FILE *out, const char *indent, int width, const char *text);

/* For the terminal. `only`: "sink.kafka" or "sink", NULL = all. False when there is no such section. */
bool reference_text(FILE *out, const char *only);
void reference_yaml(FILE *out);                   /* conf/gaitd.full.yaml */
void reference_man(FILE *out);                    /* gaitd.conf(5) */
void reference_metrics(FILE *out);                /* conf/METRICS.md */

/* The least rights in Redis (ACL lines) for us and for those who read the serving hashes; false when `prefix` cannot be
 * part of an ACL: it has blanks or control characters. */
bool reference_redis_acl(FILE *out, const char *prefix);

#endif
