//! The core: it owns the connections, the sessions, the subscriptions, the retained messages and all that waits,
//! and says what every packet does to them.
//!
//! It is told: a connection was accepted, bytes arrived, it was closed, time has passed and how much of it was missed,
//! bytes have left, a decision has come, a peer that seemed silent has nothing to say. The result is state that the
//! caller looks at: the dirty connections, whose outboxes are to be written, a short queue of [`Effect`]s, and the next
//! deadline. It never asks for the time, for bytes, for a file or for chance.
//!
//! # What the caller owes it
//!
//! A caller works in turns. Calls within one turn may come in any order, but for what stands here.
//!
//! 1. After [`Broker::received`] or [`Broker::resume`] has answered [`Intake::Paused`], nothing more of this
//!    connection is handed over before [`Effect::Resume`] has come for it; then [`Broker::resume`] is called
//!    first, and what it answers holds.
//! 2. A turn ends with [`Broker::tick`], once and in every turn: it begins the next budget of steps and goes on
//!    with what waits. It is called at [`Broker::next_deadline`] at the latest, and at once while
//!    [`Broker::has_work`].
//! 3. After any call there may be effects: [`Broker::next_effect`] is called until it has none, at least before
//!    and after the tick. [`Effect::Close`] and [`Effect::Drop`] are answered with [`Broker::closed`] sooner or
//!    later, and [`Effect::Listen`] with [`Broker::heard_out`].
//! 4. At the end of a turn the outboxes of [`Broker::take_dirty`] are written, each by [`Broker::write_to`]. A
//!    connection is dirty once: whose socket takes no more is written again after [`Broker::writable`], which is
//!    called when the socket takes bytes again. Where nothing can be written any more, [`Broker::lose_output`] is
//!    called.
//! 5. After [`Broker::closed`] the connection's name means nothing any more. A call that names it does nothing.
//! 6. With a journal, batches are taken by [`Broker::take_batch`] when [`Broker::batch_due`] says so, are made
//!    durable in the order in which they were taken, and each is told by [`Broker::durable`]: only then do the
//!    answers leave that promise it. While [`Broker::wants_pages`], what [`Broker::take_fetches`] asks for is read
//!    and handed back by [`Broker::pages`].
//! 7. Where the access control has answered [`Answer::Later`](crate::core::access::Answer::Later), its decision
//!    comes by [`Broker::decide`], or [`Broker::take_decisions`] is called once it has one.
//!
//! Time never goes back: a `now` that is earlier than the last one counts as that. A call costs what the turn has left,
//! and what is too much for it is done by later ticks.

#![cfg_attr(
    feature = "without-fast-path",
    expect(dead_code, reason = "some of it is there for the fast path")
)]

mod admission;
mod answers;
mod authenticate;
mod authorize;
mod batches;
mod begin;
mod budget;
mod clients;
mod clock;
mod connect;
mod control;
mod copies;
mod decisions;
mod deliver;
mod disconnect;
mod distribution;
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
mod operation;
mod options;
mod output;
mod pages;
mod pause;
mod permission;
mod persistence;
mod publish;
mod receive;
mod records;
mod redeliver;
mod restore;
mod room;
mod routing;
mod send;
mod send_retained;
mod subscribe;
mod sys;
mod timers;
mod trace;
mod turn;
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
use crate::core::subscription::{Held, Target};
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

pub use figures::{Figure, Kind, Unit};
pub use listener_options::Introduction;
pub use output::{Statistics, Traffic};
pub use persistence::StorageFigures;
pub use watch::{Part, Unfinished};

/// Connections beyond the limit that are heard until their CONNECT can be refused with a reason.
const REFUSALS_AT_ONCE: usize = 64;

/// What the server has to do with a connection, beside writing its outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write what waits, then tell the peer that nothing more comes, and read on until it closes. What it sends
    /// is thrown away.
    Close(ConnectionId),
    /// Close at once, and say so by [`Broker::closed`].
    Drop(ConnectionId),
    /// Reading may go on, by [`Broker::resume`].
    Resume(ConnectionId),
    /// A peer seems to be silent, and its time is over. Hand over what it has sent, if anything is unread, and then
    /// call [`Broker::heard_out`].
    Listen(ConnectionId),
}

/// Whether the server may read on from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It may.
    More,
    /// It has to wait for [`Effect::Resume`].
    Paused,
}

/// A peer broke the rules, or we can not serve it on: its connection ends for this reason. Boxed, so that what goes
/// well is not slowed down by what seldom fails.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault(Box<Grounds>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grounds {
    reason: ReasonCode,
    what: String,
}

impl Fault {
    #[cold]
    fn new(reason: ReasonCode, what: impl Into<String>) -> Self {
        Self(Box::new(Grounds { reason, what: what.into() }))
    }

    #[cold]
    fn protocol_error(what: &str) -> Self {
        Self::new(ReasonCode::ProtocolError, format!("protocol error: {what}"))
    }
}

/// A client whose Maximum Packet Size leaves no room for an answer.
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

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It has been worked off.
    Done,
    /// So have others of its kind behind it, all of them together of so many bytes. The others are counted.
    Several(usize),
    /// It waits for a decision; nothing of it has taken effect.
    Parked,
    /// Some of it has taken effect, and the rest does in later turns.
    Suspended,
    /// It was the last one of its connection.
    Ended,
}

/// The broker without the world around it.
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
    /// What a turn may cost.
    turn: Turn,
    /// What waits for the next ones.
    waiting: Waiting,
    /// What is told under `$SYS`, if that is wanted.
    system: Option<Box<System>>,
    persistence: Persistence,
    budget: Budget,
    /// What its memory is counted on, in each of its calls. Dropped after all others.
    account: Account,
}

impl Drop for Broker {
    /// What it holds is given back to where it was counted.
    fn drop(&mut self) {
        self.account.enter_at_last();
    }
}

impl Broker {
    /// A broker at the moment `now`. `seed` is what Client Identifiers are drawn from: two brokers with the same
    /// seed and the same inputs do the same, to the byte.
    pub fn new(limits: Limits, access: Box<dyn AccessControl>, seed: u64, now: Time) -> Self {
        Self::counted_on(Account::new(), limits, access, seed, now)
    }

    /// The same for a caller whose own memory is to press on the same budget: what it counts outside of the broker and
    /// what the broker counts are one. There is one such broker in a thread at most.
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

    /// Bytes of memory that are counted for it.
    pub fn held(&self) -> usize {
        self.account.held()
    }

    /// From now on no packet is processed by a short way, as if each of them were traced. For tests, which compare
    /// what comes of it: the same bytes, only more slowly.
    #[doc(hidden)]
    pub fn take_no_short_way(&mut self) {
        let _entered = self.account.enter();
        self.options.in_full_from = LevelFilter::Off;
    }

    /// A connection was accepted by a listener. `None` if there are so many that there is not even room to say why: the
    /// peer is to be dropped.
    pub fn accept(&mut self, peer: Peer, listener: ListenerId, now: Time) -> Option<ConnectionId> {
        let _entered = self.account.enter();
        self.advance(now);
        if self.connections.len() >= self.options.limits.connections.saturating_add(REFUSALS_AT_ONCE) {
            return None;
        }
        let id = self.connections.insert_with(|id| Connection::new(id, peer, listener, now));
        let timer = self.clock.arm(self.options.limits.connect_timeout, Timer::Connection(id));
        self.connections[id].timer = Some(timer);
        self.output.statistics.accepted += 1;
        Some(id)
    }

    /// The dirty connections, in the order in which they became so; `emptied` is filled next time.
    pub fn take_dirty(&mut self, emptied: Vec<ConnectionId>) -> Vec<ConnectionId> {
        let _entered = self.account.enter();
        self.output.sender.dirty.take(emptied)
    }

    /// The next of the dirty connections that may be written at once, because their answers have waited for the latest
    /// batch.
    pub fn next_answered(&mut self) -> Option<ConnectionId> {
        let _entered = self.account.enter();
        self.waiting.next_answered()
    }

    /// Whether a connection is to be written or something is to go on at once.
    pub fn has_work(&self) -> bool {
        !self.output.sender.dirty.is_empty() || !self.effects.is_empty() || self.has_more()
    }

    /// So many peers have something to say in this turn: each gets its share of it. Tells whether they are so many that
    /// those who ask for little are to come first.
    pub fn share_input(&mut self, among: usize) -> bool {
        self.turn.share_input(among)
    }

    /// Whether more of what comes in may be handed over in this turn. Otherwise what is handed over waits here for its
    /// turn.
    pub fn takes_input(&self) -> bool {
        self.turn.takes_input()
    }

    /// The same for peers that have asked for little of late, and are heard before others: half of the turn's input is
    /// for those.
    pub fn takes_little(&self) -> bool {
        self.turn.takes_little()
    }

    /// Steps that have been taken in this turn.
    pub fn steps_taken(&self) -> usize {
        self.turn.taken()
    }

    /// Whether more closed connections may be reported between this turn and the next one, by [`Broker::closed`].
    pub fn takes_ends(&self) -> bool {
        self.turn.takes_ends()
    }

    /// So many steps have been taken for what comes in outside of the core: see `broker/turn.rs` for what a step is.
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
        Some(self.clock.wheel.next_deadline()?.max(self.clock.respite.ends()))
    }

    /// Whether bytes wait for the peer of this connection, and can be written.
    pub fn has_output(&self, id: ConnectionId) -> bool {
        self.connections
            .find(id)
            .is_some_and(|connection| !connection.outbox.is_lost() && !connection.outbox.is_empty())
    }

    /// The peer takes bytes again: its outbox is to be written.
    pub fn writable(&mut self, id: ConnectionId) {
        let _entered = self.account.enter();
        if let Some(connection) = self.connections.find_mut(id) {
            connection.outbox.wake(&mut self.output.sender.dirty);
        }
    }

    /// Writes the outbox of a dirty connection and tops it up from the session's queue.
    ///
    /// # Errors
    ///
    /// The writer's: nothing more can be written.
    pub fn write_to(&mut self, id: ConnectionId, writer: &mut impl io::Write, now: Time) -> io::Result<()> {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(connection) = self.connections.find_mut(id) else { return Ok(()) };
        if self.persistence.journal.as_ref().is_some_and(|journal| journal.is_withheld(id)) {
            connection.outbox.rest();
            return Ok(());
        }
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

    /// Nothing can be written to a connection any more. What its client has said until then still counts, a DISCONNECT
    /// [MQTT-3.14.4-3] as well: it is received until the socket says that nothing follows.
    pub fn lose_output(&mut self, id: ConnectionId, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(connection) = self.connections.find_mut(id) else { return };
        connection.outbox.lose();
        if connection.waits_for_reader() {
            self.effects.push_back(Effect::Resume(id));
        }
    }

    /// A decision has come for the packet that this connection's client waits for. Ignored if it does not.
    pub fn decide(&mut self, id: ConnectionId, verdict: Verdict) {
        let _entered = self.account.enter();
        let Some(connection) = self.connections.find_mut(id) else { return };
        if let Some(parked) = connection.parked.as_mut().filter(|parked| parked.is_waiting) {
            parked.answer(verdict);
            self.effects.push_back(Effect::Resume(id));
        }
    }

    /// What has been counted.
    pub const fn statistics(&self) -> &Statistics {
        &self.output.statistics
    }

    /// Connections, sessions, subscriptions and retained messages at this moment.
    pub fn census(&self) -> Census {
        Census {
            connections: self.connections.len(),
            sessions: self.clients.directory.len(),
            subscriptions: self.routing.trie.len(),
            retained: self.retention.retained.len(),
            timers: self.clock.wheel.len(),
        }
    }

    /// A call begins: time passes and never goes back.
    fn advance(&mut self, now: Time) {
        if self.options.limits.memory.is_some() {
            self.count();
        }
        self.clock.now = self.clock.now.max(now);
    }

    /// Asserts everything that must hold between two calls. For tests and the simulator: it walks all state.
    pub fn check_invariants(&self) {
        self.routing.trie.check_invariants();
        self.clock.wheel.check_invariants();
        self.retention.retained.check_invariants();
        for (id, connection) in self.connections.iter() {
            connection.check_invariants();
            if let State::Serving(session) = connection.state {
                assert_eq!(self.clients.sessions[session].presence, Presence::Connected(id));
            }
        }
        let (mut connected, mut living) = (0, 0);
        for (id, session) in self.clients.sessions.iter() {
            self.check_session(id, session);
            connected += usize::from(session.connection().is_some());
            living += usize::from(session.presence != Presence::Over);
        }
        let queueing = self.connections.iter().filter(|(_, one)| one.outbox.queues_at_most_once).count();
        self.output.sender.check_invariants(queueing);
        assert_eq!(self.clients.directory.len(), living, "every session has its Client Identifier");
        assert_eq!(connected, self.clients.connected, "connected clients are counted");
        let members: usize = self.routing.groups.iter().map(|(_, group)| group.members().len()).sum();
        assert_eq!(members, self.routing.members, "members of groups are counted");
        for (id, group) in self.routing.groups.iter() {
            assert!(!group.members().is_empty(), "a group without members is forgotten");
            for (place, member) in group.members().iter().enumerate() {
                let is_connected = self.clients.sessions[member.session].connection().is_some();
                let is_told = is_connected == (place < group.connected());
                assert!(is_told || self.is_told_later(member.session), "groups know who is connected");
            }
            let entry = self.routing.trie.values(group.filter).get(group.position as usize);
            assert_eq!(entry.map(|entry| entry.target), Some(Target::Group(id)), "a group is in the trie");
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
            let is_told = self.connections[connection].outbox.queues_at_most_once;
            assert!(is_told || !holds, "no QoS 0 message overtakes one that waits");
        }
        for (held, position) in session.subscriptions.iter() {
            let is_there = match held {
                Held::Filter(filter) => {
                    let entry = self.routing.trie.values(filter).get(position as usize);
                    entry.is_some_and(|entry| entry.target == Target::Session(id))
                }
                Held::Group(group) => {
                    let group = self.routing.groups.find(group);
                    let member = group.and_then(|group| group.members().get(position as usize));
                    member.is_some_and(|member| member.session == id)
                }
            };
            assert!(is_there, "a subscription that the session holds exists");
        }
    }
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Connections, those that end included.
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
