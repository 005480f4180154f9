// SPDX-License-Identifier: Apache-2.0
// unit_store_redis.c - against a real redis-server: what is saved is loaded, a zombie writes nothing, and every way in
// which Redis can fail ends with the right records and the right W.
#include "redis_server.h"

extern const struct module store_redis;

struct storing {
    struct redis_server *server;
    struct engine *e;
    struct partition *p;
    struct metrics *metrics;
    struct users *users;
};

static struct engine *new_store(struct storing *s)
{
    struct engine *e = fake_new(&store_redis);
    e->in.loop = s->server->loop;
    fake_text(e, "socket", s->server->socket);
    fake_int(e, "timeout_ms", 500);
    fake_open(e);
    return e;
}

static struct partition *open_partition(struct storing *s, struct engine *e, int32_t id)
{
    static uint64_t generation;
    struct partition *p = fake_partition(e, id);
    unsigned before = e->opened;
    p->generation = ++generation;
    fake_flow(e, FLOW_OPEN, p, 0);
    server_until(s->server, e, e->opened > before);
    return p;
}

static int setup(void **state)
{
    struct storing *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->server = server_new();
    s->metrics = metrics_create();
    s->users = users_create(&(struct users_conf){.table_bytes = 16 << 20, .name_bytes = 64}, s->metrics, NULL);
    assert_non_null(s->users);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct storing *s = *state;
    if (s->e)
        fake_free(s->e);
    server_free(s->server);
    users_destroy(&s->users);
    metrics_destroy(&s->metrics);
    free(s);
    return 0;
}

static void begin(struct storing *s, const char *settings)
{
    server_start(s->server, settings);
    s->e = new_store(s);
    s->p = open_partition(s, s->e, 7);
}

static struct user *user_of(struct storing *s, const char *name)
{
    bool made;
    struct user *user = users_get(s->users, 7, str_of(name), &made);
    assert_non_null(user);
    return user;
}

/* Save one record and W, wait for the answer: was it ok? The engine's bookkeeping is done as the engine does it. */
static bool save_by(struct storing *s, struct engine *e, struct partition *p, const char *name, const char *bytes,
                    int64_t offset)
{
    struct save_item item = {.name = str_of(name), .bytes = (const uint8_t *)bytes, .len = (uint32_t)strlen(bytes),
                             .idle_until_ms = clock_system.wall_ms(NULL) + 60000};
    struct commit c = {.partition = p, .offset = offset, .items = &item, .n = 1};
    unsigned ok = e->commits_ok, failed = e->commits_failed;
    store_redis.commit(&e->in, &c);
    server_until(s->server, e, e->commits_ok + e->commits_failed > ok + failed);
    if (e->commits_ok == ok)
        return false;
    p->saved_next = offset;
    return true;
}

static bool save(struct storing *s, const char *name, const char *bytes, int64_t offset)
{
    return save_by(s, s->e, s->p, name, bytes, offset);
}

static void ask(struct storing *s, struct user **users, uint32_t n)
{
    struct batch b = {.loading = users, .loading_n = n};
    fake_forget_loads(s->e);
    store_redis.run(&s->e->in, &b);
}

static const char *load(struct storing *s, const char *name)
{
    static char text[256];
    struct user *user = user_of(s, name);
    ask(s, &user, 1);
    server_until(s->server, s->e, s->e->loads_n == 1);
    const struct fake_load *found = &s->e->loads[0];
    assert_ptr_equal(found->user, user);
    if (!found->bytes)
        return NULL;
    snprintf(text, sizeof text, "%.*s", (int)found->n, (const char *)found->bytes);
    return text;
}

/* ---- without faults -------------------------------------------------------------------------------------------- */

static void test_save_and_load(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(s->e->ready);
    assert_int_equal(s->e->opened_saved, OFFSET_NONE);
    assert_null(load(s, "anna"));
    assert_true(save(s, "anna", "first", 10));
    assert_string_equal(load(s, "anna"), "first");
    assert_true(save(s, "anna", "second", 20));
    assert_string_equal(load(s, "anna"), "second");
    assert_string_equal(server_say(s->server, "GET gait:{7}:at"), "20");
    assert_true(atoi(server_say(s->server, "PTTL gait:{7}:u:anna")) > 50000);
    assert_string_equal(server_say(s->server, "HGET gait:meta format"), "1");
    /* the W alone */
    struct commit c = {.partition = s->p, .offset = 30};
    store_redis.commit(&s->e->in, &c);
    server_until(s->server, s->e, s->e->commits_ok == 3);
    assert_string_equal(server_say(s->server, "GET gait:{7}:at"), "30");
}

static void test_names_are_any_bytes(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "a b\r\n\"{8}\xff", "odd", 10));
    assert_string_equal(load(s, "a b\r\n\"{8}\xff"), "odd");
}

static void test_many_loads_at_once(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    enum { N = 3000 };
    struct user *users[N];
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "user-%d", i);
        users[i] = user_of(s, name);
        if (i % 2)
            server_say(s->server, "SET gait:{7}:u:%s record-%d", name, i);
    }
    ask(s, users, N);
    server_until(s->server, s->e, s->e->loads_n == N);
    for (int i = 0; i < N; i++) {
        const struct fake_load *found = &s->e->loads[i];
        assert_ptr_equal(found->user, users[i]);
        if (i % 2)
            assert_int_equal(atoi((const char *)found->bytes + 7), i);
        else
            assert_null(found->bytes);
    }
}

/* ---- take-over ------------------------------------------------------------------------------------------------- */

static void test_a_zombie_writes_nothing(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "old", 10));
    struct engine *other = new_store(s);
    struct partition *theirs = open_partition(s, other, 7);
    assert_int_equal(other->opened_saved, 10);
    assert_true(theirs->fence > s->p->fence);
    assert_true(save_by(s, other, theirs, "anna", "new", 20));
    assert_false(save(s, "anna", "zombie", 30));
    assert_int_equal(s->e->fenced, 1);
    assert_string_equal(server_say(s->server, "MGET gait:{7}:u:anna gait:{7}:at"), "new 20");
    fake_free(other);
}

/* A zombie that only reads finds out too, and its batches come to their end. */
static void test_a_zombie_notices_when_loading(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "old", 10));
    server_say(s->server, "SET gait:{7}:fence 9999999999999");
    assert_null(load(s, "anna"));
    assert_int_equal(s->e->fenced, 1);
    assert_null(load(s, "anna")); /* of a lost partition: answered without asking */
    assert_int_equal(s->e->fenced, 1);
}

static void test_fences_grow_even_when_forgotten(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    int64_t first = s->p->fence;
    server_say(s->server, "FLUSHALL");
    s->p = open_partition(s, s->e, 8);
    assert_true(s->p->fence >= first);
    server_say(s->server, "SET gait:{9}:fence 9999999999999");
    s->p = open_partition(s, s->e, 9);
    assert_int_equal(s->p->fence, 10000000000000);
}

/* The answer to FLOW_OPEN must not reach a partition that was let go meanwhile. */
static void test_closed_while_opening(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    struct partition *p = fake_partition(s->e, 8);
    p->generation = 77;
    fake_flow(s->e, FLOW_OPEN, p, 0);
    p->state = PARTITION_LOST;
    fake_flow(s->e, FLOW_CLOSED, p, 0);
    s->e->partitions_n--; /* and its memory is gone */
    memset(p, 0xee, sizeof *p);
    unsigned opened = s->e->opened;
    assert_null(load(s, "anna")); /* an answer behind that of the opening */
    assert_int_equal(s->e->opened, opened);
}

static void test_another_number_of_partitions_is_refused(void **state)
{
    struct storing *s = *state;
    server_start(s->server, NULL);
    s->e = new_store(s);
    s->e->input_partitions = 12;
    s->p = open_partition(s, s->e, 7);
    assert_string_equal(server_say(s->server, "HGET gait:meta partitions"), "12");
    s->e->input_partitions = 16;
    struct partition *p = fake_partition(s->e, 8);
    fake_flow(s->e, FLOW_OPEN, p, 0);
    server_until(s->server, s->e, !s->e->ready);
    assert_non_null(strstr(s->e->not_ready_why, "16 partitions"));
    assert_non_null(strstr(s->e->not_ready_why, "12"));
    assert_int_equal(s->e->opened, 1);
    server_say(s->server, "HSET gait:meta partitions 16"); /* moved to the new partitioning */
    s->e->skip_ns += 3000000000;
    server_until(s->server, s->e, s->e->opened == 2);
    assert_true(s->e->ready);
}

/* ---- the group's other daemons ---------------------------------------------------------------------------------- */

static struct engine *refused_start(struct storing *s, const char *settings, const char *content, const char *why)
{
    struct engine *e = new_store(s);
    e->settings = settings;
    e->settings_content = content;
    struct partition *p = fake_partition(e, 9);
    fake_flow(e, FLOW_OPEN, p, 0);
    server_until(s->server, e, !e->ready && strstr(e->not_ready_why, "other settings"));
    if (!strstr(e->not_ready_why, why))
        fail_msg("%s", e->not_ready_why);
    assert_int_equal(e->opened, 0);
    return e;
}

static void test_another_model_is_refused_until_all_have_it(void **state)
{
    struct storing *s = *state;
    const char *ring = "window.rolling.ring=28\n", *next = "window.rolling.ring=28\nmodel=03\nrules=02\n";
    begin(s, NULL);
    struct engine *other = refused_start(s, ring, next, "; model is 01 there, 03 here");
    assert_null(strstr(other->not_ready_why, "rules"));
    s->e->settings_content = next; /* the one at work gets the model too, by a reload, and tells so */
    s->e->skip_ns += 6000000000;
    server_until(s->server, s->e, strstr(server_say(s->server, "HVALS gait:meta"), "model=03"));
    other->skip_ns += 3000000000;
    server_until(s->server, other, other->opened == 1);
    assert_true(other->ready);
    fake_free(other);
}

static void test_other_windows_are_refused_while_their_daemon_runs(void **state)
{
    struct storing *s = *state;
    const char *ring = "window.rolling.ring=56\n", *all = "window.rolling.ring=56\nmodel=01\nrules=02\n";
    begin(s, NULL);
    struct engine *other = refused_start(s, ring, all, "; window.rolling.ring is 28 there, 56 here");
    assert_true(save(s, "anna", "one", 10));
    fake_free(s->e); /* ended in order: nobody waits for its word to become old */
    s->e = NULL;
    other->skip_ns += 3000000000;
    server_until(s->server, other, other->opened == 1);
    fake_free(other);
}

static void test_silent_daemon_is_taken_for_gone(void **state)
{
    struct storing *s = *state;
    const char *ring = "window.rolling.ring=56\n";
    begin(s, NULL);
    struct engine *other = refused_start(s, ring, ring, "model is 01 there, not set here");
    other->wall_ms = clock_system.wall_ms(NULL) + 16000;
    other->skip_ns += 3000000000;
    server_until(s->server, other, other->opened == 1);
    fake_free(other);
}

static void test_other_settings_are_allowed_on_request(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    struct engine *other = new_store(s);
    other->settings = other->settings_content = "window.rolling.ring=56\n";
    const int allow = 1;
    memcpy(fake_option(other, "other_settings"), &allow, sizeof allow);
    open_partition(s, other, 9);
    fake_free(other);
}

/* ---- Redis loses data ------------------------------------------------------------------------------------------ */

static void test_w_fell_back(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "one", 10));
    assert_true(save(s, "anna", "two", 20));
    server_say(s->server, "MSET gait:{7}:at 10 gait:{7}:u:anna one"); /* the tail is gone */
    assert_false(save(s, "berta", "three", 30));
    assert_int_equal(s->e->fenced, 1);
    assert_string_equal(server_say(s->server, "MGET gait:{7}:at gait:{7}:u:berta"), "10 (nil)");
    assert_true(metrics_sum(s->e->metrics, "gait_store_fell_back_total") == 1);
    fake_flow(s->e, FLOW_CLOSED, s->p, 0);
    s->e->partitions_n--;
    s->p = open_partition(s, s->e, 7); /* taken over anew, from the W that is left */
    assert_int_equal(s->e->opened_saved, 10);
    assert_true(save(s, "berta", "three", 30));
}

static void test_w_fell_back_seen_by_a_load(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "two", 20));
    server_say(s->server, "MSET gait:{7}:at 10 gait:{7}:u:anna one");
    assert_null(load(s, "anna"));
    assert_int_equal(s->e->fenced, 1);
}

static void test_flushall(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "two", 20));
    server_say(s->server, "FLUSHALL");
    assert_false(save(s, "anna", "three", 30));
    assert_int_equal(s->e->fenced, 1);
    assert_string_equal(server_say(s->server, "DBSIZE"), "0");
}

static void test_restart_without_data(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "two", 20));
    server_stop(s->server);
    server_start(s->server, NULL);
    server_until(s->server, s->e, s->e->fenced == 1); /* seen without any save or load */
}

/* ---- Redis is away --------------------------------------------------------------------------------------------- */

static void test_absent_at_start(void **state)
{
    struct storing *s = *state;
    s->e = new_store(s);
    assert_false(s->e->ready);
    struct partition *p = fake_partition(s->e, 7);
    fake_flow(s->e, FLOW_OPEN, p, 0);
    for (int i = 0; i < 20; i++)
        server_turn(s->server, s->e);
    assert_non_null(strstr(s->e->not_ready_why, s->server->socket));
    assert_int_equal(s->e->opened, 0);
    server_start(s->server, NULL);
    server_until(s->server, s->e, s->e->opened == 1);
    assert_true(s->e->ready);
}

static void test_restart_with_data(void **state)
{
    struct storing *s = *state;
    begin(s, "--appendonly yes --appendfsync always");
    assert_true(save(s, "anna", "two", 20));
    int64_t fence = s->p->fence;
    server_stop(s->server);
    struct user *users[] = {user_of(s, "anna"), user_of(s, "berta")};
    server_until(s->server, s->e, !s->e->ready);
    ask(s, users, 2); /* asked while it is away: kept */
    assert_false(save(s, "anna", "three", 30));
    server_start(s->server, "--appendonly yes --appendfsync always");
    server_until(s->server, s->e, s->e->loads_n == 2);
    assert_int_equal(s->e->fenced, 0);
    assert_memory_equal(s->e->loads[0].bytes, "two", 3);
    assert_null(s->e->loads[1].bytes);
    assert_true(s->p->fence > fence); /* renewed */
    assert_true(save(s, "anna", "three", 30));
}

static void test_loads_in_flight_when_the_connection_breaks(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    server_say(s->server, "SET gait:{7}:u:anna x");
    struct user *users[] = {user_of(s, "anna"), user_of(s, "berta")};
    for (int round = 0; round < 5; round++) {
        ask(s, users, 2);
        server_say(s->server, "CLIENT KILL TYPE normal SKIPME yes");
        server_until(s->server, s->e, s->e->loads_n == 2);
        assert_memory_equal(s->e->loads[0].bytes, "x", 1);
        assert_null(s->e->loads[1].bytes);
    }
    assert_int_equal(s->e->fenced, 0);
}

static void test_slow(void **state)
{
    struct storing *s = *state;
    begin(s, "--enable-debug-command yes");
    assert_true(save(s, "anna", "one", 10));
    /* our own connection must not wait for the answer */
    assert_int_equal(redisAppendCommand(s->server->client, "DEBUG SLEEP 1.2"), REDIS_OK);
    int written = 0;
    while (!written)
        redisBufferWrite(s->server->client, &written);
    assert_false(save(s, "anna", "two", 20)); /* after timeout_ms */
    assert_false(s->e->ready);
    server_until(s->server, s->e, s->e->ready);
    redisReply *slept = NULL;
    assert_int_equal(redisGetReply(s->server->client, (void **)&slept), REDIS_OK);
    freeReplyObject(slept);
    unsigned fenced = s->e->fenced;
    assert_int_equal(fenced, 0);
    assert_true(save(s, "anna", "three", 30));
    assert_string_equal(server_say(s->server, "MGET gait:{7}:u:anna gait:{7}:at"), "three 30");
}

/* ---- Redis refuses --------------------------------------------------------------------------------------------- */

static void test_out_of_memory(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "one", 10));
    server_say(s->server, "CONFIG SET maxmemory 1000");
    assert_false(save(s, "anna", "two", 20));
    assert_string_equal(load(s, "anna"), "one"); /* reading goes on */
    assert_int_equal(s->e->fenced, 0);
    assert_string_equal(server_say(s->server, "GET gait:{7}:at"), "10");
    assert_true(metrics_sum(s->e->metrics, "gait_redis_errors_total") > 0);
    server_say(s->server, "CONFIG SET maxmemory 0");
    assert_true(save(s, "anna", "two", 20));
}

static void test_read_only(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    assert_true(save(s, "anna", "one", 10));
    server_say(s->server, "REPLICAOF 127.0.0.1 1");
    assert_false(save(s, "anna", "two", 20));
    assert_false(s->e->ready); /* it connects anew: the name may lead to the new master */
    server_say(s->server, "REPLICAOF NO ONE");
    server_until(s->server, s->e, s->e->ready);
    assert_true(save(s, "anna", "two", 20));
    assert_int_equal(s->e->fenced, 0);
}

static void test_scripts_are_forgotten(void **state)
{
    struct storing *s = *state;
    begin(s, NULL);
    server_say(s->server, "SCRIPT FLUSH");
    assert_false(save(s, "anna", "one", 10));
    server_until(s->server, s->e, s->e->ready);
    assert_true(save(s, "anna", "one", 10));
}

static void test_password(void **state)
{
    struct storing *s = *state;
    server_start(s->server, NULL);
    server_say(s->server, "ACL SETUSER gait on >secret ~gait:* +@all");
    server_say(s->server, "ACL SETUSER default resetpass off");
    s->e = fake_new(&store_redis);
    s->e->in.loop = s->server->loop;
    fake_text(s->e, "socket", s->server->socket);
    fake_text(s->e, "user", "gait");
    fake_text(s->e, "password", "wrong");
    fake_open(s->e);
    server_until(s->server, s->e, s->e->not_ready_why && strstr(s->e->not_ready_why, "refuses"));
    assert_null(strstr(s->e->not_ready_why, "wrong"));
    fake_text(s->e, "password", "secret");
    server_until(s->server, s->e, s->e->ready);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_save_and_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_are_any_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_loads_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_zombie_writes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_zombie_notices_when_loading, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fences_grow_even_when_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closed_while_opening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_number_of_partitions_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_model_is_refused_until_all_have_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_windows_are_refused_while_their_daemon_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silent_daemon_is_taken_for_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_settings_are_allowed_on_request, setup, teardown),
        cmocka_unit_test_setup_teardown(test_w_fell_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_w_fell_back_seen_by_a_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flushall, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_without_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent_at_start, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart_with_data, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loads_in_flight_when_the_connection_breaks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scripts_are_forgotten, setup, teardown),
        cmocka_unit_test_setup_teardown(test_password, setup, teardown),
    };
    if (!redis_is_there()) {
        fputs("unit_store_redis: skipped, there is no redis-server on PATH\n", stderr);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
