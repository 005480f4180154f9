// SPDX-License-Identifier: Apache-2.0
// source_kafka_erase.c - the topic of erasures, read beside the clicks.
//
// A client of its own reads the topic's only partition; it is in no group and commits nothing: each click partition
// remembers in the store how far it was worked off. Every daemon hands every request to each of its partitions, since
// gait cannot know by which rule the producers of the clicks chose a user's partition. A click partition is read only
// when the requests that are there have been handed over:
//
//   claim OPENING ─(FLOW_START)─► ERASING (read the topic from p->erase_next on) ─(end of the topic)─► STARTED
//
// A request is JSON, {"user_id": TEXT, "erased_ms": TIME}, the time being optional and the message's own at most; or an
// empty value under the user's id as key.
#include "source_kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

static bool is_off(const struct source_kafka *s)
{
    return strcmp(s->conf->erase_topic, "off") == 0;
}

bool erase_log_used(const struct source_kafka *s)
{
    return s->erasures.client.rk != NULL;
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

/* To all partitions of ours. False: the engine has enough for now. It passes over what it has had already. */
static bool hand_over(struct source_kafka *s, struct str user, int64_t erased_ms, int64_t offset)
{
    bool taken = true;
    for (size_t i = 0; i < s->claims_n; i++)
        if (s->claims[i].state >= CLAIM_ERASING && s->claims[i].state <= CLAIM_READING)
            taken &= engine_erase(s->in->engine, s->claims[i].id, user, erased_ms, offset);
    return taken;
}

static bool on_request(struct source_kafka *s, const rd_kafka_message_t *m)
{
    rd_kafka_timestamp_type_t kind;
    int64_t sent_ms = rd_kafka_message_timestamp(m, &kind), erased_ms = sent_ms;
    struct str user = {m->key, (uint32_t)m->key_len};
    json_t *root = NULL;
    if (sent_ms <= 0)
        sent_ms = erased_ms = clock_wall_ms(s->in->clock);
    if (m->len > 0) {
        root = json_loadb(m->payload, m->len, 0, NULL);
        json_t *id = json_object_get(root, "user_id"), *time = json_object_get(root, "erased_ms");
        user = (struct str){json_string_value(id), (uint32_t)json_string_length(id)};
        if (json_is_integer(time) && json_integer_value(time) < sent_ms)
            erased_ms = json_integer_value(time);
    }
    bool taken = true;
    if (user.at && user.len > 0) {
        taken = hand_over(s, user, erased_ms, m->offset);
    } else {
        metric_add(s->erasures.bad, 1);
        log_error(s->in->name, "topic %s, offset %" PRId64 ": no request to erase a user: it has no user_id",
                  s->conf->erase_topic,
                  m->offset);
    }
    json_decref(root);
    return taken;
}

static void on_end(struct source_kafka *s)
{
    for (size_t i = 0; i < s->claims_n; i++)
        if (s->claims[i].state == CLAIM_ERASING)
            claim_begin(s, s->claims[i].id);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* Read on from the earliest that somebody needs. What the old position has left in the queue is outdated for the
 * library as soon as nothing is assigned, and is not delivered any more. */
void erase_log_want(struct source_kafka *s, int64_t offset)
{
    struct erase_log *log = &s->erasures;
    int64_t from = log->next >= 0 && offset >= log->next ? log->next : offset;
    if (log->held)
        rd_kafka_message_destroy(log->held);
    log->held = NULL;
    log->next = from;
    rd_kafka_assign(log->client.rk, NULL);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, s->conf->erase_topic,
                                      0)->offset = from >= 0 ? from : RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t code = rd_kafka_assign(log->client.rk, list);
    if (code)
        log_error(s->in->name, "topic %s cannot be read: %s", s->conf->erase_topic, rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_message(struct source_kafka *s, rd_kafka_message_t *m)
{
    struct erase_log *log = &s->erasures;
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        on_end(s);
    } else if (m->err) {
        log_often(LOG_WARNING, s->in->name, "topic %s: %s; trying again", s->conf->erase_topic,
                  rd_kafka_message_errstr(m));
    } else if (!on_request(s, m)) {
        log->held = m;
        return;
    } else {
        log->next = m->offset + 1;
    }
    rd_kafka_message_destroy(m);
}

void erase_log_serve(struct source_kafka *s)
{
    struct erase_log *log = &s->erasures;
    rd_kafka_message_t *m;
    if (!log->client.rk)
        return;
    if (log->held) {
        m = log->held;
        log->held = NULL;
        on_message(s, m);
    }
    while (!log->held && (m = rd_kafka_consumer_poll(log->client.rk, 0)))
        on_message(s, m);
}

/* Asked until it is known: the order of requests must be one for all. */
void erase_log_tick(struct source_kafka *s)
{
    struct erase_log *log = &s->erasures;
    rd_kafka_resp_err_t code;
    if (!log->client.rk)
        return;
    erase_log_serve(s);
    if (log->partitions == 1 || s->draining || source_mono_ms(s) < log->probe_ms)
        return;
    log->probe_ms = source_mono_ms(s) + RETRY_MS;
    int partitions = kafka_probe(log->client.rk, log->topic, PROBE_WAIT_MS, &code);
    if (partitions < 0)
        return;
    log->partitions = partitions;
    log->why = partitions == 1 ? NULL : partitions == 0 ? "the topic of erasures does not exist"
                                                        : "the topic of erasures must have exactly one partition";
    if (log->why)
        log_often(LOG_ERROR, s->in->name, "topic %s cannot be used: %s", s->conf->erase_topic, log->why);
    source_ready(s);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static void on_wakeup(void *self)
{
    struct source_kafka *s = self;
    erase_log_serve(s);
    engine_wake(s->in->engine);
}

static void on_error(void *self, rd_kafka_resp_err_t code, const char *reason)
{
    struct source_kafka *s = self;
    log_often(LOG_WARNING, s->in->name, "topic %s: %s: %s", s->conf->erase_topic, rd_kafka_err2name(code), reason);
}

int erase_log_open(struct source_kafka *s, struct error *err)
{
    struct erase_log *log = &s->erasures;
    const struct kafka_setting own[] = {
        {"group.id", s->conf->group}, /* never joined: assignment by hand */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "earliest"},
        {"enable.partition.eof", "true"},
        {"fetch.wait.max.ms", "50"}, /* the end is reported so late at most */
        {"allow.auto.create.topics", "false"},
        {NULL, NULL},
    };
    log->next = -1;
    if (is_off(s))
        return 0;
    log->client = (struct kafka_client){.who = s->in->name, .self = s, .on_error = on_error,
                   .errors = s->client.errors};
    log->bad = metric_cell(s->in->metrics, "gait_source_kafka_bad_erasures_total", NULL);
    rd_kafka_conf_t *conf = kafka_conf_create(&s->conf->kafka, own, err);
    if (!conf)
        return -1;
    if (kafka_wakeup_open(&log->wakeup, s->in->loop, on_wakeup, s, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    if (kafka_client_open(&log->client, RD_KAFKA_CONSUMER, conf, err) < 0)
        return -1;
    rd_kafka_poll_set_consumer(log->client.rk);
    log->queue = rd_kafka_queue_get_consumer(log->client.rk);
    log->topic = rd_kafka_topic_new(log->client.rk, s->conf->erase_topic, NULL);
    if (!log->topic)
        return error_set(err, "erase_topic: '%s' is no topic name: %s", s->conf->erase_topic,
                         rd_kafka_err2str(rd_kafka_last_error()));
    kafka_wakeup_watch(&log->wakeup, log->queue);
    return 0;
}

void erase_log_close(struct source_kafka *s)
{
    struct erase_log *log = &s->erasures;
    if (log->held)
        rd_kafka_message_destroy(log->held);
    if (log->topic)
        rd_kafka_topic_destroy(log->topic);
    if (log->queue) {
        rd_kafka_queue_io_event_enable(log->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(log->queue);
    }
    if (log->client.rk)
        rd_kafka_destroy_flags(log->client.rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    kafka_wakeup_close(&log->wakeup);
}
