#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# demo-kafka.sh - the demo through a real Kafka and a real Redis, started on free ports. `make demo-kafka` calls it.
# At a terminal the servers stay until a key is pressed, so that one can look around; otherwise they stop at once.
#   conf/demo-kafka.sh [GAITD]     the binary (build/gaitd)
set -eum # m: background jobs get process groups of their own, so that an interrupt reaches them by kill alone
cd "$(dirname "$0")/.."
gaitd=$(realpath "${1:-build/gaitd}")
folder=$(mktemp -d "${TMPDIR:-/tmp}/gait-demo-XXXXXX")
events=300000
daemon='' servers=''
finish() {
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } || true
    [ -z "$servers" ] || { kill -INT "$servers" && wait "$servers"; } || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

echo "Starting a Kafka broker and a Redis ..."
build/venv/bin/python tests/e2e/servers.py "$folder" >"$folder/addresses" &
servers=$!
until grep -q '^redis=' "$folder/addresses"; do
    kill -0 "$servers" 2>/dev/null || { echo "the servers did not start; see above"; exit 1; }
    sleep 0.2
done
brokers=$(sed -n 's/^brokers=//p' "$folder/addresses")
port=$(sed -n 's/^redis=.*://p' "$folder/addresses")
echo "Kafka at $brokers, Redis at port $port"
for topic in clicks gait.scores gait.alerts gait.dead; do
    kcat -L -b "$brokers" -t $topic >/dev/null # asking for a topic makes the broker create it
done

cat >"$folder/gaitd.yaml" <<YAML
source: {kafka: {brokers: "$brokers", topic: clicks}}
store: {redis: {port: $port}}
$([ ! -f conf/demo.safetensors ] || echo "model: {lstm: {path: $PWD/conf/demo.safetensors}}")
rule: {fraud: {rules: $PWD/conf/rules.yaml}}
sink:
  kafka: {brokers: "$brokers"}
  redis: {port: $port, features: [count.product_view.1h, count.purchase.24h, sum.purchase.24h]}
metrics: {file: metrics.prom, file_ms: 500ms}
log: {level: warning}
YAML
echo "gaitd gen --brokers $brokers --topic clicks --users 5000 --events $events --labels ..."
"$gaitd" gen --brokers "$brokers" --topic clicks --users 5000 --events $events --seed 7 --labels "$folder/labels.jsonl"
echo "gaitd run -c $folder/gaitd.yaml --progress"
"$gaitd" run -c "$folder/gaitd.yaml" --progress &
daemon=$!
until awk '/^gait_events_total\{/ { n += $2 } END { exit n < '$events' }' "$folder/metrics.prom" 2>/dev/null; do
    kill -0 "$daemon" 2>/dev/null || { echo "gaitd has ended; see above"; exit 1; }
    sleep 0.2
done
kill "$daemon" # drains, saves, commits
wait "$daemon"
daemon=''
user=$(kcat -C -q -b "$brokers" -t gait.alerts -o beginning -e -c 1 -f '%k')
look=("redis-cli -p $port hgetall gait:user:$user" "kcat -C -q -b $brokers -t gait.alerts -o beginning -e -c 3")
[ ! -f conf/demo.safetensors ] || look+=("kcat -C -q -b $brokers -t gait.scores -o -1 -e")
for command in "${look[@]}"; do
    printf '\n$ %s\n' "$command"
    $command
done
if [ -t 0 ]; then
    printf '\nLook around with these commands from another terminal. Enter stops the servers and removes their data. '
    read -r _
fi
