// SPDX-License-Identifier: Apache-2.0
// cmd_tail.c - `gaitd tail`: follow scores and alerts in the Kafka topics that the configuration names, or in lines
// from standard input. It commits nothing and joins no group.
#include "arguments.h"
#include "cmd.h"
#include "config_find.h"
#include "tail_line.h"

#include "gait/error.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 500, METADATA_MS = 10000, ERROR_BYTES = 512 };

struct tail {
    struct tail_form form;
    bool scores, alerts;     /* both: whatever is there */
    bool begin;              /* from the topics' beginning, to their end */
    size_t partitions, ended;
};

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd tail -c FILE [--user U] [--alerts | --scores] [--json] [--begin]\n"
          "       gaitd tail [--user U] [--json] -\n\n"
          "Follows scores and alerts as they come, from the topics of sink.kafka; - reads JSON lines from standard\n"
          "input.\n\n"
          "  -c, --config FILE   the daemon's configuration: brokers, settings and topics of sink.kafka\n"
          "  -u, --user U        only this user\n"
          "  -A, --alerts        only alerts\n"
          "  -S, --scores        only scores\n"
          "  -j, --json          the messages as they are, a line each\n"
          "  -b, --begin         from the beginning of the topics to their end, then stop\n"
          "  -h, --help          print this text\n\n"
          "Credentials of a service: CREDENTIALS_DIRECTORY=/etc/gait/secrets gaitd tail -c FILE\n\n"
          "Examples: gaitd tail -c /etc/gait/gaitd.yaml --alerts\n"
          "          tail -F scores.jsonl | gaitd tail --user u17 -\n", out);
}

static int follow_input(const struct tail *tail)
{
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0; fflush(stdout))
        tail_line(stdout, line, (size_t)n - (line[n - 1] == '\n'), &tail->form);
    free(line);
    return ferror(stdin) || ferror(stdout);
}

/* ---- Kafka -------------------------------------------------------------------------------------------------- */

static int set(rd_kafka_conf_t *conf, const char *name, const char *value, struct error *err)
{
    char text[ERROR_BYTES]; /* it may repeat the value, which may be a secret */
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return 0;
    return error_set(err, "librdkafka refuses the setting %s", name);
}

/* Settings of a producer are no mistake here, they only say nothing to a consumer. */
static rd_kafka_t *make_consumer(const struct config *config, bool begin, struct error *err)
{
    const char *const *brokers = config_find(config, "sink.kafka", "brokers");
    const struct option_map *settings = config_find(config, "sink.kafka", "settings");
    char text[ERROR_BYTES];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int rc = set(conf, "bootstrap.servers", *brokers, err) | set(conf, "client.id", "gaitd-tail", err) |
             set(conf, "group.id", "gaitd-tail", err) | set(conf, "enable.auto.commit", "false", err) |
             set(conf, "isolation.level", "read_committed", err) | set(conf, "log_level", "3", err) |
             set(conf, "enable.partition.eof", begin ? "true" : "false", err);
    for (size_t i = 0; settings && i < settings->n && rc == 0; i++)
        rc = set(conf, settings->at[i].key, settings->at[i].values.at[0], err);
    rd_kafka_t *rk = rc == 0 ? rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text) : NULL;
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        if (rc == 0)
            error_set(err, "librdkafka: %s", text);
        return NULL;
    }
    rd_kafka_poll_set_consumer(rk);
    return rk;
}

static int add_topic(struct tail *tail, rd_kafka_t *rk, const char *name, rd_kafka_topic_partition_list_t *list,
                     struct error *err)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, name, NULL);
    if (!topic)
        return error_set(err, "'%s' is no topic name", name);
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, topic, &metadata, METADATA_MS);
    rd_kafka_topic_destroy(topic);
    if (code)
        return error_set(err, "no broker answers: %s", rd_kafka_err2str(code));
    code = metadata->topics[0].err;
    for (int i = 0; !code && i < metadata->topics[0].partition_cnt; i++, tail->partitions++)
        rd_kafka_topic_partition_list_add(list, name, metadata->topics[0].partitions[i].id)->offset =
            tail->begin ? RD_KAFKA_OFFSET_BEGINNING : RD_KAFKA_OFFSET_END;
    rd_kafka_metadata_destroy(metadata);
    return code ? error_set(err, "topic %s: %s", name, rd_kafka_err2str(code)) : 0;
}

static int assign(struct tail *tail, const struct config *config, rd_kafka_t *rk, struct error *err)
{
    const char *const *scores = config_find(config, "sink.kafka", "scores");
    const char *const *alerts = config_find(config, "sink.kafka", "alerts");
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    int rc = 0;
    if (tail->scores && strcmp(*scores, "off") != 0)
        rc = add_topic(tail, rk, *scores, list, err);
    if (rc == 0 && tail->alerts && strcmp(*alerts, "off") != 0)
        rc = add_topic(tail, rk, *alerts, list, err);
    if (rc == 0 && list->cnt == 0)
        rc = error_set(err, "sink.kafka sends no such messages: their topic is off");
    rd_kafka_resp_err_t code = rc == 0 ? rd_kafka_assign(rk, list) : RD_KAFKA_RESP_ERR_NO_ERROR;
    if (code)
        rc = error_set(err, "librdkafka: %s", rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
    return rc;
}

/* Until standard output is closed, or a signal ends us; with --begin, until every partition is at its end. */
static int follow(struct tail *tail, rd_kafka_t *rk)
{
    while (!ferror(stdout) && !(tail->begin && tail->ended == tail->partitions)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, POLL_MS);
        if (!message) {
            fflush(stdout);
            continue;
        }
        if (!message->err)
            tail_line(stdout, message->payload, message->len, &tail->form);
        else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
            tail->ended++;
        else
            fprintf(stderr, "gaitd tail: %s\n", rd_kafka_message_errstr(message));
        rd_kafka_message_destroy(message);
        if (isatty(STDOUT_FILENO))
            fflush(stdout);
    }
    return fflush(stdout) || ferror(stdout);
}

static int follow_topics(struct tail *tail, const char *path)
{
    struct config_errors errors = {0};
    struct error err;
    struct config *config = config_load(path, &errors);
    if (!config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    rd_kafka_t *rk = NULL;
    int rc = -1;
    if (!config_find(config, "sink.kafka", "brokers"))
        error_set(&err, "%s has no sink.kafka; a file of sink.file is followed by: tail -F FILE | gaitd tail -", path);
    else if ((rk = make_consumer(config, tail->begin, &err)))
        rc = assign(tail, config, rk, &err);
    if (rc < 0)
        fprintf(stderr, "gaitd tail: %s\n", err.text);
    else
        rc = follow(tail, rk);
    if (rk) {
        rd_kafka_consumer_close(rk);
        rd_kafka_destroy(rk);
    }
    config_destroy(&config);
    return rc ? 1 : 0;
}

static bool read_options(struct tail *tail, const char **path, int argc, char **argv, int *rc)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"user", required_argument, NULL, 'u'},
        {"alerts", no_argument, NULL, 'A'}, {"scores", no_argument, NULL, 'S'}, {"json", no_argument, NULL, 'j'},
        {"begin", no_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "c:u:ASjbh", options, NULL)) != -1;) {
        if (c == 'c')
            *path = optarg;
        else if (c == 'u')
            tail->form.user = optarg;
        else if (c == 'A' || c == 'S')
            tail->scores = c == 'S', tail->alerts = c == 'A';
        else if (c == 'j')
            tail->form.json = true;
        else if (c == 'b')
            tail->begin = true;
        else {
            print_usage(c == 'h' ? stdout : stderr);
            *rc = c == 'h' ? 0 : 2;
            return false;
        }
    }
    return true;
}

int cmd_tail(int argc, char **argv)
{
    struct tail tail = {.scores = true, .alerts = true, .form.colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
    const char *path = NULL;
    int rc = 0;
    if (!read_options(&tail, &path, argc, argv, &rc))
        return rc;
    bool input = optind < argc && strcmp(argv[optind], "-") == 0;
    if (argc - optind > input || input == !!path) {
        fputs("gaitd tail: wants -c FILE, or - for standard input\n", stderr);
        print_usage(stderr);
        return 2;
    }
    return input ? follow_input(&tail) : follow_topics(&tail, path);
}
