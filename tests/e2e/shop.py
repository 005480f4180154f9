# SPDX-License-Identifier: Apache-2.0
"""shop.py - clicks and configurations for the end-to-end tests, and what must come out of them."""
import json
import os
import subprocess

import jsonschema_rs

import servers

GAITD = os.environ.get("GAITD", str(servers.BUILD / "gaitd"))

BROKEN = [
    (b"u1", b'{"type":"page_view","user_id":', "bad_json"),
    (b"u2", b'{"type":"page_view","user_id":"u2"}', "missing_field"),
    (b"u3", b'{"type":"dance","user_id":"u3","ts":1764000000000}', "unknown_type"),
    (None, b"\xff\xfe", None),
    (b"u4", b'[1,2]', "not_object"),
]


def clicks(events, users=50, seed=1, *more):
    """[(user, JSON bytes)] in the order of time. Only of those who consent: the others get no scores."""
    done = subprocess.run([GAITD, "gen", "--events", str(events * 2), "--users", str(users), "--seed", str(seed), *more],
                          capture_output=True, check=True)
    found = [(json.loads(line), line) for line in done.stdout.splitlines()]
    return [(event["user_id"].encode(), line) for event, line in found if event["consent"]][:events]


def model(folder):
    """A model with random weights: what it says does not matter, that it always says the same does."""
    path = folder / "model.safetensors"
    subprocess.run([str(servers.BUILD / "tests" / "bench" / "w1_model"), str(path)], check=True)
    return str(path)


def config(kafka, name, model_file, store=None, **engine):
    return {
        "engine": {"save_ms": "200ms", "commit_ms": "200ms", "table_bytes": "64MB", "batch_events": 256, **engine},
        "source": {"kafka": {"brokers": kafka.brokers, "topic": f"{name}.clicks", "group": f"{name}.group"}},
        "store": store or {"memory": {}},
        "model": {"lstm": {"path": model_file}},
        "score": {"interest": {}},
        "sink": {"kafka": {"brokers": kafka.brokers, "scores": f"{name}.scores", "alerts": f"{name}.alerts",
                           "dead_letters": f"{name}.dead"}},
    }


def scores_from_file(folder, model_file, events):
    """What the same binary says of the same clicks when they come from a file: the scores without their places."""
    folder.mkdir()
    (folder / "clicks.jsonl").write_bytes(b"\n".join(value for _, value in events) + b"\n")
    (folder / "gaitd.yaml").write_text(json.dumps({
        "source": {"file": {"paths": "clicks.jsonl"}}, "store": {"memory": {}}, "model": {"lstm": {"path": model_file}},
        "score": {"interest": {}}, "sink": {"file": {"scores": "scores.jsonl"}}, "engine": {"batch_events": 256},
    }))
    subprocess.run([GAITD, "run", "-c", str(folder / "gaitd.yaml")], check=True, capture_output=True)
    return [without_place(json.loads(line)) for line in (folder / "scores.jsonl").read_text().splitlines()]


def without_place(score):
    return {k: v for k, v in score.items() if k not in ("partition", "offset")}


def by_user(scores):
    """Each user's scores in order: what must not depend on how events lie in partitions and batches."""
    users = {}
    for score in scores:
        users.setdefault(score["user"], []).append(without_place(score))
    return users


def check_schema(name, documents):
    """Each document is what conf/schema/NAME.json says."""
    schema = json.loads((servers.ROOT / "conf" / "schema" / f"{name}.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    for document in documents:
        errors = [error.message for error in validator.iter_errors(document)]
        assert not errors, (document, errors)
