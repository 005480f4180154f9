// SPDX-License-Identifier: Apache-2.0
// notify.c - one datagram to $NOTIFY_SOCKET; a library for it would be larger than the protocol.
#include "notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_state(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to.sun_path)
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0)
        return;
    memcpy(to.sun_path, path, strlen(path));
    if (to.sun_path[0] == '@') /* an abstract socket */
        to.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    (void)!sendto(fd, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, MSG_NOSIGNAL,
                  (struct sockaddr *)&to, len);
    close(fd);
}

void notify_reloading(uint64_t mono_ns)
{
    notify_state("RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=Reloading", mono_ns / 1000);
}

uint64_t notify_watchdog_ms(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!usec || (pid && strtoll(pid, NULL, 10) != (long long)getpid())) /* meant for a process above us */
        return 0;
    return strtoull(usec, NULL, 10) / 1000;
}
