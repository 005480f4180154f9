#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""boards.py - the Grafana board, the alert rules and the runbook say nothing that the daemon does not.

Every metric that they name has to be on conf/METRICS.md; promtool reads the rules and every expression of the board; each
alert has a section in the runbook and each section an alert. Ends with "N passed, N failed".
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

CONF = pathlib.Path(__file__).resolve().parents[1] / "conf"
MACROS = {"$__rate_interval": "5m", '"$instance"': '".*"'}
results = []


def check(what, problems):
    results.append(not problems)
    if problems:
        print(f"{what}:\n  " + "\n  ".join(problems))


def promtool(rules):
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).splitlines()


def metrics_of(text):
    """Names of rows; a histogram's three series are its own."""
    names = set(re.findall(r"\bgait_[a-z0-9_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def main():
    known = dict(re.findall(r"^\| `(gait_\w+)` \| (\w+) ", (CONF / "METRICS.md").read_text(), re.MULTILINE))
    rules = yaml.safe_load((CONF / "alerts.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((CONF / "grafana.json").read_text())
    targets = [target for panel in board["panels"] for target in panel.get("targets", [])]
    runbook = (CONF / "RUNBOOK.md").read_text()

    check("promtool refuses conf/alerts.yaml", promtool(CONF / "alerts.yaml"))
    check("a metric of conf/alerts.yaml is not in conf/METRICS.md",
          sorted({m for rule in alerts for m in metrics_of(rule["expr"])} - set(known)))
    check("a metric of conf/grafana.json is not in conf/METRICS.md",
          sorted({m for t in targets for m in metrics_of(t["expr"])} - set(known)))
    check("a metric of conf/RUNBOOK.md is not in conf/METRICS.md", sorted(metrics_of(runbook) - set(known)))
    check("an alert has no section in conf/RUNBOOK.md, or a section no alert",
          sorted({rule["alert"] for rule in alerts} ^ set(re.findall(r"^## (\w+)$", runbook, re.MULTILINE))))
    check("an alert's runbook line leads nowhere",
          [rule["alert"] for rule in alerts if rule["annotations"]["runbook"] != "RUNBOOK.md#" + rule["alert"].lower()])
    check("a panel has no description or no unit", [p["title"] for p in board["panels"] if p["type"] != "row"
                                                     and not (p["description"] and p["fieldConfig"]["defaults"]["unit"])])
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        expressions = [t["expr"] for t in targets]
        for macro, value in MACROS.items():
            expressions = [e.replace(macro, value) for e in expressions]
        json.dump({"groups": [{"name": "board", "rules": [{"record": f"x{i}", "expr": e} for i, e in enumerate(expressions)]}]},
                  file)
        file.flush()
        check("promtool refuses an expression of conf/grafana.json", promtool(file.name))
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
