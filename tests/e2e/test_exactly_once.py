# SPDX-License-Identifier: Apache-2.0
"""test_exactly_once.py - delivery: exactly_once with a real broker. Whatever happens, a reader with read_committed finds one
score for each click, the same as an undisturbed run gives."""
import json
import signal
import threading
import time

from confluent_kafka import TopicPartition

import servers
import shop


def config(kafka, redis, name, model, session_ms=6000):
    made = shop.config(kafka, name, model, {"redis": {"port": redis.port, "prefix": name}}, delivery="exactly_once")
    made["source"]["kafka"]["settings"] = {"session.timeout.ms": str(session_ms)}
    made["sink"]["kafka"]["transaction_timeout_ms"] = "3s"
    return made


def check(kafka, name, tmp_path, model, events):
    """One score for each click, and each user's scores as from a file. Waits for transactions that the dead left open."""
    ends = kafka.ends(f"{name}.clicks")
    total = sum(ends.values())
    servers.wait_until(lambda: len(kafka.read(f"{name}.scores")) >= total, 30, "all scores readable")
    scores = kafka.read_json(f"{name}.scores")
    places = sorted((s["partition"], s["offset"]) for s in scores)
    assert places == sorted((p, o) for p, end in ends.items() for o in range(end))
    scores.sort(key=lambda s: (s["partition"], s["offset"]))
    assert shop.by_user(scores) == shop.by_user(shop.scores_from_file(tmp_path / "file", model, events))


def test_undisturbed(kafka, redis, gaitd, model, name, tmp_path):
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(6000, 100)
    kafka.produce(f"{name}.clicks", events)
    daemon = gaitd(config(kafka, redis, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    check(kafka, name, tmp_path, model, events)
    assert daemon.metric("gait_transactions_aborted_total") == 0


def test_killed_in_the_middle(kafka, redis, gaitd, model, name, tmp_path):
    """Killed while clicks are still coming, so that there is always more to do for the next one."""
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(60000, 300)
    daemon = gaitd(config(kafka, redis, name, model, 2000)).start()
    for part in range(3):
        coming = events[20000 * part:20000 * (part + 1)]
        feeder = threading.Thread(target=lambda clicks=coming: [kafka.produce(f"{name}.clicks", clicks[i:i + 2000])
                                                                for i in range(0, len(clicks), 2000)])
        feeder.start()
        if part < 2:
            daemon.wait_events(3000)
            daemon.kill()
            feeder.join()
            daemon.start()
        else:
            feeder.join()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    assert daemon.terminate(5) == 0
    check(kafka, name, tmp_path, model, events)
    assert len(kafka.read(f"{name}.scores", isolation="read_uncommitted")) >= 60000


def test_broker_restart(own_kafka, redis, gaitd, model, name, tmp_path):
    own_kafka.start()
    own_kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(20000, 200)
    own_kafka.produce(f"{name}.clicks", events[:12000])
    daemon = gaitd(config(own_kafka, redis, name, model)).start()
    daemon.wait_events(2000)
    own_kafka.kill()
    servers.wait_until(lambda: daemon.metric("gait_ready") == 0, what="not ready", alive=daemon)
    own_kafka.start()
    own_kafka.produce(f"{name}.clicks", events[12000:])
    daemon.wait_committed(own_kafka, f"{name}.group", f"{name}.clicks", 90)
    check(own_kafka, name, tmp_path, model, events)
    assert daemon.terminate(5) == 0


def test_sigterm_while_the_broker_is_away(own_kafka, redis, gaitd, model, name):
    own_kafka.start()
    own_kafka.create_topic(f"{name}.clicks")
    own_kafka.produce(f"{name}.clicks", shop.clicks(20000, 200))
    daemon = gaitd(config(own_kafka, redis, name, model)).start()
    daemon.wait_events(1000)
    own_kafka.kill()
    begun = time.monotonic()
    assert daemon.terminate(20) == 0
    assert time.monotonic() - begun < 7  # 5 s to drain, then at once


def test_zombie_writes_nothing(kafka, redis, gaitd, model, name, tmp_path):
    """Stopped for longer than the session timeout in the middle of its work; another takes over; then it wakes up."""
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(60000, 300)
    settings = config(kafka, redis, name, model, 2000)
    first, second = gaitd(settings).start(), gaitd(settings).start()
    servers.wait_until(lambda: first.metric("gait_partitions") == second.metric("gait_partitions") == 2,
                       what="two partitions each", alive=first)
    kafka.produce(f"{name}.clicks", events[:50000])
    first.wait_events(2000)
    first.signal(signal.SIGSTOP)
    servers.wait_until(lambda: second.metric("gait_partitions") == 4, 30, "all partitions", second)
    second.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    first.signal(signal.SIGCONT)
    servers.wait_until(lambda: first.metric("gait_partitions") == 2, 60, "the zombie is a member again", first)
    kafka.produce(f"{name}.clicks", events[50000:])
    second.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    assert first.terminate(5) == 0
    assert second.terminate(5) == 0
    check(kafka, name, tmp_path, model, events)


def test_message_larger_than_the_topic_allows(kafka, redis, gaitd, model, name):
    """The broker refuses it with its whole transaction, every time: it has to become a dead letter, once, and all the
    others scores."""
    events = shop.clicks(300)
    long_user = b"u" * 120
    large = json.loads(events[0][1]) | {"user_id": long_user.decode()}
    kafka.create_topic(f"{name}.clicks", 1)
    kafka.create_topic(f"{name}.scores", 1, max_message_bytes=560)
    kafka.produce(f"{name}.clicks", [*events[:150], (long_user, json.dumps(large).encode()), *events[150:]])
    settings = config(kafka, redis, name, model)
    settings["sink"]["kafka"]["batch_bytes"] = 16000
    daemon = gaitd(settings).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 90)
    assert daemon.terminate(5) == 0
    scores, dead = kafka.read_json(f"{name}.scores"), kafka.read(f"{name}.dead")
    assert len(dead) == 1
    assert dict(dead[0].headers())["reason"] == b"output_too_large"
    assert json.loads(dead[0].value())["user"] == long_user.decode()
    assert sorted(s["offset"] for s in scores) == [o for o in range(301) if o != 150]
    assert daemon.metric("gait_sink_kafka_undeliverable_total", output="scores") >= 1


def test_output_topic_that_is_missing_for_a_while(own_kafka, redis, gaitd, model, name):
    own_kafka.config.write_text(own_kafka.config.read_text() + "auto.create.topics.enable=false\n")
    own_kafka.start()
    for topic in ("clicks", "alerts", "dead"):
        own_kafka.create_topic(f"{name}.{topic}")
    own_kafka.produce(f"{name}.clicks", shop.clicks(500))
    daemon = gaitd(config(own_kafka, redis, name, model)).start(ready=False)
    servers.wait_until(lambda: f"topic {name}.scores cannot be written" in daemon.log_text(), what="a line that names it", alive=daemon)
    assert daemon.metric("gait_ready") == 0
    assert own_kafka.committed(f"{name}.group", f"{name}.clicks") == {}
    own_kafka.create_topic(f"{name}.scores")
    daemon.wait_committed(own_kafka, f"{name}.group", f"{name}.clicks", 60)
    assert daemon.terminate(5) == 0
    assert len(own_kafka.read(f"{name}.scores")) == 500


def test_take_over_is_quick(kafka, redis, gaitd, model, name):
    """From kill -9 of one of three daemons to scores for its partitions from another: session timeout + 2 s."""
    session_s = 3
    kafka.create_topic(f"{name}.clicks", 6)
    settings = config(kafka, redis, name, model, session_s * 1000)
    daemons = [gaitd(settings).start() for _ in range(3)]
    servers.wait_until(lambda: all(d.metric("gait_partitions") == 2 for d in daemons), what="two partitions each", alive=daemons[0])
    events = shop.clicks(6000, 100)
    kafka.produce(f"{name}.clicks", events[:3000])
    daemons[0].wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    daemons[0].kill()
    killed_ms = time.time() * 1000
    kafka.produce(f"{name}.clicks", events[3000:])
    daemons[1].wait_committed(kafka, f"{name}.group", f"{name}.clicks", 30)
    first = {}
    for message in kafka.read(f"{name}.scores"):
        when, partition = message.timestamp()[1], json.loads(message.value())["partition"]
        if when > killed_ms:
            first[partition] = min(when, first.get(partition, when))
    slowest = max(first.values()) - killed_ms
    print(f"take-over: scores for all partitions {slowest / 1000:.2f} s after the kill (session timeout {session_s} s)")
    assert len(first) == 6
    assert slowest < (session_s + 2) * 1000
    for daemon in daemons[1:]:
        assert daemon.terminate(5) == 0


def test_events_below_the_retained_ones(kafka, redis, gaitd, model, name):
    """Retention has overtaken W: counted, flagged in what is sent, and work goes on."""
    kafka.create_topic(f"{name}.clicks", 1)
    kafka.produce(f"{name}.clicks", shop.clicks(100))
    settings = config(kafka, redis, name, model)
    daemon = gaitd(settings).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    kafka.produce(f"{name}.clicks", shop.clicks(100, 50, 2))
    kafka.admin("delete_records", [TopicPartition(f"{name}.clicks", 0, 120)])
    daemon = gaitd(settings).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    servers.wait_until(lambda: daemon.metric("gait_gap_events_total") == 20, what="20 lost events counted", alive=daemon)
    scores = kafka.read_json(f"{name}.scores")
    assert len(scores) == 180
    assert all(s["degraded"] == (s["offset"] >= 120) for s in scores)
    assert daemon.terminate(5) == 0
