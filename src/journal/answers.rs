//! Answers that promise something, while it is not yet so. Those of one connection leave in their order, as the
//! standards ask of acknowledgements [MQTT-4.6.0-2] [MQTT-4.6.0-3].

use std::collections::{BTreeMap, VecDeque};

use super::MessageNumber;
use crate::codec::AcknowledgementKind;
use crate::slots::ConnectionId;

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
}

/// What one connection's answers take beside themselves.
const QUEUE_BYTES: usize = 64;

/// The answers of all connections that wait. How many there may be of one connection is limited by what its client
/// may have unanswered, and in all by what may wait to be written down.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: BTreeMap<ConnectionId, VecDeque<(Awaited, Answer)>>,
    /// How many there are, and the bytes of those that are not plain.
    count: usize,
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
        self.count += 1;
        self.bytes += answer.bytes().len();
        self.waiting.entry(id).or_default().push_back((awaited, answer));
    }

    /// Takes the next answer of a connection, if what it waits for is there.
    pub fn next(&mut self, id: ConnectionId, is_there: impl Fn(Awaited) -> bool) -> Option<Answer> {
        let queue = self.waiting.get_mut(&id)?;
        let (awaited, _) = queue.front()?;
        if !is_there(*awaited) {
            return None;
        }
        let (_, answer) = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&id);
        }
        self.count -= 1;
        self.bytes -= answer.bytes().len();
        Some(answer)
    }

    /// The connections that have answers waiting.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.waiting.keys().copied().collect()
    }

    /// A connection is gone, and whoever it was hears nothing more.
    pub fn forget(&mut self, id: ConnectionId) {
        let Some(queue) = self.waiting.remove(&id) else { return };
        self.count -= queue.len();
        self.bytes -= queue.iter().map(|(_, answer)| answer.bytes().len()).sum::<usize>();
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        self.waiting.len() * QUEUE_BYTES + self.count * size_of::<(Awaited, Answer)>() + self.bytes
    }
}
