// SPDX-License-Identifier: Apache-2.0
// unit_journal.c - what the service manager and its journal hear from us: fields, priorities, readiness, signs of life.
#include "journal.h"
#include "notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void test_an_entry_has_its_fields(void **state)
{
    (void)state;
    int ends[2];
    char entry[4096];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    assert_true(journal_send(ends[0], LOG_WARNING, "source.kafka", "no broker of \"x\" answers", 3));
    ssize_t n = recv(ends[1], entry, sizeof entry - 1, 0);
    assert_true(n > 0);
    entry[n] = '\0';
    assert_string_equal(entry, "PRIORITY=4\nSYSLOG_IDENTIFIER=gaitd\nGAIT_INSTANCE=source.kafka\nGAIT_HELD_BACK=3\n"
                               "MESSAGE=source.kafka: no broker of \"x\" answers\n");
    close(ends[1]);
    assert_false(journal_send(ends[0], LOG_ERROR, "engine", "nobody listens", 0));
    close(ends[0]);
}

static void test_levels_are_those_of_syslog(void **state)
{
    (void)state;
    assert_int_equal(journal_priority(LOG_ERROR), 3);
    assert_int_equal(journal_priority(LOG_NOTICE), 5);
    assert_int_equal(journal_priority(LOG_DEBUG), 7);
}

/* JOURNAL_STREAM is inherited also by a process whose output was redirected. */
static void test_another_stream_is_not_the_journal(void **state)
{
    (void)state;
    unsetenv("JOURNAL_STREAM");
    assert_int_equal(journal_open(), -1);
    setenv("JOURNAL_STREAM", "1:1", 1);
    assert_int_equal(journal_open(), -1);
    unsetenv("JOURNAL_STREAM");
}

static void receive(int fd, char *text, size_t cap)
{
    ssize_t n = recv(fd, text, cap - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
}

static void test_the_service_manager_is_told(void **state)
{
    (void)state;
    char path[] = "/tmp/unit_journal_XXXXXX", text[512];
    assert_non_null(mkdtemp(path));
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s/notify", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    setenv("NOTIFY_SOCKET", at.sun_path, 1);
    notify_state("READY=1\nSTATUS=%d", 7);
    receive(fd, text, sizeof text);
    assert_string_equal(text, "READY=1\nSTATUS=7");
    notify_reloading(5000000);
    receive(fd, text, sizeof text);
    assert_string_equal(text, "RELOADING=1\nMONOTONIC_USEC=5000\nSTATUS=Reloading");
    unsetenv("NOTIFY_SOCKET");
    notify_state("READY=1"); /* nobody to tell: nothing happens */
    receive(fd, text, sizeof text);
    assert_string_equal(text, "");
    close(fd);
    unlink(at.sun_path);
    rmdir(path);
}

static void test_the_watchdog_is_meant_for_one_process(void **state)
{
    (void)state;
    char pid[32];
    assert_int_equal(notify_watchdog_ms(), 0);
    setenv("WATCHDOG_USEC", "20000000", 1);
    assert_int_equal(notify_watchdog_ms(), 20000);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(notify_watchdog_ms(), 0);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_watchdog_ms(), 20000);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_entry_has_its_fields),
        cmocka_unit_test(test_levels_are_those_of_syslog),
        cmocka_unit_test(test_another_stream_is_not_the_journal),
        cmocka_unit_test(test_the_service_manager_is_told),
        cmocka_unit_test(test_the_watchdog_is_meant_for_one_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
