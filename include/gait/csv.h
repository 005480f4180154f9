/* SPDX-License-Identifier: Apache-2.0 */
/* csv.h - a CSV file as JSON lines through a pipe, so that every reader of JSON lines reads it too.
 *
 * The header's names become the keys. Whole numbers and true/false stay bare, everything else becomes text, an empty
 * field is left out. Quoted fields may hold delimiters, doubled quotes and newlines (RFC 4180). Plain, gzip or zstd. */
#ifndef GAIT_CSV_H
#define GAIT_CSV_H

#include "gait/error.h"

#include <stdbool.h>

struct csv;

bool csv_is(const char *path);  /* .csv, .csv.gz, .csv.zst, .tsv … by its name */

/* Begins to convert in a thread of its own. NULL with a text. `delimiter` 0: a tab for .tsv, else a comma. */
struct csv *csv_open(const char *path, char delimiter, struct error *err);
const char *csv_path(const struct csv *csv); /* where the lines can be read, once */
/* Ends the thread, whether all was read or not. -1 with a text when the file was damaged or is no CSV. */
int csv_close(struct csv **csv, struct error *err);

#endif
