//! Clients and broker take turns: the clients send while the broker is stopped, and read once it is idle. So the
//! broker is given the same bytes in the same pieces in each run, however fast either of them is.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::broker::Broker;
use crate::packets::{self, Connect, Fault, Packet, Template, Version};
use crate::patience::Patience;
use crate::scenarios::Scenario;
use crate::setup::{Setup, USER};

const VERSION: Version = Version::V311;
/// Bytes of a payload.
const PAYLOAD: usize = 64;

/// One connection.
struct Client {
    stream: TcpStream,
    tls: Option<ClientConnection>,
    /// The bytes to send.
    out: Vec<u8>,
    /// Received bytes that are not a whole packet.
    unread: Vec<u8>,
}

impl Client {
    fn open(port: u16, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Fault> {
        let connect = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: io::Error| format!("cannot connect: {error}"))?;
        let name = ServerName::try_from("localhost").expect("it is a name");
        let tls = tls.map(|config| ClientConnection::new(Arc::clone(config), name)).transpose();
        let mut tls = tls.map_err(|error| format!("no TLS: {error}"))?;
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(None);
        }
        Ok(Self { stream, tls, out: Vec::new(), unread: Vec::new() })
    }

    fn has_output(&self) -> bool {
        !self.out.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes what the socket accepts.
    fn write(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            while !self.out.is_empty() {
                let count = self.stream.write(&self.out)?;
                self.out.drain(..count);
            }
            return Ok(());
        };
        tls.writer().write_all(&self.out)?;
        self.out.clear();
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    /// Reads what is available.
    fn read(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.stream.read_to_end(&mut self.unread)?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        while tls.read_tls(&mut self.stream)? > 0 {
            tls.process_new_packets().map_err(io::Error::other)?;
            unless_blocked(tls.reader().read_to_end(&mut self.unread).map(|_| ()))?;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// An operation that would block is not an error.
fn unless_blocked(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) })
}

/// What has come so far, for all clients together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    connacks: usize,
    subacks: usize,
    deliveries: usize,
    /// Messages with QoS 2 that the broker has released.
    releases: usize,
    /// Messages of publishers whose exchange is complete.
    completions: usize,
}

/// A publisher, which publishes to its topics in turn.
struct Publisher {
    templates: Vec<Template>,
    next: usize,
}

/// The clients of a scenario: first the subscribers, then the publishers.
pub struct Clients<'a> {
    broker: &'a Broker,
    scenario: &'a Scenario,
    clients: Vec<Client>,
    publishers: Vec<Publisher>,
    seen: Seen,
    expected: Seen,
}

impl<'a> Clients<'a> {
    /// Connects and subscribes all of them.
    pub fn prepare(broker: &'a Broker, scenario: &'a Scenario, setup: Setup) -> Result<Self, Fault> {
        let tls = setup.tls()?;
        let count = scenario.subscribers + scenario.publishers;
        let clients =
            (0..count).map(|_| Client::open(broker.port, tls.as_ref())).collect::<Result<_, _>>()?;
        let publishers = (0..scenario.publishers).map(|publisher| Publisher {
            templates: scenario
                .topics(publisher)
                .iter()
                .map(|topic| Template::new(VERSION, scenario.qos, topic, PAYLOAD, publisher))
                .collect(),
            next: 0,
        });
        let publishers = publishers.collect();
        let (seen, expected) = (Seen::default(), Seen::default());
        let mut clients = Self { broker, scenario, clients, publishers, seen, expected };
        clients.connect(setup)?;
        for subscriber in 0..scenario.subscribers {
            let packet = packets::subscribe(VERSION, scenario.qos, &[scenario.filter(subscriber)]);
            clients.clients[subscriber].out.extend_from_slice(&packet);
        }
        clients.expected.subacks = scenario.subscribers;
        clients.take_turns()?;
        Ok(clients)
    }

    fn connect(&mut self, setup: Setup) -> Result<(), Fault> {
        for (number, client) in self.clients.iter_mut().enumerate() {
            let is_persistent = setup == Setup::Persistence && number < self.scenario.subscribers;
            let connect = Connect {
                version: VERSION,
                client_identifier: format!("bench-{number}"),
                is_clean: !is_persistent,
                user: (setup == Setup::Acl).then_some(USER),
            };
            client.out.extend_from_slice(&connect.encode());
        }
        self.expected.connacks = self.clients.len();
        self.take_turns()
    }

    /// Each publisher sends its burst, and all of it arrives.
    pub fn run_round(&mut self) -> Result<(), Fault> {
        for (publisher, client) in
            self.publishers.iter_mut().zip(&mut self.clients[self.scenario.subscribers..])
        {
            for identifier in 1..=self.scenario.burst {
                publisher.templates[publisher.next].append(&mut client.out, identifier, 0, 0);
                publisher.next = (publisher.next + 1) % publisher.templates.len();
            }
        }
        self.expected.deliveries += self.scenario.delivered();
        if self.scenario.qos > 0 {
            self.expected.completions += self.scenario.published();
        }
        if self.scenario.qos == 2 {
            self.expected.releases += self.scenario.delivered();
        }
        self.take_turns()
    }

    /// Takes turns until everything expected has come, and all answers to it have been taken.
    fn take_turns(&mut self) -> Result<(), Fault> {
        let patience = Patience::new("the broker's answers");
        while self.seen != self.expected || self.clients.iter().any(Client::has_output) {
            self.take_turn()?;
            patience.pause()?;
        }
        Ok(())
    }

    fn take_turn(&mut self) -> Result<(), Fault> {
        if self.clients.iter().any(Client::has_output) {
            self.broker.stop()?;
            for client in &mut self.clients {
                unless_blocked(client.write()).map_err(|error| format!("cannot write: {error}"))?;
            }
            self.broker.go_on()?;
        }
        self.broker.wait_until_idle()?;
        for client in &mut self.clients {
            unless_blocked(client.read()).map_err(|error| format!("cannot read: {error}"))?;
            let mut taken = 0;
            while let Some((packet, length)) = Packet::first_of(&client.unread[taken..]) {
                self.seen.take(packet, self.scenario.qos, &mut client.out)?;
                taken += length;
            }
            client.unread.drain(..taken);
        }
        Ok(())
    }

    /// Closes all connections and waits until the broker has noticed.
    pub fn close(self) -> Result<(), Fault> {
        drop(self.clients);
        self.broker.wait_until_idle()
    }
}

impl Seen {
    /// Handles a packet, and appends the answers to `out`.
    fn take(&mut self, packet: Packet<'_>, qos: u8, out: &mut Vec<u8>) -> Result<(), Fault> {
        match packet.kind() {
            packets::CONNACK => {
                packet.accepted(VERSION)?;
                self.connacks += 1;
            }
            packets::SUBACK => {
                packet.granted(VERSION)?;
                self.subacks += 1;
            }
            packets::PUBLISH => {
                let delivery = packet.delivery(VERSION)?;
                if delivery.qos != qos || delivery.payload.len() != PAYLOAD {
                    return Err("the broker changed a message".to_owned());
                }
                match delivery.qos {
                    0 => {}
                    1 => packets::acknowledge(out, packets::PUBACK, delivery.identifier),
                    _ => packets::acknowledge(out, packets::PUBREC, delivery.identifier),
                }
                self.deliveries += 1;
            }
            packets::PUBACK | packets::PUBCOMP => self.completions += 1,
            packets::PUBREC => packets::acknowledge(out, packets::PUBREL, packet.identifier()?),
            packets::PUBREL => {
                packets::acknowledge(out, packets::PUBCOMP, packet.identifier()?);
                self.releases += 1;
            }
            kind => return Err(format!("the broker sent an unexpected packet of type {kind}")),
        }
        Ok(())
    }
}
