#!/usr/bin/env python3
"""Writes the databases of mosquitto beside this script, which `tests/import` and the tests of `src/storage/import` read.

Each is the file of the system's mosquitto after a few clients have used it. Times in them are those of the moment, so
the expectations of the tests move with them: run it only to add something. Usage: write.py [DIRECTORY]
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

PORT = 18830


def integer(value):
    """A Variable Byte Integer."""
    encoded = b""
    while True:
        value, low = divmod(value, 128)
        encoded += bytes([low | (128 if value else 0)])
        if not value:
            return encoded


def text(value):
    return struct.pack("!H", len(value.encode())) + value.encode()


def session_expiry(seconds):
    return b"\x11" + struct.pack("!I", seconds)


def message_expiry(seconds):
    return b"\x02" + struct.pack("!I", seconds)


class Client:
    """A client that sends only what it is told to, including acknowledgements."""

    def __init__(self, identifier, version=4, clean=False, user=None, properties=b""):
        self.version = version
        self.socket = socket.create_connection(("127.0.0.1", PORT))
        self.socket.settimeout(5)
        self.buffer = b""
        body = text("MQIsdp" if version == 3 else "MQTT") + bytes([version, 2 * clean | (0x80 if user else 0)])
        body += struct.pack("!H", 600) + self.block(properties) + text(identifier)
        self.send(0x10, body + (text(user) if user else b""))
        self.expect(0x20)

    def block(self, properties):
        return integer(len(properties)) + properties if self.version == 5 else b""

    def send(self, first, body):
        self.socket.sendall(bytes([first]) + integer(len(body)) + body)

    def fill(self, length):
        while len(self.buffer) < length:
            self.buffer += self.socket.recv(65536) or exit("the broker has closed")

    def receive(self):
        length, at, shift = 0, 1, 0
        while True:
            self.fill(at + 1)
            length |= (self.buffer[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if self.buffer[at - 1] < 128:
                break
        self.fill(at + length)
        packet, self.buffer = self.buffer[: at + length], self.buffer[at + length :]
        return packet[0], packet[at:]

    def expect(self, kind):
        while True:
            first, body = self.receive()
            if first & 0xF0 == kind:
                return body

    def subscribe(self, *filters, properties=b""):
        body = b"\0\1" + self.block(properties)
        self.send(0x82, body + b"".join(text(name) + bytes([options]) for name, options in filters))
        self.expect(0x90)

    def publish(self, topic, payload, qos=0, retain=False, identifier=1, properties=b""):
        number = struct.pack("!H", identifier) if qos else b""
        self.send(0x30 | qos << 1 | retain, text(topic) + number + self.block(properties) + payload.encode())
        if qos:
            self.expect(0x40 if qos == 1 else 0x50)

    def release(self, identifier=1):
        self.send(0x62, struct.pack("!H", identifier))
        self.expect(0x70)

    def whole(self, topic, payload, qos=0, **more):
        self.publish(topic, payload, qos, **more)
        if qos == 2:
            self.release(more.get("identifier", 1))

    def answer(self, first, identifier):
        self.send(first, struct.pack("!H", identifier))

    def leave(self):
        self.send(0xE0, b"")
        self.socket.close()


class Broker:
    """A mosquitto that saves its state in `path` when it ends."""

    def __init__(self, path, more=""):
        self.path = path
        self.directory = tempfile.TemporaryDirectory()
        configuration = os.path.join(self.directory.name, "conf")
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(f"listener {PORT} 127.0.0.1\nallow_anonymous true\nuser root\nautosave_interval 0\n")
            file.write(f"persistence true\npersistence_location {self.directory.name}/\n{more}")
        self.process = subprocess.Popen(["mosquitto", "-c", configuration], stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", PORT)).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("mosquitto does not start")

    def save(self, path):
        """Saves the present state, and continues."""
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        self.keep(path)

    def keep(self, path):
        with open(os.path.join(self.directory.name, "mosquitto.db"), "rb") as file, open(path, "wb") as kept:
            kept.write(file.read())

    def end(self):
        time.sleep(0.3)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.keep(self.path)


def retained(path):
    broker = Broker(path)
    ann = Client("ann-1", user="ann", clean=True)
    for qos in (0, 1, 2):
        ann.whole(f"r/{qos}", f"retained {qos}", qos, retain=True)
    ann.whole("/lead//é", "slashes", 1, retain=True)
    ann.whole("gone", "once", 1, retain=True)
    ann.whole("gone", "", 1, retain=True)
    ann.whole("r/1", "replaced", 1, retain=True)
    nobody = Client("nobody", version=5, clean=True)
    nobody.whole("r/short", "short", 1, retain=True, properties=message_expiry(60))
    user = b"\x26" + text("name") + text("value")
    rest = b"\x01\x01" + b"\x03" + text("text/plain") + b"\x08" + text("re/ply") + b"\x09" + text("corr") + user + user
    nobody.whole("r/5", "properties", 1, retain=True, properties=message_expiry(100_000) + rest)
    broker.end()


def sessions(path):
    broker = Broker(path)
    keep = []
    for identifier, version, user, properties, identifiers, filters in (
        ("four", 4, "ann", b"", b"", [("a/b", 0), ("a/+", 1), ("#", 2), ("/lead/#", 1), ("+/x//", 1)]),
        ("three", 3, "ann", b"", b"", [("three/é", 2)]),
        ("hour", 5, "bob", session_expiry(3600), b"\x0b\x07", [("a/b", 1 | 4), ("r/5", 2 | 8), ("n", 0x20)]),
        ("ever", 5, "cay", session_expiry(0xFFFFFFFF), b"\x0b\xff\xff\xff\x7f", [("q/#", 2), ("$SYS/uptime", 0)]),
        ("shared", 5, "cay", session_expiry(7200), b"\x0b\x01", [("$share/group/a/#", 2), ("plain", 1)]),
        ("minute", 5, "dan", session_expiry(60), b"", [("a", 0)]),
        ("connection", 5, "dan", b"", b"", [("a", 0), ("b", 0)]),
    ):
        client = Client(identifier, version=version, user=user, properties=properties)
        client.subscribe(*filters, properties=identifiers)
        keep.append(client)
    keep.append(Client("clean", clean=True))
    keep[-1].subscribe(("a", 2))
    # The clients of 60 and 7200 seconds disconnect, so that it is known when their sessions end.
    keep[4].leave()
    keep[5].leave()
    broker.end()


def queued(path):
    broker = Broker(path, "queue_qos0_messages true\nmax_inflight_messages 3\n")
    sender = Client("sender", clean=True, user="ann")
    away = Client("away", user="ann")
    away.subscribe(("q/#", 1), ("z", 0))
    five = Client("five", version=5, properties=session_expiry(0xFFFFFFFF), user="ann")
    five.subscribe(("q/#", 2), properties=b"\x0b\x09")
    five.subscribe(("q/twice", 1), properties=b"\x0b\x0a")
    away.leave()
    five.leave()
    time.sleep(0.2)
    other = Client("other", version=5, clean=True)
    for number, qos in enumerate((1, 2, 1, 2, 1)):
        sender.whole(f"q/{number}", f"message {number}", qos, identifier=10 + number)
    sender.whole("z", "of no account", 0)
    sender.whole("q/twice", "twice", 2)
    other.whole("q/short", "short", 1, properties=message_expiry(60))
    other.whole("q/long", "long", 1, properties=message_expiry(100_000) + b"\x03" + text("json"))
    # Of three messages in flight, the first has arrived, the second is to be released, the third is on its way.
    five = Client("five", version=5, properties=session_expiry(0xFFFFFFFF), user="ann")
    for _ in range(3):
        five.expect(0x30)
    five.answer(0x50, 2)
    five.expect(0x60)
    # A retained message that comes late, and so is stored after later ones.
    sender.whole("old", "retained", 1, retain=True)
    late = Client("late", user="ann")
    late.subscribe(("q/#", 2))
    late.leave()
    time.sleep(0.2)
    sender.whole("q/new", "new", 2)
    late = Client("late", user="ann")
    late.expect(0x30)
    late.subscribe(("old", 1))
    late.leave()
    broker.end()


def unreleased(path):
    broker = Broker(path)
    for identifier, filters in (("one", [("in/#", 1), ("in/a", 2)]), ("two", [("in/+", 2 | 8)]), ("out", [("x", 2)])):
        client = Client(identifier, version=5, properties=session_expiry(0xFFFFFFFF), user="ann")
        client.subscribe(*filters[:1], properties=b"\x0b\x01")
        client.subscribe(*filters[1:] or filters, properties=b"\x0b\x02")
        client.leave()
    sender = Client("sender", version=5, properties=session_expiry(0xFFFFFFFF), user="ann")
    sender.subscribe(("in/#", 2 | 4))
    sender.publish("in/a", "kept", 2, retain=True, identifier=77, properties=message_expiry(100_000))
    sender.publish("nobody/listens", "to this", 2, identifier=78)
    sender.publish("in/b", "", 2, retain=True, identifier=79)
    broker.end()


def running(path):
    """The state saved while clients are connected, with a bridge that reaches no broker."""
    more = "connection bridge\naddress 127.0.0.1:9\ntopic out/# out 1\ncleansession false\nlocal_clientid local.bridge\n"
    broker = Broker(path, more)
    time.sleep(0.3)
    sender = Client("sender", clean=True)
    sender.whole("out/1", "over the bridge", 1)
    hour = Client("hour", version=5, properties=session_expiry(3600), user="ann")
    hour.subscribe(("a", 2))
    nobody = Client("nobody", version=5, properties=session_expiry(3600))
    nobody.subscribe(("b", 1))
    broker.save(path)
    broker.path = os.devnull
    broker.end()


if __name__ == "__main__":
    where = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for write in (retained, sessions, queued, unreleased, running):
        write(os.path.join(where, f"{write.__name__}.db"))
