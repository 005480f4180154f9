# SPDX-License-Identifier: Apache-2.0
"""test_kafka.py - the daemon between real topics: what goes in, what comes out, and what happens when a broker is
missing, late, restarted or unwilling."""
import copy
import json
import signal
import time

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

import servers
import shop


def places(messages):
    """(partition, offset) of the input, from scores."""
    return sorted((m["partition"], m["offset"]) for m in messages)


def test_every_click_gets_its_score(kafka, gaitd, model, name, tmp_path):
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(3000)
    kafka.produce(f"{name}.clicks", events)
    daemon = gaitd(shop.config(kafka, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    messages = kafka.read(f"{name}.scores")
    scores = [json.loads(m.value()) for m in messages]
    assert len(scores) == 3000
    assert places(scores) == sorted((p, o) for p, end in kafka.ends(f"{name}.clicks").items() for o in range(end))
    assert all(m.key().decode() == s["user"] for m, s in zip(messages, scores))
    assert shop.by_user(scores) == shop.by_user(shop.scores_from_file(tmp_path / "file", model, events))
    assert daemon.terminate(5) == 0


def test_bad_input_comes_back_as_it_was(kafka, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks", 1)
    good = shop.clicks(10)
    large = b'{"type":"page_view","user_id":"u9","ts":1764000000000,"page":"' + b"x" * 900000 + b'"}'
    kafka.produce(f"{name}.clicks", good + [(k, v) for k, v, _ in shop.BROKEN] + [(b"u9", large), (b"u8", None)])
    daemon = gaitd(shop.config(kafka, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    dead = {(m.key(), m.value()): dict(m.headers()) for m in kafka.read(f"{name}.dead")}
    for i, (key, value, reason) in enumerate(shop.BROKEN):
        headers = dead[(key, value)]
        assert reason is None or headers["reason"].decode() == reason
        assert headers["topic"].decode() == f"{name}.clicks"
        assert int(headers["partition"]) == 0
        assert int(headers["offset"]) == 10 + i
    assert dead[(b"u8", None)]["reason"] == b"empty"
    assert len(kafka.read(f"{name}.scores")) >= 10
    assert daemon.terminate(5) == 0


def test_second_run_goes_on_where_the_first_ended(kafka, gaitd, model, name, tmp_path):
    """Between the runs the records lie in a snapshot; the scores must be those of one run over everything."""
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(2000)
    config = shop.config(kafka, name, model, {"memory": {"snapshot": str(tmp_path / "snapshot")}})
    for part in (events[:1000], events[1000:]):
        kafka.produce(f"{name}.clicks", part)
        daemon = gaitd(config).start()
        daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
        assert daemon.terminate(5) == 0
    scores = kafka.read_json(f"{name}.scores")
    assert len(scores) == 2000
    assert shop.by_user(scores) == shop.by_user(shop.scores_from_file(tmp_path / "file", model, events))


def test_sigterm_under_load_drains_and_loses_nothing(kafka, gaitd, model, name, tmp_path):
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(60000, 500)
    kafka.produce(f"{name}.clicks", events)
    config = shop.config(kafka, name, model, {"memory": {"snapshot": str(tmp_path / "snapshot")}})
    slow = copy.deepcopy(config)  # a thousand messages each tenth of a second: not done before the signal comes
    slow["sink"]["kafka"].update(queue_messages=1000, linger_ms="100ms")
    daemon = gaitd(slow).start()
    daemon.wait_events(2000)
    begun = time.monotonic()
    assert daemon.terminate(10) == 0
    assert time.monotonic() - begun < 5
    half = len(kafka.read(f"{name}.scores"))
    assert 0 < half < 60000
    assert sum(kafka.committed(f"{name}.group", f"{name}.clicks").values()) == half
    daemon = gaitd(config).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert places(kafka.read_json(f"{name}.scores")) == sorted(
        (p, o) for p, end in kafka.ends(f"{name}.clicks").items() for o in range(end))
    assert daemon.terminate(5) == 0


def test_second_sigterm_stops_at_once(own_kafka, gaitd, model, name):
    own_kafka.start()
    own_kafka.create_topic(f"{name}.clicks")
    own_kafka.produce(f"{name}.clicks", shop.clicks(100))
    daemon = gaitd(shop.config(own_kafka, name, model)).start()
    daemon.wait_events(100)
    own_kafka.signal(signal.SIGSTOP)  # nothing can be committed any more, so the first SIGTERM waits
    daemon.signal(signal.SIGTERM)
    servers.wait_until(lambda: "draining" in daemon.log_text(), what="the first signal", alive=daemon)
    begun = time.monotonic()
    daemon.signal(signal.SIGTERM)
    daemon.process.wait(10)
    assert time.monotonic() - begun < 2


def test_kafka_may_come_later(own_kafka, gaitd, model, name):
    daemon = gaitd(shop.config(own_kafka, name, model)).start(ready=False)
    servers.wait_until(lambda: "no broker of" in daemon.log_text(), what="a line about the broker", alive=daemon)
    assert daemon.metric("gait_ready") == 0
    own_kafka.start()
    servers.wait_until(lambda: "Unknown topic" in daemon.log_text(), what="a line about the topic", alive=daemon)
    assert daemon.metric("gait_ready") == 0
    own_kafka.create_topic(f"{name}.clicks")
    own_kafka.produce(f"{name}.clicks", shop.clicks(100))
    daemon.wait_ready()
    daemon.wait_committed(own_kafka, f"{name}.group", f"{name}.clicks")
    assert len(own_kafka.read(f"{name}.scores")) == 100
    assert daemon.terminate(5) == 0


def test_broker_restart_loses_nothing(own_kafka, gaitd, model, name):
    own_kafka.start()
    own_kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(20000, 200)
    own_kafka.produce(f"{name}.clicks", events[:10000])
    daemon = gaitd(shop.config(own_kafka, name, model)).start()
    daemon.wait_events(1000)
    own_kafka.kill()
    servers.wait_until(lambda: daemon.metric("gait_ready") == 0, what="gaitd sees that the broker is gone", alive=daemon)
    own_kafka.start()
    daemon.wait_ready()
    own_kafka.produce(f"{name}.clicks", events[10000:])
    daemon.wait_committed(own_kafka, f"{name}.group", f"{name}.clicks", 60)
    got = places(own_kafka.read_json(f"{name}.scores"))
    assert sorted(set(got)) == sorted((p, o) for p, end in own_kafka.ends(f"{name}.clicks").items() for o in range(end))
    assert daemon.terminate(5) == 0


def test_events_lost_to_retention_are_counted(kafka, gaitd, model, name, tmp_path):
    kafka.create_topic(f"{name}.clicks", 1)
    kafka.produce(f"{name}.clicks", shop.clicks(100))
    config = shop.config(kafka, name, model, {"memory": {"snapshot": str(tmp_path / "snapshot")}})
    daemon = gaitd(config).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    kafka.produce(f"{name}.clicks", shop.clicks(100, 50, 2))
    kafka.admin("delete_records", [TopicPartition(f"{name}.clicks", 0, 130)])
    daemon = gaitd(config).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    servers.wait_until(lambda: daemon.metric("gait_gap_events_total") == 30, what="30 lost events counted", alive=daemon)
    assert "retention deleted 30 events (100 to 129)" in daemon.log_text()
    scores = kafka.read_json(f"{name}.scores")
    assert len(scores) == 170
    assert all(s["degraded"] == (s["offset"] >= 130) for s in scores)
    assert daemon.terminate(5) == 0


def test_dead_letter_that_the_topic_refuses_is_cut(kafka, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks", 1)
    kafka.create_topic(f"{name}.dead", 1, max_message_bytes=100000)
    kafka.produce(f"{name}.clicks", [(b"u1", b'{"page":"' + b"x" * 500000), *shop.clicks(10)])
    daemon = gaitd(shop.config(kafka, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    message = kafka.read(f"{name}.dead")[0]
    headers = dict(message.headers())
    assert headers["reason"] == b"bad_json"
    assert headers["cut_from_bytes"] == b"500009"
    assert len(message.value()) == 65536
    assert daemon.terminate(5) == 0


def test_a_grown_topic_is_refused(kafka, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks", 2)
    config = shop.config(kafka, name, model)
    config["source"]["kafka"]["settings"] = {"topic.metadata.refresh.interval.ms": "500"}
    daemon = gaitd(config).start()
    kafka.admin("create_partitions", [NewPartitions(f"{name}.clicks", 4)])
    servers.wait_until(lambda: "had 2 partitions" in daemon.log_text(), what="a line about the new partitions", alive=daemon)
    servers.wait_until(lambda: daemon.metric("gait_ready") == 0, what="not ready", alive=daemon)
    kafka.produce(f"{name}.clicks", [(b"u", v, 0) for _, v in shop.clicks(10)] + [(b"u", v, 3) for _, v in shop.clicks(10)])
    daemon.wait_events(10)
    assert {s["partition"] for s in kafka.read_json(f"{name}.scores")} == {0}
    assert daemon.terminate(5) == 0
