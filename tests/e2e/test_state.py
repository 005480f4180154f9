# SPDX-License-Identifier: Apache-2.0
"""test_state.py - erasing users, and `gaitd state`: what an operator does with the records beside the daemons."""
import ctypes
import json
import struct
import subprocess

import redis as binary_redis

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
    shop.check_schema("erased", receipts)
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


def stopped(kafka, redis, gaitd, model, name, n=600, partitions=3):
    """Records of n clicks in the store, and no daemon any more."""
    topics(kafka, name, partitions)
    kafka.produce(f"{name}.clicks", shop.clicks(n))
    daemon = gaitd(config(kafka, redis, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    return daemon


def records(redis, name):
    raw = binary_redis.Redis(port=redis.port)
    return {key: raw.get(key) for key in raw.scan_iter(f"{name}:{{*}}:u:*")}


def test_backup_and_restore(kafka, redis, gaitd, model, name, tmp_path):
    daemon = stopped(kafka, redis, gaitd, model, name)
    before, backup = records(redis, name), tmp_path / "gait.bak"
    assert before
    assert f"{len(before)} records" in tool("state", "export", backup, "-c", daemon.config)
    redis.client().delete(*before)
    assert "--yes" in tool("state", "import", backup, "-c", daemon.config, ok=False)
    assert records(redis, name) == {}
    tool("state", "import", backup, "-c", daemon.config, "--yes")
    assert records(redis, name) == before
    damaged = tmp_path / "damaged.bak"
    damaged.write_bytes(backup.read_bytes()[:-20])
    assert "cut short or damaged" in tool("state", "import", damaged, "-c", daemon.config, "--yes", ok=False)
    assert records(redis, name) == before
    scores = len(kafka.read(f"{name}.scores"))
    daemon.start()
    kafka.produce(f"{name}.clicks", [click(f"u{i}", T0 + 10 * 86400000) for i in range(100)])
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert len(kafka.read(f"{name}.scores")) == scores + 100
    assert "daemons run in group" in tool("state", "import", backup, "-c", daemon.config, "--yes", ok=False)


def test_export_while_running_is_a_checkpoint(kafka, redis, gaitd, model, name, tmp_path):
    """Restored from it, the log refills the rest: the records are those that were never lost."""
    topics(kafka, name)
    events = shop.clicks(20000, 300)
    kafka.produce(f"{name}.clicks", events)
    daemon = gaitd(config(kafka, redis, name, model)).start()
    daemon.wait_events(3000)
    tool("state", "export", tmp_path / "gait.bak", "-c", daemon.config)
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    before = {user: inspect(daemon, user)["windows"] for user in {e[0].decode() for e in events[:200]}}
    scores = len(kafka.read(f"{name}.scores"))
    tool("state", "import", tmp_path / "gait.bak", "-c", daemon.config, "--yes")
    daemon.start()
    client = redis.client()
    ends = kafka.ends(f"{name}.clicks")
    servers.wait_until(lambda: all(int(client.get(f"{name}:{{{p}}}:at") or -1) == e for p, e in ends.items()), 60, "W", daemon)
    assert daemon.terminate(5) == 0
    assert {user: inspect(daemon, user)["windows"] for user in before} == before
    assert len(kafka.read(f"{name}.scores")) == scores


def test_rewind_does_it_once_more(kafka, redis, gaitd, model, name):
    daemon = stopped(kafka, redis, gaitd, model, name)
    scores = kafka.read_json(f"{name}.scores")
    assert "--yes" in tool("state", "rewind", "--to", "earliest", "-c", daemon.config, ok=False)
    assert "is no offset" in tool("state", "rewind", "--to", "yesterday", "-c", daemon.config, "--yes", ok=False)
    assert "is not there" in tool("state", "rewind", "--to", "9999", "--partition", 1, "-c", daemon.config, "--yes", ok=False)
    tool("state", "rewind", "--to", "earliest", "-c", daemon.config, "--yes")
    daemon.start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    again = kafka.read_json(f"{name}.scores")
    assert sorted((s["partition"], s["offset"]) for s in again) == sorted(2 * [(s["partition"], s["offset"]) for s in scores])


def test_rekey_keeps_every_user(kafka, redis, gaitd, model, name):
    from confluent_kafka.admin import NewPartitions
    daemon = stopped(kafka, redis, gaitd, model, name)
    users = sorted({key.split(b":u:")[1].decode() for key in records(redis, name)})
    before = {user: inspect(daemon, user)["windows"] for user in users}
    kafka.admin("create_partitions", [NewPartitions(f"{name}.clicks", 7)])
    assert "the topic has 7" in tool("state", "rekey", "--partitions", 5, "-c", daemon.config, "--yes", ok=False)
    tool("state", "rekey", "--partitions", 7, "-c", daemon.config, "--yes")
    assert {user: inspect(daemon, user)["windows"] for user in users} == before
    daemon.start()
    kafka.produce(f"{name}.clicks", [click(user, T0 + 10 * 86400000) for user in users])
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    for user in users:
        assert inspect(daemon, user)["windows"]["total.events"] == before[user]["total.events"] + 1


def test_inspect(kafka, redis, gaitd, model, name):
    topics(kafka, name, 1)
    kafka.produce(f"{name}.clicks", [click("anna", T0 + i * 1000) for i in range(3)])
    daemon = gaitd(config(kafka, redis, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert daemon.terminate(5) == 0
    record = inspect(daemon, "anna")
    assert record["next"] == 3 and record["erased"] is None
    assert [e["type"] for e in record["events"]] == ["product_view"] * 3
    assert record["windows"]["count.product_view.5m"] == 3
    assert "count.product_view.5m" in tool("state", "inspect", "anna", "-c", daemon.config)
    assert "no record of user berta" in tool("state", "inspect", "berta", "-c", daemon.config, ok=False)


def verify(daemon, *arguments, ok=True):
    return json.loads(run_verify(daemon, "--json", *arguments, code=0 if ok else 1))


def run_verify(daemon, *arguments, code=0):
    done = subprocess.run([shop.GAITD, "state", "verify", "-c", daemon.config, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def tamper(raw, section):
    """The record with one bit of that section's last byte turned, and a right checksum."""
    changed, at = bytearray(raw), 40
    while at < len(raw):
        name = raw[at + 1:at + 1 + raw[at]].decode()
        length = struct.unpack_from("<I", raw, at + raw[at] + 3)[0]
        at += raw[at] + 7 + length
        if name == section:
            changed[at - 4] ^= 1
    xxhash = ctypes.CDLL("libxxhash.so.0")
    xxhash.XXH3_64bits.restype = ctypes.c_uint64
    changed[8:16] = struct.pack("<Q", xxhash.XXH3_64bits(bytes(changed[16:]), ctypes.c_size_t(len(changed) - 16)))
    return bytes(changed)


def test_verify_finds_what_was_tampered_with(kafka, redis, gaitd, model, name):
    daemon = stopped(kafka, redis, gaitd, model, name, 3000)
    before = records(redis, name)
    good = verify(daemon, "--sample", 1000)
    assert good == {"verified": len(before), "differ": 0, "not_verifiable": 0, "users": []}
    assert run_verify(daemon, "--sample", 10) == "verified 10, differ 0, not verifiable 0\n"
    raw = binary_redis.Redis(port=redis.port)
    key = sorted(before)[7]
    user, partition = key.split(b":u:")[1].decode(), int(key.split(b"{")[1].split(b"}")[0])
    for section in ("window_rolling", "model_lstm"):
        raw.set(key, tamper(before[key], section))
        bad = verify(daemon, "--sample", 1000, ok=False)
        assert bad["users"] == [{"user": user, "partition": partition, "result": "differs", "sections": section}]
        assert verify(daemon, "--user", user, ok=False)["differ"] == 1
        assert f"user {user}, partition {partition} differs: {section}" in run_verify(daemon, "--user", user, code=1)
        assert verify(daemon, "--user", user, "--ignore", section)["verified"] == 1
    raw.set(key, before[key][:-1])  # a checksum that is not right
    assert verify(daemon, "--user", user, ok=False)["users"][0]["sections"] == "record (wrong checksum)"
    raw.set(key, before[key])
    # An update that was lost: W says that everything is contained, the record lacks its last events.
    kafka.produce(f"{name}.clicks", [click(user, T0 + 10 * 86400000)])
    daemon.start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    assert verify(daemon, "--user", user)["verified"] == 1  # beside a running daemon
    assert daemon.terminate(5) == 0
    raw.set(key, before[key])
    assert "next, window_rolling" in run_verify(daemon, "--user", user, code=1)


def test_verify_says_what_it_cannot_know(kafka, redis, gaitd, model, name):
    """What retention has deleted is no difference; nor is an erased user."""
    from confluent_kafka import TopicPartition
    topics(kafka, name, 1)
    kafka.produce(f"{name}.clicks", [click("anna", T0 + i * 1000) for i in range(10)])
    kafka.produce(f"{name}.clicks", [click("berta", T0 + i * 1000) for i in range(10)])
    daemon = gaitd(config(kafka, redis, name, model)).start()
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks")
    kafka.admin("delete_records", [TopicPartition(f"{name}.clicks", 0, 5)])
    found = verify(daemon)
    while found["verified"] + found["not_verifiable"] < 2:  # one of the two may not be saved yet
        found = verify(daemon)
    assert found["users"] == [{"user": "anna", "partition": 0, "result": "not_verifiable",
                               "reason": "history begins before the retained log"}]
    tool("user", "erase", "berta", "-c", daemon.config)
    assert "erased" in run_verify(daemon, "--user", "berta")
    assert daemon.terminate(5) == 0
    assert "no record of user carla" in tool("state", "verify", "--user", "carla", "-c", daemon.config, ok=False)
