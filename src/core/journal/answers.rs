//! Answers that promise something, while it is not yet so. Those of one connection leave in their order, as the
//! standards ask of acknowledgements [MQTT-4.6.0-2] [MQTT-4.6.0-3].

use std::collections::{BTreeMap, VecDeque};

use super::{ENTRY_BYTES, MessageNumber};
use crate::base::memory;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::AcknowledgementKind;

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Only for those before it.
    Nothing,
    /// That this batch is durable.
    Batch(u64),
    /// That this message is durable, or that nobody needs it any more.
    Message(MessageNumber),
}

/// An encoded packet.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An acknowledgement of success.
    Plain([u8; AcknowledgementKind::PLAIN_LENGTH]),
    /// Any other one.
    Packet(Box<[u8]>),
}

impl Answer {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Packet(bytes) => bytes,
        }
    }

    /// Bytes on the heap.
    fn memory(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Packet(bytes) => memory::allocation(bytes.len()),
        }
    }
}

/// What one connection's answers take beside themselves.
const QUEUE_BYTES: usize = ENTRY_BYTES + size_of::<Queue>();

/// The answers of one connection that wait.
#[derive(Debug)]
struct Queue {
    answers: VecDeque<(Awaited, Answer)>,
    /// The position of the last answer that has left.
    left: u64,
}

impl Queue {
    /// Bytes of the list itself.
    fn memory(&self) -> usize {
        memory::allocation(self.answers.capacity() * size_of::<(Awaited, Answer)>())
    }
}

/// The answers of all connections that wait. How many there may be of one connection is limited by what its client
/// may have unanswered, and in all by what may wait to be persisted.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: BTreeMap<ConnectionId, Queue>,
    /// How many were ever held.
    held: u64,
    /// Bytes of the lists, and of the answers that are not plain.
    bytes: usize,
}

impl Answers {
    /// Whether answers of this connection wait.
    #[inline]
    pub fn are_waiting(&self, id: ConnectionId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&id)
    }

    /// Lets an answer wait behind those before it.
    pub fn hold(&mut self, id: ConnectionId, awaited: Awaited, answer: Answer) {
        // Of all connections, so that the positions of one grow though its list is forgotten now and then.
        let left = self.held;
        self.held += 1;
        let queue = self.waiting.entry(id).or_insert_with(|| Queue { answers: VecDeque::new(), left });
        self.bytes += answer.memory();
        self.bytes -= queue.memory();
        queue.answers.push_back((awaited, answer));
        self.bytes += queue.memory();
    }

    /// The position of the last answer of a connection that waits; zero if none does. The positions of one connection
    /// grow.
    pub fn position(&self, id: ConnectionId) -> u64 {
        self.waiting.get(&id).map_or(0, |queue| queue.left + queue.answers.len() as u64)
    }

    /// Whether the answer at a [position](Self::position) of this connection has left, and so have those before it.
    pub fn has_left(&self, id: ConnectionId, position: u64) -> bool {
        self.waiting.get(&id).is_none_or(|queue| position <= queue.left)
    }

    /// Takes the next answer of a connection, if what it waits for is there.
    pub fn next(&mut self, id: ConnectionId, is_there: impl Fn(Awaited) -> bool) -> Option<Answer> {
        let queue = self.waiting.get_mut(&id)?;
        let (awaited, _) = queue.answers.front()?;
        if !is_there(*awaited) {
            return None;
        }
        let (_, answer) = queue.answers.pop_front()?;
        queue.left += 1;
        self.bytes -= answer.memory();
        if queue.answers.is_empty() {
            self.bytes -= queue.memory();
            self.waiting.remove(&id);
        }
        Some(answer)
    }

    /// The connections that have answers waiting.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.waiting.keys().copied().collect()
    }

    /// A connection is gone, and whoever it was hears nothing more.
    pub fn forget(&mut self, id: ConnectionId) {
        let Some(queue) = self.waiting.remove(&id) else { return };
        self.bytes -= queue.memory();
        self.bytes -= queue.answers.iter().map(|(_, answer)| answer.memory()).sum::<usize>();
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        self.waiting.len() * QUEUE_BYTES + self.bytes
    }
}
