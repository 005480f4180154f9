# SPDX-License-Identifier: Apache-2.0
"""test_learning.py - `gaitd train` and `gaitd eval` from a topic, and what happens to them when the world intervenes."""
import json
import signal
import subprocess
from xml.etree import ElementTree

import pytest

import servers
import shop

T0 = 1764000000000
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


# ---- broken off, and resumed ----------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def history(tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "clicks.jsonl"
    subprocess.run([shop.GAITD, "gen", "--users", "300", "--events", "20000", "--seed", "5", "--out", path], check=True)
    return path


def train_command(history, *more):
    return [shop.GAITD, "train", "--events", str(history), "--out", "m.safetensors", "--layers", "16", "--epochs", "6",
            "--patience", "0", "--dropout", "0.3", "--ensemble", "2", "--seed", "9", *more]


def break_off(folder, command, how):
    """Ends the run as soon as it has made a checkpoint; False when it was faster than that."""
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = folder / "m.safetensors.checkpoint"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    servers.wait_until(lambda: child.poll() is not None or
                       (checkpoint.exists() and checkpoint.stat().st_mtime_ns != before), what="a checkpoint")
    child.send_signal(how)
    child.wait()
    return checkpoint.exists()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_resumed_training_makes_the_same_bytes(history, tmp_path, threads):
    undisturbed, disturbed = tmp_path / "a", tmp_path / "b"
    undisturbed.mkdir()
    disturbed.mkdir()
    command = train_command(history, "--threads", threads)
    subprocess.run(command, cwd=undisturbed, check=True, capture_output=True)
    assert break_off(disturbed, command, signal.SIGKILL)
    assert not (disturbed / "m.safetensors").exists()
    assert break_off(disturbed, [*command, "--resume"], signal.SIGINT)  # a second time, in good order
    done = subprocess.run([*command, "--resume"], cwd=disturbed, check=True, capture_output=True, text=True)
    assert "going on from the checkpoint" in done.stderr and "-0 s left" not in done.stderr
    assert (disturbed / "m.safetensors").read_bytes() == (undisturbed / "m.safetensors").read_bytes()
    assert sorted(p.name for p in disturbed.iterdir()) == ["m.md", "m.safetensors"]


def test_a_checkpoint_of_something_else_is_refused(history, tmp_path):
    command = train_command(history)
    assert break_off(tmp_path, command, signal.SIGKILL)
    other = subprocess.run([*command, "--resume", "--rate", "0.01"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert other.returncode == 1 and "--rate 0.001" in other.stderr and "now it is 0.01" in other.stderr
    checkpoint = tmp_path / "m.safetensors.checkpoint"
    damaged = bytearray(checkpoint.read_bytes())
    for broken in (damaged[:len(damaged) // 2], damaged[:-100] + bytes([damaged[-100] ^ 1]) + damaged[-99:], b"", b"something else entirely"):
        checkpoint.write_bytes(broken)
        done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and ("damaged" in done.stderr or "no checkpoint" in done.stderr)
    assert not (tmp_path / "m.safetensors").exists()


def test_where_the_model_goes_is_looked_at_first(history, tmp_path):
    for out, because in (("nowhere/m.safetensors", "No such file"), (str(tmp_path), "is a folder")):
        done = subprocess.run([shop.GAITD, "train", "--events", history, "--out", out], cwd=tmp_path, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 1 and "--out" in done.stderr and because in done.stderr
        assert "events" not in done.stdout
    assert list(tmp_path.iterdir()) == []


# ---- more signals from the same state -------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def fortnight(tmp_path_factory):
    """The shop of README's worked examples."""
    path = tmp_path_factory.mktemp("fortnight") / "shop.jsonl"
    subprocess.run([shop.GAITD, "gen", "--users", "400", "--events", "40000", "--days", "14", "--seed", "3", "--out", path],
                   check=True)
    return path


@pytest.mark.parametrize("name,option,time,least", [
    ("churn", "--churn", "2d", 0.53), ("returns", "--returns", "1d", 0.55), ("abandon", "--abandon", "1h", 0.52),
])
def test_a_worked_example_of_each_label(fortnight, tmp_path, name, option, time, least):
    """Labels from the events, a model from both, its figures; then the daemon says the label in every score."""
    labels, model = tmp_path / f"{name}.csv", tmp_path / "m.safetensors"
    tool("label", option, time, "--events", fortnight, "--out", labels)
    tool("train", "--target", f"category,label:{name}", "--labels", labels, "--events", fortnight, "--valid", "0.35",
         "--layers", "24", "--epochs", "8", "--no-refit", "--out", model)
    figures = json.loads(tool("model", "show", model).split("metrics")[1].strip().splitlines()[0])[name]
    assert figures["predictions"] > 500
    assert figures["roc_auc"] > least, figures
    assert figures["log_loss"] < figures["baselines"]["popularity"]["log_loss"] * 1.05
    again = json.loads(tool("eval", "--model", model, "--events", fortnight, "--target", f"label:{name}", "--labels", labels,
                            "--no-intervals", "--json"))
    assert again["predictions"] > figures["predictions"]
    (tmp_path / "gaitd.yaml").write_text(json.dumps({
        "source": {"file": {"paths": str(fortnight)}}, "store": {"memory": {}}, "model": {"lstm": {"path": str(model)}},
        "score": {"interest": {}}, "sink": {"file": {"scores": str(tmp_path / "scores.jsonl")}}}))
    tool("run", "-c", tmp_path / "gaitd.yaml")
    said = [json.loads(line)["labels"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert len(said) > 10000 and all(list(s) == [name] and 0 <= s[name] <= 1 for s in said)
    assert len({s[name] for s in said}) > 1000


def test_wrong_labels_are_named(fortnight, tmp_path):
    assert "--churn, --returns or --abandon" in tool("label", "--events", fortnight, ok=False)
    assert "one of" in tool("label", "--churn", "1d", "--abandon", "1h", "--events", fortnight, ok=False)
    assert "--churn" in tool("label", "--churn", "5 parsecs", "--events", fortnight, ok=False)
    assert "no name" in tool("label", "--churn", "1d", "--name", "a,b", "--events", fortnight, ok=False)
    assert "shop.jsonl" in tool("train", "--target", "label:churn", "--labels", fortnight, "--events", fortnight, "--out",
                                tmp_path / "m", ok=False)


# ---- the report -----------------------------------------------------------------------------------------------------

def test_a_report_for_people(tmp_path):
    """Hostile names in events: the page stays well-formed, loads nothing, and says what the JSON says."""
    names = ["<script>alert(1)</script>", "a&b", "\"quoted'", "plain"]
    lines = [{"type": "product_view", "user_id": f"u{i % 40}", "ts": T0 + 60000 * i, "category": names[(i * 7 + i // 40) % 4],
              "country": names[i % 3]} for i in range(2000)]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tool("train", "--events", tmp_path / "e.jsonl", "--target", "category", "--out", tmp_path / "m.safetensors", *QUICK)
    figures = json.loads(tool("eval", "--model", tmp_path / "m.safetensors", "--events", tmp_path / "e.jsonl", "--by", "country",
                              "--html", tmp_path / "r.html", "--json"))
    text = (tmp_path / "r.html").read_text()
    page = ElementTree.fromstring(text)
    cells = ["".join(cell.itertext()) for cell in page.iter("td")]
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")
    for group in figures["slices"]["groups"]:
        assert group["name"] in cells and f"{group['recall@20']:.4f}" in cells
    assert f"{figures['recall@1']:.4f}" in cells and figures["model"] in text
    assert [svg.get("aria-label") for svg in page.iter("svg")] == ["Learning: loss over epoch"]
