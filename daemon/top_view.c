// SPDX-License-Identifier: Apache-2.0
// top_view.c - the daemon's own JSON as lines for a terminal. A figure that is not known is a dash.
#include "top_view.h"

#include "plain_text.h"

#include <inttypes.h>
#include <time.h>

enum { TEXT_BYTES = 60, NAME_BYTES = 24, PARTITIONS_SHOWN = 16 };

static void put_number(FILE *out, const char *format, const json_t *value, int width)
{
    if (json_is_number(value))
        fprintf(out, format, json_number_value(value));
    else
        fprintf(out, "%*s", width, "-");
}

static void put_head(FILE *out, const json_t *status, const json_t *rates)
{
    const json_t *why = json_object_get(status, "why");
    fputs("gaitd ", out);
    plain_text(out, json_string_value(json_object_get(status, "version")), NAME_BYTES);
    fprintf(out, ", process %" JSON_INTEGER_FORMAT ", up %.0f s, ",
            json_integer_value(json_object_get(status, "process")),
            json_number_value(json_object_get(status, "uptime_s")));
    plain_text(out, json_string_value(json_object_get(status, "phase")), NAME_BYTES);
    fputs(", model ", out);
    plain_text(out, json_string_value(json_object_get(status, "model")), NAME_BYTES);
    fputc('\n', out);
    if (!json_is_true(json_object_get(status, "ready"))) {
        fputs("! not ready: ", out);
        plain_text(out, json_string_value(why), 3 * TEXT_BYTES);
        fputc('\n', out);
    }
    if (json_is_true(json_object_get(status, "paused")))
        fputs("! paused: outputs or the store are slower than the input\n", out);
    fputs("\n  events/s ", out);
    put_number(out, "%10.0f", json_object_get(rates, "events_per_s"), 10);
    fputs("    lag ", out);
    put_number(out, "%12.0f", json_object_get(rates, "lag"), 12);
    fputs("    cpu ", out);
    put_number(out, "%5.2f", json_object_get(rates, "cpu_share"), 5);
    fprintf(out, "\n  events   %10" JSON_INTEGER_FORMAT "    alerts %9" JSON_INTEGER_FORMAT "    unsaved for ",
            json_integer_value(json_object_get(status, "events")),
            json_integer_value(json_object_get(status, "alerts")));
    put_number(out, "%.1f s\n", json_object_get(status, "unsaved_age_s"), 1);
}

static void put_latency(FILE *out, const char *name, const json_t *quantiles)
{
    const char *key;
    json_t *value;
    fprintf(out, "  %-12s", name);
    json_object_foreach((json_t *)(uintptr_t)quantiles, key, value) {
        fprintf(out, "  %s ", key);
        put_number(out, "%8.2f", value, 8);
    }
    fputc('\n', out);
}

static void put_stages(FILE *out, const json_t *stages)
{
    const char *key;
    json_t *value;
    fputs("\nStages, microseconds an event\n ", out);
    json_object_foreach((json_t *)(uintptr_t)stages, key, value) {
        fprintf(out, " %s ", key);
        put_number(out, "%.2f", value, 1);
    }
    fputc('\n', out);
}

static void put_table(FILE *out, const json_t *table)
{
    double used = json_number_value(json_object_get(table, "used_bytes"));
    double limit = json_number_value(json_object_get(table, "limit_bytes"));
    int bars = limit > 0 ? (int)(30 * used / limit + 0.5) : 0;
    fprintf(out, "\nTable of users\n  [%.*s%*s] %.0f of %.0f MB, %" JSON_INTEGER_FORMAT " users, %" JSON_INTEGER_FORMAT
            " unsaved\n", bars, "##############################", 30 - bars, "", used / 1e6, limit / 1e6,
            json_integer_value(json_object_get(table, "users")),
            json_integer_value(json_object_get(table, "unsaved_users")));
}

static void put_partitions(FILE *out, const json_t *partitions)
{
    size_t n = json_array_size(partitions), i;
    fprintf(out, "\nPartitions: %zu\n", n);
    for (i = 0; i < n && i < PARTITIONS_SHOWN; i++) {
        const json_t *p = json_array_get(partitions, i);
        fprintf(out, "  %5" JSON_INTEGER_FORMAT "  %-8s", json_integer_value(json_object_get(p, "id")),
                json_string_value(json_object_get(p, "state")));
        fputs("  lag ", out);
        put_number(out, "%10.0f", json_object_get(p, "lag"), 10);
        fprintf(out, "  unsaved %" JSON_INTEGER_FORMAT "%s\n", json_integer_value(json_object_get(p, "unsaved_users")),
                json_is_true(json_object_get(p, "degraded")) ? "  degraded" : "");
    }
    if (i < n)
        fprintf(out, "  and %zu more\n", n - i);
}

static void put_alert(FILE *out, const json_t *alert)
{
    time_t seconds = (time_t)(json_integer_value(json_object_get(alert, "ts")) / 1000);
    struct tm tm;
    char when[32] = "-";
    if (gmtime_r(&seconds, &tm))
        strftime(when, sizeof when, "%m-%d %H:%M:%S", &tm);
    fprintf(out, "! %s  ", when);
    plain_text(out, json_string_value(json_object_get(alert, "action")), NAME_BYTES);
    fprintf(out, " %.1f  ", json_number_value(json_object_get(alert, "score")));
    plain_text(out, json_string_value(json_object_get(alert, "user")), NAME_BYTES);
    fputs("  ", out);
    const json_t *first = json_array_get(json_object_get(alert, "symbols"), 0);
    plain_text(out, json_string_value(json_object_get(first, "text")), TEXT_BYTES);
    fputc('\n', out);
}

void top_view(FILE *out, const json_t *status, const json_t *alerts, int alerts_most)
{
    const json_t *rates = json_object_get(status, "rates"), *list = json_object_get(alerts, "alerts");
    put_head(out, status, rates);
    fputs("\nLatency, milliseconds\n", out);
    put_latency(out, "gaitd's own", json_object_get(rates, "own_ms"));
    put_latency(out, "end to end", json_object_get(rates, "end_to_end_ms"));
    put_stages(out, json_object_get(rates, "stages_us"));
    put_table(out, json_object_get(status, "table"));
    put_partitions(out, json_object_get(status, "partitions"));
    fputs("\nAlerts, newest first\n", out);
    for (size_t i = 0; i < json_array_size(list) && (int)i < alerts_most; i++)
        put_alert(out, json_array_get(list, i));
}
