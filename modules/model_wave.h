/* SPDX-License-Identifier: Apache-2.0 */
/* model_wave.h - what the model at work (model_lstm.c) and its challenger (model_challenger.c) share: loading a
 * model, the waves of a batch, and rebuilding a user's state from the ring of last events. */
#ifndef GAIT_MODEL_WAVE_H
#define GAIT_MODEL_WAVE_H

#include "gait/lstm.h"
#include "gait/module.h"

enum { WAVE_ROWS_MAX = 96 };

/* Scratch of one block of a wave. */
struct wave {
    int32_t *events;              /* [events_cap] of the current wave */
    uint32_t events_cap;
    float *state[WAVE_ROWS_MAX], *x;
    uint32_t *rows;               /* [WAVE_ROWS_MAX × embeddings] */
    double *columns;              /* [columns_cap] one row, for rebuilding */
    uint32_t columns_cap;
    uint8_t *own;                 /* [own_cap] ring entries that are this batch's own events */
    uint32_t own_cap;
};

void wave_create(struct wave *w); /* with room for any model's inputs */
void wave_free(struct wave *w);
/* Grows only when batches or rows of columns have become larger than ever before. */
void wave_grow(struct wave *w, uint32_t events, uint32_t columns);

/* The first event of each user in the batch that counts, into w->events; and then from each the user's next one that
 * counts. How many there are. */
uint32_t wave_first(struct wave *w, const struct batch *b);
uint32_t wave_next(struct wave *w, const struct batch *b, uint32_t n);

/* A user whose state is to be rebuilt: which of its ring events come before this batch. */
struct rebuild {
    struct user *user;
    float *state;                 /* zeroed by the caller once the plan is not empty */
    uint32_t n, done;
    uint32_t *index;              /* [n] of the ring, oldest first */
};

/* `first`: the user's first event of the batch that counts. How many steps it will take; 0 = nothing to rebuild from.
 */
uint32_t rebuild_plan(struct wave *w, const struct instance *window, struct batch *b, int32_t first,
                      struct rebuild *plan);
/* All plans [n <= WAVE_ROWS_MAX], in waves; how many steps they took. */
uint64_t rebuild_run(struct wave *w, const struct instance *window, const struct lstm *l,
                     const struct model_binding *binding, struct columns *columns, struct rebuild *plans, uint32_t n);

/* A model from its file, bound to the instance's event types and columns and ready to step. Both are the caller's. NULL
 * with a text, and *model is then NULL too. */
struct lstm *wave_model_load(const struct instance *in, const char *path, const struct lstm_kernel *kernel,
                             struct model **model, struct model_binding *binding, struct error *err);

#endif
