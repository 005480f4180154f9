#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs.sh - the generated pages in conf/ are what the binary prints, none of its settings or metrics is missing there, and
# the manual pages that people write name every command and every field.
# Usage: tests/docs.sh [build/gaitd]. Ends with "N passed, N failed"; `make docs` writes the pages anew.
set -u
cd "$(dirname "$0")/.." || exit 1
gaitd=${1:-build/gaitd}
passed=0
failed=0
check() { # check NAME OUTPUT: holds when it has nothing to say
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s:\n%s\n' "$1" "$2"
    fi
}
if ! "$gaitd" version >/dev/null; then
    echo "docs.sh: $gaitd does not run; build it first"
    exit 1
fi

same() { # same FILE OPTION: the committed page equals what the binary prints
    check "$1 differs from 'gaitd options $2'; run make docs" "$("$gaitd" options "$2" | diff -u "$1" - | head -20)"
}
same conf/gaitd.full.yaml --yaml
same conf/gaitd.conf.5 --man
same conf/METRICS.md --metrics

# Independently of the generator: every row in the sources is on the page.
check 'a metric of the sources is not in conf/METRICS.md' "$(
    sed -nE 's/^ *\{(\.name = )?"(gait_[a-z0-9_]+)".*/\2/p' daemon/*.c modules/*.c | sort -u | while read -r name; do
        grep -qF "\`$name\`" conf/METRICS.md || echo "  $name"
    done)"
check 'a setting has no help, or one that does not begin with a capital or end with a full stop' "$(
    "$gaitd" options | awk '
        /^  [a-z_]+: / { if (name && !ok) print "  " name; name = section "." $1; ok = 0; first = 1; next }
        /^[a-z]/ { if (name && !ok) print "  " name; name = ""; section = $1; next }
        /^      / { line = $0; sub(/^ +/, "", line)
                    if (first && line !~ /^[A-Z"0-9]/ && line !~ /^[a-z_]+:/) print "  " name " " line
                    first = 0; ok = line ~ /[.)]$/ }
        END { if (name && !ok) print "  " name }')"
check 'a setting is missing in the manual page or in the full configuration' "$(
    "$gaitd" options | sed -n 's/^  \([a-z_]*\): .*/\1/p' | sort -u | while read -r name; do
        grep -qxF ".B $name" conf/gaitd.conf.5 && grep -qE "^[# ]+$name: " conf/gaitd.full.yaml || echo "  $name"
    done)"
for file in conf/gaitd.yaml conf/gaitd.full.yaml; do # whether the model is there is another question
    check "$file has mistakes" "$("$gaitd" check -c "$file" 2>&1 |
        grep -E ':[0-9]+:[0-9]+: |section')"
done

check 'the Redis ACL (struct module.redis_needs) is not what the modules send' "$(diff \
    <("$gaitd" options --redis-acl | sed -n 's/^user gaitd //p' | grep -oE '\+[a-z]+' | tr -d + | sort -u) \
    <(grep -ohE "redis(\.call\('|_begin\([a-z>-]+, \")[A-Z]+" modules/*.[ch] | grep -oE '[A-Z]+$' | tr A-Z a-z |
        cat - <(echo evalsha) | grep -vx auth | sort -u))"

check "a partition's key in Redis is not in the ACL, or not in conf/gait-formats.7" "$(
    for kind in $(grep -ohE 'redis_add_key\([^"]*"[a-z:]+"' modules/*.c | grep -oE '[a-z:]+"$' | tr -d '"' | sort -u); do
        "$gaitd" options --redis-acl | grep -qF "~gait:{*}:$kind" && grep -qF ".It Li gait:{p}:$kind" conf/gait-formats.7 ||
            echo "  $kind"; done)"

# ---- the pages that are written by hand ----------------------------------------------------------------------------

has() { # has PAGE WORD...: those that the page does not name as a thing of its own
    page=$1
    shift
    for word in "$@"; do
        sed -n 's/^\.\(It\|Va\|Li\|Cm\|Ev\|It Va\|It Cm\|It Li\|It Ev\) / /p' "$page" | tr ' ' '\n' | grep -qxF -- "$word" ||
            echo "  $word"
    done
}
mapfile -t commands < <("$gaitd" help | sed -n 's/^  \([a-z]*\)  *[a-z].*/\1/p')
check 'a command is not in daemon/gaitd.8' "$(has daemon/gaitd.8 "${commands[@]}")"
check 'daemon/gaitd.8 has a command that the binary does not have' "$(
    sed -n 's/^\.It Cm //p' daemon/gaitd.8 | while read -r c; do printf '%s\n' "${commands[@]}" | grep -qxF "$c" || echo "  $c"; done)"
check 'a command has no example in its help' "$(for c in "${commands[@]}"; do
    case $c in help | version) continue ;; esac
    "$gaitd" "$c" --help | grep -qi 'example' || echo "  $c"; done)"
check 'an environment variable of the sources is not in daemon/gaitd.8' "$(
    mapfile -t names < <(grep -ohE 'getenv\("[A-Z_]+"\)' daemon/*.c modules/*.c | sed 's/.*"\(.*\)".*/\1/' | sort -u)
    has daemon/gaitd.8 "${names[@]}")"
for schema in conf/schema/*.json; do
    mapfile -t fields < <(python3 -c '
import json, sys
def walk(node):
    if isinstance(node, dict):
        yield from node.get("properties", {})
        if set(node) == {"enum"}: yield from node["enum"]
        for value in node.values(): yield from walk(value)
print(*dict.fromkeys(str(f) for f in walk(json.load(open(sys.argv[1]))) if isinstance(f, str)), sep="\n")' "$schema")
    check "a field of $schema is not in conf/gait-formats.7" "$(has conf/gait-formats.7 "${fields[@]}")"
done
check 'a field of the serving hash is not in conf/gait-formats.7' "$(
    mapfile -t fields < <(sed -n "s/^\/\/     \([a-z_]*\)  .*/\1/p" modules/sink_redis.c)
    has conf/gait-formats.7 "${fields[@]}")"
check 'a field of the record that include/gait/user.h describes is not in conf/gait-formats.7' "$(
    for field in $(sed -n '/a record as bytes/,/bytes\./p' include/gait/user.h | grep -oE 'i64 [a-z_]+' | cut -d' ' -f2); do
        grep -qE "i64 $field" conf/gait-formats.7 || echo "  $field"; done)"
check 'a part of the record is not in conf/gait-formats.7' "$(
    mapfile -t names < <(grep -lE '^    \.record = ' modules/*.c | xargs sed -n 's/^    \.name = "\(.*\)",/\1/p')
    has conf/gait-formats.7 "${names[@]}")"
check 'an entry of a model file is not in conf/gait-formats.7' "$(
    mapfile -t names < <(sed -nE 's/.*(json_object_set_new|metadata_put)\(metadata, "([a-z_]+)".*/\2/p' modules/model_write.c)
    has conf/gait-formats.7 "${names[@]}")"
if command -v groff >/dev/null; then
    check 'a manual page has mistakes (groff)' "$(for page in conf/gaitd.conf.5 conf/gait-formats.7 daemon/gaitd.8; do
        groff -mandoc -ww -z -Kutf8 "$page" 2>&1 | head -5; done)"
fi
if command -v mandoc >/dev/null; then
    check 'a manual page has mistakes (mandoc)' "$(mandoc -T lint -W warning conf/gait-formats.7 daemon/gaitd.8 | head)"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
