// SPDX-License-Identifier: Apache-2.0
// cmd_options.c - `gaitd options`: the reference of settings and metrics.
#include "arguments.h"
#include "cmd.h"
#include "reference.h"

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd options [SECTION | --yaml | --man | --metrics | --redis-acl[=PREFIX]]\n\n"
          "Prints the reference of all settings, or of one section: a stage, a module, or one of the daemon's own.\n\n"
          "  -y, --yaml      a configuration file with every setting, commented\n"
          "  -m, --man       the manual page gaitd.conf(5)\n"
          "  -M, --metrics   all metrics, as a page in Markdown\n"
          "      --redis-acl[=PREFIX]  the least rights in Redis that gaitd and its readers need, as ACL lines; PREFIX "
          "is\n"
          "                            the option prefix of store.redis and sink.redis (gait)\n"
          "  -h, --help      print this text\n\n"
          "Example: gaitd options sink.redis\n", out);
}

static int print_reference(int form, const char *section, const char *prefix)
{
    if (form == 'y')
        reference_yaml(stdout);
    else if (form == 'm')
        reference_man(stdout);
    else if (form == 'M')
        reference_metrics(stdout);
    else if (form == 'A') {
        if (!reference_redis_acl(stdout, prefix)) {
            fprintf(stderr, "gaitd options: '%s' cannot be part of an ACL: no blanks, no control characters\n", prefix);
            return 2;
        }
    } else if (!reference_text(stdout, section)) {
        char name[64];
        struct reference ref;
        fprintf(stderr, "gaitd options: there is no section '%s'; there are:", section);
        for (size_t i = 0; reference_at(i, &ref); i++) {
            reference_name(&ref, name, sizeof name);
            fprintf(stderr, " %s", name);
        }
        fputc('\n', stderr);
        return 2;
    }
    if (fflush(stdout) != 0) {
        perror("gaitd options: cannot write");
        return 1;
    }
    return 0;
}

int cmd_options(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"yaml", no_argument, NULL, 'y'}, {"man", no_argument, NULL, 'm'}, {"metrics", no_argument, NULL, 'M'},
        {"redis-acl", optional_argument, NULL, 'A'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    const char *prefix = "gait";
    int form = 0;
    for (int c; (c = getopt_long(argc, argv, "ymMh", options, NULL)) != -1; form = c) {
        if (c == 'h' || c == '?' || form) {
            if (form && c != 'h' && c != '?')
                fputs("gaitd options: one form at a time\n", stderr);
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
        if (c == 'A' && optarg)
            prefix = optarg;
    }
    if (argc - optind > (form ? 0 : 1)) {
        fprintf(stderr, "gaitd options: what is '%s'?\n", argv[argc - 1]);
        print_usage(stderr);
        return 2;
    }
    return print_reference(form, optind < argc ? argv[optind] : NULL, prefix);
}
