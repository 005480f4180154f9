# SPDX-License-Identifier: Apache-2.0
"""test_model_install.py - a model swapped under a running daemon: nobody begins anew, nothing is counted twice."""
import collections
import json
import shutil
import subprocess

import pytest

import servers
from test_explain import MODEL
from test_model import GAITD

USERS, EVENTS, RING, BATCH = 200, 1600, 28, 8


def model(*arguments):
    return subprocess.run([GAITD, "model", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def model_id(path):
    return model("show", path).stdout.split()[1]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    file = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    subprocess.run([GAITD, "gen", "--users", str(USERS), "--events", str(EVENTS), "--seed", "5", "--out", str(file)],
                   check=True, timeout=60)
    return file.read_text().splitlines(keepends=True)


@pytest.fixture(scope="module")
def other(tmp_path_factory, clicks):
    """Another model of the same shop."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "train.jsonl").write_text("".join(clicks))
    subprocess.run([GAITD, "train", "--events", str(folder / "train.jsonl"), "--target", "category,intent", "--layers", "24",
                    "--epochs", "1", "--seed", "3", "--out", str(folder / "other.safetensors")], check=True, timeout=120,
                   capture_output=True)
    return folder / "other.safetensors"


def configuration(folder, file, follow):
    return {"source": {"file": {"paths": str(file), "follow": follow}}, "store": {"memory": {}},
            "engine": {"batch_events": BATCH}, "window": {"rolling": {"ring": RING}},
            "model": {"lstm": {"path": str(folder / "model.safetensors")}}, "score": {"interest": {"publish": "all"}},
            "sink": {"file": {"scores": str(folder / "scores.jsonl")}}}


def scores(folder):
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def undisturbed(tmp_path, clicks, path):
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    shutil.copy(path, folder / "model.safetensors")
    (folder / "clicks.jsonl").write_text("".join(clicks))
    config = folder / "gaitd.yaml"
    config.write_text(json.dumps(configuration(folder, folder / "clicks.jsonl", False)))
    subprocess.run([GAITD, "run", "-c", str(config)], check=True, timeout=60, capture_output=True)
    return scores(folder)


def test_a_swap_begins_nobody_anew_and_counts_nothing_twice(tmp_path, clicks, other, gaitd):
    shutil.copy(MODEL, tmp_path / "model.safetensors")
    grown = tmp_path / "grown.jsonl"
    half = len(clicks) // 2
    grown.write_text("".join(clicks[:half]))
    daemon = gaitd(configuration(tmp_path, grown, True)).start()
    daemon.wait_events(half)
    installed = model("install", other, "-c", daemon.config)
    assert installed.returncode == 0, installed.stderr
    servers.wait_until(lambda: daemon.metric("gait_model_loads_total", result="loaded") == 1, 20, "the swap", daemon)
    with grown.open("a") as out:
        out.write("".join(clicks[half:]))
    daemon.wait_events(len(clicks))
    assert daemon.metric("gait_model_rebuilt_users_total") > 0
    daemon.terminate(20)
    got, wanted = scores(tmp_path), undisturbed(tmp_path, clicks, other)
    assert len(got) == len(wanted) == len(set(s["offset"] for s in got))
    swapped, compared = model_id(other), 0
    history = collections.Counter(s["user"] for s in got if s["model"] != swapped)
    for mine, theirs in zip(got, wanted, strict=True):
        assert (mine["user"], mine["offset"]) == (theirs["user"], theirs["offset"])
        # A rebuild knows what the ring holds beside the batch's own events: all, for these users.
        if mine["model"] != swapped or history[mine["user"]] + BATCH > RING:
            continue
        assert mine["intent"] == pytest.approx(theirs["intent"], abs=1e-3), mine
        assert mine["interests"][0]["score"] == pytest.approx(theirs["interests"][0]["score"], abs=1e-3), mine
        compared += history[mine["user"]] > 0
    assert compared > 100  # of users who were there before
    order = [s["model"] for s in got]  # at one moment, for everybody
    before = order.count(model_id(MODEL))
    assert 0 < before < len(order) and order[before:] == [swapped] * (len(order) - before)


def test_install_and_rollback(tmp_path, clicks, other):
    shutil.copy(MODEL, tmp_path / "model.safetensors")
    config, place, previous = tmp_path / "gaitd.yaml", tmp_path / "model.safetensors", tmp_path / "model.safetensors.previous"
    (tmp_path / "clicks.jsonl").write_text("".join(clicks[:10]))
    config.write_text(json.dumps(configuration(tmp_path, tmp_path / "clicks.jsonl", False)))
    first, second = model_id(MODEL), model_id(other)
    nothing = model("rollback", "-c", config)
    assert nothing.returncode == 1 and "model.safetensors.previous" in nothing.stderr and model_id(place) == first
    assert model("install", other, "-c", config).returncode == 0
    assert (model_id(place), model_id(previous)) == (second, first)
    again = model("install", other, "-c", config)  # does not lose the first one
    assert again.returncode == 0 and "already" in again.stdout and model_id(previous) == first
    assert model("rollback", "-c", config).returncode == 0
    assert (model_id(place), model_id(previous)) == (first, second)
    assert model("rollback", "-c", config).returncode == 0
    assert (model_id(place), model_id(previous)) == (second, first)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clicks.jsonl", "gaitd.yaml", "model.safetensors",
                                                           "model.safetensors.previous"]


def test_what_the_daemon_would_refuse_is_not_put_in_place(tmp_path, clicks, other):
    shutil.copy(MODEL, tmp_path / "model.safetensors")
    (tmp_path / "clicks.jsonl").write_text("".join(clicks[:10]))
    config = tmp_path / "gaitd.yaml"
    settings = configuration(tmp_path, tmp_path / "clicks.jsonl", False)
    config.write_text(json.dumps(settings))
    (tmp_path / "broken").write_bytes(other.read_bytes()[:5000])
    broken = model("install", tmp_path / "broken", "-c", config)
    assert broken.returncode == 1 and "cut short" in broken.stderr
    settings["window"] = {"rolling": {"windows": ["2h"]}}  # its features are not among these
    config.write_text(json.dumps(settings))
    unfit = model("install", other, "-c", config)
    assert unfit.returncode == 1 and "is no column here" in unfit.stderr
    assert model_id(tmp_path / "model.safetensors") == model_id(MODEL)
    assert not (tmp_path / "model.safetensors.previous").exists()
    assert model("install", "-c", config).returncode == 2
    assert model("rollback", other, "-c", config).returncode == 2
    assert model("install", "--help").returncode == 0 and "Example" in model("rollback", "--help").stdout
