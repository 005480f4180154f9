# SPDX-License-Identifier: Apache-2.0
"""test_state.py - erasing users, and `gaitd state`: what an operator does with the records beside the daemons."""
import json
import subprocess

import servers
import shop

T0 = 1764000000000


def click(user, ts, kind="product_view"):
    return (user.encode(), json.dumps({"type": kind, "user_id": user, "ts": ts, "category": "shoes", "item_id": "i1"}).encode())


def tool(*arguments, ok=True):
    done = subprocess.run([shop.GAITD, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout if ok else done.stderr


def config(kafka, redis, name, model, delivery="at_least_once"):
    at = {"port": redis.port, "prefix": name}
    made = shop.config(kafka, name, model, {"redis": at}, delivery=delivery)
    made["source"]["kafka"]["erase_topic"] = f"{name}.erase"
    made["sink"]["kafka"]["erased"] = f"{name}.erased"
    made["sink"]["redis"] = at
    return made


def topics(kafka, name, partitions=3):
    kafka.create_topic(f"{name}.clicks", partitions)
    kafka.create_topic(f"{name}.erase", 1)
    kafka.create_topic(f"{name}.erased", 1)


def inspect(daemon, user):
    return json.loads(tool("state", "inspect", user, "--json", "-c", daemon.config))


def test_an_erased_user_is_gone_and_stays_gone(kafka, redis, gaitd, model, name):
    topics(kafka, name)
    kafka.produce(f"{name}.clicks", [click(u, T0 + i) for i in range(20) for u in ("anna", "berta")])
    made = config(kafka, redis, name, model)
    daemon = gaitd(made).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    client = redis.client()
    servers.wait_until(lambda: client.exists(f"{name}:user:anna"), what="the hash of anna", alive=daemon)
    receipts = [json.loads(line) for line in tool("user", "erase", "anna", "-c", daemon.config).splitlines()]
    assert sorted(r["partition"] for r in receipts) == [0, 1, 2]
    assert all(r["user"] == "anna" and r["partitions"] == 3 and r["offset"] == 0 for r in receipts)
    assert not client.exists(f"{name}:user:anna")
    assert client.exists(f"{name}:user:berta")
    daemon.kill()
    # Redis forgets everything: the log has anna's clicks still, but the request comes first.
    for key in client.scan_iter(f"{name}:*"):
        client.delete(key)
    daemon = gaitd(made).start()
    daemon.wait_events(20, result="erased")
    servers.wait_until(lambda: client.exists(f"{name}:user:berta"), what="the hash of berta", alive=daemon)
    assert not client.exists(f"{name}:user:anna")
    # What comes later begins a new record.
    later = receipts[0]["erased_ms"] + 1
    kafka.produce(f"{name}.clicks", [click("anna", later)])
    servers.wait_until(lambda: client.hget(f"{name}:user:anna", "event_ts") == str(later), what="anna is back", alive=daemon)
    assert daemon.terminate(5) == 0


def test_erasure_in_transactions(kafka, redis, gaitd, model, name):
    topics(kafka, name)
    kafka.produce(f"{name}.clicks", [click("anna", T0 + i) for i in range(5)])
    daemon = gaitd(config(kafka, redis, name, model, "exactly_once")).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    receipts = tool("user", "erase", "anna", "-c", daemon.config).splitlines()
    assert len(receipts) == 3
    assert len(kafka.read(f"{name}.erased")) >= 3
    assert daemon.terminate(5) == 0


def test_texts_of_requests_that_cannot_be(kafka, redis, gaitd, model, name):
    topics(kafka, name)
    kafka.create_topic(f"{name}.wide", 2)
    made = config(kafka, redis, name, model)
    made["source"]["kafka"]["erase_topic"] = f"{name}.wide"
    daemon = gaitd(made).start(ready=False)
    servers.wait_until(lambda: "exactly one partition" in daemon.log_text(), what="a text about the topic", alive=daemon)
    del made["source"]["kafka"]["erase_topic"]
    other = gaitd(made)
    assert "erase_topic" in tool("user", "erase", "anna", "-c", other.config, ok=False)
