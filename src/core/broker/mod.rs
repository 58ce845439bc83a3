//! The core. It owns the connections, sessions, subscriptions, retained messages and everything that is queued, and
//! applies every packet to them.
//!
//! Its caller reports events: a connection was accepted, bytes arrived, a connection closed, time has passed, bytes
//! were written, a decision was made, a peer that seemed silent has sent nothing. The result is state that the caller
//! polls: the dirty connections, whose outboxes are to be written, a short queue of [`Effect`]s, and the next deadline.
//! The core never asks for the time, for bytes, for a file or for a random number.
//!
//! # The contract with the caller
//!
//! The caller works in turns. Within a turn, calls may come in any order, except as stated here.
//!
//! 1. After [`Broker::received`] or [`Broker::resume`] has returned [`Intake::Paused`], the caller passes no more bytes
//!    of this connection until [`Effect::Resume`] comes for it. Then it calls [`Broker::resume`] first, and acts on the
//!    [`Intake`] that this returns.
//! 2. Every turn ends with exactly one [`Broker::tick`], which begins the next budget of steps and continues unfinished
//!    work. It is called at [`Broker::next_deadline`] at the latest, and at once while [`Broker::has_work`].
//! 3. Any call may leave effects. The caller polls [`Broker::next_effect`] until there are none, at least before and
//!    after the tick. Each [`Effect::Close`] and [`Effect::Drop`] is followed by [`Broker::closed`] sooner or later,
//!    and each [`Effect::Listen`] by [`Broker::heard_out`].
//! 4. At the end of a turn, the caller writes the outboxes of [`Broker::take_dirty`] by [`Broker::write_to`]. A
//!    connection is listed once. If its socket accepts no more bytes, the caller calls [`Broker::writable`] when the
//!    socket does so again; if nothing can be written any longer, it calls [`Broker::lose_output`].
//! 5. After [`Broker::closed`], the identifier of the connection is void. A call with it does nothing.
//! 6. With a journal, the caller takes batches by [`Broker::take_batch`] when [`Broker::batch_due`] says so, makes them
//!    durable in the order in which it took them, and reports each by [`Broker::durable`]. Only then do the answers
//!    leave that promise what is in the batch. While [`Broker::wants_pages`], it reads what [`Broker::take_fetches`]
//!    returns, and passes the pages to [`Broker::pages`].
//! 7. If the access control has answered [`Answer::Later`](crate::core::access::Answer::Later), its decision is passed
//!    to [`Broker::decide`], or [`Broker::take_decisions`] is called once there is one.
//! 8. After [`Broker::begin_cluster`], the caller takes at the end of each turn what the other nodes are told, by
//!    [`Broker::take_messages_for_nodes`], [`Broker::take_filter_changes`] and [`Broker::take_client_changes`].
//! 9. After [`Broker::begin_log`], it also appends the messages of each batch to the log, passes what it reads from there
//!    to [`Broker::publish_from_log`], and asks at the end of each turn whether
//!    [packets wait for the end of the log](Broker::begin_reading_to_the_end).
//!
//! Time never goes back: a `now` before the previous one counts as the previous one. A call costs at most what the turn
//! has left; later ticks do the rest.

#![cfg_attr(
    feature = "without-fast-path",
    expect(dead_code, reason = "some of it is there for the fast path")
)]

mod admission;
mod answers;
mod arrivals;
mod authenticate;
mod authorize;
mod batches;
mod begin;
mod bridge_queues;
mod bridges;
mod budget;
mod clients;
mod clock;
mod cluster_log;
mod connect;
mod control;
mod copies;
mod decisions;
mod deliver;
mod disconnect;
mod distribution;
mod elsewhere;
mod ending;
#[cfg(not(feature = "without-fast-path"))]
mod fast_path;
#[cfg(feature = "without-fast-path")]
#[path = "without_fast_path.rs"]
mod fast_path;
mod figures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing_chunks;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing_differential;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing_limits;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing_log;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing_packets;
mod legacies;
mod listener_options;
mod lookup;
mod match_cache;
mod members;
mod nodes;
mod operation;
mod options;
mod output;
mod owed;
mod pages;
mod pause;
mod permission;
mod persistence;
mod publish;
mod receive;
mod records;
mod redeliver;
mod refuse;
mod restore;
mod room;
mod routing;
mod send;
mod send_retained;
mod shortage;
mod subscribe;
mod sys;
mod timers;
mod trace;
mod turn;
mod verdicts;
mod waiting;
mod watch;

use std::collections::VecDeque;
use std::io;

use log::LevelFilter;

use crate::base::memory::Account;
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::access::{AccessControl, Verdict};
use crate::core::connection::{Connection, State};
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;
use crate::core::session::{Presence, Session};
use crate::core::slots::{ConnectionId, ConnectionMark, SessionId, Slots};
use crate::protocol::codec::{DecodeError, ReasonCode};

use budget::Budget;
use clients::Clients;
use clock::{Clock, Timer};
use options::Options;
use output::Output;
use permission::Permission;
use persistence::Persistence;
use routing::Routing;
use send_retained::Retention;
use sys::System;
use turn::Turn;
use waiting::Waiting;

pub use bridges::{DroppedSession, LocalSide};
pub use cluster_log::Logged;
pub use figures::{Figure, Kind, Unit};
pub use listener_options::Introduction;
pub use output::{Statistics, Traffic};
pub use persistence::StorageFigures;
pub use watch::{Part, Unfinished};

/// Connections beyond the limit that are heard until their CONNECT can be refused with a reason.
const REFUSALS_AT_ONCE: usize = 64;

/// What the server must do with a connection, besides writing its outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write the outbox, then shut the connection down for writing, and read until the peer closes. The bytes that are
    /// read are discarded.
    Close(ConnectionId),
    /// Close at once, and report it by [`Broker::closed`].
    Drop(ConnectionId),
    /// Continue reading, by [`Broker::resume`].
    Resume(ConnectionId),
    /// The peer seems to have been silent for too long. Pass on the bytes that it has sent, if any are unread, and then
    /// call [`Broker::heard_out`].
    Listen(ConnectionId),
}

/// Whether the server may continue reading from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It may.
    More,
    /// It must wait for [`Effect::Resume`].
    Paused,
}

/// A peer violated the protocol, or cannot be served any longer: its connection ends for this reason. It is boxed, so
/// that a rare failure does not slow down the usual case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault(Box<Grounds>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grounds {
    reason: ReasonCode,
    what: String,
    /// What only the log says in addition.
    detail: String,
}

impl Fault {
    #[cold]
    fn new(reason: ReasonCode, what: impl Into<String>) -> Self {
        Self(Box::new(Grounds { reason, what: what.into(), detail: String::new() }))
    }

    #[cold]
    fn protocol_error(what: &str) -> Self {
        Self::new(ReasonCode::ProtocolError, format!("protocol error: {what}"))
    }
}

/// The fault of a client whose Maximum Packet Size leaves no room for an answer.
#[cold]
fn too_large(name: &str) -> Fault {
    Fault::new(ReasonCode::PacketTooLarge, format!("{name} exceeds the Maximum Packet Size"))
}

impl From<DecodeError> for Fault {
    #[cold]
    fn from(error: DecodeError) -> Self {
        Self::new(error.reason_code(), error.to_string())
    }
}

/// The result of processing one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The packet has been processed.
    Done,
    /// The packet and others of its kind after it have been processed, with this many bytes in total. The others are
    /// counted already.
    Several(usize),
    /// The packet waits for a decision; nothing of it has taken effect.
    Parked,
    /// Part of the packet has taken effect, and the rest will in later turns.
    Suspended,
    /// The packet was the last one of its connection.
    Ended,
}

/// The broker, without any input or output.
pub struct Broker {
    options: Options,
    permission: Permission,
    clock: Clock,
    connections: Slots<ConnectionMark, Connection>,
    clients: Clients,
    routing: Routing,
    retention: Retention,
    output: Output,
    effects: VecDeque<Effect>,
    /// The budget of steps of the turn.
    turn: Turn,
    /// Work that waits for later turns.
    waiting: Waiting,
    /// The state of `$SYS`, if it is published.
    system: Option<Box<System>>,
    persistence: Persistence,
    budget: Budget,
    /// Counts its memory during each of its calls. It is dropped last.
    account: Account,
}

impl Drop for Broker {
    /// Its memory is released on the account on which it was counted.
    fn drop(&mut self) {
        self.account.enter_at_last();
    }
}

impl Broker {
    /// Creates a broker at the time `now`. Assigned Client Identifiers are derived from `seed`: two brokers with the
    /// same seed and the same inputs produce the same output, to the byte.
    pub fn new(limits: Limits, access: Box<dyn AccessControl>, seed: u64, now: Time) -> Self {
        Self::counted_on(Account::new(), limits, access, seed, now)
    }

    /// Creates a broker that counts its memory together with that of its caller, so that both share the budget. There
    /// is at most one such broker in a thread.
    pub fn with_account_of_thread(
        limits: Limits,
        access: Box<dyn AccessControl>,
        seed: u64,
        now: Time,
    ) -> Self {
        Self::counted_on(Account::of_thread(), limits, access, seed, now)
    }

    fn counted_on(
        account: Account,
        limits: Limits,
        access: Box<dyn AccessControl>,
        seed: u64,
        now: Time,
    ) -> Self {
        let _entered = account.enter();
        Self {
            turn: Turn::new(limits.steps_per_turn),
            options: Options::new(limits),
            permission: Permission::new(access),
            clock: Clock::new(now),
            connections: Slots::default(),
            clients: Clients::new(seed),
            routing: Routing::default(),
            retention: Retention::default(),
            output: Output::new(),
            effects: VecDeque::new(),
            waiting: Waiting::default(),
            system: None,
            persistence: Persistence::default(),
            budget: Budget::default(),
            account,
        }
    }

    /// The bytes of memory that are counted for it.
    pub fn held(&self) -> usize {
        self.account.held()
    }

    /// Turns the fast path off, as if each packet were traced. Tests compare the results: the bytes are the same.
    #[doc(hidden)]
    pub fn take_no_short_way(&mut self) {
        let _entered = self.account.enter();
        self.options.in_full_from = LevelFilter::Off;
    }

    /// A listener accepted a connection. Returns `None` if there are so many connections that there is not even room to
    /// refuse this one with a reason: the caller drops it.
    pub fn accept(&mut self, peer: Peer, listener: ListenerId, now: Time) -> Option<ConnectionId> {
        let _entered = self.account.enter();
        self.advance(now);
        if self.connections.len() >= self.options.limits.connections.saturating_add(REFUSALS_AT_ONCE)
            && !self.options.is_listener_of_bridge(listener)
        {
            return None;
        }
        let id = self.connections.insert_with(|id| Connection::new(id, peer, listener, now));
        let timer = self.clock.arm(self.options.limits.connect_timeout, Timer::Connection(id));
        self.connections[id].timer = Some(timer);
        self.output.statistics.accepted += 1;
        Some(id)
    }

    /// Takes the dirty connections, in the order in which they became dirty. `emptied` is reused for the next ones.
    pub fn take_dirty(&mut self, emptied: Vec<ConnectionId>) -> Vec<ConnectionId> {
        let _entered = self.account.enter();
        self.output.sender.dirty.take(emptied)
    }

    /// Takes the next dirty connection that may be written at once, because its answers waited for the latest batch.
    pub fn next_answered(&mut self) -> Option<ConnectionId> {
        let _entered = self.account.enter();
        self.waiting.next_answered()
    }

    /// Whether a connection is dirty or unfinished work can continue at once.
    pub fn has_work(&self) -> bool {
        !self.output.sender.dirty.is_empty() || !self.effects.is_empty() || self.has_more()
    }

    /// Divides the turn among this many peers that have sent something. Returns whether there are so many that those
    /// with little input should come first.
    pub fn share_input(&mut self, among: usize) -> bool {
        self.turn.share_input(among)
    }

    /// Whether more input is processed in this turn. If not, bytes that are passed on are queued for a later turn.
    pub fn takes_input(&self) -> bool {
        self.turn.takes_input()
    }

    /// The same for peers that have sent little recently, which are served before others: half of the turn's input is
    /// reserved for them.
    pub fn takes_little(&self) -> bool {
        self.turn.takes_little()
    }

    /// The steps that have been taken in this turn.
    pub fn steps_taken(&self) -> usize {
        self.turn.taken()
    }

    /// Whether more closed connections may be reported between this turn and the next one, by [`Broker::closed`].
    pub fn takes_ends(&self) -> bool {
        self.turn.takes_ends()
    }

    /// Adds steps that were taken for input outside the core. `broker/turn.rs` defines a step.
    pub fn take_steps(&mut self, steps: usize) {
        self.turn.take(steps);
    }

    /// The most steps that a turn has taken so far, at most [`Limits::steps_per_turn`].
    pub fn heaviest_turn(&self) -> usize {
        self.turn.heaviest()
    }

    /// Takes the next effect.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Broker::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Time> {
        let timers = self.clock.wheel.next_deadline().map(|due| due.max(self.clock.respite.ends()));
        timers.into_iter().chain(self.clients.bridge_queues.due()).min()
    }

    /// Whether the outbox of this connection has bytes that can be written.
    pub fn has_output(&self, id: ConnectionId) -> bool {
        self.connections
            .find(id)
            .is_some_and(|connection| !connection.outbox.is_lost() && !connection.outbox.is_empty())
    }

    /// The socket accepts bytes again: the connection becomes dirty.
    pub fn writable(&mut self, id: ConnectionId) {
        let _entered = self.account.enter();
        self.wake(id);
    }

    /// Makes a connection dirty that may be written again.
    fn wake(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.find_mut(id) {
            connection.outbox.wake(&mut self.output.sender.dirty);
        }
    }

    /// Writes the outbox of a dirty connection and refills it from the session's queue.
    ///
    /// # Errors
    ///
    /// Returns an error of the writer, after which nothing more can be written.
    pub fn write_to(&mut self, id: ConnectionId, writer: &mut impl io::Write, now: Time) -> io::Result<()> {
        let _entered = self.account.enter();
        self.advance(now);
        if self.persistence.journal.as_ref().is_some_and(|journal| journal.is_withheld(id)) {
            if let Some(connection) = self.connections.find_mut(id) {
                connection.outbox.rest();
            }
            return Ok(());
        }
        self.write_outbox(id, writer)
    }

    /// Writes an outbox of which nothing is withheld.
    #[inline]
    fn write_outbox(&mut self, id: ConnectionId, writer: &mut impl io::Write) -> io::Result<()> {
        let Some(connection) = self.connections.find_mut(id) else { return Ok(()) };
        let count = connection.outbox.write_to(&mut self.output.sender.dirty, writer)?;
        self.output.statistics.sent.bytes += count as u64;
        if connection.waits_for_reader() && connection.outbox.len() <= self.options.limits.outbox_refill_bytes
        {
            self.effects.push_back(Effect::Resume(id));
        }
        if let Some(session) = connection.session() {
            self.pump(session);
        }
        Ok(())
    }

    /// Nothing can be written to a connection any longer. Bytes that its client has sent before are still processed,
    /// including a DISCONNECT [MQTT-3.14.4-3], until the socket reports the end of its input.
    pub fn lose_output(&mut self, id: ConnectionId, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(connection) = self.connections.find_mut(id) else { return };
        connection.outbox.lose();
        if connection.waits_for_reader() {
            self.effects.push_back(Effect::Resume(id));
        }
    }

    /// Applies a decision about the first packet of this connection. It is ignored if no packet waits for one.
    pub fn decide(&mut self, id: ConnectionId, verdict: Verdict) {
        let _entered = self.account.enter();
        let Some(connection) = self.connections.find_mut(id) else { return };
        if let Some(parked) = connection.parked.as_mut().filter(|parked| parked.is_waiting) {
            parked.answer(verdict);
            self.effects.push_back(Effect::Resume(id));
        }
    }

    /// The statistics so far.
    pub const fn statistics(&self) -> &Statistics {
        &self.output.statistics
    }

    /// The present numbers of connections, sessions, subscriptions and retained messages.
    pub fn census(&self) -> Census {
        Census {
            connections: self.connections.len(),
            sessions: self.clients.directory.len(),
            timers: self.clock.wheel.len(),
            ..self.census_of_topics()
        }
    }

    /// The numbers of what is held by topic; the others are zero.
    fn census_of_topics(&self) -> Census {
        Census {
            subscriptions: self.routing.trie.len(),
            retained: self.retention.retained.len(),
            ..Census::default()
        }
    }

    /// Begins a call: time advances, and never goes back.
    fn advance(&mut self, now: Time) {
        if self.options.limits.memory.is_some() {
            self.count();
        }
        self.clock.now = self.clock.now.max(now);
    }

    /// Asserts all invariants that hold between two calls. For tests and the simulator: it walks all state.
    pub fn check_invariants(&self) {
        self.clock.wheel.check_invariants();
        self.retention.retained.check_invariants();
        self.check_connections();
        self.check_sessions();
        self.routing.check_invariants();
        self.check_groups();
    }

    fn check_connections(&self) {
        for (id, connection) in self.connections.iter() {
            connection.check_invariants();
            if let State::Serving(session) = connection.state {
                assert_eq!(self.clients.sessions[session].presence, Presence::Connected(id));
            }
        }
        let queueing = self.connections.iter().filter(|(_, one)| one.outbox.queues_at_most_once).count();
        self.output.sender.check_invariants(queueing);
    }

    fn check_sessions(&self) {
        let (mut connected, mut living) = (0, 0);
        for (id, session) in self.clients.sessions.iter() {
            self.check_session(id, session);
            connected += usize::from(session.connection().is_some());
            living += usize::from(session.presence != Presence::Over);
        }
        assert_eq!(self.clients.directory.len(), living, "every session has its Client Identifier");
        assert_eq!(connected, self.clients.connected, "connected clients are counted");
    }

    /// Asserts that groups know which of their members are connected.
    fn check_groups(&self) {
        for (_, group) in self.routing.groups.iter() {
            for (place, member) in group.members().iter().enumerate() {
                let is_connected = self.clients.sessions[member.session].connection().is_some();
                let is_known = is_connected == (place < group.connected());
                assert!(is_known || self.is_notified_later(member.session), "groups know who is connected");
            }
        }
    }

    fn check_session(&self, id: SessionId, session: &Session) {
        session.check_invariants();
        if session.presence != Presence::Over {
            assert_eq!(
                self.clients.directory.find(&session.client_identifier, &self.clients.sessions),
                Some(id)
            );
        }
        if let Presence::Connected(connection) = session.presence {
            assert_eq!(self.connections[connection].state, State::Serving(id));
            let holds = session.outgoing.as_ref().is_some_and(|outgoing| outgoing.holds_at_most_once());
            let queues = self.connections[connection].outbox.queues_at_most_once;
            assert!(queues || !holds, "no QoS 0 message overtakes one that waits");
        }
        for (held, position) in session.subscriptions.iter() {
            let is_there = self.routing.holds(id, held, position as usize);
            assert!(is_there, "a subscription that the session holds exists");
        }
    }
}

/// The present number of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Connections, including those that are ending.
    pub connections: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Entries of the trie: subscriptions, a Shared Subscription counted once.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Armed timers.
    pub timers: usize,
}
