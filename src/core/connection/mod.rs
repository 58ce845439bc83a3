//! One Network Connection: the state of its handshake, what it negotiated, and its queued input and output.
//!
//! It knows its own state and nothing of other connections; the broker decides what a packet does. A [`Connection`] is
//! the server's side; the parts that both sides need are separate: [`Inbox`] for input, and the Topic Aliases of both
//! directions.

mod aliases;
mod inbox;

use core::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use crate::base::memory::{self, Audit, Counted};
use crate::base::peer::Peer;
use crate::base::time::{Duration, Time};
use crate::core::access::{Exchange, Progress, Verdict};
use crate::core::listener::ListenerId;
use crate::core::outbox::Outbox;
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::wheel::TimerId;
use crate::protocol::codec::{PACKET_SIZE_MAXIMUM, ProtocolVersion};

pub use crate::protocol::codec::Side;
pub use aliases::{InboundAliases, OutboundAliases};
pub use inbox::Inbox;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No CONNECT has been accepted [MQTT-3.1.0-1].
    Greeting,
    /// Connected, with this session.
    Serving(SessionId),
    /// The broker has sent its last packet and waits for the peer to close.
    Ending,
}

/// What an MQTT 5.0 client can say about the connection; most say nothing, and older ones cannot.
#[derive(Debug)]
pub struct Extension {
    /// The largest packet that the client accepts, in bytes [MQTT-3.1.2-24]; no more than the protocol allows.
    pub maximum_packet_size: usize,
    /// Whether it wants Reason Strings and User Properties in all packets [MQTT-3.1.2-29].
    pub wants_problem_information: bool,
    /// The aliases that the client has bound.
    pub inbound_aliases: InboundAliases,
    /// The aliases bound for the client; `None` if it accepts none [MQTT-3.1.2-27].
    pub outbound_aliases: Option<OutboundAliases>,
    /// The extended authentication that the client has chosen.
    pub authentication: Option<Box<Authentication>>,
    /// Whether the Session Expiry Interval of its CONNECT was zero, which a DISCONNECT cannot change.
    pub expiry_is_fixed: bool,
    /// The memory of the extension itself.
    pub counted: Counted,
}

impl Extension {
    /// The bytes that an extension takes besides its aliases.
    pub const MEMORY: usize = memory::allocation(size_of::<Self>());
}

/// An extended authentication by AUTH packets.
#[derive(Debug)]
pub struct Authentication {
    /// The Authentication Method, the same for the whole connection [MQTT-4.12.0-5].
    pub method: Box<str>,
    /// The state of the authentication.
    stage: AuthenticationStage,
    /// The CONNECT while it waits for the outcome.
    pub connect: Box<[u8]>,
    /// The memory that it takes.
    counted: Counted,
}

/// The state of an extended authentication.
#[derive(Debug)]
pub enum AuthenticationStage {
    /// The client has to answer.
    Challenged(Box<dyn Exchange>),
    /// The client has proved who it is.
    Passed {
        /// The User Name that it has proved.
        user_name: Rc<str>,
        /// The last data of the method, until it has been sent.
        data: Vec<u8>,
    },
}

impl Authentication {
    /// Makes an authentication. `connect` is empty if no CONNECT waits for it.
    pub fn new(method: &str, stage: AuthenticationStage, connect: &[u8]) -> Self {
        let counted = Counted::default();
        let mut new = Self { method: method.into(), stage, connect: connect.into(), counted };
        new.count();
        new
    }

    /// The state of the authentication.
    pub const fn stage(&self) -> &AuthenticationStage {
        &self.stage
    }

    /// Sets the state of the authentication.
    pub fn set_stage(&mut self, stage: AuthenticationStage) {
        self.stage = stage;
        self.count();
    }

    /// Hands the client's data to the method and returns the next step; `None` if the method has ended.
    pub fn go_on(&mut self, data: &[u8], now: Time) -> Option<Progress> {
        let AuthenticationStage::Challenged(exchange) = &mut self.stage else { return None };
        let progress = exchange.go_on(data, now);
        self.count();
        Some(progress)
    }

    fn count(&mut self) {
        let stage = match &self.stage {
            AuthenticationStage::Challenged(exchange) => {
                memory::allocation(size_of_val(&**exchange)) + exchange.memory()
            }
            AuthenticationStage::Passed { user_name, data } => {
                memory::allocation(user_name.len() + 2 * size_of::<usize>())
                    + memory::allocation(data.capacity())
            }
        };
        let parts = memory::allocation(self.method.len()) + memory::allocation(self.connect.len());
        self.counted.set(memory::allocation(size_of::<Self>()) + parts + stage);
    }
}

/// A packet that waits for answers about whether it is allowed. Its bytes are the first in the inbox.
#[derive(Debug)]
pub struct Parked {
    /// The answers that have come, in the order of the questions.
    pub verdicts: Vec<Verdict>,
    /// The Client Identifier that was assigned to a CONNECT without one.
    pub assigned: Option<String>,
    /// Whether one more answer is awaited; otherwise the packet is about to be processed again.
    pub is_waiting: bool,
    counted: Counted,
}

impl Parked {
    /// Makes one that waits for one more answer than it has.
    pub fn new(verdicts: Vec<Verdict>) -> Self {
        let mut parked = Self { verdicts, assigned: None, is_waiting: true, counted: Counted::default() };
        parked.count();
        parked
    }

    /// Adds the answer that was awaited.
    pub fn answer(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
        self.is_waiting = false;
        self.count();
    }

    /// Stores the assigned Client Identifier.
    pub fn assign(&mut self, client_identifier: String) {
        self.assigned = Some(client_identifier);
        self.count();
    }

    fn count(&mut self) {
        let assigned = self.assigned.as_ref().map_or(0, String::capacity);
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.verdicts.capacity() * size_of::<Verdict>())
                + memory::allocation(assigned),
        );
    }
}

/// The address of a connection; the usual kind is kept small.
#[derive(Debug)]
enum Origin {
    V4(SocketAddrV4),
    Other(Box<Introduced>),
}

/// A peer of another kind, or one that was introduced.
#[derive(Debug)]
struct Introduced {
    peer: Peer,
    /// The name in its certificate, as the server has verified it.
    certificate: Option<Rc<str>>,
    /// The memory that it takes.
    counted: Counted,
}

impl Origin {
    fn new(peer: Peer, certificate: Option<Rc<str>>) -> Self {
        if let (Peer::Internet(SocketAddr::V4(address)), None) = (peer, &certificate) {
            return Self::V4(address);
        }
        let name =
            certificate.as_ref().map_or(0, |name| memory::allocation(name.len() + 2 * size_of::<usize>()));
        let counted = Counted::new(memory::allocation(size_of::<Introduced>()) + name);
        Self::Other(Box::new(Introduced { peer, certificate, counted }))
    }
}

// A hundred thousand idle connections pay for every byte here.
const _: () = assert!(size_of::<Connection>() <= 104);

/// One Network Connection.
#[derive(Debug)]
pub struct Connection {
    origin: Origin,
    /// The listener that has accepted it.
    pub listener: ListenerId,
    /// The state of the connection.
    pub state: State,
    /// The version that its CONNECT named.
    pub version: ProtocolVersion,
    /// Whether the client is a bridge, which gets none of its own messages and RETAIN as it was published.
    pub is_bridge: bool,
    /// The granted Keep Alive, in seconds; zero turns it off.
    pub keep_alive: u16,
    /// Whether reading is suspended, because an answer is awaited or the peer does not read.
    pub is_paused: bool,
    /// Whether it waits for its turn to continue with its input.
    pub is_deferred: bool,
    /// When the last complete packet came or, if that is later, when reading from the peer began again.
    pub last_heard: Time,
    /// The timer of the connect timeout, then of the Keep Alive, then of the linger time.
    pub timer: Option<TimerId>,
    /// The input that waits.
    pub inbox: Inbox,
    /// The output that waits.
    pub outbox: Outbox,
    /// A packet that waits for answers.
    pub parked: Option<Box<Parked>>,
    /// The state that only 5.0 has.
    pub extension: Option<Box<Extension>>,
}

impl Connection {
    /// Makes a connection that was just accepted.
    pub fn new(id: ConnectionId, peer: Peer, listener: ListenerId, now: Time) -> Self {
        Self {
            origin: Origin::new(peer, None),
            listener,
            state: State::Greeting,
            version: ProtocolVersion::V311,
            is_bridge: false,
            keep_alive: 0,
            is_paused: false,
            is_deferred: false,
            last_heard: now,
            timer: None,
            inbox: Inbox::default(),
            outbox: Outbox::new(id),
            parked: None,
            extension: None,
        }
    }

    /// Begins the end after the broker's last packet: waiting and further input is discarded.
    pub fn begin_ending(&mut self) {
        self.state = State::Ending;
        self.parked = None;
        self.is_paused = false;
        self.is_deferred = false;
        self.inbox = Inbox::default();
    }

    /// Whether it waits for its turn or for an answer.
    pub fn must_wait(&self) -> bool {
        self.is_deferred || self.is_undecided()
    }

    /// Whether it waits for an answer about a packet.
    pub fn is_undecided(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| parked.is_waiting)
    }

    /// Whether it is not read only because its peer does not read.
    pub fn waits_for_reader(&self) -> bool {
        self.is_paused && !self.must_wait()
    }

    /// The address of the peer.
    pub fn peer(&self) -> Peer {
        match &self.origin {
            Origin::V4(address) => Peer::Internet(SocketAddr::V4(*address)),
            Origin::Other(other) => other.peer,
        }
    }

    /// The session that it serves.
    pub const fn session(&self) -> Option<SessionId> {
        match self.state {
            State::Serving(session) => Some(session),
            State::Greeting | State::Ending => None,
        }
    }

    /// The name in the peer's certificate.
    pub fn certificate(&self) -> Option<Rc<str>> {
        match &self.origin {
            Origin::V4(_) => None,
            Origin::Other(other) => other.certificate.clone(),
        }
    }

    /// Sets the address and the identity of the peer, which come from a trusted source.
    pub fn introduce(&mut self, peer: Peer, certificate: Option<Rc<str>>) {
        self.origin = Origin::new(peer, certificate);
    }

    /// The extended authentication that its client has chosen.
    pub fn authentication(&self) -> Option<&Authentication> {
        self.extension.as_ref()?.authentication.as_deref()
    }

    /// Returns the same for changes.
    pub fn authentication_mut(&mut self) -> Option<&mut Authentication> {
        self.extension.as_mut()?.authentication.as_deref_mut()
    }

    /// The largest packet that may be sent, in bytes; never more than the protocol allows.
    pub fn maximum_packet_size(&self) -> usize {
        self.extension.as_ref().map_or(PACKET_SIZE_MAXIMUM, |extension| extension.maximum_packet_size)
    }

    /// Whether answers may carry Reason Strings outside CONNACK and DISCONNECT.
    pub fn wants_problem_information(&self) -> bool {
        self.extension.as_ref().is_some_and(|extension| extension.wants_problem_information)
    }

    /// How long the peer may be silent: one and a half times the Keep Alive [MQTT-3.1.2-22]; `None` for ever.
    pub fn silence_allowed(&self) -> Option<Duration> {
        (self.keep_alive > 0).then(|| Duration::from_milliseconds(u64::from(self.keep_alive) * 1500))
    }

    /// Adds the memory that it holds besides its slot to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        self.inbox.audit(audit);
        self.outbox.audit(audit);
        audit.add(self.parked.as_ref().map_or(0, |parked| parked.counted.bytes()));
        if let Origin::Other(other) = &self.origin {
            audit.add(other.counted.bytes());
        }
        if let Some(extension) = &self.extension {
            audit.add(extension.counted.bytes() + extension.inbound_aliases.memory());
            audit.add(extension.authentication.as_ref().map_or(0, |state| state.counted.bytes()));
            audit.add(extension.outbound_aliases.as_ref().map_or(0, OutboundAliases::memory));
        }
    }

    /// Asserts what must hold between calls.
    pub fn check_invariants(&self) {
        self.outbox.check_invariants();
        assert!(self.parked.is_none() || self.is_paused, "a parked packet suspends reading");
        assert!(self.parked.is_none() || !self.inbox.is_empty(), "a parked packet is in the inbox");
    }
}
