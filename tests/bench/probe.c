// SPDX-License-Identifier: Apache-2.0
// probe.c - reads a topic and measures how late each message is: now minus the "ts" in it, which an open-loop producer
// has set to the moment when the event was due. Prints one JSON line.
//
//   probe BROKERS TOPIC MESSAGES SKIP     waits for MESSAGES messages, leaves the first SKIP of them out
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHUNK = 4096, IDLE_MS = 20000 };

static int64_t wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t due_us(const rd_kafka_message_t *m)
{
    const char *at = memmem(m->payload, m->len, "\"ts\":", 5);
    return at ? strtoll(at + 5, NULL, 10) * 1000 : -1;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(const float *ms, size_t n, double q)
{
    size_t i = (size_t)(q * (double)n);
    return n ? ms[i < n ? i : n - 1] : 0;
}

static rd_kafka_t *subscribe(const char *brokers, const char *topic)
{
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *settings[][2] = {{"bootstrap.servers", brokers}, {"group.id", "probe"}, {"enable.auto.commit", "false"},
                                 {"auto.offset.reset", "earliest"}, {"fetch.wait.max.ms", "5"},
                                 {"isolation.level", "read_committed"}, {"queued.min.messages", "400000"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof text);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!rk) {
        fprintf(stderr, "probe: %s\n", text);
        exit(1);
    }
    rd_kafka_poll_set_consumer(rk);
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(8);
    if (rd_kafka_metadata(rk, 0, handle, &metadata, 10000) == 0 && metadata->topic_cnt == 1)
        for (int p = 0; p < metadata->topics[0].partition_cnt; p++)
            rd_kafka_topic_partition_list_add(parts, topic, p)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(rk, parts);
    rd_kafka_topic_partition_list_destroy(parts);
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    return rk;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fputs("Usage: probe BROKERS TOPIC MESSAGES SKIP\n", stderr);
        return 2;
    }
    size_t want = strtoull(argv[3], NULL, 10), skip = strtoull(argv[4], NULL, 10), seen = 0, n = 0;
    float *ms = malloc((want + CHUNK) * sizeof *ms);
    rd_kafka_message_t *messages[CHUNK];
    rd_kafka_t *rk = subscribe(argv[1], argv[2]);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    int64_t last_us = wall_us();
    while (seen < want && wall_us() - last_us < (int64_t)IDLE_MS * 1000) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 1, messages, CHUNK);
        int64_t now = wall_us();
        for (ssize_t i = 0; i < got; i++) {
            int64_t due = messages[i]->err ? -1 : due_us(messages[i]);
            if (due >= 0 && ++seen > skip && n < want)
                ms[n++] = (float)(now - due) / 1000.0f;
            rd_kafka_message_destroy(messages[i]);
        }
        if (got > 0)
            last_us = now;
    }
    qsort(ms, n, sizeof *ms, by_value);
    printf("{\"n\":%zu,\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"p9999\":%.2f}\n", n, quantile(ms, n, 0.5),
           quantile(ms, n, 0.99), quantile(ms, n, 0.999), quantile(ms, n, 0.9999));
    fflush(stdout);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    free(ms);
    return seen < want;
}
