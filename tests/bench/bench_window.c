// SPDX-License-Identifier: Apache-2.0
// bench_window.c - what window_rolling costs per event, with a dozen wanted columns and most users out of cache.
//
//   make bench-window [USERS=200000] [EVENTS=2000000]
//
// wide: events spread evenly over all users. skewed: 90 % of them from 4,000 users, whose rings are full.
#include "../support.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

extern const struct module window_rolling;

static uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed >> 11;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void fill(struct rig *rig, uint64_t *seed, long users, bool skewed, int64_t ts)
{
    struct batch *b = &rig->batch;
    for (b->n = 0; b->n < 512; b->n++) {
        char name[24], id[24];
        long hot = skewed && draw(seed) % 10 ? 4000 : users;
        snprintf(name, sizeof name, "user-%ld", (long)(draw(seed) % (uint64_t)hot));
        snprintf(id, sizeof id, "e-%lld", (long long)rig->offset++);
        bool made;
        struct event *event = &b->events[b->n];
        *event = (struct event){
            .type = (uint8_t)(draw(seed) % EVENT_TYPES_BUILTIN),
            .ts_ms = ts + b->n,
            .log_ms = ts + b->n,
            .event_id = str_of(arena_copy(b->arena, id, strlen(id))),
            .category = str_of("shoes.running"),
            .item = str_of("sku-1234"),
            .session = str_of("s-12345678"),
            .has = HAS_PRICE,
            .price = 9.5,
            .record = users_get(rig->engine->users, 0, str_of(name), &made),
        };
        event->record->state = USER_READY;
    }
}

static void measure(const char *what, long users, long events, bool skewed)
{
    static const char *const wanted[] = {
        "count.all.5m", "count.all.1h", "count.purchase.24h", "count.purchase.7d", "count.product_view.1h",
        "count.login_failed.5m", "count.add_to_cart.28d", "sum.purchase.7d", "since.purchase", "gap", "session.events",
        "event.price", "time.day_sin", "time.day_cos",
    };
    struct rig *rig = rig_new(NULL);
    rig_open(rig, &window_rolling, NULL, NULL);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        rig_want(rig, wanted[i]);
    rig_ready(rig, (size_t)users * 4096);
    struct instance *in = &rig->engine->instances[0];
    rig->batch.columns_n = columns_width(rig->engine->columns);
    rig->batch.columns = calloc((size_t)rig->batch.cap * rig->batch.columns_n, sizeof(double));
    uint64_t seed = 88172645463325252;
    double ns = 0;
    for (long done = 0; done < events; done += 512) {
        fill(rig, &seed, users, skewed, 1700000000000 + done);
        double from = now_ns();
        window_rolling.run(in, &rig->batch);
        ns += now_ns() - from;
        arena_reset(rig->batch.arena);
    }
    printf("%-8s %ld users, %ld events, %zu bytes a record: %.3f us per event\n", what, users, events,
           users_slot_bytes(rig->engine->users), ns / 1000 / (double)events);
    free(rig->batch.columns);
    rig_free(&rig);
}

int main(int argc, char **argv)
{
    long users = argc > 1 ? strtol(argv[1], NULL, 10) : 200000, events = argc > 2 ? strtol(argv[2], NULL, 10) : 2000000;
    measure("wide", users, events, false);
    measure("skewed", users, events, true);
    return 0;
}
