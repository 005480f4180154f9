/* SPDX-License-Identifier: Apache-2.0 */
/* columns.h - the names of what is known about a user at an event: "count.purchase.5m", "travel.kmh", "event.price".
 *
 * window_ and rule_ add columns when they open; model features and rule conditions find them by name. Each event of a
 * batch has one row of doubles, columns_count() wide. */
#ifndef GAIT_COLUMNS_H
#define GAIT_COLUMNS_H

#include <stddef.h>
#include <stdint.h>

struct columns;

struct columns *columns_create(void);
void columns_destroy(struct columns **columns);

/* The column's index; adds it when new (the name and help are copied). */
uint32_t columns_add(struct columns *columns, const char *name, const char *help);
int columns_find(const struct columns *columns, const char *name);         /* index, -1 when unknown */
/* For error texts; NULL when none is near. */
const char *columns_nearest(const struct columns *columns, const char *name);
const char *columns_name(const struct columns *columns, uint32_t index);
const char *columns_help(const struct columns *columns, uint32_t index);
uint32_t columns_count(const struct columns *columns);

#endif
