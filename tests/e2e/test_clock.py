# SPDX-License-Identifier: Apache-2.0
"""test_clock.py - the wall clock jumps under a running daemon: what it computes comes from the log, what it waits for
from the monotonic clock."""
import ctypes.util
import glob
import json

import pytest

import servers
import shop

FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), ctypes.util.find_library("faketimeMT"))


@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed")
def test_the_clock_jumps_by_an_hour(kafka, redis, gaitd, model, name, tmp_path, monkeypatch):
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(3000)
    config = shop.config(kafka, name, model, {"redis": {"port": redis.port, "prefix": name}})
    config["sink"]["redis"] = {"port": redis.port, "prefix": name}
    with monkeypatch.context() as patch:
        for variable, value in (("LD_PRELOAD", FAKETIME), ("FAKETIME_TIMESTAMP_FILE", str(offset)), ("FAKETIME_NO_CACHE", "1"),
                                ("FAKETIME_DONT_FAKE_MONOTONIC", "1")):
            patch.setenv(variable, value)
        daemon = gaitd(config).start()
    for part, jump in enumerate(("+0", "-1h", "+1h")):
        offset.write_text(jump + "\n")
        kafka.produce(f"{name}.clicks", events[1000 * part:1000 * (part + 1)])
        daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
        ends = {p: end for p, end in kafka.ends(f"{name}.clicks").items() if end > 0}
        servers.wait_until(lambda ends=ends: {p: int(redis.client().get(f"{name}:{{{p}}}:at") or -1) for p in ends} == ends,
                           what=f"all saved with the clock at {jump}", alive=daemon)
    servers.wait_until(lambda: daemon.metric("gait_serving_waiting") == 0, what="hashes written", alive=daemon)
    scores = kafka.read_json(f"{name}.scores")
    assert shop.by_user(scores) == shop.by_user(shop.scores_from_file(tmp_path / "file", model, events))
    last = {json.loads(value)["user_id"]: json.loads(value)["ts"] for _, value in events}
    for user, ts in last.items():
        assert redis.client().hget(f"{name}:user:{user}", "event_ts") == str(ts)
    assert daemon.terminate(5) == 0
