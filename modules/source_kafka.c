// SPDX-License-Identifier: Apache-2.0
// source_kafka.c - the click topic, read as a member of a consumer group: first stage of the flow.
//
// Messages go through a queue of their own, events (rebalances, errors, answers) through others: the group is served
// however long the engine reads nothing, and what has been fetched meanwhile waits without being fetched again.
// librdkafka owns its threads and message buffers; a batch borrows the messages until it ends. How partitions come and
// go is in source_kafka_group.c.
#include "source_kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

static const struct metric source_kafka_metrics[] = {
    {"gait_source_kafka_messages_total", METRIC_COUNTER, NULL, "Messages fetched from the input topic."},
    {"gait_source_kafka_bytes_total", METRIC_COUNTER, NULL, "Bytes of messages fetched from the input topic."},
    {"gait_source_kafka_errors_total", METRIC_COUNTER, NULL, "Errors that the Kafka client reported to the consumer."},
    {"gait_source_kafka_rebalances_total", METRIC_COUNTER, NULL, "Assignments and revocations of partitions."},
    {"gait_source_kafka_queued_messages", METRIC_GAUGE, NULL, "Messages fetched and not yet taken into a batch."},
    {"gait_source_kafka_bad_erasures_total", METRIC_COUNTER, NULL,
     "Messages in the topic of erasures that name no user; they are passed over."},
    {NULL, 0, NULL, NULL},
};

void source_ready(struct source_kafka *s)
{
    const char *why = NULL;
    if (!s->reachable)
        why = "no Kafka broker can be reached";
    else if (s->topic_error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        why = "reading the input topic is not authorised";
    else if (s->topic_error == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
        why = "joining the consumer group is not authorised";
    else if (s->topic_error)
        why = "the input topic does not exist";
    else if (s->grown)
        why = "the input topic has got more partitions";
    else if (s->erasures.why)
        why = s->erasures.why;
    else if (!s->joined)
        why = "waiting for the consumer group's assignment";
    instance_ready(s->in, !why, why);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void on_error(void *self, rd_kafka_resp_err_t code, const char *reason)
{
    struct source_kafka *s = self;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        s->reachable = false;
        source_ready(s);
        log_often(LOG_WARNING, s->in->name, "no broker of %s can be reached; trying again", s->conf->kafka.brokers);
    } else {
        log_often(LOG_WARNING, s->in->name, "%s: %s", rd_kafka_err2name(code), reason);
    }
}

static void on_message_error(struct source_kafka *s, const rd_kafka_message_t *m)
{
    metric_add(s->client.errors, 1);
    switch (m->err) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        s->topic_error = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        s->topic_error = m->err;
        break;
    default:
        break;
    }
    source_ready(s);
    log_often(LOG_WARNING, s->in->name, "topic %s, group %s: %s; trying again", s->conf->topic, s->conf->group,
              rd_kafka_message_errstr(m));
}

static struct input *input_take(struct source_kafka *s, size_t cap)
{
    for (size_t i = 0; i < INPUTS_MAX; i++) {
        struct input *input = &s->inputs[i];
        if (input->in_use)
            continue;
        if (input->cap < cap) {
            free(input->messages);
            input->messages = calloc(cap, sizeof *input->messages);
            assert(input->messages);
            input->cap = cap;
        }
        input->n = 0;
        return input;
    }
    return NULL; /* the engine has fewer batches */
}

static void input_done(void *at)
{
    struct input *input = at;
    for (size_t i = 0; i < input->n; i++)
        rd_kafka_message_destroy(input->messages[i]);
    input->n = 0;
    input->in_use = false;
}

/* Offsets have holes where a transaction ended or compaction cleaned up; only the start of what the broker retains
 * tells whether this one is a loss. The library knows it from the fetch that brought the message. */
static void note_hole(struct source_kafka *s, const rd_kafka_message_t *m)
{
    int64_t low = -1, high = -1;
    struct partition *p = engine_partition(s->in->engine, m->partition);
    if (p && rd_kafka_get_watermark_offsets(s->client.rk, s->conf->topic, m->partition, &low, &high) == 0 && low >= 0)
        p->low = low;
}

static void run(struct instance *in, struct batch *b)
{
    struct source_kafka *s = in->self;
    struct input *input = input_take(s, b->cap);
    assert(input && b->n == 0);
    ssize_t got = rd_kafka_consume_batch_queue(s->messages, 0, input->messages, b->cap);
    if (got <= 0)
        return;
    uint64_t now_ns = clock_mono_ns(in->clock);
    struct claim *claim = NULL;
    rd_kafka_timestamp_type_t kind;
    size_t bytes = 0;
    input->n = (size_t)got;
    input->in_use = true;
    b->input = input;
    b->input_done = input_done;
    for (size_t i = 0; i < input->n; i++) {
        const rd_kafka_message_t *m = input->messages[i];
        if (m->err) {
            on_message_error(s, m);
            continue;
        }
        if (!claim || claim->id != m->partition)
            claim = claim_find(s, m->partition);
        if (!claim || claim->state != CLAIM_READING)
            continue; /* fetched before it was revoked */
        if (m->offset != claim->offset && claim->offset >= 0)
            note_hole(s, m);
        claim->offset = m->offset + 1;
        b->events[b->n++] = (struct event){
            .raw = {m->payload, (uint32_t)m->len},
            .key = {m->key, (uint32_t)m->key_len},
            .partition = m->partition,
            .offset = m->offset,
            .fetched_ns = now_ns,
            .log_ms = rd_kafka_message_timestamp(m, &kind),
            .verdict = m->payload ? EVENT_OK : EVENT_EMPTY,
        };
        bytes += m->len;
    }
    metric_add(s->fetched, b->n);
    metric_add(s->fetched_bytes, (double)bytes);
}

/* ---- C again: committing ----------------------------------------------------------------------------------------- */

static void commit(struct instance *in, struct commit *c)
{
    struct source_kafka *s = in->self;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, s->conf->topic, c->partition->id)->offset = c->offset;
    rd_kafka_resp_err_t code = rd_kafka_commit_queue(s->client.rk, list, s->answers, NULL, c);
    assert(code == RD_KAFKA_RESP_ERR_NO_ERROR); /* only a wrong call fails here; the answer comes by the queue */
    rd_kafka_topic_partition_list_destroy(list);
}

/* A partition that is being closed cannot be finished once the group has thrown us out, and the library does not tell
 * us while it waits for our answer. */
static bool thrown_out(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID || code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
}

static void commit_failed(struct source_kafka *s, struct commit *c, rd_kafka_resp_err_t code)
{
    int32_t id = c->partition->id;
    log_often(LOG_WARNING, s->in->name, "partition %" PRId32 ": offset %" PRId64 " could not be committed: %s; trying "
              "again",
              id, c->offset, rd_kafka_err2str(code));
    if (s->failures_n == s->failures_cap) {
        s->failures_cap = s->failures_cap ? s->failures_cap * 2 : 16;
        s->failures = realloc(s->failures, s->failures_cap * sizeof(struct commit *));
        assert(s->failures);
    }
    s->failures[s->failures_n++] = c;
    if (thrown_out(code))
        claim_lose(s, id);
}

static void on_commit(struct source_kafka *s, rd_kafka_event_t *event)
{
    struct commit *c = rd_kafka_event_opaque(event);
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
    if (!code && list && list->cnt == 1)
        code = list->elems[0].err;
    if (code)
        commit_failed(s, c, code);
    else
        commit_done(s->in->engine, s->in, c, true);
}

/* ---- flow -------------------------------------------------------------------------------------------------------- */

/* For a gauge only: where the broker does not let us look, it is left out. */
static void ask_retention(struct source_kafka *s)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, s->conf->topic);
    rd_kafka_DescribeConfigs(s->client.rk, &resource, 1, NULL, s->answers);
    rd_kafka_ConfigResource_destroy(resource);
}

static void on_retention(struct source_kafka *s, rd_kafka_event_t *event)
{
    size_t n = 0, entries_n = 0;
    if (rd_kafka_event_error(event))
        return;
    const rd_kafka_ConfigResource_t **found =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
    if (n != 1 || rd_kafka_ConfigResource_error(found[0]))
        return;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(found[0], &entries_n);
    for (size_t i = 0; i < entries_n; i++)
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "retention.ms") == 0 &&
            rd_kafka_ConfigEntry_value(entries[i]))
            s->retention_ms = strtoll(rd_kafka_ConfigEntry_value(entries[i]), NULL, 10);
}

/* Empty the queues of events; callbacks (rebalance, errors, log) run in here. */
static void serve(struct source_kafka *s)
{
    rd_kafka_message_t *message;
    while ((message = rd_kafka_consumer_poll(s->client.rk, 0))) {
        if (message->err)
            on_message_error(s, message);
        rd_kafka_message_destroy(message);
    }
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(s->answers, 0))) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT)
            on_commit(s, event);
        else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT)
            on_retention(s, event);
        rd_kafka_event_destroy(event);
    }
}

static void on_wakeup(void *self)
{
    struct source_kafka *s = self;
    serve(s);
    engine_wake(s->in->engine);
}

static void probe(struct source_kafka *s, uint64_t now_ms)
{
    rd_kafka_resp_err_t code;
    if ((s->reachable && !s->topic_error && s->partitions) || s->draining || now_ms < s->probe_ms)
        return;
    s->probe_ms = now_ms + RETRY_MS;
    int partitions = kafka_probe(s->client.rk, s->topic, PROBE_WAIT_MS, &code);
    if (partitions < 0)
        return;
    s->reachable = true;
    s->topic_error = partitions ? RD_KAFKA_RESP_ERR_NO_ERROR : code;
    if (!s->partitions && partitions > 0) {
        s->partitions = partitions;
        engine_input_partitions_set(s->in->engine, partitions);
        ask_retention(s);
    }
    if (partitions == 0)
        log_often(LOG_WARNING, s->in->name, "topic %s cannot be read: %s; trying again", s->conf->topic,
                  rd_kafka_err2str(code));
    source_ready(s);
}

static void update_gauges(struct source_kafka *s, uint64_t now_ms)
{
    if (now_ms < s->gauge_ms)
        return;
    s->gauge_ms = now_ms + GAUGE_MS;
    metric_set(s->queued, (double)rd_kafka_queue_length(s->messages));
    for (size_t i = 0; i < s->claims_n; i++) {
        int64_t low = -1, high = -1;
        struct partition *p = engine_partition(s->in->engine, s->claims[i].id);
        if (p && rd_kafka_get_watermark_offsets(s->client.rk, s->conf->topic, p->id, &low, &high) == 0 && high >= 0)
            p->high = high;
        if (p)
            p->retention_ms = s->retention_ms;
    }
}

static void tick(struct source_kafka *s)
{
    uint64_t now_ms = source_mono_ms(s);
    for (size_t i = s->failures_n; i-- > 0; s->failures_n = i)
        commit_done(s->in->engine, s->in, s->failures[i], false);
    probe(s, now_ms);
    claims_tick(s);
    erase_log_tick(s);
    update_gauges(s, now_ms);
    serve(s); /* also shows the group that we live, whatever the engine waits for */
}

/* Nothing is done to pause: messages wait in their queue, whose size is bounded. */
static void flow(struct instance *in, const struct flow *flow)
{
    struct source_kafka *s = in->self;
    switch (flow->kind) {
    case FLOW_START:
        claim_start(s, flow->partition, flow->offset);
        break;
    case FLOW_CLOSED:
        claim_close(s, flow->partition);
        break;
    case FLOW_REOPEN:
        claim_reopen(s, flow->id);
        break;
    case FLOW_DRAIN:
        s->draining = true;
        break;
    case FLOW_TICK:
        tick(s);
        break;
    default:
        break;
    }
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

/* Half of the prefetch is content, half the library's own overhead: each of the two limits holds its half. */
static rd_kafka_conf_t *make_conf(const struct source_kafka_conf *conf, struct error *err)
{
    static const char *const strategies[] = {"cooperative-sticky", "range", "roundrobin"};
    char messages[32], kbytes[32], fetch[32];
    int64_t half = conf->prefetch_bytes / 2, once = conf->prefetch_bytes / 8;
    if (once > 50 << 20)
        once = 50 << 20;
    snprintf(messages, sizeof messages, "%" PRId64, half / MESSAGE_OVERHEAD);
    snprintf(kbytes, sizeof kbytes, "%" PRId64, half / 1024);
    snprintf(fetch, sizeof fetch, "%" PRId64, once);
    const struct kafka_setting own[] = {
        {"group.id", conf->group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"isolation.level", "read_committed"}, /* of what producers write, and of our own C */
        {"auto.offset.reset", "earliest"}, /* where W has been deleted by retention */
        {"partition.assignment.strategy", strategies[conf->assignment]},
        {"queued.min.messages", messages},
        {"queued.max.messages.kbytes", kbytes},
        {"fetch.max.bytes", fetch},
        {"session.timeout.ms", "10000"}, /* heartbeats do not depend on our loop, so a short one is safe */
        {"heartbeat.interval.ms", "1000"},
        {"allow.auto.create.topics", "false"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {NULL, NULL},
    };
    rd_kafka_conf_t *made = kafka_conf_create(&conf->kafka, own, err);
    if (made && conf->group_instance_id) {
        char text[512];
        rd_kafka_conf_set(made, "group.instance.id", conf->group_instance_id, text, sizeof text);
    }
    if (made)
        kafka_conf_try(made, "fetch.queue.backoff.ms", "10"); /* since 2.2; before, a full queue rests for a second */
    return made;
}

static void bind_metrics(struct source_kafka *s)
{
    struct metrics *m = s->in->metrics;
    s->client.errors = metric_cell(m, "gait_source_kafka_errors_total", NULL);
    s->fetched = metric_cell(m, "gait_source_kafka_messages_total", NULL);
    s->fetched_bytes = metric_cell(m, "gait_source_kafka_bytes_total", NULL);
    s->rebalances = metric_cell(m, "gait_source_kafka_rebalances_total", NULL);
    s->queued = metric_cell(m, "gait_source_kafka_queued_messages", NULL);
}

static int connect_client(struct source_kafka *s, rd_kafka_conf_t *conf, struct error *err)
{
    rd_kafka_conf_set_rebalance_cb(conf, source_rebalance);
    if (kafka_wakeup_open(&s->wakeup, s->in->loop, on_wakeup, s, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return -1;
    }
    if (kafka_client_open(&s->client, RD_KAFKA_CONSUMER, conf, err) < 0)
        return -1;
    rd_kafka_poll_set_consumer(s->client.rk); /* log and errors join the group's events */
    s->group = rd_kafka_queue_get_consumer(s->client.rk);
    s->messages = rd_kafka_queue_new(s->client.rk);
    s->answers = rd_kafka_queue_new(s->client.rk);
    s->topic = rd_kafka_topic_new(s->client.rk, s->conf->topic, NULL);
    if (!s->topic)
        return error_set(err, "topic: '%s' is no topic name: %s", s->conf->topic,
                         rd_kafka_err2str(rd_kafka_last_error()));
    s->committed = committed_create(s);
    kafka_wakeup_watch(&s->wakeup, s->group);
    kafka_wakeup_watch(&s->wakeup, s->messages);
    kafka_wakeup_watch(&s->wakeup, s->answers);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, s->conf->topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(s->client.rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return code ? error_set(err, "topic: cannot subscribe to '%s': %s", s->conf->topic, rd_kafka_err2str(code)) : 0;
}

static int open_source(struct instance *in, bool check, struct error *err)
{
    const struct source_kafka_conf *conf = in->conf;
    rd_kafka_conf_t *made = make_conf(conf, err);
    if (!made)
        return -1;
    if (check) {
        rd_kafka_conf_destroy(made);
        return 0;
    }
    struct source_kafka *s = calloc(1, sizeof *s);
    assert(s);
    s->in = in;
    s->conf = conf;
    s->client = (struct kafka_client){.who = in->name, .self = s, .on_error = on_error};
    in->self = s;
    in->input = conf->topic;
    bind_metrics(s);
    if (connect_client(s, made, err) < 0 || erase_log_open(s, err) < 0)
        return -1;
    source_ready(s);
    return 0;
}

/* Leave the group, so that others need not wait for the session to time out. False when no answer came in time: a
 * broker that hangs is not waited for. */
static bool leave(struct source_kafka *s)
{
    s->draining = s->closing = true;
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(s->client.rk, s->group);
    if (error) {
        rd_kafka_error_destroy(error);
        return true;
    }
    uint64_t until_ms = source_mono_ms(s) + CLOSE_WAIT_MS;
    while (!rd_kafka_consumer_closed(s->client.rk) && source_mono_ms(s) < until_ms) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(s->client.rk, 10);
        if (message)
            rd_kafka_message_destroy(message);
    }
    return rd_kafka_consumer_closed(s->client.rk);
}

/* While the library waits for a broker that hangs, destroying the client would hang as well: it is then left to the end
 * of the process, which is near. Nothing of it calls us any more. The same for one between joining and its first
 * assignment: librdkafka 2.0.2 aborts in rd_kafka_sticky_assignor_state_destroy, as there is no state yet. */
static void close_client(struct source_kafka *s)
{
    bool left = !s->group || leave(s);
    committed_destroy(&s->committed);
    if (s->topic)
        rd_kafka_topic_destroy(s->topic);
    rd_kafka_queue_t *queues[] = {s->group, s->messages, s->answers};
    for (size_t i = 0; i < sizeof queues / sizeof queues[0]; i++) {
        if (!queues[i])
            continue;
        rd_kafka_queue_io_event_enable(queues[i], -1, NULL, 0);
        rd_kafka_queue_destroy(queues[i]);
    }
    if (!left)
        log_warning(s->in->name, "the broker does not answer: leaving the group without a word");
    else if (s->group && (s->reachable || s->partitions) && !s->assigned)
        log_info(s->in->name, "leaving before the group has answered");
    else if (s->client.rk)
        rd_kafka_destroy_flags(s->client.rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    kafka_wakeup_close(&s->wakeup);
}

static void close_source(struct instance *in)
{
    struct source_kafka *s = in->self;
    if (!s)
        return;
    erase_log_close(s);
    close_client(s);
    if (s->unassigning)
        rd_kafka_topic_partition_list_destroy(s->unassigning);
    for (size_t i = 0; i < INPUTS_MAX; i++)
        free(s->inputs[i].messages);
    free(s->claims);
    free(s->failures);
    free(s);
    in->self = NULL;
}

static const char *const assignments[] = {"cooperative-sticky", "range", "roundrobin", NULL};
static const char *const starts[] = {"earliest", "latest", NULL};

static const struct option source_kafka_options[] = {
    KAFKA_OPTIONS,
    {"topic", OPTION_STRING, offsetof(struct source_kafka_conf, topic), NULL, 0, 0, NULL,
     OPTION_REQUIRED | OPTION_RESTART,
     "Topic of the clicks. Its messages must be keyed by user, so that each user's events lie in one partition."},
    {"group", OPTION_STRING, offsetof(struct source_kafka_conf, group), "gait", 0, 0, NULL, OPTION_RESTART,
     "Consumer group. All daemons of one group share the partitions and one store."},
    {"group_instance_id", OPTION_STRING, offsetof(struct source_kafka_conf, group_instance_id), NULL, 0, 0, NULL,
     OPTION_RESTART, "Static membership: a daemon that comes back under the same name within the session timeout "
     "keeps its partitions. Must differ between the daemons of a group."},
    {"assignment", OPTION_ENUM, offsetof(struct source_kafka_conf, assignment), "cooperative-sticky", 0, 0, assignments,
     OPTION_RESTART, "How the group shares partitions. cooperative-sticky moves only those that must move; the others "
     "stop all members at each change."},
    {"start", OPTION_ENUM, offsetof(struct source_kafka_conf, start), "earliest", 0, 0, starts, OPTION_RESTART,
     "Where a group that has committed nothing yet begins to read."},
    {"erase_topic", OPTION_STRING, offsetof(struct source_kafka_conf, erase_topic), "off", 0, 0, NULL, OPTION_RESTART,
     "Topic of requests to erase a user, for example gait.erase; off: there is none. It must have exactly one "
     "partition and retain its messages at least as long as the clicks are. A message is {\"user_id\": TEXT}, with "
     "\"erased_ms\" if not everything up to the message's own time shall be forgotten; or an empty value under the "
     "user's id as key."},
    {"prefetch_bytes", OPTION_BYTES, offsetof(struct source_kafka_conf, prefetch_bytes), "256MB", 8 << 20, 4294967296.0,
     NULL, OPTION_RESTART, "Bound on memory for messages fetched ahead, over all partitions. librdkafka before 2.2 "
     "rests for a second when it is reached, so it should hold more than a second of the fastest catching up."},
    {NULL, 0, 0, NULL, 0, 0, NULL, 0, NULL},
};

rd_kafka_t *source_kafka_consumer(const struct instance *source)
{
    return strcmp(source->module->name, "source_kafka") == 0 && source->self
        ? ((struct source_kafka *)source->self)->client.rk : NULL;
}

const struct module source_kafka = {
    .name = "source_kafka",
    .summary = "Reads the click topic as a member of a Kafka consumer group.",
    .stage = STAGE_SOURCE,
    .options = source_kafka_options,
    .conf_size = sizeof(struct source_kafka_conf),
    .metrics = source_kafka_metrics,
    .open = open_source,
    .run = run,
    .flow = flow,
    .commit = commit,
    .close = close_source,
};
