"""MQTT 3.1.1 in few lines, and a broker that knows nothing else: no bit that says that a client is a bridge, no MQTT
5.0, and so no way for a client not to receive its own messages."""

import asyncio


def text(value):
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def packet(first, body):
    length, rest = b"", len(body)
    while True:
        rest, low = divmod(rest, 128)
        length += bytes([low | (128 if rest else 0)])
        if not rest:
            return bytes([first]) + length + body


def publish(topic, payload, qos, retain, identifier):
    return packet(0x30 | qos << 1 | retain, text(topic) + (identifier if qos else b"") + payload)


def parse_publish(kind, body):
    """Topic, payload, QoS, RETAIN and identifier."""
    end = 2 + int.from_bytes(body[:2], "big")
    topic, qos = body[2:end].decode(), kind >> 1 & 3
    identifier = body[end:end + 2] if qos else b""
    return topic, body[end + len(identifier):], qos, bool(kind & 1), identifier


def matches(filter, topic):
    levels, names = filter.split("/"), topic.split("/")
    if levels[-1] == "#":
        levels, names = levels[:-1], names[:len(levels) - 1]
    return len(levels) == len(names) and all(level in ("+", name) for level, name in zip(levels, names))


class Link:
    """A connection that carries packets."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data):
        self.writer.write(data)

    async def read(self):
        first = (await self.reader.readexactly(1))[0]
        length, shift = 0, 0
        while True:
            byte = (await self.reader.readexactly(1))[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return first, await self.reader.readexactly(length)


class Session:
    def __init__(self):
        self.filters, self.waiting, self.released, self.last, self.link = {}, {}, set(), 0, None

    def deliver(self, topic, payload, qos, retain):
        qos = min(qos, max((granted for filter, granted in self.filters.items() if matches(filter, topic)), default=0))
        if not qos:
            return self.link and self.link.send(publish(topic, payload, 0, retain, b""))
        self.last = self.last % 65535 + 1
        identifier = self.last.to_bytes(2, "big")
        self.waiting[identifier] = publish(topic, payload, qos, retain, identifier)
        if self.link:
            self.link.send(self.waiting[identifier])

    def resume(self, link):
        self.link = link
        for data in self.waiting.values():
            link.send(data if data[0] == 0x62 else bytes([data[0] | 8]) + data[1:])


class Stub:
    """The broker."""

    def __init__(self):
        self.sessions, self.retained = {}, {}

    async def accept(self, reader, writer):
        link = Link(reader, writer)
        try:
            kind, body = await link.read()
            # The name of the protocol, and its level.
            if kind != 0x10 or body[:7] != text("MQTT") + b"\x04":
                link.send(packet(0x20, b"\0\1"))
                return
            name = body[12:12 + int.from_bytes(body[10:12], "big")]
            is_clean = bool(body[7] & 2)
            if is_clean:
                self.sessions.pop(name, None)
            link.send(packet(0x20, bytes([name in self.sessions, 0])))
            session = self.sessions.setdefault(name, Session())
            session.resume(link)
            try:
                while True:
                    self.take(session, *await link.read())
            finally:
                session.link = None
                if is_clean and self.sessions.get(name) is session:
                    del self.sessions[name]
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def take(self, session, kind, body):
        link = session.link
        if kind >> 4 == 3:
            topic, payload, qos, retain, identifier = parse_publish(kind, body)
            if qos:
                link.send(packet(0x40 if qos == 1 else 0x50, identifier))
            if qos == 2 and identifier in session.released:
                return
            if qos == 2:
                session.released.add(identifier)
            if retain:
                self.retained[topic] = (payload, qos)
            for other in list(self.sessions.values()):
                if any(matches(filter, topic) for filter in other.filters):
                    other.deliver(topic, payload, qos, False)
        elif kind == 0x62:
            session.released.discard(body)
            link.send(packet(0x70, body))
        elif kind == 0x50:
            session.waiting[body] = packet(0x62, body)
            link.send(session.waiting[body])
        elif kind in (0x40, 0x70):
            session.waiting.pop(body, None)
        elif kind == 0x82:
            self.subscribe(session, body)
        elif kind == 0xA2:
            link.send(packet(0xB0, body[:2]))
        elif kind == 0xC0:
            link.send(packet(0xD0, b""))

    def subscribe(self, session, body):
        at, granted, filters = 2, b"", []
        while at < len(body):
            end = at + 2 + int.from_bytes(body[at:at + 2], "big")
            filters.append(body[at + 2:end].decode())
            session.filters[filters[-1]] = body[end]
            granted += body[end:end + 1]
            at = end + 1
        session.link.send(packet(0x90, body[:2] + granted))
        for topic, (payload, qos) in self.retained.items():
            if any(matches(filter, topic) for filter in filters):
                session.deliver(topic, payload, qos, True)
