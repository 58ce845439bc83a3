//! Answers that must wait until what they promise is durable. Those of one connection leave in their order, as the
//! standards require of acknowledgements [MQTT-4.6.0-2] [MQTT-4.6.0-3].

use std::collections::{BTreeMap, VecDeque};

use super::{ENTRY_BYTES, MessageNumber};
use crate::base::memory;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::AcknowledgementKind;

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Only for the answers before it.
    Nothing,
    /// Until this batch is durable.
    Batch(u64),
    /// Until this message is durable, or no session needs it any longer.
    Message(MessageNumber),
}

/// An encoded packet.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An acknowledgement of success.
    Plain([u8; AcknowledgementKind::PLAIN_LENGTH]),
    /// Any other packet.
    Packet(Box<[u8]>),
}

impl Answer {
    /// Returns its bytes.
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

/// Bytes per connection, without its list of answers.
const QUEUE_BYTES: usize = ENTRY_BYTES + size_of::<Queue>();

/// The waiting answers of one connection.
#[derive(Debug)]
struct Queue {
    answers: VecDeque<(Awaited, Answer)>,
    /// The position of the last answer that has left.
    left: u64,
}

impl Queue {
    /// Bytes of the list.
    fn memory(&self) -> usize {
        memory::allocation(self.answers.capacity() * size_of::<(Awaited, Answer)>())
    }
}

/// The waiting answers of all connections. Their number per connection is limited by what the client may have
/// unacknowledged, and in total by what may wait to be persisted.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: BTreeMap<ConnectionId, Queue>,
    /// Number of answers ever held.
    held: u64,
    /// Bytes of the lists, and of the answers that are not plain.
    bytes: usize,
}

impl Answers {
    /// Whether answers of this connection are waiting.
    #[inline]
    pub fn are_waiting(&self, id: ConnectionId) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&id)
    }

    /// Appends an answer to those that wait.
    pub fn hold(&mut self, id: ConnectionId, awaited: Awaited, answer: Answer) {
        // Counts for all connections, so that the positions of one still grow after its list has been dropped.
        let left = self.held;
        self.held += 1;
        let queue = self.waiting.entry(id).or_insert_with(|| Queue { answers: VecDeque::new(), left });
        self.bytes += answer.memory();
        self.bytes -= queue.memory();
        queue.answers.push_back((awaited, answer));
        self.bytes += queue.memory();
    }

    /// Returns the position of the last waiting answer of a connection, or zero if none waits. The positions of one
    /// connection grow.
    pub fn position(&self, id: ConnectionId) -> u64 {
        self.waiting.get(&id).map_or(0, |queue| queue.left + queue.answers.len() as u64)
    }

    /// Whether the answer at this [position](Self::position) has left, and with it those before it.
    pub fn has_left(&self, id: ConnectionId, position: u64) -> bool {
        self.waiting.get(&id).is_none_or(|queue| position <= queue.left)
    }

    /// Takes the next answer of a connection, unless it still has to wait.
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

    /// Returns the connections with waiting answers.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.waiting.keys().copied().collect()
    }

    /// Drops the answers of a connection that is gone.
    pub fn forget(&mut self, id: ConnectionId) {
        let Some(queue) = self.waiting.remove(&id) else { return };
        self.bytes -= queue.memory();
        self.bytes -= queue.answers.iter().map(|(_, answer)| answer.memory()).sum::<usize>();
    }

    /// Bytes of memory used.
    pub fn memory(&self) -> usize {
        self.waiting.len() * QUEUE_BYTES + self.bytes
    }
}
