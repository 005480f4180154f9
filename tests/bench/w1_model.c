// SPDX-License-Identifier: Apache-2.0
// w1_model.c - writes the model of the benchmark job W1: input 64 (embeddings of 24 and 8, 32 features) → LSTM 128 →
// LSTM 64 → softmax over 32 categories and an intent. The weights are random: what a step costs does not depend on
// them.
#include "gait/model.h"
#include "shop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { CATEGORIES = 32 };

static uint64_t state = 1;

/* Uniform in ±bound, as PyTorch begins. */
static void fill(float *at, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (float)(((double)(state >> 33) / 2147483648.0 * 2 - 1) * bound);
    }
}

static const char *const features[] = {
    "count.all.5m", "count.all.1h", "count.all.24h", "count.all.7d", "count.product_view.1h", "count.product_view.24h",
    "count.search.1h", "count.search.24h", "count.add_to_cart.1h", "count.add_to_cart.24h", "count.checkout.24h",
    "count.purchase.24h", "count.purchase.7d", "count.purchase.28d", "count.login.24h", "count.login_failed.1h",
    "sum.purchase.24h", "sum.purchase.28d", "since.purchase", "since.add_to_cart", "since.login", "gap",
    "session.events", "session.seconds", "cart.items", "cart.value", "event.price", "event.quantity", "time.day_sin",
    "time.day_cos", "time.week_sin", "time.week_cos",
};

static int build(struct model *m, struct error *err)
{
    struct str names[CATEGORIES], types[EVENT_TYPES_BUILTIN];
    struct event_types known;
    if (event_types_init(&known, NULL, 0, err) < 0)
        return -1;
    for (int i = 0; i < CATEGORIES; i++)
        names[i] = str_of(shop_category_name(i));
    for (int i = 0; i < EVENT_TYPES_BUILTIN; i++)
        types[i] = str_of(known.name[i]);
    if (model_add_embedding(m, MODEL_CATEGORY, 24, names, CATEGORIES, err) < 0 ||
        model_add_embedding(m, MODEL_TYPE, 8, types, EVENT_TYPES_BUILTIN, err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        struct model_feature f = {.column = (char *)(uintptr_t)features[i], .transform = MODEL_LOG1P, .scale = 1,
                                  .clip = 8};
        if (model_add_feature(m, &f, err) < 0)
            return -1;
    }
    if (model_add_layer(m, 128, err) < 0 || model_add_layer(m, 64, err) < 0 ||
        model_add_head(m, "interest", MODEL_SOFTMAX, "category", names, CATEGORIES, err) < 0 ||
        model_add_head(m, "intent", MODEL_SIGMOID, "intent", NULL, 0, err) < 0)
        return -1;
    for (uint32_t e = 0; e < m->embeddings_n; e++)
        fill(m->embeddings[e].weight, (m->embeddings[e].vocabulary.n + 1) * (size_t)m->embeddings[e].width, 0.5);
    for (uint32_t l = 0; l < m->layers_n; l++) {
        struct model_layer *layer = &m->layers[l];
        double bound = 1 / sqrt(layer->hidden);
        fill(layer->weight_ih, 4 * (size_t)layer->hidden * layer->input, bound);
        fill(layer->weight_hh, 4 * (size_t)layer->hidden * layer->hidden, bound);
        fill(layer->bias_ih, 4 * (size_t)layer->hidden, bound);
        fill(layer->bias_hh, 4 * (size_t)layer->hidden, bound);
    }
    for (uint32_t h = 0; h < m->heads_n; h++)
        fill(m->heads[h].weight, m->heads[h].classes * (size_t)model_hidden(m), 0.3);
    return 0;
}

int main(int argc, char **argv)
{
    struct error err;
    struct model *m = model_create();
    if (argc != 2 || build(m, &err) < 0 || model_save(m, argv[1], &err) < 0) {
        fprintf(stderr, "w1_model: %s\n", argc == 2 ? err.text : "Usage: w1_model FILE");
        return 1;
    }
    model_destroy(&m);
    return 0;
}
