// SPDX-License-Identifier: Apache-2.0
// unit_source_kafka.c - the consumer group against a mock cluster: where reading begins, what is committed, and how
// partitions come, go, and come back.
#include "mock_kafka.h"

extern const struct module source_kafka;

enum { PARTITIONS = 4, CAP = 64 };

struct reader {
    struct pumped pumped;
    struct engine *e;
    struct event events[CAP];
    struct batch batch;
    int64_t next[FAKE_PARTITIONS]; /* the offset that must come next */
    unsigned got;
    unsigned answered;             /* assignments that the test has followed up */
};

static struct ev_loop *loop;
static struct mock mock;

static int setup(void **state)
{
    (void)state;
    loop = ev_loop_new(EVFLAG_AUTO);
    mock_start(&mock);
    rd_kafka_mock_topic_create(mock.cluster, "clicks", PARTITIONS, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mock_stop(&mock);
    ev_loop_destroy(loop);
    return 0;
}

static struct reader *reader_new(void)
{
    struct reader *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->e = fake_new(&source_kafka);
    r->e->in.loop = loop;
    r->batch = (struct batch){.events = r->events, .cap = CAP};
    fake_text(r->e, "brokers", mock.brokers);
    fake_text(r->e, "topic", "clicks");
    return r;
}

static struct reader *reader_open(void)
{
    struct reader *r = reader_new();
    fake_open(r->e);
    pumped_start(&r->pumped, r->e);
    return r;
}

static void reader_close(struct reader *r)
{
    if (r->pumped.e)
        pumped_stop(&r->pumped);
    fake_free(r->e);
    free(r);
}

/* Let each newly assigned partition begin at `offset`. */
static void start_assigned(struct reader *r, int64_t offset)
{
    for (; r->answered < r->e->assigned; r->answered++) {
        int32_t id = r->e->assigned_ids[r->answered % FAKE_PARTITIONS];
        struct partition *p = engine_partition(r->e, id);
        if (!p)
            p = fake_partition(r->e, id);
        r->next[id] = offset < 0 ? 0 : offset;
        fake_flow(r->e, FLOW_START, p, offset);
    }
}

/* What the engine does when a partition is finished. */
static void close_partition(struct reader *r, int32_t id)
{
    struct partition *p = engine_partition(r->e, id);
    assert_non_null(p);
    struct partition copy = *p;
    *p = r->e->partitions[--r->e->partitions_n];
    fake_flow(r->e, FLOW_CLOSED, &copy, 0);
}

static bool read_some(struct reader *r)
{
    struct batch *b = &r->batch;
    b->n = 0;
    r->e->in.module->run(&r->e->in, b);
    for (uint32_t i = 0; i < b->n; i++) {
        const struct event *event = &b->events[i];
        char value[32];
        assert_int_equal(event->offset, r->next[event->partition]);
        snprintf(value, sizeof value, "%d:%d", (int)event->partition, (int)event->offset);
        assert_true(str_is(event->raw, value));
        snprintf(value, sizeof value, "k%d", (int)event->offset);
        assert_true(str_is(event->key, value));
        assert_true(event->log_ms > 1600000000000);
        assert_true(event->fetched_ns > 0);
        assert_int_equal(event->verdict, EVENT_OK);
        r->next[event->partition]++;
        r->got++;
    }
    if (b->input_done)
        b->input_done(b->input);
    b->input_done = NULL;
    return b->n > 0;
}

static void commit_offset(struct reader *r, int32_t id, int64_t offset)
{
    struct commit c = {.partition = engine_partition(r->e, id), .offset = offset};
    unsigned answers = r->e->commits_ok + r->e->commits_failed;
    r->e->in.module->commit(&r->e->in, &c);
    pump_until(loop, r->e->commits_ok + r->e->commits_failed > answers);
}

/* ---- the life of a member, chapter by chapter: a mock group takes three seconds to form, so it is not formed anew for
 * each ------------------------------------------------------------------------------------------------------------- */

static struct reader *first;

static void test_absent_broker_is_waited_for(void **state)
{
    (void)state;
    for (int32_t id = 0; id < PARTITIONS; id++)
        mock_produce(&mock, "clicks", id, 0, 20);
    rd_kafka_mock_broker_set_down(mock.cluster, 1);
    first = reader_open();
    for (int i = 0; i < 20; i++)
        ev_run(loop, EVRUN_ONCE);
    assert_false(first->e->ready);
    assert_string_equal(first->e->not_ready_why, "no Kafka broker can be reached");
    rd_kafka_mock_broker_set_up(mock.cluster, 1);
}

/* "Unknown" must not be taken for "none": that would replay with outputs. */
static void test_committed_offsets_are_asked_until_they_are_known(void **state)
{
    (void)state;
    rd_kafka_mock_push_request_errors(mock.cluster, 9 /* OffsetFetch */, 2,
                                      RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
                                      RD_KAFKA_RESP_ERR_UNKNOWN);
    pump_until(loop, first->e->assigned == PARTITIONS);
    assert_int_equal(first->e->assigned_committed, OFFSET_NONE);
}

/* The store compares it with what its records were made for, so it must know before it is asked for one. */
static void test_the_topics_size_is_told_before_its_partitions(void **state)
{
    (void)state;
    assert_int_equal(first->e->assigned_input_partitions, PARTITIONS);
}

/* Nothing is read before the last partition of the assignment has been opened. */
static void test_reading_waits_for_the_store(void **state)
{
    (void)state;
    for (int i = 0; i < PARTITIONS - 1; i++)
        fake_flow(first->e, FLOW_START, fake_partition(first->e, first->e->assigned_ids[i]), OFFSET_EARLIEST);
    for (int i = 0; i < 20; i++) {
        ev_run(loop, EVRUN_ONCE);
        assert_false(read_some(first));
    }
    fake_flow(first->e, FLOW_START, fake_partition(first->e, first->e->assigned_ids[PARTITIONS - 1]), OFFSET_NONE);
    first->answered = PARTITIONS;
    pump_until(loop, (read_some(first), first->got == PARTITIONS * 20));
    pump_until(loop, first->e->ready);
    assert_string_equal(first->e->in.input, "clicks");
}

static void test_commits_are_answered(void **state)
{
    (void)state;
    rd_kafka_mock_push_request_errors(mock.cluster, 8 /* OffsetCommit */, 1,
                                      RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE);
    commit_offset(first, 0, 10);
    assert_int_equal(first->e->commits_failed, 1);
    for (int32_t id = 0; id < PARTITIONS; id++)
        commit_offset(first, id, 10);
    assert_int_equal(first->e->commits_ok, PARTITIONS);
}

/* The store refused our fence, or the transaction was aborted, but the group knows of no other owner. */
static void test_dropped_partition_is_taken_over_anew(void **state)
{
    (void)state;
    close_partition(first, 0);
    first->e->in.module->flow(&first->e->in, &(struct flow){.kind = FLOW_REOPEN, .id = 0});
    mock_produce(&mock, "clicks", 0, 20, 5);
    for (int i = 0; i < 20; i++) {
        ev_run(loop, EVRUN_ONCE);
        assert_false(read_some(first));
        assert_int_equal(first->e->assigned, PARTITIONS);
    }
    first->e->skip_ns += 3000000000; /* by then the group would have told us that we are a zombie */
    pump_until(loop, first->e->assigned == PARTITIONS + 1);
    assert_int_equal(first->e->assigned_committed, 10);
    first->got = 0;
    start_assigned(first, 7); /* W is behind C */
    pump_until(loop, (read_some(first), first->got == 25 - 7));
}

/* A second member: the first is asked for some partitions and keeps them until it has finished. */
static void test_partitions_move_only_when_finished(void **state)
{
    (void)state;
    struct reader *second = reader_open();
    pump_until(loop, first->e->revoked == PARTITIONS / 2);
    for (int i = 0; i < 20; i++)
        ev_run(loop, EVRUN_ONCE);
    assert_int_equal(second->e->assigned, 0);

    for (unsigned ok = first->e->commits_ok; first->e->commits_ok == ok;) /* the group may ask for patience */
        commit_offset(first, first->e->revoked_ids[0], 15);
    for (int i = 0; i < PARTITIONS / 2; i++)
        close_partition(first, first->e->revoked_ids[i]);
    pump_until(loop, second->e->assigned == PARTITIONS / 2);
    start_assigned(second, 3);
    pump_until(loop, (read_some(second), second->got >= PARTITIONS / 2 * 17));
    assert_int_equal(first->e->lost, 0);
    first->got = 0;
    for (int32_t id = 0; id < PARTITIONS; id++)
        mock_produce(&mock, "clicks", id, id == 0 ? 25 : 20, 5);
    pump_until(loop, (read_some(first), first->got == PARTITIONS / 2 * 5));
    reader_close(second);
    reader_close(first);
}

/* Dropped, then given away, then given back: what was fetched no more in its earlier life is fetched in this one. */
static void test_dropped_partition_that_moved_is_read_when_it_comes_back(void **state)
{
    (void)state;
    struct reader *r = reader_open();
    pump_until(loop, r->e->assigned == PARTITIONS);
    start_assigned(r, 0);
    pump_until(loop, (read_some(r), r->got >= PARTITIONS * 20));
    for (int32_t id = 0; id < PARTITIONS; id++)
        close_partition(r, id);
    struct reader *other = reader_open();
    pump_until(loop, other->e->assigned == PARTITIONS / 2);
    start_assigned(other, 0);
    pump_until(loop, (read_some(other), other->got >= PARTITIONS / 2 * 20));
    reader_close(other);
    pump_until(loop, r->e->assigned == PARTITIONS + PARTITIONS / 2);
    r->got = 0;
    start_assigned(r, 0);
    pump_until(loop, (read_some(r), r->got >= PARTITIONS / 2 * 20));
    reader_close(r);
}

static int open_with_setting(const char *name, const char *value, struct error *err)
{
    struct reader *r = reader_new();
    const char *values[] = {value};
    struct option_map_entry entry = {.key = name, .values = {values, 1}};
    struct option_map map = {&entry, 1};
    memcpy(fake_option(r->e, "settings"), &map, sizeof map);
    int rc = r->e->in.module->open(&r->e->in, true, err);
    reader_close(r);
    return rc;
}

static void test_settings_are_checked_without_connecting(void **state)
{
    (void)state;
    struct error err = {""};
    assert_int_equal(open_with_setting("fetch.wait.max.ms", "50", &err), 0);
    assert_int_equal(open_with_setting("enable.auto.commit", "true", &err), -1);
    assert_non_null(strstr(err.text, "enable.auto.commit cannot be set here"));
    assert_int_equal(open_with_setting("auto.offset.reset", "latest", &err), -1);
    assert_non_null(strstr(err.text, "option start"));
    assert_int_equal(open_with_setting("fetch.wait.max.msec", "50", &err), -1);
    assert_non_null(strstr(err.text, "no setting 'fetch.wait.max.msec'"));
    assert_int_equal(open_with_setting("security.protocol", "hunter2", &err), -1);
    assert_non_null(strstr(err.text, "security.protocol"));
    assert_null(strstr(err.text, "hunter2")); /* a value may be a secret in the wrong place */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_are_checked_without_connecting),
        cmocka_unit_test(test_absent_broker_is_waited_for),
        cmocka_unit_test(test_committed_offsets_are_asked_until_they_are_known),
        cmocka_unit_test(test_the_topics_size_is_told_before_its_partitions),
        cmocka_unit_test(test_reading_waits_for_the_store),
        cmocka_unit_test(test_commits_are_answered),
        cmocka_unit_test(test_dropped_partition_is_taken_over_anew),
        cmocka_unit_test(test_partitions_move_only_when_finished),
        cmocka_unit_test(test_dropped_partition_that_moved_is_read_when_it_comes_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
