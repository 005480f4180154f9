/* SPDX-License-Identifier: Apache-2.0 */
/* train_checkpoint.h - a training run that was broken off goes on: OUT.checkpoint holds the networks that are finished
 * and, of the one at hand, all that its last whole epoch left behind. Resumed, it makes the same bytes of a model that
 * it would have made undisturbed.
 *
 * The file belongs to one machine and one version; it is replaced as a whole after every epoch, removed at the end. */
#ifndef GAIT_TRAIN_CHECKPOINT_H
#define GAIT_TRAIN_CHECKPOINT_H

#include "train_loop.h"

#include <jansson.h>

/* A network that needs no more learning. */
struct train_finished {
    uint32_t round, network;        /* round 0: with a validation part; 1: once more on everything */
    uint32_t epochs, best_epoch;
    size_t weights_n, history_n;
    float *weights;
    struct train_epoch *history;
};

struct train_checkpoint;

/* `settings`: name → text of everything that the weights depend on; taken over. With `resume` and a file there, its
 * content: NULL with a text when it is damaged or its settings are others, naming the first that differs. */
struct train_checkpoint *train_checkpoint_open(const char *out, json_t *settings, bool resume, struct error *err);
/* The file stays unless `done`. */
void train_checkpoint_close(struct train_checkpoint **checkpoint, bool done);
/* Whether there is anything to go on from. */
bool train_checkpoint_found(const struct train_checkpoint *c);

/* Of one network of one round; NULL = not finished. */
const struct train_finished *train_checkpoint_finished(const struct train_checkpoint *c, uint32_t round,
                                                       uint32_t network);
/* From now on this one learns: `keeper` begins where the file says and saves. A file that cannot be written is said
 * once, and learning goes on. */
void train_checkpoint_keeper(struct train_checkpoint *c, uint32_t round, uint32_t network, struct train_keeper *keeper);
/* It is finished, with these weights. */
void train_checkpoint_finish(struct train_checkpoint *c, uint32_t round, uint32_t network,
                             const struct train_result *result, const float *weights, size_t weights_n);

#endif
