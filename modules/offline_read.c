// SPDX-License-Identifier: Apache-2.0
// offline_read.c - the tools read a piece of the input's log, message by message. A client of its own that is told what
// to read: it does not join the group and commits nothing, so the daemons do not notice it.
#include "offline.h"

#include <inttypes.h>

static int open_client(struct offline *o, struct error *err)
{
    char text[512];
    if (o->reader.rk)
        return 0;
    if (!o->source)
        return error_set(err, "this needs source.kafka in the configuration");
    const struct kafka_setting own[] = {
        {"group.id", o->source->group}, {"enable.auto.commit", "false"}, {"allow.auto.create.topics", "false"},
        {"isolation.level", "read_committed"}, {"enable.partition.eof", "true"}, {"auto.offset.reset", "error"},
        {NULL, NULL},
    };
    rd_kafka_conf_t *made = kafka_conf_create(&o->source->kafka, own, err);
    if (!made)
        return -1;
    rd_kafka_conf_set(made, "log.queue", "false", text, sizeof text);
    rd_kafka_conf_set(made, "log_level", "2", text, sizeof text); /* errors come as answers */
    o->reader.rk = rd_kafka_new(RD_KAFKA_CONSUMER, made, text, sizeof text);
    if (o->reader.rk)
        return 0;
    rd_kafka_conf_destroy(made);
    return error_set(err, "librdkafka: %s", text);
}

int offline_read_begin(struct offline *o, int32_t partition, int64_t from, int64_t to, struct error *err)
{
    if (open_client(o, err) < 0)
        return -1;
    o->reader.partition = partition;
    o->reader.to = to;
    o->reader.ended = from >= to;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, o->source->topic, partition)->offset = from;
    rd_kafka_resp_err_t code = rd_kafka_assign(o->reader.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return code ? error_set(err, "topic %s, partition %" PRId32 ": %s", o->source->topic, partition,
                            rd_kafka_err2str(code)) : 0;
}

static int lend(struct offline *o, const rd_kafka_message_t *got, struct offline_message *m)
{
    rd_kafka_timestamp_type_t kind;
    *m = (struct offline_message){
        .key = {got->key, (uint32_t)got->key_len},
        .value = {got->payload, (uint32_t)got->len},
        .offset = got->offset,
        .time_ms = rd_kafka_message_timestamp(got, &kind),
    };
    o->reader.ended = got->offset + 1 >= o->reader.to;
    return 1;
}

int offline_read_next(struct offline *o, struct offline_message *m, struct error *err)
{
    if (o->reader.lent)
        rd_kafka_message_destroy(o->reader.lent);
    o->reader.lent = NULL;
    if (o->reader.ended)
        return 0;
    rd_kafka_message_t *got = rd_kafka_consumer_poll(o->reader.rk, OFFLINE_WAIT_MS);
    if (!got)
        return error_set(err, "topic %s, partition %" PRId32 ": the broker has sent nothing for %d s",
                         o->source->topic, o->reader.partition, OFFLINE_WAIT_MS / 1000);
    o->reader.lent = got;
    if (got->err == RD_KAFKA_RESP_ERR__PARTITION_EOF || (!got->err && got->offset >= o->reader.to)) {
        o->reader.ended = true;
        return 0;
    }
    if (got->err)
        return error_set(err, "topic %s, partition %" PRId32 ": %s", o->source->topic, o->reader.partition,
                         rd_kafka_message_errstr(got));
    return lend(o, got, m);
}
