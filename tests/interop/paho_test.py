"""Tests a broker on a port of this machine with Python's paho-mqtt: PORT [TRANSPORT DIRECTORY]. The transport is one of
tcp, tls, certificate, ws and wss; the directory has the certificates."""

import queue
import socket
import sys
import traceback

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
# Seconds; what takes longer has failed.
PATIENCE = 30


class Client:
    """A connected client. Leaving its `with` disconnects it."""

    def __init__(self, version, name, persistent=False, will=None):
        is_v5 = version == "5.0"
        options = {} if is_v5 else {"clean_session": not persistent}
        self.messages = queue.Queue()
        self._connected, self._subscribed = queue.Queue(), queue.Queue()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            # At most the 23 characters of 3.1.
            client_id=f"p-{TRANSPORT[:4]}-{version}-{name}",
            transport="websockets" if TRANSPORT in ("ws", "wss") else "tcp",
            protocol=VERSIONS[version],
            reconnect_on_failure=False,
            **options,
        )
        self._client.on_connect = lambda _c, _u, flags, code, _p: self._connected.put((flags, code))
        self._client.on_message = lambda _c, _u, message: self.messages.put(message)
        self._client.on_subscribe = lambda _c, _u, _m, codes, _p: self._subscribed.put(codes)
        if TRANSPORT in ("tls", "certificate", "wss"):
            shown = {}
            if TRANSPORT == "certificate":
                shown = {"certfile": f"{DIRECTORY}/client.crt", "keyfile": f"{DIRECTORY}/client.key"}
            self._client.tls_set(ca_certs=f"{DIRECTORY}/ca.crt", **shown)
        if will:
            self._client.will_set(*will)
        options = {}
        if is_v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if persistent else 0
            options = {"clean_start": not persistent, "properties": properties}
        self._client.connect("127.0.0.1", PORT, **options)
        self._client.loop_start()
        flags, code = self._connected.get(timeout=PATIENCE)
        assert not code.is_failure, f"CONNACK says {code}"
        self.session_present = flags.session_present

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic, qos):
        self._client.subscribe(topic, qos)
        codes = self._subscribed.get(timeout=PATIENCE)
        assert [code.value for code in codes] == [qos], f"SUBACK says {codes}"

    def publish(self, topic, payload, qos, retain=False):
        published = self._client.publish(topic, payload, qos, retain)
        published.wait_for_publish(PATIENCE)
        assert published.is_published(), f"QoS {qos} is not acknowledged"

    def receive(self):
        return self.messages.get(timeout=PATIENCE)

    def receive_until(self, topic):
        """The messages up to the first one of this topic, which is left out."""
        messages = []
        while (message := self.receive()).topic != topic:
            messages.append(message)
        return messages

    def break_off(self):
        connection = self._client.socket()
        # With WebSocket, it is only a wrapper.
        getattr(connection, "_socket", connection).shutdown(socket.SHUT_RDWR)


def qos(level):
    def case(version, topic):
        with Client(version, "sub") as subscriber, Client(version, "pub") as publisher:
            subscriber.subscribe(f"{topic}/+", level)
            for number in range(10):
                publisher.publish(f"{topic}/a", str(number), level)
            for number in range(10):
                message = subscriber.receive()
                seen = (message.topic, message.payload, message.qos, message.retain)
                assert seen == (f"{topic}/a", b"%d" % number, level, False), seen

    return case


def retained(version, topic):
    with Client(version, "pub") as publisher:
        for payload, expected in (("on", [b"on"]), ("off", [b"off"]), ("", [])):
            publisher.publish(topic, payload, 1, retain=True)
            with Client(version, "late") as late:
                late.subscribe(topic, 1)
                late.subscribe(f"{topic}/end", 1)
                publisher.publish(f"{topic}/end", "", 1)
                seen = [(message.payload, message.retain) for message in late.receive_until(f"{topic}/end")]
                assert seen == [(payload, True) for payload in expected], seen


def will(version, topic):
    with Client(version, "watch") as watcher:
        watcher.subscribe(topic, 2)
        with Client(version, "device", will=(topic, "gone", 2, False)):
            pass
        watcher.publish(topic, "left in good order", 2)
        device = Client(version, "device", will=(topic, "gone", 2, False))
        device.break_off()
        seen = [watcher.receive().payload, watcher.receive().payload]
        assert seen == [b"left in good order", b"gone"], seen


def persistent_session(version, topic):
    with Client(version, "sleeper", persistent=True) as sleeper:
        assert not sleeper.session_present
        sleeper.subscribe(topic, 2)
    with Client(version, "pub") as publisher:
        for number in range(20):
            publisher.publish(topic, str(number), 1 + number // 10)
    with Client(version, "sleeper", persistent=True) as sleeper:
        assert sleeper.session_present or version == "3.1", "the session is gone"
        for number in range(20):
            message = sleeper.receive()
            seen = (message.payload, message.qos)
            assert seen == (b"%d" % number, 1 + number // 10), seen


def shared_subscription(version, topic):
    count = 60
    with Client(version, "one") as one, Client(version, "two") as two, Client(version, "pub") as publisher:
        for member in (one, two):
            member.subscribe(f"$share/group/{topic}", 1)
            member.subscribe(f"{topic}/end", 1)
        for number in range(count):
            publisher.publish(topic, str(number), 1)
        publisher.publish(f"{topic}/end", "", 1)
        parts = [[message.payload for message in member.receive_until(f"{topic}/end")] for member in (one, two)]
        sizes = [len(part) for part in parts]
        assert all(0 < size < count for size in sizes), sizes
        assert sorted(parts[0] + parts[1], key=int) == [b"%d" % number for number in range(count)], sizes


def large_payload(version, topic):
    payload = bytes(range(256)) * 4096
    with Client(version, "sub") as subscriber, Client(version, "pub") as publisher:
        subscriber.subscribe(topic, 2)
        for level in range(3):
            publisher.publish(topic, payload, level)
            message = subscriber.receive()
            assert message.payload == payload, f"QoS {level}: {len(message.payload)} bytes, or not the same"


CASES = [
    ("QoS 0", qos(0)),
    ("QoS 1", qos(1)),
    ("QoS 2", qos(2)),
    ("retained", retained),
    ("will", will),
    ("persistent session", persistent_session),
    ("shared subscription", shared_subscription),
    ("large payload", large_payload),
]


def main():
    for version in VERSIONS:
        for number, (name, case) in enumerate(CASES):
            try:
                case(version, f"paho/{TRANSPORT}/{version}/{number}")
                print(f"ok paho-mqtt {TRANSPORT} {version} {name}", flush=True)
            except Exception as error:  # Whatever it is, the other cases are of interest, too.
                where = traceback.extract_tb(error.__traceback__)[-1].lineno
                print(f"FAILED paho-mqtt {TRANSPORT} {version} {name}: {error!r} (line {where})", flush=True)


PORT = int(sys.argv[1])
TRANSPORT, DIRECTORY = sys.argv[2:4] if len(sys.argv) > 2 else ("tcp", None)
main()
