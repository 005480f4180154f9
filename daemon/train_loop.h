/* SPDX-License-Identifier: Apache-2.0 */
/* train_loop.h - epochs over sequences: mini-batches, threads, Adam, validation, early stop.
 *
 *   train_learn ─► each epoch: sequences shuffled, sorted by chunks ─► mini-batches ─► chunks of `steps` events
 *                    each chunk: forward, heads, backward (threads share the lanes) ─► one step of Adam
 *                  then train_measure on the answers known from split_ms on; the best weights are kept
 */
#ifndef GAIT_TRAIN_LOOP_H
#define GAIT_TRAIN_LOOP_H

#include "train_network.h"
#include "train_set.h"
#include "train_stop.h"

enum { TRAIN_THREADS_MAX = 64 };

enum train_schedule { TRAIN_CONSTANT, TRAIN_COSINE, TRAIN_HALVING /* the rate, when validation stands still */ };

struct train_keeper;

struct train_options {
    uint32_t lanes;          /* sequences in a mini-batch */
    uint32_t steps;          /* of back-propagation; longer sequences go on with the state carried over */
    bool windows;            /* cut sequences into windows of `steps` events instead, each beginning from zero */
    uint32_t epochs, patience; /* stop after so many epochs without a better validation; 0 = never */
    double rate;             /* Adam's */
    double clip;             /* longest gradient; 0 = any */
    double l1, l2;           /* on matrices, not on biases */
    enum train_schedule schedule;
    uint32_t threads;
    uint64_t seed;
    const struct train_keeper *keeper; /* train_learn: where to begin, and what sees each epoch's end; NULL = neither */
};

/* What is learned from: sequences, the embedding rows of their names, features, targets. Borrowed. */
struct train_data {
    const struct train_set *set;
    const struct train_shape *shape;
    enum model_field embedded[MODEL_EMBEDDINGS_MAX];
    const uint32_t *row_of[MODEL_EMBEDDINGS_MAX]; /* [names + 1] embedding row of a name id */
    const float *features;                        /* [n × features_n] normalised */
    const struct train_target *targets;           /* [heads_n] */
};

/* Which answers count: those known within [from_ms, until_ms); labels of events before from_ms do not (their sequence
 * was learned from). */
struct train_span {
    int64_t from_ms, until_ms;
};

struct train_progress {
    uint32_t epoch, epochs;
    double share;            /* of the epoch */
    double loss;             /* mean of the epoch so far, all heads */
    double events_per_s, sequences_per_s, left_s;
};

struct train_epoch {
    double loss, valid_loss; /* NaN without validation */
    double seconds, accuracy; /* of the first sigmoid head; NaN without one */
};

struct train_result {
    uint32_t epochs, best_epoch;    /* from 1 */
    struct train_epoch *history;    /* [epochs], to be freed */
    bool interrupted;
    double events_per_s, sequences_per_s; /* of learning alone */
};

/* How far learning has come, beside the weights. */
struct train_course {
    uint32_t epochs, best_epoch, waited;   /* waited: epochs without a better validation */
    uint32_t unused;
    uint64_t step, events, sequences;
    double best_loss, rate, learning_s;
};

/* All that a whole epoch leaves to the next one: from it, learning goes on as if it had not been broken off. */
struct train_snapshot {
    struct train_course course;
    size_t weights_n, pieces_n;
    uint32_t workers_n;
    float *weights, *best, *m, *v;         /* [weights_n] m, v: Adam's moments */
    struct train_piece *pieces;            /* [pieces_n] in the order that the last epoch left them in */
    struct train_random *random;           /* [1 + workers_n] the order's, then each thread's for dropout */
    struct train_epoch *history;           /* [course.epochs] */
};

struct train_keeper {
    const struct train_snapshot *from;     /* NULL = from the beginning */
    void (*keep)(void *self, const struct train_snapshot *snapshot); /* after every whole epoch */
    void *self;
};

typedef void train_progress_fn(void *self, const struct train_progress *p);

/* Learns from the answers in `learn`, stops by those in `valid` (empty span: after all epochs), leaves the best weights
 * in the network. `stop` may be NULL. -1 with a text: nothing to learn from, or the loss
 * is not a number any more, the keeper's snapshot is of another network. */
int train_learn(struct train_network *n, const struct train_data *data, const struct train_options *o,
                struct train_span learn, struct train_span valid, struct train_stop *stop,
                train_progress_fn *progress, void *self, struct train_result *result, struct error *err);

/* One answer beside its probabilities (softmax: [classes]; sigmoid: one). Called from several threads, `thread` below
 * their number. */
typedef void train_answer_fn(void *self, uint32_t thread, uint32_t head, size_t event, const float *p);
/* Runs every sequence that has an answer in the span from its beginning, without dropout. Returns the weighted sum of
 * the heads' mean losses, NaN without answers. */
double train_measure(struct train_network *n, const struct train_data *data, const struct train_options *o,
                     struct train_span span, train_answer_fn *each, void *self);

/* ---- train_batches.c: which sequences, and their rows ----------------------------------------------------------- */

struct train_piece {
    size_t start;
    uint32_t length;         /* up to the last event whose answer counts */
};

struct train_pieces {
    struct train_piece *at;
    size_t n;
    uint64_t events, targets;
};

bool train_counts(const struct train_data *data, uint32_t head, size_t event, struct train_span span);
/* Cut to `steps` when windows; sequences without an answer in the span are left out. */
struct train_pieces train_pieces_find(const struct train_data *data, const struct train_options *o, bool windows,
                                      struct train_span span);
/* Shuffle, then order by number of chunks, so that a mini-batch's lanes end together; longest first within each. */
void train_pieces_shuffle(struct train_pieces *p, const struct train_options *o, struct train_random *random);
/* The rows of chunk `chunk` of lanes `first, first + stride, …` of the mini-batch pieces[0 … lanes). */
void train_batch_fill(struct train_batch *b, const struct train_data *data, const struct train_piece *pieces,
                      uint32_t lanes, uint32_t chunk, uint32_t steps, uint32_t first, uint32_t stride,
                      struct train_span span);

#endif
