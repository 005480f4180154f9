# SPDX-License-Identifier: Apache-2.0
"""test_authorisation.py - a broker that refuses what the daemon was not allowed: it says which topic, keeps everything, and
goes on when an operator has allowed it, without a restart."""
import json

import pytest

import servers
import shop


@pytest.fixture(scope="module")
def strict_kafka(tmp_path_factory):
    server = servers.StrictKafka(tmp_path_factory.mktemp("strict")).start()
    yield server
    server.kill()


def restricted(kafka, name, model, delivery):
    """Everything is allowed but to write scores."""
    for topic in ("clicks", "scores", "alerts", "dead"):
        kafka.create_topic(f"{name}.{topic}", 2)
    kafka.allow("TOPIC", f"{name}.clicks", "READ", "DESCRIBE")
    kafka.allow("GROUP", f"{name}.group", "READ", "DESCRIBE")
    kafka.allow("TOPIC", f"{name}.scores", "DESCRIBE")
    for topic in ("alerts", "dead"):
        kafka.allow("TOPIC", f"{name}.{topic}", "WRITE", "DESCRIBE")
    kafka.allow("TRANSACTIONAL_ID", "gait-", "WRITE", "DESCRIBE", prefix=True)
    config = shop.config(kafka, name, model, delivery=delivery)
    for part in (config["source"]["kafka"], config["sink"]["kafka"]):
        part["brokers"] = kafka.secure_brokers
        part["settings"] = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(kafka.ca), "sasl.mechanism": "PLAIN",
                            "sasl.username": kafka.user, "sasl.password": kafka.password}
    return config


def each_once(kafka, name, n):
    scores = [json.loads(m.value()) for m in kafka.read(f"{name}.scores")]
    ends = kafka.ends(f"{name}.clicks")
    assert sorted((s["partition"], s["offset"]) for s in scores) == sorted((p, o) for p, end in ends.items() for o in range(end))
    assert len(scores) == n


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_scores_that_may_not_be_written_wait_until_they_may(strict_kafka, gaitd, model, name, delivery):
    kafka = strict_kafka
    daemon = gaitd(restricted(kafka, name, model, delivery)).start()
    events = shop.clicks(500)
    kafka.produce(f"{name}.clicks", events[:400])
    said = servers.wait_until(lambda: [line for line in daemon.log_text().splitlines()
                                       if f"{name}.scores" in line and "Topic authorization failed" in line], 30,
                              "a line that names the topic", daemon)
    assert said
    servers.wait_until(lambda: daemon.metric("gait_ready") == 0, 30, "not ready", daemon)
    why = [line for line in daemon.log_text().splitlines() if "not ready" in line][-1]
    assert "authorised" in why or "one transaction after the other fails" in why
    assert kafka.committed(f"{name}.group", f"{name}.clicks") == {}
    assert kafka.read(f"{name}.scores") == []
    kafka.allow("TOPIC", f"{name}.scores", "WRITE")
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    each_once(kafka, name, 400)
    daemon.wait_ready()
    # What was allowed is taken away under way.
    kafka.disallow("TOPIC", f"{name}.scores", "WRITE")
    kafka.produce(f"{name}.clicks", events[400:])
    servers.wait_until(lambda: daemon.metric("gait_ready") == 0, 30, "not ready again", daemon)
    kafka.allow("TOPIC", f"{name}.scores", "WRITE")
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    each_once(kafka, name, 500)
    assert daemon.terminate(5) == 0


def test_clicks_that_may_not_be_read_are_read_when_they_may(strict_kafka, gaitd, model, name):
    kafka = strict_kafka
    config = restricted(kafka, name, model, "at_least_once")
    kafka.allow("TOPIC", f"{name}.scores", "WRITE")
    kafka.disallow("TOPIC", f"{name}.clicks", "READ")
    kafka.produce(f"{name}.clicks", shop.clicks(50))
    daemon = gaitd(config).start(ready=False)
    servers.wait_until(lambda: f"topic {name}.clicks" in daemon.log_text() and "authorization failed" in daemon.log_text(), 30,
                       "a line that names the topic", daemon)
    kafka.allow("TOPIC", f"{name}.clicks", "READ")
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    each_once(kafka, name, 50)
    assert daemon.terminate(5) == 0
