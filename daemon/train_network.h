/* SPDX-License-Identifier: Apache-2.0 */
/* train_network.h - the network that is trained: the same function as model.h's, laid out for learning.
 *
 *   ids ─► embeddings ┐               ┌► head 0: softmax or sigmoid
 *   features ─────────┴► x ─► LSTM ─► h ─► head 1 …           (dropout on x's embeddings and on every layer's h)
 *
 * A mini-batch advances many sequences in lockstep, longest first: row start[t] + lane is lane's step t, and the lanes
 * that are still running at step t are the first active[t]. So no row is padding, and each step is one matrix product
 *
 *   gates [active × 4H] = bias + [x | h before] [active × (I + H)] · weightᵀ
 *
 * struct train_network has the weights (one flat array), train_workspace what moves (one for each thread). */
#ifndef GAIT_TRAIN_NETWORK_H
#define GAIT_TRAIN_NETWORK_H

#include "train_random.h"

#include "gait/dense.h"
#include "gait/model.h"

/* ---- sampling a large softmax -------------------------------------------------------------------------------------
 * With tens of thousands of classes, learning compares each target with `n` classes drawn from q (once a mini-batch,
 * with replacement) instead of with all. Every logit has ln(n·q) taken off, which makes the estimate consistent (Bengio
 * and Senécal, 2008); a drawn class that is the row's own target is left out. Measuring always uses all classes. */
struct train_sampler {
    uint32_t n;                 /* draws; 0 = the full softmax */
    double *cumulated;          /* [classes] of q */
    float *log_expected;        /* [classes] ln(n·q) */
};

/* q ∝ (count + 1)^¾: between frequency, which starves rare classes, and uniform, which wastes draws on them. */
void train_sampler_create(struct train_sampler *s, uint32_t n, const uint32_t *counts, uint32_t classes);
void train_sampler_destroy(struct train_sampler *s);
void train_sampler_draw(const struct train_sampler *s, uint32_t classes, struct train_random *random, uint32_t *drawn);

/* ---- the shape -------------------------------------------------------------------------------------------------- */

struct train_head {
    enum model_head_kind kind;
    uint32_t classes;
    int tied;                 /* softmax: class k's weights are this embedding's row k + 1, behind a projection from h;
                               * −1 = weights of its own */
    float weight;             /* of its loss in the sum */
    float positive_weight;    /* sigmoid: of a row whose label is 1 */
    const struct train_sampler *sampler; /* softmax; NULL = full. Borrowed */
};

/* What is known of the names of an embedding beside themselves: the colour of each item. A name's row is then the sum
 * of its own vector and of its attributes' vectors, so that names met rarely learn from those like them. Only training
 * knows of it: what is saved are the sums. */
struct train_attribute {
    uint32_t values;
    const uint32_t *of_row;   /* [rows of the embedding] 0 … values − 1; 0 = not known. Borrowed */
};

enum { TRAIN_ATTRIBUTES_MAX = 8 };

struct train_shape {
    uint32_t embeddings_n, features_n, layers_n, heads_n;
    uint32_t rows[MODEL_EMBEDDINGS_MAX], width[MODEL_EMBEDDINGS_MAX];
    uint32_t attributes_n[MODEL_EMBEDDINGS_MAX];
    struct train_attribute attributes[MODEL_EMBEDDINGS_MAX][TRAIN_ATTRIBUTES_MAX];
    uint32_t hidden[MODEL_LAYERS_MAX];
    struct train_head heads[MODEL_HEADS_MAX];
    float dropout_input, dropout;
};

/* One matrix among the weights. */
struct train_matrix {
    char name[MODEL_NAME_MAX + 1];
    size_t offset, rows, columns;
};

enum {
    TRAIN_MATRICES_MAX = MODEL_EMBEDDINGS_MAX * (1 + TRAIN_ATTRIBUTES_MAX) + 2 * MODEL_LAYERS_MAX + 4 * MODEL_HEADS_MAX
};

/* ---- the weights ------------------------------------------------------------------------------------------------ */

struct train_network {
    struct train_shape shape;
    const struct dense *dense;
    uint32_t input, width[MODEL_LAYERS_MAX]; /* width of x; of each layer's [x | h] */
    uint32_t top;                            /* width of the last layer's h */
    uint32_t matrices_n;
    struct train_matrix matrices[TRAIN_MATRICES_MAX];
    size_t embedding[MODEL_EMBEDDINGS_MAX], layer[MODEL_LAYERS_MAX], layer_bias[MODEL_LAYERS_MAX]; /* offsets */
    size_t head[MODEL_HEADS_MAX], head_bias[MODEL_HEADS_MAX], projection[MODEL_HEADS_MAX],
           projection_bias[MODEL_HEADS_MAX];
    size_t attribute[MODEL_EMBEDDINGS_MAX][TRAIN_ATTRIBUTES_MAX];
    bool sparse[MODEL_EMBEDDINGS_MAX];       /* a mini-batch touches few of its rows: only those are cleared, summed and
                                              * moved (Adam's moments of the others rest) */
    size_t weights_n;
    float *weights;
    float *table[MODEL_EMBEDDINGS_MAX];      /* the embeddings with their attributes added; without any, in weights */
    /* the weights packed for products, forward and backward */
    float *layer_forward[MODEL_LAYERS_MAX], *layer_backward[MODEL_LAYERS_MAX];
    float *head_forward[MODEL_HEADS_MAX], *head_backward[MODEL_HEADS_MAX];
    float *projection_forward[MODEL_HEADS_MAX], *projection_backward[MODEL_HEADS_MAX];
};

struct train_network *train_network_create(const struct train_shape *shape, const struct dense *dense);
void train_network_destroy(struct train_network **network);
/* Glorot-uniform matrices (recurrent ones scaled by their own width), forget biases 1, small embeddings. */
void train_network_init(struct train_network *n, struct train_random *random);
/* To call after the weights have changed: first compose, then pack. Part `part` of `parts`, so that threads can share
 * the work. Heads with a sampler are packed by refresh only: learning does without. */
void train_network_compose(struct train_network *n, uint32_t part, uint32_t parts);
void train_network_pack(struct train_network *n, uint32_t part, uint32_t parts);
void train_network_refresh(struct train_network *n); /* all, alone: before measuring */
/* The derivatives by an embedding's rows are those by their attributes too. */
void train_network_spread(const struct train_network *n, float *gradient);
/* The sparse embedding that the matrix is; −1 = it is none. */
int train_network_sparse(const struct train_network *n, const struct train_matrix *m);
/* The weights of class 0 of a softmax head: the tied embedding's row 1, or its own; and where their derivatives go. */
const float *train_head_weights(const struct train_network *n, uint32_t head);
size_t train_head_offset(const struct train_network *n, uint32_t head);

/* ---- a mini-batch ----------------------------------------------------------------------------------------------- */

struct train_batch {
    uint32_t lanes, steps, rows;
    uint32_t lanes_max, steps_max;
    uint32_t *active, *start;              /* [steps]; [steps + 1] */
    uint32_t *ids[MODEL_EMBEDDINGS_MAX];   /* [rows] embedding rows */
    float *features;                       /* [rows × features_n], normalised */
    int32_t *target[MODEL_HEADS_MAX];      /* [rows] class, or label 0/1; −1 = none */
    float scale[MODEL_HEADS_MAX];          /* of one row's loss: usually head weight / targets in the mini-batch */
    bool carried;                          /* goes on from the state that the workspace was left with */
};

void train_batch_create(struct train_batch *b, const struct train_shape *shape, uint32_t lanes, uint32_t steps);
void train_batch_destroy(struct train_batch *b);

/* ---- what moves ------------------------------------------------------------------------------------------------- */

struct train_layer_state {
    float *xh;        /* [rows × (I + H)] x and the h before */
    float *gates;     /* [rows × 4H] */
    float *c_before;  /* [rows × H] */
    float *c, *tanh_c, *h, *mask; /* [rows × H]; mask: 0 or 1/(1 − dropout) */
    float *dc, *dh;   /* [lanes × H]; [rows × H]: from above; the step after adds its share */
    float *end_h, *end_c; /* [lanes × H] where the batch ended */
};

struct train_workspace {
    const struct train_network *network;
    struct train_layer_state layers[MODEL_LAYERS_MAX];
    float *gradient;            /* [weights_n] */
    float *input_mask;          /* [rows × input] */
    float *dxh;                 /* [lanes × widest (I + H)] */
    float *dx;                  /* [rows × widest I] for the layer below */
    float *out, *dout;          /* [rows × top] after dropout, and its derivative */
    float *head_h, *head_dh;    /* [rows × top] rows that have a target */
    float *head_u, *head_du;    /* [rows × widest tied embedding] */
    float *logits;              /* [block × classes] */
    size_t logits_floats;
    uint8_t *touched[MODEL_EMBEDDINGS_MAX]; /* [rows] of a sparse embedding: has a derivative */
    uint32_t *drawn;            /* the sampler's classes */
    float *drawn_weight, *drawn_gradient; /* [draws × width] */
    float *drawn_packed, *drawn_bias; /* [draws + 1] */
    uint32_t *picked;           /* [rows] which rows have a target */
    float *packed, *scratch;
    size_t packed_floats;
    uint32_t lanes_max, rows_max;
    struct train_random random;
    double loss[MODEL_HEADS_MAX];  /* unscaled sums, since train_workspace_clear() */
    double hits[MODEL_HEADS_MAX];  /* sigmoid: targets on the right side of ½ */
    double targets[MODEL_HEADS_MAX];
};

struct train_workspace *train_workspace_create(const struct train_network *n, uint32_t lanes, uint32_t steps,
                                               bool learning);
void train_workspace_destroy(struct train_workspace **w);
void train_workspace_clear(struct train_workspace *w); /* gradient and sums to 0 */

/* x and every layer's h; with dropout only when `learning`. */
void train_forward(struct train_workspace *w, const struct train_batch *b, bool learning);
/* The heads: sums of loss and, when `learning`, derivatives. `each` may be NULL; it sees every block of rows that have
 * a target, with their probabilities (softmax [rows × classes], sigmoid [rows]). */
typedef void train_scores_fn(void *self, uint32_t head, const uint32_t *rows, uint32_t n, const float *p);
void train_heads(struct train_workspace *w, const struct train_batch *b, bool learning, train_scores_fn *each,
                 void *self);
/* train_sampled.c: the same for one softmax head by its sampler; u is the head's input [n × width] of the rows picked,
 * du its derivative. */
void train_head_sampled(struct train_workspace *w, const struct train_batch *b, uint32_t head, uint32_t n,
                        size_t width, const float *u, float *du);
/* After both: adds to the gradient. */
void train_backward(struct train_workspace *w, const struct train_batch *b);

#endif
