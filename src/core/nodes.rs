//! What this broker says to the other nodes of its cluster: the messages of its clients, the Topic Filters that its
//! clients are subscribed to, and which clients are connected. The caller takes all of it at the end of a turn.

mod clients;

use std::ops::Range;

use crate::base::memory::{self, Audit, Counted};
use crate::protocol::codec::ProtocolVersion;
use crate::protocol::topic::TopicName;

pub use clients::ClientChange;

use clients::ClientChanges;

/// Consecutive messages on one topic are passed on together, up to about this many bytes.
const TOGETHER_BYTES: usize = 16 * 1024;

/// The most bytes of messages that wait for the end of a turn. Further ones are dropped.
const WAITING_BYTES: usize = 8 * 1024 * 1024;

/// Buffers larger than this, in bytes, are not kept.
const KEPT_BYTES: usize = 256 * 1024;

/// PUBLISH packets with the same topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets<'a> {
    /// The topic of all of them.
    pub topic: &'a str,
    /// The version in which they are encoded: 5.0, or 3.1.1 for all before it.
    pub version: ProtocolVersion,
    /// Whole packets, one after another.
    pub bytes: &'a [u8],
}

/// A Topic Filter, without the Share Name if it is that of a Shared Subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterChange {
    /// The first client has subscribed to it.
    Begun(Box<str>),
    /// The last client has unsubscribed from it.
    Ended(Box<str>),
}

/// Where packets with the same topic are.
#[derive(Debug)]
struct Place {
    topic: Range<usize>,
    version: ProtocolVersion,
    packets: Range<usize>,
}

/// Messages for other nodes, in the order in which they were published.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Messages {
    /// Returns them, those that go together at once.
    pub fn iter(&self) -> impl Iterator<Item = Packets<'_>> {
        self.places.iter().map(|place| Packets {
            topic: self.topic(place),
            version: place.version,
            bytes: &self.bytes[place.packets.clone()],
        })
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Forgets all of them. A very large buffer is released.
    pub fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
            return;
        }
        self.bytes.clear();
        self.places.clear();
    }

    fn topic(&self, place: &Place) -> &str {
        std::str::from_utf8(&self.bytes[place.topic.clone()]).expect("it was copied from a Topic Name")
    }

    /// Whether a message on this topic goes together with the last one.
    fn goes_on(&self, topic: TopicName<'_>, version: ProtocolVersion, length: usize) -> bool {
        self.places.last().is_some_and(|last| {
            last.version == version
                && last.packets.len() + length <= TOGETHER_BYTES
                && self.bytes[last.topic.clone()] == *topic.as_str().as_bytes()
        })
    }

    fn push(&mut self, topic: TopicName<'_>, version: ProtocolVersion, parts: [&[u8]; 2]) {
        let length = parts[0].len() + parts[1].len();
        if !self.goes_on(topic, version, length) {
            let topic_at = self.bytes.len();
            self.bytes.extend_from_slice(topic.as_str().as_bytes());
            let end = self.bytes.len();
            self.places.push(Place { topic: topic_at..end, version, packets: end..end });
        }
        parts.into_iter().for_each(|part| self.bytes.extend_from_slice(part));
        if let Some(last) = self.places.last_mut() {
            last.packets.end = self.bytes.len();
        }
    }

    fn memory(&self) -> usize {
        memory::allocation(self.bytes.capacity())
            + memory::allocation(self.places.capacity() * size_of::<Place>())
    }
}

/// What waits for the end of the turn.
#[derive(Debug, Default)]
pub struct ToNodes {
    messages: Messages,
    changes: Vec<FilterChange>,
    /// The bytes of the texts of these changes.
    changes_bytes: usize,
    clients: ClientChanges,
    dropped: u64,
    counted: Counted,
}

impl ToNodes {
    /// Adds a packet, or several for the same topic, in one or two parts. Where there is no room for them, they are
    /// dropped and counted.
    pub fn push(&mut self, topic: TopicName<'_>, version: ProtocolVersion, parts: [&[u8]; 2]) {
        let length = topic.as_str().len() + parts[0].len() + parts[1].len();
        if self.messages.bytes.len() + length > WAITING_BYTES {
            self.dropped += 1;
            return;
        }
        // All versions before 5.0 have the same form of PUBLISH.
        let version = if version == ProtocolVersion::V5 { version } else { ProtocolVersion::V311 };
        self.messages.push(topic, version, parts);
        self.count();
    }

    /// Adds a change of the filters. How many can wait is limited by the steps of a turn.
    pub fn change(&mut self, change: FilterChange) {
        let (FilterChange::Begun(filter) | FilterChange::Ended(filter)) = &change;
        self.changes_bytes += memory::allocation(filter.len());
        self.changes.push(change);
        self.count();
    }

    /// Takes the messages. `emptied` is reused for the next ones.
    pub fn take_messages(&mut self, mut emptied: Messages) -> Messages {
        emptied.clear();
        let taken = std::mem::replace(&mut self.messages, emptied);
        self.count();
        taken
    }

    /// Takes the changes of the filters, in their order.
    pub fn take_changes(&mut self) -> Vec<FilterChange> {
        let taken = std::mem::take(&mut self.changes);
        self.changes_bytes = 0;
        self.count();
        taken
    }

    /// Adds a change of the connected clients.
    pub fn change_client(&mut self, change: ClientChange) {
        self.clients.push(change);
        self.count();
    }

    /// Takes the changes of the connected clients, in their order.
    pub fn take_client_changes(&mut self) -> Vec<ClientChange> {
        let taken = self.clients.take();
        self.count();
        taken
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.changes.is_empty() && self.clients.is_empty()
    }

    /// The number of messages, or of runs of them, that were dropped.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds the memory that it holds to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
    }

    fn count(&mut self) {
        let changes = memory::allocation(self.changes.capacity() * size_of::<FilterChange>());
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + self.messages.memory()
                + changes
                + self.changes_bytes
                + self.clients.memory(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V311: ProtocolVersion = ProtocolVersion::V311;
    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn topic(name: &str) -> TopicName<'_> {
        TopicName::new(name).unwrap()
    }

    #[test]
    fn messages_on_one_topic_go_together_unless_another_comes_between() {
        let mut nodes = ToNodes::default();
        for (name, version, text) in [
            ("a", V5, "1"),
            ("a", V5, "2"),
            ("b", V5, "3"),
            ("a", V5, "4"),
            ("a", V311, "5"),
            ("a", ProtocolVersion::V31, "6"),
        ] {
            nodes.push(topic(name), version, [text.as_bytes(), b"!"]);
        }
        let messages = nodes.take_messages(Messages::default());
        let found: Vec<_> =
            messages.iter().map(|packets| (packets.topic, packets.version, packets.bytes)).collect();
        let expected: [(&str, _, &[u8]); 4] =
            [("a", V5, b"1!2!"), ("b", V5, b"3!"), ("a", V5, b"4!"), ("a", V311, b"5!6!")];
        assert_eq!(found, expected);
        assert!(nodes.is_empty());
    }

    #[test]
    fn what_goes_together_and_what_waits_is_limited() {
        let mut nodes = ToNodes::default();
        let piece = vec![0; TOGETHER_BYTES / 2];
        for _ in 0..5 {
            nodes.push(topic("a"), V5, [&piece, &[]]);
        }
        assert_eq!(nodes.take_messages(Messages::default()).iter().count(), 3);

        let large = vec![0; WAITING_BYTES / 2 - 1];
        for _ in 0..3 {
            nodes.push(topic("a"), V5, [&large, &[]]);
        }
        assert_eq!(nodes.dropped(), 1);
        let mut messages = nodes.take_messages(Messages::default());
        assert_eq!(messages.iter().count(), 2);
        messages.clear();
        assert!(messages.memory() < KEPT_BYTES);
    }
}
