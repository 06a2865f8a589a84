#!/usr/bin/env bash
# A Kafka broker for development and tests: one process, KRaft, loopback only, no
# fsync and no replica. It needs Java 17 and Maven, which brings the jars.
#
#   broker.sh up      bring the jars, format the storage where it is new, start
#   broker.sh down    stop, and keep the data
#   broker.sh kill    kill -9, and keep the data
#   broker.sh wipe    stop, and delete the data
#   broker.sh status  say whether it runs
#   broker.sh jars    bring the jars, and print their folder
#
# KAFKA_DIR is where everything is (default: run beside this script), KAFKA_PORT
# the port (default: 9092; the next one is the controller's, the one behind that
# asks for SASL: PLAIN, SCRAM or an unsigned OAUTHBEARER token, user sojourn,
# password secret).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${KAFKA_DIR:-$here/run}
port=${KAFKA_PORT:-9092}
jars=${KAFKA_JARS:-$here/run/jars}
config=$dir/server.properties
log=$dir/broker.log

die() { echo "kafka: $*" >&2; exit 1; }

# pid prints the id of the broker that this script started, if it runs.
pid() {
  local id
  id=$(cat "$dir/pid" 2>/dev/null) || return 1
  # The id may be another process's by now.
  tr '\0' '\n' <"/proc/$id/cmdline" 2>/dev/null | grep -qxF -- "$config" || return 1
  # One that was killed and not waited for yet runs no more.
  ! grep -q '^State:[[:space:]]*Z' "/proc/$id/status" 2>/dev/null || return 1
  echo "$id"
}

bring() {
  if [[ -f $jars/.done && ! $here/pom.xml -nt $jars/.done ]]; then return; fi
  command -v mvn >/dev/null || die "mvn is missing; install Maven"
  echo "kafka: bringing the jars with Maven"
  mkdir -p "$jars"
  rm -f "$jars"/*.jar
  mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars"
  touch "$jars/.done"
}

configure() {
  cat >"$config" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1)),SASL://127.0.0.1:$((port + 2))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_sojourn="secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
log.dirs=$dir/data
auto.create.topics.enable=false
num.partitions=3
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
END
}

java_run() {
  java -Xms256m -Xmx512m -XX:+UseG1GC -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG_LEVEL:-info}" -cp "$jars/*" "$@"
}

up() {
  if pid >/dev/null; then echo "kafka: runs at 127.0.0.1:$port"; return; fi
  command -v java >/dev/null || die "java is missing; install Java 17 or later"
  mkdir -p "$dir"
  bring
  configure
  if [[ ! -f $dir/data/meta.properties ]]; then
    java_run kafka.tools.StorageTool format --ignore-formatted -t 5jnVbQ4rQyqAbcdefGHIJw -c "$config" \
      --add-scram 'SCRAM-SHA-256=[name=sojourn,password=secret]' \
      --add-scram 'SCRAM-SHA-512=[name=sojourn,password=secret]' >"$log" 2>&1 || { cat "$log" >&2; die "the storage could not be formatted"; }
  fi
  : >"$log"
  # In a session of its own: Ctrl-C at the terminal is not meant for it.
  setsid java -Xms256m -Xmx512m -XX:+UseG1GC -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG_LEVEL:-info}" -cp "$jars/*" \
    kafka.Kafka "$config" >>"$log" 2>&1 </dev/null &
  local id=$!
  echo "$id" >"$dir/pid"
  for _ in $(seq 600); do
    if grep -q 'Kafka Server started' "$log"; then
      echo "kafka: runs at 127.0.0.1:$port, with SASL at 127.0.0.1:$((port + 2)); log $log"
      return
    fi
    kill -0 "$id" 2>/dev/null || { tail -n 30 "$log" >&2; die "the broker ended"; }
    sleep 0.1
  done
  tail -n 30 "$log" >&2
  end KILL
  die "the broker was not up within a minute"
}

# end sends a signal and waits until the broker is gone.
end() {
  local id
  id=$(pid) || { rm -f "$dir/pid"; return 0; }
  kill -s "$1" "$id"
  for _ in $(seq 300); do
    if ! pid >/dev/null; then
      rm -f "$dir/pid"
      return 0
    fi
    sleep 0.1
  done
  kill -s KILL "$id"
  rm -f "$dir/pid"
}

case ${1:-} in
up) up ;;
down) end TERM ;;
kill) end KILL ;;
wipe)
  end TERM
  rm -rf "$dir/data" "$log" "$config"
  ;;
status) if id=$(pid); then echo "kafka: runs at 127.0.0.1:$port, process $id"; else echo "kafka: does not run"; exit 1; fi ;;
jars) bring >&2 && echo "$jars" ;;
*) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
