# SPDX-License-Identifier: Apache-2.0
"""test_redis_faults.py - every fault of a Redis that a data centre knows, in the middle of the stream. Afterwards records,
serving hashes, scores and alerts must be those of an undisturbed run, and a metric must tell of the fault."""
import types

import pytest

import chaos
import servers
import shop

EVENTS = 6000


class Stream:
    """A daemon that has read a third of the clicks, whose Redis lies behind a forwarder."""

    def __init__(self, kafka, redis, gaitd, model, name):
        self.kafka, self.redis, self.make, self.model, self.name = kafka, redis, gaitd, model, name
        self.forwarder = servers.Forwarder(redis.port)
        self.events = shop.clicks(EVENTS, 200, 3, "--fraud", "0.02")
        self.topic = f"{name}.clicks"
        kafka.create_topic(self.topic, 3)
        self.daemon = gaitd(self.config(name, self.forwarder.port)).start()
        self.fed = 0
        self.feed(EVENTS // 3)
        servers.wait_until(lambda: chaos.finished(kafka, redis, name, self.topic), 30, "the first third saved", self.daemon)

    def config(self, name, port):
        return chaos.config(self.kafka, types.SimpleNamespace(port=port), name, self.model, "at_least_once", self.topic)

    def feed(self, n):
        self.kafka.produce(self.topic, self.events[self.fed:self.fed + n])
        self.fed += n

    def metric(self, name, **labels):
        return self.daemon.metric(name, **labels)

    def wait(self, condition, what):
        servers.wait_until(condition, 30, what, self.daemon)

    def check(self):
        """Everything else is read; then all is as in a run without a fault."""
        self.feed(EVENTS - self.fed)
        servers.wait_until(lambda: chaos.finished(self.kafka, self.redis, self.name, self.topic), 60, "all is saved", self.daemon)
        assert self.daemon.terminate(10) == 0
        calm = self.make(self.config(f"{self.name}calm", self.redis.port)).start()
        servers.wait_until(lambda: chaos.finished(self.kafka, self.redis, f"{self.name}calm", self.topic), 60, "the calm run", calm)
        assert calm.terminate(10) == 0
        found, _ = chaos.everything(self.kafka, self.redis, self.name, "at_least_once")
        wanted, _ = chaos.everything(self.kafka, self.redis, f"{self.name}calm", "at_least_once")
        assert len(wanted["scores"]) == EVENTS
        texts = chaos.differences(found, wanted)
        assert not texts, "\n".join(texts)


@pytest.fixture
def stream(kafka, own_redis, gaitd, model, name):
    made = Stream(kafka, own_redis.start(), gaitd, model, name)
    yield made
    made.forwarder.end()


def test_killed_and_the_end_of_its_file_lost(stream):
    stream.redis.kill()
    stream.redis.cut_tail(300_000)
    stream.feed(500)
    stream.wait(lambda: stream.metric("gait_ready") == 0, "not ready without Redis")
    stream.redis.start()
    stream.wait(lambda: stream.metric("gait_store_fell_back_total") >= 1, "the loss is seen")
    stream.check()


def test_fail_over_to_a_replica_that_lags(stream, tmp_path):
    replica = servers.Redis(tmp_path / "replica").start()
    try:
        replica.client().replicaof("127.0.0.1", stream.redis.port)
        stream.wait(lambda: replica.client().info("replication")["master_link_status"] == "up", "the replica follows")
        replica.client().replicaof("NO", "ONE")  # from here on it lags
        stream.feed(2000)
        stream.wait(lambda: chaos.finished(stream.kafka, stream.redis, stream.name, stream.topic), "saved in the old one")
        replica.client().replicaof("127.0.0.1", servers.free_port())  # a replica that has lost its master: read-only
        stream.redis.kill()
        stream.forwarder.lead_to(replica.port)
        stream.wait(lambda: "READONLY" in stream.daemon.log_text(), "refused by the replica")
        stream.wait(lambda: stream.metric("gait_redis_errors_total", kind="later") >= 1, "counted")
        replica.client().replicaof("NO", "ONE")  # promoted
        stream.wait(lambda: stream.metric("gait_store_fell_back_total") >= 1, "the loss is seen")
        stream.redis.port, stream.redis.client = replica.port, replica.client
        stream.check()
    finally:
        replica.kill()


def test_flushall(stream):
    stream.redis.client().flushall()
    stream.feed(500)
    stream.wait(lambda: stream.metric("gait_state_lost_total") >= 1, "the loss is seen")
    stream.check()
    assert stream.metric("gait_store_fell_back_total") >= 1
    assert stream.metric("gait_events_silent_total") >= EVENTS // 3


def test_out_of_memory(stream):
    client = stream.redis.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    stream.feed(500)
    stream.wait(lambda: stream.metric("gait_redis_errors_total", kind="later") >= 1, "refused")
    assert "OOM" in stream.daemon.log_text()
    client.config_set("maxmemory", "0")
    stream.check()
    assert stream.metric("gait_store_fell_back_total") == 0


def test_slow_for_three_seconds(stream):
    stream.redis.client().execute_command("CLIENT", "PAUSE", "3000", "ALL")
    stream.feed(2000)
    stream.check()
    assert stream.metric("gait_store_fell_back_total") == 0


@pytest.mark.parametrize("after", [1, 5_000, 70_000])
def test_connection_cut_in_the_middle_of_a_call(stream, after):
    stream.forwarder.cut_after = after
    stream.feed(2000)
    stream.wait(lambda: stream.forwarder.cuts == 1, "the cut")
    stream.wait(lambda: stream.metric("gait_redis_connections_total", instance="store.redis") >= 2, "a new connection")
    stream.check()
    assert stream.metric("gait_store_fell_back_total") == 0


@pytest.mark.parametrize("answer, kind", [(b"-LOADING Redis is loading the dataset in memory\r\n", "later"),
                                          (b"-MASTERDOWN Link with MASTER is down\r\n", "later"),
                                          (b"-MOVED 3999 127.0.0.1:6381\r\n", "refused"),
                                          (b"-NOAUTH Authentication required.\r\n", "refused")])
def test_error_answers(stream, answer, kind):
    before = stream.metric("gait_redis_errors_total", kind=kind)
    stream.forwarder.answer = answer
    stream.forwarder.cut()
    stream.feed(500)
    stream.wait(lambda: stream.metric("gait_redis_errors_total", kind=kind) > before, "counted")
    stream.wait(lambda: stream.metric("gait_ready") == 0, "not ready")
    assert answer[1:8].decode() in stream.daemon.log_text()
    stream.forwarder.answer = None
    stream.check()
    assert stream.metric("gait_store_fell_back_total") == 0


def test_topic_that_grew_between_two_runs_is_refused(stream):
    """Users would be looked for in other partitions than those that their records are in."""
    assert stream.daemon.terminate(10) == 0
    from confluent_kafka.admin import NewPartitions
    stream.kafka.admin("create_partitions", [NewPartitions(stream.topic, 5)])
    stream.daemon.start(ready=False)
    stream.wait(lambda: "has 5 partitions, but the records in Redis" in stream.daemon.log_text(), "a line that says so")
    assert stream.metric("gait_ready") == 0
    assert stream.metric("gait_events_total") == 0
    assert stream.daemon.terminate(10) == 0
