"""SCRAM-SHA-256 over MQTT 5.0, with a separate implementation: at CONNECT, again, and with a wrong password.

Prints one line per case: `ok scram 5 CASE` or `FAILED scram 5 CASE: WHY`. The argument is the port of a broker that has
a verifier of the password `eraser` for the user `bob`.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
import sys

CONNECT, CONNACK, DISCONNECT, AUTH = 0x10, 0x20, 0xE0, 0xF0


def field(data):
    return struct.pack(">H", len(data)) + data


def integer(value):
    encoded = b""
    while True:
        value, byte = divmod(value, 128)
        encoded += bytes([byte | (0x80 if value else 0)])
        if not value:
            return encoded


def packet(first_byte, body):
    return bytes([first_byte]) + integer(len(body)) + body


def said(data):
    properties = b"\x15" + field(b"SCRAM-SHA-256") + b"\x16" + field(data)
    return integer(len(properties)) + properties


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.stream = self.socket.makefile("rb")

    def read(self):
        """The first byte and the body of the next packet, which is short."""
        header = self.stream.read(2)
        length, shift = header[1] & 0x7F, 7
        while header[-1] & 0x80:
            header += self.stream.read(1)
            length |= (header[-1] & 0x7F) << shift
            shift += 7
        return header[0], self.stream.read(length)

    def prove(self, user, password, begin):
        """Completes an exchange whose first message `begin` sends; returns the last answer and what proves it."""
        bare = f"n={user},r={base64.b64encode(os.urandom(18)).decode()}"
        self.socket.sendall(begin(f"n,,{bare}".encode()))
        kind, body = self.read()
        assert (kind, body[0]) == (AUTH, 0x18), (kind, body)
        challenge = body[body.index(b"r=") :].decode()
        parts = dict(part.split("=", 1) for part in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c=biws,r={parts['r']}"
        everything = f"{bare},{challenge},{last}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), everything, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.socket.sendall(packet(AUTH, b"\x18" + said(f"{last},p={proof}".encode())))
        server = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), everything, "sha256"))
        return self.read(), b"v=" + server

    def connect(self, user, password):
        def begin(data):
            return packet(CONNECT, field(b"MQTT") + b"\x05\x02\x00\x3c" + said(data) + field(b"scram"))

        return self.prove(user, password, begin)

    def again(self, user, password):
        return self.prove(user, password, lambda data: packet(AUTH, b"\x19" + said(data)))


def right(port):
    (kind, body), proof = Client(port).connect("bob", "eraser")
    assert (kind, body[1]) == (CONNACK, 0) and proof in body, (kind, body)


def wrong(port):
    for user, password in [("bob", "pencil"), ("nobody", "eraser")]:
        (kind, body), _ = Client(port).connect(user, password)
        assert (kind, body[1]) == (CONNACK, 0x87), (kind, body)


def again(port):
    client = Client(port)
    client.connect("bob", "eraser")
    (kind, body), proof = client.again("bob", "eraser")
    assert (kind, body[0]) == (AUTH, 0) and proof in body, (kind, body)
    (kind, body), _ = client.again("bob", "pencil")
    assert (kind, body[0]) == (DISCONNECT, 0x87), (kind, body)
    assert client.stream.read(1) == b""


for case in (right, wrong, again):
    try:
        case(int(sys.argv[1]))
        print(f"ok scram 5 {case.__name__}")
    except Exception as why:
        print(f"FAILED scram 5 {case.__name__}: {why!r}")
