// SPDX-License-Identifier: Apache-2.0
// kafka.c - what source_kafka and sink_kafka share; the contract is in kafka.h.
#include "kafka.h"

#include <assert.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Settings that gait's promises depend on, and what to use instead. */
static const struct kafka_refusal {
    const char *name, *instead;
} refusals[] = {
    {"bootstrap.servers", "use the option brokers"},
    {"metadata.broker.list", "use the option brokers"},
    {"client.id", "use the option client_id"},
    {"group.id", "use the source's option group"},
    {"group.instance.id", "use the source's option group_instance_id"},
    {"partition.assignment.strategy", "use the source's option assignment"},
    {"auto.offset.reset", "use the source's option start"},
    {"enable.auto.commit", "gait commits an offset itself, once every output below it is durable"},
    {"auto.commit.enable", "gait commits an offset itself, once every output below it is durable"},
    {"enable.auto.offset.store", "gait commits an offset itself, once every output below it is durable"},
    {"auto.commit.interval.ms", "use engine.commit_ms"},
    {"queued.min.messages", "use the source's option prefetch_bytes"},
    {"queued.max.messages.kbytes", "use the source's option prefetch_bytes"},
    {"isolation.level", "offsets of a transaction that is not finished must not be taken for committed ones"},
    {"enable.partition.eof", "gait does not wait for the end of a partition"},
    {"enable.idempotence", "it is always on: a repeated send must not become a second message"},
    {"acks", "it is always \"all\": an output counts as durable only then"},
    {"request.required.acks", "it is always \"all\": an output counts as durable only then"},
    {"message.timeout.ms", "gait never gives a message up by its age"},
    {"delivery.timeout.ms", "gait never gives a message up by its age"},
    {"queue.buffering.max.messages", "use the sink's option queue_messages"},
    {"queue.buffering.max.kbytes", "use the sink's option queue_bytes"},
    {"queue.buffering.max.ms", "use the sink's option linger"},
    {"linger.ms", "use the sink's option linger"},
    {"batch.size", "use the sink's option batch_bytes"},
    {"message.max.bytes", "use the sink's option message_bytes"},
    {"transactional.id", "gait chooses it"},
    {"log.queue", "gait serves the library's log itself"},
};

static int set(rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err)
{
    char text[512];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return 0;
    return error_set(err, "%s", text);
}

static int set_refused(const char *name, struct error *err)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (strcmp(refusals[i].name, name) == 0)
            return error_set(err, "settings: %s cannot be set here: %s", name, refusals[i].instead);
    return 0;
}

/* The library's own text might repeat a value, and a value may be a secret. */
static int set_settings(rd_kafka_conf_t *conf, const struct option_map *map, struct error *err)
{
    for (size_t i = 0; i < map->n; i++) {
        const struct option_map_entry *entry = &map->at[i];
        char text[512];
        if (set_refused(entry->key, err) < 0)
            return -1;
        if (entry->values.n != 1)
            return error_set(err, "settings: %s has %zu values, it takes one (a list is written \"a,b\")", entry->key,
                             entry->values.n);
        rd_kafka_conf_res_t res = rd_kafka_conf_set(conf, entry->key, entry->values.at[0], text, sizeof text);
        if (res == RD_KAFKA_CONF_UNKNOWN)
            return error_set(err, "settings: librdkafka %s has no setting '%s'", rd_kafka_version_str(), entry->key);
        if (res != RD_KAFKA_CONF_OK)
            return error_set(err, "settings: %s: librdkafka refuses the value (see its CONFIGURATION.md for what is "
                             "right)",
                             entry->key);
    }
    return 0;
}

rd_kafka_conf_t *kafka_conf_create(const struct kafka_conf *conf, const struct kafka_setting *own, struct error *err)
{
    rd_kafka_conf_t *made = rd_kafka_conf_new();
    if (set(made, "bootstrap.servers", conf->brokers, err) < 0 || set(made, "client.id", conf->client_id, err) < 0 ||
        set(made, "log.queue", "true", err) < 0 || set(made, "socket.nagle.disable", "true", err) < 0 ||
        set(made, "reconnect.backoff.max.ms", "1000", err) < 0)
        goto fail;
    for (; own->name; own++)
        if (set(made, own->name, own->value, err) < 0)
            goto fail;
    if (set_settings(made, &conf->settings, err) < 0)
        goto fail;
    return made;
fail:
    rd_kafka_conf_destroy(made);
    return NULL;
}

void kafka_conf_try(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char text[512];
    rd_kafka_conf_set(conf, name, value, text, sizeof text);
}

/* Nothing that the library says ends the daemon, so its errors are warnings here. FAIL says what on_error() hears. */
static void write_log(struct kafka_client *client, int level, const char *facility, const char *text)
{
    if (level <= 4 && strcmp(facility, "FAIL") != 0)
        log_limited(&client->log_site, LOG_WARNING, client->who, "librdkafka: %s: %s", facility, text);
    else if (level <= 6)
        log_info(client->who, "librdkafka: %s: %s", facility, text);
    else
        log_debug(client->who, "librdkafka: %s: %s", facility, text);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    write_log(rd_kafka_opaque(rk), level, facility, text);
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct kafka_client *client = opaque;
    (void)rk;
    metric_add(client->errors, 1);
    client->on_error(client->self, (rd_kafka_resp_err_t)code, reason);
}

void kafka_client_event(struct kafka_client *client, rd_kafka_event_t *event)
{
    const char *facility, *text;
    int level;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
        on_error(client->rk, rd_kafka_event_error(event), rd_kafka_event_error_string(event), client);
    else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_LOG &&
             rd_kafka_event_log(event, &facility, &text, &level) == 0)
        write_log(client, level, facility, text);
}

int kafka_client_open(struct kafka_client *client, rd_kafka_type_t type, rd_kafka_conf_t *conf, struct error *err)
{
    char text[512];
    rd_kafka_conf_set_opaque(conf, client);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    client->rk = rd_kafka_new(type, conf, text, sizeof text);
    if (!client->rk) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, "librdkafka: %s", text);
    }
    rd_kafka_set_log_queue(client->rk, NULL); /* to the main queue, which the module serves */
    return 0;
}

int kafka_probe(rd_kafka_t *rk, rd_kafka_topic_t *topic, int wait_ms, rd_kafka_resp_err_t *code)
{
    const struct rd_kafka_metadata *metadata;
    *code = rd_kafka_metadata(rk, 0, topic, &metadata, wait_ms);
    if (*code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return -1;
    int partitions = 0;
    if (metadata->topic_cnt == 1) {
        *code = metadata->topics[0].err;
        partitions = *code ? 0 : metadata->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    return partitions;
}

/* ---- the bridge to the loop -------------------------------------------------------------------------------------- */

static void on_readable(struct ev_loop *loop, ev_io *io, int events)
{
    struct kafka_wakeup *w = io->data;
    uint64_t count;
    (void)loop, (void)events;
    if (read(w->fd, &count, sizeof count) == sizeof count)
        w->call(w->self);
}

int kafka_wakeup_open(struct kafka_wakeup *w, struct ev_loop *loop, void (*call)(void *self), void *self,
                      struct error *err)
{
    *w = (struct kafka_wakeup){.loop = loop, .call = call, .self = self};
    w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->fd < 0)
        return error_set(err, "cannot create an eventfd: %s", strerror(errno));
    w->open = true;
    ev_io_init(&w->io, on_readable, w->fd, EV_READ);
    w->io.data = w;
    ev_io_start(loop, &w->io);
    return 0;
}

void kafka_wakeup_watch(struct kafka_wakeup *w, rd_kafka_queue_t *queue)
{
    const uint64_t one = 1; /* an eventfd takes eight bytes */
    rd_kafka_queue_io_event_enable(queue, w->fd, &one, sizeof one);
}

void kafka_wakeup_close(struct kafka_wakeup *w)
{
    if (!w->open)
        return;
    ev_io_stop(w->loop, &w->io);
    close(w->fd);
    w->open = false;
}
