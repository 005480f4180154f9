// SPDX-License-Identifier: Apache-2.0
// unit_sink_redis.c - against a real redis-server: the latest values arrive once, saves wait for them, a zombie writes
// nothing, and a broken connection neither loses nor overwrites anything.
#include "redis_server.h"

#include "gait/model.h"

#include <math.h>

extern const struct module sink_redis;

enum { N = 8 };

struct serve {
    struct redis_server *server;
    struct engine *e;
    struct partition *p;
    struct users *users;
    struct metrics *metrics;
    struct model *model;
    struct event events[N];
    struct score scores[N];
    float risk[N];
    double columns[N];
    struct ticket ticket;
    struct batch batch;
};

static struct engine *new_sink(struct serve *s)
{
    static const char *features[] = {"count.purchase.24h"};
    struct engine *e = fake_new(&sink_redis);
    struct option_strings list = {features, 1};
    e->in.loop = s->server->loop;
    columns_add(e->columns, "count.purchase.24h", "Purchases.");
    fake_text(e, "socket", s->server->socket);
    fake_int(e, "timeout_ms", 500);
    fake_int(e, "every_ms", 20);
    memcpy(fake_option(e, "features"), &list, sizeof list);
    fake_open(e);
    e->in.users = s->users;
    return e;
}

static struct model *make_model(const char *first)
{
    struct model *m = model_create();
    struct str names[] = {str_of(first), str_of("b\"2")};
    struct error err;
    if (model_add_embedding(m, MODEL_CATEGORY, 2, names, 2, &err) < 0 || model_add_layer(m, 4, &err) < 0 ||
        model_add_head(m, "interest", MODEL_SOFTMAX, "category", names, 2, &err) < 0 ||
        model_seal(m, &err) < 0)
        fail_msg("model: %s", err.text);
    return m;
}

static int setup(void **state)
{
    struct serve *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->server = server_new();
    s->metrics = metrics_create();
    s->model = make_model("shoes");
    s->users = users_create(&(struct users_conf){.table_bytes = 1 << 20, .name_bytes = 64, .section_bytes = 512},
                            s->metrics, NULL);
    assert_non_null(s->users);
    *state = s;
    return 0;
}

static struct partition *own(struct engine *e, int64_t fence)
{
    struct partition *p = fake_partition(e, 7);
    p->state = PARTITION_OPEN;
    p->fence = fence;
    return p;
}

static void begin(struct serve *s)
{
    server_start(s->server, NULL);
    s->e = new_sink(s);
    s->e->in.user_offset = users_sections_offset(s->users);
    s->p = own(s->e, 1000);
    server_until(s->server, s->e, s->e->ready);
}

static int teardown(void **state)
{
    struct serve *s = *state;
    fake_free(s->e);
    server_free(s->server);
    users_destroy(&s->users);
    metrics_destroy(&s->metrics);
    model_destroy(&s->model);
    free(s);
    return 0;
}

static struct user *user_of(struct serve *s, const char *name)
{
    bool made;
    struct user *user = users_get(s->users, 7, str_of(name), &made);
    assert_non_null(user);
    user->state = USER_READY;
    return user;
}

/* One event for each name. Values: the event's time `ts`, p and risk a hundredth and a thousandth of it. */
static void run_by(struct serve *s, struct engine *e, int64_t ts, const char *const *names, uint32_t n)
{
    s->batch = (struct batch){.events = s->events, .n = n, .cap = N, .scores = s->scores, .risk = s->risk,
                              .columns = s->columns, .columns_n = 1, .model = s->model, .ticket = &s->ticket};
    for (uint32_t i = 0; i < n; i++) {
        s->events[i] = (struct event){.partition = 7, .ts_ms = ts, .record = user_of(s, names[i])};
        s->scores[i] = (struct score){.publish = true, .n = 2, .intent = 0.5F, .top_id = {1, 0},
                                      .top_p = {0.75F, 0.25F}};
        s->risk[i] = (float)ts / 1000;
        s->columns[i] = (double)ts / 100;
    }
    sink_redis.run(&e->in, &s->batch);
}

static void run(struct serve *s, int64_t ts, const char *name)
{
    run_by(s, s->e, ts, &name, 1);
}

static const char *field(struct serve *s, const char *user, const char *name)
{
    return server_say(s->server, "HGET gait:user:%s %s", user, name);
}

static void settle(struct serve *s)
{
    server_until(s->server, s->e, s->ticket.save_holds == 0);
}

static void test_fields(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 2000, "anna");
    assert_int_equal(s->ticket.holds, 0);      /* Kafka's offsets need not wait */
    assert_int_equal(s->ticket.save_holds, 1); /* the records do */
    settle(s);
    assert_string_equal(field(s, "anna", "interests"),
                        "[{\"category\":\"b\\\"2\",\"score\":0.75},{\"category\":\"shoes\",\"score\":0.25}]");
    assert_string_equal(field(s, "anna", "intent"), "0.5");
    assert_string_equal(field(s, "anna", "risk"), "2");
    assert_string_equal(field(s, "anna", "event_ts"), "2000");
    assert_string_equal(field(s, "anna", "model"), model_id(s->model));
    assert_string_equal(field(s, "anna", "degraded"), "0");
    assert_string_equal(field(s, "anna", "count.purchase.24h"), "20");
    int64_t written = atoll(field(s, "anna", "written_ts")), now = clock_system.wall_ms(NULL);
    assert_true(written <= now && written > now - 10000);
    assert_true(atoi(server_say(s->server, "TTL gait:user:anna")) > 2000000);
    assert_int_equal(user_of(s, "anna")->pins, 0);
}

static void test_values_that_are_not_there(void **state)
{
    struct serve *s = *state;
    begin(s);
    const char *name = "anna";
    run_by(s, s->e, 2000, &name, 1);
    settle(s);
    struct model *none = NULL;
    s->batch.model = none;
    s->scores[0].n = 0;
    s->events[0] = (struct event){.partition = 7, .ts_ms = 3000, .record = user_of(s, "berta")};
    s->columns[0] = NAN;
    sink_redis.run(&s->e->in, &s->batch);
    settle(s);
    assert_string_equal(field(s, "berta", "interests"), "[]");
    assert_string_equal(field(s, "berta", "intent"), "null" + 4);
    assert_string_equal(field(s, "berta", "model"), "");
    assert_string_equal(field(s, "berta", "count.purchase.24h"), "");
    assert_string_equal(field(s, "berta", "event_ts"), "3000");
}

static void test_many_events_one_write(void **state)
{
    struct serve *s = *state;
    begin(s);
    fake_int(s->e, "every_ms", 100);
    for (int i = 1; i <= 50; i++) {
        const char *names[] = {"anna", "anna", "berta", "anna"};
        run_by(s, s->e, i, names, 4);
    }
    settle(s);
    assert_true(metrics_sum(s->e->metrics, "gait_serving_written_total") == 2);
    assert_string_equal(field(s, "anna", "event_ts"), "50");
    assert_string_equal(field(s, "berta", "event_ts"), "50");
}

static void test_dropped_events_write_nothing(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    settle(s);
    s->events[0].verdict = EVENT_ALREADY_APPLIED;
    s->events[0].ts_ms = 5;
    sink_redis.run(&s->e->in, &s->batch);
    assert_int_equal(s->ticket.save_holds, 0);
    assert_string_equal(field(s, "anna", "event_ts"), "1");
}

/* More users than one call takes, from many batches; silent ones (replay) are refreshed too. */
static void test_many_users(void **state)
{
    struct serve *s = *state;
    begin(s);
    char names[600][16];
    for (int i = 0; i < 600; i++) {
        const char *name = names[i];
        snprintf(names[i], sizeof names[i], "user-%d", i);
        run_by(s, s->e, i + 1, &name, 1);
        s->events[0].silent = true;
    }
    settle(s);
    for (int i = 0; i < 600; i++)
        assert_int_equal(atoi(field(s, names[i], "event_ts")), i + 1);
    assert_true(metrics_sum(s->e->metrics, "gait_serving_written_total") == 600);
}

static void test_a_new_model_while_waiting(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    model_destroy(&s->model); /* as after a reload */
    s->model = make_model("hats");
    run(s, 2, "berta");
    settle(s);
    assert_non_null(strstr(field(s, "anna", "interests"), "shoes"));
    assert_non_null(strstr(field(s, "berta", "interests"), "hats"));
}

static void test_a_zombie_writes_nothing(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    settle(s);
    struct engine *other = new_sink(s);
    other->in.user_offset = s->e->in.user_offset;
    own(other, 1001);
    server_until(s->server, other, other->ready);
    const char *name = "berta";
    run_by(s, other, 2, &name, 1);
    server_until(s->server, other, s->ticket.save_holds == 0);
    run(s, 3, "anna"); /* the zombie wakes up */
    server_until(s->server, s->e, metrics_sum(s->e->metrics, "gait_serving_refused_total") == 1);
    settle(s); /* its save is let through to the store, whose fence refuses it */
    run(s, 4, "anna");
    settle(s);
    assert_string_equal(field(s, "anna", "event_ts"), "1");
    assert_string_equal(field(s, "berta", "event_ts"), "2");
    assert_int_equal(user_of(s, "anna")->pins, 0);
    fake_free(other);
}

static void test_redis_away(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    settle(s);
    server_stop(s->server);
    server_until(s->server, s->e, !s->e->ready);
    run(s, 2, "anna");
    run(s, 3, "berta");
    for (int i = 0; i < 10; i++)
        server_turn(s->server, s->e);
    assert_int_equal(s->ticket.save_holds, 2);
    server_start(s->server, NULL);
    settle(s);
    assert_string_equal(field(s, "anna", "event_ts"), "2");
    assert_string_equal(field(s, "berta", "event_ts"), "3");
}

/* The connection breaks while calls are on their way, again and again: nothing is lost, nothing old comes last. */
static void test_connection_breaks(void **state)
{
    struct serve *s = *state;
    begin(s);
    const char *names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    for (int i = 1; i <= 60; i++) {
        run_by(s, s->e, i, names, N);
        server_turn(s->server, s->e);
        if (i % 7 == 0)
            server_say(s->server, "CLIENT KILL TYPE normal SKIPME yes");
    }
    settle(s);
    for (int i = 0; i < N; i++) {
        assert_string_equal(field(s, names[i], "event_ts"), "60");
        assert_int_equal(user_of(s, names[i])->pins, 0);
    }
}

static void test_slow(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    settle(s);
    pid_t pid = s->server->pid;
    kill(pid, SIGSTOP);
    run(s, 2, "anna");
    server_until(s->server, s->e, !s->e->ready); /* sent, no answer: given up */
    run(s, 3, "anna");
    kill(pid, SIGCONT);
    settle(s);
    assert_string_equal(field(s, "anna", "event_ts"), "3");
}

static void test_flushall_and_out_of_memory(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    settle(s);
    server_say(s->server, "FLUSHALL");
    run(s, 2, "anna");
    settle(s);
    assert_string_equal(field(s, "anna", "event_ts"), "2");
    assert_true(atoi(server_say(s->server, "TTL gait:user:anna")) > 2000000);
    server_say(s->server, "CONFIG SET maxmemory 1000");
    run(s, 3, "anna");
    server_until(s->server, s->e, metrics_sum(s->e->metrics, "gait_redis_errors_total") > 0);
    server_say(s->server, "CONFIG SET maxmemory 0");
    settle(s);
    assert_string_equal(field(s, "anna", "event_ts"), "3");
}

static void test_partition_goes_while_waiting(void **state)
{
    struct serve *s = *state;
    begin(s);
    run(s, 1, "anna");
    server_turn(s->server, s->e);
    fake_int(s->e, "every_ms", 60000);
    run(s, 2, "anna");
    run(s, 2, "berta");
    s->p->state = PARTITION_LOST;
    fake_flow(s->e, FLOW_CLOSED, s->p, 0);
    assert_int_equal(s->ticket.save_holds, 0);
    users_remove(s->users, user_of(s, "anna"));
    users_remove(s->users, user_of(s, "berta"));
    for (int i = 0; i < 10; i++)
        server_turn(s->server, s->e);
}

/* Closing and draining do not wait for every_ms. */
static void test_at_once_when_closing(void **state)
{
    struct serve *s = *state;
    begin(s);
    fake_int(s->e, "every_ms", 60000);
    run(s, 1, "anna");
    s->p->state = PARTITION_CLOSING;
    settle(s);
    s->p->state = PARTITION_OPEN;
    run(s, 2, "anna");
    fake_flow(s->e, FLOW_DRAIN, NULL, 0);
    settle(s);
    assert_string_equal(field(s, "anna", "event_ts"), "2");
}

static void test_unknown_feature(void **state)
{
    struct serve *s = *state;
    s->e = fake_new(&sink_redis);
    static const char *features[] = {"count.purchase.24"};
    struct option_strings list = {features, 1};
    columns_add(s->e->columns, "count.purchase.24h", "Purchases.");
    memcpy(fake_option(s->e, "features"), &list, sizeof list);
    assert_int_equal(sink_redis.open(&s->e->in, true, &s->e->err), -1);
    assert_non_null(strstr(s->e->err.text, "do you mean count.purchase.24h"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fields, setup, teardown),
        cmocka_unit_test_setup_teardown(test_values_that_are_not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_events_one_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dropped_events_write_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_users, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_new_model_while_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_zombie_writes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_redis_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_connection_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flushall_and_out_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_partition_goes_while_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_at_once_when_closing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_feature, setup, teardown),
    };
    if (!redis_is_there()) {
        fputs("unit_sink_redis: skipped, there is no redis-server on PATH\n", stderr);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
