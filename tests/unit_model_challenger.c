// SPDX-License-Identifier: Apache-2.0
// unit_model_challenger.c - a challenger in shadow over real records: its predictions are those that it would have made
// at work, nothing shows of it in scores, and only one that is better by the margin takes the model's place.
#include "support.h"

#include "model_maker.h"

#include "gait/challenger.h"
#include "gait/log.h"
#include "gait/lstm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module window_rolling, model_lstm, model_challenger, score_interest;

#define T0 INT64_C(1700000000000)
enum { MINUTE = 60000, EVENTS = 1500, USERS = 40, CATEGORIES = 9, TICKS_TO_LOOK = 10, RING = 200, EVENTS_MIN = 500 };

static char folder[] = "/tmp/gait-challenger-XXXXXX";
static char path[64], file[64];
static const char *const columns[] = {"count.all.1h", "gap", NULL};
static const struct model_shape shape = {.categories = CATEGORIES, .category_width = 4, .types = 13, .type_width = 3,
                                         .columns = columns, .hidden = {8}, .interest = true, .intent = true};

/* `knows`: how strongly it leans to the category that the stream prefers; 0 = not at all. */
static void save(const char *to, const struct model_shape *s, uint64_t seed, float knows)
{
    struct error err;
    struct model *m = model_make(s, seed);
    if (s->interest)
        m->heads[m->interest].bias[3] += knows;
    if (model_save(m, to, &err) < 0)
        fail_msg("%s", err.text);
    model_destroy(&m);
}

struct with {
    double share, margin;
    int promote;
    int64_t bytes;
};
static const struct with defaults = {.share = 1, .margin = 0.01, .bytes = 1 << 20};

static struct rig *rig_with(const struct with *with)
{
    struct rig *rig = rig_new(NULL);
    const char *at = path, *shadow = with ? file : NULL;
    void *window = rig_conf(rig, &window_rolling), *model = rig_conf(rig, &model_lstm);
    void *challenger = rig_conf(rig, &model_challenger), *score = rig_conf(rig, &score_interest);
    with = with ? with : &defaults;
    rig_set_int(window, &window_rolling, "ring", RING);
    rig_set(model, &model_lstm, "path", &at, sizeof at);
    rig_set(challenger, &model_challenger, "file", &shadow, sizeof shadow);
    rig_set(challenger, &model_challenger, "share", &with->share, sizeof with->share);
    rig_set(challenger, &model_challenger, "margin", &with->margin, sizeof with->margin);
    rig_set(challenger, &model_challenger, "promote", &with->promote, sizeof with->promote);
    rig_set_int(challenger, &model_challenger, "bytes", with->bytes);
    rig_set_int(challenger, &model_challenger, "events", EVENTS_MIN);
    rig_open(rig, &window_rolling, window, NULL);
    rig_open(rig, &model_lstm, model, NULL);
    rig_open(rig, &model_challenger, challenger, NULL);
    rig_open(rig, &score_interest, score, NULL);
    rig_ready(rig, 8 << 20);
    return rig;
}

static struct challenger_status status_of(const struct rig *rig)
{
    struct challenger_status status;
    challenger_status(&rig->engine->instances[2], &status);
    return status;
}

static double cell(const struct rig *rig, const char *name, const char *label)
{
    return metric_cell(rig->engine->metrics, name, label)->value;
}

static uint64_t id_at_work(const struct rig *rig)
{
    return lstm_at_work(engine_instance(rig->engine, STAGE_MODEL))->model->id;
}

static uint64_t id_of(const char *at)
{
    struct error err;
    struct model *m = model_load(at, &err);
    if (!m)
        return 0;
    uint64_t id = m->id;
    model_destroy(&m);
    return id;
}

/* Event k of a fixed stream: two thirds are about c3, some name what no model knows. */
static struct event *add_event(struct rig *rig, int k)
{
    static const char *const names[CATEGORIES + 1] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "new"};
    static char users[USERS][8];
    uint64_t seed = (uint64_t)k * 2654435761u + 1;
    random_next(&seed);
    char *user = users[random_next(&seed) % USERS];
    snprintf(user, sizeof users[0], "u%d", (int)(user - users[0]) / (int)sizeof users[0]);
    int type = random_next(&seed) % 20 == 0 ? EVENT_PURCHASE : EVENT_PRODUCT_VIEW;
    struct event *event = rig_event(rig, user, type, T0 + (int64_t)k * MINUTE);
    event->log_ms = event->ts_ms;
    event->category = str_of(names[random_next(&seed) % 3 ? 3 : random_next(&seed) % (CATEGORIES + 1)]);
    return event;
}

/* Intent and surprise after each event into `said` [EVENTS × 2], unless it is NULL. */
static void run_stream(struct rig *rig, int from, int to, int batch, float *said)
{
    for (int k = from; k < to;) {
        int first = k;
        for (; k < to && k < first + batch; k++)
            add_event(rig, k);
        rig_run(rig);
        for (int i = first; said && i < k; i++) {
            said[2 * i] = rig->batch.scores[i - first].intent;
            said[2 * i + 1] = rig->batch.scores[i - first].surprise;
        }
        rig_clear(rig);
        rig_tick(rig);
    }
}

/* What a challenger predicts in shadow is what it would have predicted at work, whatever the batches. */
static void in_shadow_it_says_what_it_would_say_at_work(void **state)
{
    (void)state;
    save(path, &shape, 2, 0);
    struct rig *rig = rig_with(NULL);
    run_stream(rig, 0, EVENTS, 30, NULL);
    double n = rig_metric(rig, "gait_model_predictions_total"), loss = rig_metric(rig, "gait_model_log_loss_total");
    double ranks = rig_metric(rig, "gait_model_reciprocal_ranks_total"), hits = cell(rig, "gait_model_hits_total", "5");
    rig_free(&rig);
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 0);
    static const int sizes[] = {1, 30, 500};
    for (size_t i = 0; i < 3; i++) {
        rig = rig_with(&defaults);
        run_stream(rig, 0, EVENTS, sizes[i], NULL);
        assert_true(cell(rig, "gait_shadow_predictions_total", "challenger") == n);
        assert_true(cell(rig, "gait_shadow_predictions_total", "serving") == n);
        assert_true(fabs(cell(rig, "gait_shadow_log_loss_total", "challenger") - loss) < 1e-3);
        assert_true(fabs(cell(rig, "gait_shadow_log_loss_total", "serving") -
                         rig_metric(rig, "gait_model_log_loss_total")) < 1e-3);
        assert_true(fabs(cell(rig, "gait_shadow_reciprocal_ranks_total", "challenger") - ranks) < 1e-3);
        assert_true(cell(rig, "gait_shadow_hits_total", "challenger" METRIC_VALUES_SEPARATOR "5") == hits);
        double intents = cell(rig, "gait_shadow_intents_total", "serving");
        assert_true(intents > USERS && intents < EVENTS);
        double brier = cell(rig, "gait_shadow_intent_squares_total", "challenger") / intents;
        assert_true(brier > 0 && brier < 1);
        rig_free(&rig);
    }
}

static void nothing_shows_of_it(void **state)
{
    (void)state;
    static float alone[EVENTS * 2], with[EVENTS * 2];
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 0);
    struct rig *rig = rig_with(NULL);
    run_stream(rig, 0, EVENTS, 50, alone);
    size_t bytes = rig_round_trip(rig, "u3");
    assert_int_equal(status_of(rig).state, CHALLENGER_OFF);
    rig_free(&rig);
    rig = rig_with(&defaults);
    run_stream(rig, 0, EVENTS, 50, with);
    assert_int_equal(rig_round_trip(rig, "u3"), bytes);
    assert_true(status_of(rig).pairs > EVENTS / 2);
    rig_free(&rig);
    assert_memory_equal(alone, with, sizeof alone);
}

static void a_better_one_is_promoted_and_only_once(void **state)
{
    (void)state;
    struct with with = defaults;
    with.promote = 1;
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 2);
    uint64_t before = id_of(path), challenger = id_of(file);
    struct rig *rig = rig_with(&with);
    run_stream(rig, 0, EVENTS_MIN / 2, 10, NULL);
    assert_true(id_at_work(rig) == before); /* too few events, whatever the evidence */
    run_stream(rig, EVENTS_MIN / 2, EVENTS, 10, NULL);
    assert_true(id_at_work(rig) == challenger && id_of(path) == challenger);
    char previous[80], promoted[80];
    snprintf(previous, sizeof previous, "%s.previous", path);
    snprintf(promoted, sizeof promoted, "%s.promoted", file);
    assert_true(id_of(previous) == before && id_of(promoted) == challenger && access(file, F_OK) < 0);
    struct challenger_status status = status_of(rig);
    assert_int_equal(status.promotions, 1);
    assert_int_equal(status.state, CHALLENGER_WAITING);
    assert_true(cell(rig, "gait_challenger_promotions_total", "promoted") == 1);
    /* back to the one before: the contest does not begin again */
    assert_int_equal(rename(previous, path), 0);
    run_stream(rig, EVENTS, 2 * EVENTS, 10, NULL);
    assert_true(id_at_work(rig) == before && status_of(rig).promotions == 1);
    rig_free(&rig);
    unlink(promoted);
}

static void a_worse_one_never_is(void **state)
{
    (void)state;
    struct with with = defaults;
    with.promote = 1;
    save(path, &shape, 1, 2);
    save(file, &shape, 2, 0);
    struct rig *rig = rig_with(&with);
    run_stream(rig, 0, 3 * EVENTS, 10, NULL);
    struct challenger_status status = status_of(rig);
    assert_int_equal(status.state, CHALLENGER_COMPARING);
    assert_true(status.advantage < 0 && status.p > 0.1);
    assert_true(status.challenger.log_loss > status.serving.log_loss);
    assert_true(id_at_work(rig) == id_of(path) && access(file, F_OK) == 0);
    rig_free(&rig);
}

static void never_means_never(void **state)
{
    (void)state;
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 2);
    uint64_t before = id_of(path);
    struct rig *rig = rig_with(&defaults);
    run_stream(rig, 0, EVENTS, 10, NULL);
    struct challenger_status status = status_of(rig);
    assert_int_equal(status.state, CHALLENGER_BETTER);
    assert_true(status.advantage > 0.1 && status.p <= 0.01);
    assert_true(id_at_work(rig) == before && id_of(path) == before);
    rig_free(&rig);
}

/* One whose state is larger than the records have room for may be compared, but not take over. */
static void one_that_does_not_fit_stays_in_shadow(void **state)
{
    (void)state;
    struct with with = defaults;
    struct model_shape larger = shape;
    larger.hidden[0] = 20;
    with.promote = 1;
    save(path, &shape, 1, 0);
    save(file, &larger, 2, 2);
    uint64_t before = id_of(path);
    struct rig *rig = rig_with(&with);
    run_stream(rig, 0, EVENTS, 10, NULL);
    assert_int_equal(status_of(rig).state, CHALLENGER_BETTER);
    assert_non_null(status_of(rig).why);
    assert_true(id_at_work(rig) == before && id_of(path) == before);
    assert_true(cell(rig, "gait_challenger_promotions_total", "failed") == 1);
    rig_free(&rig);
}

static void it_comes_changes_and_goes_with_its_file(void **state)
{
    (void)state;
    struct model_shape other = shape, intents = shape;
    save(path, &shape, 1, 0);
    unlink(file);
    struct rig *rig = rig_with(&defaults);
    run_stream(rig, 0, 100, 5, NULL);
    assert_int_equal(status_of(rig).state, CHALLENGER_WAITING);
    save(file, &shape, 2, 0);
    run_stream(rig, 100, 300, 5, NULL);
    assert_int_equal(status_of(rig).state, CHALLENGER_COMPARING);
    uint64_t pairs = status_of(rig).pairs;
    assert_true(pairs > 0 && rig_metric(rig, "gait_challenger_rebuilt_users_total") > USERS / 2);
    other.hidden[0] = 5;
    save(file, &other, 3, 0);
    run_stream(rig, 300, 400, 5, NULL);
    assert_true(status_of(rig).pairs > 0 && status_of(rig).pairs < pairs); /* begun anew */
    FILE *out = fopen(file, "w");
    fputs("not a model", out);
    fclose(out);
    run_stream(rig, 400, 500, 5, NULL);
    assert_true(cell(rig, "gait_challenger_loads_total", "refused") == 1);
    assert_int_equal(status_of(rig).state, CHALLENGER_COMPARING); /* the one before goes on */
    save(file, &shape, 1, 0);
    run_stream(rig, 500, 600, 5, NULL);
    assert_int_equal(status_of(rig).state, CHALLENGER_SAME);
    intents.interest = intents.intent = false;
    save(file, &intents, 4, 0);
    run_stream(rig, 600, 700, 5, NULL);
    assert_int_equal(status_of(rig).state, CHALLENGER_INCOMPARABLE);
    unlink(file);
    run_stream(rig, 700, 800, 5, NULL);
    assert_int_equal(status_of(rig).state, CHALLENGER_WAITING);
    assert_null(status_of(rig).model);
    assert_true(rig_metric(rig, "gait_challenger_p_value") == 1);
    assert_true(rig_metric(rig, "gait_challenger_users") == 0);
    rig_free(&rig);
}

/* A table that is much too small forgets all the time; rebuilt from a ring that holds everything, the predictions are
 * the same. */
static void what_was_forgotten_is_rebuilt(void **state)
{
    (void)state;
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 0);
    struct with small = defaults;
    small.bytes = 1;
    double loss[2];
    for (int i = 0; i < 2; i++) {
        struct rig *rig = rig_with(i ? &small : &defaults);
        run_stream(rig, 0, EVENTS, 4, NULL);
        loss[i] = cell(rig, "gait_shadow_log_loss_total", "challenger");
        assert_true((rig_metric(rig, "gait_challenger_evicted_users_total") > EVENTS / 4) == i);
        assert_true(rig_metric(rig, "gait_challenger_crowded_events_total") == 0);
        rig_free(&rig);
    }
    assert_true(fabs(loss[0] - loss[1]) < 0.5);
}

static void more_users_in_a_batch_than_fit_are_passed_over(void **state)
{
    (void)state;
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 0);
    struct with small = defaults;
    small.bytes = 1;
    struct rig *rig = rig_with(&small);
    run_stream(rig, 0, EVENTS, 300, NULL);
    assert_true(rig_metric(rig, "gait_challenger_crowded_events_total") > 0);
    assert_true(status_of(rig).users <= 8);
    rig_free(&rig);
}

static void an_erased_user_is_forgotten(void **state)
{
    (void)state;
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 0);
    struct rig *rig = rig_with(&defaults);
    run_stream(rig, 0, EVENTS, 50, NULL);
    uint64_t users = status_of(rig).users;
    struct erasure erasure = {.user = rig_user(rig, "u3"), .name = str_of("u3")};
    assert_non_null(erasure.user);
    engine_flow(rig->engine, &(struct flow){.kind = FLOW_ERASE, .erasure = &erasure});
    assert_int_equal(status_of(rig).users, users - 1);
    rig_free(&rig);
}

static void only_its_share_of_the_users(void **state)
{
    (void)state;
    save(path, &shape, 1, 0);
    save(file, &shape, 2, 0);
    uint64_t users[3];
    static const double shares[3] = {0, 0.5, 1};
    for (int i = 0; i < 3; i++) {
        struct with with = defaults;
        with.share = shares[i];
        struct rig *rig = rig_with(&with);
        run_stream(rig, 0, EVENTS, 50, NULL);
        users[i] = status_of(rig).users;
        rig_free(&rig);
    }
    assert_int_equal(users[0], 0);
    assert_int_equal(users[2], USERS);
    assert_true(users[1] > USERS / 4 && users[1] < USERS * 3 / 4);
}

static int begin(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/model", folder);
    snprintf(file, sizeof file, "%s/challenger", folder);
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_shadow_it_says_what_it_would_say_at_work),
        cmocka_unit_test(nothing_shows_of_it),
        cmocka_unit_test(a_better_one_is_promoted_and_only_once),
        cmocka_unit_test(a_worse_one_never_is),
        cmocka_unit_test(never_means_never),
        cmocka_unit_test(one_that_does_not_fit_stays_in_shadow),
        cmocka_unit_test(it_comes_changes_and_goes_with_its_file),
        cmocka_unit_test(what_was_forgotten_is_rebuilt),
        cmocka_unit_test(more_users_in_a_batch_than_fit_are_passed_over),
        cmocka_unit_test(an_erased_user_is_forgotten),
        cmocka_unit_test(only_its_share_of_the_users),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
