#!/usr/bin/env bash
# Password files of mosquitto_passwd with brooklet, those of `brooklet passwd` with mosquitto, and access rules.
set -uo pipefail

brooklet=${CARGO_TARGET_DIR:-target}/debug/brooklet
work=$(mktemp -d)
chmod 755 "$work"
version=5
broker=

finish() {
    [ -z "$broker" ] || kill -KILL "$broker" 2>/dev/null
    rm -rf "$work"
}
trap finish EXIT

# serve PROGRAM...: starts a broker with $work/conf on a port of its own; sets $port.
serve() {
    local round
    for ((round = 0; round < 20; round++)); do
        port=$((20000 + RANDOM % 20000))
        # The user who started this owns the files and goes on reading them.
        printf 'listener %s 127.0.0.1\nuser root\nallow_anonymous false\npassword_file %s\n%s\n' \
            "$port" "$work/users" "${rules:+acl_file $rules}" >"$work/conf"
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

# may USER PASSWORD: whether the broker accepts this user.
may() { mosquitto_pub -h 127.0.0.1 -p "$port" -V "$version" -u "$1" -P "$2" -i "try-$RANDOM" -q 1 -t t -m m >/dev/null 2>&1; }

# let_in USER PASSWORD...: checks that these are accepted, and refused with other passwords.
let_in() {
    while [ $# -gt 0 ]; do
        may "$1" "$2" || { echo "$1 is not let in"; return 1; }
        may "$1" "$2x" && { echo "$1 is let in with another password"; return 1; }
        shift 2
    done
    may nobody nothing && { echo "nobody is let in"; return 1; }
    return 0
}

theirs_here() {
    mosquitto_passwd -c -b "$work/users" ann pencil && mosquitto_passwd -b -H sha512 "$work/users" bob eraser || return
    serve "$brooklet" && let_in ann pencil bob eraser
}

plain_theirs_here() {
    printf 'ann:pencil\nbob:eraser\n' >"$work/users"
    mosquitto_passwd -U "$work/users" && serve "$brooklet" && let_in ann pencil bob eraser
}

ours_there() {
    "$brooklet" passwd -c -b "$work/users" ann pencil && "$brooklet" passwd -b -H sha512 "$work/users" bob eraser &&
        "$brooklet" passwd -b "$work/users" cay gone && "$brooklet" passwd -D "$work/users" cay || return
    serve mosquitto && let_in ann pencil bob eraser
}

ours_here() {
    "$brooklet" passwd -c -b -H argon2id "$work/users" ann pencil &&
        "$brooklet" passwd -b -H scram-sha-256 "$work/users" bob eraser &&
        "$brooklet" passwd -b -I 2 "$work/users" cay 'ink well' || return
    serve "$brooklet" && let_in ann pencil bob eraser cay 'ink well'
}

# Python has everything that it needs; its own lines are the result.
scram() {
    "$brooklet" passwd -c -b -H scram-sha-256 "$work/users" bob eraser && serve "$brooklet" || return
    python3 tests/interop/scram_test.py "$port" >"$work/scram" || return
    ! grep FAILED "$work/scram"
}

changed_on_hangup() {
    "$brooklet" passwd -c -b "$work/users" ann pencil && serve "$brooklet" && let_in ann pencil || return
    "$brooklet" passwd -b "$work/users" ann eraser && kill -HUP "$broker"
    for _ in $(seq 100); do
        may ann eraser && break
        sleep 0.05
    done
    let_in ann eraser || return
    echo "ann:plain" >"$work/users" && kill -HUP "$broker"
    for _ in $(seq 100); do
        grep -q "stays as it was" "$work/log" && break
        sleep 0.05
    done
    let_in ann eraser
}

rules() {
    local heard
    printf 'user ann\ntopic write a/#\nuser bob\ntopic read a/+\ntopic deny a/secret\n' >"$work/acl"
    rules=$work/acl
    "$brooklet" passwd -c -b "$work/users" ann pencil && "$brooklet" passwd -b "$work/users" bob eraser || return
    serve "$brooklet" || return
    rm -f "$work/heard"
    mosquitto_sub -h 127.0.0.1 -p "$port" -V "$version" -u bob -P eraser -q 1 -t 'a/#' -C 2 -W 30 >"$work/heard" &
    heard=$!
    for _ in $(seq 100); do
        mosquitto_pub -h 127.0.0.1 -p "$port" -V "$version" -u ann -P pencil -q 1 -t a/begin -m begin
        grep -qs begin "$work/heard" && break
        sleep 0.05
    done
    for topic in a/secret b/c a/end; do
        mosquitto_pub -h 127.0.0.1 -p "$port" -V "$version" -u ann -P pencil -q 1 -t "$topic" -m "$topic" 2>/dev/null
    done
    wait "$heard"
    rules=
    [ "$(tail -n 1 "$work/heard")" = a/end ] || { echo "heard $(tr '\n' ' ' <"$work/heard")"; return 1; }
}

rules=
for case in theirs_here plain_theirs_here ours_there ours_here scram changed_on_hangup rules; do
    rm -f "$work/users"
    if why=$("$case" 2>&1; status=$?; [ -z "$broker" ] || stop; exit $status); then
        echo "ok passwords $version $case"
    else
        echo "FAILED passwords $version $case: $(echo "$why" | tr '\n' ' ')"
    fi
done
