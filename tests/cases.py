#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cases.py - runs the real binary on each tests/case/NNN-what/ and compares what comes out with what is expected.

    tests/cases.py [--gaitd PATH] [NAME...]      names: folders of tests/case, or the beginnings of their names

A case is a folder with its configuration, its events and an expect.json:

    what      one sentence
    steps     shell commands, run one after the other in a copy of the folder with gaitd on the PATH
              (default: ["gaitd run -c config.yaml"]); each has to succeed, "! gaitd …" expects a failure
    scores, alerts, dead
              what scores.jsonl, alerts.jsonl, dead.jsonl hold: a list with an object for each line, in order; the keys
              that are given have to be equal (numbers to 1e-6, null = absent or null). A number instead of the list:
              how many lines
    metrics   samples of metrics.prom by name and labels: {"gait_events_total{result=\"ok\"}": 3}
    stderr    texts that have to be there
    equal     pairs of files that have to be the same

Every bug that somebody found leaves a case here, for good.
"""
import argparse
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent
STEP_SECONDS = 120


def difference(expected, found, path):
    """A text that names the first difference, or None. Objects may hold more than was expected."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            text = difference(value, found.get(key), f"{path}.{key}")
            if text:
                return text
        return None
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{path}: {len(found)} entries instead of {len(expected)}: {json.dumps(found)[:300]}"
        for i, value in enumerate(expected):
            text = difference(value, found[i], f"{path}[{i}]")
            if text:
                return text
        return None
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (expected, found))
    if numbers and math.isclose(expected, found, rel_tol=1e-6, abs_tol=1e-6):
        return None
    if type(expected) is type(found) and expected == found:
        return None
    return f"{path}: {json.dumps(found)[:300]} instead of {json.dumps(expected)[:300]}"


def check_lines(folder, name, expected):
    path = folder / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    if isinstance(expected, int):
        return None if len(found) == expected else f"{name}: {len(found)} lines instead of {expected}"
    if len(found) != len(expected):
        return f"{name}: {len(found)} lines instead of {len(expected)}:\n    " + "\n    ".join(lines[:20])
    return difference(expected, found, name)


def check_metrics(folder, expected):
    found = {}
    for line in (folder / "metrics.prom").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return difference(expected, found, "metrics")


def check(folder, expect, stderr):
    """Every breach of what is expected."""
    for name in ("scores", "alerts", "dead"):
        if name in expect:
            yield check_lines(folder, name, expect[name])
    if "metrics" in expect:
        yield check_metrics(folder, expect["metrics"])
    for text in expect.get("stderr", []):
        yield None if text in stderr else f"stderr lacks '{text}'"
    for first, second in expect.get("equal", []):
        same = (folder / first).read_bytes() == (folder / second).read_bytes()
        yield None if same else f"{first} and {second} differ"


def run_case(case, gaitd):
    """The faults found, and the standard error of all steps."""
    expect = json.loads((case / "expect.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="gait-case-") as temporary:
        folder = pathlib.Path(temporary) / case.name
        shutil.copytree(case, folder)
        environment = dict(os.environ, PATH=f"{gaitd.parent}:{os.environ['PATH']}", GAIT_TREE=str(ROOT.parent))
        stderr = ""
        for step in expect.get("steps", ["gaitd run -c config.yaml"]):
            try:
                done = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", step], cwd=folder, env=environment,
                                      capture_output=True, timeout=STEP_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                return [f"'{step}' took longer than {STEP_SECONDS} s"], stderr
            stderr += done.stderr.decode("utf-8", "replace") + done.stdout.decode("utf-8", "replace")
            if done.returncode != 0:
                return [f"'{step}' ended with {done.returncode}"], stderr
        return [fault for fault in check(folder, expect, stderr) if fault], stderr


def main():
    parser = argparse.ArgumentParser(description="Runs gaitd on the cases in tests/case.")
    parser.add_argument("--gaitd", default=str(ROOT.parent / "build" / "gaitd"))
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    gaitd = pathlib.Path(arguments.gaitd).resolve()
    cases = sorted(path.parent for path in ROOT.glob("case/*/expect.json"))
    if arguments.names:
        cases = [case for case in cases if any(case.name.startswith(name) for name in arguments.names)]
    passed = failed = 0
    for case in cases:
        faults, stderr = run_case(case, gaitd)
        if faults:
            failed += 1
            print(f"{case.name}:\n  " + "\n  ".join(faults))
            print("  " + "\n  ".join(stderr.splitlines()[-12:]))
        else:
            passed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
