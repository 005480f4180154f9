// SPDX-License-Identifier: Apache-2.0
// train_checkpoint.c - the checkpoint file, written and read by the same description of it (pass_all). Owns copies of
// the finished networks, and of where the present one stood when it was read.
#include "train_checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { FINISHED_MAX = 64 };

/* What begins the file; a change of the format changes it. */
static const char magic[8] = "gaitck01";

struct train_checkpoint {
    char *path, *part;
    char *settings;                  /* as JSON, keys sorted */
    size_t settings_n;
    uint32_t finished_n;
    struct train_finished finished[FINISHED_MAX];
    uint32_t at_hand;                /* 1 = the rest is there */
    uint32_t round, network;
    struct train_snapshot snapshot;  /* read: owned; while writing: borrowed from the learner */
    bool said;
};

/* ---- one description for both directions ------------------------------------------------------------------------ */

struct tape {
    FILE *out;                       /* NULL = reading */
    XXH3_state_t *hash;
    const uint8_t *in;
    size_t at, size;
    bool failed;
};

static void pass(struct tape *t, void *bytes, size_t n)
{
    if (t->out) {
        t->failed |= fwrite(bytes, 1, n, t->out) != n;
        XXH3_64bits_update(t->hash, bytes, n);
        return;
    }
    t->failed |= n > t->size - t->at;
    if (t->failed)
        memset(bytes, 0, n);
    else
        memcpy(bytes, t->in + t->at, n);
    t->at += t->failed ? 0 : n;
}

/* An array behind its length; reading makes it, never larger than what is left of the file. */
static void pass_array(struct tape *t, void *array, size_t *n, size_t element)
{
    void **at = array;
    uint64_t count = *n;
    pass(t, &count, sizeof count);
    if (!t->out) {
        t->failed |= count > (t->size - t->at) / element;
        count = t->failed ? 0 : count;
        *at = calloc(count + 1, element);
        assert(*at);
        *n = count;
    }
    pass(t, *at, *n * element);
}

static void pass_finished(struct tape *t, struct train_finished *f)
{
    pass(t, &f->round, sizeof f->round);
    pass(t, &f->network, sizeof f->network);
    pass(t, &f->epochs, sizeof f->epochs);
    pass(t, &f->best_epoch, sizeof f->best_epoch);
    pass_array(t, &f->weights, &f->weights_n, sizeof *f->weights);
    pass_array(t, &f->history, &f->history_n, sizeof *f->history);
    t->failed |= !t->out && (f->history_n != f->epochs || f->best_epoch < 1 || f->best_epoch > f->epochs);
}

static void pass_snapshot(struct tape *t, struct train_snapshot *s)
{
    size_t n[4] = {s->weights_n, s->weights_n, s->weights_n, s->weights_n}, randoms = s->workers_n + 1;
    float **const weights[4] = {&s->weights, &s->best, &s->m, &s->v};
    size_t history_n = s->course.epochs;
    pass(t, &s->course, sizeof s->course);
    for (int i = 0; i < 4; i++) {
        pass_array(t, weights[i], &n[i], sizeof(float));
        t->failed |= n[i] != n[0];
    }
    pass_array(t, &s->pieces, &s->pieces_n, sizeof *s->pieces);
    pass_array(t, &s->random, &randoms, sizeof *s->random);
    pass_array(t, &s->history, &history_n, sizeof *s->history);
    s->weights_n = n[0];
    s->workers_n = (uint32_t)randoms - 1;
    t->failed |= randoms == 0 || history_n != s->course.epochs;
}

static void pass_all(struct tape *t, struct train_checkpoint *c)
{
    pass(t, &c->finished_n, sizeof c->finished_n);
    t->failed |= c->finished_n > FINISHED_MAX;
    for (uint32_t i = 0; i < c->finished_n && !t->failed; i++)
        pass_finished(t, &c->finished[i]);
    pass(t, &c->at_hand, sizeof c->at_hand);
    if (!c->at_hand || t->failed)
        return;
    pass(t, &c->round, sizeof c->round);
    pass(t, &c->network, sizeof c->network);
    pass_snapshot(t, &c->snapshot);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

/* magic, settings, content, hash of all of it */
static bool write_to(FILE *out, struct train_checkpoint *c)
{
    struct tape t = {.out = out, .hash = XXH3_createState()};
    char head[sizeof magic];
    assert(t.hash);
    XXH3_64bits_reset(t.hash);
    memcpy(head, magic, sizeof head);
    pass(&t, head, sizeof head);
    pass_array(&t, &c->settings, &c->settings_n, 1);
    pass_all(&t, c);
    uint64_t hash = XXH3_64bits_digest(t.hash);
    XXH3_freeState(t.hash);
    return !t.failed && fwrite(&hash, sizeof hash, 1, out) == 1;
}

static void save(struct train_checkpoint *c)
{
    FILE *out = fopen(c->part, "we");
    bool ok = out && write_to(out, c);
    if (out && fclose(out) != 0)
        ok = false;
    if (ok && rename(c->part, c->path) == 0)
        return;
    if (!c->said)
        fprintf(stderr, "\nthe checkpoint %s cannot be written: %s; learning goes on, but could not be resumed\n",
                c->path, strerror(errno));
    c->said = true;
    unlink(c->part);
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* The whole file; NULL with errno. */
static uint8_t *read_whole(const char *path, size_t *n)
{
    FILE *in = fopen(path, "re");
    struct stat st;
    uint8_t *bytes = NULL;
    if (in && fstat(fileno(in), &st) == 0) {
        *n = (size_t)st.st_size;
        bytes = malloc(*n + 1);
        assert(bytes);
        if (fread(bytes, 1, *n, in) != *n) {
            free(bytes);
            bytes = NULL;
        }
    }
    if (in)
        fclose(in);
    return bytes;
}

static int compare_settings(const char *was, const char *now, struct error *err)
{
    json_t *a = json_loads(was, 0, NULL), *b = json_loads(now, 0, NULL), *mine;
    const char *name;
    int rc = json_is_object(a) ? 0 : error_set(err, "its settings cannot be read");
    json_object_foreach(b, name, mine) {
        const char *old = json_string_value(json_object_get(a, name)), *new = json_string_value(mine);
        if (rc == 0 && (!old || strcmp(old, new) != 0))
            rc = error_set(err, "it was made with %s %s, and now it is %s; give what was given then, or begin anew "
                           "without --resume", name, old ? old : "(none)", new);
    }
    json_decref(a), json_decref(b);
    return rc;
}

static int read_from(struct train_checkpoint *c, const uint8_t *bytes, size_t n, struct error *err)
{
    uint64_t hash = 0;
    if (n >= sizeof hash)
        memcpy(&hash, bytes + n - sizeof hash, sizeof hash);
    if (n < sizeof magic + sizeof hash || memcmp(bytes, magic, sizeof magic) != 0)
        return error_set(err, "it is no checkpoint of this version");
    if (XXH3_64bits(bytes, n - sizeof hash) != hash)
        return error_set(err, "it is damaged");
    struct tape t = {.in = bytes, .at = sizeof magic, .size = n - sizeof hash};
    char *settings = NULL;
    size_t settings_n = 0;
    pass_array(&t, &settings, &settings_n, 1); /* calloc'ed with a 0 behind */
    int rc = compare_settings(settings, c->settings, err);
    free(settings);
    if (rc == 0)
        pass_all(&t, c);
    return rc == 0 && (t.failed || t.at != t.size) ? error_set(err, "it is damaged") : rc;
}

static void free_snapshot(struct train_snapshot *s)
{
    free(s->weights), free(s->best), free(s->m), free(s->v);
    free(s->pieces), free(s->random), free(s->history);
    *s = (struct train_snapshot){0};
}

/* ---- for the job ------------------------------------------------------------------------------------------------ */

struct train_checkpoint *train_checkpoint_open(const char *out, json_t *settings, bool resume, struct error *err)
{
    struct train_checkpoint *c = calloc(1, sizeof *c);
    uint8_t *bytes = NULL;
    size_t n = 0;
    assert(c);
    if (asprintf(&c->path, "%s.checkpoint", out) < 0 || asprintf(&c->part, "%s.checkpoint.part", out) < 0)
        abort();
    c->settings = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
    assert(c->settings);
    c->settings_n = strlen(c->settings);
    json_decref(settings);
    int rc = 0;
    if (resume && access(c->path, F_OK) == 0) {
        bytes = read_whole(c->path, &n);
        rc = bytes ? read_from(c, bytes, n, err) : error_set(err, "cannot be read: %s", strerror(errno));
        if (rc < 0)
            error_prefix(err, "--resume: %s", c->path);
    }
    free(bytes);
    if (rc < 0)
        train_checkpoint_close(&c, false);
    return c;
}

void train_checkpoint_close(struct train_checkpoint **checkpoint, bool done)
{
    struct train_checkpoint *c = *checkpoint;
    *checkpoint = NULL;
    if (!c)
        return;
    if (done)
        unlink(c->path);
    for (uint32_t i = 0; i < FINISHED_MAX; i++)
        free(c->finished[i].weights), free(c->finished[i].history);
    free_snapshot(&c->snapshot);
    free(c->settings), free(c->path), free(c->part);
    free(c);
}

bool train_checkpoint_found(const struct train_checkpoint *c)
{
    return c->finished_n > 0 || c->at_hand;
}

const struct train_finished *train_checkpoint_finished(const struct train_checkpoint *c, uint32_t round,
                                                       uint32_t network)
{
    for (uint32_t i = 0; i < c->finished_n; i++)
        if (c->finished[i].round == round && c->finished[i].network == network)
            return &c->finished[i];
    return NULL;
}

static void keep(void *self, const struct train_snapshot *s)
{
    struct train_checkpoint *c = self;
    struct train_snapshot own = c->snapshot;
    c->snapshot = *s;
    c->at_hand = 1;
    save(c);
    c->snapshot = own;
}

void train_checkpoint_keeper(struct train_checkpoint *c, uint32_t round, uint32_t network, struct train_keeper *keeper)
{
    bool here = c->at_hand && c->snapshot.weights && c->round == round && c->network == network;
    if (!here)
        free_snapshot(&c->snapshot);
    c->round = round;
    c->network = network;
    *keeper = (struct train_keeper){.from = here ? &c->snapshot : NULL, .keep = keep, .self = c};
}

void train_checkpoint_finish(struct train_checkpoint *c, uint32_t round, uint32_t network,
                             const struct train_result *result, const float *weights, size_t weights_n)
{
    assert(c->finished_n < FINISHED_MAX);
    struct train_finished *f = &c->finished[c->finished_n++];
    *f = (struct train_finished){.round = round, .network = network, .epochs = result->epochs,
                                 .best_epoch = result->best_epoch, .weights_n = weights_n,
                                 .history_n = result->epochs};
    f->weights = malloc(weights_n * sizeof *weights);
    f->history = malloc(result->epochs * sizeof *f->history);
    assert(f->weights && f->history);
    memcpy(f->weights, weights, weights_n * sizeof *weights);
    memcpy(f->history, result->history, result->epochs * sizeof *f->history);
    free_snapshot(&c->snapshot);
    c->at_hand = 0;
    save(c);
}
