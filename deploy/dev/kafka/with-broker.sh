#!/usr/bin/env bash
# Runs a command with a Kafka broker of its own, which is gone afterwards:
#
#   with-broker.sh COMMAND…
#
# The command finds its address in KAFKA_ADDRESS and SOJOURN_TEST_KAFKA_ADDRESS. The broker takes three ports from
# KAFKA_PORT (default: 19092) on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export KAFKA_JARS=${KAFKA_JARS:-$here/run/jars}
export KAFKA_PORT=${KAFKA_PORT:-19092}
KAFKA_DIR=$(mktemp -d)
export KAFKA_DIR
trap '"$here/broker.sh" wipe; rm -rf "$KAFKA_DIR"' EXIT
"$here/broker.sh" up >&2
export KAFKA_ADDRESS=127.0.0.1:$KAFKA_PORT SOJOURN_TEST_KAFKA_ADDRESS=127.0.0.1:$KAFKA_PORT
"$@"
