/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - tells the service manager how we are, by the datagram protocol of sd_notify(3). */
#ifndef GAIT_NOTIFY_H
#define GAIT_NOTIFY_H

#include <stdint.h>

/* Does nothing where NOTIFY_SOCKET is not set. */
void notify_state(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A reload begins; it ends with READY=1. The time stamp is what Type=notify-reload (systemd 253) asks for. */
void notify_reloading(uint64_t mono_ns);

/* How long the service manager waits for a sign of life before it kills us, in ms; 0 = it does not watch. The loop
 * sends WATCHDOG=1 at half of it. */
uint64_t notify_watchdog_ms(void);

#endif
