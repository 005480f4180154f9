# SPDX-License-Identifier: Apache-2.0
"""servers.py - a real Apache Kafka, a real redis-server and gaitd itself, each as one process that a test starts, breaks
and stops by its own pid.

Servers listen on free loopback ports and keep their data in a folder of the test. `python3 tests/e2e/servers.py FOLDER`
starts a broker and a Redis, prints their addresses and keeps them until it is interrupted.
"""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewTopic,
                                   ResourcePatternType, ResourceType)

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GAIT_BUILD", ROOT / "build"))
LIBS = pathlib.Path(os.environ.get("GAIT_KAFKA", ROOT / "build" / "kafka")) / "libs"


# What a broker answers that is there but not ready; the library does not call all of them retriable.
NOT_READY = ("NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS", "LEADER_NOT_AVAILABLE",
             "NOT_LEADER_FOR_PARTITION", "UNSTABLE_OFFSET_COMMIT", "_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, seconds=30, what="condition", alive=None):
    """The condition's first true value. `alive` is a Process that must not die meanwhile."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if alive is not None and alive.process.poll() is not None:
            raise AssertionError(f"{alive.name} ended with {alive.process.returncode}:\n{alive.log_tail()}")
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}\n{alive.log_tail() if alive else ''}")
        time.sleep(0.02)


class Process:
    """One child process with its output in a file."""

    name = "process"

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{self.name}.log"
        self.process = None

    def spawn(self, command, **more):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, **more)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self, lines=30):
        return "\n".join(self.log_text().splitlines()[-lines:])

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        if self.running:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def terminate(self, seconds=30):
        """SIGTERM; the exit code. Kills what does not end in time, and says so."""
        if not self.running:
            return self.process.returncode if self.process else None
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} has not ended within {seconds} s of SIGTERM:\n{self.log_tail()}") from None


class Kafka(Process):
    """One broker that is its own controller. It keeps its ports and its data when it is started again."""

    name = "kafka"

    def __init__(self, folder, **settings):
        super().__init__(folder)
        self.port, self.controller_port = free_port(), free_port()
        self.brokers = f"127.0.0.1:{self.port}"
        self.config = self.folder / "server.properties"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "num.partitions": 4,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "log.retention.check.interval.ms": 1000,
            "controlled.shutdown.enable": "false",
        }
        values.update({name.replace("_", "."): value for name, value in settings.items()})
        values = self.finish_config(values)
        self.config.write_text("".join(f"{k}={v}\n" for k, v in values.items()))
        self.java("kafka.tools.StorageTool", "format", "-t", self.java("kafka.tools.StorageTool", "random-uuid"), "-c",
                  str(self.config))

    def finish_config(self, values):
        return values

    @staticmethod
    def command(main, *arguments):
        quiet = ["-Dlog4j.rootLogger=WARN,stdout", f"-Dlog4j.configuration=file:{ROOT}/tests/e2e/log4j.properties"]
        return ["java", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1" if main != "kafka.Kafka" else "-Xshare:auto",
                *quiet, "-cp", f"{LIBS}/*", main, *arguments]

    def java(self, main, *arguments):
        done = subprocess.run(self.command(main, *arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{main}: {done.stdout}{done.stderr}")
        return done.stdout.strip().splitlines()[-1]

    def start(self, wait=True):
        self.spawn(self.command("kafka.Kafka", str(self.config)))
        if wait:
            wait_until(self.answers, 60, "Kafka answers", self)
        return self

    def answers(self):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            return bool(AdminClient({"bootstrap.servers": self.brokers, "log_level": 0}).list_topics(timeout=5).brokers)
        except KafkaException:
            return False

    def admin(self, call, *arguments):
        """An administrative call, e.g. admin("create_topics", [...]), and its answers."""
        client = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        return [future.result() for future in getattr(client, call)(*arguments).values()]

    def create_topic(self, name, partitions=4, **settings):
        config = {k.replace("_", "."): str(v) for k, v in settings.items()}
        self.admin("create_topics", [NewTopic(name, partitions, 1, config=config)])

    def produce(self, topic, messages):
        """Messages are (key, value) or (key, value, partition); the partitioner is the one that Java has."""
        producer = Producer({"bootstrap.servers": self.brokers, "linger.ms": 5, "partitioner": "murmur2_random",
                             "queue.buffering.max.messages": 2000000})
        failed = []
        for key, value, *where in messages:
            producer.produce(topic, value, key, *where,
                             on_delivery=lambda error, message: failed.append(error) if error else None)
            producer.poll(0)
        assert producer.flush(60) == 0 and not failed, failed[:3]

    def ask(self, group, question):
        """question(consumer), asked again while the broker is not ready to answer: just started, it has no coordinator yet."""
        def answer():
            consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": group})
            try:
                return (question(consumer),)
            except KafkaException as refusal:
                if not refusal.args[0].retriable() and refusal.args[0].name() not in NOT_READY:
                    raise
                return None
            finally:
                consumer.close()
        return wait_until(answer, 30, f"an answer of the broker about {group}", self)[0]

    def ends(self, topic):
        """{partition: end offset}"""
        def question(consumer):
            found = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in found}
        return self.ask("ends", question)

    def committed(self, group, topic):
        """{partition: committed offset}, without those that have none."""
        def question(consumer):
            parts = [TopicPartition(topic, p) for p in consumer.list_topics(topic, timeout=10).topics[topic].partitions]
            return {p.partition: p.offset for p in consumer.committed(parts, timeout=10) if p.offset >= 0}
        return self.ask(group, question)

    def read(self, topic, isolation="read_committed"):
        """All messages that are in the topic now."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": "reader", "enable.auto.commit": False,
                             "enable.partition.eof": True, "isolation.level": isolation})
        messages, left = [], set()
        try:
            metadata = consumer.list_topics(topic, timeout=10).topics.get(topic)
            if metadata is None or metadata.error is not None:
                return []
            left = set(metadata.partitions)
            consumer.assign([TopicPartition(topic, p, 0) for p in left])
            while left:
                for message in consumer.consume(1000, timeout=1):
                    if message.error() is None:
                        messages.append(message)
                    elif message.error().name() == "_PARTITION_EOF":
                        left.discard(message.partition())
                    else:
                        raise KafkaException(message.error())
            return messages
        finally:
            consumer.close()

    def read_json(self, topic, **more):
        return [json.loads(m.value()) for m in self.read(topic, **more)]


class SecureKafka(Kafka):
    """A broker with a second listener that wants TLS and a password; its certificate is from a CA of the test's own."""

    user, password = "gaitd", "it's a \"secret\" #1"

    def __init__(self, folder, **settings):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.secure_port = free_port()
        self.secure_brokers = f"127.0.0.1:{self.secure_port}"
        self.ca = folder / "ca.pem"
        self.make_certificates(folder)
        super().__init__(folder, **settings)

    @staticmethod
    def make_certificates(folder):
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key",
                "-out", "ca.pem")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", "broker.key", "-out", "broker.csr")
        openssl("x509", "-req", "-days", "2", "-in", "broker.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-extfile", "san", "-out", "broker.crt")
        (folder / "broker.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.crt").read_text())

    def finish_config(self, values):
        """Called with the settings before the folder is formatted."""
        quoted = self.password.replace("\\", "\\\\").replace('"', '\\"')
        jaas = f'required username="{self.user}" password="{quoted}"'
        module = "org.apache.kafka.common.security"
        values["listeners"] += f",SASL_SSL://127.0.0.1:{self.secure_port}"
        values["listener.security.protocol.map"] += ",SASL_SSL:SASL_SSL"
        values.update({
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "listener.name.sasl_ssl.plain.sasl.jaas.config":
                f'{module}.plain.PlainLoginModule required user_{self.user}="{quoted}";',
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule {jaas};",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.folder / "broker.pem",
        })
        # A properties file has escapes of its own.
        return {name: str(value).replace("\\", "\\\\") for name, value in values.items()}

    def start(self, wait=True):
        super().start(wait)
        from confluent_kafka.admin import (ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)
        client = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        wanted = UserScramCredentialUpsertion(self.user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096),
                                              self.password.encode())
        for future in client.alter_user_scram_credentials([wanted]).values():
            future.result()
        return self


class StrictKafka(SecureKafka):
    """A broker that lets the user of its secure listener do only what was allowed; the plain listener is the operator's."""

    def __init__(self, folder):
        super().__init__(folder, authorizer_class_name="org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                         super_users="User:ANONYMOUS", allow_everyone_if_no_acl_found="false")

    def allow(self, kind, name, *operations, prefix=False):
        """kind and operations as AclOperation and ResourceType name them: allow("TOPIC", "clicks", "READ")."""
        pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
        self.admin("create_acls", [AclBinding(ResourceType[kind], name, pattern, f"User:{self.user}", "*", AclOperation[operation],
                                              AclPermissionType.ALLOW) for operation in operations])

    def disallow(self, kind, name, operation):
        self.admin("delete_acls", [AclBindingFilter(ResourceType[kind], name, ResourcePatternType.LITERAL, f"User:{self.user}", "*",
                                                    AclOperation[operation], AclPermissionType.ALLOW)])


class Redis(Process):
    """A redis-server; with `append` it keeps an append-only file that it reads again when it is started again."""

    name = "redis"

    def __init__(self, folder, append=True):
        super().__init__(folder)
        self.port = free_port()
        self.append = append

    def start(self, wait=True):
        self.spawn(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
                    "yes" if self.append else "no", "--dir", str(self.folder)])
        if wait:
            wait_until(self.answers, 20, "Redis answers", self)
        return self

    def cut_tail(self, n):
        """While it is down: its append-only file loses its last n bytes, as after a power failure."""
        file = max((self.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        os.truncate(file, max(0, file.stat().st_size - n))

    def client(self):
        import redis
        return redis.Redis(port=self.port, decode_responses=True)

    def answers(self):
        import redis
        try:
            return self.client().ping()
        except redis.exceptions.RedisError:
            return False


class Forwarder:
    """A TCP port that leads to another one: it can be led elsewhere, cut in the middle of what flows, or answer itself."""

    def __init__(self, target):
        self.target, self.answer, self.cut_after, self.cuts = target, None, None, 0
        self.pairs = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            if self.answer is not None:
                client.recv(65536)
                client.sendall(self.answer)
                client.recv(65536)
                client.close()
                return
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        pair = (client, server)
        self.pairs.add(pair)
        threading.Thread(target=self.copy, args=(server, client, pair), daemon=True).start()
        self.copy(client, server, pair, True)

    def copy(self, source, sink, pair, counts=False):
        """Bytes towards the target count: after cut_after of them everything is cut, whatever was meant to follow."""
        try:
            while data := source.recv(4096):
                if counts and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        self.cuts += 1
                        sink.sendall(data[:len(data) // 2])
                        self.cut()
                        return
                sink.sendall(data)
        except OSError:
            pass
        self.close(pair)

    def close(self, pair):
        self.pairs.discard(pair)
        for end in pair:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def cut(self):
        for pair in list(self.pairs):
            self.close(pair)

    def lead_to(self, target):
        self.target = target
        self.cut()

    def end(self):
        self.listener.close()
        self.cut()


class Gaitd(Process):
    """The daemon under test. Its configuration is a dictionary (JSON is YAML)."""

    name = "gaitd"

    def __init__(self, folder, config):
        super().__init__(folder)
        self.metrics_file = self.folder / "metrics.prom"
        config.setdefault("metrics", {}).update({"file": str(self.metrics_file), "file_ms": "100ms"})
        config.setdefault("log", {}).setdefault("level", "info")
        self.config = self.folder / "gaitd.yaml"
        self.config.write_text(json.dumps(config, indent=1))

    def start(self, ready=True, seconds=30):
        self.metrics_file.unlink(missing_ok=True)
        self.spawn([os.environ.get("GAITD", str(BUILD / "gaitd")), "run", "-c", str(self.config)])
        if ready:
            self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=30):
        wait_until(lambda: self.metric("gait_ready") == 1, seconds, "gaitd is ready", self)

    def metric(self, name, **labels):
        """Sum of the samples of that name whose labels include the given ones."""
        total = 0.0
        try:
            text = self.metrics_file.read_text()
        except FileNotFoundError:
            return 0.0
        for line in text.splitlines():
            match = re.match(r"^(\w+)(?:\{(.*)\})? (\S+)$", line)
            if match and match[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if all(found.get(k) == v for k, v in labels.items()):
                    total += float(match[3])
        return total

    def wait_events(self, n, seconds=60, **labels):
        wait_until(lambda: self.metric("gait_events_total", **labels) >= n, seconds, f"{n} events", self)

    def wait_committed(self, kafka, group, topic, seconds=30):
        wait_until(lambda: kafka.committed(group, topic) == {p: e for p, e in kafka.ends(topic).items() if e > 0}, seconds,
                   "all offsets committed", self)


def main():
    if len(sys.argv) != 2:
        sys.exit("Usage: servers.py FOLDER")
    folder = pathlib.Path(sys.argv[1])
    kafka, redis = Kafka(folder / "kafka").start(), Redis(folder / "redis").start()
    print(f"brokers={kafka.brokers}\nredis=127.0.0.1:{redis.port}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        kafka.kill()
        redis.kill()


if __name__ == "__main__":
    main()
