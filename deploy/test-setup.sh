#!/usr/bin/env bash
# Sets up what the tests need beside Go: the clients that others wrote, from npm,
# and a Chromium. It does nothing where everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

need() {
  command -v "$1" >/dev/null || { echo "test-setup: $1 is missing; install $2" >&2; exit 1; }
}
need node "Node.js 20 or later"
need npm "npm, which comes with Node.js"

for dir in warehouse/chdb/lib warehouse/chdb/e2e e2e/clients; do
  # npm writes this file last, so an installation that broke off is done again.
  done=$dir/node_modules/.package-lock.json
  if [[ ! -f $done || $dir/package-lock.json -nt $done ]]; then
    echo "test-setup: npm ci in $dir"
    npm ci --prefix "$dir" --no-audit --no-fund --loglevel=error
    touch "$done"
  fi
done

if ! command -v chromium >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "test-setup: the browser test needs a Chromium in the PATH by the name of chromium" >&2
    exit 1
  fi
  as_root=()
  if [[ $(id -u) -ne 0 ]]; then
    if ! sudo -n true 2>/dev/null; then
      echo "test-setup: the browser test needs Chromium; as root: apt-get install chromium" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  echo "test-setup: apt-get install chromium"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
