#!/usr/bin/env bash
# Imports the state of a mosquitto into brooklet: its clients find their sessions and messages, and the retained
# messages.
set -uo pipefail

brooklet=${CARGO_TARGET_DIR:-target}/debug/brooklet
work=$(mktemp -d)
chmod 755 "$work"
broker=

finish() {
    [ -z "$broker" ] || kill -KILL "$broker" 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

# serve NAME PROGRAM...: starts a broker on a port of its own that stores its state in $work/NAME; sets $port.
serve() {
    local round place=$work/$1
    shift
    mkdir -p "$place"
    for ((round = 0; round < 20; round++)); do
        port=$((20000 + RANDOM % 20000))
        printf '%s\n' "listener $port 127.0.0.1" 'user root' 'allow_anonymous true' 'persistence true' \
            "persistence_location $place/" 'queue_qos0_messages true' >"$work/conf"
        "$@" -c "$work/conf" >"$work/log" 2>&1 &
        broker=$!
        for _ in $(seq 100); do
            grep -q "running" "$work/log" && return
            kill -0 "$broker" 2>/dev/null || break
            sleep 0.05
        done
        wait "$broker"
    done
    cat "$work/log"
    return 1
}

stop() {
    kill -TERM "$broker"
    wait "$broker"
    broker=
}

publish() { mosquitto_pub -h 127.0.0.1 -p "$port" -V 5 "$@"; }

# hear CLIENT COUNT OPTION...: prints COUNT messages that a client receives.
hear() {
    local client=$1 count=$2
    shift 2
    mosquitto_sub -h 127.0.0.1 -p "$port" -i "$client" -C "$count" -W 20 "$@"
}

# same WHAT EXPECTED HEARD
same() { [ "$2" = "$3" ] || { echo "$1: expected $(echo "$2" | tr '\n' '|') heard $(echo "$3" | tr '\n' '|')"; return 1; }; }

# wake CLIENT COUNT OPTION...: the same for queued messages of a client. It subscribes to a topic with a retained
# message, which comes after the SUBACK as well: a client that left before it had read its SUBACK would reset the
# connection, and its system discard the acknowledgements that it has not sent yet.
wake() {
    local client=$1 count=$2
    shift 2
    publish -q 1 -r -t last -m 'the last' || return
    hear "$client" "$((count + 1))" -t last "$@" | grep -v 'the last'
}

# The state for all cases: stored by mosquitto, which has ended, and imported into $work/ours.
take_over() {
    local qos
    serve theirs mosquitto || return
    for qos in 0 1 2; do publish -q "$qos" -r -t "kept/$qos" -m "retained $qos" || return; done
    publish -q 1 -r -t kept/5 -m props -D publish content-type text/plain -D publish user-property name value \
        -D publish response-topic re/ply -D publish correlation-data corr -D publish message-expiry-interval 1000 || return
    mosquitto_sub -h 127.0.0.1 -p "$port" -V 311 -i old -c -q 1 -t 'wait/#' -E || return
    mosquitto_sub -h 127.0.0.1 -p "$port" -V 5 -i new -c -x 3600 -q 2 -t 'wait/#' -E \
        -D subscribe subscription-identifier 7 || return
    for number in 1 2 3 4 5 6; do
        publish -q $((number % 2 + 1)) -t "wait/$number" -m "message $number" || return
    done
    publish -q 1 -t wait/gone -m gone -D publish message-expiry-interval 1 || return
    stop
    sleep 1.1
    "$brooklet" import --to "$work" "$work/theirs/mosquitto.db" >"$work/said" || return
    mkdir -p "$work/ours" && mv "$work/brooklet.db" "$work/ours/"
}

tells_what_it_brought() {
    for line in '4 retained messages' '2 sessions' '2 subscriptions' '12 queued messages' \
        '2 messages whose Message Expiry Interval'; do
        grep -q " $line" "$work/said" || { cat "$work/said"; return 1; }
    done
}

# refused WHY: whether another import is refused with these words.
refused() {
    local said
    said=$("$brooklet" import -c "$work/conf" "$work/theirs/mosquitto.db" 2>&1) && { echo "not refused: $said"; return 1; }
    case $said in
        *"$1"*) ;;
        *) echo "expected '$1' in '$said'"; return 1 ;;
    esac
}

only_once() {
    serve ours "$brooklet" && refused 'another broker' || return
    stop
    refused 'is not empty'
}

retained_messages() {
    serve ours "$brooklet" || return
    same retained "$(printf 'kept/0 0 1 retained 0\nkept/1 1 1 retained 1\nkept/2 2 1 retained 2')" \
        "$(hear any 3 -V 311 -q 2 -t kept/0 -t kept/1 -t kept/2 -F '%t %q %r %p' | sort)" || return
    same properties 'props text/plain name:value re/ply corr' "$(hear any 1 -V 5 -q 2 -t kept/5 -F '%p %C %P %R %D')"
}

queued_messages() {
    serve ours "$brooklet" || return
    publish -q 2 -t wait/7 -m 'message 7' || return
    same old "$(for number in 1 2 3 4 5 6 7; do echo "1 message $number"; done)" \
        "$(wake old 7 -V 311 -c -q 1 -F '%q %p')" || return
    # A message of QoS 2 is shown when it is released, and so after others.
    same new "$(for number in 1 2 3 4 5 6 7; do echo "message $number $((number % 2 + 1)) 7"; done)" \
        "$(wake new 7 -V 5 -c -x 3600 -q 2 -F '%p %q %S' | sort)" || return
    stop
    serve ours "$brooklet" || return
    # Delivered messages are done, and the subscriptions stay.
    publish -q 1 -t wait/8 -m 'message 8' || return
    same again 'message 8' "$(wake old 1 -V 311 -c -q 1 -F '%p')"
}

if ! why=$(take_over 2>&1); then
    echo "FAILED import - imports the state of mosquitto: $(echo "$why" | tr '\n' ' ')"
    exit
fi
for case in tells_what_it_brought retained_messages queued_messages only_once; do
    if why=$("$case" 2>&1; status=$?; [ -z "$broker" ] || stop; exit $status); then
        echo "ok import $case"
    else
        echo "FAILED import $case: $(echo "$why" | tr '\n' ' ')"
    fi
done
