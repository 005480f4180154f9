// SPDX-License-Identifier: Apache-2.0
// train_kafka.c - see train_kafka.h. Owns the client and where each partition ended when reading began.
#include "train_kafka.h"

#include "log_source.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

struct train_kafka {
    struct log_source log;
    int64_t *until; /* [partitions] */
    int64_t all;    /* messages that there are to read, at most */
};

static int find_ends(struct train_kafka *k, struct error *err)
{
    if (offline_partitions(k->log.offline, &k->log.partitions_n, err) < 0)
        return -1;
    k->until = calloc((size_t)k->log.partitions_n, sizeof *k->until);
    assert(k->until);
    k->log.until = k->until;
    for (int32_t p = 0; p < k->log.partitions_n; p++) {
        int64_t low;
        if (offline_log_range(k->log.offline, p, &low, &k->until[p], err) < 0)
            return -1;
        k->all += k->until[p] - low;
    }
    return k->all > 0 ? 0 : error_set(err, "the topic is empty: there is nothing to read");
}

struct train_kafka *train_kafka_open(const struct config *config, struct error *err)
{
    struct offline_module found[CONFIG_MODULES_MAX];
    struct train_kafka *k = calloc(1, sizeof *k);
    struct error ignored;
    assert(k);
    for (size_t i = 0; i < config->modules_n; i++)
        found[i] = (struct offline_module){config->modules[i].module, config->modules[i].conf};
    k->log.offline = offline_create(found, config->modules_n);
    assert(k->log.offline);
    if (find_ends(k, err) < 0) {
        train_kafka_close(&k, &ignored);
        error_prefix(err, "--from-kafka");
    }
    return k;
}

int train_kafka_close(struct train_kafka **kafka, struct error *err)
{
    struct train_kafka *k = *kafka;
    *kafka = NULL;
    if (!k)
        return 0;
    int rc = 0;
    if (k->log.failed) {
        *err = k->log.error;
        rc = error_prefix(err, "--from-kafka, after %" PRId64 " of %" PRId64 " messages", k->log.done, k->all);
    }
    offline_destroy(&k->log.offline);
    free(k->until);
    free(k);
    return rc;
}

struct config_module train_kafka_source(struct train_kafka *kafka)
{
    return log_source_module(&kafka->log);
}

void train_kafka_progress(const struct train_kafka *kafka, int64_t *done, int64_t *all)
{
    *done = kafka->log.done;
    *all = kafka->all;
}
