//! Outgoing connections. A destination is a host with a port and what is spoken there. Its addresses are tried one
//! after the other, those of both families, each for a limited time that includes the handshakes of TLS and WebSocket,
//! until MQTT can be sent by one of them. Who dials is told what comes of it, reads and writes when told to, and dials
//! again, or does not, when it pleases: nothing is tried twice here.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::vec;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry};

use super::destination::{CALLS_MAXIMUM, CallId, CallMark, Destination};
use super::layers::Layers;
use super::link::{Asked, Link, Turn};
use super::owner::Owner;
use super::resolver::{Answer, Resolver, Ticket, address_of};
use super::stream::Stream;
use crate::base::time::Time;
use crate::core::slots::Slots;

/// What has come of an outgoing connection. After [`Report::Failed`] and [`Report::Closed`] there is none any more.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// MQTT can be sent to this address.
    Connected(SocketAddr),
    /// There may be something to be received.
    Readable,
    /// More can be sent, after less than all was taken.
    Writable,
    /// MQTT could not be sent to any address.
    Failed(Vec<Failure>),
    /// It was connected and is not any more, for this reason.
    Closed(String),
}

/// Why MQTT could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// To which address; none if the name has none.
    pub address: Option<SocketAddr>,
    /// The reason.
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(formatter, "{address}: {}", self.why),
            None => formatter.write_str(&self.why),
        }
    }
}

/// One outgoing connection.
struct Call {
    destination: Destination,
    stage: Stage,
    failures: Vec<Failure>,
    /// Less than all was taken of what was to be sent.
    is_full: bool,
}

/// How far it has come.
enum Stage {
    /// Nothing is under way, for no longer than one call from outside takes.
    Between,
    /// The addresses of its host are awaited.
    Resolving(Ticket),
    /// One address is tried, and these are left.
    Trying(Attempt, vec::IntoIter<SocketAddr>),
    /// MQTT goes both ways.
    Open(Link),
}

/// A try at one address.
struct Attempt {
    address: SocketAddr,
    link: Link,
    /// The socket is connected, and the layers shake hands.
    is_connected: bool,
    until: Time,
}

/// All outgoing connections.
#[derive(Default)]
pub(super) struct Calls {
    calls: Slots<CallMark, Call>,
    reports: VecDeque<(CallId, Report)>,
}

/// What a step of an outgoing connection needs of the loop.
pub(super) struct World<'a> {
    pub(super) registry: &'a Registry,
    /// What is read goes here first.
    pub(super) buffer: &'a mut [u8],
    /// What was in a read with TLS.
    pub(super) plaintext: &'a mut Vec<u8>,
    pub(super) now: Time,
}

impl Calls {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Bytes that they take, beside their layers.
    pub(super) fn memory(&self) -> usize {
        self.calls.memory()
    }

    /// What has come of one of them, to be asked until there is nothing.
    pub(super) fn next_report(&mut self) -> Option<(CallId, Report)> {
        self.reports.pop_front()
    }

    /// When the time of the next attempt is over.
    pub(super) fn due(&self) -> Option<Time> {
        let until = |call: &Call| match &call.stage {
            Stage::Trying(attempt, _) => Some(attempt.until),
            Stage::Between | Stage::Resolving(_) | Stage::Open(_) => None,
        };
        self.calls.iter().filter_map(|(_, call)| until(call)).min()
    }

    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// There are too many connections, or no more names can be asked for.
    pub(super) fn dial(
        &mut self,
        destination: Destination,
        resolver: &mut Resolver,
        world: &mut World<'_>,
    ) -> Result<CallId, String> {
        if self.calls.len() >= CALLS_MAXIMUM {
            return Err(format!("there are {CALLS_MAXIMUM} outgoing connections already"));
        }
        let new = |stage, destination| Call { destination, stage, failures: Vec::new(), is_full: false };
        if let Some(address) = address_of(&destination.host) {
            let id = self.calls.insert_with(|_| new(Stage::Between, destination));
            self.resolved(id, Ok(vec![address]), world);
            return Ok(id);
        }
        let ticket = resolver.ask(&destination.host)?;
        Ok(self.calls.insert_with(|_| new(Stage::Resolving(ticket), destination)))
    }

    /// Whose question this is.
    pub(super) fn asker_of(&self, ticket: Ticket) -> Option<CallId> {
        let is_asker = |call: &Call| matches!(call.stage, Stage::Resolving(asked) if asked == ticket);
        self.calls.iter().find_map(|(id, call)| is_asker(call).then_some(id))
    }

    /// The addresses of a host have come.
    pub(super) fn resolved(&mut self, id: CallId, answer: Answer, world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        match answer {
            Ok(mut addresses) => {
                addresses.iter_mut().for_each(|address| address.set_port(call.destination.port));
                self.try_next(id, addresses.into_iter(), world);
            }
            Err(why) => {
                call.failures
                    .push(Failure { address: None, why: format!("{}: {why}", call.destination.host) });
                self.fail(id);
            }
        }
    }

    /// Tries the next address, and those behind it as long as they fail at once.
    fn try_next(&mut self, id: CallId, mut left: vec::IntoIter<SocketAddr>, world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        while let Some(address) = left.next() {
            match call.destination.begin(address, id, world.registry) {
                Ok(link) => {
                    let until = world.now + call.destination.patience;
                    let attempt = Attempt { address, link, is_connected: false, until };
                    call.stage = Stage::Trying(attempt, left);
                    return;
                }
                Err(why) => call.failures.push(Failure { address: Some(address), why }),
            }
        }
        self.fail(id);
    }

    fn fail(&mut self, id: CallId) {
        if let Some(call) = self.calls.remove(id) {
            self.reports.push_back((id, Report::Failed(call.failures)));
        }
    }

    /// Gives up attempts whose time is over.
    pub(super) fn expire(&mut self, world: &mut World<'_>) {
        let is_late =
            |call: &Call| matches!(&call.stage, Stage::Trying(attempt, _) if attempt.until <= world.now);
        let late: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| is_late(call)).map(|(id, _)| id).collect();
        for id in late {
            self.give_up(id, "no answer in time", world);
        }
    }

    /// The address that is tried has failed.
    fn give_up(&mut self, id: CallId, why: &str, world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        let Stage::Trying(attempt, left) = &mut call.stage else { return };
        call.failures.push(Failure { address: Some(attempt.address), why: why.to_owned() });
        let left = std::mem::take(left);
        self.try_next(id, left, world);
    }

    /// The poller says something of the link with this number.
    pub(super) fn heard(&mut self, index: usize, event: &Event, world: &mut World<'_>) {
        let Some(id) = u32::try_from(index).ok().and_then(|index| self.calls.id_at(index)) else { return };
        let call = &mut self.calls[id];
        match &mut call.stage {
            Stage::Between | Stage::Resolving(_) => {}
            Stage::Trying(attempt, _) => {
                let address = attempt.address;
                match attempt.go_on(event.is_read_closed(), world) {
                    Ok(false) => {}
                    Ok(true) => {
                        call.open();
                        // What has come meanwhile is not told of again.
                        let news = [Report::Connected(address), Report::Readable];
                        self.reports.extend(news.map(|report| (id, report)));
                    }
                    Err(why) => self.give_up(id, &why, world),
                }
            }
            Stage::Open(link) => {
                if event.is_read_closed() {
                    link.read_closed();
                }
                if (event.is_readable() || event.is_read_closed() || event.is_error())
                    && link.turn != Turn::Listed
                {
                    link.turn = Turn::Listed;
                    self.reports.push_back((id, Report::Readable));
                }
                if event.is_writable() {
                    self.writable(id);
                }
            }
        }
    }

    fn writable(&mut self, id: CallId) {
        let Some(call) = self.calls.find_mut(id) else { return };
        let Stage::Open(link) = &mut call.stage else { return };
        if let Err(error) = link.finish(false) {
            self.lose_output(id, &error);
        } else if std::mem::take(&mut call.is_full) {
            self.reports.push_back((id, Report::Writable));
        }
    }

    /// Reads once and hands over what was in it.
    pub(super) fn receive(&mut self, id: CallId, take: impl FnOnce(&[u8]), world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        let Stage::Open(link) = &mut call.stage else { return };
        link.turn = Turn::Waiting(Asked::Much);
        match link.receive(world.buffer, world.plaintext, take) {
            Ok(false) => {}
            Ok(true) => {
                link.turn = Turn::Listed;
                self.reports.push_back((id, Report::Readable));
            }
            Err(why) => return self.close(id, why),
        }
        self.answer(id);
    }

    /// What the layers answer by themselves goes out at once.
    fn answer(&mut self, id: CallId) {
        let Some(Call { stage: Stage::Open(link), .. }) = self.calls.find_mut(id) else { return };
        if link.layers.as_ref().is_some_and(|layers| layers.has_output())
            && let Err(error) = link.finish(false)
        {
            self.lose_output(id, &error);
        }
    }

    /// Nothing can be sent any more. It is read to its end, since what the peer has said before counts.
    fn lose_output(&mut self, id: CallId, error: &io::Error) {
        let Some(Call { stage: Stage::Open(link), .. }) = self.calls.find_mut(id) else { return };
        link.lose_output(error);
        if link.turn != Turn::Listed {
            link.turn = Turn::Listed;
            self.reports.push_back((id, Report::Readable));
        }
    }

    /// Sends bytes of MQTT, as many as are taken now, and tells how many. If they are not all, a report says when more
    /// can be sent.
    pub(super) fn send(&mut self, id: CallId, bytes: &[u8]) -> usize {
        let Some(call) = self.calls.find_mut(id) else { return 0 };
        let Stage::Open(link) = &mut call.stage else { return 0 };
        match link.send(bytes) {
            Ok(count) => {
                call.is_full = count < bytes.len();
                count
            }
            Err(error) => {
                self.lose_output(id, &error);
                0
            }
        }
    }

    /// Ends a connection or what was to become one; nothing more is reported of it. What was sent and still waits here
    /// goes out if the socket takes it now.
    pub(super) fn hang_up(&mut self, id: CallId, resolver: &mut Resolver) {
        self.reports.retain(|(reported, _)| *reported != id);
        match self.calls.remove(id).map(|call| call.stage) {
            Some(Stage::Resolving(ticket)) => resolver.withdraw(ticket),
            Some(Stage::Open(mut link)) => {
                link.begin_closing();
                // It is of no more use in any case.
                let _ = link.finish(true);
            }
            Some(Stage::Between | Stage::Trying(..)) | None => {}
        }
    }

    fn close(&mut self, id: CallId, why: String) {
        if self.calls.remove(id).is_some() {
            self.reports.push_back((id, Report::Closed(why)));
        }
    }
}

impl Call {
    /// The attempt has succeeded.
    fn open(&mut self) {
        if let Stage::Trying(mut attempt, _) = std::mem::replace(&mut self.stage, Stage::Between) {
            attempt.link.turn = Turn::Listed;
            self.stage = Stage::Open(attempt.link);
        }
    }
}

impl Attempt {
    /// Goes on after an event, and tells whether MQTT can be sent.
    fn go_on(&mut self, is_read_closed: bool, world: &mut World<'_>) -> Result<bool, String> {
        if !self.is_connected {
            let Stream::Tcp(stream) = &self.link.stream else { return Ok(false) };
            if !is_connected(stream).map_err(|error| error.to_string())? {
                return Ok(false);
            }
            self.is_connected = true;
        }
        if is_read_closed {
            self.link.read_closed();
        }
        if self.link.layers.is_none() {
            return Ok(true);
        }
        self.shake_hands(world)
    }

    /// Lets the layers go on with their handshakes, and tells whether these are over.
    fn shake_hands(&mut self, world: &mut World<'_>) -> Result<bool, String> {
        let in_words = |error: io::Error| error.to_string();
        self.link.finish(false).map_err(in_words)?;
        loop {
            let mut is_early = false;
            let has_more = self.link.receive(world.buffer, world.plaintext, |_| is_early = true)?;
            self.link.finish(false).map_err(in_words)?;
            if is_early {
                return Err("the server has sent MQTT before it was spoken to".to_owned());
            }
            if self.link.is_open() || !has_more {
                return Ok(self.link.is_open());
            }
        }
    }
}

impl Destination {
    /// Begins to connect to one of its addresses.
    fn begin(&self, address: SocketAddr, id: CallId, registry: &Registry) -> Result<Link, String> {
        let layers = Layers::towards(self)?;
        let connect = || {
            let mut stream = match self.from {
                None => TcpStream::connect(address)?,
                Some(from) => connect_from(from, address)?,
            };
            stream.set_nodelay(true)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Owner::Caller.token(id.index()), both)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: io::Error| error.to_string())?;
        Ok(Link::dialled(Stream::Tcp(stream), layers, id))
    }
}

/// Begins to connect from one of our addresses.
#[cfg(feature = "system")]
fn connect_from(from: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    if from.is_ipv4() != address.is_ipv4() {
        return Err(io::Error::other(format!(
            "nothing from {from} can be sent there, which is of another family"
        )));
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Begins to connect from one of our addresses.
#[cfg(not(feature = "system"))]
fn connect_from(_from: IpAddr, _address: SocketAddr) -> io::Result<TcpStream> {
    Err(io::Error::other(
        "this binary was built without connections from an address of choice (feature `socket-options`)",
    ))
}

/// Whether a socket is connected by now.
fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
