/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the only source of time. The simulator puts its own in, so that one seed replays a whole run. */
#ifndef GAIT_CLOCK_H
#define GAIT_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*wall_ms)(void *self);      /* Unix time; may jump */
    uint64_t (*mono_ns)(void *self);     /* never goes back */
    void *self;
};

extern const struct clock clock_system;

static inline int64_t clock_wall_ms(const struct clock *c)
{
    return c->wall_ms(c->self);
}

static inline uint64_t clock_mono_ns(const struct clock *c)
{
    return c->mono_ns(c->self);
}

#endif
