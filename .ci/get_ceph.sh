#!/usr/bin/env bash
# A real S3 server for tests: Debian's Ceph RADOS Gateway and what it needs, unpacked into a folder. No root, no service.
set -euo pipefail
cd "$(dirname "$0")/.."
PACKAGES="radosgw ceph-mon ceph-osd"
TARGET=${1:-.ceph}

[ -x "$TARGET/usr/bin/radosgw" ] && exit 0
command -v apt-get > /dev/null || { echo "no apt-get here: tests on a real S3 server will be skipped" >&2; exit 0; }
[ "$(id -u)" != 0 ] || apt-get update -qq || true   # a list of packages that is there already may do
DEBS=$(mktemp -d)
trap 'rm -rf "$DEBS"' EXIT
# shellcheck disable=SC2086 # a list of names
NAMES=$(apt-get install --simulate --no-install-recommends $PACKAGES | awk '/^Inst/ { print $2 }')
(cd "$DEBS" && echo "$NAMES" | xargs apt-get download -qq -o APT::Sandbox::User=root)
mkdir -p "$TARGET.partial"
for deb in "$DEBS"/*.deb; do dpkg -x "$deb" "$TARGET.partial"; done
mv "$TARGET.partial" "$TARGET"
