# SPDX-License-Identifier: Apache-2.0
"""test_formats.py - what goes in and what comes out is what conf/schema says; receipts of erasures are in test_state.py."""
import json
import subprocess

import pytest

import servers
import shop


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_outputs_are_what_their_schemas_say(model, tmp_path):
    made = subprocess.run([shop.GAITD, "gen", "--events", "20000", "--users", "300", "--seed", "3"], capture_output=True, check=True)
    shop.check_schema("event", [json.loads(line) for line in made.stdout.splitlines()[:2000]])
    broken = b"".join(value + b"\n" for _, value, _ in shop.BROKEN)
    (tmp_path / "clicks.jsonl").write_bytes(made.stdout + broken)
    (tmp_path / "gaitd.yaml").write_text(json.dumps({
        "source": {"file": {"paths": "clicks.jsonl"}}, "store": {"memory": {}}, "model": {"lstm": {"path": model}},
        "score": {"interest": {}}, "rule": {"fraud": {"rules": str(servers.ROOT / "conf" / "rules.yaml")}},
        "sink": {"file": {"scores": "scores.jsonl", "alerts": "alerts.jsonl", "dead": "dead.jsonl"}},
    }))
    subprocess.run([shop.GAITD, "run", "-c", str(tmp_path / "gaitd.yaml")], check=True, capture_output=True)
    for name, file, least in (("score", "scores", 10000), ("alert", "alerts", 1), ("dead", "dead", len(shop.BROKEN))):
        documents = lines(tmp_path / f"{file}.jsonl")
        assert len(documents) >= least
        shop.check_schema(name, documents)


@pytest.mark.parametrize("change", [{"user": ""}, {"offset": -2}, {"partition": None}, {"more": 1}])
def test_a_schema_refuses_what_is_no_receipt(change):
    good = {"user": "u1", "partition": 0, "partitions": 3, "offset": 7, "erased_ms": 1764000000000, "saved_ms": 1764000000001}
    shop.check_schema("erased", [good])
    with pytest.raises(AssertionError):
        shop.check_schema("erased", [{**good, **change}])
