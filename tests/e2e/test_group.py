# SPDX-License-Identifier: Apache-2.0
"""test_group.py - several daemons in one consumer group with one Redis: partitions and users move between them, and
nobody notices in the scores."""
import copy

import servers
import shop


def config(kafka, redis, name, model, **engine):
    return shop.config(kafka, name, model, {"redis": {"port": redis.port, "prefix": name}}, **engine)


def scores_once(kafka, name):
    """Scores by place; at least once: a repeated one must say the same."""
    found = {}
    for score in kafka.read_json(f"{name}.scores"):
        place = (score["partition"], score["offset"])
        assert found.setdefault(place, score) == score
    return found


def check_all(kafka, name, tmp_path, model, events):
    found = scores_once(kafka, name)
    assert set(found) == {(p, o) for p, end in kafka.ends(f"{name}.clicks").items() for o in range(end)}
    in_order = [found[place] for place in sorted(found)]
    assert shop.by_user(in_order) == shop.by_user(shop.scores_from_file(tmp_path / "file", model, events))


def test_redis_may_come_later(kafka, own_redis, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks")
    kafka.produce(f"{name}.clicks", shop.clicks(100))
    daemon = gaitd(config(kafka, own_redis, name, model)).start(ready=False)
    servers.wait_until(lambda: "redis" in daemon.log_text().lower(), what="a line about Redis", alive=daemon)
    servers.wait_until(lambda: daemon.metric("gait_source_kafka_rebalances_total") > 0, what="the group", alive=daemon)
    assert daemon.metric("gait_ready") == 0
    assert daemon.metric("gait_events_total") == 0
    own_redis.start()
    daemon.wait_ready()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert len(kafka.read(f"{name}.scores")) == 100
    assert daemon.terminate(5) == 0


def test_users_move_with_their_partitions(kafka, redis, gaitd, model, name, tmp_path):
    """One daemon, then two, then the other alone: each change in the middle of the stream."""
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(9000, 100)
    settings = config(kafka, redis, name, model)
    first = gaitd(settings).start()
    kafka.produce(f"{name}.clicks", events[:3000])
    second = gaitd(settings).start()
    servers.wait_until(lambda: second.metric("gait_partitions") == 2, what="two partitions each", alive=second)
    kafka.produce(f"{name}.clicks", events[3000:6000])
    first.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert first.metric("gait_partitions") == 2
    assert first.terminate(5) == 0
    kafka.produce(f"{name}.clicks", events[6000:])
    second.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert second.metric("gait_fenced_total") == 0
    assert second.terminate(5) == 0
    assert len(kafka.read(f"{name}.scores")) == 9000  # an orderly hand-over repeats nothing
    check_all(kafka, name, tmp_path, model, events)


def test_killed_daemon_is_replaced(kafka, redis, gaitd, model, name, tmp_path):
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(9000, 100)
    settings = config(kafka, redis, name, model)
    settings["source"]["kafka"]["settings"] = {"session.timeout.ms": "3000"}
    first, second = gaitd(settings).start(), gaitd(settings).start()
    servers.wait_until(lambda: first.metric("gait_partitions") == second.metric("gait_partitions") == 2,
                       what="two partitions each", alive=first)
    kafka.produce(f"{name}.clicks", events[:6000])
    first.wait_events(500)
    first.kill()
    kafka.produce(f"{name}.clicks", events[6000:])
    servers.wait_until(lambda: second.metric("gait_partitions") == 4, 15, "all partitions", second)
    second.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert second.terminate(5) == 0
    check_all(kafka, name, tmp_path, model, events)


def test_other_windows_are_refused_while_a_daemon_runs(kafka, redis, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks")
    events = shop.clicks(2000, 100)
    settings = config(kafka, redis, name, model)
    changed = copy.deepcopy(settings)
    changed["window"] = {"rolling": {"ring": 14}}
    first = gaitd(settings).start()
    kafka.produce(f"{name}.clicks", events[:1000])
    first.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    second = gaitd(changed).start(ready=False)
    servers.wait_until(lambda: "window.rolling.ring is 28 there, 14 here" in second.log_text(), 30, "what differs", second)
    servers.wait_until(lambda: second.metric("gait_ready") == 0, 30, "not ready", second)
    assert second.metric("gait_events_total") == 0
    kafka.produce(f"{name}.clicks", events[1000:])
    assert first.terminate(10) == 0  # the last one with the old settings: now the new ones hold
    second.wait_ready()
    second.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    found = scores_once(kafka, name)
    assert set(found) == {(p, o) for p, end in kafka.ends(f"{name}.clicks").items() for o in range(end)}
    assert second.terminate(5) == 0
