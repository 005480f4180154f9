/* SPDX-License-Identifier: Apache-2.0 */
/* train_task.h - a model and a set brought together: vocabularies chosen, names as embedding rows, features normalised,
 * each head's answers. `gaitd train` begins with an empty model that train_outline() draws, `gaitd eval` with one from
 * a file; from there on both do the same. */
#ifndef GAIT_TRAIN_TASK_H
#define GAIT_TRAIN_TASK_H

#include "train_loop.h"
#include "train_set.h"

/* ---- drawing the model ------------------------------------------------------------------------------------------ */

struct train_outline {
    uint32_t targets_n;
    const char *targets[MODEL_HEADS_MAX];      /* "category", "item", "intent", "label:NAME" */
    uint32_t width[MODEL_FIELDS];              /* of each field's embedding; 0 = not an input */
    uint32_t layers_n, hidden[MODEL_LAYERS_MAX];
    uint32_t min_count, vocabulary_max;        /* rarer names are "unknown"; most frequent ones first */
    int64_t intent_horizon_ms;
    int64_t until_ms;                          /* vocabularies and normalisation see events before this only */
};

/* A model without weights: NULL with a text when a target or a limit is wrong. */
struct model *train_outline(const struct train_outline *o, const struct train_set *s, struct error *err);

/* ---- model × set ------------------------------------------------------------------------------------------------ */

struct train_task_options {
    bool tie;                    /* a softmax head over a field that is embedded uses that embedding's rows */
    float dropout, dropout_input;
    float positive_weight;       /* of label 1 in sigmoid heads; 0 = by the classes' balance, at most 20 */
    const char *purchase;        /* the event type that intent looks for */
    int64_t known_until_ms;      /* nothing after this is looked at for intents */
    const char *labels;          /* file, for label:NAME */
};

struct train_task {
    struct train_shape shape;
    struct train_data data;
    uint32_t *row_of[MODEL_EMBEDDINGS_MAX];
    int32_t *class_of[MODEL_HEADS_MAX];  /* softmax: [names + 1] */
    float *features;
    struct train_target targets[MODEL_HEADS_MAX];
    struct train_sampler samplers[MODEL_HEADS_MAX];
    uint64_t unknown_users;              /* of label lines */
    uint64_t clipped;                    /* feature values beyond their clip */
};

int train_task_create(struct train_task *t, const struct model *m, const struct train_set *s,
                      const struct train_task_options *o, struct error *err);
void train_task_destroy(struct train_task *t);
/* Softmax heads of more than `most` classes learn by `draws` sampled ones; q by the answers in `learn`. */
void train_task_sample(struct train_task *t, uint32_t most, uint32_t draws, struct train_span learn);
/* The field that a softmax head's target names: "item" → MODEL_ITEM; −1 = none. */
int train_target_field(const char *target);

/* ---- weights: network ↔ model ----------------------------------------------------------------------------------- */

void train_weights_to_model(const struct train_network *n, struct model *m);
void train_weights_from_model(struct train_network *n, const struct model *m); /* the shape has no tied heads */

/* Several networks of one shape as one model whose logits are the means of theirs: embeddings side by side, LSTM
 * weights in blocks on the diagonal, heads side by side and divided by their number. `outline` has the single model's
 * lists. */
struct model *train_merge(struct train_network *const *networks, uint32_t n, const struct model *outline,
                          struct error *err);

#endif
