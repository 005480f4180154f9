#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# package.sh - what `make install` and `make deb` put where, and that it works: units, manual pages, lintian; then the package
# is installed, started and purged in a copy of this system (an overlay that vanishes with the test).
# Usage: tests/package.sh [build]. Needs root for the last part. Ends with "N passed, N failed".
set -u
unset MAKEFLAGS MAKELEVEL MFLAGS # called by make or by hand: the same
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
passed=0
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
check() { # check NAME OUTPUT: holds when it has nothing to say
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s:\n%s\n' "$1" "$2"
    fi
}
ok() { # ok NAME COMMAND...: holds when the command does; what it says is shown when it does not
    name=$1
    shift
    if out=$("$@" 2>&1); then check "$name" ""; else check "$name" "${out:-failed}"; fi
}

# ---- make install ----------------------------------------------------------------------------------------------------

ok 'make install' make -s B="$build" DESTDIR="$work/tree" PREFIX=/opt/gait SYSCONFDIR=/etc/opt install
check 'the installed files are not these' "$(diff <(cd "$work/tree" && find . -type f | sort) - <<'END'
./etc/opt/gait/gaitd.yaml
./etc/opt/gait/rules.yaml
./opt/gait/bin/gaitd
./opt/gait/lib/systemd/system/gaitd-train.service
./opt/gait/lib/systemd/system/gaitd-train.timer
./opt/gait/lib/systemd/system/gaitd.service
./opt/gait/lib/systemd/system/gaitd@.service
./opt/gait/lib/sysusers.d/gait.conf
./opt/gait/lib/tmpfiles.d/gait.conf
./opt/gait/share/doc/gaitd/METRICS.md
./opt/gait/share/doc/gaitd/README.md
./opt/gait/share/doc/gaitd/SECURITY.md
./opt/gait/share/doc/gaitd/gaitd.full.yaml
./opt/gait/share/doc/gaitd/tests.yaml
./opt/gait/share/gait/presets/ga4.yaml
./opt/gait/share/gait/presets/segment.yaml
./opt/gait/share/gait/presets/snowplow.yaml
./opt/gait/share/gait/schema/alert.json
./opt/gait/share/gait/schema/dead.json
./opt/gait/share/gait/schema/erased.json
./opt/gait/share/gait/schema/event.json
./opt/gait/share/gait/schema/score.json
./opt/gait/share/man/man5/gaitd.conf.5
./opt/gait/share/man/man7/gait-formats.7
./opt/gait/share/man/man8/gaitd.8
END
)"
check 'an installed file names a path of another prefix' "$(
    grep -rnE '/usr/(bin/gaitd|share/gait)|[^t]/etc/gait|^/etc/gait' "$work/tree/opt/gait/lib" "$work/tree/opt/gait/share/man")"
ok 'the installed configuration' "$work/tree/opt/gait/bin/gaitd" check -c "$work/tree/etc/opt/gait/gaitd.yaml"
echo '# mine' >>"$work/tree/etc/opt/gait/gaitd.yaml"
make -s B="$build" DESTDIR="$work/tree" PREFIX=/opt/gait SYSCONFDIR=/etc/opt install
check 'a second make install overwrote the configuration' "$(
    tail -1 "$work/tree/etc/opt/gait/gaitd.yaml" | grep -qx '# mine' || echo '  it did')"
make -s B="$build" DESTDIR="$work/tree" PREFIX=/opt/gait SYSCONFDIR=/etc/opt uninstall
check 'make uninstall left something behind' "$(cd "$work/tree" && find opt -type f)"

# ---- units -----------------------------------------------------------------------------------------------------------

mkdir "$work/units"
for unit in gaitd.service gaitd@.service gaitd-train.service gaitd-train.timer; do
    sed "s|/usr/bin/gaitd|$PWD/$build/gaitd|" "systemd/$unit" >"$work/units/$unit"
done
cp "$work/units/gaitd@.service" "$work/units/gaitd@1.service"
# The pages are not installed here, and that is not what is asked.
check 'systemd-analyze verify' "$(for unit in gaitd.service gaitd@1.service gaitd-train.service gaitd-train.timer; do
    systemd-analyze verify --man=no --recursive-errors=no "$work/units/$unit" 2>&1 | grep -F "gaitd"; done)"
for unit in gaitd.service gaitd@.service gaitd-train.service; do
    exposure=$(systemd-analyze security --offline=true "systemd/$unit" 2>&1 | sed -n 's/.*Overall exposure level.*: \([0-9.]*\) .*/\1/p')
    check "systemd-analyze security $unit: exposure above 2.0" "$(
        awk -v e="$exposure" 'BEGIN { if (e == "" || e > 2.0) print "  " e }')"
done
check 'gaitd@.service differs from gaitd.service in more than its name' "$(
    diff <(grep -v '^#' systemd/gaitd.service) <(grep -v '^#' systemd/gaitd@.service) | grep '^[<>]' |
        grep -vE '^[<>] Description=|RuntimeDirectory=|^> Environment=GAIT_INSTANCE=%i$')"
# What protects the system is the same for both.
hardening() { grep -E '^(Capability|Ambient|NoNew|Protect|Proc|Private|Device|Restrict|RemoveIPC|Lock|Memory|UMask|SystemCall)' "$1"; }
check 'gaitd-train.service is less protected than gaitd.service' "$(
    diff <(hardening systemd/gaitd.service) <(hardening systemd/gaitd-train.service))"
ok 'sysusers.d' systemd-sysusers --dry-run "$PWD/systemd/gait.sysusers"

# ---- the package -----------------------------------------------------------------------------------------------------

package=$(make -s B="$build" deb | tail -1)
check 'make deb' "$([ -f "$package" ] || echo '  there is no package')"
first=$(sha256sum <"$package")
check 'the same tree made another package' "$(make -s B="$build" deb >/dev/null; [ "$(sha256sum <"$package")" = "$first" ] ||
    echo '  the bytes differ')"
check 'lintian' "$(lintian --fail-on error --tag-display-limit 0 --allow-root "$package" 2>&1 | grep -E '^(E|W):')"

# Runs inside of the copy.
cat >"$work/inside.sh" <<'END'
set -eu
package=$1
clicks=$2
dpkg -i "$package"
getent passwd gait
test "$(stat -c %U:%G:%a /var/lib/gait)" = gait:gait:750
test "$(stat -c %U:%a /etc/gait/secrets)" = root:700
gaitd check -c /etc/gait/gaitd.yaml
MANPAGER=cat man -w gaitd gaitd.conf gait-formats
cat >/etc/gait/file.yaml <<'YAML'
source: {file: {paths: /var/lib/gait/clicks.jsonl}}
store: {memory: {snapshot: /var/lib/gait/snapshot}}
rule: {fraud: {rules: /etc/gait/rules.yaml}}
sink: {file: {alerts: "/var/lib/gait/alerts-{instance}.jsonl"}}
YAML
cp "$clicks" /var/lib/gait/clicks.jsonl
setpriv --reuid gait --regid gait --clear-groups env GAIT_INSTANCE=1 gaitd run -c /etc/gait/file.yaml
test -s /var/lib/gait/alerts-1.jsonl
echo '# mine' >>/etc/gait/rules.yaml
dpkg -i "$package" # an upgrade asks about nothing and keeps what was changed
tail -1 /etc/gait/rules.yaml | grep -qx '# mine'
rm /etc/gait/file.yaml
dpkg --purge gaitd
for left in /usr/bin/gaitd /etc/gait /var/lib/gait /lib/systemd/system/gaitd.service /usr/share/gait /usr/share/doc/gaitd; do
    if [ -e "$left" ]; then echo "purging left $left"; ls -la "$left"; exit 1; fi
done
END
"$build/gaitd" gen --users 300 --events 20000 --seed 3 --out "$work/clicks.jsonl"
cat >"$work/outside.sh" <<'END'
set -eu
mkdir "$1/over"
mount -t tmpfs gait "$1/over"
mkdir "$1/over/upper" "$1/over/work" "$1/over/root"
mount -t overlay gait -o "lowerdir=/,upperdir=$1/over/upper,workdir=$1/over/work" "$1/over/root"
mount --rbind /dev "$1/over/root/dev"
mount -t proc proc "$1/over/root/proc"
cp "$1/inside.sh" "$1/clicks.jsonl" "$2" "$1/over/root/root/"
chroot "$1/over/root" sh /root/inside.sh "/root/$(basename "$2")" /root/clicks.jsonl
END
if [ "$(id -u)" -eq 0 ]; then
    ok 'install, start, upgrade, purge' unshare --mount sh "$work/outside.sh" "$work" "$package"
else
    echo 'not root: the package was not installed'
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
