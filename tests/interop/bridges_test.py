"""Bridges between brokers of different kinds: a table of cases, all at once.

Each case is a bridge with topics of its own. One broker of each kind has all bridges of its role, through relays that
can be cut: first messages go in each direction at every QoS, with and without prefixes, retained or not, and nothing
comes back; then the network is cut, both sides publish, and what they published arrives later or not at all, as
`cleansession` says.
"""

import asyncio
import itertools
import os
import ssl
import sys

import mqtt_stub
from mqtt_stub import Link, packet, publish, text

WORK = sys.argv[1]
BROOKLET = os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "debug", "brooklet")
# Seconds; longer than anything here takes.
PATIENCE = 40
SITES = [("brooklet", "mosquitto"), ("brooklet", "brooklet"), ("brooklet", "stub"), ("mosquitto", "brooklet")]
VERSIONS = ["mqttv311", "mqttv50"]
TRANSPORTS = ["tcp", "tls", "certificate"]


class Client(Link):
    """A client with MQTT 3.1.1 that collects what it receives."""

    @classmethod
    async def connect(cls, port, name):
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.received, client.news, client.answers, client.last = [], asyncio.Event(), {}, 0
        client.send(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(name)))
        kind, body = await client.read()
        assert (kind, body) == (0x20, b"\0\0"), (kind, body)
        client.task = asyncio.create_task(client.serve())
        return client

    async def serve(self):
        while True:
            kind, body = await self.read()
            if kind >> 4 == 3:
                topic, payload, qos, retain, identifier = mqtt_stub.parse_publish(kind, body)
                self.received.append((topic, payload, qos, retain))
                self.news.set()
                if qos:
                    self.send(packet(0x40 if qos == 1 else 0x50, identifier))
            elif kind == 0x50:
                self.send(packet(0x62, body[:2]))
            elif kind == 0x62:
                self.send(packet(0x70, body[:2]))
            elif kind in (0x40, 0x70, 0x90):
                self.answers.pop(body[:2]).set_result(body)

    async def ask(self, make):
        """Sends a packet with a new identifier, and waits for the answer."""
        self.last += 1
        identifier = self.last.to_bytes(2, "big")
        answer = self.answers[identifier] = asyncio.get_running_loop().create_future()
        self.send(make(identifier))
        await answer

    async def subscribe(self, *filters):
        body = b"".join(text(topic) + b"\x02" for topic in filters)
        await self.ask(lambda identifier: packet(0x82, identifier + body))

    async def publish(self, topic, payload=b"", qos=1, retain=False):
        if qos:
            await self.ask(lambda identifier: publish(topic, payload, qos, retain, identifier))
        else:
            self.send(publish(topic, payload, qos, retain, b""))

    async def wait_for(self, topic, payload=None):
        """Waits for a message, and returns the last one of this kind."""
        while True:
            found = [got for got in self.received if got[0] == topic and payload in (None, got[1])]
            if found:
                return found[-1]
            self.news.clear()
            await self.news.wait()

    def take(self):
        """What was received so far, without reports of the state."""
        taken = [got for got in self.received if not got[0].startswith("$SYS")]
        self.received.clear()
        return taken


class Relay:
    """A port that leads to another one until it is cut."""

    def __init__(self, port, to):
        self.port, self.to, self.writers = port, to, set()

    async def open(self):
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", self.port)

    async def accept(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            return writer.close()
        self.writers |= {writer, far_writer}
        await asyncio.gather(self.carry(reader, far_writer), self.carry(far_reader, writer))

    @staticmethod
    async def carry(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def cut(self):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


class Case:
    """A bridge."""

    def __init__(self, number, near, far, version, is_clean, transport):
        self.near, self.far, self.version, self.is_clean, self.transport = near, far, version, is_clean, transport
        # Neither kind of broker can tell that a bridge of mosquitto comes back with 5.0: its session ends at once.
        self.is_forgotten = is_clean or (near == "mosquitto" and version == "mqttv50")
        self.id = f"case{number}"

    def __str__(self):
        clean = "clean" if self.is_clean else "kept"
        return f"{self.near} bridges to {self.far} over {self.transport} {self.version} {clean}"

    def lines(self, port):
        lines = [
            f"connection {self.id}", f"address 127.0.0.1:{port}", f"remote_clientid {self.id}", "restart_timeout 1",
            f"bridge_protocol_version {self.version}", f"cleansession {str(self.is_clean).lower()}",
            f"topic # out 2 {self.id}/out/ {self.id}/there/out/", f"topic # in 2 {self.id}/in/ {self.id}/there/in/",
            f"topic # both 2 {self.id}/both/ {self.id}/there/both/", f"topic {self.id}/plain/# both 2",
        ]
        if self.transport != "tcp":
            lines.append(f"bridge_cafile {WORK}/ca.crt")
        if self.transport == "certificate":
            lines += [f"bridge_certfile {WORK}/client.crt", f"bridge_keyfile {WORK}/client.key"]
        return "\n".join(lines) + "\n"

    async def begin(self, ports):
        """Connects a client to each side, and waits until the bridge is connected."""
        self.ports = ports
        self.here, self.there = await asyncio.gather(
            Client.connect(ports[self.near, "near"], f"{self.id}-here"),
            Client.connect(ports[self.far, "far"], f"{self.id}-there"))
        await self.there.subscribe(*(f"{self.id}/there/{way}/#" for way in ("out", "both")), f"{self.id}/plain/#")
        await self.here.subscribe(*(f"{self.id}/{way}/#" for way in ("in", "both", "plain")))
        await self.here.subscribe(f"$SYS/broker/connection/{self.id}/state")
        await self.wait_for_state(b"1")

    async def wait_for_state(self, state):
        await self.here.wait_for(f"$SYS/broker/connection/{self.id}/state", state)

    async def pass_messages(self):
        """Messages go where they should, once."""
        own, id = [], self.id
        expected = {"here": [], "there": []}
        for qos, retain in itertools.product((0, 1, 2), (False, True)):
            what = f"{qos}{retain:d}"
            payload = what.encode()
            await self.here.publish(f"{id}/out/{what}", payload, qos, retain)
            await self.there.publish(f"{id}/there/in/{what}", payload, qos, retain)
            expected["there"].append((f"{id}/there/out/{what}", payload, qos))
            expected["here"].append((f"{id}/in/{what}", payload, qos))
            for way, way_there in ("both", "there/both"), ("plain", "plain"):
                await self.here.publish(f"{id}/{way}/here{what}", payload, qos, retain)
                await self.there.publish(f"{id}/{way_there}/there{what}", payload, qos, retain)
                for side in "here", "there":
                    name = way if side == "here" else way_there
                    expected[side] += [(f"{id}/{name}/{origin}{what}", payload, qos) for origin in ("here", "there")]
        # What comes back comes before these. mosquitto lets messages with a lower QoS overtake others.
        await self.here.publish(f"{id}/both/end", b"here", 2)
        await self.there.wait_for(f"{id}/there/both/end", b"here")
        await self.there.publish(f"{id}/there/both/end", b"there", 2)
        await self.here.wait_for(f"{id}/both/end", b"there")
        for side, client in ("here", self.here), ("there", self.there):
            received = [got[:3] for got in client.take() if not got[0].endswith("/end")]
            assert sorted(received) == sorted(expected[side]), (side, set(received) ^ set(expected[side]), received)
        await self.find_retained()

    async def find_retained(self):
        """A client that comes later finds what was published as retained on the other side."""
        late = await Client.connect(self.ports[self.far, "far"], f"{self.id}-late")
        await late.subscribe(f"{self.id}/there/out/#")
        await late.publish(f"{self.id}/there/out/end")
        await late.wait_for(f"{self.id}/there/out/end")
        found = [got for got in late.take() if got[3]]
        assert sorted(got[0][-2:] for got in found) == ["01", "11", "21"], found
        late = await Client.connect(self.ports[self.near, "near"], f"{self.id}-late")
        await late.subscribe(f"{self.id}/in/#")
        await late.publish(f"{self.id}/in/end")
        await late.wait_for(f"{self.id}/in/end")
        found = [got for got in late.take() if got[3]]
        # A broker that does not know bridges does not say of a message whether it was published as retained.
        expected = [] if self.far == "stub" else ["01", "11", "21"]
        assert sorted(got[0][-2:] for got in found) == expected, found
        self.here.take()
        self.there.take()

    async def publish_while_away(self):
        self.here.received.clear()
        await self.wait_for_state(b"0")
        await self.here.publish(f"{self.id}/out/away")
        await self.there.publish(f"{self.id}/there/in/away")

    async def come_back(self):
        await self.wait_for_state(b"1")
        await self.here.publish(f"{self.id}/out/back")
        await self.there.wait_for(f"{self.id}/there/out/back")
        await self.there.publish(f"{self.id}/there/in/back")
        await self.here.wait_for(f"{self.id}/in/back")
        has_come = [any(got[0].endswith("/away") for got in client.take()) for client in (self.there, self.here)]
        assert has_come == [not self.is_clean, not self.is_forgotten], f"out and in while it was away: {has_come}"


CASES = [
    Case(number, *sites, version, is_clean, transport)
    for number, (sites, version, is_clean, transport)
    in enumerate(itertools.product(SITES, VERSIONS, (False, True), TRANSPORTS))
]


def free_ports():
    """Ports of this machine, none twice."""
    import socket
    sockets = [socket.socket() for _ in range(64)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return iter(ports)


def listeners(ports):
    """The lines for listeners at these ports: one for clients, and one for each transport."""
    secure = f"certfile {WORK}/server.crt\nkeyfile {WORK}/server.key\n"
    lines = f"user root\nallow_anonymous true\nlistener {ports['clients']} 127.0.0.1\nlistener {ports['tcp']} 127.0.0.1\n"
    lines += f"listener {ports['tls']} 127.0.0.1\n{secure}"
    return lines + f"listener {ports['certificate']} 127.0.0.1\n{secure}cafile {WORK}/ca.crt\nrequire_certificate true\n"


async def start_broker(kind, name, port, lines):
    path = f"{WORK}/{name}"
    with open(f"{path}.conf", "w") as file:
        file.write(lines)
    with open(f"{path}.log", "w") as log:
        program = BROOKLET if kind == "brooklet" else "mosquitto"
        process = await asyncio.create_subprocess_exec(program, "-c", f"{path}.conf", stdout=log, stderr=log)
    while True:
        try:
            (await asyncio.open_connection("127.0.0.1", port))[1].close()
            return process
        except OSError:
            assert process.returncode is None, f"{name} does not start"
            await asyncio.sleep(0.02)


async def start_stub(ports):
    stub = mqtt_stub.Stub()
    servers = []
    for transport in ["clients", *TRANSPORTS]:
        context = None
        if transport in ("tls", "certificate"):
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=f"{WORK}/ca.crt")
            context.load_cert_chain(f"{WORK}/server.crt", f"{WORK}/server.key")
            context.verify_mode = ssl.CERT_REQUIRED if transport == "certificate" else ssl.CERT_NONE
        servers.append(await asyncio.start_server(stub.accept, "127.0.0.1", ports[transport], ssl=context))
    return servers


async def run_all(what, act, results):
    """Does the same in every case that has not failed yet."""
    async def run(case):
        try:
            await asyncio.wait_for(act(case), PATIENCE)
        except Exception as why:
            results[case] = f"{what}: {type(why).__name__} {why}"
    await asyncio.gather(*(run(case) for case in CASES if case not in results))


async def main():
    ports, relays, processes, results = {}, [], [], {}
    free = free_ports()
    keep = []
    # What ends with the test ends in some disorder.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    try:
        for far in sorted({case.far for case in CASES}):
            own = {transport: next(free) for transport in ["clients", *TRANSPORTS]}
            ports[far, "far"] = own["clients"]
            if far == "stub":
                keep.append(await start_stub(own))
            else:
                processes.append(await start_broker(far, f"far-{far}", own["clients"], listeners(own)))
            for transport in TRANSPORTS:
                relays.append(Relay(next(free), own[transport]))
                ports[far, transport] = relays[-1].port
                await relays[-1].open()
        for near in sorted({case.near for case in CASES}):
            ports[near, "near"] = next(free)
            lines = f"user root\nallow_anonymous true\nlistener {ports[near, 'near']} 127.0.0.1\n"
            lines += "".join(case.lines(ports[case.far, case.transport]) for case in CASES if case.near == near)
            processes.append(await start_broker(near, f"near-{near}", ports[near, "near"], lines))
        await run_all("it connects", lambda case: case.begin(ports), results)
        await run_all("messages pass", Case.pass_messages, results)
        for relay in relays:
            relay.cut()
        await run_all("it is cut off", Case.publish_while_away, results)
        for relay in relays:
            await relay.open()
        await run_all("it comes back", Case.come_back, results)
    finally:
        for process in processes:
            process.kill()
    for case in CASES:
        print(f"FAILED {case}: {results[case]}" if case in results else f"ok {case}")


asyncio.run(main())
