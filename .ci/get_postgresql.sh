#!/usr/bin/env bash
# A real PostgreSQL for tests: Debian's, and what it needs, unpacked into a folder. No root, no service.
# Where the machine has one already, that one is used, unless a folder is given.
set -euo pipefail
cd "$(dirname "$0")/.."
TARGET=${1:-.postgresql}

compgen -G "$TARGET/usr/lib/postgresql/*/bin/postgres" > /dev/null && exit 0
[ $# != 0 ] || ! compgen -G "/usr/lib/postgresql/*/bin/postgres" > /dev/null || exit 0
command -v apt-get > /dev/null || { echo "no apt-get here" >&2; exit 1; }
[ "$(id -u)" != 0 ] || apt-get update -qq || true   # a list of packages that is there already may do
SERVER=$(apt-cache depends postgresql | awk '/Depends: postgresql-[0-9]+$/ { print $2; exit }')
DEBS=$(mktemp -d)
trap 'rm -rf "$DEBS"' EXIT
# Without what compiles expressions: tests switch that off.
NAMES=$(apt-get install --simulate --reinstall --no-install-recommends "$SERVER" |
    awk '/^Inst/ && $2 !~ /^(libllvm|libz3)/ { print $2 }')
(cd "$DEBS" && echo "$NAMES" | xargs apt-get download -qq -o APT::Sandbox::User=root)
rm -rf "$TARGET.partial"
mkdir -p "$TARGET.partial"
for deb in "$DEBS"/*.deb; do dpkg -x "$deb" "$TARGET.partial"; done
mv "$TARGET.partial" "$TARGET"
