/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - tells the service manager how we are, by the datagram protocol of sd_notify(3). */
#ifndef GAIT_NOTIFY_H
#define GAIT_NOTIFY_H

/* Does nothing where NOTIFY_SOCKET is not set. */
void notify_state(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
