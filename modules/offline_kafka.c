// SPDX-License-Identifier: Apache-2.0
// offline_kafka.c - what the tools ask of Kafka: where the log begins and ends, the group's offsets, and that a user be
// erased. Nothing here joins the group.
#include "offline.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <time.h>

static int64_t now_ms(void)
{
    return (int64_t)(clock_mono_ns(&clock_system) / 1000000);
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

static rd_kafka_t *make_client(rd_kafka_type_t type, const struct kafka_conf *conf, const struct kafka_setting *own,
                               struct error *err)
{
    char text[512];
    rd_kafka_conf_t *made = kafka_conf_create(conf, own, err);
    if (!made)
        return NULL;
    rd_kafka_conf_set(made, "log.queue", "false", text, sizeof text);
    rd_kafka_conf_set(made, "log_level", "2", text, sizeof text); /* errors come as answers */
    rd_kafka_t *rk = rd_kafka_new(type, made, text, sizeof text);
    if (!rk) {
        rd_kafka_conf_destroy(made);
        error_set(err, "librdkafka: %s", text);
    }
    return rk;
}

static rd_kafka_t *consumer_of(struct offline *o, struct error *err)
{
    if (o->consumer)
        return o->consumer;
    if (!o->source) {
        error_set(err, "this needs source.kafka in the configuration");
        return NULL;
    }
    const struct kafka_setting own[] = {
        {"group.id", o->source->group}, {"enable.auto.commit", "false"}, {"allow.auto.create.topics", "false"},
                {NULL, NULL},
    };
    return o->consumer = make_client(RD_KAFKA_CONSUMER, &o->source->kafka, own, err);
}

void offline_kafka_end(struct offline *o)
{
    if (o->reader.lent)
        rd_kafka_message_destroy(o->reader.lent);
    if (o->reader.rk)
        rd_kafka_destroy(o->reader.rk);
    if (o->consumer)
        rd_kafka_destroy(o->consumer);
}

/* ---- log and group --------------------------------------------------------------------------------------------- */

static int partitions_of(rd_kafka_t *rk, const char *name, int32_t *partitions, struct error *err)
{
    rd_kafka_resp_err_t code;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    if (!topic)
        return error_set(err, "'%s' is no topic name", name);
    int n = kafka_probe(rk, topic, OFFLINE_WAIT_MS, &code);
    rd_kafka_topic_destroy(topic);
    if (n < 0)
        return error_set(err, "no Kafka broker answers: %s", rd_kafka_err2str(code));
    if (n == 0)
        return error_set(err, "topic %s: %s", name, rd_kafka_err2str(code));
    *partitions = n;
    return 0;
}

int offline_partitions(struct offline *o, int32_t *partitions, struct error *err)
{
    rd_kafka_t *rk = consumer_of(o, err);
    return rk ? partitions_of(rk, o->source->topic, partitions, err) : -1;
}

int offline_log_range(struct offline *o, int32_t partition, int64_t *low, int64_t *high, struct error *err)
{
    rd_kafka_t *rk = consumer_of(o, err);
    if (!rk)
        return -1;
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(rk, o->source->topic, partition, low, high,
                                                                OFFLINE_WAIT_MS);
    return code ? error_set(err, "topic %s, partition %" PRId32 ": %s", o->source->topic, partition,
                            rd_kafka_err2str(code)) : 0;
}

int offline_log_at(struct offline *o, int32_t partition, int64_t time_ms, int64_t *offset, struct error *err)
{
    int64_t low, high;
    if (offline_log_range(o, partition, &low, &high, err) < 0)
        return -1;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, o->source->topic, partition)->offset = time_ms;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(o->consumer, list, OFFLINE_WAIT_MS);
    if (!code)
        code = list->elems[0].err;
    *offset = list->elems[0].offset >= 0 ? list->elems[0].offset : high;
    rd_kafka_topic_partition_list_destroy(list);
    return code ? error_set(err, "partition %" PRId32 ": no offset for that time: %s", partition,
                            rd_kafka_err2str(code)) : 0;
}

int offline_commit(struct offline *o, int32_t partition, int64_t offset, struct error *err)
{
    rd_kafka_t *rk = consumer_of(o, err);
    if (!rk)
        return -1;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, o->source->topic, partition)->offset = offset;
    rd_kafka_resp_err_t code = rd_kafka_commit(rk, list, 0);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? error_set(err, "group %s, partition %" PRId32 ": the offset cannot be committed: %s",
                            o->source->group,
                            partition, rd_kafka_err2str(code)) : 0;
}

int offline_no_daemons(struct offline *o, struct error *err)
{
    rd_kafka_t *rk = consumer_of(o, err);
    const struct rd_kafka_group_list *list = NULL;
    if (!rk)
        return -1;
    rd_kafka_resp_err_t code = rd_kafka_list_groups(rk, o->source->group, &list, OFFLINE_WAIT_MS);
    if (code)
        return error_set(err, "group %s cannot be looked at: %s", o->source->group, rd_kafka_err2str(code));
    int members = list->group_cnt == 1 ? list->groups[0].member_cnt : 0, rc = 0;
    if (members > 0)
        rc = error_set(err, "%d daemons run in group %s (the first: %s at %s): stop them first, or wait until the "
                            "session of one that was killed has ended",
                            members, o->source->group, list->groups[0].members[0].client_id,
                       list->groups[0].members[0].client_host);
    rd_kafka_group_list_destroy(list);
    return rc;
}

/* murmur2 with the seed that Kafka's clients use; the sign bit is cut off. */
int32_t offline_partition_of(struct str key, int32_t partitions)
{
    const uint32_t m = 0x5bd1e995;
    const uint8_t *at = (const uint8_t *)key.at;
    uint32_t h = 0x9747b28c ^ key.len, left = key.len;
    for (; left >= 4; left -= 4, at += 4) {
        uint32_t k;
        memcpy(&k, at, 4);
        k *= m;
        k ^= k >> 24;
        h = (h * m) ^ (k * m);
    }
    if (left >= 3)
        h ^= (uint32_t)at[2] << 16;
    if (left >= 2)
        h ^= (uint32_t)at[1] << 8;
    if (left >= 1)
        h = (h ^ at[0]) * m;
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return (int32_t)((h & 0x7fffffff) % (uint32_t)partitions);
}

/* ---- erasing --------------------------------------------------------------------------------------------------- */

struct receipts {
    rd_kafka_t *rk;
    int64_t offset;          /* of our request */
    int32_t expected, got;
    bool *seen;              /* [expected] */
};

/* From what is there now on: only what comes later can be ours. */
static int receipts_open(struct offline *o, struct receipts *r, struct error *err)
{
    const struct kafka_setting own[] = {
        {"group.id", "gaitd-user"}, {"enable.auto.commit", "false"}, {"allow.auto.create.topics", "false"}, {NULL,
                NULL},
    };
    const char *topic = o->sink->topics[OUTPUT_ERASED];
    int32_t partitions;
    r->rk = make_client(RD_KAFKA_CONSUMER, &o->sink->kafka, own, err);
    if (!r->rk || partitions_of(r->rk, topic, &partitions, err) < 0)
        return -1;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int32_t p = 0; p < partitions && !code; p++) {
        int64_t low, high = 0;
        code = rd_kafka_query_watermark_offsets(r->rk, topic, p, &low, &high, OFFLINE_WAIT_MS);
        rd_kafka_topic_partition_list_add(list, topic, p)->offset = high;
    }
    if (!code)
        code = rd_kafka_assign(r->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? error_set(err, "topic %s: %s", topic, rd_kafka_err2str(code)) : 0;
}

static void on_delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    int64_t *answer = m->_private;
    (void)rk, (void)opaque;
    *answer = m->err ? -1 : m->offset;
}

static int send_request(struct offline *o, const char *user, int64_t erased_ms, int64_t *offset, struct error *err)
{
    char text[512];
    const struct kafka_setting own[] = {{"enable.idempotence", "true"}, {NULL, NULL}};
    rd_kafka_conf_t *conf = kafka_conf_create(&o->source->kafka, own, err);
    if (!conf)
        return -1;
    rd_kafka_conf_set(conf, "log.queue", "false", text, sizeof text);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivered);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, "librdkafka: %s", text);
    }
    json_t *value = json_pack("{s:s}", "user_id", user);
    if (value && erased_ms > 0)
        json_object_set_new(value, "erased_ms", json_integer(erased_ms));
    char *bytes = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__INVALID_ARG;
    *offset = -1;
    if (bytes)
        code = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(o->source->erase_topic), RD_KAFKA_V_PARTITION(0),
                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_KEY(user, strlen(user)),
                                 RD_KAFKA_V_VALUE(bytes, strlen(bytes)), RD_KAFKA_V_OPAQUE(offset), RD_KAFKA_V_END);
    free(bytes);
    if (!code)
        code = rd_kafka_flush(rk, OFFLINE_WAIT_MS);
    rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(rk, 100);
    rd_kafka_destroy(rk);
    if (code || *offset < 0)
        return error_set(err, "the request could not be written to topic %s: %s", o->source->erase_topic,
                         code ? rd_kafka_err2str(code) : "refused");
    return 0;
}

static void on_receipt(struct receipts *r, const rd_kafka_message_t *m)
{
    json_t *root = json_loadb(m->payload, m->len, 0, NULL);
    int32_t p = (int32_t)json_integer_value(json_object_get(root, "partition"));
    json_t *offset = json_object_get(root, "offset");
    if (json_is_integer(offset) && json_integer_value(offset) == r->offset && p >= 0 && p < r->expected &&
        !r->seen[p]) {
        r->seen[p] = true;
        r->got++;
        printf("%.*s\n", (int)m->len, (const char *)m->payload);
    }
    json_decref(root);
}

static int wait_receipts(struct receipts *r, int64_t wait_ms, struct error *err)
{
    int64_t until = now_ms() + wait_ms;
    while (r->got < r->expected && now_ms() < until) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(r->rk, 100);
        if (m && !m->err)
            on_receipt(r, m);
        if (m)
            rd_kafka_message_destroy(m);
    }
    if (r->got == r->expected)
        return 0;
    return error_set(err, "the request is in the topic (offset %" PRId64 "), but only %d of %d partitions have "
                     "answered within %" PRId64 " s; is a daemon running for each?",
                     r->offset, r->got, r->expected, wait_ms / 1000);
}

int offline_erase(struct offline *o, const char *user, int64_t erased_ms, int64_t wait_ms, struct error *err)
{
    struct receipts r = {0};
    int rc = -1;
    if (!o->source || strcmp(o->source->erase_topic, "off") == 0)
        return error_set(err, "the configuration has no topic for requests: set source.kafka.erase_topic");
    if (!o->sink || strcmp(o->sink->topics[OUTPUT_ERASED], "off") == 0)
        return error_set(err, "the configuration has no topic for receipts: set sink.kafka.erased");
    if (offline_partitions(o, &r.expected, err) < 0)
        return -1;
    r.seen = calloc((size_t)r.expected, sizeof *r.seen);
    assert(r.seen);
    if (receipts_open(o, &r, err) == 0 && send_request(o, user, erased_ms, &r.offset, err) == 0)
        rc = wait_receipts(&r, wait_ms, err);
    if (r.rk)
        rd_kafka_destroy(r.rk);
    free(r.seen);
    return rc;
}
