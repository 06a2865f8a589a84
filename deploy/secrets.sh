#!/usr/bin/env bash
# Makes .env of .env.example, with a random value for each secret; to a .env that is
# there it adds the secrets that it lacks, and changes none. A folder to do it in can
# be given.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
umask 077

secret() {
  case $1 in
  SOJOURN_SECRET_KEY) head -c 32 /dev/urandom | base64 | tr -d '\n' ;;
  *) od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n' ;;
  esac
}

rm -f .env.new
if [[ ! -e .env ]]; then
  while IFS= read -r line; do
    [[ $line != [A-Z]*= ]] || line+=$(secret "${line%=}")
    printf '%s\n' "$line"
  done <.env.example >.env.new
  echo "Made .env with new secrets."
else
  cat .env >.env.new
  while IFS= read -r line; do
    if [[ $line == [A-Z]*= ]] && ! grep -q "^$line" .env; then
      printf '\n%s\n' "$line$(secret "${line%=}")" >>.env.new
      echo "Added ${line%=} to .env."
    fi
  done <.env.example
fi
mv .env.new .env
