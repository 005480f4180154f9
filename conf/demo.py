#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""demo.py - shows what gaitd wrote in a form that a person likes to read. Called by conf/demo.sh.

    conf/demo.py FOLDER     with scores.jsonl, alerts.jsonl, labels.jsonl and metrics.prom in it
"""
import collections
import datetime
import json
import pathlib
import sys

BAR = "▏▎▍▌▋▊▉█"
PEOPLE, ALERTS = 6, 6


def style(code, text):
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def bar(share, width):
    """A bar of `width` characters for 100 %, drawn to an eighth of a character."""
    eighths = max(1, round(share * width * 8))
    full, rest = divmod(eighths, 8)
    return (BAR[7] * full + (BAR[rest - 1] if rest else "")).ljust(width)


def clock(ts_ms):
    return datetime.datetime.fromtimestamp(ts_ms / 1000, datetime.timezone.utc).strftime("%H:%M:%S")


def lines_of(path):
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield line


def read_metrics(path):
    values = {}
    for line in lines_of(path):
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


def latest_scores(path):
    """The last score of each user; only those lines are parsed."""
    last = {}
    for line in lines_of(path):
        user = line[line.index('"user":"') + 8:].split('"', 1)[0]
        last[user] = line
    return [json.loads(line) for line in last.values()]


def show_people(scores):
    scored = [s for s in scores if s["interests"]]
    if not scored:
        return
    newest = max(s["ts"] for s in scored)
    here = [s for s in scored if newest - s["ts"] < 30 * 60000 and s.get("intent") is not None]
    here.sort(key=lambda s: -s["intent"])
    print(style("1", f"\nWhat people want now") + "   (those in the shop at the end of the day, the keenest first)\n")
    for s in here[:PEOPLE]:
        print(f"  {s['user']:<7} buys soon {style('32', bar(s['intent'], 10))} {s['intent']:4.0%}", end="")
        for interest in s["interests"][:3]:
            print(f"   {interest['category']:<19}{style('36', bar(interest['score'], 8))}{interest['score']:4.0%}", end="")
        print()


def show_alert(alert, truth):
    colour = "31" if alert["action"] != "watch" else "33"
    print(f"\n  {clock(alert['ts'])}  {alert['user']:<7} {style(colour, alert['action'])}  score {alert['score']:g}"
          f"   {style('2', 'in truth: ' + truth)}")
    for symbol in alert["symbols"]:
        print(f"      {symbol['weight']:+4g}  {symbol['name']:<27} {symbol.get('text') or ''}")


def show_alerts(folder):
    labels = [json.loads(line) for line in lines_of(folder / "labels.jsonl")]
    alerts = [json.loads(line) for line in lines_of(folder / "alerts.jsonl")]
    by_user = collections.defaultdict(list)
    for label in labels:
        by_user[label["user"]].append(label)
    found, honest, examples = set(), set(), {}
    for alert in alerts:
        before = [x for x in by_user[alert["user"]] if x["first_ts"] <= alert["ts"]]
        found.update((x["user"], x["first_ts"]) for x in before)
        if not before:
            truth = "an honest customer"
            honest.add(alert["user"])
        else: # the first login at home after somebody else's far away is a consequence, too
            truth = before[-1]["scenario"].replace("_", " ") + (", afterwards" * (alert["ts"] > before[-1]["last_ts"]))
        best = examples.get(truth)
        if not best or alert["score"] > best["score"]:
            examples[truth] = alert
    print(style("1", f"\nAlerts") + f"   {len(alerts)} with reasons: {len(found)} of the day's {len(labels)} frauds found, "
          f"{len(honest)} honest people suspected")
    for truth, alert in sorted(examples.items(), key=lambda pair: -pair[1]["score"])[:ALERTS]:
        show_alert(alert, truth)


def main():
    folder = pathlib.Path(sys.argv[1])
    metrics = read_metrics(folder / "metrics.prom")
    stages = {name[name.index('"') + 1:-2]: value for name, value in metrics.items()
              if name.startswith("gait_stage_seconds_total{")}
    events = sum(value for name, value in metrics.items() if name.startswith("gait_events_total{"))
    scores = latest_scores(folder / "scores.jsonl")
    show_people(scores)
    show_alerts(folder)
    busy = sum(stages.values())
    print(style("1", "\nSpeed") + f"   {events:,.0f} events, {busy:.2f} s of one core"
          f" ({events / busy:,.0f} events/s): " if busy else "", end="")
    print(", ".join(f"{name} {value / events * 1e6:.2f} µs" for name, value in stages.items() if value / events > 1e-8)
          + " an event" if busy else "")
    print(f"\nThe files are in {folder}: clicks, scores, alerts, labels (the truth about the frauds), metrics.")


if __name__ == "__main__":
    main()
