// SPDX-License-Identifier: Apache-2.0
// unit_model_exchange.c - what is exported as ONNX comes back as the same model; the wire format of protobuf; and files
// of other tools that are cut short or damaged anywhere are refused or read, but never crash. The arithmetic is
// compared with onnxruntime in e2e/test_model_exchange.py.
#include "../modules/model_foreign.h"
#include "../modules/protobuf.h"
#include "model_maker.h"

#include "gait/model_exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/gait-exchange-XXXXXX";
static char path[64];

static const char *const columns[] = {"count.all.5m", "sum.all.24h", NULL};
static const struct model_shape shape = {.categories = 6, .category_width = 3, .types = 13, .type_width = 2,
                                         .columns = columns, .hidden = {5, 4}, .interest = true, .intent = true};

static void out_and_in_again_is_the_same_model(void **state)
{
    (void)state;
    struct error err;
    for (int vector = 0; vector < 2; vector++) {
        struct model *m = model_make(&shape, 7);
        m->training = strdup("{\"seed\":7}");
        assert_int_equal(model_export_onnx(m, path, vector, &err), 0);
        struct model *again = model_import(MODEL_FROM_ONNX, path, NULL, &err);
        assert_non_null(again);
        assert_string_equal(model_id(again), model_id(m));
        assert_string_equal(again->training, "{\"seed\":7}");
        model_destroy(&m);
        model_destroy(&again);
    }
}

static void a_head_must_not_take_a_name_of_the_graph(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_make(&shape, 7);
    snprintf(m->heads[0].name, sizeof m->heads[0].name, "features");
    assert_int_equal(model_export_onnx(m, path, false, &err), -1);
    assert_non_null(strstr(err.text, "features"));
    assert_int_equal(model_export_onnx(m, path, true, &err), 0);
    model_destroy(&m);
}

static void damage_is_survived(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_make(&shape, 7);
    assert_int_equal(model_export_onnx(m, path, false, &err), 0);
    model_destroy(&m);
    struct foreign_file file;
    assert_int_equal(foreign_map(&file, path, &err), 0);
    uint8_t *bytes = malloc(file.n);
    uint64_t seed = 5;
    for (size_t n = 0; n <= file.n; n += 1 + n / 40) {
        memcpy(bytes, file.at, n);
        for (int change = 0; change < 2; change++) {
            struct foreign f = {0};
            int result = foreign_read_onnx(&f, &(struct foreign_file){bytes, n}, &err);
            assert_true(result == 0 || *err.text);
            foreign_free(&f);
            if (n)
                bytes[random_next(&seed) % n] ^= (uint8_t)random_next(&seed);
        }
    }
    free(bytes);
    foreign_unmap(&file);
}

static void numbers_and_messages_come_back(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
    struct protobuf_out out = {0}, inner = {0};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        protobuf_put_number(&out, 1, numbers[i]);
    protobuf_put_text(&inner, 2, "text");
    protobuf_put_message(&out, 1000, &inner);
    assert_null(inner.at);
    struct protobuf_in in = {.at = out.at, .end = out.at + out.n};
    struct protobuf_field f;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_true(protobuf_next(&in, &f));
        assert_int_equal(f.number, 1);
        assert_true(f.value == numbers[i]);
    }
    assert_true(protobuf_next(&in, &f));
    assert_int_equal(f.number, 1000);
    struct protobuf_in inside = protobuf_inside(&f);
    assert_true(protobuf_next(&inside, &f) && protobuf_text_is(&f, "text"));
    assert_false(protobuf_next(&inside, &f) || inside.failed);
    assert_false(protobuf_next(&in, &f) || in.failed);
    protobuf_free(&out);
}

static void what_is_no_field_fails(void **state)
{
    (void)state;
    static const struct { uint8_t bytes[12]; size_t n; } wrong[] = {
        {{0x08}, 1}, {{0x08, 0x80}, 2}, {{0x0a, 5, 1}, 3}, {{0x0b}, 1}, {{0x0d, 1, 2, 3}, 4}, {{0x09, 1}, 2},
        {{0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 12}, {{0x0a, 255, 255, 255, 255, 15}, 6},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct protobuf_in in = {.at = wrong[i].bytes, .end = wrong[i].bytes + wrong[i].n};
        struct protobuf_field f;
        assert_false(protobuf_next(&in, &f));
        assert_true(in.failed);
        assert_false(protobuf_next(&in, &f));
    }
}

static void halves_are_read_exactly(void **state)
{
    (void)state;
    static const uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x3555}, brain[] = {0x3f80, 0xc2f7};
    struct foreign f = {0};
    struct error err;
    assert_int_equal(foreign_add_bytes(&f, "half", 1, (size_t[]){6}, FOREIGN_F16, (const uint8_t *)half, 12, &err), 0);
    assert_int_equal(foreign_add_bytes(&f, "brain", 1, (size_t[]){2}, FOREIGN_BF16, (const uint8_t *)brain, 4, &err),
                     0);
    const float *at = foreign_find(&f, "half")->at;
    assert_true(at[0] == 1 && at[1] == -2 && at[2] == 0x1p-24f && at[3] == 65504 && at[4] == 0);
    assert_true(at[5] == 0x1.554p-2f);
    assert_true(foreign_find(&f, "brain")->at[0] == 1 && foreign_find(&f, "brain")->at[1] == -123.5f);
    assert_int_equal(foreign_add_bytes(&f, "more", 1, (size_t[]){3}, FOREIGN_F16, (const uint8_t *)half, 12, &err), -1);
    assert_int_equal(foreign_add_bytes(&f, "half", 1, (size_t[]){6}, FOREIGN_F16, (const uint8_t *)half, 12, &err), -1);
    assert_null(foreign_add(&f, "huge", 2, (size_t[]){1u << 31, 1u << 31}, &err));
    foreign_free(&f);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
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
        cmocka_unit_test(out_and_in_again_is_the_same_model),
        cmocka_unit_test(a_head_must_not_take_a_name_of_the_graph),
        cmocka_unit_test(damage_is_survived),
        cmocka_unit_test(numbers_and_messages_come_back),
        cmocka_unit_test(what_is_no_field_fails),
        cmocka_unit_test(halves_are_read_exactly),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
