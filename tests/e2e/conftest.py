# SPDX-License-Identifier: Apache-2.0
"""conftest.py - fixtures: one broker and one Redis for the whole run, and makers of ones that a test may break."""
import itertools
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import servers  # noqa: E402

numbers = itertools.count(1)


def pytest_collection_modifyitems(items):
    missing = []
    if not any(servers.LIBS.glob("kafka_2.13-*.jar")):
        missing.append("Kafka (make kafka-dist)")
    if not shutil.which("java"):
        missing.append("java")
    if not shutil.which("redis-server"):
        missing.append("redis-server")
    if missing:
        raise pytest.UsageError("not there: " + ", ".join(missing))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    server = servers.Kafka(tmp_path_factory.mktemp("kafka")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    server = servers.Redis(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    import shop
    return shop.model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def own_kafka(tmp_path):
    """A broker of the test's own, not started yet."""
    server = servers.Kafka(tmp_path / "kafka")
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path):
    server = servers.Redis(tmp_path / "redis")
    yield server
    server.kill()


@pytest.fixture
def name():
    """A name that no other test uses: topics, group, key prefix."""
    return f"t{next(numbers)}"


@pytest.fixture
def gaitd(tmp_path):
    """Makes daemons: gaitd(config); all are ended with the test."""
    made = []

    def make(config):
        made.append(servers.Gaitd(tmp_path / f"gaitd{len(made)}", config))
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill()
