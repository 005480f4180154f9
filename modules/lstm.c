// SPDX-License-Identifier: Apache-2.0
// lstm.c - between the model and the kernels: picks a kernel, packs weights into its panels, and walks a wave of users
// through the layers. Owns the packed weights and the scratch of one block of rows; the state belongs to the caller.
#include "gait/lstm.h"

#include "gait/cpu.h"

#include <assert.h>
#include <stdlib.h>

/* Rows that go through a layer together: enough that reading the weights is shared by many, few enough that their
 * inputs and states stay in the second-level cache. PREFETCH rows ahead is the time a cache miss takes. */
enum { BLOCK_ROWS = 96, PREFETCH_ROWS = 4, ALIGN = 64, TABLE_BYTES_MAX = 1 << 20 };

static const struct lstm_kernel *const kernels[] = {&lstm_avx512, &lstm_avx2, &lstm_generic, NULL}; /* fastest first */
const char *const lstm_kernel_names[] = {"auto", "generic", "avx2", "avx512", NULL};

const struct lstm_kernel *lstm_kernel_find(const char *name, unsigned features, struct error *err)
{
    bool automatic = strcmp(name, "auto") == 0;
    for (int i = 0; kernels[i]; i++) {
        bool possible = (kernels[i]->needs & features) == kernels[i]->needs;
        if (automatic && possible)
            return kernels[i];
        if (automatic || strcmp(name, kernels[i]->name) != 0)
            continue;
        if (possible)
            return kernels[i];
        error_set(err, "kernel %s: this processor, or the system on it, lacks the instructions; use auto", name);
        return NULL;
    }
    error_set(err, "kernel '%s' is not known; use auto, generic, avx2 or avx512", name);
    return NULL;
}

/* ---- packing ---------------------------------------------------------------------------------------------------- */

static float *floats_take(size_t n)
{
    size_t bytes = (n * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    float *at = aligned_alloc(ALIGN, bytes ? bytes : ALIGN);
    assert(at);
    memset(at, 0, bytes);
    return at;
}

static void panels_size(struct lstm_panels *p, const struct lstm_kernel *kernel, uint32_t columns, uint32_t k)
{
    uint32_t width = 4 * kernel->lanes;
    if (p->weight && p->columns == columns && p->k == k && p->width == width)
        return;
    lstm_panels_free(p);
    *p = (struct lstm_panels){.k = k, .columns = columns, .n = (columns + width - 1) / width, .width = width};
    p->weight = floats_take((size_t)p->n * k * width);
    p->bias = floats_take((size_t)p->n * width);
}

void lstm_panels_free(struct lstm_panels *p)
{
    free(p->weight);
    free(p->bias);
    *p = (struct lstm_panels){0};
}

void lstm_pack_dense(struct lstm_panels *p, const struct lstm_kernel *kernel, uint32_t columns, uint32_t k,
                     const float *w, size_t column_stride, size_t k_stride, const float *bias)
{
    panels_size(p, kernel, columns, k);
    for (uint32_t column = 0; column < columns; column++) {
        float *to = p->weight + (size_t)(column / p->width) * k * p->width + column % p->width;
        for (uint32_t j = 0; j < k; j++)
            to[(size_t)j * p->width] = w[column * column_stride + j * k_stride];
        p->bias[column] = bias ? bias[column] : 0;
    }
}

/* Where the gate of a unit stands in a vector of all panels' columns. */
static size_t cell_column(const struct lstm_panels *p, uint32_t gate, uint32_t unit)
{
    uint32_t lanes = p->width / 4;
    return (size_t)(unit / lanes) * p->width + gate * lanes + unit % lanes;
}

/* Where layer 0 finds each input of its x among the model's inputs: those that no table replaces. */
static uint32_t inputs_kept(const struct lstm *l, uint32_t *kept)
{
    const struct model *m = l->model;
    uint32_t n = 0, at = 0;
    for (uint32_t e = 0; e < m->embeddings_n; at += m->embeddings[e++].width)
        for (uint32_t j = 0; j < m->embeddings[e].width && !l->tabled[e]; j++)
            kept[n++] = at + j;
    for (uint32_t f = 0; f < m->features_n; f++)
        kept[n++] = at + f;
    return n;
}

static void pack_layer(struct lstm *l, uint32_t index, const uint32_t *kept, uint32_t inputs)
{
    const struct model_layer *layer = &l->model->layers[index];
    struct lstm_panels *p = &l->layers[index];
    uint32_t units = layer->hidden, lanes = l->kernel->lanes, k = inputs + units;
    panels_size(p, l->kernel, (units + lanes - 1) / lanes * 4 * lanes, k);
    for (uint32_t gate = 0; gate < 4; gate++) {
        for (uint32_t unit = 0; unit < units; unit++) {
            size_t row = (size_t)gate * units + unit, column = cell_column(p, gate, unit);
            float *to = p->weight + column / p->width * k * p->width + column % p->width;
            p->bias[column] = layer->bias_ih[row] + layer->bias_hh[row];
            for (uint32_t j = 0; j < inputs; j++)
                to[(size_t)j * p->width] = layer->weight_ih[row * layer->input + (kept ? kept[j] : j)];
            for (uint32_t j = 0; j < units; j++)
                to[(size_t)(inputs + j) * p->width] = layer->weight_hh[row * units + j];
        }
    }
}

/* W_ih · row for each row of embedding `e`, whose inputs begin at `at`, laid out like a panel's columns. */
static float *table_make(const struct lstm *l, uint32_t e, uint32_t at)
{
    const struct model_embedding *embedding = &l->model->embeddings[e];
    const struct model_layer *layer = &l->model->layers[0];
    const struct lstm_panels *p = &l->layers[0];
    size_t width = (size_t)p->n * p->width;
    float *table = floats_take((embedding->vocabulary.n + 1) * width);
    for (uint32_t row = 0; row <= embedding->vocabulary.n; row++) {
        const float *value = embedding->weight + (size_t)row * embedding->width;
        for (uint32_t gate = 0; gate < 4; gate++) {
            for (uint32_t unit = 0; unit < layer->hidden; unit++) {
                const float *w = layer->weight_ih + ((size_t)gate * layer->hidden + unit) * layer->input + at;
                double sum = 0;
                for (uint32_t j = 0; j < embedding->width; j++)
                    sum += (double)w[j] * value[j];
                table[row * width + cell_column(p, gate, unit)] = (float)sum;
            }
        }
    }
    return table;
}

static void choose_tables(struct lstm *l)
{
    uint32_t lanes = l->kernel->lanes;
    size_t width = (size_t)(l->model->layers[0].hidden + lanes - 1) / lanes * lanes * 4;
    for (uint32_t e = 0; e < l->model->embeddings_n; e++)
        l->tabled[e] = (l->model->embeddings[e].vocabulary.n + 1) * width * sizeof(float) <= TABLE_BYTES_MAX;
}

struct lstm *lstm_create(const struct model *model, const struct lstm_kernel *kernel, bool tables)
{
    assert(model->layers_n > 0);
    struct lstm *l = calloc(1, sizeof *l);
    uint32_t *kept = calloc(model->input, sizeof *kept);
    assert(l && kept);
    l->model = model;
    l->kernel = kernel;
    if (tables)
        choose_tables(l);
    l->input = inputs_kept(l, kept);
    pack_layer(l, 0, kept, l->input);
    for (uint32_t i = 1; i < model->layers_n; i++)
        pack_layer(l, i, NULL, model->layers[i].input);
    for (uint32_t e = 0, at = 0; e < model->embeddings_n; at += model->embeddings[e++].width) {
        if (!l->tabled[e])
            continue;
        l->table_of[l->tables_n] = e;
        l->tables[l->tables_n++] = table_make(l, e, at);
    }
    uint32_t k_max = 0;
    for (uint32_t i = 0; i < model->layers_n; i++) {
        l->h_at[i] = l->state_floats;
        l->c_at[i] = l->h_at[i] + model->layers[i].hidden;
        l->state_floats += 2 * model->layers[i].hidden;
        k_max = l->layers[i].k > k_max ? l->layers[i].k : k_max;
    }
    for (uint32_t i = 0; i < model->heads_n; i++) {
        const struct model_head *head = &model->heads[i];
        lstm_pack_dense(&l->heads[i], kernel, head->classes, model_hidden(model), head->weight, model_hidden(model), 1,
                        head->bias);
    }
    l->a = floats_take((size_t)BLOCK_ROWS * k_max);
    l->table_rows = calloc((size_t)BLOCK_ROWS * MODEL_EMBEDDINGS_MAX, sizeof *l->table_rows);
    assert(l->table_rows);
    free(kept);
    return l;
}

void lstm_destroy(struct lstm **lstm)
{
    struct lstm *l = *lstm;
    if (!l)
        return;
    for (uint32_t i = 0; i < MODEL_LAYERS_MAX; i++)
        lstm_panels_free(&l->layers[i]);
    for (uint32_t i = 0; i < MODEL_HEADS_MAX; i++)
        lstm_panels_free(&l->heads[i]);
    for (uint32_t i = 0; i < l->tables_n; i++)
        free(l->tables[i]);
    free(l->a);
    free(l->table_rows);
    free(l);
    *lstm = NULL;
}

/* ---- the step --------------------------------------------------------------------------------------------------- */

void lstm_input(const struct lstm *l, const struct model_binding *binding, const uint32_t *rows, const double *columns,
                float *x)
{
    const struct model *m = l->model;
    for (uint32_t e = 0; e < m->embeddings_n; e++) {
        const struct model_embedding *embedding = &m->embeddings[e];
        if (l->tabled[e])
            continue;
        memcpy(x, embedding->weight + (size_t)rows[e] * embedding->width, embedding->width * sizeof *x);
        x += embedding->width;
    }
    model_features(binding, columns, x);
}

static void prefetch_state(const struct lstm *l, const float *state)
{
    for (uint32_t at = 0; at < l->state_floats; at += ALIGN / sizeof(float))
        __builtin_prefetch(state + at, 1);
}

/* a[row] = [x | h] for layer 0. The records lie far apart, so those a few rows ahead are fetched meanwhile. */
static void gather_input(const struct lstm *l, uint32_t n, const float *x, float *const *state)
{
    uint32_t k = l->layers[0].k, hidden = k - l->input;
    for (uint32_t row = 0; row < n && row < PREFETCH_ROWS; row++)
        prefetch_state(l, state[row]);
    for (uint32_t row = 0; row < n; row++) {
        if (row + PREFETCH_ROWS < n)
            prefetch_state(l, state[row + PREFETCH_ROWS]);
        float *a = l->a + (size_t)row * k;
        memcpy(a, x + (size_t)row * l->input, l->input * sizeof *a);
        memcpy(a + l->input, state[row] + l->h_at[0], hidden * sizeof *a);
    }
}

static void gather_layer(const struct lstm *l, uint32_t layer, uint32_t n, float *const *state)
{
    uint32_t k = l->layers[layer].k, input = l->model->layers[layer].input;
    for (uint32_t row = 0; row < n; row++) {
        float *a = l->a + (size_t)row * k;
        memcpy(a, state[row] + l->h_at[layer - 1], input * sizeof *a);
        memcpy(a + input, state[row] + l->h_at[layer], (k - input) * sizeof *a);
    }
}

static void gather_tables(const struct lstm *l, uint32_t n, const uint32_t *rows)
{
    size_t width = (size_t)l->layers[0].n * l->layers[0].width;
    for (uint32_t row = 0; row < n; row++)
        for (uint32_t t = 0; t < l->tables_n; t++)
            l->table_rows[row * l->tables_n + t] =
                l->tables[t] + rows[(size_t)row * l->model->embeddings_n + l->table_of[t]] * width;
}

static void step_block(const struct lstm *l, uint32_t n, const uint32_t *rows, const float *x, float *const *state)
{
    gather_input(l, n, x, state);
    gather_tables(l, n, rows);
    for (uint32_t layer = 0; layer < l->model->layers_n; layer++) {
        if (layer > 0)
            gather_layer(l, layer, n, state);
        l->kernel->cell(&(struct lstm_cell_call){
            .w = &l->layers[layer],
            .units = l->model->layers[layer].hidden,
            .n = n,
            .a = l->a,
            .tables = l->table_rows,
            .tables_n = layer == 0 ? l->tables_n : 0,
            .state = state,
            .h_at = l->h_at[layer],
            .c_at = l->c_at[layer],
        });
    }
}

void lstm_step(const struct lstm *l, uint32_t n, const uint32_t *rows, const float *x, float *const *state)
{
    for (uint32_t from = 0; from < n; from += BLOCK_ROWS) {
        uint32_t block = n - from < BLOCK_ROWS ? n - from : BLOCK_ROWS;
        step_block(l, block, rows ? rows + (size_t)from * l->model->embeddings_n : NULL, x + (size_t)from * l->input,
                   state + from);
    }
}

void lstm_head(const struct lstm *l, uint32_t head, uint32_t n, const float *h, float *y)
{
    const struct lstm_panels *w = &l->heads[head];
    l->kernel->dense(w, n, h, w->k, y, w->columns, false);
}
