// SPDX-License-Identifier: Apache-2.0
// sequential_test.c - see sequential_test.h.
#include "sequential_test.h"

#include <assert.h>
#include <math.h>

void sequential_test_begin(struct sequential_test *t, double bound, double margin, double alpha)
{
    assert(bound > 0 && margin >= 0 && margin < bound && alpha > 0 && alpha < 1);
    *t = (struct sequential_test){.bound = bound, .margin = margin, .alpha = alpha};
}

/* From what was seen before: the variance begins as that of a value about which nothing is known. */
static double stake(const struct sequential_test *t, double m)
{
    double n = (double)t->n + 1, over = t->mean_y - m, variance = (0.25 + t->squares) / n;
    if (over <= 0)
        return 0;
    double lambda = over / (variance + over * over), most = 0.5 / (1 + m);
    return lambda < most ? lambda : most;
}

bool sequential_test_add(struct sequential_test *t, double difference)
{
    assert(!isnan(difference));
    double d = fmin(fmax(difference, -t->bound), t->bound), y = d / t->bound, m = t->margin / t->bound;
    t->log_wealth += log1p(stake(t, m) * (y - m));
    if (t->log_wealth > t->log_best)
        t->log_best = t->log_wealth;
    t->n++;
    t->mean += (d - t->mean) / (double)t->n;
    double before = y - t->mean_y;
    t->mean_y += before / ((double)t->n + 1);
    t->squares += before * (y - t->mean_y);
    return sequential_test_decided(t);
}

bool sequential_test_decided(const struct sequential_test *t)
{
    return t->log_best >= -log(t->alpha);
}

double sequential_test_p(const struct sequential_test *t)
{
    return exp(-t->log_best);
}
