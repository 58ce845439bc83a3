//! The clients that the broker knows, connected or not, by their sessions.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::admission::Admission;
use super::bridge_queues::BridgeQueues;
use crate::core::session::{Directory, Presence, Session};
use crate::core::slots::{SessionId, SessionMark, Slots};
use crate::protocol::codec::PacketIdentifier;

pub(super) struct Clients {
    pub(super) sessions: Slots<SessionMark, Session>,
    /// The sessions by Client Identifier.
    pub(super) directory: Directory,
    /// How many sessions have a connected client.
    pub(super) connected: usize,
    /// What Client Identifiers are drawn from, and how many numbers were drawn.
    pub(super) seed: u64,
    pub(super) drawn: u64,
    /// Clients that wait to be accepted.
    pub(super) admission: Admission,
    /// What is known of the queues of bridges.
    pub(super) bridge_queues: BridgeQueues,
}

impl Clients {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sessions: Slots::default(),
            directory: Directory::new(seed),
            connected: 0,
            seed,
            drawn: 0,
            admission: Admission::default(),
            bridge_queues: BridgeQueues::default(),
        }
    }

    pub(super) fn find(&self, client_identifier: &str) -> Option<SessionId> {
        self.directory.find(client_identifier, &self.sessions)
    }

    /// Returns a Client Identifier that no session has: 128 bits drawn from the seed [MQTT-3.1.3-6].
    pub(super) fn draw_client_identifier(&mut self, prefix: &str) -> String {
        loop {
            let drawn = format!("{prefix}{:016x}{:016x}", self.draw(), self.draw());
            if self.find(&drawn).is_none() {
                return drawn;
            }
        }
    }

    /// Returns the Packet Identifier at which a restored session continues. Those of QoS 1 messages are not persisted:
    /// a late answer of a client to an earlier message must not settle another one.
    pub(super) fn draw_packet_identifier(&mut self) -> PacketIdentifier {
        let [high, low, ..] = self.draw().to_be_bytes();
        PacketIdentifier::new(u16::from_be_bytes([high, low])).unwrap_or(PacketIdentifier::FIRST)
    }

    /// Returns the next number of the seed's sequence. It is a hash, so that a client cannot tell from its own
    /// identifier which one the next client gets.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, self.drawn).hash(&mut hasher);
        hasher.finish()
    }

    /// The bytes that its structures take, without what counts itself.
    pub(super) fn memory(&self) -> usize {
        self.sessions.memory() + self.directory.memory() + self.admission.memory()
    }

    /// Whether a session exists and is not over.
    pub(super) fn is_there(&self, session: SessionId) -> bool {
        self.sessions.find(session).is_some_and(|session| session.presence != Presence::Over)
    }
}
