// SPDX-License-Identifier: Apache-2.0
// cmd_train.c - `gaitd train`: the command line. The work is in train_job.c.
#include "arguments.h"
#include "cmd.h"
#include "train_job.h"
#include "value.h"

#include "gait/log.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd train {--events FILE... | --from-kafka} --out MODEL [OPTION...]\n\n"
          "Trains a model on event files or a topic, with the decode and window code that serves, and says\n"
          "how good it is.\n\n"
          "Data\n"
          "  --events FILE...      JSON lines or, by their names, CSV with a header (the same mapping); plain, gzip\n"
          "                        or zstd, in the order of time; - is standard input\n"
          "  --from-kafka          instead of files: the topic of source.kafka, from its beginning to its end as of\n"
          "                        now; joins no group and commits nothing, so daemons may run\n"
          "  --csv-delimiter C     (, and a tab for .tsv)\n"
          "  -c, --config FILE     the daemon's configuration: mapping, event types, windows (defaults)\n"
          "  --target LIST         what to predict: category, item, intent, label:NAME, several with commas\n"
          "                        (category,intent)\n"
          "  --sequence KIND       what one sequence is: user or session (user)\n"
          "  --catalogue FILE      CSV of items: id, then attributes (colour, brand, price …) under a header; items\n"
          "                        that resemble each other then learn from each other\n"
          "  --labels FILE,...     for label:NAME: lines user,label or user,label,unix-ms[,known-ms] after a header\n"
          "                        user,NAME…, one file for each name; gaitd label makes such files\n"
          "  --purchase TYPE       the event type that intent looks for (purchase)\n"
          "  --horizon TIME        how far intent looks ahead (1h)\n"
          "  --exclude-days LIST   learn nothing from these days (UTC), as from a sale: 2026-11-27,2026-11-30\n"
          "  --against MODEL       judge this one, such as the one in use, on the same validation part\n"
          "  --valid SHARE         this share of events, the latest, validates (0.1)\n"
          "  --folds K             first measure by K forward-chaining folds: each learns from what lies before its\n"
          "                        slice of time and is judged on it; mean and spread beside the baselines'. There is\n"
          "                        no split at random: it would let a model learn from the future\n"
          "Model\n"
          "  --embed FIELD=N,...   embedded fields and their widths; fields: type category item country campaign\n"
          "                        page currency (type=8,category=16; with target item also item=64)\n"
          "  --features LIST       window columns, or none, or default (default; none with --sequence session)\n"
          "  --layers N,...        widths of the LSTM layers (64)\n"
          "  --no-tie              give an item or category head weights of its own, not the embedding's\n"
          "  --min-count N         names met less often are unknown (2)    --vocabulary N  at most so many (100000)\n"
          "  --ensemble N          networks of N seeds, their logits averaged, in one model (1)\n"
          "Learning\n"
          "  --epochs N (30)  --patience N (3; 0 = never stop early)  --batch N sequences (32)  --rate R (0.001)\n"
          "  with target item instead: --layers 128 --epochs 15 --batch 64 --rate 0.004 --schedule cosine\n"
          "  --dropout 0.35 --input-dropout 0.1\n"
          "  --schedule constant|cosine|halving (constant)  --dropout P (0.2)  --input-dropout P (0)\n"
          "  --clip NORM (1; 0 = off)  --l1 X (0)  --l2 X (0)  --class-weights none|balanced (none)\n"
          "  --samples N           with over 6000 items, learn from N of them at a time; 0 = all (2048)\n"
          "  --steps N             events of back-propagation; longer sequences carry their state on (28)\n"
          "  --windows             cut sequences into windows of --steps events that begin from zero\n"
          "  --no-refit            leave out the second run, on everything, for as many epochs as were best\n"
          "  --preset NAME         purchase-28: LSTM 128, 64, dropout 0.2, windows of 28, batch 32, 10 epochs\n"
          "                        items: next item of a session, which is also what --target item begins from\n"
          "  --seed N (1)  --threads N (1)\n"
          "Output\n"
          "  --out MODEL           safetensors    --card FILE  the model card (MODEL with .md)\n"
          "  --resume              go on where the same command was broken off, by MODEL.checkpoint, which is written\n"
          "                        after every epoch; the same bytes come out as if it had not been broken off\n"
          "  -q, --quiet           only errors    -h, --help   print this text\n\n"
          "Ctrl-C keeps the best so far; a second one gives up.\n\n"
          "Example: gaitd train --events day1.jsonl.gz day2.jsonl.gz --out shop.safetensors --threads 2\n", out);
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

static int parse_count(const char *text, int64_t low, int64_t high, uint32_t *out, struct error *err)
{
    int64_t value;
    if (value_int(text, &value, err) < 0)
        return -1;
    if (value < low || value > high)
        return error_set(err, "%s is not within %lld and %lld", text, (long long)low, (long long)high);
    *out = (uint32_t)value;
    return 0;
}

static int parse_real(const char *text, double low, double high, double *out, struct error *err)
{
    if (value_real(text, out, err) < 0)
        return -1;
    return *out >= low && *out <= high ? 0 : error_set(err, "%s is not within %g and %g", text, low, high);
}

static int parse_share(const char *text, float *out, struct error *err)
{
    double value;
    if (parse_real(text, 0, 0.95, &value, err) < 0)
        return -1;
    *out = (float)value;
    return 0;
}

/* Which of the names; -1 with all of them. */
static int parse_choice(const char *text, const char *const *names, int *out, struct error *err)
{
    char all[256] = "";
    for (int i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return 0;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", names[i]);
    }
    return error_set(err, "'%s' is none of %s", text, all);
}

/* Cuts `text` at commas, in place. */
static int parse_list(char *text, const char **out, size_t max, size_t *n, struct error *err)
{
    *n = 0;
    for (char *part; (part = strsep(&text, ",")) != NULL;) {
        if (!*part)
            return error_set(err, "an empty name in the list");
        if (*n == max)
            return error_set(err, "more than %zu names", max);
        out[(*n)++] = part;
    }
    return 0;
}

static int parse_layers(char *text, struct train_outline *o, struct error *err)
{
    const char *parts[MODEL_LAYERS_MAX];
    size_t n;
    if (parse_list(text, parts, MODEL_LAYERS_MAX, &n, err) < 0)
        return -1;
    o->layers_n = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        if (parse_count(parts[i], 1, MODEL_WIDTH_MAX, &o->hidden[i], err) < 0)
            return -1;
    return 0;
}

/* Whether the text from `from` to `to` is the field's name. */
static bool is_field(const char *from, const char *to, enum model_field field)
{
    return str_equal((struct str){from, (uint32_t)(to - from)}, str_of(model_field_name(field)));
}

static int parse_embed(char *text, struct train_outline *o, struct error *err)
{
    const char *parts[MODEL_FIELDS];
    size_t n;
    memset(o->width, 0, sizeof o->width);
    if (strcmp(text, "none") == 0)
        return 0;
    if (parse_list(text, parts, MODEL_FIELDS, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char *equals = strchr(parts[i], '=');
        int field = 0;
        while (equals && field < MODEL_FIELDS && !is_field(parts[i], equals, (enum model_field)field))
            field++;
        if (!equals || field == MODEL_FIELDS)
            return error_set(err, "'%s' is not FIELD=WIDTH; fields are type, category, item, country, campaign, page "
                             "and currency", parts[i]);
        if (parse_count(equals + 1, 1, 1024, &o->width[field], err) < 0)
            return -1;
    }
    return 0;
}

static int parse_targets(char *text, struct train_outline *o, struct error *err)
{
    size_t n;
    if (parse_list(text, o->targets, MODEL_HEADS_MAX, &n, err) < 0)
        return -1;
    o->targets_n = (uint32_t)n;
    return 0;
}

/* Whether --target names item; looked for before all else, because other options refine what follows from it. */
static bool wants_items(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *list = strncmp(argv[i], "--target=", 9) == 0 ? argv[i] + 9
                           : strcmp(argv[i], "--target") == 0 && i + 1 < argc ? argv[i + 1] : "";
        for (const char *at = list; (at = strstr(at, "item")) != NULL; at++)
            if ((at == list || at[-1] == ',') && (!at[4] || at[4] == ','))
                return true;
    }
    return false;
}

static int parse_features(char *text, struct train_job *job, struct error *err)
{
    job->features_n = 0;
    job->default_features = strcmp(text, "default") == 0;
    if (job->default_features || strcmp(text, "none") == 0)
        return 0;
    return parse_list(text, job->features, MODEL_FEATURES_MAX, &job->features_n, err);
}

/* Chosen on held-out visits of a clothing shop (tests/gates/eshop.sh). */
static void set_items(struct train_job *job)
{
    job->outline.width[MODEL_ITEM] = 64;
    job->outline.layers_n = 1;
    job->outline.hidden[0] = 128;
    job->task.dropout = 0.35f;
    job->task.dropout_input = 0.1f;
    job->learn.lanes = 64;
    job->learn.rate = 4e-3;
    job->learn.schedule = TRAIN_COSINE;
    job->learn.epochs = 15;
}

static int parse_preset(const char *name, struct train_job *job, struct error *err)
{
    if (strcmp(name, "purchase-28") == 0) {
        /* The classical recipe: LSTM(128), dropout, LSTM(64), dropout, one sigmoid; Adam, ten epochs of batch 32. */
        job->outline.targets_n = 1;
        job->outline.targets[0] = "intent";
        job->outline.layers_n = 2;
        job->outline.hidden[0] = 128;
        job->outline.hidden[1] = 64;
        job->task.dropout = 0.2f;
        job->learn.windows = true;
        job->learn.steps = 28;
        job->learn.lanes = 32;
        job->learn.epochs = 10;
        job->learn.patience = 0;
        job->learn.rate = 1e-3;
        job->learn.clip = 0;
        return 0;
    }
    if (strcmp(name, "items") != 0)
        return error_set(err, "'%s' is none of purchase-28, items", name);
    job->sequence = TRAIN_BY_SESSION;
    job->outline.targets_n = 1;
    job->outline.targets[0] = "item";
    job->default_features = false;
    set_items(job);
    return 0;
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

enum {
    OPT_EVENTS = 256, OPT_TARGET, OPT_SEQUENCE, OPT_LABELS, OPT_PURCHASE, OPT_HORIZON, OPT_VALID, OPT_EMBED,
    OPT_FEATURES, OPT_LAYERS, OPT_NO_TIE, OPT_MIN_COUNT, OPT_VOCABULARY, OPT_ENSEMBLE, OPT_EPOCHS, OPT_PATIENCE,
    OPT_BATCH, OPT_RATE, OPT_SCHEDULE, OPT_DROPOUT, OPT_INPUT_DROPOUT, OPT_CLIP, OPT_L1, OPT_L2, OPT_CLASS_WEIGHTS,
    OPT_STEPS, OPT_WINDOWS, OPT_REFIT, OPT_PRESET, OPT_SEED, OPT_THREADS, OPT_OUT, OPT_CARD,
    OPT_CATALOGUE, OPT_SAMPLES, OPT_DELIMITER, OPT_EXCLUDE, OPT_KAFKA, OPT_RESUME, OPT_AGAINST, OPT_FOLDS,
};

static const struct long_option long_options[] = {
    {"events", required_argument, NULL, OPT_EVENTS}, {"config", required_argument, NULL, 'c'},
    {"target", required_argument, NULL, OPT_TARGET}, {"sequence", required_argument, NULL, OPT_SEQUENCE},
    {"labels", required_argument, NULL, OPT_LABELS}, {"purchase", required_argument, NULL, OPT_PURCHASE},
    {"horizon", required_argument, NULL, OPT_HORIZON}, {"valid", required_argument, NULL, OPT_VALID},
    {"embed", required_argument, NULL, OPT_EMBED}, {"features", required_argument, NULL, OPT_FEATURES},
    {"layers", required_argument, NULL, OPT_LAYERS}, {"no-tie", no_argument, NULL, OPT_NO_TIE},
    {"min-count", required_argument, NULL, OPT_MIN_COUNT}, {"vocabulary", required_argument, NULL, OPT_VOCABULARY},
    {"ensemble", required_argument, NULL, OPT_ENSEMBLE}, {"epochs", required_argument, NULL, OPT_EPOCHS},
    {"patience", required_argument, NULL, OPT_PATIENCE}, {"batch", required_argument, NULL, OPT_BATCH},
    {"rate", required_argument, NULL, OPT_RATE}, {"schedule", required_argument, NULL, OPT_SCHEDULE},
    {"dropout", required_argument, NULL, OPT_DROPOUT}, {"input-dropout", required_argument, NULL, OPT_INPUT_DROPOUT},
    {"clip", required_argument, NULL, OPT_CLIP}, {"l1", required_argument, NULL, OPT_L1},
    {"l2", required_argument, NULL, OPT_L2}, {"class-weights", required_argument, NULL, OPT_CLASS_WEIGHTS},
    {"steps", required_argument, NULL, OPT_STEPS}, {"windows", no_argument, NULL, OPT_WINDOWS},
    {"no-refit", no_argument, NULL, OPT_REFIT}, {"preset", required_argument, NULL, OPT_PRESET},
    {"seed", required_argument, NULL, OPT_SEED}, {"threads", required_argument, NULL, OPT_THREADS},
    {"out", required_argument, NULL, OPT_OUT}, {"card", required_argument, NULL, OPT_CARD},
    {"csv-delimiter", required_argument, NULL, OPT_DELIMITER}, {"samples", required_argument, NULL, OPT_SAMPLES},
    {"catalogue", required_argument, NULL, OPT_CATALOGUE}, {"exclude-days", required_argument, NULL, OPT_EXCLUDE},
    {"from-kafka", no_argument, NULL, OPT_KAFKA}, {"resume", no_argument, NULL, OPT_RESUME},
    {"against", required_argument, NULL, OPT_AGAINST},
    {"folds", required_argument, NULL, OPT_FOLDS},
    {"quiet", no_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
};

static int set_data(struct train_job *job, int option, char *value, struct error *err)
{
    int kind;
    switch (option) {
    case 'c': job->conf = value; return 0;
    case OPT_DELIMITER:
        job->csv_delimiter = strcmp(value, "\\t") == 0 ? '\t' : *value;
        return strlen(value) == 1 || job->csv_delimiter == '\t' ? 0 : error_set(err, "'%s' is not one byte", value);
    case OPT_FOLDS: return parse_count(value, 1, TRAIN_FOLDS_MAX, &job->folds, err);
    case OPT_RESUME: job->resume = true; return 0;
    case OPT_KAFKA: job->from_kafka = true; return 0;
    case OPT_LABELS: job->labels = value; return 0;
    case OPT_CATALOGUE: job->catalogue = value; return 0;
    case OPT_AGAINST: job->against = value; return 0;
    case OPT_EXCLUDE: return train_days_parse(&job->exclude, value, err);
    case OPT_PURCHASE: job->task.purchase = value; return 0;
    case OPT_TARGET: return parse_targets(value, &job->outline, err);
    case OPT_HORIZON: return value_duration(value, false, &job->outline.intent_horizon_ms, err);
    case OPT_VALID: return parse_real(value, 0, 0.9, &job->valid, err);
    case OPT_FEATURES: return parse_features(value, job, err);
    case OPT_SEQUENCE:
        if (parse_choice(value, (const char *const[]){"user", "session", NULL}, &kind, err) < 0)
            return -1;
        job->sequence = kind ? TRAIN_BY_SESSION : TRAIN_BY_USER;
        return 0;
    case OPT_OUT: job->out = value; return 0;
    case OPT_CARD: job->card = value; return 0;
    case 'q': job->quiet = true; return 0;
    default: assert(!"an option without a case"); return -1;
    }
}

static int set_model(struct train_job *job, int option, char *value, struct error *err)
{
    switch (option) {
    case OPT_EMBED: return parse_embed(value, &job->outline, err);
    case OPT_LAYERS: return parse_layers(value, &job->outline, err);
    case OPT_NO_TIE: job->task.tie = false; return 0;
    case OPT_MIN_COUNT: return parse_count(value, 1, 1000000, &job->outline.min_count, err);
    case OPT_VOCABULARY: return parse_count(value, 2, MODEL_VOCABULARY_MAX, &job->outline.vocabulary_max, err);
    case OPT_ENSEMBLE: return parse_count(value, 1, TRAIN_ENSEMBLE_MAX, &job->ensemble, err);
    case OPT_PRESET: return parse_preset(value, job, err);
    default: return set_data(job, option, value, err);
    }
}

static int set_option(struct train_job *job, int option, char *value, struct error *err)
{
    struct train_options *o = &job->learn;
    int choice;
    uint32_t count = 0;
    switch (option) {
    case OPT_EPOCHS: return parse_count(value, 1, 10000, &o->epochs, err);
    case OPT_PATIENCE: return parse_count(value, 0, 10000, &o->patience, err);
    case OPT_BATCH: return parse_count(value, 1, 4096, &o->lanes, err);
    case OPT_STEPS: return parse_count(value, 1, 1024, &o->steps, err);
    case OPT_THREADS: return parse_count(value, 1, TRAIN_THREADS_MAX, &o->threads, err);
    case OPT_RATE: return parse_real(value, 1e-8, 10, &o->rate, err);
    case OPT_CLIP: return parse_real(value, 0, 1e6, &o->clip, err);
    case OPT_L1: return parse_real(value, 0, 1, &o->l1, err);
    case OPT_L2: return parse_real(value, 0, 1, &o->l2, err);
    case OPT_DROPOUT: return parse_share(value, &job->task.dropout, err);
    case OPT_INPUT_DROPOUT: return parse_share(value, &job->task.dropout_input, err);
    case OPT_WINDOWS: o->windows = true; return 0;
    case OPT_SAMPLES: return parse_count(value, 0, 65536, &job->samples, err);
    case OPT_REFIT: job->refit = false; return 0;
    case OPT_SEED:
        if (parse_count(value, 0, UINT32_MAX, &count, err) < 0)
            return -1;
        o->seed = count;
        return 0;
    case OPT_SCHEDULE:
        if (parse_choice(value, (const char *const[]){"constant", "cosine", "halving", NULL}, &choice, err) < 0)
            return -1;
        o->schedule = (enum train_schedule)choice;
        return 0;
    case OPT_CLASS_WEIGHTS:
        if (parse_choice(value, (const char *const[]){"none", "balanced", NULL}, &choice, err) < 0)
            return -1;
        job->task.positive_weight = choice ? 0 : 1;
        return 0;
    default: return set_model(job, option, value, err);
    }
}

static int add_file(struct train_job *job, const char *path, struct error *err)
{
    if (job->files_n == TRAIN_FILES_MAX)
        return error_set(err, "more than %d event files", TRAIN_FILES_MAX);
    job->files[job->files_n++] = path;
    return 0;
}

/* The command as typed, for the model's record; whether it was resumed makes no difference to the model. */
static char *command_of(int argc, char **argv)
{
    size_t n = 16;
    for (int i = 0; i < argc; i++)
        n += strlen(argv[i]) + 1;
    char *text = calloc(n, 1);
    assert(text);
    strcpy(text, "gaitd");
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--resume") != 0)
            strcat(strcat(text, " "), argv[i]);
    return text;
}

/* 0 = go on; else the exit status + 1. */
static int parse(int argc, char **argv, struct train_job *job)
{
    struct error err;
    bool features_given = false;
    if (wants_items(argc, argv))
        set_items(job);
    for (int c; (c = getopt_long(argc, argv, "c:qh", long_options, NULL)) != -1;) {
        if (c == 'h' || c == '?') {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 1 : 3;
        }
        features_given |= c == OPT_FEATURES;
        int rc = c == OPT_EVENTS ? add_file(job, optarg, &err) : set_option(job, c, optarg, &err);
        if (rc == 0)
            continue;
        const char *name = "config";
        for (size_t i = 0; long_options[i].name; i++)
            if (long_options[i].val == c)
                name = long_options[i].name;
        fprintf(stderr, "gaitd train: --%s: %s\n", name, err.text);
        return 3;
    }
    for (; optind < argc; optind++)
        if (add_file(job, argv[optind], &err) < 0) {
            fprintf(stderr, "gaitd train: %s\n", err.text);
            return 3;
        }
    if (job->from_kafka && (job->files_n || !job->conf)) {
        fprintf(stderr, "gaitd train: --from-kafka %s\n",
                job->files_n ? "and --events exclude each other" : "needs --config, which names broker and topic");
        return 3;
    }
    if (!(job->files_n || job->from_kafka) || !job->out) {
        fprintf(stderr, "gaitd train: --%s is missing\n", job->out ? "events (or --from-kafka)" : "out");
        return 3;
    }
    if (job->sequence == TRAIN_BY_SESSION && !features_given)
        job->default_features = false;
    return 0;
}

int cmd_train(int argc, char **argv)
{
    struct train_stop stop = {0};
    char *command = command_of(argc, argv);
    struct train_job job = {
        .sequence = TRAIN_BY_USER, .default_features = true, .valid = 0.1, .ensemble = 1, .samples = 2048,
        .refit = true, .command = command, .stop = &stop,
        .outline = {.targets_n = 2, .targets = {"category", "intent"}, .layers_n = 1, .hidden = {64}, .min_count = 2,
                    .vocabulary_max = 100000, .intent_horizon_ms = 3600000,
                    .width = {[MODEL_TYPE] = 8, [MODEL_CATEGORY] = 16}},
        .task = {.tie = true, .dropout = 0.2f, .positive_weight = 1, .purchase = "purchase"},
        .learn = {.lanes = 32, .steps = 28, .epochs = 30, .patience = 3, .rate = 1e-3, .clip = 1, .threads = 1,
                  .seed = 1},
    };
    struct error err;
    signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT);
    int status = parse(argc, argv, &job);
    if (status == 0) {
        job.progress = !job.quiet && isatty(STDERR_FILENO); /* a journal wants no moving line */
        train_stop_arm();
        status = 1;
        if (train_job_run(&job, &err) < 0) {
            fprintf(stderr, "gaitd train: %s\n", err.text);
            status = 2;
        }
    }
    free(command);
    return status - 1;
}
