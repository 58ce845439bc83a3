//! Outgoing connections. A destination is a host with a port and the protocols spoken there. Its addresses, of both
//! families, are tried one after the other until MQTT can be sent; each has a time limit that includes the handshakes
//! of TLS and WebSocket. The caller receives reports, reads and writes when they say so, and decides whether to dial
//! again: nothing is retried here.

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
use super::link::{Asked, End, Link, Turn};
use super::owner::Owner;
use super::resolver::{Answer, Resolver, Ticket, address_of};
use super::stream::Stream;
#[cfg(feature = "cluster")]
use super::tls::ClientSetup;
use crate::base::time::Time;
use crate::core::slots::Slots;

/// A report about an outgoing connection. None follows [`Report::Failed`], [`Report::Closed`] or [`Report::Broken`].
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// MQTT can be sent to this address.
    Connected(SocketAddr),
    /// There may be something to receive.
    Readable,
    /// More can be sent, after less than everything was accepted.
    Writable,
    /// MQTT could not be sent to any address.
    Failed(Vec<Failure>),
    /// The connection was open and has closed, for this reason.
    Closed(String),
    /// The connection was open, and TLS or WebSocket says why it cannot go on.
    Broken(String),
}

/// Why MQTT could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The address that was tried; `None` if the name has none.
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
    /// Whether less than everything was accepted of the last bytes to send.
    is_full: bool,
}

/// How far an outgoing connection has come.
enum Stage {
    /// Nothing is under way; this lasts no longer than one call from outside.
    Between,
    /// The addresses of the host are being looked up.
    Resolving(Ticket),
    /// One address is being tried, and these are left.
    Trying(Attempt, vec::IntoIter<SocketAddr>),
    /// MQTT goes both ways.
    Open(Link),
}

/// An attempt to connect to one address.
struct Attempt {
    address: SocketAddr,
    link: Link,
    /// Whether the socket is connected, so that the layers shake hands.
    is_connected: bool,
    until: Time,
}

/// All outgoing connections.
#[derive(Default)]
pub(super) struct Calls {
    calls: Slots<CallMark, Call>,
    reports: VecDeque<(CallId, Report)>,
}

/// The parts of the loop that an outgoing connection needs in order to proceed.
pub(super) struct World<'a> {
    pub(super) registry: &'a Registry,
    /// Where bytes are read to first.
    pub(super) buffer: &'a mut [u8],
    /// Where the bytes of a read with TLS are decrypted to.
    pub(super) plaintext: &'a mut Vec<u8>,
    pub(super) now: Time,
}

impl Calls {
    /// Whether there are no outgoing connections. Only bridges and clusters make them, so without these features the
    /// compiler leaves out what follows.
    pub(super) fn is_empty(&self) -> bool {
        cfg!(not(any(feature = "bridge", feature = "cluster", test))) || self.calls.is_empty()
    }

    /// The socket of an open connection.
    #[cfg(all(test, feature = "system", feature = "tls", feature = "websocket"))]
    pub(super) fn socket(&self, id: CallId) -> Option<&TcpStream> {
        match &self.calls.find(id)?.stage {
            Stage::Open(Link { stream: Stream::Tcp(stream), .. }) => Some(stream),
            _ => None,
        }
    }

    /// Bytes that the outgoing connections take, without their layers.
    pub(super) fn memory(&self) -> usize {
        self.calls.memory()
    }

    /// The next report about one of them. To be called until it returns `None`.
    pub(super) fn next_report(&mut self) -> Option<(CallId, Report)> {
        self.reports.pop_front()
    }

    /// When the next attempt times out.
    pub(super) fn due(&self) -> Option<Time> {
        let until = |call: &Call| match &call.stage {
            Stage::Trying(attempt, _) => Some(attempt.until),
            Stage::Between | Stage::Resolving(_) | Stage::Open(_) => None,
        };
        self.calls.iter().filter_map(|(_, call)| until(call)).min()
    }

    /// Starts connecting.
    ///
    /// # Errors
    ///
    /// There are too many outgoing connections, or too many names are being looked up.
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

    /// Begins the handshake of TLS on a connection that is open and has been plain so far. The reports are those of a
    /// new connection: it can be used again after [`Report::Connected`], and [`Report::Failed`] ends it.
    #[cfg(feature = "cluster")]
    pub(super) fn secure(&mut self, id: CallId, setup: &ClientSetup, world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        let mut link = match std::mem::replace(&mut call.stage, Stage::Between) {
            Stage::Open(link) => link,
            other => {
                call.stage = other;
                return;
            }
        };
        self.reports.retain(|(reported, _)| *reported != id);
        call.is_full = false;
        call.failures.clear();
        let host = &call.destination.host;
        let begun = link.peer().map_err(|error| error.to_string()).and_then(|address| {
            link.layers = Some(Layers::secured(setup, host)?);
            link.turn = Turn::Waiting(Asked::Much);
            Ok(address)
        });
        match begun {
            Ok(address) => {
                let until = world.now + call.destination.patience;
                let attempt = Attempt { address, link, is_connected: true, until };
                call.stage = Stage::Trying(attempt, Vec::new().into_iter());
                self.go_on(id, false, world);
            }
            Err(why) => {
                call.failures.push(Failure { address: None, why });
                self.fail(id);
            }
        }
    }

    /// The connection that has asked the question with this ticket.
    pub(super) fn asker_of(&self, ticket: Ticket) -> Option<CallId> {
        let is_asker = |call: &Call| matches!(call.stage, Stage::Resolving(asked) if asked == ticket);
        self.calls.iter().find_map(|(id, call)| is_asker(call).then_some(id))
    }

    /// Takes the addresses of a host.
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

    /// Tries the next address, and those after it as long as they fail at once.
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

    /// Gives up attempts that have timed out.
    pub(super) fn expire(&mut self, world: &mut World<'_>) {
        let is_late =
            |call: &Call| matches!(&call.stage, Stage::Trying(attempt, _) if attempt.until <= world.now);
        let late: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| is_late(call)).map(|(id, _)| id).collect();
        for id in late {
            self.give_up(id, "no answer in time", world);
        }
    }

    /// Records that the address being tried has failed, and tries the next one.
    fn give_up(&mut self, id: CallId, why: &str, world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        let Stage::Trying(attempt, left) = &mut call.stage else { return };
        call.failures.push(Failure { address: Some(attempt.address), why: why.to_owned() });
        let left = std::mem::take(left);
        self.try_next(id, left, world);
    }

    /// Handles a poller event of the link with this number.
    pub(super) fn handle_event(&mut self, index: usize, event: &Event, world: &mut World<'_>) {
        let Some(id) = u32::try_from(index).ok().and_then(|index| self.calls.id_at(index)) else { return };
        let call = &mut self.calls[id];
        match &mut call.stage {
            Stage::Between | Stage::Resolving(_) => {}
            Stage::Trying(..) => self.go_on(id, event.is_read_closed(), world),
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

    /// Continues with the address that is being tried.
    fn go_on(&mut self, id: CallId, is_read_closed: bool, world: &mut World<'_>) {
        let Some(call) = self.calls.find_mut(id) else { return };
        let Stage::Trying(attempt, _) = &mut call.stage else { return };
        let address = attempt.address;
        match attempt.go_on(is_read_closed, world) {
            Ok(false) => {}
            Ok(true) => {
                call.open();
                // Bytes that have arrived in the meantime are not reported again by the poller.
                let news = [Report::Connected(address), Report::Readable];
                self.reports.extend(news.map(|report| (id, report)));
            }
            Err(why) => self.give_up(id, &why, world),
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

    /// Reads once and passes on the bytes that were received.
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
            Err(end) => return self.close(id, end),
        }
        self.answer(id);
    }

    /// Sends at once what the layers answer by themselves.
    fn answer(&mut self, id: CallId) {
        let Some(Call { stage: Stage::Open(link), .. }) = self.calls.find_mut(id) else { return };
        if link.layers.as_ref().is_some_and(|layers| layers.has_output())
            && let Err(error) = link.finish(false)
        {
            self.lose_output(id, &error);
        }
    }

    /// Nothing can be sent any longer. The link is read to its end, since what the peer has sent before counts.
    fn lose_output(&mut self, id: CallId, error: &io::Error) {
        let Some(Call { stage: Stage::Open(link), .. }) = self.calls.find_mut(id) else { return };
        link.lose_output(error);
        if link.turn != Turn::Listed {
            link.turn = Turn::Listed;
            self.reports.push_back((id, Report::Readable));
        }
    }

    /// Sends MQTT bytes, as many as are accepted now, and returns their number. If that is less than all of them, a
    /// report follows when more can be sent.
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

    /// Closes a connection, or abandons one that is not open yet; nothing more is reported about it. Bytes that were
    /// sent and are still queued here go out if the socket accepts them now.
    pub(super) fn hang_up(&mut self, id: CallId, resolver: &mut Resolver) {
        self.reports.retain(|(reported, _)| *reported != id);
        match self.calls.remove(id).map(|call| call.stage) {
            Some(Stage::Resolving(ticket)) => resolver.withdraw(ticket),
            Some(Stage::Open(mut link)) => {
                link.begin_closing();
                // The connection is given up whether or not this succeeds.
                let _ = link.finish(true);
            }
            Some(Stage::Between | Stage::Trying(..)) | None => {}
        }
    }

    fn close(&mut self, id: CallId, end: End) {
        if self.calls.remove(id).is_some() {
            let report = match end {
                End::Closed(why) => Report::Closed(why),
                End::Broken(why) => Report::Broken(why),
            };
            self.reports.push_back((id, report));
        }
    }
}

impl Call {
    /// Marks the connection as open, after the attempt has succeeded.
    fn open(&mut self) {
        if let Stage::Trying(mut attempt, _) = std::mem::replace(&mut self.stage, Stage::Between) {
            attempt.link.turn = Turn::Listed;
            self.stage = Stage::Open(attempt.link);
        }
    }
}

impl Attempt {
    /// Continues after an event, and returns whether MQTT can be sent.
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

    /// Continues the handshakes of the layers, and returns whether they are over.
    fn shake_hands(&mut self, world: &mut World<'_>) -> Result<bool, String> {
        let in_words = |error: io::Error| error.to_string();
        self.link.finish(false).map_err(in_words)?;
        loop {
            let mut is_early = false;
            let has_more = self.link.receive(world.buffer, world.plaintext, |_| is_early = true)?;
            self.link.finish(false).map_err(in_words)?;
            if is_early {
                return Err("the server has sent something before it was spoken to".to_owned());
            }
            if self.link.is_open() || !has_more {
                return Ok(self.link.is_open());
            }
        }
    }
}

impl Destination {
    /// Starts connecting to one of the destination's addresses.
    fn begin(&self, address: SocketAddr, id: CallId, registry: &Registry) -> Result<Link, String> {
        let layers = Layers::towards(self)?;
        let connect = || {
            let mut stream = match self.from {
                None => TcpStream::connect(address)?,
                Some(from) => connect_from(from, address)?,
            };
            stream.set_nodelay(true)?;
            self.set_patience_of_system(&stream)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Owner::Caller.token(id.index()), both)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: io::Error| error.to_string())?;
        Ok(Link::dialled(Stream::Tcp(stream), layers, id))
    }

    /// Tells the system when to give up a peer that has vanished.
    #[cfg(feature = "system")]
    fn set_patience_of_system(&self, stream: &TcpStream) -> io::Result<()> {
        use std::time::Duration;
        let socket = socket2::SockRef::from(stream);
        if let Some([idle, interval, probes]) = self.keepalive {
            let [idle, interval] = [idle, interval].map(|seconds| Duration::from_secs(seconds.into()));
            let keepalive = socket2::TcpKeepalive::new().with_time(idle).with_interval(interval);
            socket.set_tcp_keepalive(&keepalive.with_retries(probes))?;
        }
        if let Some(timeout) = self.user_timeout {
            socket.set_tcp_user_timeout(Some(Duration::from_millis(timeout.milliseconds())))?;
        }
        Ok(())
    }

    /// Tells the system when to give up a peer that has vanished.
    #[cfg(not(feature = "system"))]
    fn set_patience_of_system(&self, _stream: &TcpStream) -> io::Result<()> {
        match self.keepalive {
            None => Ok(()),
            Some(_) => {
                Err(io::Error::other("this binary was built without bridge_tcp_keepalive (feature `system`)"))
            }
        }
    }
}

/// Starts connecting from a local address.
#[cfg(feature = "system")]
fn connect_from(from: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    if from.is_ipv4() != address.is_ipv4() {
        return Err(io::Error::other(format!("{from} cannot reach it: it is an address of another family")));
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Starts connecting from a local address.
#[cfg(not(feature = "system"))]
fn connect_from(_from: IpAddr, _address: SocketAddr) -> io::Result<TcpStream> {
    Err(io::Error::other(
        "this binary was built without connections from a chosen address (feature `system`)",
    ))
}

/// Whether the socket has finished connecting.
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
