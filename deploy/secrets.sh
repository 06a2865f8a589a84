#!/usr/bin/env bash
# Makes .env of .env.example, with a random value for each secret. It changes
# nothing where .env is there. A folder to do it in can be given.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
[[ ! -e .env ]] || exit 0
umask 077
while IFS= read -r line; do
  [[ $line != [A-Z]*= ]] || line+=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
  printf '%s\n' "$line"
done <.env.example >.env.new
mv .env.new .env
echo "Made .env with new secrets."
