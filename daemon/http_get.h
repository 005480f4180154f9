/* SPDX-License-Identifier: Apache-2.0 */
/* http_get.h - one call to a daemon's admin server, by libcurl. Waits at most a few seconds. */
#ifndef GAIT_HTTP_GET_H
#define GAIT_HTTP_GET_H

#include "gait/error.h"

#include <jansson.h>

struct http_from {
    const char *listen;      /* "HOST:PORT" or "unix:PATH", as admin.listen */
    const char *token;       /* NULL = none */
    const char *certificate; /* PEM of the server's, which then has to be this one; NULL = plain HTTP */
};

/* The JSON that `path` ("/api/status") answers; NULL with a text. */
json_t *http_get_json(const struct http_from *from, const char *path, struct error *err);

#endif
