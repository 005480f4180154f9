// SPDX-License-Identifier: Apache-2.0
// train_loop.c - epochs. All threads run the same loop over the same mini-batches, each on its own lanes; between
// barriers each of them sums and applies its own slice of the gradient. With one thread nothing waits.
#include "train_loop.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct learner;

struct worker {
    struct learner *learner;
    uint32_t index;
    struct train_workspace *workspace;
    struct train_batch batch;
    double norm;               /* of its share of the gradient, squared */
    double loss, targets, hits, labels; /* of the epoch */
};

struct learner {
    struct train_network *network;
    const struct train_data *data;
    const struct train_options *options;
    struct train_span span;
    struct train_pieces pieces;
    struct worker workers[TRAIN_THREADS_MAX];
    uint32_t workers_n;
    pthread_barrier_t barrier;
    float *m, *v;              /* Adam's moments */
    uint64_t step, steps_all;  /* of Adam */
    struct dense_adam adam;    /* of the step at hand */
    struct train_stop *stop;
    bool stopping, diverged;
    train_progress_fn *progress;
    void *self;
    struct train_progress shown;
    double began_s, shown_s, learning_s;
    uint64_t events, sequences; /* learned from, all epochs */
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void wait_all(struct learner *l)
{
    if (l->workers_n > 1)
        pthread_barrier_wait(&l->barrier);
}

/* ---- one mini-batch --------------------------------------------------------------------------------------------- */

/* Each head's loss is the mean over the chunk's answers, of all lanes. A chunk with few answers (the tail of long
 * sequences) does not get the say of a full one: the divisor is at least half the usual number. */
static void set_scales(struct worker *w, const struct train_piece *pieces, uint32_t lanes, uint32_t chunk)
{
    const struct learner *l = w->learner;
    uint32_t steps = l->options->steps;
    for (uint32_t h = 0; h < l->data->shape->heads_n; h++) {
        double targets = 0, usual = (double)l->pieces.targets / (double)l->data->shape->heads_n;
        for (uint32_t lane = 0; lane < lanes; lane++)
            for (uint32_t i = chunk * steps; i < (chunk + 1) * steps && i < pieces[lane].length; i++)
                targets += train_counts(l->data, h, pieces[lane].start + i, l->span);
        usual *= (double)lanes / (double)l->pieces.n / 2;
        if (chunk > 0 && targets < usual)
            targets = usual;
        w->batch.scale[h] = targets > 0 ? (float)(l->data->shape->heads[h].weight / targets) : 0;
    }
}

static void compute_gradient(struct worker *w, const struct train_piece *pieces, uint32_t lanes, uint32_t chunk)
{
    struct learner *l = w->learner;
    const struct train_shape *shape = l->data->shape;
    train_workspace_clear(w->workspace);
    train_batch_fill(&w->batch, l->data, pieces, lanes, chunk, l->options->steps, w->index, l->workers_n, l->span);
    set_scales(w, pieces, lanes, chunk);
    if (w->batch.rows == 0)
        return;
    train_forward(w->workspace, &w->batch, true);
    train_heads(w->workspace, &w->batch, true, NULL, NULL);
    train_backward(w->workspace, &w->batch);
    for (uint32_t h = 0; h < shape->heads_n; h++) {
        w->loss += w->workspace->loss[h] * shape->heads[h].weight;
        w->targets += w->workspace->targets[h];
        if (shape->heads[h].kind == MODEL_SIGMOID) {
            w->hits += w->workspace->hits[h];
            w->labels += w->workspace->targets[h];
        }
    }
}

static double rate_at(const struct learner *l, double base)
{
    if (l->options->schedule != TRAIN_COSINE)
        return base;
    double share = (double)l->step / (double)(l->steps_all ? l->steps_all : 1);
    return base * (0.02 + 0.98 * 0.5 * (1 + cos(M_PI * (share < 1 ? share : 1))));
}

/* ---- one step of Adam -------------------------------------------------------------------------------------------- */

/* A piece of the weights that is handled as a whole: part of a matrix, or one row of a sparse embedding. */
typedef void piece_fn(struct worker *w, const struct train_matrix *m, int sparse, size_t row, size_t from, size_t n);

static bool is_touched(const struct learner *l, int embedding, size_t row)
{
    for (uint32_t k = 0; k < l->workers_n; k++)
        if (l->workers[k].workspace->touched[embedding][row])
            return true;
    return false;
}

/* Calls `each` for this worker's share of every matrix: an even part of its rows, of a sparse one those touched. */
static void each_piece(struct worker *w, piece_fn *each)
{
    const struct train_network *n = w->learner->network;
    size_t parts = w->learner->workers_n;
    for (uint32_t k = 0; k < n->matrices_n; k++) {
        const struct train_matrix *m = &n->matrices[k];
        int sparse = train_network_sparse(n, m);
        size_t from = m->rows * w->index / parts, until = m->rows * (w->index + 1) / parts;
        if (sparse < 0)
            each(w, m, sparse, 0, m->offset + from * m->columns, (until - from) * m->columns);
        for (size_t row = from; sparse >= 0 && row < until; row++)
            if (is_touched(w->learner, sparse, row))
                each(w, m, sparse, row, m->offset + row * m->columns, m->columns);
    }
}

/* The workers' gradients added up in the first one's. */
static void sum_piece(struct worker *w, const struct train_matrix *m, int sparse, size_t row, size_t from, size_t n)
{
    struct learner *l = w->learner;
    float *to = l->workers[0].workspace->gradient;
    const struct dense *d = l->network->dense;
    (void)m;
    for (uint32_t k = 1; k < l->workers_n; k++)
        if (sparse < 0 || l->workers[k].workspace->touched[sparse][row])
            d->add(n, to + from, l->workers[k].workspace->gradient + from);
    if (sparse >= 0)
        l->workers[0].workspace->touched[sparse][row] = 1; /* so that the sum is cleared with it */
    for (size_t i = from; i < from + n; i += 4096)
        w->norm += d->dot(from + n - i < 4096 ? from + n - i : 4096, to + i, to + i);
}

static void move_piece(struct worker *w, const struct train_matrix *m, int sparse, size_t row, size_t from, size_t n)
{
    struct learner *l = w->learner;
    struct dense_adam adam = l->adam;
    (void)sparse, (void)row;
    adam.l1 = m->columns > 1 ? adam.l1 : 0;
    adam.l2 = m->columns > 1 ? adam.l2 : 0;
    l->network->dense->adam(n, l->network->weights + from, l->workers[0].workspace->gradient + from, l->m + from,
                            l->v + from, &adam);
}

/* By the first worker, between the barriers: how far this step goes. */
static void prepare_step(struct learner *l, double base_rate)
{
    double rate = rate_at(l, base_rate), norm = 0, t = (double)++l->step;
    for (uint32_t k = 0; k < l->workers_n; k++)
        norm += l->workers[k].norm;
    norm = sqrt(norm);
    l->diverged = !isfinite(norm);
    double correct1 = 1 - pow(0.9, t), correct2 = sqrt(1 - pow(0.999, t));
    l->adam = (struct dense_adam){.beta1 = 0.9f, .beta2 = 0.999f, .scale = 1,
                                  .rate = (float)(rate * correct2 / correct1), .epsilon = (float)(1e-7 * correct2),
                                  .l1 = (float)l->options->l1, .l2 = (float)l->options->l2};
    if (l->options->clip > 0 && norm > l->options->clip)
        l->adam.scale = (float)(l->options->clip / norm);
}

static void take_step(struct worker *w, double base_rate)
{
    struct learner *l = w->learner;
    wait_all(l);
    w->norm = 0;
    each_piece(w, sum_piece);
    wait_all(l);
    if (w->index == 0)
        prepare_step(l, base_rate);
    wait_all(l);
    if (l->diverged)
        return;
    each_piece(w, move_piece);
    wait_all(l);
    train_network_compose(l->network, w->index, l->workers_n);
    wait_all(l);
    train_network_pack(l->network, w->index, l->workers_n);
    wait_all(l);
}

static void show_progress(struct learner *l, size_t done)
{
    double now = now_s();
    if (!l->progress || now - l->shown_s < 0.2)
        return;
    double loss = 0, targets = 0, spent = now - l->began_s + l->learning_s;
    for (uint32_t k = 0; k < l->workers_n; k++) {
        loss += l->workers[k].loss;
        targets += l->workers[k].targets;
    }
    l->shown_s = now;
    l->shown.share = done < l->pieces.n ? (double)done / (double)l->pieces.n : 1; /* the last mini-batch is smaller */
    l->shown.loss = targets > 0 ? loss / targets * l->data->shape->heads_n : 0;
    l->shown.events_per_s = (double)l->events / spent;
    l->shown.sequences_per_s = (double)l->sequences / spent;
    double epochs_done = l->shown.epoch - 1 + l->shown.share;
    l->shown.left_s = spent / epochs_done * (l->shown.epochs - epochs_done);
    l->progress(l->self, &l->shown);
}

static void run_batch(struct worker *w, size_t from, double base_rate)
{
    struct learner *l = w->learner;
    const struct train_piece *pieces = l->pieces.at + from;
    uint32_t lanes = (uint32_t)(l->pieces.n - from < l->options->lanes ? l->pieces.n - from : l->options->lanes);
    uint32_t chunks = (pieces[0].length + l->options->steps - 1) / l->options->steps;
    for (uint32_t chunk = 0; chunk < chunks; chunk++) {
        compute_gradient(w, pieces, lanes, chunk);
        take_step(w, base_rate);
        if (l->diverged)
            return;
    }
    if (w->index != 0)
        return;
    for (uint32_t i = 0; i < lanes; i++)
        l->events += pieces[i].length;
    l->sequences += lanes;
}

/* ---- epochs ----------------------------------------------------------------------------------------------------- */

struct epoch_call {
    struct worker *worker;
    const size_t *order;   /* [batches] where each mini-batch begins */
    size_t batches;
    double rate;
};

static void *run_epoch(void *argument)
{
    struct epoch_call *call = argument;
    struct learner *l = call->worker->learner;
    for (size_t i = 0; i < call->batches; i++) {
        run_batch(call->worker, call->order[i], call->rate);
        if (call->worker->index == 0) {
            show_progress(l, (i + 1) * l->options->lanes);
            l->stopping = train_stop_asked(l->stop);
        }
        wait_all(l);
        if (l->stopping || l->diverged)
            break;
        wait_all(l); /* nobody sets `stopping` anew before all have looked */
    }
    return NULL;
}

/* The mini-batches of one epoch in random order, by all threads. */
static void learn_epoch(struct learner *l, struct train_random *random, double rate)
{
    size_t batches = (l->pieces.n + l->options->lanes - 1) / l->options->lanes;
    size_t *order = calloc(batches, sizeof *order);
    struct epoch_call calls[TRAIN_THREADS_MAX];
    pthread_t threads[TRAIN_THREADS_MAX];
    assert(order);
    train_pieces_shuffle(&l->pieces, l->options, random);
    for (size_t i = 0; i < batches; i++) {
        size_t j = train_random_below(random, i + 1);
        order[i] = order[j];
        order[j] = i * l->options->lanes;
    }
    l->began_s = now_s();
    for (uint32_t k = 0; k < l->workers_n; k++) {
        struct worker *w = &l->workers[k];
        w->loss = w->targets = w->hits = w->labels = 0;
        calls[k] = (struct epoch_call){.worker = w, .order = order, .batches = batches, .rate = rate};
    }
    for (uint32_t k = 1; k < l->workers_n; k++) {
        int rc = pthread_create(&threads[k], NULL, run_epoch, &calls[k]);
        assert(rc == 0);
    }
    run_epoch(&calls[0]);
    for (uint32_t k = 1; k < l->workers_n; k++)
        pthread_join(threads[k], NULL);
    l->learning_s += now_s() - l->began_s;
    free(order);
}

static void create_workers(struct learner *l)
{
    const struct train_options *o = l->options;
    l->workers_n = o->threads ? o->threads : 1;
    if (l->workers_n > o->lanes)
        l->workers_n = o->lanes;
    assert(l->workers_n <= TRAIN_THREADS_MAX);
    pthread_barrier_init(&l->barrier, NULL, l->workers_n);
    uint32_t lanes = (o->lanes + l->workers_n - 1) / l->workers_n;
    for (uint32_t k = 0; k < l->workers_n; k++) {
        struct worker *w = &l->workers[k];
        w->learner = l;
        w->index = k;
        w->workspace = train_workspace_create(l->network, lanes, o->steps, true);
        train_random_seed(&w->workspace->random, o->seed * 1000003 + k + 1);
        train_batch_create(&w->batch, l->data->shape, lanes, o->steps);
    }
    l->m = dense_alloc(l->network->weights_n);
    l->v = dense_alloc(l->network->weights_n);
}

static void destroy_learner(struct learner *l)
{
    for (uint32_t k = 0; k < l->workers_n; k++) {
        train_workspace_destroy(&l->workers[k].workspace);
        train_batch_destroy(&l->workers[k].batch);
    }
    if (l->workers_n)
        pthread_barrier_destroy(&l->barrier);
    free(l->m);
    free(l->v);
    free(l->pieces.at);
    free(l);
}

static uint64_t count_steps(const struct learner *l)
{
    const struct train_options *o = l->options;
    uint64_t steps = 0;
    for (size_t i = 0; i < l->pieces.n; i += o->lanes)
        steps += (l->pieces.at[i].length + o->steps - 1) / o->steps;
    return steps * o->epochs;
}

static void note_epoch(struct learner *l, struct train_epoch *e, double began)
{
    double loss = 0, targets = 0, hits = 0, labels = 0;
    for (uint32_t k = 0; k < l->workers_n; k++) {
        loss += l->workers[k].loss;
        targets += l->workers[k].targets;
        hits += l->workers[k].hits;
        labels += l->workers[k].labels;
    }
    *e = (struct train_epoch){.loss = loss / targets * l->data->shape->heads_n, .valid_loss = NAN,
                              .accuracy = labels > 0 ? hits / labels : NAN, .seconds = now_s() - began};
}

/* ---- from an epoch to the next ---------------------------------------------------------------------------------- */

/* What learn_epochs() goes by. */
struct course {
    struct train_random random;
    double best_loss, rate;
    uint32_t waited;
    float *best;
};

static struct train_snapshot snapshot_of(struct learner *l, const struct course *c, const struct train_result *r,
                                         struct train_random *random)
{
    random[0] = c->random;
    for (uint32_t k = 0; k < l->workers_n; k++)
        random[k + 1] = l->workers[k].workspace->random;
    return (struct train_snapshot){
        .course = {.epochs = r->epochs, .best_epoch = r->best_epoch, .waited = c->waited, .step = l->step,
                   .events = l->events, .sequences = l->sequences, .best_loss = c->best_loss, .rate = c->rate,
                   .learning_s = l->learning_s},
        .weights_n = l->network->weights_n, .pieces_n = l->pieces.n, .workers_n = l->workers_n,
        .weights = l->network->weights, .best = c->best, .m = l->m, .v = l->v, .pieces = l->pieces.at,
        .random = random, .history = r->history,
    };
}

static void keep_epoch(struct learner *l, const struct course *c, const struct train_result *r)
{
    struct train_random random[1 + TRAIN_THREADS_MAX];
    struct train_snapshot s = snapshot_of(l, c, r, random);
    l->options->keeper->keep(l->options->keeper->self, &s);
}

/* -1: not a snapshot of this network and these sequences. */
static int restore(struct learner *l, struct course *c, struct train_result *r, const struct train_snapshot *s)
{
    size_t bytes = s->weights_n * sizeof *s->weights;
    if (s->weights_n != l->network->weights_n || s->pieces_n != l->pieces.n || s->workers_n != l->workers_n ||
        s->course.epochs > l->options->epochs)
        return -1;
    for (size_t i = 0; i < s->pieces_n; i++) /* what they refer to is there */
        if (s->pieces[i].start > l->data->set->n || s->pieces[i].length > l->data->set->n - s->pieces[i].start)
            return -1;
    memcpy(l->network->weights, s->weights, bytes);
    memcpy(c->best, s->best, bytes);
    memcpy(l->m, s->m, bytes);
    memcpy(l->v, s->v, bytes);
    memcpy(l->pieces.at, s->pieces, s->pieces_n * sizeof *s->pieces);
    memcpy(r->history, s->history, s->course.epochs * sizeof *s->history);
    c->random = s->random[0];
    for (uint32_t k = 0; k < l->workers_n; k++)
        l->workers[k].workspace->random = s->random[k + 1];
    c->best_loss = s->course.best_loss;
    c->rate = s->course.rate;
    c->waited = s->course.waited;
    r->epochs = s->course.epochs;
    r->best_epoch = s->course.best_epoch;
    l->step = s->course.step;
    l->events = s->course.events;
    l->sequences = s->course.sequences;
    l->learning_s = s->course.learning_s;
    return 0;
}

/* Whether there is a point in another epoch. */
static bool judge_epoch(struct learner *l, struct course *c, struct train_result *r, double valid_loss)
{
    const struct train_options *o = l->options;
    /* A broken-off epoch counts only where it is known to be better. */
    bool known = !isnan(valid_loss);
    if (known ? valid_loss < c->best_loss : !l->stopping || r->best_epoch == 0) {
        c->best_loss = known ? valid_loss : c->best_loss;
        r->best_epoch = r->epochs;
        memcpy(c->best, l->network->weights, l->network->weights_n * sizeof *c->best);
        c->waited = 0;
    } else if (++c->waited >= o->patience && o->patience > 0) {
        return false;
    } else if (o->schedule == TRAIN_HALVING) {
        c->rate /= 2;
    }
    return true;
}

/* Epochs until patience, signal or the last one; the best weights stay in the network. */
static int learn_epochs(struct learner *l, struct train_span valid, struct train_result *r)
{
    const struct train_options *o = l->options;
    struct course c = {.best_loss = INFINITY, .rate = o->rate, .best = dense_alloc(l->network->weights_n)};
    bool more = true;
    train_random_seed(&c.random, o->seed);
    int rc = o->keeper && o->keeper->from ? restore(l, &c, r, o->keeper->from) : 0;
    train_network_refresh(l->network);
    while (rc == 0 && more && r->epochs < o->epochs && !l->stopping) {
        double began = now_s();
        l->shown.epoch = r->epochs + 1;
        learn_epoch(l, &c.random, c.rate);
        if (l->diverged)
            break;
        struct train_epoch *e = &r->history[r->epochs++];
        note_epoch(l, e, began);
        train_network_refresh(l->network);
        if (valid.from_ms < valid.until_ms)
            e->valid_loss = train_measure(l->network, l->data, o, valid, NULL, NULL);
        more = judge_epoch(l, &c, r, e->valid_loss);
        if (more && !l->stopping && o->keeper)
            keep_epoch(l, &c, r);
    }
    if (rc == 0 && !l->diverged) {
        memcpy(l->network->weights, c.best, l->network->weights_n * sizeof *c.best);
        train_network_refresh(l->network);
    }
    free(c.best);
    return rc;
}

int train_learn(struct train_network *n, const struct train_data *data, const struct train_options *o,
                struct train_span learn, struct train_span valid, struct train_stop *stop,
                train_progress_fn *progress, void *self, struct train_result *result, struct error *err)
{
    struct learner *l = calloc(1, sizeof *l);
    assert(l && o->epochs > 0 && o->lanes > 0 && o->steps > 0);
    *l = (struct learner){.network = n, .data = data, .options = o, .span = learn, .stop = stop, .progress = progress,
                          .self = self, .shown.epochs = o->epochs};
    *result = (struct train_result){.history = calloc(o->epochs, sizeof *result->history)};
    assert(result->history);
    l->pieces = train_pieces_find(data, o, o->windows, learn);
    if (l->pieces.n == 0) {
        destroy_learner(l);
        return error_set(err, "there is nothing to learn from: no event has a known answer in the training span");
    }
    train_pieces_shuffle(&l->pieces, o, NULL);
    l->steps_all = count_steps(l);
    create_workers(l);
    int rc = learn_epochs(l, valid, result);
    bool diverged = l->diverged;
    result->interrupted = l->stopping;
    result->events_per_s = l->learning_s > 0 ? (double)l->events / l->learning_s : 0;
    result->sequences_per_s = l->learning_s > 0 ? (double)l->sequences / l->learning_s : 0;
    destroy_learner(l);
    if (rc < 0)
        return error_set(err, "the checkpoint is of another network or of other sequences; begin anew without "
                         "--resume");
    return diverged ? error_set(err, "the gradient is not a number any more in epoch %u; a smaller --rate or a --clip "
                                "helps", result->epochs + 1) : 0;
}
