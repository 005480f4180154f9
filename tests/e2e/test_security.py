# SPDX-License-Identifier: Apache-2.0
"""test_security.py - passwords, encryption and least rights against a broker and a Redis that insist on them, and that no
secret shows anywhere."""
import json
import pathlib
import subprocess

import pytest
import redis as redis_client

import servers
import shop


@pytest.fixture(scope="module")
def secure_kafka(tmp_path_factory):
    server = servers.SecureKafka(tmp_path_factory.mktemp("secure")).start()
    yield server
    server.kill()


def secure_config(kafka, name, model, secret, mechanism, ca=None):
    config = shop.config(kafka, name, model)
    for part in (config["source"]["kafka"], config["sink"]["kafka"]):
        part["brokers"] = kafka.secure_brokers
        part["settings"] = {
            "security.protocol": "SASL_SSL", "ssl.ca.location": str(ca or kafka.ca), "sasl.mechanism": mechanism,
            "sasl.username": kafka.user, "sasl.password": secret,
        }
    return config


def shows_nowhere(daemon, secret):
    """Not in the log, the process list, its environment or the metrics."""
    proc = pathlib.Path("/proc") / str(daemon.process.pid)
    for text in (daemon.log_text().encode(), (proc / "cmdline").read_bytes(), (proc / "environ").read_bytes(),
                 daemon.metrics_file.read_bytes()):
        assert secret.encode() not in text


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_kafka_with_tls_and_password(secure_kafka, gaitd, model, name, tmp_path, monkeypatch, mechanism, delivery):
    secure_kafka.create_topic(f"{name}.clicks")
    for topic in ("scores", "alerts", "dead"):
        secure_kafka.create_topic(f"{name}.{topic}")
    secure_kafka.produce(f"{name}.clicks", shop.clicks(500))
    (tmp_path / "kafka.password").write_text(secure_kafka.password + "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # what systemd does for LoadCredential=
    config = secure_config(secure_kafka, name, model, {"credential": "kafka.password"}, mechanism)
    config["engine"]["delivery"] = delivery
    daemon = gaitd(config).start()
    daemon.wait_committed(secure_kafka, f"{name}.group", f"{name}.clicks")
    assert len(secure_kafka.read(f"{name}.scores")) == 500
    shows_nowhere(daemon, secure_kafka.password)
    assert daemon.terminate(5) == 0


def test_a_wrong_password_is_said_and_not_shown(secure_kafka, gaitd, model, name):
    secure_kafka.create_topic(f"{name}.clicks")
    daemon = gaitd(secure_config(secure_kafka, name, model, "wrong-and-secret", "PLAIN")).start(ready=False)
    servers.wait_until(lambda: "uthentication failed" in daemon.log_text(), 30, "a line about the password", daemon)
    servers.wait_until(daemon.metrics_file.exists, what="metrics", alive=daemon)
    assert daemon.metric("gait_ready") == 0
    shows_nowhere(daemon, "wrong-and-secret")
    daemon.terminate(10)


def test_a_broker_with_another_ca_is_not_talked_to(secure_kafka, gaitd, model, name, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    servers.SecureKafka.make_certificates(other)
    daemon = gaitd(secure_config(secure_kafka, name, model, secure_kafka.password, "PLAIN", other / "ca.pem"))
    daemon.start(ready=False)
    servers.wait_until(lambda: "certificate" in daemon.log_text(), 30, "a line about the certificate", daemon)
    assert daemon.metric("gait_ready") == 0
    daemon.terminate(10)


def test_a_core_dump_is_not_possible(kafka, gaitd, model, name):
    kafka.create_topic(f"{name}.clicks")
    daemon = gaitd(shop.config(kafka, name, model)).start()
    # A process that is not dumpable belongs to root in /proc, so that others of its user cannot look into it.
    assert (pathlib.Path("/proc") / str(daemon.process.pid) / "mem").stat().st_uid == 0
    limits = (pathlib.Path("/proc") / str(daemon.process.pid) / "status").read_text()
    assert "CoreDumping:\t0" in limits
    assert daemon.terminate(5) == 0


def acl_lines(prefix, password):
    done = subprocess.run([shop.GAITD, "options", f"--redis-acl={prefix}"], check=True, capture_output=True, text=True)
    return [line.replace("PASSWORD", password).split() for line in done.stdout.splitlines() if line.startswith("user ")]


def test_redis_with_exactly_the_printed_acl(kafka, own_redis, gaitd, model, name, tmp_path):
    own_redis.start()
    root = own_redis.client()
    prefix, password = f"p*[{name}]", "redis-secret"
    for _, user, *rules in acl_lines(prefix, password):
        root.execute_command("ACL", "SETUSER", user, *rules)
    root.execute_command("ACL", "SETUSER", "default", "off")
    (tmp_path / "redis.password").write_text(password)
    access = {"host": "127.0.0.1", "port": own_redis.port, "prefix": prefix, "user": "gaitd",
              "password": {"file": str(tmp_path / "redis.password")}}
    config = shop.config(kafka, name, model, {"redis": access})
    config["sink"]["redis"] = {**access, "every_ms": "0ms", "features": ["count.purchase.24h"]}
    kafka.create_topic(f"{name}.clicks")
    kafka.produce(f"{name}.clicks", shop.clicks(300))
    for _ in range(2):  # the second one takes over, loads and renews what the first one saved
        daemon = gaitd(config).start()
        daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
        servers.wait_until(lambda: daemon.metric("gait_serving_waiting") == 0, what="hashes written", alive=daemon)
        assert daemon.metric("gait_redis_errors_total", kind="refused") == 0
        shows_nowhere(daemon, password)
        assert daemon.terminate(5) == 0
        assert "NOPERM" not in daemon.log_text()
        kafka.produce(f"{name}.clicks", shop.clicks(300, 50, 2))
    reader = redis_client.Redis(port=own_redis.port, username="gait-reader", password=password, decode_responses=True)
    user = next(json.loads(event)["user_id"] for _, event in shop.clicks(1))
    assert json.loads(reader.hgetall(f"{prefix}:user:{user}")["interests"])
    for forbidden in (lambda: reader.keys("*"), lambda: reader.hset(f"{prefix}:user:{user}", "intent", "1"),
                      lambda: reader.get(f"{prefix}:{{0}}:fence"), lambda: reader.hgetall("pX[other]:user:u1")):
        with pytest.raises(redis_client.exceptions.NoPermissionError):
            forbidden()


def test_redis_without_rights_is_said(kafka, own_redis, gaitd, model, name):
    own_redis.start()
    own_redis.client().execute_command("ACL", "SETUSER", "poor", "on", ">secret-word", "~*", "-@all", "+select")
    access = {"host": "127.0.0.1", "port": own_redis.port, "user": "poor", "password": "secret-word"}
    kafka.create_topic(f"{name}.clicks")
    daemon = gaitd(shop.config(kafka, name, model, {"redis": access})).start(ready=False)
    servers.wait_until(lambda: "NOPERM" in daemon.log_text(), what="a line about the rights", alive=daemon)
    servers.wait_until(daemon.metrics_file.exists, what="metrics", alive=daemon)
    assert daemon.metric("gait_ready") == 0
    shows_nowhere(daemon, "secret-word")
    daemon.terminate(10)
