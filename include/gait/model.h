/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a trained model: what goes in, the weights, what comes out. Built by `gaitd train` or read from a file.
 *
 *   event ─► embeddings (type, category, …) ┐
 *   window columns ─► normalised features   ┴► x [input] ─► LSTM layer 0 ─► … ─► h [hidden] ─► heads
 *
 * Three structs as in the literature's smallest examples: how it is made (the lists' sizes), the weights, and what
 * moves (h and c; that is in the user records and in lstm.h). The file is one safetensors file with PyTorch's names
 * and gate order i f g o; everything else is JSON text in its `__metadata__` (gait-formats(7)). */
#ifndef GAIT_MODEL_H
#define GAIT_MODEL_H

#include "gait/error.h"
#include "gait/event.h"

enum { MODEL_EMBEDDINGS_MAX = 8, MODEL_FEATURES_MAX = 256, MODEL_LAYERS_MAX = 8, MODEL_HEADS_MAX = 8,
       MODEL_WIDTH_MAX = 4096, MODEL_VOCABULARY_MAX = 1 << 22, MODEL_NAME_MAX = 63 };

/* Names with dense ids 0 .. n - 1, found by name hash (window_hash32) too, because the ring keeps hashes only. Two
 * names with the same hash: the first is found. */
struct model_vocabulary {
    uint32_t n;
    struct str *name;      /* [n] NUL-terminated */
    struct str *json;      /* [n] as JSON string, quotes included */
    uint32_t *hash;        /* [n] */
    uint32_t *slot;        /* [mask + 1] id + 1, 0 = empty; open addressing by hash */
    uint32_t mask;
    char *text;            /* where the names lie */
};

/* The event fields that can be embedded. The ring keeps the first three: the others are unknown in a rebuild. */
enum model_field { MODEL_TYPE, MODEL_CATEGORY, MODEL_ITEM, MODEL_COUNTRY, MODEL_CAMPAIGN, MODEL_PAGE, MODEL_CURRENCY,
                   MODEL_FIELDS };

struct model_embedding {
    enum model_field field;
    uint32_t width;
    struct model_vocabulary vocabulary;
    float *weight;         /* [(vocabulary.n + 1) × width]: row 0 = none or unknown, row id + 1 = a name's.
                            * "embedding.FIELD.weight" */
};

enum model_transform { MODEL_LINEAR, MODEL_LOG1P /* sign(x) · ln(1 + |x|) */, MODEL_TRANSFORMS };

/* x = clamp((transform(column) − mean) / scale, −clip, clip); 0 when the column is not a number. */
struct model_feature {
    char *column;          /* of columns.h: "count.purchase.24h" */
    enum model_transform transform;
    float mean, scale;     /* scale > 0 */
    float clip;            /* > 0 */
};

/* One LSTM layer. Gates in the order i, f, g, o, each `hidden` rows. */
struct model_layer {
    uint32_t input, hidden;
    float *weight_ih;      /* [4·hidden × input]  "lstm.weight_ih_lN" */
    float *weight_hh;      /* [4·hidden × hidden] "lstm.weight_hh_lN" */
    float *bias_ih, *bias_hh; /* [4·hidden] */
};

enum model_head_kind { MODEL_SOFTMAX, MODEL_SIGMOID, MODEL_HEAD_KINDS };

struct model_head {
    char name[MODEL_NAME_MAX + 1];
    enum model_head_kind kind;
    char target[MODEL_NAME_MAX + 1]; /* "category", "item" (softmax); "intent", "label:NAME" (sigmoid) */
    uint32_t classes;      /* softmax: vocabulary.n; sigmoid: 1 */
    struct model_vocabulary vocabulary; /* softmax: class k is name k */
    float *weight;         /* [classes × hidden of the last layer] "head.NAME.weight" */
    float *bias;           /* [classes] */
};

struct model {
    uint32_t embeddings_n, features_n, layers_n, heads_n;
    struct model_embedding embeddings[MODEL_EMBEDDINGS_MAX];
    struct model_feature features[MODEL_FEATURES_MAX];
    struct model_layer layers[MODEL_LAYERS_MAX];
    struct model_head heads[MODEL_HEADS_MAX];
    uint32_t input;        /* sum of the embeddings' widths, then one for each feature, in list order */
    int interest;          /* the head that scores categories (or items): index in heads, −1 = none */
    int intent;            /* the head with target "intent", −1 = none */
    int64_t intent_horizon_ms;
    char *training;        /* JSON object as text: data hash, command, seed …; NULL = none */
    char *metrics;         /* JSON object as text: what validation measured; NULL = none */
    uint64_t id;           /* XXH3 of all that changes a result: lists, vocabularies, weights. Set by model_seal() */
    char id_text[17];      /* the same in hexadecimal */
};

/* ---- building: embeddings and features first, then layers from the bottom up, then heads. Weights begin as zero. Each
 * returns -1 with a text when a limit or a rule is broken; the model is then as before. Everything is copied. ----- */
struct model *model_create(void);
void model_destroy(struct model **model);
int model_add_embedding(struct model *m, enum model_field field, uint32_t width, const struct str *names, size_t n,
                        struct error *err);
int model_add_feature(struct model *m, const struct model_feature *feature, struct error *err);
int model_add_layer(struct model *m, uint32_t hidden, struct error *err);
int model_add_head(struct model *m, const char *name, enum model_head_kind kind, const char *target,
                   const struct str *names, size_t n, struct error *err);
/* When lists and weights are final: checks that every weight is finite, sets id. model_load and model_save do it. */
int model_seal(struct model *m, struct error *err);

/* ---- files. Loading trusts nothing: NULL with a text. Saving writes a temporary file beside `path`, flushes
 * it to the disk and renames it. ---------------------------------------------------------------------------------- */
struct model *model_load(const char *path, struct error *err);
int model_save(struct model *m, const char *path, struct error *err);
/* Keeps the file at `path`, when there is one, as PATH.previous and saves `m` at `path`, each by one rename: `path` is
 * never absent. */
int model_install(struct model *m, const char *path, struct error *err);
/* A second name for the file at `from`, in the place of whatever had that name. */
int model_link_over(const char *from, const char *to, struct error *err);
char *model_path_with(const char *path, const char *suffix); /* the caller's */

/* ---- what the scores need ---------------------------------------------------------------------------------------- */
static inline uint32_t model_hidden(const struct model *m)
{
    return m->layers_n ? m->layers[m->layers_n - 1].hidden : 0;
}
static inline const char *model_id(const struct model *m)
{
    return m->id_text;
}
static inline bool model_head_is_label(const struct model_head *head)
{
    return head->kind == MODEL_SIGMOID && strncmp(head->target, "label:", 6) == 0;
}
/* Name of an id in score.top_id; the JSON one is quoted and escaped, ready to be copied into a message. */
static inline struct str model_category_name(const struct model *m, uint32_t id)
{
    return m->heads[m->interest].vocabulary.name[id];
}
static inline struct str model_category_json(const struct model *m, uint32_t id)
{
    return m->heads[m->interest].vocabulary.json[id];
}
int model_vocabulary_find(const struct model_vocabulary *v, uint32_t hash); /* id, −1 when unknown; hash 0 = none */
int model_vocabulary_find_name(const struct model_vocabulary *v, struct str name);

/* ---- from events to x: the same code in training and in serving ------------------------------------------------- */
struct columns;
struct window_event;

/* A model tied to one configuration's event types and columns. */
struct model_binding {
    const struct model *model;
    uint32_t type_row[EVENT_TYPES_MAX];   /* row of the type embedding for each type id */
    int place[MODEL_FEATURES_MAX];        /* of each feature's column in a row of columns */
    uint32_t logarithm[MODEL_FEATURES_MAX]; /* all bits set where the transform is log1p; the features' numbers side */
    float mean[MODEL_FEATURES_MAX], factor[MODEL_FEATURES_MAX],
        clip[MODEL_FEATURES_MAX]; /* by side; factor = 1/scale */
};

/* For rows that hold just the features, in the model's order, as training has them: place[f] = f. */
void model_bind_features(struct model_binding *b, const struct model *m);
/* For serving. Asks for the columns; -1 with a text that names the one which nobody has announced. */
int model_bind(struct model_binding *b, const struct model *m, const struct event_types *types, struct columns *columns,
               struct error *err);
/* Embedding rows [embeddings_n] of an event, and of one as the ring keeps it. */
void model_rows_of_event(const struct model_binding *b, const struct event *event, uint32_t *rows);
void model_rows_of_ring(const struct model_binding *b, const struct window_event *event, uint32_t *rows);
/* x [input] of embedding rows and a full row of columns; and its last part alone, the features [features_n]. */
void model_input(const struct model_binding *b, const uint32_t *rows, const double *columns, float *x);
void model_features(const struct model_binding *b, const double *columns, float *x);

const char *model_field_name(enum model_field field);
const char *model_transform_name(enum model_transform transform);
const char *model_head_kind_name(enum model_head_kind kind);

#endif
