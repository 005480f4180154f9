// SPDX-License-Identifier: Apache-2.0
// main.c - argv and the table of sub-commands.
#include "cmd.h"

#include "gait/version.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
    {"run", cmd_run, "run the daemon: clicks in; scores, intent and alerts out"},
    {"check", cmd_check, "read a configuration and say everything that is wrong with it"},
    {"options", cmd_options, "print the reference of all settings and metrics"},
    {"top", cmd_top, "watch a running daemon in the terminal"},
    {"tail", cmd_tail, "follow scores and alerts as they come"},
    {"gen", cmd_gen, "generate the clicks of a believable shop, fraud included"},
    {"label", cmd_label, "say what became of each event: labels for training (churn, returns, abandoned carts)"},
    {"train", cmd_train, "train a model on a shop's history"},
    {"eval", cmd_eval, "say how good a model is on events it has not seen"},
    {"retrain", cmd_retrain, "train a model like the one in place and put it into shadow"},
    {"user", cmd_user, "erase a user"},
    {"state", cmd_state, "look at the records, save and restore them, go back in the log"},
    {"model", cmd_model, "show, run, import, export, install a model file; roll back"},
    {"explain", cmd_explain, "say which events and features made a user's score"},
};

static void print_help(FILE *out)
{
    fputs("gaitd - knows shoppers by how they walk\n\nUsage: gaitd COMMAND [OPTION...]\n\n", out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fputs("  help      print this text\n  version   print the version\n\n"
          "gaitd COMMAND --help says more, with an example.\n", out);
}

/* getopt's complaints begin with argv[0]. What could not be written to standard output is a failure, too. */
static int run_command(const struct command *command, int argc, char **argv)
{
    char name[32];
    snprintf(name, sizeof name, "gaitd %s", command->name);
    argv[0] = name;
    int rc = command->run(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return rc;
    if (rc == 0)
        fprintf(stderr, "%s: cannot write: %s\n", name, strerror(errno));
    return rc ? rc : 1;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return argc > 1 ? 0 : 2;
    }
    if (strcmp(name, "version") == 0 || strcmp(name, "--version") == 0) {
        puts("gaitd " GAIT_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(name, commands[i].name) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
    fprintf(stderr, "gaitd: there is no command '%s'\n\n", name);
    print_help(stderr);
    return 2;
}
