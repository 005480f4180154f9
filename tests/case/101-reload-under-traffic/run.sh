# SPDX-License-Identifier: Apache-2.0
# A daemon that follows a file gets a bad, a forbidden and a good configuration, with events before, between and after.
set -eu
say() { # say TYPE SECOND
    printf '{"type":"%s","user_id":"u1","ts":%d000,"price":1}\n' "$1" $((1764000000 + $2)) >>events.jsonl
}
wait_for() { # wait_for FILE TEXT
    for _ in $(seq 300); do
        grep -qF "$2" "$1" 2>/dev/null && return
        sleep 0.1
    done
    echo "no '$2' in $1:"; cat "$1" log; exit 1
}
events_are() { # USR1 writes the metrics
    for _ in $(seq 300); do
        kill -USR1 $pid
        grep -qF "gait_events_total{result=\"$1\"} $2" metrics.prom 2>/dev/null && return
        sleep 0.1
    done
    echo "not $2 events $1:"; cat metrics.prom log; exit 1
}
: >events.jsonl
gaitd run -c config.yaml 2>log &
pid=$!
trap 'kill $pid 2>/dev/null || :' EXIT
wait_for log 'engine: ready'
say purchase 0
say purchase 1
say dance 2
events_are ok 2
events_are unknown_type 1
# One bad value: nothing of it takes place, not even the rules, which would fire at once.
cp config.yaml good.yaml
sed -i 's/unknown_types: refuse/unknown_types: ignore/; s/100ms/100 parsecs/' config.yaml
kill -HUP $pid
wait_for log 'parsecs'
wait_for log 'reload of config.yaml: refused'
say dance 3
events_are unknown_type 2
# What needs a restart is named.
sed 's/dead.jsonl/elsewhere.jsonl/; s/refuse/ignore/' good.yaml >config.yaml
kill -HUP $pid
wait_for log 'sink.file.dead needs a restart'
say dance 4
events_are unknown_type 3
# And a good one, with other rules by another name.
sed 's/refuse/ignore/; s/100ms/200ms/; s/rules.yaml/strict.yaml/' good.yaml >config.yaml
sed 's/>= 3/>= 4/; s/name: often/name: very_often/' rules.yaml >strict.yaml
! gaitd check -c config.yaml --against good.yaml | grep -q refused
gaitd check -c config.yaml --against good.yaml | grep -qF 'decode.json.unknown_types: refuse → ignore'
kill -HUP $pid
wait_for log 'reload of config.yaml: ok, 4 changes'
say dance 5
events_are ignored 1
say purchase 6
say purchase 7
events_are ok 4
kill -TERM $pid
wait $pid
