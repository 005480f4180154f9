#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs.sh - the generated pages in conf/ are what the binary prints, and none of its settings or metrics is missing there.
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
if command -v man >/dev/null && command -v groff >/dev/null; then
    check 'the manual page has mistakes' "$(groff -man -ww -z -Kutf8 conf/gaitd.conf.5 2>&1 | head)"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
