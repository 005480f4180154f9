// SPDX-License-Identifier: Apache-2.0
// sink_kafka.c - scores, alerts and dead letters to Kafka: last stage of the flow.
//
// Messages are built in a small scratch buffer, a few dozen at a time, and handed over with one call, so that what is
// built is still in the cache when the library copies it. The batch's ticket is held once for each message and released
// by its delivery report (sink_kafka_producer.c). Events below C run silently: their outputs are out already.
#include "sink_kafka.h"

#include "gait/output.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum { CHUNK_MESSAGES = 64, CHUNK_BYTES = 64 << 10, SCRATCH_BYTES = 1 << 20 };

struct sink_kafka {
    struct instance *in;
    const struct sink_kafka_conf *conf;
    struct producer producer;
    int64_t opened_ms;
    rd_kafka_message_t chunk[CHUNK_MESSAGES];
    int chunk_n;
    enum output chunk_output;
    size_t scratch_n;
    char scratch[SCRATCH_BYTES];
};

static const struct metric sink_kafka_metrics[] = {
    {"gait_sink_kafka_messages_total", METRIC_COUNTER, "output", "Messages handed to the Kafka producer."},
    {"gait_sink_kafka_undeliverable_total", METRIC_COUNTER, "output",
     "Messages that are larger than their topic allows."},
    {"gait_sink_kafka_retried_total", METRIC_COUNTER, NULL, "Deliveries that failed; the message is sent again."},
    {"gait_sink_kafka_errors_total", METRIC_COUNTER, NULL, "Errors that the Kafka client reported to the producer."},
    {"gait_sink_kafka_queued_messages", METRIC_GAUGE, NULL, "Messages handed over and not acknowledged."},
    {"gait_sink_kafka_queued_bytes", METRIC_GAUGE, NULL, "Bytes of messages handed over and not acknowledged."},
    {"gait_sink_kafka_ack_seconds", METRIC_HISTOGRAM, NULL,
     "From a message handed over to its acknowledgement, in seconds."},
    {NULL, 0, NULL, NULL},
};

/* ---- building messages ------------------------------------------------------------------------------------------- */

/* In a transaction the engine itself knows when a batch is durable. */
static struct ticket *ticket_of(const struct sink_kafka *s, const struct batch *b)
{
    return s->producer.transaction ? NULL : b->ticket;
}

static void chunk_flush(struct sink_kafka *s, struct ticket *ticket)
{
    if (s->chunk_n == 0)
        return;
    if (ticket)
        ticket_hold(ticket, (uint32_t)s->chunk_n);
    producer_send(&s->producer, s->chunk_output, s->chunk, s->chunk_n);
    s->chunk_n = 0;
    s->scratch_n = 0;
}

static void chunk_add(struct sink_kafka *s, struct ticket *ticket, struct str key, size_t len)
{
    s->chunk[s->chunk_n++] = (rd_kafka_message_t){
        .payload = s->scratch + s->scratch_n, .len = len, .key = (void *)key.at, .key_len = key.len, ._private = ticket,
    };
    s->scratch_n += len;
    if (s->chunk_n == CHUNK_MESSAGES || s->scratch_n >= CHUNK_BYTES)
        chunk_flush(s, ticket);
}

/* A text that fills the scratch would be larger than any reader expects; it is counted, not sent. */
static void log_unbuilt(struct sink_kafka *s, enum output output)
{
    metric_add(s->producer.topics[output].undeliverable, 1);
    log_often(LOG_ERROR, s->in->name, "a message for topic %s would be longer than %d bytes: given up",
              s->conf->topics[output], SCRATCH_BYTES);
}

static bool is_wanted(const struct sink_kafka *s, enum output output)
{
    return s->producer.topics[output].handle != NULL;
}

static void send_scores(struct sink_kafka *s, struct batch *b)
{
    struct ticket *ticket = ticket_of(s, b);
    s->chunk_output = OUTPUT_SCORE;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        if (!b->scores[i].publish || event->silent || event->verdict != EVENT_OK)
            continue;
        size_t len = output_score(b, i, s->scratch + s->scratch_n, SCRATCH_BYTES - s->scratch_n);
        if (len)
            chunk_add(s, ticket, event->user, len);
        else
            log_unbuilt(s, OUTPUT_SCORE);
    }
    chunk_flush(s, ticket);
}

static void send_alerts(struct sink_kafka *s, struct batch *b)
{
    struct ticket *ticket = ticket_of(s, b);
    s->chunk_output = OUTPUT_ALERT;
    for (uint32_t i = 0; i < b->alerts_n; i++) {
        const struct event *event = &b->events[b->alerts[i].event];
        if (event->silent || event->verdict != EVENT_OK)
            continue;
        size_t len = output_alert(b, &b->alerts[i], s->scratch + s->scratch_n, SCRATCH_BYTES - s->scratch_n);
        if (len)
            chunk_add(s, ticket, event->user, len);
        else
            log_unbuilt(s, OUTPUT_ALERT);
    }
    chunk_flush(s, ticket);
}

static void header_number(rd_kafka_headers_t *headers, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    rd_kafka_header_add(headers, name, -1, text, -1);
}

/* The original bytes under the original key; all that is known about them in headers. */
static void send_dead_letter(struct sink_kafka *s, struct batch *b, const struct event *event)
{
    const struct instance *source = engine_instance(s->in->engine, STAGE_SOURCE);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(5);
    rd_kafka_header_add(headers, "reason", -1, event_verdict_name(event->verdict), -1);
    if (event->detail)
        rd_kafka_header_add(headers, "detail", -1, event->detail, -1);
    rd_kafka_header_add(headers, "topic", -1, source->input ? source->input : "", -1);
    header_number(headers, "partition", event->partition);
    header_number(headers, "offset", event->offset);
    producer_send_with_headers(&s->producer, OUTPUT_DEAD, ticket_of(s, b), event->key.at ? event->key : event->user,
                               event->raw,
                               headers);
}

static void run(struct instance *in, struct batch *b)
{
    struct sink_kafka *s = in->self;
    if (is_wanted(s, OUTPUT_SCORE))
        send_scores(s, b);
    if (is_wanted(s, OUTPUT_ALERT))
        send_alerts(s, b);
    for (uint32_t i = 0; is_wanted(s, OUTPUT_DEAD) && i < b->n; i++)
        if (event_verdict_is_dead(b->events[i].verdict) && !b->events[i].silent)
            send_dead_letter(s, b, &b->events[i]);
    producer_changed(&s->producer);
}

static void commit(struct instance *in, struct commit *c)
{
    struct sink_kafka *s = in->self;
    transaction_end(s->producer.transaction, c);
}

static void send_receipt(struct sink_kafka *s, const struct erasure *erasure)
{
    struct ticket *ticket = s->producer.transaction ? NULL : erasure->ticket;
    s->chunk_output = OUTPUT_ERASED;
    size_t len = output_erased(erasure, engine_input_partitions(s->in->engine), s->scratch, SCRATCH_BYTES);
    chunk_add(s, ticket, erasure->name, len);
    chunk_flush(s, ticket);
}

static void flow(struct instance *in, const struct flow *flow)
{
    struct sink_kafka *s = in->self;
    if (flow->kind == FLOW_TICK)
        producer_tick(&s->producer);
    else if (flow->kind == FLOW_ERASED && is_wanted(s, OUTPUT_ERASED))
        send_receipt(s, flow->erasure);
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

/* The same for as long as the process lives: a new producer in place of a broken one ends what that left open. */
static void make_id(const struct instance *in, char *id, size_t cap)
{
    const struct sink_kafka *s = in->self;
    const struct sink_kafka_conf *conf = in->conf;
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    if (conf->transactional_id)
        snprintf(id, cap, "%s", conf->transactional_id);
    else
        snprintf(id, cap, "gait-%s-%d-%" PRId64, host, (int)getpid(), s ? s->opened_ms : 0);
}

rd_kafka_conf_t *sink_kafka_make_conf(const struct instance *in, struct error *err)
{
    const struct sink_kafka_conf *conf = in->conf;
    const struct sink_kafka *s = in->self;
    char linger[32], largest[32], batch[32], id[256], timeout[32];
    make_id(in, id, sizeof id);
    snprintf(linger, sizeof linger, "%" PRId64, conf->linger_ms);
    snprintf(batch, sizeof batch, "%" PRId64, s &&
             s->producer.batch_bytes ? s->producer.batch_bytes : conf->batch_bytes);
    snprintf(largest, sizeof largest, "%" PRId64, conf->message_bytes);
    snprintf(timeout, sizeof timeout, "%" PRId64, conf->transaction_timeout_ms);
    struct kafka_setting own[16] = {
        {"batch.size", batch},
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"queue.buffering.max.messages", "10000000"},    /* the bounds are ours: see producer_full() */
        {"queue.buffering.max.kbytes", "2147483647"},
        {"linger.ms", linger},
        {"message.max.bytes", largest},
        {"partitioner", "murmur2_random"},               /* as Java's clients do, so that keys meet in joins */
        {"topic.metadata.propagation.max.ms", "5000"},
    };
    size_t n = 9;
    if (in->exactly_once) {
        own[n++] = (struct kafka_setting){"transactional.id", id};
        own[n++] = (struct kafka_setting){"transaction.timeout.ms", timeout};
    } else {
        own[n++] = (struct kafka_setting){"message.timeout.ms", "0"}; /* never given up for its age */
    }
    return kafka_conf_create(&conf->kafka, own, err);
}

/* One transaction spans outputs and offsets, so both must be of the same cluster. */
static int check_exactly_once(const struct instance *in, struct error *err)
{
    const struct instance *source = engine_instance(in->engine, STAGE_SOURCE);
    if (in->exactly_once && strcmp(source->module->name, "source_kafka") != 0)
        return error_set(err, "engine.delivery: exactly_once needs source.kafka, this configuration has %s",
                         source->name);
    return 0;
}

static int open_sink(struct instance *in, bool check, struct error *err)
{
    const struct sink_kafka_conf *conf = in->conf;
    if (check_exactly_once(in, err) < 0)
        return -1;
    in->transactional = in->exactly_once;
    if (check) {
        rd_kafka_conf_t *tried = sink_kafka_make_conf(in, err);
        if (tried)
            rd_kafka_conf_destroy(tried);
        return tried ? 0 : -1;
    }
    struct sink_kafka *s = calloc(1, sizeof *s);
    assert(s);
    s->in = in;
    s->conf = conf;
    s->opened_ms = clock_wall_ms(in->clock);
    in->self = s;
    rd_kafka_conf_t *made = sink_kafka_make_conf(in, err);
    if (!made)
        return -1;
    return producer_open(&s->producer, in, made, err);
}

static void close_sink(struct instance *in)
{
    struct sink_kafka *s = in->self;
    if (!s)
        return;
    if (producer_close(&s->producer))
        free(s);
    in->self = NULL;
}

static const struct option sink_kafka_options[] = {
    KAFKA_OPTIONS,
    {"scores", OPTION_STRING, offsetof(struct sink_kafka_conf, topics[OUTPUT_SCORE]), "gait.scores", 0, 0, NULL,
     OPTION_RESTART, "Topic of the scores, keyed by user; off: none are sent."},
    {"alerts", OPTION_STRING, offsetof(struct sink_kafka_conf, topics[OUTPUT_ALERT]), "gait.alerts", 0, 0, NULL,
     OPTION_RESTART, "Topic of the fraud alerts, keyed by user; off: none are sent."},
    {"dead_letters", OPTION_STRING, offsetof(struct sink_kafka_conf, topics[OUTPUT_DEAD]), "gait.dead", 0, 0, NULL,
     OPTION_RESTART, "Topic of the events that could not be used: the original bytes, with reason, detail, topic, "
     "partition and offset as headers; off: they are counted only."},
    {"erased", OPTION_STRING, offsetof(struct sink_kafka_conf, topics[OUTPUT_ERASED]), "off", 0, 0, NULL,
     OPTION_RESTART,
     "Topic of the receipts for erased users, for example gait.erased; off: none are sent. For each request (the "
     "source's erase_topic) one comes from every partition of the clicks, at least once."},
    {"linger_ms", OPTION_DURATION, offsetof(struct sink_kafka_conf, linger_ms), "1ms", 0, 1000, NULL, OPTION_RESTART,
     "How long a message may wait for others to travel with. Longer saves work for the broker and adds to the "
     "latency."},
    {"queue_messages", OPTION_INT, offsetof(struct sink_kafka_conf, queue_messages), "100000", 1000, 5000000, NULL,
     OPTION_RESTART, "Most messages that may wait for their acknowledgement; beyond that, computing waits. A batch's "
     "may come on top."},
    {"queue_bytes", OPTION_BYTES, offsetof(struct sink_kafka_conf, queue_bytes), "32MB", 1 << 20, 4294967296.0, NULL,
     OPTION_RESTART, "Most bytes of such messages."},
    {"message_bytes", OPTION_BYTES, offsetof(struct sink_kafka_conf, message_bytes), "16MB", 65536, 1000000000.0, NULL,
     OPTION_RESTART, "Largest message that is sent at all. What a topic allows is the broker's setting "
     "(max.message.bytes); larger dead letters are cut."},
    {"batch_bytes", OPTION_BYTES, offsetof(struct sink_kafka_conf, batch_bytes), "1000000", 1, 1000000000.0, NULL,
     OPTION_RESTART, "Largest request that is put together from several messages; at most what the topics allow "
     "(max.message.bytes). When a broker refuses one for its size, smaller ones are tried by themselves."},
    {"transactional_id", OPTION_STRING, offsetof(struct sink_kafka_conf, transactional_id), NULL, 0, 0, NULL,
     OPTION_RESTART, "With delivery: exactly_once, the name under which the broker knows this process. One that stays "
     "the same lets a restarted daemon end what it left open at once; it must differ between the daemons of a group. "
     "Not set: a new one at each start, and what a killed daemon left open ends by transaction_timeout_ms."},
    {"transaction_timeout_ms", OPTION_DURATION, offsetof(struct sink_kafka_conf, transaction_timeout_ms), "10s", 1000,
     900000, NULL, OPTION_RESTART,
     "With delivery: exactly_once, the broker aborts a transaction that is open for so long. Readers with "
     "read_committed wait behind it until then."},
    {NULL, 0, 0, NULL, 0, 0, NULL, 0, NULL},
};

const struct module sink_kafka = {
    .name = "sink_kafka",
    .summary = "Writes scores, alerts and dead letters to Kafka topics.",
    .stage = STAGE_SINK,
    .options = sink_kafka_options,
    .conf_size = sizeof(struct sink_kafka_conf),
    .metrics = sink_kafka_metrics,
    .open = open_sink,
    .run = run,
    .flow = flow,
    .commit = commit,
    .close = close_sink,
};
