/* SPDX-License-Identifier: Apache-2.0 */
/* lstm.h - the arithmetic of LSTM layers and heads, once in plain C (the specification) and once for each instruction
 * set. Training and serving share it.
 *
 *   i = σ(W_i·[x|h] + b_i)   f = σ(W_f·[x|h] + b_f)   g = tanh(W_g·[x|h] + b_g)   o = σ(W_o·[x|h] + b_o)
 *   c ← f ⊙ c + i ⊙ g        h ← o ⊙ tanh(c)                              (Hochreiter & Schmidhuber; PyTorch's order)
 *
 * Weights are packed once into panels that the kernels stream. A panel of an LSTM layer holds the four gates of `lanes`
 * neighbouring units, so that sums and cell update happen in registers:
 *
 *   panel 0: k = 0: [i₀…i₇ f₀…f₇ g₀…g₇ o₀…o₇]  k = 1: […] …    panel 1: units 8…15 …          (lanes = 8)
 *
 * Every sum runs over k upwards in one accumulator, whatever the row stands beside: a row's result is the same to the
 * bit in every batch. Kernels agree with the generic one to 1e-5. */
#ifndef GAIT_LSTM_H
#define GAIT_LSTM_H

#include "gait/model.h"

/* A matrix packed for one kernel. Padding is zero. */
struct lstm_panels {
    uint32_t k;            /* inputs: length of a row of `a` */
    uint32_t columns;      /* outputs; for an LSTM layer 4 × units */
    uint32_t n;            /* panels */
    uint32_t width;        /* columns of a panel, 4 × lanes */
    float *weight;         /* [n][k][width], 64-byte aligned */
    float *bias;           /* [n][width] */
};

/* One step of one layer for n rows. */
struct lstm_cell_call {
    const struct lstm_panels *w;
    uint32_t units, n;
    const float *a;                /* [n × w->k]: x, then h before the step */
    const float *const *tables;    /* [n × tables_n] further summands, each [w->n][w->width]; NULL when tables_n = 0 */
    uint32_t tables_n;
    float *const *state;           /* [n] */
    size_t h_at, c_at;             /* floats from state[row]: h is written, c is read and written */
};

struct lstm_kernel {
    const char *name;              /* "generic" … */
    unsigned needs;                /* enum cpu_feature bits */
    uint32_t lanes;
    void (*cell)(const struct lstm_cell_call *call);
    /* y[n × columns] = a[n × k] · Wᵀ + bias, or, with `add`, y += a · Wᵀ. Strides in floats. */
    void (*dense)(const struct lstm_panels *w, uint32_t n, const float *a, size_t a_stride, float *y, size_t y_stride,
                  bool add);
    /* In place; accuracy in lstm_generic.c. */
    void (*sigmoid)(float *x, size_t n);
    void (*tanh)(float *x, size_t n);
    /* In place: x ← e^(x − max) / Σ; returns ln Σ e^x. */
    float (*softmax)(float *x, size_t n);
};

extern const struct lstm_kernel lstm_generic, lstm_avx2, lstm_avx512;

/* "auto" is the fastest that `features` (cpu_features()) allows. NULL with a text that says what is missing. */
const struct lstm_kernel *lstm_kernel_find(const char *name, unsigned features, struct error *err);
extern const char *const lstm_kernel_names[]; /* "auto", "generic" …; NULL-terminated: choices of an option */

/* Pack W [columns × k], element (column, j) at w[column × column_stride + j × k_stride], for `dense`. Packing again
 * into a struct of the same shape reuses its memory. `bias` NULL = zero. */
void lstm_pack_dense(struct lstm_panels *p, const struct lstm_kernel *kernel, uint32_t columns, uint32_t k,
                     const float *w, size_t column_stride, size_t k_stride, const float *bias);
void lstm_panels_free(struct lstm_panels *p);

/* ---- a model's layers, packed, and the step through all of them ------------------------------------------------- */

/* The state of one user: h and c of each layer, one after the other: h0 c0 h1 c1 … */
struct lstm {
    const struct model *model;     /* borrowed */
    const struct lstm_kernel *kernel;
    uint32_t input;                /* what `x` of lstm_step holds: the model's input without what tables replace */
    uint32_t state_floats;
    struct lstm_panels layers[MODEL_LAYERS_MAX];
    size_t h_at[MODEL_LAYERS_MAX], c_at[MODEL_LAYERS_MAX];
    /* Layer 0 sees an embedding linearly, so W_ih · row is kept for each row of a small embedding, and summed. */
    uint32_t tables_n;
    uint32_t table_of[MODEL_EMBEDDINGS_MAX]; /* embedding index of each table */
    float *tables[MODEL_EMBEDDINGS_MAX];     /* [rows][panels][width] */
    bool tabled[MODEL_EMBEDDINGS_MAX];
    struct lstm_panels heads[MODEL_HEADS_MAX];
    float *a;                      /* scratch of one block of rows */
    const float **table_rows;
};

/* `tables`: use them; without, lstm_step takes whole inputs. */
struct lstm *lstm_create(const struct model *model, const struct lstm_kernel *kernel, bool tables);
void lstm_destroy(struct lstm **lstm);

/* Columns → the part of x that is no table, [lstm->input]. */
void lstm_input(const struct lstm *lstm, const struct model_binding *binding, const uint32_t *rows,
                const double *columns, float *x);
/* Advance n different users by one step each. rows [n × embeddings_n] (unused and NULL without tables), x [n × input],
 * state [n], each state_floats long. */
void lstm_step(const struct lstm *lstm, uint32_t n, const uint32_t *rows, const float *x, float *const *state);
/* Logits of one head: h [n × hidden] → y [n × classes]. */
void lstm_head(const struct lstm *lstm, uint32_t head, uint32_t n, const float *h, float *y);

/* What the model stage computes with at the moment (model_lstm.c): score_ uses its packed heads. Valid until the batch
 * ends. */
struct instance;
struct user;
const struct lstm *lstm_at_work(const struct instance *model);
/* The last layer's h [model_hidden()] in a user's record; NULL when it has no state of the model at work. */
const float *lstm_user_hidden(const struct instance *model, struct user *user);
/* Numbers that a record has room for; a model whose state is larger waits for a restart. */
uint32_t lstm_state_room(const struct instance *model);
const char *lstm_path(const struct instance *model); /* the file of the model at work */
/* Between two batches: take the file over now if it is another one. False when it was refused. */
bool lstm_renew(struct instance *model);

#endif
