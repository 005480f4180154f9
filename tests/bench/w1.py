#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Job W1: a real broker and a real Redis on core 1, gaitd on core 0; see README, "Benchmark".

    w1.py --build build --jobs w1-wide,w1-skewed,w1-wide-latest [--events 2000000] [--users 200000]

Appends a JSON line a job to tests/bench/last.jsonl and writes the table of tests/bench/RESULTS.md anew."""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from servers import Kafka, Redis  # noqa: E402

PARTITIONS = 4
CONFIG = """
engine: {{table_bytes: 1GB, batch_events: {batch}, save_ms: 5s, delivery: {delivery}}}
log: {{level: info}}
metrics: {{file: {folder}/metrics.prom, file_ms: 100ms}}
source: {{kafka: {{brokers: "{brokers}", topic: {clicks}, group: {scores}, prefetch_bytes: {prefetch}}}}}
decode: {{json: {{}}}}
store: {{redis: {{port: {redis}}}}}
window: {{rolling: {{}}}}
model: {{lstm: {{path: {folder}/w1.safetensors}}}}
score: {{interest: {{top: 5, publish: {publish}}}}}
rule: {{fraud: {{rules: {folder}/rules.yaml}}}}
sink:
  kafka: {{brokers: "{brokers}", scores: {scores}, alerts: {scores}.alerts, dead_letters: {scores}.dead}}
  redis: {{port: {redis}}}
"""
RULES = """
actions: {review: 1}
rules:
  - {name: purchase_velocity, when: "count.purchase.1h >= 1000", weight: 1, text: "{value} purchases within an hour"}
"""


class Gaitd:
    """One gaitd on core 0, its figures, and an end by SIGTERM."""

    def __init__(self, bench, clicks, scores, publish, delivery="at_least_once"):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=bench.folder))
        os.link(bench.folder / "w1.safetensors", self.folder / "w1.safetensors")
        (self.folder / "rules.yaml").write_text(RULES)
        config = self.folder / "gaitd.yaml"
        config.write_text(CONFIG.format(folder=self.folder, brokers=bench.kafka.brokers, redis=bench.redis.port,
                                        clicks=clicks, scores=scores, publish=publish, delivery=delivery,
                                        prefetch="256MB", batch=bench.args.batch))
        self.log = open(self.folder / "log", "w")
        self.begun = time.monotonic()
        self.process = subprocess.Popen(["taskset", "-c", "0", str(bench.build / "gaitd"), "run", "-c", str(config)],
                                        stderr=self.log, stdout=self.log)

    def metrics(self):
        figures = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "metrics.prom").read_text().splitlines():
                if not line.startswith("#"):
                    name, value = line.rsplit(" ", 1)
                    figures[name] = float(value)
        return figures

    def events(self):
        return sum(v for k, v in self.metrics().items() if k.startswith("gait_events_total"))

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024

    def wait_events(self, n, timeout=600):
        end = time.monotonic() + timeout
        while self.events() < n:
            if self.process.poll() is not None:
                sys.exit(f"gaitd ended:\n{(self.folder / 'log').read_text()[-3000:]}")
            if time.monotonic() > end:
                sys.exit(f"{self.events()} of {n} events:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()
        text = (self.folder / "log").read_text()
        found = re.search(r"own latency p50 ([\d.]+) ms, p99 ([\d.]+) ms, p99.9 ([\d.]+) ms, p99.99 ([\d.]+) ms", text)
        return dict(zip(("p50", "p99", "p999", "p9999"), map(float, found.groups()))) if found else {}


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.build = args, pathlib.Path(folder), pathlib.Path(args.build).resolve()
        os.sched_setaffinity(0, {1})  # servers, generator and probe inherit it
        self.kafka, self.redis = Kafka(self.folder / "kafka"), Redis(self.folder / "redis", append=False)
        self.topics = 0
        subprocess.run([self.build / "tests/bench/w1_model", self.folder / "w1.safetensors"], check=True)

    def topic(self, kind):
        self.topics += 1
        name = f"{kind}-{self.topics}"
        self.kafka.create_topic(name, PARTITIONS)
        return name

    def forget(self):
        """As if gaitd had never run: no records; each run is a consumer group of its own."""
        self.redis.client().flushall()

    def outputs(self):
        scores = self.topic("scores")
        for kind in ("alerts", "dead"):
            self.kafka.create_topic(f"{scores}.{kind}", 1)
        return scores

    def gen(self, topic, events, *more, wait=True):
        command = [self.build / "gaitd", "gen", "--users", str(self.args.users), "--events", str(events),
                   "--brokers", self.kafka.brokers, "--topic", topic, *more]
        process = subprocess.Popen([str(c) for c in command], stderr=subprocess.DEVNULL)
        if wait and process.wait() != 0:
            sys.exit("gaitd gen failed")
        return process

    def probe(self, topic, n, skip):
        return subprocess.Popen([str(self.build / "tests/bench/probe"), self.kafka.brokers, topic,
                                 str(n), str(skip)], stdout=subprocess.PIPE, text=True)

    def throughput(self, clicks, publish, delivery="at_least_once"):
        """Catch up with a full topic. The clock runs from the first event to the last."""
        n = self.args.events
        scores = self.outputs()
        gaitd = Gaitd(self, clicks, scores, publish, delivery)
        gaitd.wait_events(1)
        start, cpu, first = time.monotonic(), gaitd.cpu_seconds(), gaitd.events()
        gaitd.wait_events(n)
        seconds, cpu = time.monotonic() - start, gaitd.cpu_seconds() - cpu
        figures = gaitd.metrics()
        stages = {m.group(1): round(1e6 * v / n, 3) for k, v in figures.items()
                  if (m := re.match(r'gait_stage_seconds_total\{stage="(\w+)"\}', k))}
        result = {"events_per_s": round((n - first) / seconds), "cpu_us_per_event": round(1e6 * cpu / (n - first), 2),
                  "rss_mb": round(gaitd.peak_mb()), "stages_us": stages,
                  "wave_rows": round(n / max(1, figures.get("gait_waves_total", 1)), 1)}
        gaitd.stop()
        written = sum(self.kafka.ends(scores).values())
        wanted = figures['gait_events_total{result="ok"}']
        if publish == "all" and written < wanted:  # with transactions their markers count too
            sys.exit(f"{written} scores for {wanted:.0f} events: that was not the job\n{figures}")
        return result

    def latency(self, rate, seconds, publish):
        """Open loop at `rate`: gaitd's own share, and from an event due to its score read by a consumer."""
        clicks, scores = self.topic("clicks"), self.outputs()
        gaitd = Gaitd(self, clicks, scores, publish)
        n = int(rate * seconds)
        want = n if publish == "all" else int(n * 0.5)
        probe = self.probe(scores, want, want // 5)
        time.sleep(2)
        self.gen(clicks, n, "--rate", str(rate), "--realtime", *self.more)
        out = json.loads(probe.communicate()[0])
        own = gaitd.stop()
        return own, {k: v for k, v in out.items() if k != "n"}

    def floor(self, rate, seconds):
        topic, n = self.topic("floor"), int(rate * seconds)
        probe = self.probe(topic, n, n // 5)
        time.sleep(1)
        self.gen(topic, n, "--rate", str(rate), "--realtime", *self.more)
        return {k: v for k, v in json.loads(probe.communicate()[0]).items() if k != "n"}

    def first_score(self, clicks, publish):
        """From exec to the first score, on a topic that is full."""
        scores = self.outputs()
        probe = self.probe(scores, 1, 0)
        time.sleep(1)
        gaitd = Gaitd(self, clicks, scores, publish)
        probe.communicate()
        seconds = time.monotonic() - gaitd.begun
        gaitd.stop()
        return round(seconds, 2)

    def job(self, name):
        publish = "latest" if name.endswith("latest") else "all"
        self.more = ["--skew"] if "skewed" in name else []
        clicks = self.topic("clicks")
        self.gen(clicks, self.args.events, "--rate", "10000", *self.more)
        runs = []
        for _ in range(self.args.runs):
            self.forget()
            runs.append(self.throughput(clicks, publish))
            print(f"  {name}: {runs[-1]}", file=sys.stderr)
        result = {"job": name, **sorted(runs, key=lambda r: r["events_per_s"])[len(runs) // 2]}
        if self.args.exactly_once:
            self.forget()
            result["exactly_once"] = self.throughput(clicks, publish, "exactly_once")
        if not self.args.no_latency:
            self.forget()
            result["first_score_s"] = self.first_score(clicks, publish)
            half = result["events_per_s"] // 2
            self.forget()
            result["own_ms"], result["e2e_ms"] = self.latency(half, self.args.seconds, publish)
            self.forget()
            _, result["e2e_10k_ms"] = self.latency(10000, self.args.seconds, publish)
            result["floor_ms"] = self.floor(10000, self.args.seconds)
        return result


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    flags = "avx512f" in open("/proc/cpuinfo").read()
    return f"{model}, {os.cpu_count()} cores, {'AVX-512' if flags else 'no AVX-512'}"


def write_results(results, command):
    def quantiles(q):
        return " / ".join(f"{q[k]:g}" for k in ("p50", "p99", "p999", "p9999")) if q else "–"
    rows = "".join(
        f"| {r['job']} | {r['events_per_s']:,} | {r['cpu_us_per_event']} | {r['rss_mb']} | {quantiles(r.get('own_ms'))} | "
        f"{quantiles(r.get('e2e_ms'))} | {quantiles(r.get('e2e_10k_ms'))} | {quantiles(r.get('floor_ms'))} | "
        f"{r.get('first_score_s', '–')} |\n" for r in results)
    stages = "".join(f"| {r['job']} | " + " | ".join(f"{v}" for v in r["stages_us"].values()) + " |\n" for r in results)
    names = " | ".join(results[0]["stages_us"])
    path = HERE / "RESULTS.md"
    other = ""
    if path.exists() and "<!-- other -->" in path.read_text():
        other = path.read_text().split("<!-- other -->", 1)[1]
    path.write_text(
        f"# What we measured last\n\n{datetime.date.today()}, {machine()}. `{command}`\n\n"
        "Job W1 (README, \"Benchmark\"). Latencies are p50 / p99 / p99.9 / p99.99 in milliseconds: gaitd's own share at half\n"
        "of the measured rate, end to end at that rate, end to end at 10,000/s, and the floor of the same broker at 10,000/s.\n\n"
        "| job | events/s | CPU µs per event | peak RSS MB | own | end to end | at 10,000/s | floor | first score s |\n"
        "|---|---|---|---|---|---|---|---|---|\n" + rows +
        f"\nTime in each stage, µs per event (the LSTM is `model`):\n\n| job | {names} |\n|---|" +
        "---|" * len(results[0]["stages_us"]) + "\n" + stages + "\n<!-- other -->" + other)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--jobs", default="w1-wide,w1-skewed,w1-wide-latest")
    parser.add_argument("--events", type=int, default=2000000)
    parser.add_argument("--users", type=int, default=650000, help="of the shop; about 200,000 of them come in 2,000,000 events")
    parser.add_argument("--runs", type=int, default=3, help="throughput runs a job; the median counts")
    parser.add_argument("--seconds", type=int, default=20, help="length of each latency run")
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--exactly-once", action="store_true", help="measure the first job with exactly_once too")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder)
        try:
            bench.kafka.start()
            bench.redis.start()
            for name in args.jobs.split(","):
                results.append(bench.job(name))
                line = json.dumps(results[-1])
                print(line, flush=True)
                with open(HERE / "last.jsonl", "a") as last:
                    last.write(line + "\n")
        finally:
            bench.kafka.kill()
            bench.redis.kill()
    if not args.no_latency:
        write_results(results, "make bench")


if __name__ == "__main__":
    main()
