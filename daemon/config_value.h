/* SPDX-License-Identifier: Apache-2.0 */
/* config_value.h - from nodes to members of a struct, led by a table of option rows. */
#ifndef GAIT_CONFIG_VALUE_H
#define GAIT_CONFIG_VALUE_H

#include "config_yaml.h"
#include "value.h"

struct value_reader {
    struct arena *memory;          /* every string and list goes here */
    const char *folder;            /* of the file, with closing '/'; "" = the working directory */
    struct config_errors *errors;
    const char *where;             /* "source.kafka": before each setting's name in the texts */
    int line, column;              /* of the section, for what is missing in it */
};

/* Fill `conf` (zeroed by the caller): defaults, then what `map` says (NULL or an empty node: nothing). Every mistake
 * is added to the errors. `options` may be NULL: no settings. */
void config_values(const struct value_reader *r, const struct option *options, const struct node *map, void *conf);

/* For the reference: what may be written, as a phrase: "a duration", "true or false". */
const char *option_type_phrase(enum option_type type);
/* `min` or `max` of a row as people write it; returns text. */
const char *option_bound_text(const struct option *o, double bound, char text[VALUE_TEXT_MAX]);

#endif
