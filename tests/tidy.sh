#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tidy.sh - the house rules that a machine can check. Prints every breach, ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
check() { # check NAME OUTPUT: a rule holds when it has nothing to say
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s:\n%s\n' "$1" "$2"
    fi
}
mapfile -t code < <(git ls-files -co --exclude-standard '*.c' '*.h' '*.cc' | while read -r f; do [ -f "$f" ] && echo "$f"; done)
mapfile -t every < <(git ls-files -co --exclude-standard '*.c' '*.h' '*.cc' '*.py' '*.sh' '*.yaml' 'Makefile' 'systemd/*' \
    | while read -r f; do [ -f "$f" ] && echo "$f"; done)

check 'a file lacks its SPDX line among the first three' "$(for f in "${every[@]}"; do
    head -3 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || echo "  $f"; done)"
check 'a file is longer than 600 lines' "$(for f in "${code[@]}"; do
    n=$(wc -l <"$f"); [ "$n" -le 600 ] || echo "  $f: $n"; done)"
check 'a line is longer than 120 characters' "$(LC_ALL=C.UTF-8 grep -nE '^.{121,}' "${code[@]}" | cut -c1-90)"
check 'a function is longer than 70 lines' "$(awk '
    FNR == 1 { open = 0 }
    /^\{/ { open = FNR }
    /^\}/ { if (open && FNR - open > 70) print "  " FILENAME ":" open ": " FNR - open " lines"; open = 0 }' "${code[@]}")"
check 'white space at the end of a line, or a tab' "$(grep -nE '[ ]+$|	' "${code[@]}" | head -20)"
check 'an include guard does not match the path' "$(for f in include/gait/*.h; do
    g=GAIT_$(basename "$f" .h | tr a-z A-Z)_H; grep -q "^#ifndef $g$" "$f" || echo "  $f: $g"; done)"
check 'daemon/ names a module' "$(grep -nE '#include "(\.\./)?modules/' daemon/*.c daemon/*.h 2>/dev/null)"
check 'modules/ reaches into daemon/' "$(grep -nE '#include "(\.\./)?daemon/' modules/*.c modules/*.h modules/*.cc 2>/dev/null)"
check 'a mutable file-scope variable outside log.c, metrics.c, cpu.c' "$(for f in daemon/*.c modules/*.c; do
    case "$(basename "$f")" in log.c | metrics.c | cpu.c) continue ;; esac
    grep -nE '^static [a-z_ ]*[*a-z_0-9]+(\[[^]]*\])?( = .*)?;' "$f" 2>/dev/null | grep -vE 'const|\(' | sed "s|^|  $f:|"; done)"
check 'a fixed sleep in a test' "$(grep -nE '\b(usleep|sleep|nanosleep) *\(' tests/*.c 2>/dev/null)"
check 'an assert that could be compiled out (NDEBUG)' "$(grep -n 'NDEBUG' Makefile "${code[@]}" 2>/dev/null)"
check 'a forbidden compiler flag' "$(grep -nE -- '-ffast-math|-march=native' Makefile)"
check 'a left-over' "$(grep -nE 'TODO|FIXME|(^|[^X])XXX([^X]|$)|HACK' "${code[@]}" Makefile)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
