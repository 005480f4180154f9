/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - a configuration file, read, checked and turned into the structs that the engine and the modules use.
 *
 *   file ─(config_yaml.c)─► tree ─(config_value.c, by option rows)─► structs ─(config.c)─► config
 *
 * Reading never stops at the first mistake: it goes on and collects them all. */
#ifndef GAIT_CONFIG_H
#define GAIT_CONFIG_H

#include "gait/log.h"
#include "gait/module.h"
#include "gait/version.h"

#include <stdio.h>

enum { CONFIG_ERRORS_MAX = 64, CONFIG_BYTES_MAX = 1 << 20, CONFIG_MODULES_MAX = 16 };

/* What becomes of a partition whose state the store has lost though the source remembers an offset. */
enum state_lost { STATE_LOST_REPLAY, STATE_LOST_CONTINUE };

/* When outputs and offsets become visible: each on its own, or together in a transaction an epoch. */
enum delivery { DELIVERY_AT_LEAST_ONCE, DELIVERY_EXACTLY_ONCE };

struct engine_conf {
    struct option_strings event_types; /* beside the built-in ones */
    int64_t batches, batch_events;
    int64_t table_bytes, user_id_bytes;
    int64_t save_ms, save_records, commit_ms, record_ttl_ms, drain_ms;
    int64_t epoch_ms;                  /* exactly_once: how often a transaction ends */
    int delivery;                      /* enum delivery */
    bool core_dumps;
    int state_lost;                    /* enum state_lost */
};

struct log_conf {
    int level, format;                 /* enum log_level, enum log_format */
};

struct metrics_conf {
    const char *file;                  /* NULL = none is written */
    int64_t file_ms;
};

/* The operators' HTTP server (admin.c). */
struct admin_conf {
    const char *listen;                /* "HOST:PORT", "unix:PATH" or "off" */
    const char *token;                 /* NULL = none */
    const char *tls_certificate, *tls_key, *tls_client_ca; /* PEM files; NULL = not set */
    const char *audit_file;            /* NULL = the log alone */
    int64_t connections, streams, requests_per_s, burst, body_bytes, timeout_ms;
};

/* A module that the file asks for (or that is filled in), with its settings. */
struct config_module {
    const struct module *module;
    char *name;                        /* "source.kafka"; the second of a kind is "sink.file.2" */
    void *conf;                        /* module->conf_size bytes, zeroed, then filled by the option rows */
    int line;                          /* where it stands in the file; 0 = filled in */
};

struct node;

struct config {
    char *name;                        /* of the file, as the caller gave it */
    struct engine_conf engine;
    struct log_conf log;
    struct metrics_conf metrics;
    struct admin_conf admin;
    struct config_module *modules;     /* in flow order, whatever the file's */
    size_t modules_n;
    const struct node *tests;          /* the section `tests`, as it stands there (config_tests.h); NULL = none */
    struct arena *memory;              /* every string and list in the structs */
    struct arena *reloaded;            /* those that the last reload brought; NULL = there was none */
};

struct config_error {
    int line, column;                  /* from 1; 0 = the file as a whole */
    char text[512];
};

/* All that is wrong with one file. Holds the first CONFIG_ERRORS_MAX, counts the others. Owns no memory. */
struct config_errors {
    char name[256];
    size_t n;                          /* found */
    struct config_error at[CONFIG_ERRORS_MAX];
};

/* NULL when anything is wrong; `errors` (zero-initialised) then says what. Relative paths in the file are taken from
 * the file's own folder. */
struct config *config_load(const char *path, struct config_errors *errors);
/* The same from a text; `name` stands for the file in messages and for the folder of relative paths. */
struct config *config_parse(const char *text, size_t len, const char *name, struct config_errors *errors);
void config_destroy(struct config **config);

/* "FILE:LINE:COLUMN: TEXT", a line each, in the order of the file. */
void config_errors_print(const struct config_errors *errors, FILE *out);
void config_errors_add(struct config_errors *errors, int line, int column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The sections that are no modules (config_sections.c). */
struct config_section {
    const char *name, *summary;
    size_t offset;                     /* of its struct in struct config */
    const struct option *options;
};
extern const struct config_section config_sections[]; /* ended by a row without name */

#endif
