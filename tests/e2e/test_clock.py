# SPDX-License-Identifier: Apache-2.0
"""test_clock.py - the wall clock jumps under a running daemon: what it computes comes from the log, what it waits for
from the monotonic clock.

With a file as source: librdkafka waits by C11's cnd_timedwait, whose clock libfaketime does not turn."""
import glob
import json

import pytest

import servers
import shop

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")
def test_the_clock_jumps_by_an_hour(redis, gaitd, model, name, tmp_path, monkeypatch):
    offset, clicks, out = tmp_path / "offset", tmp_path / "clicks.jsonl", tmp_path / "scores.jsonl"
    offset.write_text("+0\n")
    clicks.touch()
    events = shop.clicks(3000)
    config = {
        "engine": {"save_ms": "200ms", "commit_ms": "200ms", "batch_events": 256},
        "source": {"file": {"paths": [str(clicks)], "follow": True}},
        "store": {"redis": {"port": redis.port, "prefix": name}}, "model": {"lstm": {"path": model}},
        "score": {"interest": {}}, "sink": {"file": {"scores": str(out)}, "redis": {"port": redis.port, "prefix": name}},
    }
    with monkeypatch.context() as patch:
        for variable, value in (("LD_PRELOAD", FAKETIME), ("FAKETIME_TIMESTAMP_FILE", str(offset)), ("FAKETIME_NO_CACHE", "1"),
                                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("NO_FAKE_STAT", "1")):
            patch.setenv(variable, value)
        daemon = gaitd(config).start()
    for part, jump in enumerate(("+0", "-1h", "+1h")):
        offset.write_text(jump + "\n")
        with clicks.open("ab") as file:
            file.writelines(value + b"\n" for _, value in events[1000 * part:1000 * (part + 1)])
        end = clicks.stat().st_size - len(events[1000 * part + 999][1])  # W: just after the last line's beginning
        servers.wait_until(lambda end=end: int(redis.client().get(f"{name}:{{0}}:at") or -1) >= end,
                           what=f"all saved with the clock at {jump}", alive=daemon)
    last = {json.loads(value)["user_id"]: str(json.loads(value)["ts"]) for _, value in events}
    servers.wait_until(lambda: {user: redis.client().hget(f"{name}:user:{user}", "event_ts") for user in last} == last,
                       what="the hashes are up to date", alive=daemon)
    assert daemon.terminate(5) == 0
    scores = [json.loads(line) for line in out.read_text().splitlines()]
    assert shop.by_user(scores) == shop.by_user(shop.scores_from_file(tmp_path / "file", model, events))
