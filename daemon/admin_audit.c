// SPDX-License-Identifier: Apache-2.0
// admin_audit.c - who changed what, when, and with which result: a line in the log, and one in a file of its own.
#include "admin_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int admin_audit_open(struct admin *a, struct error *err)
{
    a->audit_fd = -1;
    if (!a->conf->audit_file)
        return 0;
    a->audit_fd = open(a->conf->audit_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
    if (a->audit_fd < 0)
        return error_set(err, "admin.audit_file: cannot open %s: %s", a->conf->audit_file, strerror(errno));
    return 0;
}

/* A full disk does not undo the change and does not stop the daemon: it is counted and said, and the log has the
 * line. */
void admin_audit_line(struct admin *a, const char *who, const char *what, const char *about, bool ok,
                      const char *result)
{
    log_notice("audit", "%s: %s%s%s: %s%s%s", who, what, *about ? " " : "", about, ok ? "ok" : "refused",
               *result ? ", " : "", result);
    if (a->audit_fd < 0)
        return;
    json_t *json = json_object();
    json_object_set_new(json, "ts", json_integer(clock_wall_ms(&a->engine->clock)));
    json_object_set_new(json, "who", admin_string(str_of(who)));
    json_object_set_new(json, "what", json_string(what));
    json_object_set_new(json, "about", admin_string(str_of(about)));
    json_object_set_new(json, "ok", json_boolean(ok));
    json_object_set_new(json, "result", admin_string(str_of(result)));
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    size_t n = text ? strlen(text) : 0;
    if (text)
        text[n++] = '\n'; /* in the place of the NUL: one write is one line */
    if (!text || write(a->audit_fd, text, n) != (ssize_t)n) {
        metric_add(a->m_audit_failed, 1);
        log_often(LOG_ERROR, "audit", "cannot write %s: %s", a->conf->audit_file, strerror(errno));
    }
    free(text);
}

void admin_audit(struct admin_request *r, const char *what, const char *about, bool ok, const char *result)
{
    admin_audit_line(r->admin, r->who, what, about, ok, result);
}
