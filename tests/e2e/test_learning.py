# SPDX-License-Identifier: Apache-2.0
"""test_learning.py - `gaitd train` and `gaitd eval` from a topic, and what happens to them when the world intervenes."""
import json
import subprocess

import pytest

import servers
import shop

QUICK = ["--layers", "8", "--epochs", "2", "--seed", "3"]


def tool(*arguments, ok=True):
    done = subprocess.run([shop.GAITD, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout if ok else done.stderr


def write_config(folder, brokers, topic):
    path = folder / "gaitd.yaml"
    path.write_text(json.dumps({
        "source": {"kafka": {"brokers": brokers, "topic": topic, "group": f"{topic}.group"}}, "store": {"memory": {}},
        "sink": {"kafka": {"brokers": brokers}}}))
    return path


def test_a_topic_teaches_what_a_file_teaches(kafka, name, tmp_path):
    """One partition holds the events in the file's order: the same bytes of a model must come of both."""
    topic = f"{name}.clicks"
    kafka.create_topic(topic, 1)
    events = shop.clicks(3000)
    kafka.produce(topic, events)
    (tmp_path / "clicks.jsonl").write_bytes(b"".join(line + b"\n" for _, line in events))
    conf = write_config(tmp_path, kafka.brokers, topic)
    report = tool("train", "--from-kafka", "-c", conf, "--out", tmp_path / "topic.safetensors", *QUICK)
    tool("train", "--events", tmp_path / "clicks.jsonl", "-c", conf, "--out", tmp_path / "file.safetensors", *QUICK)
    assert "events      3000 of" in report
    shown = [tool("model", "show", tmp_path / f"{kind}.safetensors") for kind in ("topic", "file")]
    hashes = [text.split('"data_hash":"')[1][:16] for text in shown]
    assert hashes[0] == hashes[1]
    figures = [json.loads(tool("eval", "--model", tmp_path / "topic.safetensors", "-c", conf, "--no-intervals", "--json",
                               *source)) for source in (["--from-kafka"], ["--events", tmp_path / "clicks.jsonl"])]
    assert figures[0] == figures[1] and figures[0]["predictions"] > 1000
    # Nobody joined the group, nothing was committed.
    assert kafka.committed(f"{topic}.group", topic) == {}


def test_all_partitions_are_read_to_where_they_ended(kafka, name, tmp_path):
    topic = f"{name}.clicks"
    kafka.create_topic(topic, 4)
    kafka.produce(topic, shop.clicks(2000) + [(b"x", b"{broken"), (b"x", None)])
    report = tool("train", "--from-kafka", "-c", write_config(tmp_path, kafka.brokers, topic), "--out",
                  tmp_path / "m.safetensors", *QUICK)
    assert "events      2000 of" in report and "bad_json" in report and "empty" in report


@pytest.mark.parametrize("broken,because", [
    ("broker", "no Kafka broker answers"), ("topic", "topic nowhere"), ("empty", "the topic is empty"),
])
def test_what_is_not_there_is_said(kafka, name, tmp_path, broken, because):
    brokers = f"127.0.0.1:{servers.free_port()}" if broken == "broker" else kafka.brokers
    topic = "nowhere" if broken == "topic" else f"{name}.clicks"
    if broken == "empty":
        kafka.create_topic(topic, 2)
    conf = write_config(tmp_path, brokers, topic)
    said = tool("train", "--from-kafka", "-c", conf, "--out", tmp_path / "m.safetensors", *QUICK, ok=False)
    assert "--from-kafka" in said and because in said
    assert not (tmp_path / "m.safetensors").exists()


def test_wrong_command_lines(tmp_path):
    assert "needs --config" in tool("train", "--from-kafka", "--out", tmp_path / "m", ok=False)
    assert "exclude each other" in tool("train", "--from-kafka", "-c", "x", "--events", "y", "--out", "z", ok=False)
    assert "needs --config" in tool("eval", "--from-kafka", "--model", "m", ok=False)
