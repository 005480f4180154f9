/* SPDX-License-Identifier: Apache-2.0 */
/* journal.h - log lines to systemd's journal with their fields, by its native datagram protocol
 * (systemd.io/JOURNAL_NATIVE_PROTOCOL): `journalctl -u gaitd -p warning GAIT_INSTANCE=source.kafka`. */
#ifndef GAIT_JOURNAL_H
#define GAIT_JOURNAL_H

#include "gait/log.h"

/* A socket to the journal when standard error leads there (JOURNAL_STREAM names it), else -1. */
int journal_open(void);

/* One entry. `text` holds no line feed. False when the journal did not take it; the caller then writes to standard
 * error, which waits where this does not. */
bool journal_send(int fd, enum log_level level, const char *who, const char *text, uint32_t held_back);

/* syslog(3)'s number for a level, as the journal's PRIORITY has it. */
int journal_priority(enum log_level level);

#endif
