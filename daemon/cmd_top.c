// SPDX-License-Identifier: Apache-2.0
// cmd_top.c - `gaitd top`: a running daemon at a glance, by its admin server.
#include "arguments.h"
#include "cmd.h"
#include "config.h"
#include "http_get.h"
#include "top_view.h"

#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EVERY_MS = 1000, ALERTS = 50 };

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd top [-c FILE | --at ADDRESS] [--once]\n\n"
          "Shows a running daemon once a second: throughput, lag, latency, stages, table, partitions,\n"
          "alerts. q ends it.\n\n"
          "  -c, --config FILE    the daemon's configuration: its admin.listen and token\n"
          "  -a, --at ADDRESS     HOST:PORT or unix:PATH of its admin server (127.0.0.1:8466)\n"
          "  -1, --once           print it once, as text; so too when standard output is no terminal\n"
          "  -h, --help           print this text\n\n"
          "Example: gaitd top -c /etc/gait/gaitd.yaml\n", out);
}

/* The page as text, owned by the caller; NULL with a text. */
static char *fetch(const struct http_from *from, struct error *err)
{
    char *page = NULL;
    size_t n = 0;
    json_t *status = http_get_json(from, "/api/status", err);
    if (!status)
        return NULL;
    json_t *alerts = http_get_json(from, "/api/alerts?limit=50", err);
    FILE *out = open_memstream(&page, &n);
    if (out) {
        top_view(out, status, alerts, ALERTS);
        fclose(out);
    } else {
        error_set(err, "no memory");
    }
    json_decref(status);
    json_decref(alerts);
    return page;
}

static int print_once(const struct http_from *from)
{
    struct error err;
    char *page = fetch(from, &err);
    if (!page) {
        fprintf(stderr, "gaitd top: %s\n", err.text);
        return 1;
    }
    fputs(page, stdout);
    free(page);
    return fflush(stdout) ? 1 : 0;
}

static void draw(char *page, const char *problem)
{
    int row = 0;
    char *rest = page;
    erase();
    if (problem) {
        attron(A_BOLD | COLOR_PAIR(1));
        mvaddnstr(row++, 0, problem, COLS);
        attroff(A_BOLD | COLOR_PAIR(1));
    }
    for (char *line; rest && (line = strsep(&rest, "\n")) && row < LINES; row++) {
        int attributes = line[0] == '!' ? COLOR_PAIR(1) : line[0] && line[0] != ' ' ? A_BOLD : A_NORMAL;
        attron(attributes);
        mvaddnstr(row, 0, line, COLS);
        attroff(attributes);
    }
    refresh();
}

static int show(const struct http_from *from)
{
    setlocale(LC_ALL, "");
    if (!initscr()) {
        fputs("gaitd top: this terminal cannot be drawn on; try --once\n", stderr);
        return 1;
    }
    cbreak();
    noecho();
    curs_set(0);
    start_color();
    use_default_colors();
    init_pair(1, COLOR_RED, -1);
    timeout(EVERY_MS);
    for (int key = 0; key != 'q' && key != 'Q'; key = getch()) {
        struct error err;
        char *page = fetch(from, &err);
        draw(page, page ? NULL : err.text);
        free(page);
    }
    endwin();
    return 0;
}

static int top_of(const char *path, const char *at, bool once)
{
    struct config_errors errors = {0};
    struct config *config = path ? config_load(path, &errors) : NULL;
    struct http_from from = {.listen = at ? at : "127.0.0.1:8466"};
    int rc = 1;
    if (path && !config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    if (config)
        from = (struct http_from){at ? at : config->admin.listen, config->admin.token, config->admin.tls_certificate};
    if (strcmp(from.listen, "off") == 0)
        fprintf(stderr, "gaitd top: %s has admin.listen: off, so there is nobody to ask\n", path);
    else
        rc = once || !isatty(STDOUT_FILENO) ? print_once(&from) : show(&from);
    config_destroy(&config);
    return rc;
}

int cmd_top(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"at", required_argument, NULL, 'a'},
        {"once", no_argument, NULL, '1'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    const char *path = NULL, *at = NULL;
    bool once = false;
    for (int c; (c = getopt_long(argc, argv, "c:a:1h", options, NULL)) != -1;) {
        if (c == 'c')
            path = optarg;
        else if (c == 'a')
            at = optarg;
        else if (c == '1')
            once = true;
        else {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "gaitd top: what is '%s'?\n", argv[optind]);
        print_usage(stderr);
        return 2;
    }
    return top_of(path, at, once);
}
