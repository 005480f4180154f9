// SPDX-License-Identifier: Apache-2.0
// cmd_run.c - `gaitd run`: the boot order, the libev loop and the signals. The flow itself is in engine.c.
#include "admin.h"
#include "arguments.h"
#include "cmd.h"
#include "config_compare.h"
#include "engine.h"
#include "notify.h"
#include "reload.h"

#include "gait/log.h"

#include <ev.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct run {
    struct ev_loop *loop;
    struct config *config;
    struct engine *engine;
    struct admin *admin;
    ev_idle idle;                /* active while the engine has work: the loop then polls without waiting */
    ev_timer tick, metrics, progress, watchdog, status;
    ev_signal terminate, interrupt, hangup, user1;
    struct reload reload;
    bool show_progress, told_ready;
    bool stopping;               /* a signal has asked for it */
    bool ever_ready;             /* the service manager has heard READY=1 */
    bool awake;                  /* the engine asked for a step since the last one began */
    uint64_t begun_ns;
    double last_events, status_events;
    uint64_t last_ns, status_ns;
};

static void print_usage(FILE *out)
{
    fputs("Usage: gaitd run -c FILE [--progress]\n\n"
          "Runs the daemon in the foreground until SIGTERM or, with a file as source, until the input ends.\n\n"
          "  -c, --config FILE   the configuration\n"
          "  -p, --progress      show a live line of figures on standard error\n"
          "  -h, --help          print this text\n\n"
          "Signals: TERM and INT drain, save, commit and stop; a second one stops at once.\n"
          "USR1 writes the metrics file.\n"
          "HUP reads the configuration and the files it names again, all or nothing; the log says what has changed\n"
          "or why not. `gaitd check -c NEW --against RUNNING` says it beforehand.\n\n"
          "Exit status: 0 stopped as asked, 1 it could not start or a file could not be read to its end, 2 the\n"
          "command line is wrong.\n\n"
          "Example: gaitd run -c /etc/gait/gaitd.yaml\n", out);
}

static void wake(void *self)
{
    struct run *run = self;
    run->awake = true;
    ev_idle_start(run->loop, &run->idle);
}

static void write_metrics(const struct run *run)
{
    const char *path = run->config->metrics.file;
    if (path && metrics_write_file(run->engine->metrics, path) < 0)
        log_often(LOG_ERROR, "metrics", "cannot write %s: %m", path);
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int events)
{
    struct run *run = w->data;
    (void)events;
    run->awake = false;
    if (!engine_step(run->engine) && !run->awake)
        ev_idle_stop(loop, w);
    if (run->engine->phase == ENGINE_STOPPED)
        ev_break(loop, EVBREAK_ALL);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
    struct run *run = w->data;
    (void)loop, (void)events;
    engine_tick(run->engine);
    const char *why = NULL;
    bool ready = engine_ready(run->engine, &why);
    if (ready != run->told_ready)
        notify_state(ready ? "READY=1\nSTATUS=Running" : "STATUS=Not ready: %s", why);
    run->told_ready = ready;
    run->ever_ready |= ready;
}

static void on_metrics(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    write_metrics(w->data);
}

static void start_timer(struct run *run, ev_timer *w, void (*call)(struct ev_loop *, ev_timer *, int), double every)
{
    ev_timer_init(w, call, every, every);
    w->data = run;
    ev_timer_start(run->loop, w);
}

/* The metrics file may have come, gone, or got another rhythm. */
static void take_settings(void *self)
{
    struct run *run = self;
    ev_timer_stop(run->loop, &run->metrics);
    if (run->config->metrics.file)
        start_timer(run, &run->metrics, on_metrics, (double)run->config->metrics.file_ms * 1e-3);
}

/* The manager waits between RELOADING=1 and READY=1. It is told in either case: a refused reload leaves a daemon that
 * works. Before the first READY=1 it does not wait, and must not hear that we were. */
static struct reload_result reload(struct run *run, const char *who)
{
    if (run->ever_ready)
        notify_reloading(clock_mono_ns(&clock_system));
    struct reload_result result = reload_request(&run->reload, who);
    if (!run->ever_ready)
        return result;
    const char *why = NULL;
    bool ready = engine_ready(run->engine, &why);
    int line = (int)strcspn(result.text.text, "\n");
    if (result.rc < 0)
        notify_state("READY=1\nSTATUS=Reload refused: %.*s", line, result.text.text);
    else
        notify_state(ready ? "READY=1\nSTATUS=Running" : "READY=1\nSTATUS=Not ready: %s", why);
    return result;
}

/* The admin server writes an audit line of its own, with who called. */
static int reload_for_admin(void *self, struct error *err)
{
    struct reload_result result = reload(self, "admin");
    *err = result.text;
    return result.rc;
}

/* From the loop itself: a loop that hangs says nothing, and the service manager starts us anew. */
static void on_watchdog(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)w, (void)events;
    notify_state("WATCHDOG=1");
}

/* One line for `systemctl status`. */
static void on_status(struct ev_loop *loop, ev_timer *w, int events)
{
    struct run *run = w->data;
    uint64_t now = clock_mono_ns(&run->engine->clock);
    double total = metrics_sum(run->engine->metrics, "gait_events_total");
    (void)loop, (void)events;
    if (run->told_ready && run->engine->phase == ENGINE_RUNNING)
        notify_state("STATUS=Running: %.0f events/s, %zu partitions, %.0f events behind, %.0f alerts",
                     (total - run->status_events) / ((double)(now - run->status_ns) * 1e-9), run->engine->partitions_n,
                     metrics_sum(run->engine->metrics, "gait_lag_events"),
                     metrics_sum(run->engine->metrics, "gait_alerts_total"));
    run->status_events = total;
    run->status_ns = now;
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    struct run *run = w->data;
    (void)events;
    if (w->signum == SIGUSR1) {
        write_metrics(run);
    } else if (w->signum == SIGHUP) {
        reload(run, "SIGHUP");
    } else if (run->stopping) {
        log_warning("engine", "second signal: stopping at once; the log rebuilds what is not saved");
        run->engine->phase = ENGINE_STOPPED;
        ev_break(loop, EVBREAK_ALL);
    } else {
        log_notice("engine", "signal %d: draining, saving, committing", w->signum);
        notify_state("STOPPING=1\nSTATUS=Draining");
        run->stopping = true;
        engine_drain(run->engine, run->engine->conf.drain_ms);
    }
}

static void on_progress(struct ev_loop *loop, ev_timer *w, int events)
{
    struct run *run = w->data;
    (void)loop, (void)events;
    uint64_t now = clock_mono_ns(&run->engine->clock);
    double total = metrics_sum(run->engine->metrics, "gait_events_total");
    double seconds = (double)(now - run->last_ns) * 1e-9;
    fprintf(stderr, "\r%12.0f events  %9.0f events/s  %8zu users  %6.0f alerts ", total,
            seconds > 0 ? (total - run->last_events) / seconds : 0, users_count(run->engine->users),
            metrics_sum(run->engine->metrics, "gait_alerts_total"));
    fflush(stderr);
    run->last_events = total;
    run->last_ns = now;
}

static void start_signal(struct run *run, ev_signal *w, int number)
{
    ev_signal_init(w, on_signal, number);
    w->data = run;
    ev_signal_start(run->loop, w);
}

static void print_summary(const struct run *run)
{
    double total = metrics_sum(run->engine->metrics, "gait_events_total");
    double seconds = (double)(clock_mono_ns(&run->engine->clock) - run->begun_ns) * 1e-9;
    if (run->show_progress)
        fputc('\n', stderr);
    log_notice("engine", "stopped after %.0f events in %.2f s (%.0f events/s), %.0f alerts", total, seconds,
               seconds > 0 ? total / seconds : 0, metrics_sum(run->engine->metrics, "gait_alerts_total"));
    const struct metric_cell *own = run->engine->m_own;
    if (total <= 0)
        return;
    log_notice("engine", "own latency p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, p99.99 %.3f ms",
               1e3 * metric_quantile(own, 0.5), 1e3 * metric_quantile(own, 0.99), 1e3 * metric_quantile(own, 0.999),
               1e3 * metric_quantile(own, 0.9999));
}

static int run_loop(struct run *run)
{
    run->engine->wake = wake;
    run->engine->wake_self = run;
    ev_idle_init(&run->idle, on_idle);
    run->idle.data = run;
    start_signal(run, &run->terminate, SIGTERM);
    start_signal(run, &run->interrupt, SIGINT);
    start_signal(run, &run->hangup, SIGHUP);
    start_signal(run, &run->user1, SIGUSR1);
    start_timer(run, &run->tick, on_tick, 0.1);
    ev_timer_init(&run->metrics, on_metrics, 0, 0);
    take_settings(run);
    if (run->show_progress)
        start_timer(run, &run->progress, on_progress, 0.25);
    uint64_t watchdog_ms = notify_watchdog_ms();
    if (watchdog_ms)
        start_timer(run, &run->watchdog, on_watchdog, (double)watchdog_ms * 0.5e-3);
    start_timer(run, &run->status, on_status, 5);
    signal(SIGPIPE, SIG_IGN);
    run->begun_ns = run->last_ns = run->status_ns = clock_mono_ns(&clock_system);
    engine_start(run->engine);
    ev_run(run->loop, 0);
    engine_tick(run->engine);
    write_metrics(run);
    print_summary(run);
    return run->engine->input_damaged ? 1 : 0;
}

static int run_config(struct run *run, const char *path)
{
    struct config_errors errors = {0};
    run->config = config_load(path, &errors);
    if (!run->config) {
        config_errors_print(&errors, stderr);
        return 1;
    }
    if (!run->config->engine.core_dumps && prctl(PR_SET_DUMPABLE, 0) < 0)
        log_warning("engine", "a crash may leave a core dump with passwords: %m");
    log_setup(run->config->log.level, run->config->log.format);
    log_notice("engine", "gaitd " GAIT_VERSION " starting with %s, process %d", path, (int)getpid());
    struct error err;
    run->loop = ev_default_loop(EVFLAG_AUTO);
    run->engine = engine_create(run->config, run->loop, &clock_system, false, &err);
    if (!run->engine) {
        log_error("engine", "cannot start: %s", err.text);
        return 1;
    }
    log_notice("engine", "configuration %016" PRIx64, config_hash(run->config));
    run->reload = (struct reload){.path = path, .config = run->config, .engine = run->engine, .done = take_settings,
                                  .self = run};
    const struct admin_calls calls = {.reload = reload_for_admin, .self = run};
    if (admin_create(&run->admin, run->config, run->engine, run->loop, &calls, &err) < 0) {
        log_error("admin", "cannot start: %s", err.text);
        return 1;
    }
    return run_loop(run);
}

int cmd_run(int argc, char **argv)
{
    static const struct long_option options[] = {
        {"config", required_argument, NULL, 'c'}, {"progress", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
    };
    struct run run = {0};
    const char *path = NULL;
    for (int c; (c = getopt_long(argc, argv, "c:ph", options, NULL)) != -1;) {
        if (c == 'c')
            path = optarg;
        else if (c == 'p')
            run.show_progress = true;
        else {
            print_usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : 2;
        }
    }
    if (!path || optind < argc) {
        fprintf(stderr, path ? "gaitd run: what is '%s'?\n" : "gaitd run: -c FILE is missing%s\n",
                path ? argv[optind] : "");
        print_usage(stderr);
        return 2;
    }
    int rc = run_config(&run, path);
    admin_destroy(&run.admin);
    engine_destroy(&run.engine);
    config_destroy(&run.config);
    if (run.loop)
        ev_loop_destroy(run.loop);
    return rc;
}
