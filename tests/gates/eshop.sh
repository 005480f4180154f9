#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# eshop.sh - quality gate: the next clothing model in a real shop's clicks, learned from April to July, judged on August.
# Data: $GAIT_DATA/eshop/clicks.csv.gz (default ../shared/data beside the repository); without it, nothing is tested.
# Prints recall and MRR in percent, the baselines beside them; fails below the floor. The recipe was chosen on visits of
# April to July that were held out, never on August. SEEDS=1 trains one network instead of an ensemble.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
data=${GAIT_DATA:-$here/../shared/data}/eshop/clicks.csv.gz
gaitd=${GAITD:-$here/build/gaitd}
[ -r "$data" ] || { echo "eshop: skipped, there is no $data"; exit 0; }
[ -x "$gaitd" ] || { echo "eshop: $gaitd is missing; make it first"; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$here/tests/gates/eshop_events.py" "$data" "$work"
"$gaitd" train --events "$work/train.jsonl" --target item --sequence session --catalogue "$work/items.csv" \
    --embed item=64 --features none --layers 128 --dropout 0.35 --input-dropout 0.1 --batch 64 --rate 0.004 \
    --schedule cosine --epochs 15 --patience 0 --min-count 1 --valid 0 --ensemble "${SEEDS:-4}" \
    --threads "${THREADS:-1}" --seed 1 --out "$work/eshop.safetensors" --quiet
"$gaitd" eval --model "$work/eshop.safetensors" --warmup "$work/train.jsonl" --events "$work/test.jsonl" --target item \
    --sequence session --ranks "$work/ranks" --json >"$work/figures.json"
[ -z "${RANKS:-}" ] || cp "$work/ranks" "$RANKS"
python3 - "$work/figures.json" <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as file:
    figures = json.load(file)
floor = {"recall@10": 56.0, "recall@20": 72.5, "mrr@20": 26.6}
print(f"predictions {figures['predictions']}")
low = []
for name in ("recall@1", "recall@5", "recall@10", "recall@20", "mrr@20"):
    value = 100 * figures[name]
    beside = "  ".join(f"{b} {100 * of[name]:.2f}" for b, of in figures["baselines"].items())
    between = " to ".join(f"{100 * x:.2f}" for x in figures["interval"][name])
    print(f"{name} {value:.2f}   ({between})   {beside}")
    if value < floor.get(name, 0):
        low.append(f"{name} {value:.2f} is below {floor[name]}")
sys.exit("\n".join(low) if low else 0)
PYTHON
