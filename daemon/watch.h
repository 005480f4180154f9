/* SPDX-License-Identifier: Apache-2.0 */
/* watch.h - what the operators' pages show of the flow: the last alerts, the shop's interests and the funnel of the
 * last hour. Filled once a batch with counts alone; read by the admin server, on the same thread. */
#ifndef GAIT_WATCH_H
#define GAIT_WATCH_H

#include "gait/batch.h"
#include "gait/model.h"

enum { WATCH_MINUTES = 60, WATCH_ALERTS = 1000, WATCH_CLASSES_MAX = 4096 };

struct watch;

struct watch *watch_create(uint64_t mono_ns);
void watch_destroy(struct watch **watch);

/* Hot: a batch that has passed the sinks. `mono_ns` is the clock's. */
void watch_batch(struct watch *watch, const struct batch *b, uint64_t mono_ns);
/* Lets minutes pass when no batch comes. */
void watch_advance(struct watch *watch, uint64_t mono_ns);

/* ---- alerts: each as the JSON text that the sinks write, borrowed until the next batch ------------------------- */
struct watch_alert {
    uint64_t number;       /* 1, 2, 3 … since the daemon started */
    struct str text;
};

/* The user is to be erased: the alerts about them go. */
void watch_forget(struct watch *watch, struct str user);
/* Alerts ever seen; those with numbers in (newest - kept, newest] can be asked for. */
uint64_t watch_alerts_newest(const struct watch *watch);
uint64_t watch_alerts_kept(const struct watch *watch);
/* Alert `number`, which is kept; false when it is not about `user` or has no symbol `rule` (absent = any), or
 * its user was erased. */
bool watch_alert_at(const struct watch *watch, uint64_t number, struct str user, struct str rule,
                    struct watch_alert *out);

/* ---- counts by minute: [0] is the oldest, [minutes - 1] the one under way --------------------------------------- */
uint32_t watch_minutes(const struct watch *watch); /* how many are known, 1 .. WATCH_MINUTES */
void watch_events(const struct watch *watch, uint32_t type, uint32_t *minutes);
/* Sum of the probabilities that the model gave to class `id` after each event, for the model whose id is
 * watch_model_id(); 0 when no score was seen. */
void watch_interest(const struct watch *watch, uint32_t id, float *minutes);
uint32_t watch_classes(const struct watch *watch);
uint64_t watch_model_id(const struct watch *watch);
int64_t watch_model_since_ms(const struct watch *watch); /* wall clock of its first batch; 0 = none yet */

#endif
