/* SPDX-License-Identifier: Apache-2.0 */
/* mock_kafka.h - for the tests of source_kafka and sink_kafka: the mock cluster, and the module alone in a loop. */
#ifndef MOCK_KAFKA_H
#define MOCK_KAFKA_H

#include "fake_engine.h"
#include "mock_cluster.h"

/* A module under test in a loop of its own, with the tick that the engine would give it. */
struct pumped {
    struct engine *e;
    ev_timer tick;
};

static inline void pumped_tick(struct ev_loop *loop, ev_timer *w, int events)
{
    struct pumped *p = w->data;
    (void)loop, (void)events;
    fake_flow(p->e, FLOW_TICK, NULL, 0);
}

static inline void pumped_start(struct pumped *p, struct engine *e)
{
    p->e = e;
    ev_timer_init(&p->tick, pumped_tick, 0, 0.02);
    p->tick.data = p;
    ev_timer_start(e->in.loop, &p->tick);
}

static inline void pumped_stop(struct pumped *p)
{
    ev_timer_stop(p->e->in.loop, &p->tick);
}

#endif
