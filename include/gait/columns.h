/* SPDX-License-Identifier: Apache-2.0 */
/* columns.h - the names of what is known about a user at an event: "count.purchase.5m", "travel.kmh", "event.price".
 *
 * window_ and rule_ announce columns when they open; model features and rule conditions ask for them by name. Only what
 * somebody wants gets a place in the row and is computed: each event of a batch has one row of doubles,
 * columns_width() wide. New wishes come at opening or reload, between batches, so a module that fills columns looks at
 * columns_width() at the start of a batch and renews its plan when it has changed. A place, once given, stays. */
#ifndef GAIT_COLUMNS_H
#define GAIT_COLUMNS_H

#include <stddef.h>
#include <stdint.h>

struct columns;

struct columns *columns_create(void);
void columns_destroy(struct columns **columns);

/* Announce a column; its id (the same again when the name is known). Name and help are copied. */
uint32_t columns_add(struct columns *columns, const char *name, const char *help);
/* The place in the row of the column called `name`, from now on computed; -1 when nobody has announced it. */
int columns_want(struct columns *columns, const char *name);
/* The place in the row, -1 when nobody wants it. */
int columns_place(const struct columns *columns, uint32_t id);
/* For error texts: the announced name that is nearest; NULL when none is near. */
const char *columns_nearest(const struct columns *columns, const char *name);
const char *columns_name(const struct columns *columns, uint32_t id);
uint32_t columns_count(const struct columns *columns); /* announced; ids are below it */
uint32_t columns_width(const struct columns *columns); /* doubles in a row */

#endif
