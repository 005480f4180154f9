#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench_train.sh - how fast `gaitd train` learns on one core, and TensorFlow beside it where it is installed.
# Usage: bench_train.sh BENCH_TRAIN [EPOCHS]; BENCH_TRAIN is build/tests/bench/bench_train (make bench-train).
set -eu
bench=$1
epochs=${2:-10}
core=$(taskset -cp $$ | sed 's/.*: *//; s/[-,].*//')
for batch in 32 256; do
    taskset -c "$core" "$bench" "$batch" "$epochs" 1 2>/dev/null
    taskset -c "$core" python3 "$(dirname "$0")/keras_train.py" "$batch" "$epochs"
done
"$bench" 32 "$epochs" 2 2>/dev/null
