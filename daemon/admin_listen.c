// SPDX-License-Identifier: Apache-2.0
// admin_listen.c - from `admin.listen` to a listening socket: "HOST:PORT", "[HOST]:PORT" or "unix:PATH".
#include "admin_inside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 256 };

static int unix_address(const char *path, struct admin_address *address, struct error *err)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&address->at;
    if (path[0] != '/' || strlen(path) >= sizeof un->sun_path)
        return error_set(err, "admin.listen: unix:%s: the path has to begin with / and be shorter than %zu bytes", path,
                         sizeof un->sun_path);
    un->sun_family = AF_UNIX;
    strcpy(un->sun_path, path);
    address->len = sizeof *un;
    address->is_unix = address->loopback = true;
    address->path = path;
    return 0;
}

static int port_of(const char *text)
{
    char *end;
    if (*text < '0' || *text > '9')
        return -1;
    long port = strtol(text, &end, 10);
    return *end == 0 && port >= 1 && port <= 65535 ? (int)port : -1;
}

int admin_address(const char *listen, struct admin_address *address, struct error *err)
{
    *address = (struct admin_address){.off = strcmp(listen, "off") == 0};
    if (address->off)
        return 0;
    if (strncmp(listen, "unix:", 5) == 0)
        return unix_address(listen + 5, address, err);
    const char *colon = strrchr(listen, ':');
    char host[64];
    int port = colon ? port_of(colon + 1) : -1;
    size_t n = colon ? (size_t)(colon - listen) : 0;
    bool bracketed = n >= 2 && listen[0] == '[' && listen[n - 1] == ']';
    if (port < 0 || n - 2 * bracketed >= sizeof host)
        goto wrong;
    snprintf(host, sizeof host, "%.*s", (int)(n - 2 * bracketed), listen + bracketed);
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->at;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->at;
    if (!bracketed && strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    if (!bracketed && inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        address->len = sizeof *v4;
        address->loopback = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
        return 0;
    }
    if (bracketed && inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        address->len = sizeof *v6;
        address->loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
        return 0;
    }
wrong:
    return error_set(err, "admin.listen: \"%s\" is no address; it is a numeric one with a port (\"127.0.0.1:8466\", "
                     "\"[::1]:8466\"), \"unix:/run/gait/admin.sock\" or \"off\"", listen);
}

/* A socket file that nobody listens on any more is left over from a daemon that was killed. */
static void remove_left_over(const struct admin_address *address)
{
    struct stat st;
    if (stat(address->path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&address->at, address->len) < 0 && errno == ECONNREFUSED)
        unlink(address->path);
    close(fd);
}

int admin_listen(const struct admin_address *address, struct error *err)
{
    int fd = socket(address->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return error_set(err, "admin: cannot make a socket: %s", strerror(errno));
    if (address->is_unix)
        remove_left_over(address);
    else
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Nobody but owner and group may connect, from the moment the file is there. */
    mode_t mask = umask(0117);
    int rc = bind(fd, (const struct sockaddr *)&address->at, address->len);
    umask(mask);
    if (rc == 0)
        rc = listen(fd, BACKLOG);
    if (rc < 0) {
        int saved = errno;
        close(fd);
        error_set(err, "admin: cannot listen: %s", strerror(saved));
        errno = saved;
        return -1;
    }
    return fd;
}
