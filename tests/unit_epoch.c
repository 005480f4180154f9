// SPDX-License-Identifier: Apache-2.0
// unit_epoch.c - delivery: exactly_once when the broker refuses: the real engine with source.kafka and sink.kafka
// against librdkafka's mock cluster. The mock shows its readers what aborted transactions held, so a second copy is
// what was written again.
#include "../daemon/engine.h"
#include "mock_cluster.h"

#include "gait/log.h"
#include "gait/window.h"

enum { N = 300, API_PRODUCE = 0, API_ADD_PARTITIONS = 24, API_ADD_OFFSETS = 25, API_END = 26 };

struct daemon {
    struct config *config;
    struct engine *engine;
    ev_idle idle;
    ev_timer tick;
    double saved_at_abort; /* records saved when the engine first heard of an abort; -1 = it has not */
};

static struct ev_loop *loop;
static struct mock mock;

static int setup(void **state)
{
    (void)state;
    loop = ev_loop_new(EVFLAG_AUTO);
    mock_start(&mock);
    rd_kafka_mock_topic_create(mock.cluster, "clicks", 1, 1);
    rd_kafka_mock_topic_create(mock.cluster, "dead", 1, 1);
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mock_stop(&mock);
    ev_loop_destroy(loop);
    return 0;
}

static double metric(const struct daemon *d, const char *name)
{
    return metrics_sum(d->engine->metrics, name);
}

static void wake(void *self)
{
    ev_idle_start(loop, &((struct daemon *)self)->idle);
}

static void on_idle(struct ev_loop *l, ev_idle *w, int events)
{
    struct daemon *d = w->data;
    (void)events;
    if (!engine_step(d->engine))
        ev_idle_stop(l, w);
    if (d->saved_at_abort < 0 && metric(d, "gait_transactions_aborted_total") > 0)
        d->saved_at_abort = metric(d, "gait_records_saved_total");
}

static void on_tick(struct ev_loop *l, ev_timer *w, int events)
{
    (void)l, (void)events;
    engine_tick(((struct daemon *)w->data)->engine);
}

static struct daemon *daemon_start(void)
{
    struct daemon *d = calloc(1, sizeof *d);
    struct config_errors errors = {0};
    struct error err;
    char text[1024];
    assert_non_null(d);
    int n = snprintf(text, sizeof text,
                     "engine: {delivery: exactly_once, epoch_ms: 20ms, save_ms: 20ms, batch_events: 64}\n"
                     "source: {kafka: {brokers: '%s', topic: clicks, group: g}}\nstore: {memory: {}}\n"
                     "window: {rolling: {}}\n"
                     "sink: {kafka: {brokers: '%s', scores: 'off', alerts: 'off', dead_letters: dead}}\n",
                     mock.brokers, mock.brokers);
    d->config = config_parse(text, (size_t)n, "test.yaml", &errors);
    if (!d->config)
        fail_msg("%s", errors.at[0].text);
    d->engine = engine_create(d->config, loop, &clock_system, false, &err);
    if (!d->engine)
        fail_msg("%s", err.text);
    d->saved_at_abort = -1;
    d->engine->wake = wake;
    d->engine->wake_self = d;
    ev_idle_init(&d->idle, on_idle);
    ev_timer_init(&d->tick, on_tick, 0.02, 0.02);
    d->idle.data = d->tick.data = d;
    ev_timer_start(loop, &d->tick);
    engine_start(d->engine);
    return d;
}

static void daemon_stop(struct daemon *d)
{
    engine_drain(d->engine, 2000);
    pump_until(loop, d->engine->phase == ENGINE_STOPPED);
    ev_timer_stop(loop, &d->tick);
    ev_idle_stop(loop, &d->idle);
    engine_destroy(&d->engine);
    config_destroy(&d->config);
    free(d);
}

/* Every third one is no event: it becomes a dead letter, the output of these tests. */
static void produce_clicks(void)
{
    rd_kafka_t *rk = mock_client(&mock, RD_KAFKA_PRODUCER, NULL);
    for (int i = 0; i < N; i++) {
        char value[96];
        snprintf(value, sizeof value, i % 3 ? "{\"type\":\"search\",\"user_id\":\"u1\",\"ts\":%lld}" : "no event %lld",
                 1764000000000 + i * 1000LL);
        assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC("clicks"), RD_KAFKA_V_PARTITION(0),
                                           RD_KAFKA_V_VALUE(value, strlen(value)),
                                           RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END), 0);
    }
    assert_int_equal(rd_kafka_flush(rk, WAIT_MS), 0);
    rd_kafka_destroy(rk);
}

static int offset_of(const rd_kafka_message_t *m)
{
    rd_kafka_headers_t *headers;
    const void *value = NULL;
    size_t len;
    assert_int_equal(rd_kafka_message_headers(m, &headers), 0);
    assert_int_equal(rd_kafka_header_get_last(headers, "offset", &value, &len), 0);
    return atoi(value);
}

/* How often the dead letter of each offset lies in the topic. */
static void count_copies(unsigned copies[N])
{
    const char *const settings[][2] = {{"group.id", "reader"}, {"enable.partition.eof", "true"}, {NULL, NULL}};
    rd_kafka_t *rk = mock_client(&mock, RD_KAFKA_CONSUMER, settings);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, "dead", 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    assert_int_equal(rd_kafka_assign(rk, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    memset(copies, 0, N * sizeof *copies);
    for (bool ended = false; !ended;) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, WAIT_MS);
        assert_non_null(m);
        ended = m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (!m->err)
            copies[offset_of(m)]++;
        rd_kafka_message_destroy(m);
    }
    rd_kafka_destroy(rk);
}

static bool all_saved(const struct daemon *d)
{
    const struct partition *p = engine_partition(d->engine, 0);
    return p && p->state == PARTITION_OPEN && p->saved_next == N && p->committed_next == N;
}

static void assert_each_event_is_in_the_record_once(const struct daemon *d)
{
    struct user *user = users_find(d->engine->users, 0, str_of("u1"));
    struct instance *window = engine_instance(d->engine, STAGE_WINDOW);
    double *by_id = calloc(columns_count(d->engine->columns), sizeof *by_id);
    assert_non_null(user);
    assert_non_null(by_id);
    window_columns_all(window, user, window_ring_count(window, user) - 1, by_id);
    for (uint32_t id = 0; id < columns_count(d->engine->columns); id++)
        if (strcmp(columns_name(d->engine->columns, id), "total.events") == 0)
            assert_int_equal((int)by_id[id], N - (N + 2) / 3);
    assert_int_equal(user->next, N);
    free(by_id);
}

/* The first transaction fails by `code` in the answer to requests of kind `api`. */
static void fail_once(int16_t api, rd_kafka_resp_err_t code)
{
    unsigned copies[N];
    const char *why = "";
    produce_clicks();
    rd_kafka_mock_push_request_errors(mock.cluster, api, 1, code);
    struct daemon *d = daemon_start();
    pump_until(loop, d->saved_at_abort >= 0);
    assert_int_equal((int)d->saved_at_abort, 0); /* what it had computed is nowhere */
    if (code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) { /* which only an operator can mend */
        pump_until(loop, !engine_ready(d->engine, &why));
        assert_non_null(strstr(why, "not authorised"));
    }
    pump_until(loop, all_saved(d));
    pump_until(loop, engine_ready(d->engine, NULL));
    unsigned aborted = (unsigned)metric(d, "gait_transactions_aborted_total"); /* a new epoch may cost a second one */
    assert_true(aborted == 1 || aborted == 2);
    assert_each_event_is_in_the_record_once(d);
    count_copies(copies);
    for (int i = 0; i < N; i++) {
        assert_true(i % 3 ? copies[i] == 0 : copies[i] >= 1 && copies[i] <= 1 + aborted);
        if (i >= 3 && i % 3 == 0) /* what was in the aborted transaction came first */
            assert_true(copies[i] <= copies[i - 3]);
    }
    daemon_stop(d);
}

static void test_abortable_offsets_refused(void **state)
{
    (void)state;
    fail_once(API_ADD_OFFSETS, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
}

static void test_abortable_topic_refused(void **state)
{
    (void)state;
    fail_once(API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
}

static void test_fenced_at_the_end(void **state)
{
    (void)state;
    fail_once(API_END, RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
}

static void test_fenced_while_producing(void **state)
{
    (void)state;
    fail_once(API_PRODUCE, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
}

static void test_coordinator_that_is_loading_is_asked_again(void **state)
{
    (void)state;
    unsigned copies[N];
    produce_clicks();
    rd_kafka_mock_push_request_errors(mock.cluster, API_END, 2, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                                      RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS);
    struct daemon *d = daemon_start();
    pump_until(loop, all_saved(d));
    assert_int_equal((int)metric(d, "gait_transactions_aborted_total"), 0);
    count_copies(copies);
    for (int i = 0; i < N; i++)
        assert_int_equal(copies[i], i % 3 == 0);
    daemon_stop(d);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_abortable_offsets_refused),
        TEST(test_abortable_topic_refused),
        TEST(test_fenced_at_the_end),
        TEST(test_fenced_while_producing),
        TEST(test_coordinator_that_is_loading_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
