// SPDX-License-Identifier: Apache-2.0
// sink_kafka_producer.c - one librdkafka producer: hands messages over, releases tickets on delivery reports, and
// decides what becomes of those that fail.
//
//   send ─► library ─► delivery report: stored by all replicas ─► ticket released
//                            ├─ the message itself is refused (too large): dead letter, or given up, counted and logged
//                            └─ anything else (topic missing, not authorised, fatal …): parked, sent again by the tick
//
// Messages are never given up for their age. While they wait they count as outstanding, so that the sink becomes busy
// at its bound and computing stops: nothing is lost, nothing piles up.
//
// A broker that finds a request too large refuses all messages in it. One that is at least as long as a request may
// grow (batch_bytes) was alone in it: that one is at fault. Otherwise a new producer with smaller requests tries again,
// until it is known which one it was.
//
// In a transaction a message that fails takes the whole transaction with it, and the engine computes its events
// again. One that is refused for its size would then fail for ever: its length is remembered, and the next time it
// becomes a dead letter before it is sent.
#include "sink_kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    RETRY_MS = 1000,
    PROBE_WAIT_MS = 50,          /* the loop stands still so long at most, and only until all topics are known */
    BATCH_DIVISOR = 8,           /* requests become so much smaller at each step */
    DEAD_VALUE_MAX = 65536,      /* a dead letter that is refused for its size is cut to this */
};

static uint64_t mono_ms(const struct producer *p)
{
    return clock_mono_ns(p->in->clock) / 1000000;
}

static void update_ready(struct producer *p)
{
    const char *why = NULL;
    if (!p->reachable)
        why = "no Kafka broker can be reached for outputs";
    if (!why && p->transaction && !transaction_takes(p->transaction))
        why = "transactions are not ready";
    for (int i = 0; i < OUTPUTS && !why; i++) {
        const struct producer_topic *topic = &p->topics[i];
        if (topic->error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            why = "writing an output topic is not authorised";
        else if (topic->error)
            why = "an output topic cannot be written";
        else if (topic->handle && !topic->known)
            why = "waiting for the output topics";
    }
    if (!why && p->transaction)
        why = transaction_trouble(p->transaction);
    instance_ready(p->in, !why, why);
}

/* ---- what fails -------------------------------------------------------------------------------------------------- */

static void outstanding_done(struct producer *p, size_t bytes)
{
    assert(p->outstanding_n > 0 && p->outstanding_bytes >= bytes);
    p->outstanding_n--;
    p->outstanding_bytes -= bytes;
}

static void release(struct ticket *ticket, uint32_t times)
{
    if (ticket)
        ticket_release(ticket, times);
}

/* Keep a copy for another try, or for the next transaction. It stays outstanding. */
static void park(struct producer *p, enum output output, const rd_kafka_message_t *m, rd_kafka_headers_t *headers)
{
    struct parked *parked = malloc(sizeof *parked + m->key_len + m->len);
    assert(parked);
    *parked = (struct parked){
        .output = output, .ticket = m->_private, .headers = headers, .key_len = m->key_len, .len = m->len,
    };
    if (m->key_len)
        memcpy(parked->bytes, m->key, m->key_len);
    if (m->len)
        memcpy(parked->bytes + m->key_len, m->payload, m->len);
    *p->parked_last = parked;
    p->parked_last = &parked->next;
    p->parked_n++;
    if (p->retry_ms == 0)
        p->retry_ms = mono_ms(p) + RETRY_MS;
}

static bool is_too_large(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE || code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE;
}

/* Says nothing of the topic: the producer as a whole is at its end. */
static bool is_of_the_producer(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__FATAL || code == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
           code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
}

static rd_kafka_headers_t *too_large_headers(const struct producer *p, enum output output, size_t len,
                                             const rd_kafka_headers_t *old)
{
    char text[32];
    rd_kafka_headers_t *headers = old ? rd_kafka_headers_copy(old) : rd_kafka_headers_new(4);
    if (!old) {
        rd_kafka_header_add(headers, "reason", -1, "output_too_large", -1);
        rd_kafka_header_add(headers, "topic", -1, p->conf->topics[output], -1);
    }
    snprintf(text, sizeof text, "%zu", len);
    rd_kafka_header_add(headers, "cut_from_bytes", -1, text, -1);
    return headers;
}

/* No repetition will help. A score or an alert becomes a dead letter, cut if need be; a dead letter is cut. What even
 * so is refused is given up. The ticket goes with the dead letter. */
static void give_up(struct producer *p, enum output output, const rd_kafka_message_t *m,
                    const rd_kafka_headers_t *headers)
{
    bool last = (output == OUTPUT_DEAD && m->len <= DEAD_VALUE_MAX) || !p->topics[OUTPUT_DEAD].handle;
    metric_add(p->topics[output].undeliverable, 1);
    log_often(LOG_ERROR, p->in->name, "a message of %zu bytes is larger than topic %s allows (its max.message.bytes): "
              "%s",
              m->len, p->conf->topics[output],
              last ? "given up" : "it becomes a dead letter, cut to 64 kB");
    outstanding_done(p, m->len + m->key_len);
    if (!last) {
        size_t len = m->len < DEAD_VALUE_MAX ? m->len : DEAD_VALUE_MAX;
        producer_send_with_headers(p, OUTPUT_DEAD, m->_private, (struct str){m->key, (uint32_t)m->key_len},
                                   (struct str){m->payload, (uint32_t)len},
                                   too_large_headers(p, output, m->len, headers));
    }
    release(m->_private, 1);
}

/* Whether the message itself is too large, or only the request that it was in. */
static bool is_at_fault(struct producer *p, const rd_kafka_message_t *m)
{
    bool alone = p->batch_bytes <= 1 || m->len >= (size_t)p->batch_bytes;
    if (alone)
        p->convicted = true;
    else
        p->crowded = true;
    return alone;
}

void producer_judge_sizes(struct producer *p)
{
    if (p->crowded && !p->convicted) {
        p->batch_bytes = p->batch_bytes / BATCH_DIVISOR > 1 ? p->batch_bytes / BATCH_DIVISOR : 1;
        log_notice(p->in->name, "a broker refuses a request for its size: making requests of %" PRId64 " bytes at most "
                   "(batch_bytes) to find the message that is too large",
                   p->batch_bytes);
        p->fatal = true; /* only a new producer makes smaller ones */
    }
    p->crowded = p->convicted = false;
}

static void spoil(struct producer *p, enum output output, const rd_kafka_message_t *m, rd_kafka_resp_err_t code)
{
    size_t *limit = &p->topics[output].limit;
    if (is_too_large(code)) {
        if (is_at_fault(p, m) && (*limit == 0 || m->len < *limit))
            *limit = m->len;
    } else if (!is_of_the_producer(code)) {
        p->topics[output].error = code;
    }
    if (!is_of_the_producer(code))
        log_often(LOG_WARNING, p->in->name, "a message to topic %s failed: %s; its transaction is void",
                  p->conf->topics[output], rd_kafka_err2str(code));
    outstanding_done(p, m->len + m->key_len);
    transaction_spoil(p->transaction);
}

/* `headers` is borrowed. */
static void on_failed(struct producer *p, enum output output, const rd_kafka_message_t *m, rd_kafka_resp_err_t code,
                      const rd_kafka_headers_t *headers)
{
    struct producer_topic *topic = &p->topics[output];
    if (p->transaction) {
        spoil(p, output, m, code);
        return;
    }
    if (is_too_large(code) && is_at_fault(p, m)) {
        give_up(p, output, m, headers);
        return;
    }
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        p->fatal = true;
    metric_add(p->retried, 1);
    log_often(LOG_WARNING, p->in->name, "a message to topic %s could not be delivered: %s; it is sent again",
              p->conf->topics[output], rd_kafka_err2str(code));
    if (!is_too_large(code) && !is_of_the_producer(code))
        topic->error = code;
    park(p, output, m, headers ? rd_kafka_headers_copy(headers) : NULL);
    update_ready(p);
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

/* Messages that cannot go with the others: those for the next transaction, and those that are known to be too large. */
static bool set_aside(struct producer *p, enum output output, const rd_kafka_message_t *m, rd_kafka_headers_t *headers)
{
    size_t limit = p->topics[output].limit;
    if (limit && m->len >= limit) {
        give_up(p, output, m, headers);
        if (headers)
            rd_kafka_headers_destroy(headers);
        return true;
    }
    if (transaction_is_open(p->transaction)) {
        transaction_use(p->transaction);
        return false;
    }
    park(p, output, m, headers);
    return true;
}

static int send_in_transaction(struct producer *p, enum output output, rd_kafka_message_t *messages, int n)
{
    int left = 0;
    for (int i = 0; i < n; i++)
        if (!set_aside(p, output, &messages[i], NULL))
            messages[left++] = messages[i];
    return left;
}

void producer_send(struct producer *p, enum output output, rd_kafka_message_t *messages, int n)
{
    struct producer_topic *topic = &p->topics[output];
    assert(topic->handle && n > 0);
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += messages[i].len + messages[i].key_len;
    p->outstanding_n += (uint64_t)n;
    p->outstanding_bytes += bytes;
    metric_add(topic->sent, n);
    if (p->transaction)
        n = send_in_transaction(p, output, messages, n);
    if (n == 0)
        return;
    int good = rd_kafka_produce_batch(topic->handle, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, messages, n);
    for (int i = 0; good < n && i < n; i++)
        if (messages[i].err)
            on_failed(p, output, &messages[i], messages[i].err, NULL);
}

/* The message is outstanding already. Headers are taken over. */
static void send_one(struct producer *p, enum output output, const rd_kafka_message_t *m, rd_kafka_headers_t *headers)
{
    rd_kafka_headers_t *given = headers ? headers : rd_kafka_headers_new(0);
    rd_kafka_resp_err_t code = rd_kafka_producev(
        p->client.rk, RD_KAFKA_V_RKT(p->topics[output].handle), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(m->key, m->key_len), RD_KAFKA_V_VALUE(m->payload, m->len), RD_KAFKA_V_HEADERS(given),
        RD_KAFKA_V_OPAQUE(m->_private), RD_KAFKA_V_END);
    if (!code)
        return;
    on_failed(p, output, m, code, headers);
    rd_kafka_headers_destroy(given);
}

void producer_send_with_headers(struct producer *p, enum output output, struct ticket *ticket, struct str key,
                                struct str value, rd_kafka_headers_t *headers)
{
    rd_kafka_message_t m = {
        .payload = (void *)value.at, .len = value.len, .key = (void *)key.at, .key_len = key.len, ._private = ticket,
    };
    assert(p->topics[output].handle);
    if (ticket)
        ticket_hold(ticket, 1);
    p->outstanding_n++;
    p->outstanding_bytes += m.len + m.key_len;
    metric_add(p->topics[output].sent, 1);
    if (p->transaction && set_aside(p, output, &m, headers))
        return;
    send_one(p, output, &m, headers);
}

void producer_forget_parked(struct producer *p)
{
    while (p->parked_first) {
        struct parked *parked = p->parked_first;
        p->parked_first = parked->next;
        outstanding_done(p, parked->len + parked->key_len);
        if (parked->headers)
            rd_kafka_headers_destroy(parked->headers);
        free(parked);
    }
    p->parked_last = &p->parked_first;
    p->parked_n = 0;
    p->retry_ms = 0;
}

/* Everything that is parked now, once; what fails again is parked anew. */
void producer_send_parked(struct producer *p)
{
    struct parked *next = p->parked_first;
    p->parked_first = NULL;
    p->parked_last = &p->parked_first;
    p->parked_n = 0;
    p->retry_ms = 0;
    while (next) {
        struct parked *parked = next;
        next = parked->next;
        rd_kafka_message_t m = {
            .payload = parked->bytes + parked->key_len, .len = parked->len, .key = parked->bytes,
            .key_len = parked->key_len, ._private = parked->ticket,
        };
        if (!p->transaction || !set_aside(p, parked->output, &m, parked->headers))
            send_one(p, parked->output, &m, parked->headers);
        free(parked);
    }
}

/* ---- delivery reports -------------------------------------------------------------------------------------------- */

static enum output output_of(const struct producer *p, const rd_kafka_message_t *m)
{
    for (int i = 0; i < OUTPUTS; i++)
        if (p->topics[i].handle == m->rkt)
            return (enum output)i;
    assert(!"a delivery report of a topic that is not ours");
    return OUTPUT_DEAD;
}

static void on_report_failed(struct producer *p, const rd_kafka_message_t *m)
{
    rd_kafka_headers_t *headers = NULL;
    rd_kafka_message_headers(m, &headers);
    on_failed(p, output_of(p, m), m, m->err, headers);
}

/* Messages of one batch come back together, so tickets are released by the run. */
static void on_reports(struct producer *p, rd_kafka_event_t *event)
{
    const rd_kafka_message_t *m, *last = NULL;
    struct ticket *ticket = NULL;
    uint32_t n = 0, good = 0;
    while ((m = rd_kafka_event_message_next(event))) {
        if (m->err) {
            on_report_failed(p, m);
            continue;
        }
        outstanding_done(p, m->len + m->key_len);
        last = m;
        good++;
        if (m->_private != ticket) {
            if (n)
                release(ticket, n);
            ticket = m->_private;
            n = 0;
        }
        n++;
    }
    if (!last)
        return;
    release(ticket, n);
    metric_observe_ns(p->ack_time, (uint64_t)rd_kafka_message_latency(last) * 1000, good);
    struct producer_topic *topic = &p->topics[output_of(p, last)];
    if (topic->error || !topic->known || !p->reachable) {
        topic->error = RD_KAFKA_RESP_ERR_NO_ERROR;
        p->reachable = topic->known = true;
        update_ready(p);
    }
}

static void on_error(void *self, rd_kafka_resp_err_t code, const char *reason)
{
    struct producer *p = self;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        p->reachable = false;
        update_ready(p);
        log_often(LOG_WARNING, p->in->name, "no broker of %s can be reached; outputs wait", p->conf->kafka.brokers);
    } else if (code == RD_KAFKA_RESP_ERR__FATAL) {
        char text[512];
        p->fatal = true;
        if (p->transaction)
            transaction_break(p->transaction);
        rd_kafka_fatal_error(p->client.rk, text, sizeof text);
        rd_kafka_purge(p->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                       RD_KAFKA_PURGE_F_NON_BLOCKING);
        log_error(p->in->name, "the producer cannot go on (%s): making a new one; what was not acknowledged is sent "
                  "again",
                  text);
    } else {
        log_often(LOG_WARNING, p->in->name, "%s: %s", rd_kafka_err2name(code), reason);
    }
}

void producer_serve(struct producer *p)
{
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(p->queue, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            on_reports(p, event);
        else
            kafka_client_event(&p->client, event);
        rd_kafka_event_destroy(event);
    }
}

bool producer_full(const struct producer *p)
{
    return p->outstanding_n >= (uint64_t)p->conf->queue_messages ||
           p->outstanding_bytes >= (uint64_t)p->conf->queue_bytes;
}

void producer_changed(struct producer *p)
{
    bool takes = !p->transaction || transaction_takes(p->transaction);
    instance_busy(p->in, producer_full(p) || !takes || p->fatal);
    if (p->transaction)
        update_ready(p);
}

/* ---- opening, closing, and what the clock brings ----------------------------------------------------------------- */

static void on_wakeup(void *self)
{
    struct producer *p = self;
    producer_serve(p);
    producer_changed(p);
}

static int open_topics(struct producer *p, struct error *err)
{
    for (int i = 0; i < OUTPUTS; i++) {
        struct producer_topic *topic = &p->topics[i];
        if (strcmp(p->conf->topics[i], "off") == 0)
            continue;
        topic->handle = rd_kafka_topic_new(p->client.rk, p->conf->topics[i], NULL);
        if (!topic->handle)
            return error_set(err, "'%s' is no topic name: %s", p->conf->topics[i],
                             rd_kafka_err2str(rd_kafka_last_error()));
    }
    return 0;
}

static int open_client(struct producer *p, rd_kafka_conf_t *conf, struct error *err)
{
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);
    if (kafka_wakeup_open(&p->wakeup, p->in->loop, on_wakeup, p, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    if (kafka_client_open(&p->client, RD_KAFKA_PRODUCER, conf, err) < 0)
        return -1;
    p->queue = rd_kafka_queue_get_main(p->client.rk);
    kafka_wakeup_watch(&p->wakeup, p->queue);
    return open_topics(p, err);
}

static void close_client(struct producer *p)
{
    for (int i = 0; i < OUTPUTS; i++) {
        if (p->topics[i].handle)
            rd_kafka_topic_destroy(p->topics[i].handle);
        p->topics[i].handle = NULL;
    }
    if (p->queue)
        rd_kafka_queue_destroy(p->queue);
    p->queue = NULL;
    if (p->client.rk)
        rd_kafka_destroy(p->client.rk);
    p->client.rk = NULL;
    kafka_wakeup_close(&p->wakeup);
}

int producer_open(struct producer *p, struct instance *in, rd_kafka_conf_t *conf, struct error *err)
{
    static const char *const names[OUTPUTS] = {"scores", "alerts", "dead_letters", "erased"};
    struct metrics *m = in->metrics;
    p->in = in;
    p->conf = in->conf;
    p->batch_bytes = p->conf->batch_bytes;
    p->client = (struct kafka_client){.who = in->name, .self = p, .on_error = on_error};
    p->client.errors = metric_cell(m, "gait_sink_kafka_errors_total", NULL);
    p->retried = metric_cell(m, "gait_sink_kafka_retried_total", NULL);
    p->queued = metric_cell(m, "gait_sink_kafka_queued_messages", NULL);
    p->queued_bytes = metric_cell(m, "gait_sink_kafka_queued_bytes", NULL);
    p->ack_time = metric_cell(m, "gait_sink_kafka_ack_seconds", NULL);
    p->parked_last = &p->parked_first;
    for (int i = 0; i < OUTPUTS; i++) {
        p->topics[i].sent = metric_cell(m, "gait_sink_kafka_messages_total", names[i]);
        p->topics[i].undeliverable = metric_cell(m, "gait_sink_kafka_undeliverable_total", names[i]);
    }
    if (open_client(p, conf, err) < 0)
        return -1;
    if (in->exactly_once)
        p->transaction = transaction_create(p);
    producer_changed(p);
    update_ready(p);
    return 0;
}

bool producer_close(struct producer *p)
{
    if (p->client.rk)
        rd_kafka_purge(p->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                       RD_KAFKA_PURGE_F_NON_BLOCKING);
    if (!transaction_destroy(&p->transaction)) {
        log_warning(p->in->name, "leaving without an answer from the broker about the last transaction; it ends there "
                                 "by transaction_timeout_ms, and its events are computed again");
        return false;
    }
    close_client(p);
    producer_forget_parked(p);
    return true;
}

/* A new client in place of one that has come to its end, once the old one has given everything back. */
static void renew(struct producer *p)
{
    struct error err;
    if (p->outstanding_n != p->parked_n || (p->transaction && transaction_is_working(p->transaction)))
        return;
    rd_kafka_conf_t *conf = sink_kafka_make_conf(p->in, &err);
    assert(conf); /* it was accepted before */
    close_client(p);
    if (open_client(p, conf, &err) < 0) {
        log_often(LOG_ERROR, p->in->name, "cannot make a new producer: %s; trying again", err.text);
        return;
    }
    p->fatal = false;
    if (p->transaction)
        transaction_restart(p->transaction);
}

static void probe(struct producer *p, uint64_t now_ms)
{
    bool changed = false;
    if (now_ms < p->probe_ms)
        return;
    for (int i = 0; i < OUTPUTS; i++) {
        struct producer_topic *topic = &p->topics[i];
        rd_kafka_resp_err_t code;
        if (!topic->handle || (p->reachable && topic->known))
            continue;
        p->probe_ms = now_ms + RETRY_MS;
        int partitions = kafka_probe(p->client.rk, topic->handle, PROBE_WAIT_MS, &code);
        if (partitions < 0)
            break;
        changed = p->reachable = true;
        topic->known = partitions > 0;
        if (topic->known && p->parked_n == 0)
            topic->error = RD_KAFKA_RESP_ERR_NO_ERROR;
        if (!topic->known)
            log_often(LOG_WARNING, p->in->name, "topic %s cannot be written: %s; trying again", p->conf->topics[i],
                      rd_kafka_err2str(code));
    }
    if (changed)
        update_ready(p);
}

void producer_tick(struct producer *p)
{
    uint64_t now_ms = mono_ms(p);
    if (!p->transaction)
        producer_judge_sizes(p);
    if (p->fatal)
        renew(p);
    if (!p->client.rk || p->fatal)
        return;
    producer_serve(p);
    probe(p, now_ms);
    if (p->transaction)
        transaction_tick(p->transaction);
    else if (p->parked_first && now_ms >= p->retry_ms)
        producer_send_parked(p);
    metric_set(p->queued, (double)p->outstanding_n);
    metric_set(p->queued_bytes, (double)p->outstanding_bytes);
    producer_changed(p);
}
