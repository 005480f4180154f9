// SPDX-License-Identifier: Apache-2.0
// log.c - lines to standard error, or to the journal when that is where it leads. Each line is one write(2), so that
// lines of several processes do not mix; control characters are escaped, so that no event can forge one.
#include "gait/log.h"

#include "journal.h"

#include "gait/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048, REPEAT_NS = 1000000000 };

static enum log_level log_threshold = LOG_INFO;
static enum log_format log_style = LOG_FORMAT_TEXT;
static int log_journal = -1; /* stays open until the process ends */

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};

void log_setup(enum log_level level, enum log_format format)
{
    log_threshold = level;
    log_style = format;
    if (log_journal < 0)
        log_journal = journal_open();
}

bool log_wants(enum log_level level)
{
    return level <= log_threshold;
}

/* Append `text` to the line, escaped for its format. */
static size_t put_text(char *line, size_t at, const char *text)
{
    for (; *text && at + 8 < LINE_MAX_BYTES; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            at += (size_t)snprintf(line + at, LINE_MAX_BYTES - at,
                                   log_style == LOG_FORMAT_JSON ? "\\u%04x" : "\\x%02x", c);
        else if (log_style == LOG_FORMAT_JSON && (c == '"' || c == '\\'))
            line[at++] = '\\', line[at++] = (char)c;
        else
            line[at++] = (char)c;
    }
    return at;
}

static size_t put_time(char *line, size_t cap)
{
    int64_t ms = clock_wall_ms(&clock_system);
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(line, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    return n + (size_t)snprintf(line + n, cap - n, ".%03dZ", (int)(ms % 1000));
}

static void write_line(enum log_level level, const char *who, const char *text, uint32_t held_back)
{
    char line[LINE_MAX_BYTES + 64], when[40];
    put_time(when, sizeof when);
    size_t n;
    if (log_style == LOG_FORMAT_TEXT && log_journal >= 0) {
        line[put_text(line, 0, text)] = '\0';
        if (journal_send(log_journal, level, who, line, held_back))
            return;
    }
    if (log_style == LOG_FORMAT_JSON) {
        n = 0;
        if (log_journal >= 0) /* the journal takes it off again */
            n = (size_t)snprintf(line, sizeof line, "<%d>", journal_priority(level));
        n += (size_t)snprintf(line + n, sizeof line - n,
                              "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"%.64s\",\"text\":\"", when,
                             level_names[level], who);
        n = put_text(line, n, text);
        n += (size_t)snprintf(line + n, sizeof line - n, "\"");
        if (held_back)
            n += (size_t)snprintf(line + n, sizeof line - n, ",\"held_back\":%u", held_back);
        n += (size_t)snprintf(line + n, sizeof line - n, "}\n");
    } else {
        n = (size_t)snprintf(line, sizeof line, "%s %s %.64s: ", when, level_names[level], who);
        n = put_text(line, n, text);
        if (held_back)
            n += (size_t)snprintf(line + n, sizeof line - n, " (%u more like this)", held_back);
        line[n++] = '\n';
    }
    if (write(STDERR_FILENO, line, n) < 0) {
        /* nowhere left to say it */
    }
}

void log_line(enum log_level level, const char *who, const char *format, ...)
{
    if (!log_wants(level))
        return;
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    write_line(level, who, text, 0);
}

void log_limited(struct log_site *site, enum log_level level, const char *who, const char *format, ...)
{
    if (!log_wants(level))
        return;
    uint64_t now = clock_mono_ns(&clock_system);
    if (site->last_ns && now - site->last_ns < REPEAT_NS) {
        site->held_back++;
        return;
    }
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    write_line(level, who, text, site->held_back);
    site->last_ns = now;
    site->held_back = 0;
}
