#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh - a day in a shop, read by the real engine in a few seconds. `make demo` calls it.
#   conf/demo.sh [GAITD]     the binary (build/gaitd)
set -eu
cd "$(dirname "$0")/.."
gaitd=${1:-build/gaitd}
folder=build/demo
rm -rf "$folder"
mkdir -p "$folder"

echo "A shop of 5,000 customers: one day, 300,000 clicks, a few frauds among them."
"$gaitd" gen --users 5000 --events 300000 --seed 7 --labels "$folder/labels.jsonl" --out "$folder/clicks.jsonl"
head -1 "$folder/clicks.jsonl"
echo
echo "gaitd run -c conf/demo.yaml --progress"
"$gaitd" run -c conf/demo.yaml --progress
python3 conf/demo.py "$folder"
