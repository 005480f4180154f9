/* SPDX-License-Identifier: Apache-2.0 */
/* train_catalogue.h - what a shop knows of its items beside their ids: colour, brand, place on the page. One CSV
 * file. */
#ifndef GAIT_TRAIN_CATALOGUE_H
#define GAIT_TRAIN_CATALOGUE_H

#include "train_network.h"

struct train_catalogue;

/* A header, then a line for each item; the first column is the item's id, the others are attributes (at most
 * TRAIN_ATTRIBUTES_MAX). Fields may stand in double quotes. Columns of numbers with more than 32 different values are
 * cut into 16 groups of equal size. NULL with a text that names file and line. */
struct train_catalogue *train_catalogue_load(const char *path, struct error *err);
void train_catalogue_destroy(struct train_catalogue **catalogue);
/* Attributes for the item embedding of a shape whose names are these; they live as long as the catalogue, until the
 * next call. Returns how many of the names it knows. */
uint32_t train_catalogue_apply(struct train_catalogue *c, const struct model_embedding *items, uint32_t embedding,
                               struct train_shape *shape);

#endif
