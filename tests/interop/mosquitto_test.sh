#!/usr/bin/env bash
# Tests a broker on a port of this machine with mosquitto_pub and mosquitto_sub: PORT [TRANSPORT DIRECTORY]. The
# transport is one of tcp, tls and certificate; the directory has the certificates.
set -uo pipefail

port=$1
transport=${2:-tcp}
security=()
[ "$transport" = tcp ] || security=(--cafile "$3/ca.crt")
[ "$transport" != certificate ] || security+=(--cert "$3/client.crt" --key "$3/client.key")
work=$(mktemp -d)
# Twentieths of a second; what takes longer has failed.
patience=600

trap 'jobs -p | xargs -r kill -KILL 2>/dev/null; rm -rf "$work"' EXIT

pub() { mosquitto_pub -h localhost -p "$port" "${security[@]}" -V "$version" "$@"; }

# collect FLAG...: subscribes and prints messages until all requested ones have come.
collect() { mosquitto_sub -h localhost -p "$port" "${security[@]}" -V "$version" -W 30 "$@"; }

# sub NAME FLAG...: subscribes in the background and waits for the SUBACK. $work/NAME gets the messages as `message QOS
# RETAIN TOPIC PAYLOAD`, between the output of the client itself.
sub() {
    local name=$1
    shift
    # The output of an earlier client of this name must not be taken for that of this one.
    rm -f "$work/$name"
    stdbuf -oL mosquitto_sub -h localhost -p "$port" "${security[@]}" -V "$version" -W 30 -d \
        -F 'message %q %r %t %p' "$@" >"$work/$name" 2>&1 &
    subscriber=$!
    wait_for "$name" '^Subscribed '
}

# wait_for NAME PATTERN: waits until a line of $work/NAME matches.
wait_for() {
    local round
    for ((round = 0; round < patience; round++)); do
        grep -q -- "$2" "$work/$1" 2>/dev/null && return
        sleep 0.05
    done
    echo "no $2 in $1"
    return 1
}

# The messages in $work/NAME.
messages() { sed -n 's/^message //p' "$work/$1"; }

# same WHAT EXPECTED SEEN
same() {
    [ "$2" = "$3" ] && return
    echo "$1: $(printf %q "$3") instead of $(printf %q "$2")"
    return 1
}

qos() {
    local level=$1
    sub qos -q "$level" -t "$topic/+" -C 3 || return
    printf '%s\n' one two three | pub -q "$level" -t "$topic/a" -l || return
    wait "$subscriber"
    same messages "$(printf "$level 0 $topic/a %s\n" one two three)" "$(messages qos)"
}

retained() {
    local payload
    for payload in on off; do
        pub -q 1 -r -t "$topic" -m "$payload" || return
        sub retained -q 1 -t "$topic" -C 1 || return
        wait "$subscriber"
        same "$payload" "1 1 $topic $payload" "$(messages retained)" || return
    done
    pub -q 1 -r -n -t "$topic" || return
    sub cleared -q 1 -t "$topic" -t "$topic/end" -C 1 || return
    pub -q 1 -t "$topic/end" -m end || return
    wait "$subscriber"
    same cleared "1 0 $topic/end end" "$(messages cleared)"
}

will() {
    local watcher device
    sub watcher -q 2 -t "$topic" -C 2 || return
    watcher=$subscriber
    sub device -t "$topic/none" --will-topic "$topic" --will-qos 2 --will-payload gone || return
    device=$subscriber
    pub -q 2 -t "$topic" -m there || return
    # Killed, so that it sends no DISCONNECT, and disowned, so that the shell does not report it.
    disown "$device"
    kill -KILL "$device"
    wait "$watcher"
    same messages "$(printf "2 0 $topic %s\n" there gone)" "$(messages watcher)"
}

persistent_session() {
    local flags=(-c -i "s-$transport-$version" -q 1 -t "$topic")
    [ "$version" != mqttv5 ] || flags+=(-x 3600)
    sub asleep "${flags[@]}" -E || return
    wait "$subscriber"
    seq 20 | pub -q 1 -t "$topic" -l || return
    # The messages come before the subscription is granted again.
    collect -F 'message %q %r %t %p' "${flags[@]}" -C 20 >"$work/awake" || return
    same messages "$(seq -f "1 0 $topic %g" 20)" "$(messages awake)"
}

shared_subscription() {
    local name members=() sizes
    for name in one two; do
        sub "$name" -q 1 -t "\$share/group/$topic" -t "$topic/end" || return
        members+=("$subscriber")
    done
    seq 60 | pub -q 1 -t "$topic" -l || return
    pub -q 1 -t "$topic/end" -m end || return
    for name in one two; do
        wait_for "$name" "^message 1 0 $topic/end end" || return
    done
    kill "${members[@]}"
    wait "${members[@]}"
    sizes="$(messages one | wc -l) and $(messages two | wc -l)"
    same "all of them ($sizes)" "$(seq 60)" \
        "$({ messages one; messages two; } | sed -n "s|^1 0 $topic ||p" | sort -n)" || return
    case " $sizes " in
        *" 1 "* | *" 61 "*) echo "one member has got all ($sizes)"; return 1 ;;
    esac
}

large_payload() {
    local level
    head -c 1048576 /dev/urandom >"$work/large"
    for level in 0 1 2; do
        pub -q "$level" -r -t "$topic" -f "$work/large" || return
        collect -q "$level" -t "$topic" -C 1 -N >"$work/received" || return
        cmp "$work/large" "$work/received" || return
    done
    pub -q 1 -r -n -t "$topic"
}

# try NAME FUNCTION ARGUMENT...
try() {
    local name=$1 why
    shift
    number=$((number + 1))
    topic=mosquitto/$transport/$version/$number
    # Into a file and not by $(...), which would wait for everything left in the background.
    if "$@" >"$work/why" 2>&1; then
        echo "ok mosquitto $transport $shown $name"
    else
        why=$(tr '\n' ' ' <"$work/why")
        echo "FAILED mosquitto $transport $shown $name: $why"
    fi
}

number=0
for version in mqttv31 mqttv311 mqttv5; do
    case $version in
        mqttv31) shown=3.1 ;;
        mqttv311) shown=3.1.1 ;;
        mqttv5) shown=5.0 ;;
    esac
    try "QoS 0" qos 0
    try "QoS 1" qos 1
    try "QoS 2" qos 2
    try "retained" retained
    try "will" will
    try "persistent session" persistent_session
    try "shared subscription" shared_subscription
    try "large payload" large_payload
done
