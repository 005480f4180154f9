// SPDX-License-Identifier: Apache-2.0
// cmd_state.c - `gaitd state`: the table of its verbs. What they do is in state_*.c.
#include "arguments.h"
#include "cmd.h"
#include "state.h"

#include "gait/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb {
    const char *name, *operand; /* NULL = it takes none */
    int (*run)(const struct state_call *call, struct error *err);
    const char *usage;
} verbs[] = {
    {"export", "FILE", state_export,
     "Usage: gaitd state export FILE -c CONFIG [--partition P]\n\n"
     "Writes all records into one file (gzip, with a checksum), consistent for each partition, while the\n"
     "daemons run.\n\n"
     "Example: gaitd state export /backup/gait.bak -c /etc/gait/gaitd.yaml\n"},
    {"import", "FILE", state_import,
     "Usage: gaitd state import FILE -c CONFIG [--partition P] --yes\n\n"
     "Puts the records of an export in place of those that are there. No daemon may run. The daemons then\n"
     "replay the log from where the export was made, silently as far as they had come.\n\n"
     "Example: gaitd state import /backup/gait.bak -c /etc/gait/gaitd.yaml --yes\n"},
    {"rewind", NULL, state_rewind,
     "Usage: gaitd state rewind --to OFFSET|TIME|earliest -c CONFIG [--partition P] --yes\n\n"
     "Has the daemons process the log from there once more, outputs included. The records are deleted:\n"
     "they will contain what lies from there on, and nothing that lies before. No daemon may run. TIME is\n"
     "UTC. Users who were erased stay so as long as the topic of erasures retains the requests.\n\n"
     "Example: gaitd state rewind --to 2026-03-01T06:00:00Z -c /etc/gait/gaitd.yaml --yes\n"},
    {"rekey", NULL, state_rekey,
     "Usage: gaitd state rekey --partitions N -c CONFIG --yes\n\n"
     "Moves the records after the topic of the clicks has got more partitions. The way to do it: stop the\n"
     "producers, wait until the daemons have no lag, stop the daemons, add the partitions, rekey, start\n"
     "the daemons, start the producers. Producers must choose the partition as Java's do (murmur2 of the\n"
     "user id as key). A later loss of the whole store can then only be healed from a backup: in the log,\n"
     "a user's older events lie in another partition.\n\n"
     "Example: gaitd state rekey --partitions 24 -c /etc/gait/gaitd.yaml --yes\n"},
    {"inspect", "USER", state_inspect,
     "Usage: gaitd state inspect USER -c CONFIG [--partition P] [--json]\n\n"
     "Shows what the store has of a user: windows by name, the last events, sections, erasure.\n\n"
     "Example: gaitd state inspect u4711 -c /etc/gait/gaitd.yaml\n"},
    {"verify", NULL, state_verify,
     "Usage: gaitd state verify -c CONFIG [--sample N] [--seed N] [--user U] [--partition P]\n"
     "                          [--ignore SECTION,...] [--json]\n\n"
     "Works the records of some users out anew from the log, with this configuration and model, and\n"
     "compares them with those in the store. Daemons may run. All of the retained log up to W is read,\n"
     "without joining the group. Exit status 1 when a record differs; the sections that do are named.\n\n"
     "  --sample N   how many users, chosen at random (100)\n"
     "  --seed N     another choice (1)\n"
     "  --user U     only this one\n"
     "  --ignore S   do not compare these sections. A record that was once worked out under another model or other "
     "rules\n"
     "               differs by right in model_lstm or rule_fraud; after a rewind or rekey in everything\n\n"
     "Example: gaitd state verify --sample 1000 -c /etc/gait/gaitd.yaml\n"},
};

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd state VERB [OPERAND] -c CONFIG [OPTION...]\n\n"
          "  export FILE   write all records into a file, while the daemons run\n"
          "  import FILE   put them back\n"
          "  rewind        process the log from an earlier place once more\n"
          "  rekey         move the records after the topic has got more partitions\n"
          "  inspect USER  show the record of one user\n"
          "  verify        work some users' records out from the log and compare\n\n"
          "  -c, --config FILE   the configuration that the daemons run with\n"
          "      --partition P   only this one\n"
          "      --yes           do what cannot be undone\n"
          "      --json          for programs\n"
          "  -h, --help          print this text; after a verb, more about it\n\n"
          "Needs store.redis; all but export and inspect need source.kafka too.\n\n"
          "Example: gaitd state inspect u4711 -c /etc/gait/gaitd.yaml\n", out);
}

static int32_t number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    return *text && !*end && n >= 0 && n < 1000000 ? (int32_t)n : -2;
}

/* -1 = go on, else the exit status. */
static int read_options(int argc, char **argv, const struct verb *verb, struct state_call *call, const char **path)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"partition", required_argument, NULL, 'p'},
        {"partitions", required_argument, NULL, 'n'}, {"to", required_argument, NULL, 't'}, {"yes", no_argument,
                NULL, 'y'},
        {"json", no_argument, NULL, 'j'}, {"sample", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'r'}, {"user", required_argument, NULL, 'u'},
        {"ignore", required_argument, NULL, 'i'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (c == 'c')
            *path = optarg;
        else if (c == 'p')
            call->partition = number(optarg);
        else if (c == 'n')
            call->partitions = number(optarg);
        else if (c == 't')
            call->to = optarg;
        else if (c == 's')
            call->sample = number(optarg);
        else if (c == 'r')
            call->seed = number(optarg);
        else if (c == 'u')
            call->user = optarg;
        else if (c == 'i')
            call->ignore = optarg;
        else if (c == 'y')
            call->yes = true;
        else if (c == 'j')
            call->json = true;
        else {
            fputs(verb->usage, c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (!*path || call->partition < -1 || call->partitions < 0 || call->sample < 1 || call->seed < 0 ||
        argc - optind != (verb->operand ? 1 : 0)) {
        fputs(verb->usage, stderr);
        return 2;
    }
    call->operand = verb->operand ? argv[optind] : NULL;
    return -1;
}

int cmd_state(int argc, char **argv)
{
    const struct verb *verb = NULL;
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            verb = &verbs[i];
    if (!verb) {
        bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
        print_usage(help ? stdout : stderr);
        return help ? 0 : 2;
    }
    struct state_call call = {.partition = -1, .sample = 100, .seed = 1};
    const char *path = NULL;
    int rc = read_options(argc - 1, argv + 1, verb, &call, &path);
    if (rc >= 0)
        return rc;
    struct error err;
    log_setup(LOG_WARNING, LOG_FORMAT_TEXT);
    call.offline = offline_open(path, &call.config);
    rc = call.offline ? verb->run(&call, &err) : -1;
    if (call.offline && rc < 0)
        fprintf(stderr, "gaitd state %s: %s\n", verb->name, err.text);
    offline_destroy(&call.offline);
    config_destroy(&call.config);
    return rc != 0;
}
