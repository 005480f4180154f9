// SPDX-License-Identifier: Apache-2.0
// unit_model_file.c - model files: what is saved is loaded again to the bit; every damaged or hostile file is refused
// with a text that names what is wrong; and a save that fails leaves the old file alone.
#include "model_maker.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/gait-model-XXXXXX";
static char path[64];

static const char *const columns[] = {"count.all.5m", "sum.all.24h", NULL};
static const struct model_shape shape = {.categories = 6, .category_width = 3, .types = 13, .type_width = 2,
                                         .columns = columns, .hidden = {5, 4}, .interest = true, .intent = true};

/* ---- a file as header and data, to be damaged piece by piece ---------------------------------------------------- */

struct file {
    json_t *header;
    char *data;
    size_t data_bytes;
};

static char *slurp(const char *name, size_t *bytes)
{
    FILE *in = fopen(name, "rb");
    assert_non_null(in);
    char *all = malloc(1 << 20);
    *bytes = fread(all, 1, 1 << 20, in);
    fclose(in);
    return all;
}

static void spill(const char *name, const void *bytes, size_t n)
{
    FILE *out = fopen(name, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(out);
}

static void save_good(void)
{
    struct error err;
    struct model *m = model_make(&shape, 7);
    m->training = strdup("{\"seed\":7,\"data\":\"00ff\"}");
    m->metrics = strdup("{\"recall@20\":0.5}");
    assert_int_equal(model_save(m, path, &err), 0);
    model_destroy(&m);
}

static struct file file_open(void)
{
    size_t n;
    uint64_t length;
    char *all = slurp(path, &n);
    memcpy(&length, all, sizeof length);
    struct file f = {.header = json_loadb(all + 8, length, 0, NULL), .data_bytes = n - 8 - length};
    assert_non_null(f.header);
    f.data = malloc(f.data_bytes + 64);
    memcpy(f.data, all + 8 + length, f.data_bytes);
    free(all);
    return f;
}

static void file_write(const struct file *f)
{
    char *text = json_dumps(f->header, JSON_COMPACT);
    uint64_t length = strlen(text);
    char *all = malloc(8 + length + f->data_bytes);
    memcpy(all, &length, 8);
    memcpy(all + 8, text, length);
    memcpy(all + 8 + length, f->data, f->data_bytes);
    spill(path, all, 8 + length + f->data_bytes);
    free(all);
    free(text);
}

static void file_close(struct file *f)
{
    json_decref(f->header);
    free(f->data);
}

static json_t *metadata(struct file *f)
{
    return json_object_get(f->header, "__metadata__");
}

static void set_metadata(struct file *f, const char *key, const char *text)
{
    json_object_set_new(metadata(f), key, json_string(text));
    json_object_del(metadata(f), "id"); /* or every change would be found by the id alone */
}

static json_t *tensor(struct file *f, const char *name)
{
    json_object_del(metadata(f), "id");
    return json_object_get(f->header, name);
}

static void set_shape(struct file *f, const char *name, json_int_t rows, json_int_t width)
{
    json_object_set_new(tensor(f, name), "shape", json_pack("[I,I]", rows, width));
}

static void set_offsets(struct file *f, const char *name, json_int_t from, json_int_t to)
{
    json_object_set_new(tensor(f, name), "data_offsets", json_pack("[I,I]", from, to));
}

static void assert_refused(const char *because)
{
    struct error err = {.text = ""};
    struct model *m = model_load(path, &err);
    if (m)
        fail_msg("a file was loaded that should have been refused: %s", because);
    if (!strstr(err.text, because) || !strstr(err.text, path))
        fail_msg("refused with '%s', should say '%s' and the path", err.text, because);
}

/* Write the changed file, see it refused, put things back. */
static void refuse(struct file *f, const char *because)
{
    file_write(f);
    assert_refused(because);
    file_close(f);
    save_good();
    *f = file_open();
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void what_is_saved_is_loaded_again(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_make(&shape, 7);
    m->features[0].mean = 0.1f;
    m->features[1].scale = 1.0f / 3;
    save_good();
    m->training = strdup("{\"seed\":7}");
    assert_int_equal(model_save(m, path, &err), 0);
    struct model *back = model_load(path, &err);
    assert_non_null(back);
    assert_string_equal(model_id(back), model_id(m));
    assert_int_equal(back->input, 3 + 2 + 2);
    assert_int_equal(back->embeddings[1].field, MODEL_TYPE);
    assert_string_equal(back->embeddings[1].vocabulary.name[8].at, "purchase");
    assert_true(back->features[0].mean == 0.1f && back->features[1].scale == 1.0f / 3);
    assert_int_equal(back->features[1].transform, MODEL_LOG1P);
    assert_memory_equal(back->layers[1].weight_hh, m->layers[1].weight_hh, 4 * 4 * 4 * sizeof(float));
    assert_memory_equal(back->heads[0].weight, m->heads[0].weight, 6 * 4 * sizeof(float));
    assert_int_equal(back->interest, 0);
    assert_int_equal(back->intent, 1);
    assert_int_equal(back->intent_horizon_ms, 3600000);
    assert_string_equal(back->training, "{\"seed\":7}");
    assert_null(back->metrics);
    model_destroy(&back);
    model_destroy(&m);
    assert_null(m);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    mode_t mask = umask(0);
    umask(mask);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
}

static void the_id_follows_content_alone(void **state)
{
    (void)state;
    struct error err;
    struct model *a = model_make(&shape, 1), *b = model_make(&shape, 1);
    assert_true(a->id == b->id && a->id != 0);
    b->training = strdup("{\"note\":1}");
    assert_int_equal(model_seal(b, &err), 0);
    assert_true(a->id == b->id);
    b->layers[0].bias_hh[3] += 0.5f;
    assert_int_equal(model_seal(b, &err), 0);
    assert_true(a->id != b->id);
    model_destroy(&b);
    b = model_make(&shape, 1);
    b->features[0].clip = 4;
    assert_int_equal(model_seal(b, &err), 0);
    assert_true(a->id != b->id);
    model_destroy(&a);
    model_destroy(&b);
}

static void names_are_found_and_escaped(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_create();
    const struct str names[] = {str_of("shoes.running"), str_of("a\"b\\\n<script>"), str_of("größe")};
    assert_int_equal(model_add_embedding(m, MODEL_CATEGORY, 2, names, 3, &err), 0);
    assert_int_equal(model_add_layer(m, 2, &err), 0);
    assert_int_equal(model_add_head(m, "interest", MODEL_SOFTMAX, "category", names, 3, &err), 0);
    assert_int_equal(model_save(m, path, &err), 0);
    struct model *back = model_load(path, &err);
    assert_non_null(back);
    assert_string_equal(model_category_json(back, 1).at, "\"a\\\"b\\\\\\n<script>\"");
    assert_string_equal(model_category_name(back, 2).at, "größe");
    const struct model_vocabulary *v = &back->embeddings[0].vocabulary;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(model_vocabulary_find_name(v, names[i]), i);
        assert_int_equal(model_vocabulary_find(v, v->hash[i]), i);
    }
    assert_int_equal(model_vocabulary_find_name(v, str_of("shoes")), -1);
    assert_int_equal(model_vocabulary_find_name(v, (struct str){0}), -1);
    assert_int_equal(model_vocabulary_find(v, 0), -1);
    model_destroy(&back);
    model_destroy(&m);
}

static void a_file_cut_short_anywhere_is_refused(void **state)
{
    (void)state;
    save_good();
    size_t n;
    char *all = slurp(path, &n);
    for (size_t cut = 0; cut < n; cut += cut < 64 ? 1 : 61) {
        struct error err = {.text = ""};
        spill(path, all, cut);
        assert_null(model_load(path, &err));
        assert_true(strlen(err.text) > strlen(path));
    }
    spill(path, all, n - 1);
    assert_refused("cut short");
    free(all);
}

static void a_header_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t length; /* as the file states it; 0 = as it is */
        const char *text, *because;
    } cases[] = {
        {UINT64_MAX, "{}", "a header of 18446744073709551615 bytes"},
        {UINT64_C(1) << 62, "{}", "a header of"},
        {(100 << 20) + 1, "{}", "a header of 104857601 bytes"},
        {1, "{}", "a header of 1 bytes"},
        {99, "{}", "cut short"},
        {0, "{}", "no object '__metadata__'"},
        {0, "[]", "not a JSON object"},
        {0, "{a}", "not a JSON object"},
        {0, "{\"__metadata__\":\"gait\"}", "no object '__metadata__'"},
        {0, "{\"a\":{},\"a\":{}}", "not a JSON object"}, /* twice the same name */
        {0, "{\"__metadata__\":{}}", "lacks 'gait_version'"},
        {0, "{\"__metadata__\":{\"gait_version\":\"99\"}}", "version '99' is not known"},
        {0, "{\"__metadata__\":{\"gait_version\":1}}", "lacks 'gait_version'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char bytes[128];
        uint64_t n = strlen(cases[i].text), stated = cases[i].length ? cases[i].length : n;
        memcpy(bytes, &stated, 8);
        memcpy(bytes + 8, cases[i].text, n);
        spill(path, bytes, 8 + n);
        assert_refused(cases[i].because);
    }
    char *deep = malloc(100008); /* nesting beyond any use */
    uint64_t length = 100000;
    memcpy(deep, &length, 8);
    memset(deep + 8, '[', length);
    spill(path, deep, length + 8);
    assert_refused("not a JSON object");
    free(deep);
}

static void wrong_tensors_are_refused_by_name(void **state)
{
    (void)state;
    save_good();
    struct file f = file_open();
    json_int_t bytes = (json_int_t)f.data_bytes;

    set_shape(&f, "lstm.weight_ih_l0", 20, 8);
    refuse(&f, "tensor lstm.weight_ih_l0: its shape is [20,8]; [20,7] is right");
    set_shape(&f, "lstm.weight_hh_l1", 16, 5);
    refuse(&f, "lstm.");
    set_shape(&f, "lstm.weight_hh_l0", 20, 0);
    refuse(&f, "tensor lstm.weight_hh_l0: its shape has to be [4·H, H]");
    set_shape(&f, "lstm.weight_hh_l0", 20, 1000000000);
    refuse(&f, "tensor lstm.weight_hh_l0: its shape has to be");
    set_shape(&f, "lstm.weight_hh_l0", 20, 4000);
    refuse(&f, "cut short");
    json_object_set_new(tensor(&f, "lstm.bias_ih_l0"), "shape", json_pack("[i,i]", 20, 1));
    refuse(&f, "tensor lstm.bias_ih_l0: its shape is [20,1]; [20] is right");
    json_object_set_new(tensor(&f, "head.intent.bias"), "shape", json_pack("[f]", 1.0));
    refuse(&f, "tensor head.intent.bias: its shape");
    json_object_set_new(tensor(&f, "head.intent.weight"), "dtype", json_string("F16"));
    refuse(&f, "tensor head.intent.weight: its type is 'F16'; F32 is right");
    json_object_del(tensor(&f, "head.intent.weight"), "dtype");
    refuse(&f, "tensor head.intent.weight: its type");
    tensor(&f, "x");
    json_object_del(f.header, "embedding.type.weight");
    refuse(&f, "tensor embedding.type.weight is missing");
    json_object_del(f.header, "lstm.weight_hh_l0");
    refuse(&f, "tensor lstm.weight_hh_l0 is missing");
    json_object_set_new(f.header, "surprise", json_pack("{s:s}", "dtype", "F32"));
    refuse(&f, "tensor surprise is not part of the model");

    set_offsets(&f, "lstm.bias_ih_l0", 0, 80);
    refuse(&f, "begins at byte");
    set_offsets(&f, "head.intent.bias", bytes, bytes + 4);
    refuse(&f, "cut short");
    set_offsets(&f, "head.intent.bias", -4, 0);
    refuse(&f, "'data_offsets' has to be [from, to]");
    set_offsets(&f, "head.intent.bias", 8, 4);
    refuse(&f, "'data_offsets' has to be [from, to]");
    set_offsets(&f, "head.intent.bias", 0, INT64_MAX);
    refuse(&f, "its offsets span");
    json_object_set_new(tensor(&f, "head.intent.bias"), "data_offsets", json_pack("[s,s]", "0", "4"));
    refuse(&f, "'data_offsets' has to be [from, to]");
    json_object_set_new(tensor(&f, "head.intent.bias"), "data_offsets", json_pack("[f,f]", 0.5, 4.5));
    refuse(&f, "'data_offsets' has to be [from, to]");
    tensor(&f, "x");
    f.data_bytes += 4;
    refuse(&f, "4 bytes follow the last tensor");
    file_close(&f);
}

static void weights_that_are_no_numbers_are_refused(void **state)
{
    (void)state;
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    save_good();
    struct file f = file_open();
    for (int i = 0; i < 3; i++) {
        tensor(&f, "x");
        memcpy(f.data + 40, &wrong[i], sizeof wrong[i]);
        refuse(&f, "every weight has to be a finite number");
    }
    f.data[41] ^= 1; /* the id stays in the file */
    refuse(&f, "it was changed or damaged");
    file_close(&f);

    struct error err;
    struct model *m = model_make(&shape, 1);
    m->layers[1].weight_ih[3] = NAN;
    assert_int_equal(model_save(m, path, &err), -1);
    assert_non_null(strstr(err.text, "tensor lstm.weight_ih_l1: element 3 is NaN"));
    model_destroy(&m);
    m = model_load(path, &err); /* the good file is still there */
    assert_non_null(m);
    model_destroy(&m);
}

static void wrong_metadata_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *key, *text, *because;
    } cases[] = {
        {"vocabularies", "{", "'vocabularies' is not a JSON object"},
        {"vocabularies", "[]", "'vocabularies' is not a JSON object"},
        {"vocabularies", "{}", "no vocabulary 'category'"},
        {"vocabularies", "{\"category\":[\"a\",\"a\"],\"type\":[]}", "the vocabulary has \"a\" twice"},
        {"vocabularies", "{\"category\":[\"a\",\"\"],\"type\":[]}", "name 1 of the vocabulary is empty"},
        {"vocabularies", "{\"category\":[\"a\",7],\"type\":[]}", "entry 1 is not a string"},
        {"vocabularies", "{\"category\":[\"a\\u0000b\"],\"type\":[]}", "'vocabularies' is not a JSON object"},
        {"vocabularies", "{\"category\":[\"a\"],\"type\":[\"b\"]}", "tensor embedding.category.weight: its shape"},
        {"embeddings", "[{\"field\":\"shoe\",\"width\":3,\"vocabulary\":\"category\"}]", "embedding of 'shoe'"},
        {"embeddings", "[{\"field\":\"category\",\"width\":0,\"vocabulary\":\"category\"}]", "'width' has to be"},
        {"embeddings", "[{\"field\":\"category\",\"width\":4000,\"vocabulary\":\"category\"}]", "cut short"},
        {"embeddings", "[{\"field\":\"category\",\"width\":\"3\",\"vocabulary\":\"category\"}]", "'width' has to be"},
        {"embeddings", "[{\"field\":\"type\",\"width\":1,\"vocabulary\":\"type\"},{\"field\":\"type\",\"width\":1,"
                       "\"vocabulary\":\"type\"}]", "the model has one already"},
        {"embeddings", "[7]", "embedding of ''"},
        {"embeddings", "{}", "'embeddings' is not a JSON array"},
        {"features", "[{\"column\":\"a\",\"transform\":\"sqrt\"}]", "transform 'sqrt' is not known"},
        {"features", "[{\"column\":\"a\",\"scale\":0}]", "scale 0 has to be"},
        {"features", "[{\"column\":\"a\",\"scale\":1e-45}]", "has to be a number greater than 0"},
        {"features", "[{\"column\":\"a\",\"mean\":\"1\"}]", "the mean is not a finite number"},
        {"features", "[{\"column\":\"a\",\"clip\":-1}]", "clip -1 has to be"},
        {"features", "[{\"column\":\"\"}]", "the column's name is empty"},
        {"features", "[{\"column\":\"a\",\"mean\":1e400}]", "'features' is not a JSON array"},
        {"heads", "[{\"name\":\"i\",\"kind\":\"max\",\"target\":\"category\"}]", "kind 'max' is not known"},
        {"heads", "[{\"name\":\"i\",\"kind\":\"sigmoid\",\"target\":\"category\"}]", "does not suit a sigmoid head"},
        {"heads", "[{\"name\":\"I i\",\"kind\":\"sigmoid\",\"target\":\"intent\"}]", "a head's name is"},
        {"heads", "[{\"name\":\"i\",\"kind\":\"softmax\",\"target\":\"item\",\"vocabulary\":\"x\"}]",
         "no vocabulary 'x'"},
        {"intent_horizon_ms", "soon", "'intent_horizon_ms' is 'soon'"},
        {"intent_horizon_ms", "-5", "'intent_horizon_ms' is '-5'"},
        {"training", "nothing", "'training' is not a JSON object"},
        {"metrics", "[1]", "'metrics' is not a JSON object"},
    };
    save_good();
    struct file f = file_open();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        set_metadata(&f, cases[i].key, cases[i].text);
        refuse(&f, cases[i].because);
    }
    json_object_set_new(metadata(&f), "features", json_integer(3));
    refuse(&f, "lacks 'features'");
    json_object_del(metadata(&f), "intent_horizon_ms");
    refuse(&f, "lacks 'intent_horizon_ms'");
    file_close(&f);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct error err;
    assert_null(model_load("/nonexistent/model", &err));
    assert_non_null(strstr(err.text, "/nonexistent/model"));
    assert_null(model_load(folder, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
    char fifo[80];
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_null(model_load(fifo, &err)); /* and does not wait for a writer */
    assert_non_null(strstr(err.text, "not a regular file"));
    unlink(fifo);
}

/* A limit on the size of files stands for the full disk. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    save_good();
    struct error err;
    struct rlimit old, small = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY};
    struct model *m = model_make(&shape, 99), *back;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int result = model_save(m, path, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(result, -1);
    assert_non_null(strstr(err.text, "cannot write"));
    back = model_load(path, &err);
    assert_non_null(back);
    assert_true(back->id != m->id);
    char command[96];
    snprintf(command, sizeof command, "test \"$(ls %s | wc -l)\" = 1", folder); /* nothing is left lying about */
    assert_int_equal(system(command), 0);
    assert_int_equal(model_save(m, "/nonexistent/model", &err), -1);
    assert_non_null(strstr(err.text, "cannot create a file beside it"));
    model_destroy(&back);
    model_destroy(&m);
}

static void limits_are_said_when_a_model_is_built(void **state)
{
    (void)state;
    struct error err;
    struct model *m = model_create();
    const struct str name = str_of("a");
    assert_int_equal(model_add_layer(m, 4, &err), -1);
    assert_non_null(strstr(err.text, "no inputs"));
    assert_int_equal(model_add_embedding(m, MODEL_ITEM, MODEL_WIDTH_MAX + 1, &name, 1, &err), -1);
    assert_int_equal(model_add_embedding(m, MODEL_ITEM, 4, &name, 1, &err), 0);
    assert_int_equal(model_add_embedding(m, MODEL_CATEGORY, MODEL_WIDTH_MAX, &name, 1, &err),
                     -1); /* together too wide */
    for (int i = 0; i < MODEL_FEATURES_MAX; i++)
        assert_int_equal(model_add_feature(m, &(struct model_feature){.column = "x", .scale = 1, .clip = 1}, &err), 0);
    assert_int_equal(model_add_feature(m, &(struct model_feature){.column = "x", .scale = 1, .clip = 1}, &err), -1);
    assert_int_equal(model_seal(m, &err), -1);
    for (int i = 0; i < MODEL_LAYERS_MAX; i++)
        assert_int_equal(model_add_layer(m, 1, &err), 0);
    assert_int_equal(model_add_layer(m, 1, &err), -1);
    assert_int_equal(model_add_head(m, "a", MODEL_SOFTMAX, "category", NULL, 0, &err), -1);
    assert_int_equal(model_add_head(m, "item", MODEL_SOFTMAX, "item", &name, 1, &err), 0);
    assert_int_equal(m->interest, 0);
    assert_int_equal(model_add_head(m, "item", MODEL_SOFTMAX, "item", &name, 1, &err), -1);
    assert_int_equal(model_add_head(m, "category", MODEL_SOFTMAX, "category", &name, 1, &err), 0);
    assert_int_equal(m->interest, 1); /* categories come before items */
    assert_int_equal(model_add_head(m, "churn", MODEL_SIGMOID, "label:churn", NULL, 0, &err), 0);
    assert_int_equal(m->intent, -1);
    assert_int_equal(model_seal(m, &err), 0);
    model_destroy(&m);
    model_destroy(&m);
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
        cmocka_unit_test(what_is_saved_is_loaded_again),
        cmocka_unit_test(the_id_follows_content_alone),
        cmocka_unit_test(names_are_found_and_escaped),
        cmocka_unit_test(a_file_cut_short_anywhere_is_refused),
        cmocka_unit_test(a_header_that_cannot_be_is_refused),
        cmocka_unit_test(wrong_tensors_are_refused_by_name),
        cmocka_unit_test(weights_that_are_no_numbers_are_refused),
        cmocka_unit_test(wrong_metadata_is_refused_by_name),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(limits_are_said_when_a_model_is_built),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
