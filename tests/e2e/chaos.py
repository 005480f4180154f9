# SPDX-License-Identifier: Apache-2.0
"""chaos.py - everything is killed, and nothing may show.

Three daemons of one group with a real broker and a real Redis (append-only file, everysec) read generated clicks while a
seed draws the faults:

  kill      kill -9 of a daemon, which comes back a little later
  zombie    SIGSTOP of a daemon for longer than the session timeout, then SIGCONT: it must not write anything any more
  redis     kill -9 of Redis; the end of its append-only file is cut off, as after a power failure; started again
  broker    kill -9 of the broker, started again

Then all of it is healed, and what is there is compared with what one undisturbed daemon makes of the same topic: records,
serving hashes, scores and alerts have to be identical, and with delivery: exactly_once each score and alert is there once.
Left out is only what tells the time of the wall clock: a record's touched_ms and the checksum over it, a hash's written_ts.

    build/venv/bin/python tests/e2e/chaos.py --events 2000000 --faults 60 --minutes 20 --seed 7
"""
import argparse
import json
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time

import redis as client_library
from confluent_kafka import KafkaException, Producer

import servers
import shop

SESSION_MS = 6000
PARTITIONS = 6
KINDS = ["kill", "kill", "kill", "zombie", "redis", "redis", "broker"]
RECORD_SUM, RECORD_TOUCHED = slice(8, 16), slice(32, 40)  # daemon/record.c: the head of a record


class Feeder(threading.Thread):
    """Writes the clicks to the topic at an even pace, through every fault of the broker; each of them once."""

    def __init__(self, kafka, topic, events, rate):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": kafka.brokers, "enable.idempotence": True, "linger.ms": 5, "log_level": 0,
                                  "partitioner": "murmur2_random", "message.timeout.ms": 0, "reconnect.backoff.max.ms": 500})
        self.topic, self.events, self.rate = topic, events, rate
        self.fed, self.failed = 0, None

    def run(self):
        begun = time.monotonic()
        for key, value in self.events:
            while self.fed > (time.monotonic() - begun) * self.rate:
                self.producer.poll(0.005)
            while True:
                try:
                    self.producer.produce(self.topic, value, key, on_delivery=self.delivered)
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.fed += 1
        self.producer.flush(120)

    def delivered(self, error, _message):
        self.failed = self.failed or error


def config(kafka, redis, name, model, delivery, topic="chaos.clicks"):
    made = shop.config(kafka, name, model, {"redis": {"port": redis.port, "prefix": name, "timeout_ms": "2s"}}, delivery=delivery,
                       save_ms="500ms")
    made["source"]["kafka"]["topic"] = topic
    made["source"]["kafka"]["settings"] = {"session.timeout.ms": str(SESSION_MS)}
    made["sink"]["kafka"]["transaction_timeout_ms"] = "3s"
    made["sink"]["redis"] = {"port": redis.port, "prefix": name, "every_ms": "50ms", "timeout_ms": "2s"}
    made["rule"] = {"fraud": {"rules": str(servers.ROOT / "conf" / "rules.yaml")}}
    return made


class Chaos:
    def __init__(self, folder, kafka, redis, daemons, rng, say):
        self.folder, self.kafka, self.redis, self.daemons, self.rng, self.say = folder, kafka, redis, daemons, rng, say
        self.waiting = []   # (when, what to call): how each fault heals
        self.stopped = set()
        self.counts = dict.fromkeys(KINDS, 0)

    def later(self, seconds, call):
        self.waiting.append((time.monotonic() + seconds, call))

    def heal(self, everything=False):
        now = time.monotonic()
        due = [entry for entry in self.waiting if everything or entry[0] <= now]
        self.waiting = [entry for entry in self.waiting if entry not in due]
        for _, call in sorted(due, key=lambda entry: entry[0]):
            call()

    def fault(self, kind):
        self.counts[kind] += 1
        {"kill": self.kill, "zombie": self.zombie, "redis": self.kill_redis, "broker": self.kill_broker}[kind]()

    def pick(self):
        able = [d for d in self.daemons if d.running and d not in self.stopped]
        return self.rng.choice(able) if able else None

    def kill(self):
        daemon = self.pick()
        if daemon is None:
            return
        self.say(f"kill -9 of {daemon.folder.name}")
        daemon.kill()
        self.later(self.rng.uniform(0, 4), lambda: daemon.start(ready=False))

    def zombie(self):
        daemon = self.pick()
        if daemon is None:
            return
        seconds = self.rng.uniform(SESSION_MS / 1000 - 3, SESSION_MS / 1000 + 6)
        self.say(f"{daemon.folder.name} stands still for {seconds:.1f} s")
        daemon.signal(signal.SIGSTOP)
        self.stopped.add(daemon)

        def wake():
            daemon.signal(signal.SIGCONT)
            self.stopped.discard(daemon)
        self.later(seconds, wake)

    def redis_back(self, cut):
        self.redis.cut_tail(cut)
        self.redis.start(wait=False)

    def kill_redis(self):
        if not self.redis.running:
            return
        cut = int(self.rng.choice([0, 1, self.rng.uniform(0, 50_000), self.rng.uniform(0, 1_000_000)]))
        self.say(f"kill -9 of Redis; {cut} bytes at the end of its file are lost")
        self.redis.kill()
        self.later(self.rng.uniform(0, 3), lambda: self.redis_back(cut))

    def kill_broker(self):
        if not self.kafka.running:
            return
        self.say("kill -9 of the broker")
        self.kafka.kill()
        self.later(self.rng.uniform(0, 3), lambda: self.kafka.start(wait=False))


def finished(kafka, redis, name, topic="chaos.clicks"):
    """Everything is read, its outputs are committed, and the records contain it."""
    try:
        ends = kafka.ends(topic)
        committed = kafka.committed(f"{name}.group", topic)
        saved = {p: int(redis.client().get(f"{name}:{{{p}}}:at") or -1) for p in ends}
        return ends if committed == saved == ends else None
    except (KafkaException, client_library.RedisError):
        return None


def mask(record):
    record = bytearray(record)
    record[RECORD_SUM] = record[RECORD_TOUCHED] = bytes(8)
    return bytes(record)


def everything(kafka, redis, name, delivery):
    """What is there in the end, by kind; and how often an output is there more than once."""
    client = client_library.Redis(port=redis.port)
    found = {"records": {}, "hashes": {}, "scores": {}, "alerts": {}}
    for key in client.scan_iter(f"{name}:{{*}}:u:*".encode(), count=1000):
        found["records"][key[len(name):]] = mask(client.get(key))
    for key in client.scan_iter(f"{name}:user:*".encode(), count=1000):
        found["hashes"][key[len(name):]] = {k: v for k, v in client.hgetall(key).items() if k != b"written_ts"}
    repeated = 0
    for kind, identity in (("scores", lambda m: (m["partition"], m["offset"])), ("alerts", lambda m: m["alert_id"])):
        for message in kafka.read_json(f"{name}.{kind}"):
            at = identity(message)
            repeated += at in found[kind]
            before = found[kind].setdefault(at, message)
            assert before == message, f"two {kind} of {at} differ"
    assert delivery != "exactly_once" or repeated == 0, f"{repeated} outputs are there more than once"
    return found, repeated


def differences(found, wanted):
    """Texts, none when both are identical."""
    texts = []
    for kind in wanted:
        missing = [k for k in wanted[kind] if k not in found[kind]]
        extra = [k for k in found[kind] if k not in wanted[kind]]
        other = [k for k in wanted[kind] if k in found[kind] and found[kind][k] != wanted[kind][k]]
        for what, keys in (("missing", missing), ("too many", extra), ("different", other)):
            if keys:
                texts.append(f"{len(keys)} of {len(wanted[kind])} {kind} {what}, e.g. {sorted(keys)[:3]}")
                if what == "different":
                    texts.append(f"   found {found[kind][sorted(keys)[0]]}\n  wanted {wanted[kind][sorted(keys)[0]]}")
    return texts


def run(folder, events=60000, faults=8, seed=1, minutes=1.0, delivery="exactly_once", users=3000, say=print):
    """Raises AssertionError with the seed when something differs. Returns figures."""
    folder = pathlib.Path(folder)
    rng = random.Random(seed)
    say(f"seed {seed}: {events} events, {faults} faults, {delivery}")
    kafka, redis = servers.Kafka(folder / "kafka").start(), servers.Redis(folder / "redis").start()
    daemons = []
    try:
        model = shop.model(folder)
        for topic in ("chaos.clicks", "chaos.scores", "chaos.alerts", "chaos.dead", "calm.scores", "calm.alerts", "calm.dead"):
            kafka.create_topic(topic, PARTITIONS)
        daemons = [servers.Gaitd(folder / f"gaitd{i}", config(kafka, redis, "chaos", model, delivery)) for i in range(3)]
        for daemon in daemons:
            daemon.start(ready=False)
        seconds = minutes * 60
        feeder = Feeder(kafka, "chaos.clicks", shop.clicks(events, users, seed, "--fraud", "0.02"), events / seconds)
        begun = time.monotonic()

        def tell(text):
            say(f"{time.monotonic() - begun:6.1f} s, {feeder.fed:8d} events fed: {text}")

        feeder.start()
        chaos = Chaos(folder, kafka, redis, daemons, rng, tell)
        moments = sorted(rng.uniform(0.05, 1) * seconds for _ in range(faults))
        for moment in moments:
            while time.monotonic() < begun + moment:
                chaos.heal()
                time.sleep(0.02)
            chaos.fault(rng.choice(KINDS))
        feeder.join(seconds + 120)
        chaos.heal(everything=True)
        assert not feeder.is_alive() and not feeder.failed, feeder.failed
        tell("all is healed")
        servers.wait_until(lambda: finished(kafka, redis, "chaos"), 120, "everything read, committed and saved", daemons[0])
        tell("all is read, committed and saved")
        figures = {name: sum(d.metric(f"gait_{name}_total") for d in daemons)
                   for name in ("fenced", "transactions_aborted", "store_fell_back", "events_silent")}
        for daemon in daemons:
            assert daemon.terminate(10) == 0
        calm = servers.Gaitd(folder / "calm", config(kafka, redis, "calm", model, delivery))
        daemons.append(calm)
        calm.start()
        servers.wait_until(lambda: finished(kafka, redis, "calm"), 60 + events / 5000, "the undisturbed run", calm)
        assert calm.terminate(10) == 0
        found, repeated = everything(kafka, redis, "chaos", delivery)
        wanted, _ = everything(kafka, redis, "calm", delivery)
        texts = differences(found, wanted)
        assert not texts, f"seed {seed}:\n" + "\n".join(texts)
        figures.update({kind: len(wanted[kind]) for kind in wanted}, repeated=repeated, **chaos.counts)
        say(f"identical: {json.dumps(figures)}")
        return figures
    finally:
        for process in (*daemons, redis, kafka):
            process.kill()


def main():
    parser = argparse.ArgumentParser(description="Kill everything at random; nothing may show.")
    parser.add_argument("--events", type=int, default=60000)
    parser.add_argument("--faults", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the events are fed and faults happen")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--delivery", default="exactly_once", choices=["exactly_once", "at_least_once"])
    parser.add_argument("--keep", help="folder for logs and data; a temporary one otherwise")
    options = vars(parser.parse_args())
    keep = options.pop("keep")
    if options["seed"] is None:
        options["seed"] = random.SystemRandom().randrange(1, 1_000_000)
    with tempfile.TemporaryDirectory(prefix="gait-chaos.") as folder:
        try:
            run(keep or folder, **options, say=lambda text: print(text, flush=True))
        except AssertionError as error:
            sys.exit(f"FAILED, seed {options['seed']}: {error}")


if __name__ == "__main__":
    main()
