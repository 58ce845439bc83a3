//! A Client Identifier is connected at one node of a cluster at a time: the later CONNECT wins [MQTT-3.1.4-3].
//!
//! Each node claims the clients that have connected to it, and says so to the others, several in one message. A node that
//! hears of a later CONNECT than that of its own client ends the connection. A node whose own is the later one claims it
//! again, so that the other node hears of it. What was claimed while two nodes could not hear each other is claimed
//! again afterwards. So when all messages have arrived, at most one node has the client: the one with the latest CONNECT.
//!
//! # Which CONNECT is later
//!
//! The one at the greater time of the cluster. If that is the same, the one at the node with the greater incarnation.
//!
//! The clocks of small machines are wrong, and a client must not be refused for an hour because that of its node is an
//! hour slow. So the time of the cluster is that of the fastest clock: each message has the time of its node, and a node
//! that is behind moves its own time forward, for the clients that have connected to it before as well. Nodes that hear
//! each other differ by what a message takes, and by no more than their clocks if they have not heard each other yet. A
//! node that is behind and loses a client to an older CONNECT learns the time from the message that says so, finds its
//! own CONNECT to be the later one, and says that. The system's clock is read once at the start: if it is set later, the
//! time of the cluster does not jump. Of two CONNECTs that are no further apart than the times of their nodes, either may
//! win, but only one.
//!
//! A node moves its time forward by a hundred years at most, so that a message with an impossible time does no harm
//! for ever: a node that starts later comes as far as the others are.
//!
//! # What was not heard
//!
//! NATS passes these messages on at most once. Each has a number, and a node says something every few seconds, so that
//! the others find out what they have missed. A node that has missed something claims all of its clients again, and so
//! does one that connects to NATS, in pieces. A node never waits for another one: while it has no connection, it serves
//! its clients.
//!
//! # Which client
//!
//! A client is its Client Identifier together with the User Name that it has proved, if it has. At one node, a client
//! cannot take over the session of another user. Neither can it from another node: the two are different clients there,
//! and both stay connected.
//!
//! A message has a part of the SHA-256 of both in place of them. So it tells no names, but confirms one that is guessed.

mod clock;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod layout;
mod peers;
mod rivals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound;

use sha2::{Digest, Sha256};

use crate::base::memory::{self, Counted};
use crate::base::time::{Duration, Time};
use crate::core::slots::ConnectionId;

use clock::ClusterClock;
use layout::{ENTRIES_MAXIMUM, ENTRY_LENGTH, HEAD_LENGTH, Head, read};
use peers::{Heard, Peers};
use rivals::Rivals;

pub use clock::TooFar;
pub use layout::{BODY_LENGTH_MAXIMUM, Malformed};

/// How long a node is silent at most.
const BEAT: Duration = Duration::from_milliseconds(5_000);
/// The pause between claiming all clients and doing so again. Lost messages must not lead to ever more of them.
const PAUSE: Duration = Duration::from_milliseconds(5_000);

/// What stands for a client: a part of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientHash([u8; Self::LENGTH]);

impl ClientHash {
    const LENGTH: usize = 16;

    /// That of a client with this Client Identifier, and this User Name if it has proved one.
    pub fn of(client_identifier: &str, user_name: Option<&str>) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((client_identifier.len() as u64).to_be_bytes());
        hasher.update(client_identifier);
        if let Some(name) = user_name {
            hasher.update([1]);
            hasher.update(name);
        }
        let mut bytes = [0; Self::LENGTH];
        bytes.copy_from_slice(&hasher.finalize()[..Self::LENGTH]);
        Self(bytes)
    }
}

/// A client that is connected here.
#[derive(Clone, Copy, Debug)]
struct Client {
    connection: ConnectionId,
    /// When it has connected.
    since: Time,
}

/// A connection that is to end, since its client has connected at another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The connection.
    pub connection: ConnectionId,
    /// Whether the client has been lost so often within a short time that several seem to have the same Client
    /// Identifier. True only once in that time.
    pub has_rival: bool,
}

/// Why a message of another node was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not follow the layout.
    Malformed(Malformed),
    /// Its time is impossible.
    TooFar(TooFar),
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => why.fmt(formatter),
            Self::TooFar(why) => why.fmt(formatter),
        }
    }
}

impl std::error::Error for Refused {}

/// Claiming all clients in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    /// The last client that was claimed, if any was.
    last: Option<ClientHash>,
}

/// The clients of a node, and what is said and heard about them.
#[derive(Debug)]
pub struct Claims {
    incarnation: u64,
    clock: ClusterClock,
    clients: BTreeMap<ClientHash, Client>,
    connections: BTreeMap<ConnectionId, ClientHash>,
    /// Clients that are to be claimed. All are among the clients.
    unsaid: BTreeSet<ClientHash>,
    lost: VecDeque<Lost>,
    rivals: Rivals,
    peers: Peers,
    /// The round in progress.
    round: Option<Round>,
    /// Whether something was missed since that began, so that there is to be another one.
    wants_round: bool,
    /// When the next round may begin.
    next_round: Time,
    /// The number of the last message.
    number: u64,
    /// When the next message is due, even if there is nothing to claim.
    next_beat: Time,
    counted: Counted,
}

impl Claims {
    /// A node without clients. `incarnation` is different for each node and each start, and `wall` is the time since 1970
    /// according to the system.
    pub fn new(incarnation: u64, wall: Duration, now: Time) -> Self {
        let mut claims = Self {
            incarnation,
            clock: ClusterClock::new(wall, now),
            clients: BTreeMap::new(),
            connections: BTreeMap::new(),
            unsaid: BTreeSet::new(),
            lost: VecDeque::new(),
            rivals: Rivals::default(),
            peers: Peers::default(),
            round: None,
            wants_round: false,
            next_round: Time::ZERO,
            number: 0,
            next_beat: Time::ZERO,
            counted: Counted::default(),
        };
        claims.count();
        claims
    }

    /// A client has connected here.
    pub fn connected(&mut self, client: ClientHash, connection: ConnectionId, now: Time) {
        if let Some(older) = self.clients.insert(client, Client { connection, since: now }) {
            self.connections.remove(&older.connection);
        }
        self.connections.insert(connection, client);
        self.unsaid.insert(client);
        self.count();
    }

    /// A connection has ended.
    pub fn ended(&mut self, connection: ConnectionId) {
        if let Some(client) = self.connections.remove(&connection) {
            self.clients.remove(&client);
            self.unsaid.remove(&client);
            self.count();
        }
    }

    /// There is a new connection to the others: all that was said on the former one may be lost.
    pub fn begin_again(&mut self) {
        self.unsaid.clear();
        self.wants_round = true;
        self.round = None;
        self.next_round = Time::ZERO;
        self.count();
    }

    /// Hears what a node has said, perhaps this one itself. Returns how many clients it has claimed.
    ///
    /// # Errors
    ///
    /// No node says this. It has no effect.
    pub fn hear(&mut self, body: &[u8], now: Time) -> Result<usize, Refused> {
        let (head, entries) = read(body).map_err(Refused::Malformed)?;
        if head.incarnation == self.incarnation {
            return Ok(0);
        }
        self.clock.hear(head.time, now).map_err(Refused::TooFar)?;
        match self.peers.hear(head.incarnation, head.number) {
            Heard::InOrder => {}
            Heard::First => self.next_beat = now,
            Heard::FirstOfSeveral => {
                self.next_beat = now;
                self.wants_round = true;
            }
            Heard::AfterLoss => self.wants_round = true,
        }
        let mut count = 0;
        for entry in entries {
            self.compare(entry.client, (head.time_of(entry.age), head.incarnation), now);
            count += 1;
        }
        self.count();
        Ok(count)
    }

    /// Ends the own connection of a client, or claims it again, if there is one.
    fn compare(&mut self, hash: ClientHash, theirs: (u64, u64), now: Time) {
        let Some(&Client { connection, since }) = self.clients.get(&hash) else { return };
        if theirs < (self.clock.at(since), self.incarnation) {
            self.unsaid.insert(hash);
            return;
        }
        self.ended(connection);
        let has_rival = self.rivals.lost(hash, now);
        self.lost.push_back(Lost { connection, has_rival });
    }

    /// The next connection that is to end.
    pub fn next_lost(&mut self) -> Option<Lost> {
        let lost = self.lost.pop_front()?;
        self.count();
        Some(lost)
    }

    /// When there is something to do at the latest; `can_say` is whether a message can be sent.
    pub fn next_deadline(&self, can_say: bool) -> Option<Time> {
        if !self.lost.is_empty() {
            return Some(Time::ZERO);
        }
        let next = match self.wants_round {
            _ if self.has_claims() => Time::ZERO,
            true => self.next_round.min(self.next_beat),
            false => self.next_beat,
        };
        Some(next).filter(|_| can_say)
    }

    /// Whether there are clients to be claimed now.
    fn has_claims(&self) -> bool {
        !self.unsaid.is_empty() || self.round.is_some()
    }

    /// Writes the next message for the other nodes in place of `body`, with as many clients as fit into so many bytes, but
    /// at least one. Returns false if there is none now.
    pub fn write_next(&mut self, length_maximum: usize, now: Time, body: &mut Vec<u8>) -> bool {
        if self.wants_round && self.round.is_none() && self.next_round <= now {
            self.round = Some(Round { last: None });
            self.wants_round = false;
            self.next_round = now + PAUSE;
        }
        if !self.has_claims() && now < self.next_beat {
            return false;
        }
        self.number += 1;
        self.next_beat = now + BEAT;
        let head = Head { incarnation: self.incarnation, number: self.number, time: self.clock.at(now) };
        head.write(body);
        let clients = length_maximum.saturating_sub(HEAD_LENGTH) / ENTRY_LENGTH;
        let end = HEAD_LENGTH + clients.clamp(1, ENTRIES_MAXIMUM) * ENTRY_LENGTH;
        while body.len() < end && self.write_unsaid(now, body) {}
        while body.len() < end && self.write_of_round(now, body) {}
        self.count();
        true
    }

    /// The last message could not be sent.
    pub fn was_not_sent(&mut self) {
        self.wants_round = true;
    }

    fn write_unsaid(&mut self, now: Time, body: &mut Vec<u8>) -> bool {
        let Some(hash) = self.unsaid.pop_first() else { return false };
        if let Some(client) = self.clients.get(&hash) {
            layout::write_entry(hash, now.since(client.since), body);
        }
        true
    }

    fn write_of_round(&mut self, now: Time, body: &mut Vec<u8>) -> bool {
        let Some(Round { last }) = self.round else { return false };
        let after = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.round = self.clients.range((after, Bound::Unbounded)).next().map(|(&hash, client)| {
            layout::write_entry(hash, now.since(client.since), body);
            Round { last: Some(hash) }
        });
        self.round.is_some()
    }

    /// Counts the memory. The maps consist of nodes with 11 places, of which 5 at least are in use.
    fn count(&mut self) {
        const fn map(length: usize, entry: usize) -> usize {
            length * entry * 11 / 5
        }
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + map(self.clients.len(), size_of::<(ClientHash, Client)>())
                + map(self.connections.len(), size_of::<(ConnectionId, ClientHash)>())
                + map(self.unsaid.len(), size_of::<ClientHash>())
                + map(self.peers.len(), Peers::ENTRY)
                + map(self.rivals.len(), Rivals::ENTRY)
                + memory::allocation(self.lost.capacity() * size_of::<Lost>()),
        );
    }
}
