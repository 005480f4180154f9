#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What it costs when something dies, and when much waits: a real broker, a real Redis, the daemon's own figures.

    recovery.py --build build [--users 1000000] [--backlog 20000000] [--session 3]

take-over   kill -9 of one of three daemons while clicks come in, with the state of `users` users in Redis; seconds until
            others have written scores for each of its partitions (issue: session timeout + 2 s)
backlog     a daemon that begins `backlog` events behind, with Redis stopped for a while: its peak memory beside its bounds

Prints a JSON line each; appends nothing anywhere."""
import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import servers  # noqa: E402
import shop  # noqa: E402
from confluent_kafka import Producer  # noqa: E402

PARTITIONS = 6
TABLE, PREFETCH = 256 << 20, 128 << 20


def click(user, number, kind="product_view"):
    return json.dumps({"event_id": f"e-{number}", "type": kind, "user_id": user, "session_id": f"s-{user}",
                       "ts": int(time.time() * 1000), "item_id": f"sku{number % 5000}", "category": f"c{number % 32}",
                       "price": 9.5 + number % 90, "quantity": 1, "currency": "EUR", "device_id": f"d-{user}",
                       "country": "DE", "page": f"/p/{number % 5000}", "consent": True}).encode()


class Clicks:
    """Clicks of random users until it is told to end."""

    def __init__(self, kafka, topic, users, rate):
        self.producer = Producer({"bootstrap.servers": kafka.brokers, "linger.ms": 2, "partitioner": "murmur2_random",
                                  "queue.buffering.max.messages": 1000000})
        self.topic, self.users, self.rate, self.ended = topic, users, rate, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def send(self, user, number):
        while True:
            try:
                return self.producer.produce(self.topic, click(user, number), user)
            except BufferError:
                self.producer.poll(0.05)

    def one_each(self):
        for n in range(self.users):
            self.send(f"user-{n:07d}", n)
        assert self.producer.flush(120) == 0

    def run(self):
        drawn, number, begun = random.Random(1), self.users, time.monotonic()
        sent = 0
        while not self.ended.wait(0.005):
            while sent < (time.monotonic() - begun) * self.rate:
                self.send(f"user-{drawn.randrange(self.users):07d}", number + sent)
                sent += 1
            self.producer.poll(0)

    def stop(self):
        self.ended.set()
        self.thread.join()
        self.producer.flush(60)


def configuration(kafka, redis, name, model, args):
    made = shop.config(kafka, name, model, {"redis": {"port": redis.port, "prefix": name}}, delivery="exactly_once",
                       table_bytes=str(TABLE), batch_events=2048, save_ms="2s")
    made["source"]["kafka"].update(settings={"session.timeout.ms": str(args.session * 1000)}, prefetch_bytes=str(PREFETCH))
    made["sink"]["kafka"]["transaction_timeout_ms"] = "3s"
    made["sink"]["redis"] = {"port": redis.port, "prefix": name}
    return made


def take_over(kafka, redis, folder, model, args):
    name = "recovery"
    for topic in ("clicks", "scores", "alerts", "dead"):
        kafka.create_topic(f"{name}.{topic}", PARTITIONS)
    clicks = Clicks(kafka, f"{name}.clicks", args.users, 2000)
    clicks.one_each()
    settings = configuration(kafka, redis, name, model, args)
    daemons = [servers.Gaitd(folder / f"gaitd{n}", settings).start() for n in range(3)]
    daemons[0].wait_committed(kafka, f"{name}.group", f"{name}.clicks", 600)
    saved = redis.client().info("keyspace")["db0"]["keys"]
    servers.wait_until(lambda: all(d.metric("gait_partitions") == 2 for d in daemons), 60, "two partitions each", daemons[0])
    clicks.thread.start()
    time.sleep(3)  # a steady state, in which each batch has users to load
    before = {p: end for p, end in kafka.ends(f"{name}.scores").items()}
    daemons[0].kill()
    killed_ms = time.time() * 1000
    time.sleep(args.session + 10)
    clicks.stop()
    scored = {}
    for message in kafka.read(f"{name}.scores"):
        when, partition = message.timestamp()[1], json.loads(message.value())["partition"]
        if message.offset() >= before[message.partition()]:
            scored.setdefault(partition, []).append(when)
    after = max(min(w for w in whens if w > killed_ms + 500) for whens in scored.values()) - killed_ms
    assert len(scored) == PARTITIONS
    for daemon in daemons[1:]:
        assert daemon.terminate(10) == 0
    return {"job": "take-over", "users": args.users, "keys_in_redis": saved, "session_s": args.session,
            "to_scores_of_all_partitions_s": round(after / 1000, 2)}


def peak_mb(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024


def backlog(kafka, redis, folder, model, args):
    name = "backlog"
    kafka.create_topic(f"{name}.clicks", PARTITIONS)
    subprocess.run([shop.GAITD, "gen", "--users", "2000000", "--events", str(args.backlog), "--rate", "10000",
                    "--brokers", kafka.brokers, "--topic", f"{name}.clicks"], check=True, capture_output=True)
    settings = configuration(kafka, redis, name, model, args)
    daemon = servers.Gaitd(folder / "gaitd", settings).start()
    peaks = []
    for _ in range(3):  # it works, its outputs are slower than its inputs, it works again
        daemon.wait_events(daemon.metric("gait_events_total") + 300000, 120)
        redis.signal(19)
        time.sleep(10)
        redis.signal(18)
        peaks.append(round(peak_mb(daemon)))
    seen = daemon.metric("gait_events_total")
    daemon.wait_events(seen + 300000, 120)
    bounds = (TABLE + PREFETCH) / 2 ** 20 + 96
    result = {"job": "backlog", "events_behind": args.backlog, "table_mb": TABLE >> 20, "prefetch_mb": PREFETCH >> 20,
              "bound_mb": bounds, "peak_mb": round(peak_mb(daemon)), "peaks_mb": peaks}
    assert daemon.terminate(10) == 0
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default=str(HERE.parent.parent / "build"))
    parser.add_argument("--users", type=int, default=1000000)
    parser.add_argument("--backlog", type=int, default=20000000)
    parser.add_argument("--session", type=int, default=3, help="session timeout in seconds")
    parser.add_argument("--jobs", default="take-over,backlog")
    args = parser.parse_args()
    os.environ["GAIT_BUILD"] = args.build
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        kafka, redis = servers.Kafka(folder / "kafka").start(), servers.Redis(folder / "redis", append=False).start()
        try:
            model = shop.model(folder)
            for job, run in (("take-over", take_over), ("backlog", backlog)):
                if job in args.jobs:
                    print(json.dumps(run(kafka, redis, folder / job, model, args)), flush=True)
        finally:
            for path in (folder / "take-over", folder / "backlog"):
                for log in path.glob("*/gaitd.log"):
                    print(log.read_text()[-1500:] if sys.exc_info()[0] else "", file=sys.stderr, end="")
            kafka.kill()
            redis.kill()


if __name__ == "__main__":
    main()
