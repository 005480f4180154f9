// SPDX-License-Identifier: Apache-2.0
// unit_model_lstm.c - the model and score stages over real records: each user's state goes forward event by event
// whatever the batches are, survives its way through the store, is rebuilt when the model changes, and the scores are
// what the heads say of it.
#include "support.h"

#include "model_maker.h"

#include "gait/cpu.h"
#include "gait/log.h"
#include "gait/lstm.h"
#include "gait/window.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct module window_rolling, model_lstm, score_interest;

#define T0 INT64_C(1700000000000)
enum { MINUTE = 60000, EVENTS = 300, USERS = 7, CATEGORIES = 9, TICKS_TO_LOOK = 10 };

static char folder[] = "/tmp/gait-lstm-XXXXXX";
static char path[64];
static const char *const columns[] = {"count.all.1h", "gap", "event.price", "count.purchase.5m", NULL};
static const struct model_shape shape = {.categories = CATEGORIES, .category_width = 6, .types = 13, .type_width = 3,
                                         .columns = columns, .hidden = {19, 11}, .interest = true, .intent = true};

static void save_model(const struct model_shape *s, uint64_t seed)
{
    struct error err;
    struct model *m = model_make(s, seed);
    if (model_save(m, path, &err) < 0)
        fail_msg("%s", err.text);
    model_destroy(&m);
}

static struct rig *rig_with(int64_t ring, int publish)
{
    struct rig *rig = rig_new(NULL);
    const char *at = path;
    void *window = rig_conf(rig, &window_rolling), *model = rig_conf(rig, &model_lstm);
    void *score = rig_conf(rig, &score_interest);
    rig_set_int(window, &window_rolling, "ring", ring);
    rig_set(model, &model_lstm, "path", &at, sizeof at);
    rig_set(score, &score_interest, "publish", &publish, sizeof publish);
    rig_open(rig, &window_rolling, window, NULL);
    rig_open(rig, &model_lstm, model, NULL);
    rig_open(rig, &score_interest, score, NULL);
    rig_ready(rig, 8 << 20);
    return rig;
}

static const struct lstm *at_work(const struct rig *rig)
{
    return lstm_at_work(engine_instance(rig->engine, STAGE_MODEL));
}

static const char *const users[USERS] = {"ann", "bob", "cid", "dan", "eve", "fay", "gus"};
static const char *const categories[CATEGORIES + 1] = {"c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8",
                                                       "unheard-of"};

/* Event k of a fixed stream. */
static struct event *add_event(struct rig *rig, int k)
{
    uint64_t seed = (uint64_t)k * 2654435761u + 1;
    random_next(&seed);
    struct event *event = rig_event(rig, users[random_next(&seed) % USERS],
                                    (int)(random_next(&seed) % EVENT_TYPES_BUILTIN), T0 + (int64_t)k * MINUTE);
    event->log_ms = event->ts_ms;
    event->category = str_of(categories[random_next(&seed) % (CATEGORIES + 1)]);
    event->price = (double)(random_next(&seed) % 10000) / 100;
    event->has = HAS_PRICE;
    return event;
}

/* The whole stream in batches of `batch`; h after each event into all [EVENTS × hidden]. */
static void run_stream(struct rig *rig, int from, int to, int batch, float *all)
{
    for (int k = from; k < to;) {
        int first = k;
        for (; k < to && k < first + batch; k++)
            add_event(rig, k);
        rig_run(rig);
        const struct batch *b = &rig->batch;
        if (all)
            memcpy(all + (size_t)first * b->hidden_n, b->hidden, (size_t)(k - first) * b->hidden_n * sizeof *all);
        rig_clear(rig);
    }
}

static void a_state_does_not_depend_on_the_batches(void **state)
{
    (void)state;
    save_model(&shape, 1);
    static float one[EVENTS * 11], many[EVENTS * 11];
    static const int sizes[] = {2, 7, 64, EVENTS};
    struct rig *rig = rig_with(28, 0);
    run_stream(rig, 0, EVENTS, 1, one);
    assert_int_equal(rig->batch.hidden_n, 11);
    rig_free(&rig);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        rig = rig_with(28, 0);
        run_stream(rig, 0, EVENTS, sizes[i], many);
        assert_memory_equal(one, many, sizeof one);
        assert_true(rig_metric(rig, "gait_model_steps_total") == EVENTS);
        rig_free(&rig);
    }
}

static void the_state_is_what_the_model_says(void **state)
{
    (void)state;
    save_model(&shape, 2);
    struct rig *rig = rig_with(28, 0);
    struct error err;
    struct model *m = model_load(path, &err);
    struct lstm *l = lstm_create(m, &lstm_generic, false);
    struct model_binding binding;
    assert_int_equal(model_bind(&binding, m, &rig->engine->types, rig->engine->columns, &err), 0);
    float h[60] = {0}, x[16], *p = h;
    for (int k = 0; k < 20; k++) {
        struct event *event = rig_event(rig, "ann", k % 13, T0 + (int64_t)k * MINUTE);
        event->category = str_of(categories[k % (CATEGORIES + 1)]);
        event->log_ms = event->ts_ms;
        rig_run(rig);
        uint32_t rows[2];
        model_rows_of_event(&binding, event, rows);
        assert_int_equal(rows[0], k % (CATEGORIES + 1) < CATEGORIES ? k % (CATEGORIES + 1) + 1 : 0);
        assert_int_equal(rows[1], k % 13 + 1);
        model_input(&binding, rows, batch_row(&rig->batch, 0), x);
        lstm_step(l, 1, NULL, x, &p);
        for (uint32_t u = 0; u < 11; u++)
            assert_true(fabsf(rig->batch.hidden[u] - h[l->h_at[1] + u]) < 1e-5f);
        assert_int_equal(rig->batch.has_before[0], k > 0);
        rig_clear(rig);
    }
    lstm_destroy(&l);
    model_destroy(&m);
    rig_free(&rig);
}

static void events_that_do_not_count_leave_the_state_alone(void **state)
{
    (void)state;
    save_model(&shape, 1);
    float plain[11], with[11];
    struct rig *rig = rig_with(28, 0);
    for (int k = 0; k < 3; k++)
        rig_event(rig, "ann", EVENT_PAGE_VIEW, T0 + k * MINUTE)->category = str_of("c1");
    rig_run(rig);
    memcpy(plain, rig->batch.hidden + 2 * 11, sizeof plain);
    rig_free(&rig);

    rig = rig_with(28, 0);
    for (int k = 0; k < 6; k++) { /* a skipped one before each that counts, and the batch begins with one */
        struct event *event = rig_event(rig, "ann", EVENT_PAGE_VIEW, T0 + k / 2 * MINUTE);
        event->category = str_of("c1");
        event->verdict = k % 2 ? EVENT_OK : EVENT_ALREADY_APPLIED;
    }
    rig_run(rig);
    memcpy(with, rig->batch.hidden + 5 * 11, sizeof with);
    assert_memory_equal(plain, with, sizeof plain);
    assert_true(rig_metric(rig, "gait_model_steps_total") == 3);
    rig_free(&rig);
}

static void a_state_comes_back_from_the_store(void **state)
{
    (void)state;
    save_model(&shape, 1);
    static float straight[EVENTS * 11], saved[EVENTS * 11];
    struct rig *rig = rig_with(28, 0);
    run_stream(rig, 0, EVENTS, 50, straight);
    rig_free(&rig);
    rig = rig_with(28, 0);
    run_stream(rig, 0, 150, 50, saved);
    for (int u = 0; u < USERS; u++)
        rig_round_trip(rig, users[u]);
    run_stream(rig, 150, EVENTS, 50, saved);
    assert_memory_equal(straight, saved, sizeof straight);
    assert_true(rig_metric(rig, "gait_model_rebuilt_users_total") == 0);
    rig_free(&rig);
}

static void swap_model(struct rig *rig, const struct model_shape *s, uint64_t seed)
{
    save_model(s, seed);
    for (int i = 0; i < TICKS_TO_LOOK; i++)
        rig_tick(rig);
}

/* With everything in the ring, a rebuilt state equals one that the new model made from the first event on. */
static void a_new_model_rebuilds_states_from_the_ring(void **state)
{
    (void)state;
    static float fresh[EVENTS * 11], swapped[EVENTS * 11];
    save_model(&shape, 2);
    struct rig *rig = rig_with(200, 0);
    run_stream(rig, 0, 200, 40, fresh);
    rig_free(&rig);
    save_model(&shape, 1);
    rig = rig_with(200, 0);
    run_stream(rig, 0, 120, 40, swapped);
    swap_model(rig, &shape, 2);
    run_stream(rig, 120, 200, 80, swapped); /* several events of each user in the batch of the rebuild */
    assert_memory_equal(fresh + 120 * 11, swapped + 120 * 11, 80 * 11 * sizeof *fresh);
    assert_true(rig_metric(rig, "gait_model_rebuilt_users_total") == USERS);
    assert_true(rig_metric(rig, "gait_model_rebuild_steps_total") == 120);
    assert_true(rig_metric(rig, "gait_model_loads_total") == 1);
    rig_free(&rig);
}

/* A record saved under another model is rebuilt as well: its state is not mistaken for ours. */
static void a_record_of_another_model_is_rebuilt(void **state)
{
    (void)state;
    static float fresh[EVENTS * 11], swapped[EVENTS * 11];
    save_model(&shape, 2);
    struct rig *rig = rig_with(200, 0);
    run_stream(rig, 0, 200, 40, fresh);
    rig_free(&rig);
    save_model(&shape, 1);
    rig = rig_with(200, 0);
    run_stream(rig, 0, 120, 40, NULL);
    swap_model(rig, &shape, 2);
    for (int u = 0; u < USERS; u++)
        rig_round_trip(rig, users[u]);
    run_stream(rig, 120, 200, 10, swapped);
    assert_memory_equal(fresh + 120 * 11, swapped + 120 * 11, 80 * 11 * sizeof *fresh);
    rig_free(&rig);
}

static void a_broken_model_is_refused_and_the_old_one_goes_on(void **state)
{
    (void)state;
    save_model(&shape, 1);
    struct rig *rig = rig_with(28, 0);
    uint64_t id = at_work(rig)->model->id;
    FILE *out = fopen(path, "w");
    fputs("not a model", out);
    fclose(out);
    for (int i = 0; i < TICKS_TO_LOOK; i++)
        rig_tick(rig);
    assert_true(at_work(rig)->model->id == id);
    struct model_shape other = shape;
    other.hidden[0] = 64; /* its state does not fit into the records laid out at start */
    swap_model(rig, &other, 1);
    assert_true(at_work(rig)->model->id == id);
    static const char *const unknown[] = {"count.all.3h", NULL};
    other = shape;
    other.columns = unknown; /* a feature that nobody computes here */
    swap_model(rig, &other, 1);
    assert_true(at_work(rig)->model->id == id);
    assert_true(rig_metric(rig, "gait_model_loads_total") == 3);
    other = shape;
    other.hidden[0] = 5; /* smaller is fine */
    swap_model(rig, &other, 1);
    assert_true(at_work(rig)->model->id != id);
    run_stream(rig, 0, 20, 5, NULL);
    rig_free(&rig);
}

static void opening_says_what_is_wrong(void **state)
{
    (void)state;
    struct rig *rig = rig_new(NULL);
    struct error err;
    const char *missing = "/nonexistent/m.safetensors";
    void *conf = rig_conf(rig, &model_lstm);
    rig_set(conf, &model_lstm, "path", &missing, sizeof missing);
    assert_null(rig_open(rig, &model_lstm, conf, &err));
    assert_non_null(strstr(err.text, missing));
    rig_free(&rig);

    save_model(&shape, 1);
    const char *there = path;
    rig = rig_new(NULL); /* without window_rolling nobody announces the columns */
    conf = rig_conf(rig, &model_lstm);
    rig_set(conf, &model_lstm, "path", &there, sizeof there);
    assert_null(rig_open(rig, &model_lstm, conf, &err));
    assert_non_null(strstr(err.text, "count.all.1h"));
    rig_free(&rig);
}

/* ---- scores ----------------------------------------------------------------------------------------------------- */

static void softmax_of_head(const struct model_head *head, const float *h, uint32_t hidden, double *p)
{
    double sum = 0;
    for (uint32_t k = 0; k < head->classes; k++) {
        p[k] = (double)head->bias[k];
        for (uint32_t j = 0; j < hidden; j++)
            p[k] += (double)head->weight[k * hidden + j] * (double)h[j];
        p[k] = exp(p[k]);
        sum += p[k];
    }
    for (uint32_t k = 0; k < head->classes; k++)
        p[k] /= sum;
}

static void check_score(const struct rig *rig, uint32_t i)
{
    const struct batch *b = &rig->batch;
    const struct score *score = &b->scores[i];
    const struct model *m = b->model;
    double p[CATEGORIES], intent = (double)m->heads[1].bias[0];
    softmax_of_head(&m->heads[0], b->hidden + i * 11, 11, p);
    assert_int_equal(score->n, 5);
    for (uint32_t k = 0; k < score->n; k++) {
        uint32_t higher = 0;
        for (uint32_t c = 0; c < CATEGORIES; c++)
            higher += p[c] > p[score->top_id[k]] + 1e-6;
        assert_true(higher <= k);
        assert_true(fabs((double)score->top_p[k] - p[score->top_id[k]]) < 1e-5);
        assert_true(k == 0 || score->top_p[k] <= score->top_p[k - 1]);
    }
    for (uint32_t j = 0; j < 11; j++)
        intent += (double)m->heads[1].weight[j] * (double)b->hidden[i * 11 + j];
    assert_true(fabs((double)score->intent - 1 / (1 + exp(-intent))) < 1e-5);
    int truth = model_vocabulary_find_name(&m->heads[0].vocabulary, b->events[i].category);
    assert_int_equal(isnan(score->surprise), truth < 0 || !b->has_before[i]);
    if (!isnan(score->surprise)) {
        softmax_of_head(&m->heads[0], b->hidden_before + i * 11, 11, p);
        assert_true(fabs((double)score->surprise + log(p[truth])) < 1e-4);
    }
}

static void scores_are_what_the_heads_say(void **state)
{
    (void)state;
    save_model(&shape, 3);
    struct rig *rig = rig_with(28, 0);
    double predictions = 0, loss = 0;
    for (int k = 0; k < EVENTS;) {
        for (int n = 0; n < 70; n++)
            add_event(rig, k++);
        rig_run(rig);
        for (uint32_t i = 0; i < rig->batch.n; i++) {
            assert_true(rig->batch.scores[i].publish);
            check_score(rig, i);
            if (!isnan(rig->batch.scores[i].surprise)) {
                predictions++;
                loss += (double)rig->batch.scores[i].surprise;
            }
        }
        rig_clear(rig);
    }
    assert_true(predictions > 100);
    assert_true(rig_metric(rig, "gait_model_predictions_total") == predictions);
    assert_true(fabs(rig_metric(rig, "gait_model_log_loss_total") - loss) < 1e-3);
    rig_free(&rig);
}

static void a_replayed_event_is_scored_but_not_measured_again(void **state)
{
    (void)state;
    save_model(&shape, 3);
    struct rig *rig = rig_with(28, 0);
    for (int k = 0; k < 50; k++)
        add_event(rig, k)->silent = true;
    rig_run(rig);
    assert_int_equal(rig->batch.scores[49].n, 5);
    assert_true(rig_metric(rig, "gait_model_predictions_total") == 0);
    rig_free(&rig);
}

static void latest_publishes_one_score_for_each_user_of_a_batch(void **state)
{
    (void)state;
    save_model(&shape, 3);
    struct rig *rig = rig_with(28, 1);
    for (int k = 0; k < 4; k++)
        rig_event(rig, k % 2 ? "ann" : "bob", EVENT_PAGE_VIEW, T0 + k * MINUTE)->category = str_of("c1");
    rig_event(rig, "ann", EVENT_PAGE_VIEW, T0)->verdict = EVENT_DUPLICATE; /* ann's last that counts is the fourth */
    rig_run(rig);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(rig->batch.scores[i].publish, i == 2 || i == 3);
        assert_int_equal(rig->batch.scores[i].n, i == 2 || i == 3 ? 5 : 0);
    }
    assert_false(isnan(rig->batch.scores[3].surprise));
    rig_free(&rig);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_does_not_depend_on_the_batches),
        cmocka_unit_test(the_state_is_what_the_model_says),
        cmocka_unit_test(events_that_do_not_count_leave_the_state_alone),
        cmocka_unit_test(a_state_comes_back_from_the_store),
        cmocka_unit_test(a_new_model_rebuilds_states_from_the_ring),
        cmocka_unit_test(a_record_of_another_model_is_rebuilt),
        cmocka_unit_test(a_broken_model_is_refused_and_the_old_one_goes_on),
        cmocka_unit_test(opening_says_what_is_wrong),
        cmocka_unit_test(scores_are_what_the_heads_say),
        cmocka_unit_test(a_replayed_event_is_scored_but_not_measured_again),
        cmocka_unit_test(latest_publishes_one_score_for_each_user_of_a_batch),
    };
    log_setup(LOG_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
