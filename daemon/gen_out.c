// SPDX-License-Identifier: Apache-2.0
// gen_out.c - the outputs of `gaitd gen`. A topic's acknowledgements are counted: what is not acknowledged is an error.
#include "gen_out.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { BUFFER_BYTES = 1 << 18, POLL_EVERY = 256, FLUSH_MS = 60000 };

struct gen_out {
    const char *name;         /* for texts; borrowed */
    int fd;                   /* -1: not a plain file */
    gzFile gz;                /* NULL: not a gzip file */
    char *buffer;
    size_t buffered;
    rd_kafka_t *kafka;        /* NULL: not a topic */
    rd_kafka_topic_t *topic;
    uint64_t sent, failed;
    char reason[256];         /* of the first failure */
};

static struct gen_out *create(const char *name)
{
    struct gen_out *out = calloc(1, sizeof *out);
    assert(out);
    out->name = name;
    out->fd = -1;
    return out;
}

struct gen_out *gen_out_file(const char *path, struct error *err)
{
    size_t len = strlen(path);
    bool gzip = len > 3 && strcmp(path + len - 3, ".gz") == 0;
    struct gen_out *out = create(strcmp(path, "-") == 0 ? "standard output" : path);
    if (strcmp(path, "-") == 0)
        out->fd = STDOUT_FILENO;
    else if (gzip)
        out->gz = gzopen(path, "wb1"); /* writes no time into the header: same seed, same bytes */
    else
        out->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd < 0 && !out->gz) {
        error_set(err, "cannot write %s: %s", path, strerror(errno));
        free(out);
        return NULL;
    }
    out->buffer = malloc(BUFFER_BYTES);
    assert(out->buffer);
    return out;
}

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *self)
{
    struct gen_out *out = self;
    (void)kafka;
    if (message->err && out->failed++ == 0)
        snprintf(out->reason, sizeof out->reason, "%s", rd_kafka_err2str(message->err));
}

static void on_error(rd_kafka_t *kafka, int code, const char *reason, void *self)
{
    (void)self;
    fprintf(stderr, "gaitd gen: %s: %s\n", rd_kafka_err2name((rd_kafka_resp_err_t)code), reason);
    (void)kafka;
}

static int set_property(rd_kafka_conf_t *conf, const char *key, const char *value, struct error *err)
{
    char text[256];
    if (rd_kafka_conf_set(conf, key, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return 0;
    return error_set(err, "--set %s: %s", key, text);
}

static rd_kafka_conf_t *kafka_conf(const char *brokers, const char *const *set, size_t n, bool prompt,
                                   struct error *err)
{
    /* murmur2_random is how the Java client chooses partitions: other producers put a user into the same one. */
    const char *const own[][2] = {
        {"bootstrap.servers", brokers}, {"partitioner", "murmur2_random"}, {"linger.ms", prompt ? "0.5" : "20"},
        {"queue.buffering.max.messages", "500000"}, {"queue.buffering.max.kbytes", "131072"},
        {"batch.num.messages", "10000"}, {"message.timeout.ms", "30000"}, {"enable.idempotence", "true"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (set_property(conf, own[i][0], own[i][1], err) < 0)
            goto fail;
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(set[i], '=');
        char key[128];
        if (!equals || (size_t)(equals - set[i]) >= sizeof key) {
            error_set(err, "--set %s: must be KEY=VALUE, a property of librdkafka", set[i]);
            goto fail;
        }
        snprintf(key, sizeof key, "%.*s", (int)(equals - set[i]), set[i]);
        if (set_property(conf, key, equals + 1, err) < 0)
            goto fail;
    }
    return conf;
fail:
    rd_kafka_conf_destroy(conf);
    return NULL;
}

struct gen_out *gen_out_kafka(const char *brokers, const char *topic, const char *const *set, size_t n, bool prompt,
                              struct error *err)
{
    char text[256];
    rd_kafka_conf_t *conf = kafka_conf(brokers, set, n, prompt, err);
    if (!conf)
        return NULL;
    struct gen_out *out = create(topic);
    rd_kafka_conf_set_opaque(conf, out);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, NULL); /* it would say the same again */
    out->kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!out->kafka) {
        rd_kafka_conf_destroy(conf);
        free(out);
        error_set(err, "cannot start the Kafka producer: %s", text);
        return NULL;
    }
    out->topic = rd_kafka_topic_new(out->kafka, topic, NULL);
    assert(out->topic);
    return out;
}

static int write_topic(struct gen_out *out, const char *key, size_t key_len, const char *line, size_t len,
                       struct error *err)
{
    while (rd_kafka_produce(out->topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, (void *)(uintptr_t)line, len - 1,
                            key, key_len, NULL) < 0) {
        rd_kafka_resp_err_t code = rd_kafka_last_error();
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return error_set(err, "topic %s: %s", out->name, rd_kafka_err2str(code));
        rd_kafka_poll(out->kafka, 20);
    }
    if (++out->sent % POLL_EVERY == 0)
        rd_kafka_poll(out->kafka, 0);
    if (out->failed)
        return error_set(err, "topic %s: an event was not delivered: %s", out->name, out->reason);
    return 0;
}

int gen_out_push(struct gen_out *out, struct error *err)
{
    if (out->kafka)
        rd_kafka_poll(out->kafka, 0);
    const char *at = out->buffer;
    for (size_t left = out->buffered; left > 0;) {
        ssize_t n = out->gz ? gzwrite(out->gz, at, (unsigned)left) : write(out->fd, at, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, "cannot write %s: %s", out->name, strerror(errno));
        at += n;
        left -= (size_t)n;
    }
    out->buffered = 0;
    return 0;
}

int gen_out_write(struct gen_out *out, const char *key, size_t key_len, const char *line, size_t len,
                  struct error *err)
{
    if (out->kafka)
        return write_topic(out, key, key_len, line, len, err);
    if (out->buffered + len > BUFFER_BYTES && gen_out_push(out, err) < 0)
        return -1;
    memcpy(out->buffer + out->buffered, line, len);
    out->buffered += len;
    return 0;
}

static int close_topic(struct gen_out *out, struct error *err)
{
    rd_kafka_flush(out->kafka, FLUSH_MS);
    int queued = rd_kafka_outq_len(out->kafka);
    rd_kafka_topic_destroy(out->topic);
    rd_kafka_destroy(out->kafka);
    if (out->failed)
        return error_set(err, "topic %s: %" PRIu64 " of %" PRIu64 " events were not delivered: %s", out->name,
                         out->failed, out->sent, out->reason);
    if (queued)
        return error_set(err, "topic %s: %d events were not acknowledged within %d s", out->name, queued,
                         FLUSH_MS / 1000);
    return 0;
}

int gen_out_close(struct gen_out **closing, struct error *err)
{
    struct gen_out *out = *closing;
    if (!out)
        return 0;
    int rc = out->kafka ? close_topic(out, err) : gen_out_push(out, err);
    if (out->gz && gzclose(out->gz) != Z_OK && rc == 0)
        rc = error_set(err, "cannot write %s to its end: %s", out->name, strerror(errno));
    if (out->fd > STDOUT_FILENO && close(out->fd) < 0 && rc == 0)
        rc = error_set(err, "cannot write %s to its end: %s", out->name, strerror(errno));
    free(out->buffer);
    free(out);
    *closing = NULL;
    return rc;
}
