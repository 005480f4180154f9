/* SPDX-License-Identifier: Apache-2.0 */
/* train_kafka.h - the configured topic as what training and evaluation read: from its beginning to where it ended when
 * reading began, partition after partition. Nothing joins the group, nothing is committed: the daemons do not notice.
 *
 * Windows, sequences and answers are each user's own, and a user's events lie in one partition in their order; so they
 * need no common order of all partitions. What compares users (splits, folds, baselines) goes by the events' times. */
#ifndef GAIT_TRAIN_KAFKA_H
#define GAIT_TRAIN_KAFKA_H

#include "config.h"

#include "gait/error.h"

struct train_kafka;

/* Asks the broker where the topic ends now. NULL with a text: no source.kafka, no broker, no topic, nothing in it. */
struct train_kafka *train_kafka_open(const struct config *config, struct error *err);
/* 0, or -1 with the text of what broke reading off. */
int train_kafka_close(struct train_kafka **kafka, struct error *err);
/* The source for an engine; valid until the close. */
struct config_module train_kafka_source(struct train_kafka *kafka);
/* Messages read, and those there are to read (an estimate: transactions leave holes). */
void train_kafka_progress(const struct train_kafka *kafka, int64_t *done, int64_t *all);

#endif
