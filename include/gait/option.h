/* SPDX-License-Identifier: Apache-2.0 */
/* option.h - one row per setting. The row drives parsing, range checks, the default, `gaitd options`, the full
 * configuration file and gaitd.conf(5), so that none of them can say something else than the others.
 *
 * A configuration struct holds plain members of the types below; rows point into it by offset. Strings and lists in it
 * are owned by the configuration and live until it is destroyed. */
#ifndef GAIT_OPTION_H
#define GAIT_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_BOOL,      /* bool */
    OPTION_INT,       /* int64_t, within min..max */
    OPTION_REAL,      /* double, within min..max, finite */
    OPTION_STRING,    /* const char *, NULL when not set and no default */
    OPTION_PATH,      /* const char *; a relative path is relative to the configuration file's folder */
    OPTION_ENUM,      /* int: index into choices */
    OPTION_DURATION,  /* int64_t milliseconds; written "250ms", "5s", "10m", "1h", "7d"; min and max in milliseconds;
                     * a plain number only where the name ends in _ms */
    OPTION_BYTES,     /* int64_t bytes; "64MB", "1GiB" (both powers of 1024), plain number = bytes */
    OPTION_STRINGS,   /* struct option_strings: a list, or one scalar */
    OPTION_PATHS,     /* struct option_strings: the same of paths */
    OPTION_DURATIONS, /* struct option_durations: a list of durations, or one */
    OPTION_MAP,       /* struct option_map: key -> one or several strings, in file order */
};

struct option_strings {
    const char **at;
    size_t n;
};

struct option_durations {
    int64_t *at; /* milliseconds */
    size_t n;
};

struct option_map_entry {
    const char *key;
    struct option_strings values; /* at least one */
    int line, column;             /* where in the file, for errors found later */
};

struct option_map {
    struct option_map_entry *at;
    size_t n;
};

enum option_flag {
    OPTION_REQUIRED = 1, /* must be set */
    OPTION_SECRET = 2,   /* never shown; STRING, STRINGS, MAP: a value may be {file: PATH} or {credential: NAME} */
    OPTION_RESTART = 4,  /* a reload refuses a change of it */
};

struct option {
    const char *name;    /* NULL ends a table */
    enum option_type type;
    size_t offset;       /* of the member in the configuration struct */
    const char *initial; /* default, in the file's notation; lists "[5m, 1h]"; NULL = none */
    double min, max;     /* INT, REAL, DURATION (ms), DURATIONS, BYTES; both 0 = none; max below min = no upper one */
    const char *const *choices; /* ENUM: NULL-terminated */
    unsigned flags;
    const char *help;    /* a sentence or several, starting with a capital, with the unit */
};

struct arena;
struct error;

/* A further file of settings that the configuration names: a map, read by the rows as the configuration is. `conf` is
 * zeroed by the caller; strings and lists come from `memory`. -1 with "FILE:LINE:COLUMN: " and the first mistake. */
int option_file(const char *path, const struct option *rows, void *conf, struct arena *memory, struct error *err);

#endif
