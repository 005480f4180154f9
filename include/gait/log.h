/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line per thing that happened, to standard error: text for people, or JSON lines.
 *
 * `who` names the instance ("source.kafka", "engine"). A line that repeats (same call site and instance) is limited to
 * one a second with a count of those held back; errors at opening are not limited. */
#ifndef GAIT_LOG_H
#define GAIT_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* State of one rate-limited call site; zero-initialised, kept by log.c's macro. */
struct log_site {
    uint64_t last_ns;
    uint32_t held_back;
};

void log_setup(enum log_level level, enum log_format format);
bool log_wants(enum log_level level);
void log_line(enum log_level level, const char *who, const char *format, ...) __attribute__((format(printf, 3, 4)));
void log_limited(struct log_site *site, enum log_level level, const char *who, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define log_often(level, who, ...)                       \
    do {                                                 \
        static struct log_site log_site_here;            \
        log_limited(&log_site_here, level, who, __VA_ARGS__); \
    } while (0)

#define log_error(who, ...) log_line(LOG_ERROR, who, __VA_ARGS__)
#define log_warning(who, ...) log_line(LOG_WARNING, who, __VA_ARGS__)
#define log_notice(who, ...) log_line(LOG_NOTICE, who, __VA_ARGS__)
#define log_info(who, ...) log_line(LOG_INFO, who, __VA_ARGS__)
#define log_debug(who, ...) do { if (log_wants(LOG_DEBUG)) log_line(LOG_DEBUG, who, __VA_ARGS__); } while (0)

#endif
