#!/usr/bin/env bash
# Runs every fuzz test for the time given (default 60s), one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
for_each=${1:-60s}

# A line for each: its package's folder and its name.
grep -rEo --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[A-Za-z0-9_]+' . |
  sed -E 's|/[^/]*_test\.go:func | |' | sort |
  while read -r dir name; do
    echo "== $name in $dir, $for_each"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$for_each" "$dir" </dev/null
  done
