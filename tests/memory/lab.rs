//! A broker whose peers store nothing, so that everything allocated is its own.

use std::io::{self, Write};
use std::num::NonZeroU64;

use brooklet::base::peer::Peer;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::{AccessControl, AllowAll};
use brooklet::core::broker::{Broker, Effect, Intake};
use brooklet::core::journal::{MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;

use crate::truth::Truth;
use crate::wire::Connect;

/// The least that must be held at the peak; with less, the comparison proves nothing.
const PEAK_MINIMUM: usize = 2 * 1024 * 1024;
/// When the broker has freed what a peak has left.
const FORGOTTEN: Duration = Duration::from_seconds(60);

pub struct Lab {
    pub broker: Broker,
    pub now: Time,
    /// Whether sockets take bytes.
    pub is_stalled: bool,
    pub clients: Vec<ConnectionId>,
    /// Clients that are not read from.
    paused: Vec<ConnectionId>,
    truth: Truth,
    name: &'static str,
    wrong: Vec<String>,
}

/// Limits that allow a session so many subscriptions that their memory is noticeable.
pub fn unbounded() -> Limits {
    Limits { subscriptions_per_session: 1_000_000, matches_per_session: 1_000_000, ..Limits::default() }
}

/// Makes a comparison with a broker that is empty at the start and at the end.
pub fn compare(name: &'static str, act: impl FnOnce(&mut Lab)) -> Vec<String> {
    compare_with(name, unbounded(), AllowAll, act)
}

pub fn compare_with(
    name: &'static str,
    limits: Limits,
    access: impl AccessControl + 'static,
    act: impl FnOnce(&mut Lab),
) -> Vec<String> {
    let clients = Vec::with_capacity(100_000);
    let paused = Vec::with_capacity(1_000);
    let wrong = Vec::with_capacity(64);
    let truth = Truth::begin();
    let broker = Broker::new(limits, Box::new(access), 1, Time::ZERO);
    let mut lab = Lab { broker, now: Time::ZERO, is_stalled: false, clients, paused, truth, name, wrong };
    act(&mut lab);
    lab.end();
    lab.wrong
}

impl Lab {
    /// Notes that the state is at its peak.
    pub fn peak(&mut self) {
        self.check("peak");
        let counted = self.truth.compare(self.broker.held()).counted;
        if counted < PEAK_MINIMUM {
            let Self { truth, wrong, name, .. } = self;
            truth.aside(|| wrong.push(format!("{name}: only {counted} bytes are counted at the peak")));
        }
    }

    /// Compares the count with the allocator.
    pub fn check(&mut self, when: &str) {
        let Self { broker, truth, wrong, name, .. } = self;
        broker.check_memory();
        let comparison = truth.compare(broker.held());
        truth.aside(|| {
            eprintln!("{name}, {when}: {comparison}");
            if !comparison.is_right() {
                wrong.push(format!("{name}, {when}: {comparison}"));
            }
        });
    }

    /// All clients leave and return without a session; nothing is left.
    fn end(&mut self) {
        self.is_stalled = false;
        self.close_all();
        self.pass(FORGOTTEN);
        self.pass(FORGOTTEN);
        self.check("gone");
    }

    pub fn begin_journal(&mut self) {
        let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
        let pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::ZERO };
        self.broker.begin_journal(NextNumbers { session, message }, pace);
    }

    /// Makes everything durable that is to be.
    pub fn commit(&mut self) {
        while let Some(batch) = self.broker.take_batch(self.now) {
            let number = batch.number;
            drop(batch);
            self.broker.durable(number, self.now);
            self.settle();
        }
    }

    pub fn open(&mut self) -> ConnectionId {
        let peer = Peer::Internet(([127, 0, 0, 1], 50_000).into());
        let id = self.broker.accept(peer, ListenerId::default(), self.now).expect("there is room");
        self.clients.push(id);
        id
    }

    pub fn connect(&mut self, connect: &Connect) -> ConnectionId {
        let id = self.open();
        self.send(id, &connect.bytes());
        id
    }

    /// Sends bytes of the peer, unless they would stay in its socket.
    pub fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        if self.paused.contains(&id) {
            return;
        }
        if self.broker.received(id, bytes, self.now) == Intake::Paused {
            self.paused.push(id);
        }
        self.settle();
    }

    /// Closes the connection of a peer without a DISCONNECT.
    pub fn close(&mut self, id: ConnectionId) {
        self.broker.closed(id, "gone", self.now);
        self.settle();
    }

    pub fn close_all(&mut self) {
        while let Some(id) = self.clients.pop() {
            self.close(id);
        }
    }

    /// Ends the sessions of these clients.
    pub fn end_sessions(&mut self, names: impl Iterator<Item = String>) {
        self.is_stalled = false;
        self.close_all();
        for name in names {
            let id = self.connect(&Connect::new(crate::wire::V5, &name));
            self.send(id, &crate::wire::DISCONNECT);
            self.clients.clear();
        }
    }

    pub fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.broker.tick(self.now, usize::MAX);
        self.settle();
    }

    /// Does what a server does, until no work is left.
    pub fn settle(&mut self) {
        let mut dirty = Vec::new();
        while self.broker.has_work() {
            dirty = self.broker.take_dirty(dirty);
            for id in dirty.drain(..) {
                let outcome = match self.is_stalled {
                    true => self.broker.write_to(id, &mut Stalled, self.now),
                    false => self.broker.write_to(id, &mut io::sink(), self.now),
                };
                outcome.expect("it blocks or takes all");
            }
            while let Some(effect) = self.broker.next_effect() {
                match effect {
                    Effect::Listen(id) => self.broker.heard_out(id, self.now),
                    Effect::Close(id) | Effect::Drop(id) => self.broker.closed(id, "", self.now),
                    Effect::Resume(id) => {
                        if self.broker.resume(id, self.now) == Intake::More {
                            self.paused.retain(|paused| *paused != id);
                        }
                    }
                }
            }
            self.broker.tick(self.now, usize::MAX);
        }
    }
}

/// A socket that takes nothing.
struct Stalled;

impl Write for Stalled {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
