// SPDX-License-Identifier: Apache-2.0
// cmd_gen.c - `gaitd gen`: the command line, the labels file and the pace. The shop itself is shop.c, the outputs are
// gen_out.c.
#include "cmd.h"
#include "gen_out.h"
#include "shop.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SET_MAX = 32, DAYS_MAX = 3650, SIGNAL_EVERY = 4096 };

struct gen {
    struct shop_conf shop;
    double days;
    bool realtime;
    const char *out_path, *labels_path, *brokers, *topic;
    const char *set[SET_MAX];
    size_t set_n;
    struct gen_out *out;
    FILE *labels;
};

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd gen [OPTION...]\n\n"
          "Generates the clicks of a believable shop, fraud included, in the order of time: JSON lines, or messages\n"
          "of a Kafka topic. The same options give the same bytes on any machine.\n\n"
          "  --users N           customers (10000)\n"
          "  --events N          events (100000)\n"
          "  --seed N            another seed, another shop (1)\n"
          "  --start TIME        time of the first event: 2025-11-24, 2025-11-24T08:00:00Z, Unix milliseconds or\n"
          "                      'now' (2025-11-24)\n"
          "  --days D            spread the events over about D days of event time (1)\n"
          "  --rate R            or so that R events come per second of event time; where people cannot click\n"
          "                      that fast they are sped up\n"
          "  --realtime          write event n at start + n/rate of real time, with that time as its ts; needs --rate\n"
          "  --skew              nine tenths of the events come from one fiftieth of the users\n"
          "  --fraud SHARE       share of sessions that are fraudulent (0.001)\n"
          "  --labels FILE       the truth about the frauds, JSON lines: user, scenario, first_ts, last_ts, event_ids\n"
          "  --out FILE          gzip when it ends in .gz; '-' is standard output (-)\n"
          "  --brokers LIST      write to Kafka instead, with the user as key\n"
          "  --topic NAME        the topic (gait.clicks)\n"
          "  --set KEY=VALUE     a property of librdkafka, e.g. security.protocol=SASL_SSL; may be repeated\n"
          "  --help              print this text\n\n"
          "Examples: gaitd gen --users 5000 --events 300000 --labels frauds.jsonl --out day.jsonl.gz\n"
          "          gaitd gen --brokers 127.0.0.1:9092 --topic gait.clicks --rate 1000 --realtime --events 600000\n",
          out);
}

static int parse_count(const char *name, const char *text, uint64_t low, uint64_t high, uint64_t *value,
                       struct error *err)
{
    char *end = NULL;
    errno = 0;
    uint64_t x = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || x < low || x > high)
        return error_set(err, "--%s %s: must be a whole number from %" PRIu64 " to %" PRIu64, name, text, low, high);
    *value = x;
    return 0;
}

static int parse_real(const char *name, const char *text, double low, double high, double *value, struct error *err)
{
    char *end = NULL;
    double x = strtod(text, &end);
    if (end == text || *end || !(x >= low && x <= high))
        return error_set(err, "--%s %s: must be a number from %g to %g", name, text, low, high);
    *value = x;
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static int parse_start(const char *text, int64_t *ms, struct error *err)
{
    struct tm tm = {0};
    uint64_t number;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (!rest || *rest) {
        tm = (struct tm){0};
        rest = strptime(text, "%Y-%m-%d", &tm);
    }
    if (strcmp(text, "now") == 0)
        *ms = now_ms();
    else if (rest && !*rest && tm.tm_year > 70)
        *ms = timegm(&tm) * INT64_C(1000);
    else if (parse_count("start", text, SHOP_START_MIN, UINT64_C(4102444800000), &number, NULL) == 0)
        *ms = (int64_t)number;
    else
        return error_set(err, "--start %s: must be like 2025-11-24, 2025-11-24T08:00:00Z, 1763942400000 or 'now'",
                         text);
    return 0;
}

enum { O_USERS = 256, O_EVENTS, O_SEED, O_START, O_DAYS, O_RATE, O_REALTIME, O_SKEW, O_FRAUD, O_LABELS, O_OUT,
       O_BROKERS, O_TOPIC, O_SET };

static const struct option options[] = {
    {"users", required_argument, NULL, O_USERS}, {"events", required_argument, NULL, O_EVENTS},
    {"seed", required_argument, NULL, O_SEED}, {"start", required_argument, NULL, O_START},
    {"days", required_argument, NULL, O_DAYS}, {"rate", required_argument, NULL, O_RATE},
    {"realtime", no_argument, NULL, O_REALTIME}, {"skew", no_argument, NULL, O_SKEW},
    {"fraud", required_argument, NULL, O_FRAUD}, {"labels", required_argument, NULL, O_LABELS},
    {"out", required_argument, NULL, O_OUT}, {"brokers", required_argument, NULL, O_BROKERS},
    {"topic", required_argument, NULL, O_TOPIC}, {"set", required_argument, NULL, O_SET},
    {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
};

static int parse_option(struct gen *gen, int option, const char *text, struct error *err)
{
    uint64_t users;
    switch (option) {
    case O_USERS:
        if (parse_count("users", text, 1, 100000000, &users, err) < 0)
            return -1;
        gen->shop.users = (uint32_t)users;
        return 0;
    case O_EVENTS: return parse_count("events", text, 1, UINT64_C(1000000000000), &gen->shop.events, err);
    case O_SEED: return parse_count("seed", text, 0, UINT64_MAX, &gen->shop.seed, err);
    case O_START: return parse_start(text, &gen->shop.start_ms, err);
    case O_DAYS: return parse_real("days", text, 1e-4, DAYS_MAX, &gen->days, err);
    case O_RATE: return parse_real("rate", text, 1e-4, 1e7, &gen->shop.rate, err);
    case O_FRAUD: return parse_real("fraud", text, 0, 1, &gen->shop.fraud, err);
    case O_REALTIME: gen->realtime = true; return 0;
    case O_SKEW: gen->shop.skew = true; return 0;
    case O_LABELS: gen->labels_path = text; return 0;
    case O_OUT: gen->out_path = text; return 0;
    case O_BROKERS: gen->brokers = text; return 0;
    case O_TOPIC: gen->topic = text; return 0;
    case O_SET:
        if (gen->set_n == SET_MAX)
            return error_set(err, "--set: at most %d of them", SET_MAX);
        gen->set[gen->set_n++] = text;
        return 0;
    }
    return error_set(err, "see gaitd gen --help");
}

/* What only shows in the options together. */
static int complete(struct gen *gen, struct error *err)
{
    if (gen->brokers && gen->out_path)
        return error_set(err, "--brokers and --out exclude each other");
    if (!gen->brokers && (gen->topic || gen->set_n))
        return error_set(err, "--topic and --set need --brokers");
    if (gen->shop.rate > 0 && gen->days > 0)
        return error_set(err, "--rate and --days exclude each other: each says how dense the events lie in time");
    if (gen->realtime && (!(gen->shop.rate > 0) || gen->shop.start_ms >= 0))
        return error_set(err, "--realtime needs --rate, and begins now: no --start");
    double days = gen->days > 0 ? gen->days : 1;
    if (!(gen->shop.rate > 0))
        gen->shop.rate = (double)gen->shop.events / (days * 86400);
    else if ((double)gen->shop.events / gen->shop.rate > DAYS_MAX * 86400.0)
        return error_set(err, "--rate %g: %" PRIu64 " events would take %.0f days; at most %d", gen->shop.rate,
                         gen->shop.events, (double)gen->shop.events / gen->shop.rate / 86400, DAYS_MAX);
    gen->shop.even = gen->realtime;
    if (gen->shop.start_ms < 0)
        gen->shop.start_ms = INT64_C(1763942400000); /* Monday, 2025-11-24 */
    return 0;
}

static void write_label(void *self, const struct shop_label *label)
{
    struct gen *gen = self;
    char text[SHOP_ID_MAX];
    fprintf(gen->labels, "{\"user\":\"%.*s\",\"scenario\":\"%s\",\"first_ts\":%" PRId64 ",\"last_ts\":%" PRId64
            ",\"event_ids\":[", (int)shop_user_name(label->user, text), text, label->scenario, label->first_ms,
            label->last_ms);
    for (size_t i = 0; i < label->n; i++)
        fprintf(gen->labels, "%s\"%.*s\"", i ? "," : "", (int)shop_event_id(label->event_ids[i], text), text);
    fputs("]}\n", gen->labels);
}

/* Wait until `due_ns` of the real-time clock; true when a signal asked to stop. The signals are blocked, so that none
 * is lost between two waits. */
static bool wait_until(const sigset_t *signals, int64_t due_ns)
{
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t left = due_ns - (now.tv_sec * INT64_C(1000000000) + now.tv_nsec);
        struct timespec wait = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        if (left <= 0)
            return false;
        if (sigtimedwait(signals, NULL, &wait) > 0)
            return true;
    }
}

static bool signal_came(const sigset_t *signals)
{
    struct timespec none = {0};
    return sigtimedwait(signals, NULL, &none) > 0;
}

static int write_events(struct gen *gen, const sigset_t *signals, struct error *err)
{
    char line[SHOP_JSON_MAX], key[SHOP_USER_MAX];
    struct shop_event event;
    struct shop *shop = shop_create(&gen->shop, gen->labels ? write_label : NULL, gen);
    int rc = 0;
    bool stop = false;
    double step_ns = 1e9 / gen->shop.rate;
    for (uint64_t n = 0; !stop && rc == 0 && shop_next(shop, &event); n++) {
        if (gen->realtime) {
            int64_t due_ns = gen->shop.start_ms * 1000000 + (int64_t)((double)n * step_ns);
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            if (now.tv_sec * INT64_C(1000000000) + now.tv_nsec < due_ns) {
                rc = gen_out_push(gen->out, err);
                stop = wait_until(signals, due_ns);
            }
        }
        if (n % SIGNAL_EVERY == 0 && !stop)
            stop = signal_came(signals);
        if (rc == 0 && !stop)
            rc = gen_out_write(gen->out, key, shop_user_name(event.user, key), line, shop_event_json(&event, line),
                               err);
    }
    shop_destroy(&shop);
    return rc;
}

static int generate(struct gen *gen, struct error *err)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    if (gen->labels_path && !(gen->labels = fopen(gen->labels_path, "we")))
        return error_set(err, "--labels %s: %s", gen->labels_path, strerror(errno));
    /* Blocked before librdkafka starts its threads, which inherit it: the signals are for this thread. */
    sigprocmask(SIG_BLOCK, &signals, NULL);
    gen->out = gen->brokers ? gen_out_kafka(gen->brokers, gen->topic ? gen->topic : "gait.clicks", gen->set, gen->set_n,
                                            gen->realtime, err)
                            : gen_out_file(gen->out_path ? gen->out_path : "-", err);
    if (gen->out && gen->realtime)
        gen->shop.start_ms = now_ms() + 1;
    int rc = gen->out ? write_events(gen, &signals, err) : -1;
    if (gen->out && gen_out_close(&gen->out, rc < 0 ? NULL : err) < 0)
        rc = -1;
    if (gen->labels && (ferror(gen->labels) | fclose(gen->labels)) && rc == 0)
        rc = error_set(err, "cannot write %s: %s", gen->labels_path, strerror(errno));
    return rc;
}

int cmd_gen(int argc, char **argv)
{
    struct gen gen = {.shop = {.users = 10000, .events = 100000, .seed = 1, .start_ms = -1, .fraud = 0.001}};
    struct error err;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h' || c == '?') {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
        if (parse_option(&gen, c, optarg, &err) < 0) {
            fprintf(stderr, "gaitd gen: %s\n", err.text);
            return 2;
        }
    }
    if (optind < argc || complete(&gen, &err) < 0) {
        if (optind < argc)
            error_set(&err, "what is '%s'?", argv[optind]);
        fprintf(stderr, "gaitd gen: %s\n", err.text);
        return 2;
    }
    if (generate(&gen, &err) < 0) {
        fprintf(stderr, "gaitd gen: %s\n", err.text);
        return 1;
    }
    return 0;
}
