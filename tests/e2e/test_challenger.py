# SPDX-License-Identifier: Apache-2.0
"""test_challenger.py - a challenger in shadow of a running daemon: a better one takes the model's place and can be taken
back, a worse one never does, and until then nothing shows of it."""
import json
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

import servers
from test_explain import MODEL
from test_model import GAITD
from test_model_install import model, model_id, scores

EVENTS, SHADOWED = 12000, 6000


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    """Of the shop that the good model knows."""
    file = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    subprocess.run([GAITD, "gen", "--users", "300", "--events", str(EVENTS), "--seed", "5", "--out", str(file)], check=True,
                   timeout=60)
    return file.read_text().splitlines(keepends=True)


@pytest.fixture(scope="module")
def poor(tmp_path_factory, clicks):
    """A model that has hardly learned anything."""
    folder = tmp_path_factory.mktemp("poor")
    (folder / "train.jsonl").write_text("".join(clicks[:1500]))
    subprocess.run([GAITD, "train", "--events", str(folder / "train.jsonl"), "--target", "category,intent", "--layers", "24",
                    "--epochs", "1", "--seed", "3", "--out", str(folder / "poor.safetensors")], check=True, timeout=120,
                   capture_output=True)
    return folder / "poor.safetensors"


def configuration(folder, events, **challenger):
    port = servers.free_port()
    return {"source": {"file": {"paths": str(events), "follow": True}}, "store": {"memory": {}},
            "engine": {"batch_events": 64},
            "model": {"lstm": {"path": str(folder / "model.safetensors")}, "challenger": challenger},
            "sink": {"file": {"scores": str(folder / "scores.jsonl")}},
            "admin": {"listen": f"127.0.0.1:{port}", "audit_file": str(folder / "audit.jsonl")}}


def challenger_of(settings):
    with urllib.request.urlopen(f"http://{settings['admin']['listen']}/api/models", timeout=10) as answer:
        return json.load(answer)["challenger"]


def append(file, lines):
    with file.open("a") as out:
        out.write("".join(lines))


@pytest.fixture(scope="module")
def good(tmp_path_factory, clicks):
    """One that has learned, no larger than the poor one: records have room for it."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "train.jsonl").write_text("".join(clicks[:3000]))
    subprocess.run([GAITD, "train", "--events", str(folder / "train.jsonl"), "--target", "category,intent", "--layers", "24",
                    "--epochs", "25", "--rate", "0.005", "--seed", "4", "--out", str(folder / "good.safetensors")], check=True,
                   timeout=120, capture_output=True)
    return folder / "good.safetensors"


def test_a_better_one_is_promoted_under_traffic_and_can_be_taken_back(tmp_path, clicks, good, poor, gaitd):
    shutil.copy(poor, tmp_path / "model.safetensors")
    grown, file = tmp_path / "grown.jsonl", tmp_path / "challenger.safetensors"
    grown.write_text("")
    settings = configuration(tmp_path, grown, file=str(file), promote="auto")
    daemon = gaitd(settings).start()
    assert challenger_of(settings)["state"] == "waiting"
    assert model("challenge", good, "-c", daemon.config).returncode == 0
    servers.wait_until(lambda: challenger_of(settings)["id"] == model_id(good), 20, "the challenger", daemon)
    for at in range(0, SHADOWED, 500):  # in steps, so that ticks come between them
        append(grown, clicks[at:at + 500])
        daemon.wait_events(at + 500)
        time.sleep(0.15)  # a tick: it may be promoted after any of them
    servers.wait_until(lambda: challenger_of(settings)["promotions"] == 1, 20, "the promotion", daemon)
    assert (model_id(tmp_path / "model.safetensors"), model_id(tmp_path / "model.safetensors.previous")) == (
        model_id(good), model_id(poor))
    assert not file.exists() and (tmp_path / "challenger.safetensors.promoted").exists()
    append(grown, clicks[SHADOWED:SHADOWED + 2000])
    daemon.wait_events(SHADOWED + 2000)
    said = [s["model"] for s in scores(tmp_path)]
    before = said.count(model_id(poor))
    assert 500 < before < len(said) and said[before:] == [model_id(good)] * (len(said) - before)  # at one moment
    servers.wait_until(lambda: "promote" in (tmp_path / "audit.jsonl").read_text(), 10, "the audit line", daemon)
    line = json.loads((tmp_path / "audit.jsonl").read_text())
    assert (line["who"], line["what"], line["ok"]) == ("model.challenger", "promote", True)
    assert line["about"] == f"{model_id(good)} in the place of {model_id(poor)}"

    assert model("rollback", "-c", daemon.config).returncode == 0
    servers.wait_until(lambda: daemon.metric("gait_model_loads_total", result="loaded") == 2, 20, "the rollback", daemon)
    append(grown, clicks[SHADOWED + 2000:])
    daemon.wait_events(EVENTS)
    time.sleep(1.5)  # it looks for a file each second: the one that was taken back is none
    assert challenger_of(settings)["state"] == "waiting" and challenger_of(settings)["promotions"] == 1
    assert scores(tmp_path)[-1]["model"] == model_id(poor)


def test_a_worse_one_stays_in_shadow_and_nothing_shows_of_it(tmp_path, clicks, good, poor, gaitd):
    said = []
    for name in ("without", "with"):
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(good, folder / "model.safetensors")
        grown, file = folder / "grown.jsonl", folder / "challenger.safetensors"
        grown.write_text("".join(clicks))
        if name == "with":
            shutil.copy(poor, file)
        settings = configuration(folder, grown, file=str(file), promote="auto", share=0.7)
        daemon = gaitd(settings).start()
        daemon.wait_events(EVENTS)
        state = challenger_of(settings)
        daemon.terminate(20)
        said.append([(s["user"], s["offset"], s["model"], s["intent"], s["interests"], s.get("surprise"))
                     for s in scores(folder)])
    assert said[0] == said[1]
    assert state["state"] == "comparing" and state["promotions"] == 0 and state["test"]["advantage"] < 0
    assert EVENTS / 2 < state["test"]["events"] < EVENTS * 0.85  # of seven in ten users
    assert state["figures"]["log_loss"] > state["serving_figures"]["log_loss"]
    assert state["figures"]["recall"]["5"] < state["serving_figures"]["recall"]["5"]
    assert model_id(folder / "model.safetensors") == model_id(good) and file.exists()


def test_a_reload_brings_changes_and_takes_away(tmp_path, clicks, good, poor, gaitd):
    shutil.copy(poor, tmp_path / "model.safetensors")
    shutil.copy(good, tmp_path / "challenger.safetensors")
    grown = tmp_path / "grown.jsonl"
    grown.write_text("".join(clicks[:1000]))
    settings = configuration(tmp_path, grown)
    del settings["model"]["challenger"]
    daemon = gaitd(settings).start()
    daemon.wait_events(1000)
    assert challenger_of(settings) is None

    def reload(outcome, **challenger):
        settings["model"]["challenger"] = challenger
        daemon.config.write_text(json.dumps(settings))
        before = daemon.metric("gait_config_reloads_total", result=outcome)
        daemon.signal(signal.SIGHUP)
        servers.wait_until(lambda: daemon.metric("gait_config_reloads_total", result=outcome) == before + 1, 10, outcome, daemon)

    reload("ok", file=str(tmp_path / "challenger.safetensors"))
    append(grown, clicks[1000:2000])
    daemon.wait_events(2000)
    assert challenger_of(settings)["state"] in ("comparing", "better")
    assert daemon.metric("gait_challenger_rebuilt_users_total") > 0
    (tmp_path / "broken").write_text("no model")
    reload("refused", file=str(tmp_path / "broken"))
    assert challenger_of(settings)["path"] == str(tmp_path / "challenger.safetensors")
    reload("ok")
    assert challenger_of(settings) is None


def test_challenge_checks_first(tmp_path, clicks, good, poor):
    shutil.copy(poor, tmp_path / "model.safetensors")
    (tmp_path / "clicks.jsonl").write_text("".join(clicks[:10]))
    config, file = tmp_path / "gaitd.yaml", tmp_path / "challenger.safetensors"
    config.write_text(json.dumps(configuration(tmp_path, tmp_path / "clicks.jsonl")))
    without = model("challenge", good, "-c", config)
    assert without.returncode == 1 and "model.challenger.file" in without.stderr
    config.write_text(json.dumps(configuration(tmp_path, tmp_path / "clicks.jsonl", file=str(file))))
    (tmp_path / "broken").write_bytes(good.read_bytes()[:5000])
    assert model("challenge", tmp_path / "broken", "-c", config).returncode == 1 and not file.exists()
    same = model("challenge", poor, "-c", config)
    assert same.returncode == 0 and "nothing to compare" in same.stdout and not file.exists()
    assert model("challenge", good, "-c", config).returncode == 0 and model_id(file) == model_id(good)
    larger = model("challenge", MODEL, "-c", config)
    assert larger.returncode == 0 and "restart" in larger.stdout and model_id(file) == model_id(MODEL)


def test_retrain_makes_one_like_the_model_in_place(tmp_path, clicks, poor):
    shutil.copy(poor, tmp_path / "model.safetensors")
    (tmp_path / "clicks.jsonl").write_text("".join(clicks[:4000]))
    config, file = tmp_path / "gaitd.yaml", tmp_path / "challenger.safetensors"
    config.write_text(json.dumps(configuration(tmp_path, tmp_path / "clicks.jsonl", file=str(file))))

    def retrain(*options):
        return subprocess.run([GAITD, "retrain", "-c", str(config), "--events", str(tmp_path / "clicks.jsonl"), *options],
                              capture_output=True, text=True, timeout=120)

    done = retrain("--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "For comparison, model " + model_id(poor) in done.stdout and model_id(file) in done.stdout
    before, after = (model("show", path).stdout.splitlines() for path in (poor, file))
    shape = [[line for line in lines if line.strip().startswith(("layer", "head", "embedding", "feature"))] for lines in (before, after)]
    assert shape[0] and len(shape[0]) == len(shape[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["challenger.safetensors", "challenger.safetensors.md", "clicks.jsonl",
                                                           "gaitd.yaml", "model.safetensors"]
    day = time.strftime("%Y-%m-%d", time.gmtime(json.loads(clicks[0])["ts"] / 1000))
    kept = file.read_bytes()
    nothing = retrain("--exclude-days", day)  # nothing is left to learn from: what was there stays
    assert nothing.returncode == 1 and file.read_bytes() == kept
    config.write_text(json.dumps(configuration(tmp_path, tmp_path / "clicks.jsonl")))
    assert retrain().returncode == 1 and "model.challenger.file" in retrain().stderr


def test_drift_is_told_when_the_shop_becomes_another_one(tmp_path, clicks, good, gaitd):
    shutil.copy(good, tmp_path / "model.safetensors")
    grown = tmp_path / "grown.jsonl"
    grown.write_text("".join(clicks))
    settings = configuration(tmp_path, grown)
    settings["score"] = {"interest": {}, "drift": {"every": 1}}
    daemon = gaitd(settings).start()
    servers.wait_until(lambda: daemon.metric("gait_drift_psi", feature="score.top1") > 0, 30, "the first figures", daemon)
    assert daemon.metric("gait_drift_psi", feature="event.price") < 0.1
    assert daemon.metric("gait_drift_psi", feature="count.all.5m") < 0.25

    def dear(line):
        event = json.loads(line)
        if "price" in event:
            event["price"] = event["price"] * 100
        return json.dumps({**event, "event_id": event["event_id"] + "-dear", "ts": event["ts"] + 3 * 86400000}) + "\n"

    append(grown, [dear(line) for line in clicks])
    servers.wait_until(lambda: daemon.metric("gait_drift_psi", feature="event.price") > 0.25, 40, "the drift", daemon)
    assert daemon.metric("gait_drift_psi", feature="count.all.5m") < 0.25  # how people walk has not changed
