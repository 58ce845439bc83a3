//! A core with its store, and the connections to it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use brooklet::base::peer::Peer;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::broker::{Broker, Effect, Intake, LocalSide};
use brooklet::core::journal::{Batch, Fetch, Pace};
use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerId, ListenerOptions};
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::QoS;

use crate::chance::Chance;
use crate::store::{Epoch, Store};

/// The listener under which the sessions of the bridge are known.
pub const BRIDGE: ListenerId = ListenerId(1);

/// Everything is granted.
struct Everything;

impl AccessControl for Everything {
    fn grants_every_act(&self) -> bool {
        true
    }

    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        Answer::Now(Verdict::Granted)
    }
}

/// Who is at the far end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Client(usize),
    Bridge,
    /// There is none. The broker learns of it then, once it has processed what was sent before.
    Gone(Time),
}

/// One connection.
pub struct Wire {
    pub owner: Owner,
    pub up: VecDeque<u8>,
    pub down: VecDeque<u8>,
    /// The bytes that may be on the way down.
    pub room: usize,
    pub is_paused: bool,
    is_blocked: bool,
    is_closing: bool,
    is_suspect: bool,
}

impl io::Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room.saturating_sub(self.down.len()));
        if count == 0 {
            self.is_blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.down.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a broker starts with in addition to its store.
#[derive(Clone, Debug)]
pub struct Beginning {
    pub limits: Limits,
    pub pace: Pace,
    pub slowest_disk: u64,
    /// The highest QoS of its clients.
    pub qos: QoS,
    /// The local side of its bridge and its options, with the filters that it wants.
    pub bridge: Option<(LocalSide, Rc<ListenerOptions>, Vec<String>)>,
}

pub struct Node {
    pub broker: Broker,
    pub store: Store,
    pub beginning: Beginning,
    pub wires: BTreeMap<ConnectionId, Wire>,
    /// When it starts again.
    pub down_until: Option<Time>,
    /// Copies that brokers before this one have dropped.
    dropped_before: u64,
    pub crashes: u64,
    writing: Option<(Batch, Time)>,
    wanted: Vec<Fetch>,
    seed: u64,
}

impl Node {
    pub fn new(beginning: Beginning, seed: u64) -> Self {
        let broker = Broker::new(beginning.limits.clone(), Box::new(Everything), seed, Time::ZERO);
        let mut node = Self {
            broker,
            store: Store::default(),
            beginning,
            wires: BTreeMap::new(),
            down_until: None,
            dropped_before: 0,
            crashes: 0,
            writing: None,
            wanted: Vec::new(),
            seed,
        };
        node.start(Time::ZERO, &mut Chance::new(seed));
        node
    }

    /// Starts a broker with what is stored.
    pub fn start(&mut self, now: Time, chance: &mut Chance) {
        self.down_until = None;
        self.seed += 1;
        let limits = self.beginning.limits.clone();
        self.broker = Broker::new(limits, Box::new(Everything), self.seed, now);
        // The brokers' clocks show the time of the world: how clocks go on is checked with a single broker.
        let epoch = Epoch::new(Time::ZERO, Time::ZERO);
        let (next, restored) = self.store.restore(epoch, now, chance);
        let options = ListenerOptions::within(&self.beginning.limits);
        let options = ListenerOptions { maximum_qos: self.beginning.qos, ..options };
        self.broker.set_listener_options(ListenerId::default(), Rc::new(options));
        if let Some((side, options, _)) = &self.beginning.bridge {
            self.broker.set_listener_options(BRIDGE, Rc::clone(options));
            self.broker.set_bridges(vec![side.clone()], &[BRIDGE], now);
        }
        self.broker.begin_journal(next, self.beginning.pace);
        for restored in restored {
            self.broker.restore(restored, now);
        }
        self.broker.finish_restore(now);
        if let Some((side, _, filters)) = self.beginning.bridge.clone() {
            let client_identifier = side.client_identifier.clone();
            let dropped = self.broker.set_bridges(vec![side], &[BRIDGE], now);
            assert!(dropped.is_empty(), "{dropped:?}");
            self.broker.end_other_subscriptions(&client_identifier, &filters, now);
        }
    }

    /// The process ends. What is being written may have become durable.
    pub fn crash(&mut self, until: Time, chance: &mut Chance) {
        self.dropped_before = self.dropped();
        self.crashes += 1;
        if let Some((batch, _)) = self.writing.take()
            && chance.percent(50)
        {
            self.store.apply(&batch, batch.now);
        }
        self.wanted.clear();
        self.wires.clear();
        self.down_until = Some(until);
    }

    pub fn is_up(&self) -> bool {
        self.down_until.is_none()
    }

    /// Copies that were dropped since the start of the world.
    pub fn dropped(&self) -> u64 {
        self.dropped_before + self.broker.statistics().dropped + self.broker.statistics().oversized
    }

    pub fn accept(&mut self, owner: Owner, room: usize, now: Time) -> ConnectionId {
        let id = self.broker.accept(Peer::Local, ListenerId::default(), now).expect("there is room");
        let wire = Wire {
            owner,
            up: VecDeque::new(),
            down: VecDeque::new(),
            room,
            is_paused: false,
            is_blocked: false,
            is_closing: false,
            is_suspect: false,
        };
        self.wires.insert(id, wire);
        id
    }

    /// Gives the broker up to so many of the bytes that are on the way up. Returns whether there were any.
    pub fn deliver_up(&mut self, id: ConnectionId, most: usize, now: Time) -> bool {
        let Some(wire) = self.wires.get_mut(&id) else { return false };
        if wire.is_paused || wire.up.is_empty() || most == 0 {
            return false;
        }
        let count = wire.up.len().min(most);
        let bytes: Vec<u8> = wire.up.drain(..count).collect();
        wire.is_paused = self.broker.received(id, &bytes, now) == Intake::Paused;
        true
    }

    /// Takes up to so many of the bytes that are on the way down.
    pub fn take_down(&mut self, id: ConnectionId, most: usize) -> Vec<u8> {
        let Some(wire) = self.wires.get_mut(&id) else { return Vec::new() };
        let count = wire.down.len().min(most);
        let bytes: Vec<u8> = wire.down.drain(..count).collect();
        if wire.is_blocked && wire.down.len() < wire.room {
            wire.is_blocked = false;
            self.broker.writable(id);
        }
        bytes
    }

    /// Whether the broker has ended this connection, and everything was received.
    pub fn is_finished(&self, id: ConnectionId) -> bool {
        let is_over = |wire: &Wire| wire.is_closing && wire.down.is_empty() && !self.broker.has_output(id);
        self.wires.get(&id).is_none_or(is_over)
    }

    /// The broker learns that a connection is over.
    pub fn close(&mut self, id: ConnectionId, now: Time) {
        if self.wires.remove(&id).is_some() {
            self.broker.closed(id, "closed", now);
        }
    }

    /// Does what a server does in a turn for connections with a wire. Returns whether there was any work, and what the
    /// broker wants of others.
    pub fn turn(&mut self, now: Time, chance: &mut Chance, others: &mut Vec<Other>) -> bool {
        let has_written = self.serve_disk(now, chance);
        let has_heard = self.hear_suspects(now);
        if !has_written && !has_heard && !self.broker.has_work() {
            return false;
        }
        for id in self.broker.take_dirty(Vec::new()) {
            if let Some(wire) = self.wires.get_mut(&id) {
                self.broker.write_to(id, wire, now).expect("a wire does not fail");
            }
        }
        self.apply_effects(now, others);
        self.tick(now);
        self.apply_effects(now, others);
        true
    }

    pub fn tick(&mut self, now: Time) {
        self.broker.tick(now, 10);
    }

    fn apply_effects(&mut self, now: Time, others: &mut Vec<Other>) {
        while let Some(effect) = self.broker.next_effect() {
            match effect {
                Effect::Close(id) => match self.wires.get_mut(&id) {
                    Some(Wire { owner: Owner::Gone(_), .. }) => self.close(id, now),
                    Some(wire) => {
                        wire.is_closing = true;
                        wire.is_paused = false;
                    }
                    None => others.push(Other::Close(id)),
                },
                Effect::Drop(id) => match self.wires.contains_key(&id) {
                    true => self.close(id, now),
                    false => others.push(Other::Close(id)),
                },
                Effect::Resume(id) => {
                    let is_paused = self.broker.resume(id, now) == Intake::Paused;
                    match self.wires.get_mut(&id) {
                        Some(wire) => wire.is_paused = is_paused,
                        None if is_paused => {}
                        None => others.push(Other::Resume(id)),
                    }
                }
                Effect::Listen(id) => {
                    if let Some(wire) = self.wires.get_mut(&id) {
                        wire.is_suspect = true;
                    }
                }
            }
        }
    }

    /// Lets the broker judge peers that seem to be silent.
    fn hear_suspects(&mut self, now: Time) -> bool {
        let suspects = self.wires.iter().filter(|(_, wire)| wire.is_suspect).map(|(id, _)| *id);
        let suspects: Vec<ConnectionId> = suspects.collect();
        for &id in &suspects {
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.is_suspect = false;
            }
            self.broker.heard_out(id, now);
        }
        !suspects.is_empty()
    }

    fn serve_disk(&mut self, now: Time, chance: &mut Chance) -> bool {
        if self.writing.as_ref().is_some_and(|(_, done)| *done <= now)
            && let Some((batch, _)) = self.writing.take()
        {
            self.store.apply(&batch, batch.now);
            self.broker.durable(batch.number, now);
            return true;
        }
        if !self.wanted.is_empty() {
            let wanted = std::mem::take(&mut self.wanted);
            let pages = self.store.read(&wanted, Epoch::new(Time::ZERO, Time::ZERO));
            self.broker.pages(&pages, now);
            return true;
        }
        if self.broker.wants_pages() {
            self.wanted = self.broker.take_fetches(now);
            return true;
        }
        if self.writing.is_some() || self.broker.batch_due().is_none_or(|due| due > now) {
            return false;
        }
        let done = now + Duration::from_milliseconds(chance.between(0, self.beginning.slowest_disk));
        self.writing = self.broker.take_batch(now).map(|batch| (batch, done));
        true
    }

    /// When something is due next.
    pub fn due(&self) -> Option<Time> {
        if self.down_until.is_some() {
            return self.down_until;
        }
        let batch = if self.writing.is_none() { self.broker.batch_due() } else { None };
        let done = self.writing.as_ref().map(|(_, done)| *done);
        let gone = self.wires.values().filter_map(|wire| match wire.owner {
            Owner::Gone(at) if at < Time::NEVER => Some(at),
            _ => None,
        });
        self.broker.next_deadline().into_iter().chain(batch).chain(done).chain(gone).min()
    }

    /// Whether everything is durable and nothing is left of any message. What was received and not released may stay
    /// unreleased for ever if its sender has forgotten it.
    pub fn is_at_rest(&self, may_stay_unreleased: bool) -> bool {
        let Store { messages, received, deliveries, .. } = &self.store;
        let is_released = received.is_empty() || may_stay_unreleased;
        self.broker.is_durable() && messages.is_empty() && deliveries.is_empty() && is_released
    }
}

/// Something about a connection without a wire.
#[derive(Clone, Copy, Debug)]
pub enum Other {
    Resume(ConnectionId),
    Close(ConnectionId),
}
