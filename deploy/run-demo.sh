#!/usr/bin/env bash
# Starts Sojourn on ./data, fills it at the first time with the history of a demo
# shop through its own API, prints what to try, and stays until Ctrl-C. Settings
# come from the environment, as for sojourn serve; DEMO_CUSTOMERS and DEMO_DAYS
# say how large the shop is.
set -euo pipefail
# Job control gives each child a process group of its own: the Ctrl-C of a
# terminal reaches this script alone, which then asks the children to stop, once.
set -m
cd "$(dirname "$0")/.."

sojourn=${SOJOURN_BINARY:-bin/sojourn}
unset SOJOURN_BINARY
export SOJOURN_DATA=${SOJOURN_DATA:-./data}
data=$SOJOURN_DATA
sent=$data/demo-sent # made when the shop's history has been sent
end=$data/demo-end   # the day before which it ends, so that it can be sent again

# A directory with a log but no demo is somebody's own: nothing is added to it.
own=
if [[ ! -s $end ]]; then
  if [[ -e $data/log ]]; then
    own=yes
  else
    mkdir -p -m 700 "$data"
    date -u +%F >"$end"
  fi
fi

greeting=$(mktemp)
server='' demo='' status=0
# stop ends with the server's status, or with the one given.
stop() {
  trap '' INT TERM HUP
  if [[ -n $demo ]] && kill -TERM "$demo" 2>/dev/null; then
    wait "$demo" || true
  fi
  if [[ -n $server ]]; then
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" || status=$?
  fi
  rm -f "$greeting"
  exit "${1:-$status}"
}
trap stop INT TERM HUP

"$sojourn" serve >"$greeting" &
server=$!
until grep -q '^Try:' "$greeting"; do
  if ! kill -0 "$server" 2>/dev/null; then
    stop # it has said why
  fi
  sleep 0.1
done
line() { sed -n "s/^  $1 *\([^ ]*\).*/\1/p" "$greeting"; }
url=$(line Address)
clickhouse=$(line ClickHouse)
token=${SOJOURN_ADMIN_TOKEN:-$(cat "$data/admin-token")}

if [[ -z $own && ! -e $sent ]]; then
  echo "Sending the history of a demo shop …"
  "$sojourn" demo --server "$url" --end "$(cat "$end")" \
    --customers "${DEMO_CUSTOMERS:-2000}" --days "${DEMO_DAYS:-365}" &
  demo=$!
  if ! wait "$demo"; then
    stop 1 # it has said why; the next run goes on
  fi
  demo=''
  touch "$sent"
fi

cat <<EOF

Sojourn is ready.

  Address      $url
  Admin token  $token

Try, in another terminal:
  curl -s -H 'Authorization: Bearer $token' '$url/api/v1/stages?as_of=$(date -u -d '90 days ago' +%F 2>/dev/null || date -u -v-90d +%F)'
  curl -s -H 'Authorization: Bearer $token' '$url/api/v1/customers?stage=at_risk&limit=3'
EOF
if [[ -n $clickhouse ]]; then
  echo "  curl -s '$clickhouse/?query=SELECT+name,meaning,count()+FROM+touchpoints+GROUP+BY+ALL+ORDER+BY+3+DESC'"
else
  echo "  $sojourn tail --data $data"
fi
printf '\nCtrl-C stops it; the data stays in %s.\n' "$data"

# Until the server ends by itself, or a signal comes.
wait "$server" || true
stop
