# SPDX-License-Identifier: Apache-2.0
"""test_explain.py - `gaitd explain` on records that a real run left in Redis or in a snapshot; it changes nothing there."""
import json
import pathlib
import subprocess

import pytest

from test_model import GAITD

MODEL = pathlib.Path(__file__).parents[2] / "conf" / "demo.safetensors"


@pytest.fixture(params=["memory", "redis"])
def shop(request, tmp_path, name):
    """A finished run: its configuration, its clicks, and the Redis where there is one."""
    clicks, config = tmp_path / "clicks.jsonl", tmp_path / "gaitd.yaml"
    subprocess.run([GAITD, "gen", "--users", "50", "--events", "2000", "--seed", "5", "--out", str(clicks)], check=True,
                   timeout=60)
    if request.param == "redis":
        server = request.getfixturevalue("redis")
        store = {"redis": {"port": server.port, "prefix": name}}
    else:
        server, store = None, {"memory": {"snapshot": str(tmp_path / "snapshot")}}
    config.write_text(json.dumps({"source": {"file": {"paths": str(clicks)}}, "store": store,
                                  "model": {"lstm": {"path": str(MODEL)}}, "score": {"interest": {}},
                                  "sink": {"file": {"scores": str(tmp_path / "scores.jsonl")}}}))
    subprocess.run([GAITD, "run", "-c", str(config)], check=True, timeout=60)
    return config, tmp_path, server


def explain(config, user, *options):
    return subprocess.run([GAITD, "explain", "--user", user, "-c", str(config), *options], capture_output=True, text=True,
                          timeout=60)


def test_explains_what_was_served(shop):
    config, folder, _ = shop
    score = json.loads((folder / "scores.jsonl").read_text().splitlines()[-1])
    result = explain(config, score["user"], "--json")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["user"] == score["user"] and told["model"] == score["model"]
    assert told["stored"]["intent"]["p"] == pytest.approx(score["intent"], abs=1e-3)
    assert 1 <= len(told["events"]) <= 28 and told["features"]
    for event in told["events"]:
        effect = told["explained"]["intent"]["log_odds"] - event["without"]["intent"]["log_odds"]
        assert event["effect"]["intent"] == pytest.approx(effect, abs=1e-6)
    total = sum(event["effect"]["intent"] for event in told["events"])
    assert told["sum_of_event_effects"]["intent"] == pytest.approx(total, abs=1e-6)
    assert explain(config, score["user"], "--json").stdout == result.stdout  # looking changes nothing
    table = explain(config, score["user"])
    assert table.returncode == 0 and "log-odds" in table.stdout and told["interest"] in table.stdout


def test_who_is_not_there_is_said(shop):
    config, _, server = shop
    result = explain(config, "nobody")
    assert result.returncode == 1 and "nobody" in result.stderr
    long = explain(config, "x" * 5000)
    assert long.returncode == 1 and "at most" in long.stderr
    if server:
        prefix = json.loads(config.read_text())["store"]["redis"]["prefix"]
        server.client().set(f"{prefix}:{{0}}:u:broken", "GAIT and nothing more")
        broken = explain(config, "broken")
        assert broken.returncode == 1 and "cannot be read" in broken.stderr


def test_wrong_command_lines(tmp_path):
    def run(*arguments):
        return subprocess.run([GAITD, "explain", *arguments], capture_output=True, text=True, timeout=60)
    assert run("--help").returncode == 0 and "Example" in run("--help").stdout
    assert run("--user", "u1").returncode == 2
    assert run("-c", "x").returncode == 2
    assert run("--user", "u1", "-c", str(tmp_path / "none.yaml")).returncode == 1
