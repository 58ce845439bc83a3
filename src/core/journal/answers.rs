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
    /// Appends its bytes. Those of an acknowledgement are so few that a call to copy them would cost more.
    #[inline]
    pub fn append_to(&self, packets: &mut Vec<u8>) {
        match self {
            Self::Plain(bytes) => packets.extend_from_slice(bytes),
            Self::Packet(bytes) => packets.extend_from_slice(bytes),
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
        self.bytes += answer.memory();
        self.append(id, 1, |queue| queue.push_back((awaited, answer)));
    }

    /// Appends several answers that all wait for the same.
    pub fn hold_all(
        &mut self,
        id: ConnectionId,
        awaited: Awaited,
        answers: impl IntoIterator<Item = Answer, IntoIter: ExactSizeIterator>,
    ) {
        let answers = answers.into_iter();
        let mut bytes = 0;
        self.append(id, answers.len(), |queue| {
            queue.extend(answers.inspect(|answer| bytes += answer.memory()).map(|answer| (awaited, answer)));
        });
        self.bytes += bytes;
    }

    /// Counts `more` answers of a connection, which `push` appends to those that wait.
    #[inline(always)]
    fn append(&mut self, id: ConnectionId, more: usize, push: impl FnOnce(&mut VecDeque<(Awaited, Answer)>)) {
        // Counts for all connections, so that the positions of one still grow after its list has been dropped.
        let left = self.held;
        self.held += more as u64;
        let queue = match self.waiting.get_mut(&id) {
            Some(queue) => queue,
            None => self.waiting.entry(id).or_insert(Queue { answers: VecDeque::new(), left }),
        };
        if queue.answers.capacity() - queue.answers.len() < more {
            self.bytes -= queue.memory();
            queue.answers.reserve(more);
            self.bytes += queue.memory();
        }
        push(&mut queue.answers);
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

    /// Whether the next answer of a connection need not wait any longer.
    pub fn is_due(&self, id: ConnectionId, is_there: impl Fn(Awaited) -> bool) -> bool {
        let next = self.waiting.get(&id).and_then(|queue| queue.answers.front());
        next.is_some_and(|&(awaited, _)| is_there(awaited))
    }

    /// Whether the next answer of a connection leaves as soon as a message is no longer needed.
    pub fn wait_for_recipients(&self, id: ConnectionId) -> bool {
        self.is_due(id, |awaited| matches!(awaited, Awaited::Message(_)))
    }

    /// Takes the next answers of a connection that need not wait any longer, at most `most`. Returns how many it took.
    pub fn release(
        &mut self,
        id: ConnectionId,
        most: usize,
        is_there: impl Fn(Awaited) -> bool,
        mut take: impl FnMut(&Answer),
    ) -> usize {
        let Some(queue) = self.waiting.get_mut(&id) else { return 0 };
        let mut count = 0;
        while count < most
            && queue.answers.front().is_some_and(|&(awaited, _)| is_there(awaited))
            && let Some((_, answer)) = queue.answers.pop_front()
        {
            self.bytes -= answer.memory();
            take(&answer);
            count += 1;
        }
        queue.left += count as u64;
        if queue.answers.is_empty() {
            self.bytes -= queue.memory();
            self.waiting.remove(&id);
        }
        count
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
