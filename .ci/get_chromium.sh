#!/usr/bin/env bash
# A browser for tests of what people see: Debian's Chromium. Needs root; without, or elsewhere, those tests are skipped.
set -euo pipefail
command -v chromium > /dev/null && exit 0
command -v apt-get > /dev/null || { echo "no apt-get here" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "only root can install chromium" >&2; exit 1; }
apt-get update -qq || true   # a list of packages that is there already may do
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null
