// SPDX-License-Identifier: Apache-2.0
// cmd_user.c - `gaitd user erase`: asks the running daemons to forget a user, and waits until they have.
#include "arguments.h"
#include "cmd.h"
#include "config.h"
#include "offline_open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd user erase ID -c FILE [--before MS] [--wait SECONDS]\n\n"
          "Writes a request into the topic source.kafka.erase_topic and waits for the receipts\n"
          "(sink.kafka.erased), one from each partition of the clicks; prints them. A receipt says that the\n"
          "record is empty in the store, that the hash which readers use is gone, and that no event up to\n"
          "erased_ms will be taken into it again.\n\n"
          "  -c, --config FILE   the configuration that the daemons run with\n"
          "      --before MS     forget events up to this Unix time in milliseconds; default: all until now\n"
          "      --wait SECONDS  how long to wait for the receipts; default 60\n"
          "  -h, --help          print this text\n\n"
          "Example: gaitd user erase u4711 -c /etc/gait/gaitd.yaml\n", out);
}

int cmd_user(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"before", required_argument, NULL, 'b'},
        {"wait", required_argument, NULL, 'w'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    const char *path = NULL;
    int64_t before_ms = 0, wait_s = 60;
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        if (c == 'c')
            path = optarg;
        else if (c == 'b')
            before_ms = strtoll(optarg, NULL, 10);
        else if (c == 'w')
            wait_s = strtoll(optarg, NULL, 10);
        else {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (!path || argc - optind != 2 || strcmp(argv[optind], "erase") != 0 || !argv[optind + 1][0] || wait_s <= 0) {
        print_usage(stderr);
        return 2;
    }
    struct error err;
    struct config *config = NULL;
    struct offline *offline = offline_open(path, &config);
    int rc = offline ? offline_erase(offline, argv[optind + 1], before_ms, wait_s * 1000, &err) : -1;
    if (offline && rc < 0)
        fprintf(stderr, "gaitd user erase: %s\n", err.text);
    offline_destroy(&offline);
    config_destroy(&config);
    return rc < 0;
}
