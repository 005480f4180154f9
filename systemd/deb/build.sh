#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build.sh - a Debian package from the installed tree, without debhelper. `make deb` calls it.
#   systemd/deb/build.sh [build]     the build directory; the package is written there, and its path printed
# SOURCE_DATE_EPOCH, or else the last commit's time, is the time of everything inside: the same tree gives the same bytes.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build}
here=systemd/deb
version=$(sed -n 's/^#define GAIT_VERSION "\(.*\)"/\1/p' include/gait/version.h)
architecture=$(dpkg --print-architecture)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
umask 022
work=$build/deb
tree=$work/tree
rm -rf "$work"
mkdir -p "$tree/DEBIAN" "$work/debian"

make -s B="$build" DESTDIR="$PWD/$tree" PREFIX=/usr SYSCONFDIR=/etc UNITDIR=/lib/systemd/system install
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$tree/usr/bin/gaitd"

# The libraries that the binary really needs, by the names and versions of this Debian.
printf 'Source: gaitd\n\nPackage: gaitd\nArchitecture: any\nDescription: x\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info tree/usr/bin/gaitd 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "build.sh: dpkg-shlibdeps found no libraries" >&2; exit 1; }

doc=$tree/usr/share/doc/gaitd
cp $here/copyright "$doc/copyright"
{
    printf 'gaitd (%s) unstable; urgency=medium\n\n  * The changes are in the commit log.\n\n' "$version"
    printf ' -- %s  %s\n' "$(sed -n 's/^Maintainer: //p' $here/control)" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.gz"
gzip -9n "$tree"/usr/share/man/man?/*

for script in postinst prerm postrm; do install -m 755 "$here/$script" "$tree/DEBIAN/$script"; done
(cd "$tree" && find etc -type f | sed 's|^|/|' | sort) >"$tree/DEBIAN/conffiles"
(cd "$tree" && find . -path ./DEBIAN -prune -o -type f -not -path './etc/*' -printf '%P\n' | sort | xargs md5sum) \
    >"$tree/DEBIAN/md5sums"
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" -e "s/@DEPENDS@/$depends/" \
    -e '/^#/d' $here/control >"$tree/DEBIAN/control"
find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

package=$build/gaitd_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$tree" "$package" >/dev/null
echo "$package"
