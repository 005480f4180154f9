/* SPDX-License-Identifier: Apache-2.0 */
/* mock_cluster.h - librdkafka's mock cluster for tests: brokers inside this process, with faults on demand. And a loop
 * that runs until a condition holds. */
#ifndef MOCK_CLUSTER_H
#define MOCK_CLUSTER_H

#include "gait/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ev.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

enum { WAIT_MS = 60000 };

struct mock {
    rd_kafka_t *rk;
    rd_kafka_mock_cluster_t *cluster;
    const char *brokers;
};

static inline rd_kafka_t *mock_client(const struct mock *m, rd_kafka_type_t type, const char *const settings[][2])
{
    char text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (m)
        assert_int_equal(rd_kafka_conf_set(conf, "bootstrap.servers", m->brokers, text, sizeof text), 0);
    assert_int_equal(rd_kafka_conf_set(conf, "log_level", "0", text, sizeof text), 0);
    for (size_t i = 0; settings && settings[i][0]; i++)
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof text) != RD_KAFKA_CONF_OK)
            fail_msg("%s", text);
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof text);
    if (!rk)
        fail_msg("%s", text);
    return rk;
}

static inline void mock_start(struct mock *m)
{
    m->rk = mock_client(NULL, RD_KAFKA_PRODUCER, NULL);
    m->cluster = rd_kafka_mock_cluster_new(m->rk, 1);
    assert_non_null(m->cluster);
    m->brokers = rd_kafka_mock_cluster_bootstraps(m->cluster);
}

static inline void mock_stop(struct mock *m)
{
    rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->rk);
}

/* `n` messages with value "PARTITION:NUMBER" and key "kNUMBER" into a partition. */
static inline void mock_produce(const struct mock *m, const char *topic, int32_t partition, int from, int n)
{
    rd_kafka_t *rk = mock_client(m, RD_KAFKA_PRODUCER, NULL);
    for (int i = from; i < from + n; i++) {
        char value[32], key[32];
        snprintf(value, sizeof value, "%d:%d", (int)partition, i);
        snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                           RD_KAFKA_V_VALUE(value, strlen(value)), RD_KAFKA_V_KEY(key, strlen(key)),
                                           RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
    }
    assert_int_equal(rd_kafka_flush(rk, WAIT_MS), 0);
    rd_kafka_destroy(rk);
}

/* Run the loop until the condition holds. */
#define pump_until(loop, condition)                                                            \
    do {                                                                                       \
        uint64_t until = clock_mono_ns(&clock_system) + (uint64_t)WAIT_MS * 1000000;           \
        while (!(condition)) {                                                                 \
            ev_run(loop, EVRUN_ONCE);                                                          \
            if (clock_mono_ns(&clock_system) > until)                                          \
                fail_msg("not within %d ms: %s", WAIT_MS, #condition);                         \
        }                                                                                      \
    } while (0)

#endif
