// SPDX-License-Identifier: Apache-2.0
// unit_sink_kafka.c - what reaches the output topics, when a batch counts as durable, and what happens to messages that
// a broker refuses, against a mock cluster.
#include "mock_kafka.h"

#include "gait/output.h"

extern const struct module sink_kafka;

enum { N = 200, API_PRODUCE = 0 };

struct writer {
    struct pumped pumped;
    struct engine *e;
    struct ticket ticket;
    struct event events[N];
    struct score scores[N];
    struct alert alert;
    struct batch batch;
};

static struct ev_loop *loop;
static struct mock mock;
static size_t score_bytes; /* pad scores to this length */

/* Stand-ins for output.c: short texts that the tests know. */
size_t output_score(const struct batch *b, uint32_t event, char *buf, size_t cap)
{
    char text[64];
    size_t n = (size_t)snprintf(text, sizeof text, "score %u of %.*s", event, (int)b->events[event].user.len,
                                b->events[event].user.at);
    size_t len = n < score_bytes ? score_bytes : n;
    if (len > cap)
        return 0;
    memset(buf, '.', len);
    memcpy(buf, text, n);
    return len;
}

size_t output_alert(const struct batch *b, const struct alert *alert, char *buf, size_t cap)
{
    (void)b;
    return (size_t)snprintf(buf, cap, "alert at %u", alert->event);
}

size_t output_erased(const struct erasure *erasure, int32_t partitions, char *buf, size_t cap)
{
    (void)partitions;
    return (size_t)snprintf(buf, cap, "erased %.*s", (int)erasure->name.len, erasure->name.at);
}

static int setup(void **state)
{
    (void)state;
    loop = ev_loop_new(EVFLAG_AUTO);
    mock_start(&mock);
    score_bytes = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mock_stop(&mock);
    ev_loop_destroy(loop);
    return 0;
}

/* A batch of N events, all with a score. */
static void fill(struct writer *w)
{
    static const char *const users[] = {"ann", "bob", "zoë"};
    w->batch = (struct batch){.events = w->events, .n = N, .cap = N, .ticket = &w->ticket, .scores = w->scores,
                              .alerts = &w->alert};
    w->ticket.holds = 1;
    for (uint32_t i = 0; i < N; i++) {
        w->events[i] = (struct event){.verdict = EVENT_OK, .user = str_of(users[i % 3]), .key = str_of("key"),
                                      .partition = 3,
                                      .offset = 1000 + i, .raw = {"{\0}", 3}};
        w->scores[i] = (struct score){.publish = true};
    }
}

static struct writer *writer_open(void)
{
    struct writer *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->e = fake_new(&sink_kafka);
    w->e->in.loop = loop;
    w->e->in.input = "clicks";
    fake_text(w->e, "brokers", mock.brokers);
    fake_open(w->e);
    pumped_start(&w->pumped, w->e);
    fill(w);
    return w;
}

static void writer_close(struct writer *w)
{
    pumped_stop(&w->pumped);
    fake_free(w->e);
    free(w);
}

static void run(struct writer *w)
{
    w->e->in.module->run(&w->e->in, &w->batch);
}

/* Messages refer to the client that read them: both are kept to the end of the process. */
static rd_kafka_message_t **kept[32];
static size_t kept_n;

/* All messages of a topic, by a consumer that reads until `n` have come. */
static rd_kafka_message_t **consume(const char *topic, size_t n)
{
    const char *const settings[][2] = {{"group.id", "test"}, {"auto.offset.reset", "earliest"}, {NULL, NULL}};
    rd_kafka_message_t **messages = calloc(n, sizeof *messages);
    assert_non_null(messages);
    rd_kafka_t *rk = mock_client(&mock, RD_KAFKA_CONSUMER, settings);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    for (int i = 0; i < 4; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    assert_int_equal(rd_kafka_assign(rk, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    for (size_t got = 0; got < n;) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, WAIT_MS);
        if (!m)
            fail_msg("%zu of %zu messages in %s", got, n, topic);
        if (m->err)
            rd_kafka_message_destroy(m);
        else
            messages[got++] = m;
    }
    assert_true(kept_n < sizeof kept / sizeof kept[0]);
    kept[kept_n++] = messages;
    return messages;
}

static bool is_text(const rd_kafka_message_t *m, const char *text)
{
    return m->len == strlen(text) && memcmp(m->payload, text, m->len) == 0;
}

static const char *header(const rd_kafka_message_t *m, const char *name)
{
    rd_kafka_headers_t *headers;
    const void *value = NULL;
    size_t len;
    if (rd_kafka_message_headers(m, &headers) || rd_kafka_header_get_last(headers, name, &value, &len))
        return "";
    return value; /* librdkafka ends it with a NUL */
}

static void test_scores_and_alerts_arrive_under_their_user(void **state)
{
    (void)state;
    struct writer *w = writer_open();
    w->alert = (struct alert){.event = 7};
    w->batch.alerts_n = 1;
    w->events[5].silent = true;       /* replayed: its score is out already */
    w->scores[6].publish = false;
    w->events[8].verdict = EVENT_DUPLICATE;
    run(w);
    assert_int_equal(w->ticket.holds, 1 + (N - 3) + 1);
    pump_until(loop, w->ticket.holds == 1);
    pump_until(loop, w->e->ready);
    rd_kafka_message_t **scores = consume("gait.scores", N - 3);
    unsigned seen = 0;
    for (uint32_t i = 0; i < N - 3; i++) {
        char text[64];
        unsigned event;
        snprintf(text, sizeof text, "%.*s", (int)scores[i]->len, (char *)scores[i]->payload);
        assert_int_equal(sscanf(text, "score %u", &event), 1);
        assert_true(event != 5 && event != 6 && event != 8);
        assert_true(str_equal((struct str){scores[i]->key, (uint32_t)scores[i]->key_len}, w->events[event].user));
        seen += event;
    }
    assert_int_equal(seen, N * (N - 1) / 2 - 5 - 6 - 8);
    rd_kafka_message_t **alerts = consume("gait.alerts", 1);
    assert_true(is_text(alerts[0], "alert at 7"));
    assert_true(str_is((struct str){alerts[0]->key, (uint32_t)alerts[0]->key_len}, "bob"));
    writer_close(w);
}

static void test_dead_letters_keep_the_bytes_and_say_why(void **state)
{
    (void)state;
    struct writer *w = writer_open();
    for (uint32_t i = 0; i < N; i++)
        w->scores[i].publish = false;
    w->events[1].verdict = EVENT_BAD_JSON;
    w->events[1].detail = "a brace is missing";
    w->events[2].verdict = EVENT_BAD_JSON;
    w->events[2].silent = true;
    w->events[3].verdict = EVENT_DUPLICATE;
    run(w);
    assert_int_equal(w->ticket.holds, 2);
    pump_until(loop, w->ticket.holds == 1);
    rd_kafka_message_t *m = consume("gait.dead", 1)[0];
    assert_int_equal(m->len, 3);
    assert_memory_equal(m->payload, "{\0}", 3);
    assert_true(str_is((struct str){m->key, (uint32_t)m->key_len}, "key"));
    assert_string_equal(header(m, "reason"), "bad_json");
    assert_string_equal(header(m, "detail"), "a brace is missing");
    assert_string_equal(header(m, "topic"), "clicks");
    assert_string_equal(header(m, "partition"), "3");
    assert_string_equal(header(m, "offset"), "1001");
    writer_close(w);
}

/* Refuse every produce request until the errors are cleared. */
static void refuse(rd_kafka_resp_err_t code)
{
    rd_kafka_resp_err_t codes[100];
    for (size_t i = 0; i < 100; i++)
        codes[i] = code;
    rd_kafka_mock_push_request_errors_array(mock.cluster, API_PRODUCE, 100, codes);
}

/* The broker refuses for a while: nothing counts as durable, the daemon is not ready, and then all arrives. */
static void test_refused_messages_are_sent_again(void **state)
{
    (void)state;
    struct writer *w = writer_open();
    pump_until(loop, w->e->ready);
    refuse(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    run(w);
    pump_until(loop, metrics_sum(w->e->metrics, "gait_sink_kafka_retried_total") >= N);
    assert_false(w->e->ready);
    assert_string_equal(w->e->not_ready_why, "writing an output topic is not authorised");
    assert_int_equal(w->ticket.holds, 1 + N);
    rd_kafka_mock_clear_request_errors(mock.cluster, API_PRODUCE);
    w->e->skip_ns += 2000000000;
    pump_until(loop, w->ticket.holds == 1);
    pump_until(loop, w->e->ready);
    consume("gait.scores", N);
    writer_close(w);
}

static void test_lost_acknowledgements_release_nothing_twice(void **state)
{
    (void)state;
    struct writer *w = writer_open();
    pump_until(loop, w->e->ready);
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 3, RD_KAFKA_RESP_ERR__TRANSPORT,
                                      RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
    run(w);
    pump_until(loop, w->ticket.holds == 1);
    consume("gait.scores", N);
    writer_close(w);
}

static void test_score_that_is_too_large_becomes_a_dead_letter(void **state)
{
    (void)state;
    struct writer *w = writer_open();
    pump_until(loop, w->e->ready);
    score_bytes = 1010000; /* more than a request with several messages may hold, so it was alone */
    w->batch.n = 1;
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    run(w);
    pump_until(loop, w->ticket.holds == 1);
    rd_kafka_message_t *m = consume("gait.dead", 1)[0];
    assert_string_equal(header(m, "reason"), "output_too_large");
    assert_string_equal(header(m, "topic"), "gait.scores");
    assert_string_equal(header(m, "cut_from_bytes"), "1010000");
    assert_int_equal(m->len, 65536);
    assert_int_equal(metrics_sum(w->e->metrics, "gait_sink_kafka_undeliverable_total"), 1);
    writer_close(w);
}

/* A small message may have been refused for the company it was in. */
static void test_small_message_is_not_given_up_for_its_size(void **state)
{
    (void)state;
    struct writer *w = writer_open();
    pump_until(loop, w->e->ready);
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    w->batch.n = 1;
    run(w);
    pump_until(loop, (w->e->skip_ns += 100000000, w->ticket.holds == 1));
    consume("gait.scores", 1);
    assert_int_equal(metrics_sum(w->e->metrics, "gait_sink_kafka_undeliverable_total"), 0);
    writer_close(w);
}

static void test_busy_while_the_broker_is_away(void **state)
{
    (void)state;
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    struct writer *w = writer_open();
    int runs = 0;
    fake_int(w->e, "queue_messages", 1000);
    for (; !w->e->in.busy; runs++)
        run(w);
    assert_int_equal(runs, 1000 / N);
    for (int i = 0; i < 20; i++) {
        ev_run(loop, EVRUN_ONCE);
        assert_true(w->e->in.busy);
    }
    assert_false(w->e->ready);
    rd_kafka_mock_broker_set_up(mock.cluster, 1);
    pump_until(loop, !w->e->in.busy && w->ticket.holds == 1);
    pump_until(loop, w->e->ready);
    writer_close(w);
}

static void test_output_that_is_off_is_not_sent(void **state)
{
    (void)state;
    struct writer *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->e = fake_new(&sink_kafka);
    w->e->in.loop = loop;
    fake_text(w->e, "brokers", mock.brokers);
    fake_text(w->e, "scores", "off");
    fake_text(w->e, "dead_letters", "off");
    fake_open(w->e);
    pumped_start(&w->pumped, w->e);
    fill(w);
    w->events[0].verdict = EVENT_BAD_JSON;
    run(w);
    assert_int_equal(w->ticket.holds, 1);
    pump_until(loop, w->e->ready);
    writer_close(w);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_scores_and_alerts_arrive_under_their_user),
        TEST(test_dead_letters_keep_the_bytes_and_say_why),
        TEST(test_refused_messages_are_sent_again),
        TEST(test_lost_acknowledgements_release_nothing_twice),
        TEST(test_score_that_is_too_large_becomes_a_dead_letter),
        TEST(test_small_message_is_not_given_up_for_its_size),
        TEST(test_busy_while_the_broker_is_away),
        TEST(test_output_that_is_off_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
