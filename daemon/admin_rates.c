// SPDX-License-Identifier: Apache-2.0
// admin_rates.c - figures of now out of counters that only grow: a snapshot a second, and differences between them.
#include "admin_inside.h"

#include <math.h>
#include <time.h>

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void snapshot(struct admin *a)
{
    struct admin_rates *rates = &a->rates;
    size_t at = rates->samples_n % (ADMIN_WINDOW_S + 1);
    memcpy(rates->own[at], a->engine->m_own->buckets, sizeof rates->own[at]);
    memcpy(rates->end[at], a->engine->m_end_to_end->buckets, sizeof rates->end[at]);
    for (size_t i = 0; i < STAGES; i++)
        rates->stage_s[at][i] = a->engine->m_stage[i]->value;
    rates->events[at] = rates->last_events;
}

void admin_rates_begin(struct admin *a)
{
    a->rates.last_ns = a->started_ns;
    a->rates.last_cpu_s = cpu_seconds();
    snapshot(a);
}

double admin_rates_quantile_ms(const struct admin *a, bool end_to_end, double q)
{
    const struct admin_rates *rates = &a->rates;
    uint64_t now = rates->samples_n, then = now > ADMIN_WINDOW_S ? now - ADMIN_WINDOW_S : 0, difference[METRIC_BUCKETS];
    const uint64_t (*of)[METRIC_BUCKETS] = end_to_end ? rates->end : rates->own;
    uint64_t total = 0;
    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        difference[i] = of[now % (ADMIN_WINDOW_S + 1)][i] - of[then % (ADMIN_WINDOW_S + 1)][i];
        total += difference[i];
    }
    return total ? 1e3 * metric_quantile(&(struct metric_cell){.buckets = difference}, q) : NAN;
}

static double total_lag(const struct engine *e)
{
    double lag = 0;
    for (size_t i = 0; i < e->partitions_n; i++) {
        const struct partition *p = e->partitions[i];
        int64_t behind = p->high - (p->applied_next < 0 ? 0 : p->applied_next);
        lag += p->high >= 0 && behind > 0 ? (double)behind : 0;
    }
    return lag;
}

void admin_rates_second(struct admin *a)
{
    struct admin_rates *rates = &a->rates;
    uint64_t now_ns = clock_mono_ns(&a->engine->clock);
    double seconds = (double)(now_ns - rates->last_ns) * 1e-9, cpu = cpu_seconds();
    double events = metrics_sum(a->engine->metrics, "gait_events_total");
    double alerts = (double)watch_alerts_newest(a->watch);
    if (seconds <= 0)
        return;
    struct admin_sample *sample = &rates->history[rates->samples_n % ADMIN_HISTORY];
    sample->events_per_s = (events - rates->last_events) / seconds;
    sample->alerts_per_s = (alerts - rates->last_alerts) / seconds;
    sample->cpu_share = (cpu - rates->last_cpu_s) / seconds;
    sample->lag = total_lag(a->engine);
    rates->last_events = events;
    rates->last_alerts = alerts;
    rates->last_cpu_s = cpu;
    rates->last_ns = now_ns;
    rates->samples_n++;
    snapshot(a);
    sample->own_p50_ms = admin_rates_quantile_ms(a, false, 0.5);
    sample->own_p99_ms = admin_rates_quantile_ms(a, false, 0.99);
    sample->end_p50_ms = admin_rates_quantile_ms(a, true, 0.5);
    sample->end_p99_ms = admin_rates_quantile_ms(a, true, 0.99);
}

const struct admin_sample *admin_rates_latest(const struct admin *a)
{
    static const struct admin_sample none;
    return a->rates.samples_n ? &a->rates.history[(a->rates.samples_n - 1) % ADMIN_HISTORY] : &none;
}
