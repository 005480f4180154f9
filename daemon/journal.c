// SPDX-License-Identifier: Apache-2.0
// journal.c - one datagram a log line; a library for it would be larger than the protocol. log.c calls it.
#include "journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int journal_priority(enum log_level level)
{
    static const int priorities[] = {[LOG_ERROR] = 3, [LOG_WARNING] = 4, [LOG_NOTICE] = 5, [LOG_INFO] = 6,
                                     [LOG_DEBUG] = 7};
    return priorities[level];
}

int journal_open(void)
{
    static const struct sockaddr_un journal = {.sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket"};
    const char *stream = getenv("JOURNAL_STREAM"); /* inherited too by what redirects its output elsewhere */
    struct stat st;
    char ours[64];
    if (!stream || fstat(STDERR_FILENO, &st) < 0)
        return -1;
    snprintf(ours, sizeof ours, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    if (strcmp(stream, ours) != 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&journal, sizeof journal) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

bool journal_send(int fd, enum log_level level, const char *who, const char *text, uint32_t held_back)
{
    char entry[4096], more[48] = "";
    if (held_back)
        snprintf(more, sizeof more, "GAIT_HELD_BACK=%u\n", held_back);
    int n = snprintf(entry, sizeof entry,
                     "PRIORITY=%d\nSYSLOG_IDENTIFIER=gaitd\nGAIT_INSTANCE=%.64s\n%sMESSAGE=%.64s: %s\n",
                     journal_priority(level), who, more, who, text);
    return n > 0 && (size_t)n < sizeof entry && send(fd, entry, (size_t)n, MSG_NOSIGNAL) == n;
}
