//! A broker with virtual peers and a virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use brooklet::base::peer::Peer as Address;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::{AccessControl, AllowAll, Verdict};
use brooklet::core::broker::{Broker, Effect, Intake};
use brooklet::core::journal::{MessageNumber, NextNumbers, Pace, SessionNumber};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;

use crate::store::{Epoch, Store};

/// One end of a Network Connection to the broker.
pub type Peer = ConnectionId;

/// The broker and everything around it.
pub struct World {
    pub broker: Broker,
    now: Time,
    output: BTreeMap<Peer, Vec<u8>>,
    closed: BTreeSet<Peer>,
    /// Peers whose sockets take nothing.
    stalled: BTreeSet<Peer>,
    /// The durable state, if anything is persisted.
    store: Store,
}

impl World {
    pub fn new() -> Self {
        Self::with(Limits::default(), AllowAll)
    }

    pub fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::with(limits, AllowAll)
    }

    pub fn with(limits: Limits, access: impl AccessControl + 'static) -> Self {
        let mut broker = Broker::new(limits, Box::new(access), 1, Time::ZERO);
        if crate::IS_PERSISTENT {
            let (session, message) = (SessionNumber(NonZeroU64::MIN), MessageNumber(NonZeroU64::MIN));
            let pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::ZERO };
            broker.begin_journal(NextNumbers { session, message }, pace);
        }
        Self {
            broker,
            store: Store::default(),
            now: Time::ZERO,
            output: BTreeMap::new(),
            closed: BTreeSet::new(),
            stalled: BTreeSet::new(),
        }
    }

    /// Opens a Network Connection on which nothing is sent.
    pub fn open(&mut self) -> Peer {
        self.open_at(ListenerId::default())
    }

    /// The same at a listener.
    pub fn open_at(&mut self, listener: ListenerId) -> Peer {
        let address = Address::Internet(([127, 0, 0, 1], 50_000).into());
        let peer = self.broker.accept(address, listener, self.now).expect("there is room");
        self.settle();
        peer
    }

    /// Opens a Network Connection on which `connect` is sent; the CONNACK is taken and checked to have Success.
    pub fn connect(&mut self, connect: impl AsRef<[u8]>) -> Peer {
        let peer = self.open();
        self.send(peer, connect);
        let connack = self.take_one(peer);
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK {connack:02x?}");
        peer
    }

    /// Sends bytes of the peer.
    pub fn send(&mut self, peer: Peer, bytes: impl AsRef<[u8]>) {
        assert!(!self.closed.contains(&peer), "the broker has closed this connection");
        self.broker.received(peer, bytes.as_ref(), self.now);
        self.settle();
    }

    /// Sends a packet of the peer; the broker must answer with exactly one, which is returned.
    pub fn ask(&mut self, peer: Peer, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(peer, bytes);
        self.take_one(peer)
    }

    /// Everything that the broker has sent to the peer since the last call, cut into packets.
    pub fn take(&mut self, peer: Peer) -> Vec<Vec<u8>> {
        let bytes = self.output.remove(&peer).unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut packets = Vec::new();
        while !rest.is_empty() {
            let (length, header) = remaining_length(rest);
            let (packet, behind) = rest.split_at(header + length);
            packets.push(packet.to_vec());
            rest = behind;
        }
        packets
    }

    /// The one packet that the broker has sent to the peer since the last call.
    pub fn take_one(&mut self, peer: Peer) -> Vec<u8> {
        let mut packets = self.take(peer);
        assert_eq!(packets.len(), 1, "one packet is expected, not {packets:02x?}");
        packets.remove(0)
    }

    /// Whether the broker has closed the connection.
    pub fn is_closed(&self, peer: Peer) -> bool {
        self.closed.contains(&peer)
    }

    /// Closes the peer's connection without a DISCONNECT.
    pub fn cut(&mut self, peer: Peer) {
        self.broker.closed(peer, "connection closed by peer", self.now);
        self.closed.insert(peer);
        self.settle();
    }

    /// Stops the peer's socket from taking bytes, or lets it take them again.
    pub fn stall(&mut self, peer: Peer, is_stalled: bool) {
        if is_stalled {
            self.stalled.insert(peer);
        } else {
            self.stalled.remove(&peer);
            self.broker.writable(peer);
        }
        self.settle();
    }

    /// Makes the decision about a packet that waits.
    pub fn decide(&mut self, peer: Peer, verdict: Verdict) {
        self.broker.decide(peer, verdict);
        self.settle();
    }

    /// Lets time pass.
    pub fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_milliseconds(milliseconds);
        while let Some(deadline) = self.broker.next_deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.broker.tick(self.now, 1000);
            self.settle();
        }
        self.now = end;
        self.broker.tick(self.now, 1000);
        self.settle();
    }

    /// Lets seconds pass.
    pub fn pass_seconds(&mut self, seconds: u64) {
        self.pass(seconds * 1000);
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// Does what a server does, until no work is left, and checks the core after each step.
    pub fn settle(&mut self) {
        self.broker.check_invariants();
        while self.broker.has_work() || self.commits() {
            for peer in self.broker.take_dirty(Vec::new()) {
                if self.stalled.contains(&peer) {
                    self.broker.write_to(peer, &mut Stalled, self.now).expect("it only blocks");
                } else if !self.closed.contains(&peer) {
                    let output = self.output.entry(peer).or_default();
                    self.broker.write_to(peer, output, self.now).expect("a vector takes all");
                }
            }
            while let Some(effect) = self.broker.next_effect() {
                self.apply(effect);
            }
            self.broker.tick(self.now, 1000);
            self.broker.check_invariants();
            self.broker.check_memory();
        }
    }

    /// Makes data durable, if anything is persisted and the test does not do that itself. Returns whether there was
    /// any.
    fn commits(&mut self) -> bool {
        if !crate::IS_PERSISTENT || self.broker.batch_due().is_none() && !self.broker.wants_pages() {
            return false;
        }
        if self.broker.batch_due().is_some()
            && let Some(batch) = self.broker.take_batch(self.now)
        {
            self.store.write(&batch, self.now);
            self.broker.durable(batch.number, self.now);
        }
        let fetches = self.broker.take_fetches(self.now);
        self.broker.pages(&self.store.read(&fetches, Epoch::new(Time::ZERO, Time::ZERO)), self.now);
        true
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Close(peer) => {
                let output = self.output.entry(peer).or_default();
                self.broker.write_to(peer, output, self.now).expect("a vector takes all");
                self.closed.insert(peer);
                self.broker.closed(peer, "", self.now);
            }
            Effect::Drop(peer) => {
                self.closed.insert(peer);
                self.broker.closed(peer, "", self.now);
            }
            Effect::Resume(peer) => {
                let _: Intake = self.broker.resume(peer, self.now);
            }
            // The bytes of peers are passed on at once.
            Effect::Listen(peer) => self.broker.heard_out(peer, self.now),
        }
    }
}

/// A socket that takes nothing.
struct Stalled;

impl std::io::Write for Stalled {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn remaining_length(packet: &[u8]) -> (usize, usize) {
    let mut length = 0;
    for (index, &byte) in packet[1..].iter().enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return (length, index + 2);
        }
    }
    panic!("the broker sent a cut packet: {packet:02x?}");
}
