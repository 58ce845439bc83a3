//! One Network Connection: how far its handshake is, what it negotiated, what waits in both directions.
//!
//! It knows its own state and nothing of other connections; what a packet does is for the broker to say. A
//! [`Connection`] is the server's side of one; what both sides need is apart: [`Inbox`] for what came, and the Topic
//! Aliases of both directions.

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

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No CONNECT has been accepted [MQTT-3.1.0-1].
    Greeting,
    /// Connected, with this session.
    Serving(SessionId),
    /// The broker has said its last word and waits for the peer to close.
    Ending,
}

/// What MQTT 5.0 lets a client say about the connection; most say nothing, and older ones can not.
#[derive(Debug)]
pub struct Extension {
    /// The largest packet that the client accepts, in bytes [MQTT-3.1.2-24]; no more than the protocol allows.
    pub maximum_packet_size: usize,
    /// Whether it wants Reason Strings and User Properties everywhere [MQTT-3.1.2-29].
    pub wants_problem_information: bool,
    /// Aliases that the client bound.
    pub inbound_aliases: InboundAliases,
    /// Aliases bound for it; without, if it accepts none [MQTT-3.1.2-27].
    pub outbound_aliases: Option<OutboundAliases>,
    /// The extended authentication that it has chosen.
    pub authentication: Option<Box<Authentication>>,
    /// The Session Expiry Interval of its CONNECT was zero, which a DISCONNECT can not change.
    pub expiry_is_fixed: bool,
    /// What the extension itself takes.
    pub counted: Counted,
}

impl Extension {
    /// Bytes that one takes beside its aliases.
    pub const MEMORY: usize = memory::allocation(size_of::<Self>());
}

/// An extended authentication by AUTH packets.
#[derive(Debug)]
pub struct Authentication {
    /// The Authentication Method, the same for as long as the connection lasts [MQTT-4.12.0-5].
    pub method: Box<str>,
    /// How far it has come.
    stage: AuthenticationStage,
    /// The CONNECT while it waits for the outcome.
    pub connect: Box<[u8]>,
    /// What it takes.
    counted: Counted,
}

/// How far an extended authentication has come.
#[derive(Debug)]
pub enum AuthenticationStage {
    /// The client is to answer.
    Challenged(Box<dyn Exchange>),
    /// The client has proved who it is.
    Passed {
        /// Who it is.
        user_name: Rc<str>,
        /// The last word of the method, until it has been said.
        data: Vec<u8>,
    },
}

impl Authentication {
    /// One whose client is to answer. `connect` is empty where no CONNECT waits.
    pub fn new(method: &str, stage: AuthenticationStage, connect: &[u8]) -> Self {
        let counted = Counted::default();
        let mut new = Self { method: method.into(), stage, connect: connect.into(), counted };
        new.count();
        new
    }

    /// How far it has come.
    pub const fn stage(&self) -> &AuthenticationStage {
        &self.stage
    }

    /// It has come further.
    pub fn set_stage(&mut self, stage: AuthenticationStage) {
        self.stage = stage;
        self.count();
    }

    /// What the method makes of what the client has sent; `None` after its last word.
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

/// A packet that waits for answers about what it may do. Its bytes are the first in the inbox.
#[derive(Debug)]
pub struct Parked {
    /// The answers that it has, in the order of the questions.
    pub verdicts: Vec<Verdict>,
    /// The Client Identifier that was drawn for a CONNECT without one.
    pub assigned: Option<String>,
    /// Whether one more is awaited; otherwise the packet is about to be worked on again.
    pub is_waiting: bool,
    counted: Counted,
}

impl Parked {
    /// One that waits for an answer more than it has.
    pub fn new(verdicts: Vec<Verdict>) -> Self {
        let mut parked = Self { verdicts, assigned: None, is_waiting: true, counted: Counted::default() };
        parked.count();
        parked
    }

    /// The answer that was awaited has come.
    pub fn answer(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
        self.is_waiting = false;
        self.count();
    }

    /// Keeps the Client Identifier that was drawn.
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

/// Where a connection comes from, the usual kind kept small.
#[derive(Debug)]
enum Origin {
    V4(SocketAddrV4),
    Other(Box<Introduced>),
}

/// A peer of another kind, or one who was introduced.
#[derive(Debug)]
struct Introduced {
    peer: Peer,
    /// The name in its certificate, as the server has verified it.
    certificate: Option<Rc<str>>,
    /// What it takes.
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

// A hundred thousand connections that do nothing pay for every byte here.
const _: () = assert!(size_of::<Connection>() <= 104);

/// One Network Connection.
#[derive(Debug)]
pub struct Connection {
    origin: Origin,
    /// The listener that it came in by.
    pub listener: ListenerId,
    /// How far it has come.
    pub state: State,
    /// The version that its CONNECT named.
    pub version: ProtocolVersion,
    /// Whether its client is a bridge, which gets none of its own messages and RETAIN as it was published.
    pub is_bridge: bool,
    /// The Keep Alive in force, in seconds; zero turns it off.
    pub keep_alive: u16,
    /// Whether reading has been suspended, because an answer is awaited or the peer does not read.
    pub is_paused: bool,
    /// Whether it waits for its turn to go on with what has come.
    pub is_deferred: bool,
    /// When the last whole packet came, or, if that is later, when reading from the peer began again.
    pub last_heard: Time,
    /// The connect timeout, then the Keep Alive, then the linger time.
    pub timer: Option<TimerId>,
    /// What came and waits.
    pub inbox: Inbox,
    /// What goes and waits.
    pub outbox: Outbox,
    /// A packet that waits for answers.
    pub parked: Option<Box<Parked>>,
    /// What only 5.0 has.
    pub extension: Option<Box<Extension>>,
}

impl Connection {
    /// A connection that was just accepted.
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

    /// The broker has said its last word: whatever waits or comes is of no interest any more.
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

    /// Whether it is not read from for no other reason than that its peer does not read.
    pub fn waits_for_reader(&self) -> bool {
        self.is_paused && !self.must_wait()
    }

    /// Where it comes from.
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

    /// Who the peer is, as somebody who can be trusted has told.
    pub fn introduce(&mut self, peer: Peer, certificate: Option<Rc<str>>) {
        self.origin = Origin::new(peer, certificate);
    }

    /// The extended authentication that its client has chosen.
    pub fn authentication(&self) -> Option<&Authentication> {
        self.extension.as_ref()?.authentication.as_deref()
    }

    /// The same, to go on with.
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

    /// Adds what it takes beside its slot to an audit.
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
