# SPDX-License-Identifier: Apache-2.0
"""test_terminal.py - gaitd tail and gaitd top beside a running daemon."""
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time

import servers
import shop


def test_tail_shows_what_is_in_the_topics(kafka, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks")
    for topic in ("scores", "alerts", "dead"):
        kafka.create_topic(f"{name}.{topic}")
    kafka.produce(f"{name}.clicks", shop.clicks(300))
    daemon = gaitd(shop.config(kafka, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    scores = kafka.read_json(f"{name}.scores")
    user = scores[0]["user"]

    def tail(*options):
        done = subprocess.run([shop.GAITD, "tail", "-c", str(daemon.config), "--begin", *options], capture_output=True,
                              text=True, timeout=60, check=True)
        return done.stdout.splitlines()
    by_place = {(s["partition"], s["offset"]): s for s in scores}
    assert {(s["partition"], s["offset"]): s for s in map(json.loads, tail("--scores", "--json"))} == by_place
    lines = tail("--user", user)
    assert len(lines) == sum(s["user"] == user for s in scores) + sum(a["user"] == user
                                                                      for a in kafka.read_json(f"{name}.alerts"))
    assert all(f"  {user}  intent " in line for line in lines) and "\033" not in "".join(lines)
    # Following: only what comes from now on.
    follower = subprocess.Popen([shop.GAITD, "tail", "-c", str(daemon.config)], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not select.select([follower.stdout], [], [], 0.5)[0]:
            assert time.monotonic() < deadline
            kafka.produce(f"{name}.clicks", shop.clicks(5, 50, 2))
        assert "  intent " in follower.stdout.readline()
    finally:
        follower.kill()
        follower.wait()
    assert daemon.terminate(5) == 0


def screen_until(fd, wanted, seconds=20):
    text, end = "", time.monotonic() + seconds
    while wanted not in text:
        assert time.monotonic() < end, text
        if select.select([fd], [], [], 0.2)[0]:
            text += os.read(fd, 65536).decode(errors="replace")
    return text


def test_top_draws_a_running_daemon(kafka, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks")
    kafka.produce(f"{name}.clicks", shop.clicks(300))
    config = shop.config(kafka, name, model)
    config["admin"] = {"listen": f"127.0.0.1:{servers.free_port()}", "token": "a-token-of-sixteen-or-more"}
    daemon = gaitd(config).start()
    daemon.wait_events(300)
    once = subprocess.run([shop.GAITD, "top", "-c", str(daemon.config), "--once"], capture_output=True, text=True, check=True)
    assert "Partitions: 4" in once.stdout and "not ready" not in once.stdout
    refused = subprocess.run([shop.GAITD, "top", "--at", config["admin"]["listen"]], capture_output=True, text=True)
    assert refused.returncode == 1 and "401" in refused.stderr
    process, fd = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        os.execv(shop.GAITD, [shop.GAITD, "top", "-c", str(daemon.config)])
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        screen_until(fd, "Partitions: 4")
        daemon.kill()
        screen_until(fd, "no answer from")  # it goes on, and says so
        os.write(fd, b"q")
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    finally:
        os.close(fd)
