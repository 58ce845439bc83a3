#!/usr/bin/env bash
# A mosquitto that bridges to brooklet with the default settings of a bridge: it tries to be recognized as a bridge,
# and publishes at the other end whether it is connected.
set -uo pipefail

brooklet=${CARGO_TARGET_DIR:-target}/debug/brooklet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Twentieths of a second.
patience=400

# until_there COMMAND...: waits until it succeeds.
until_there() {
    for ((round = 0; round < patience; round++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "in vain: $*"
    return 1
}

# serve NAME PROGRAM...: starts a broker with $work/NAME.conf, whose port is in the first line.
serve() {
    local name=$1
    shift
    "$@" -c "$work/$name.conf" >"$work/$name.log" 2>&1 &
    until_there grep -q ' running$' "$work/$name.log"
}

# passes FROM TO TOPIC TOPIC_THERE: whether a message published at one port arrives at the other.
passes() {
    # What an earlier one has heard is not heard again.
    rm -f "$work/heard"
    stdbuf -oL mosquitto_sub -p "$2" -q 1 -t "$4" -C 1 -W 20 -d >"$work/heard" 2>&1 &
    local heard=$!
    until_there grep -q SUBACK "$work/heard" && mosquitto_pub -p "$1" -q 1 -t "$3" -m told && wait "$heard" &&
        [ "$(grep -c '^told$' "$work/heard")" = 1 ]
}

state() { mosquitto_sub -p "$near" -t '$SYS/broker/connection/edge.up/state' -C 1 -W 1 | grep -qx "$1"; }

bridge() {
    near=$((20000 + RANDOM % 6000)) far=$((26000 + RANDOM % 6000))
    printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$near" >"$work/near.conf"
    printf 'listener %s 127.0.0.1\nallow_anonymous true\nconnection up\naddress 127.0.0.1:%s\nremote_clientid edge.up\n%s\n%s\n' \
        "$far" "$near" "topic # both 1 here/ there/" "restart_timeout 1
bridge_protocol_version $1" >"$work/far.conf"
    serve near "$brooklet" && near_process=$! && serve far mosquitto && far_process=$! &&
        until_there state 1 && passes "$far" "$near" here/a there/a && passes "$near" "$far" there/b here/b || return
    kill -TERM "$far_process" && wait "$far_process"
    until_there state 0 || return
    kill -TERM "$near_process" && wait "$near_process"
}

for version in mqttv311 mqttv50; do
    if why=$(trap "jobs -p | xargs -r kill -KILL 2>/dev/null" EXIT; bridge "$version" 2>&1); then
        echo "ok bridge $version is accepted and publishes its state"
    else
        echo "FAILED bridge $version is accepted and publishes its state: $(echo "$why" | tr '\n' ' ')"
    fi
done
