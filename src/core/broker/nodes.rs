//! The other nodes of the cluster: messages of this broker's clients go to them, and theirs come in.

use super::Broker;
use super::turn::steps;
use crate::base::time::Time;
use crate::core::message::{Outbound, Publication};
use crate::core::nodes::{FilterChange, Messages};
use crate::core::trie::FilterId;
use crate::protocol::codec::{
    DecodeError, Frame, PACKET_SIZE_MAXIMUM, Packet, ProtocolVersion, Publish, Side, Status, frame,
};
use crate::protocol::topic::TopicName;

impl Broker {
    /// From now on, the messages of clients and the changes of their subscriptions are also said to other nodes. To be
    /// called before there are any.
    pub fn begin_cluster(&mut self) {
        let _entered = self.account.enter();
        self.output.begin_cluster();
    }

    /// Takes the messages for other nodes. To be called at the end of each turn. `emptied` is reused for the next ones.
    pub fn take_messages_for_nodes(&mut self, emptied: Messages) -> Messages {
        let _entered = self.account.enter();
        self.output.nodes().map(|nodes| nodes.take_messages(emptied)).unwrap_or_default()
    }

    /// Takes what has changed in the Topic Filters that clients are subscribed to. To be called at the end of each turn.
    pub fn take_filter_changes(&mut self) -> Vec<FilterChange> {
        let _entered = self.account.enter();
        self.output.nodes().map(|nodes| nodes.take_changes()).unwrap_or_default()
    }

    /// The number of messages that other nodes did not get because too many waited.
    pub fn dropped_for_nodes(&mut self) -> u64 {
        let _entered = self.account.enter();
        self.output.nodes().map_or(0, |nodes| nodes.dropped())
    }

    /// Publishes messages of another node: whole PUBLISH packets, one after another. They are delivered to the clients
    /// of this broker alone. Returns the bytes of those that were processed; the others wait for a later turn.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the first packet that no node sends. Those before it have been published.
    pub fn publish_from_node(
        &mut self,
        bytes: &[u8],
        version: ProtocolVersion,
        now: Time,
    ) -> Result<usize, DecodeError> {
        let _entered = self.account.enter();
        self.advance(now);
        if !self.turn.takes_input() {
            return Ok(0);
        }
        self.turn.begin_input();
        let mut used = 0;
        while used < bytes.len() && !self.turn.is_over() && !self.waiting.has_unlinked_without_publisher() {
            let rest = &bytes[used..];
            if let Some(length) = self.try_batch_of_node(rest, version) {
                used += length;
                continue;
            }
            let Status::Complete(frame) = frame(rest, PACKET_SIZE_MAXIMUM)? else {
                return Err(DecodeError::Malformed("a packet from another node that is cut off"));
            };
            self.turn.take(steps::PACKET + frame.length / steps::BYTES_PER_STEP);
            if !self.publish_one_from_node(&frame, version)? {
                break;
            }
            used += frame.length;
        }
        Ok(used)
    }

    /// Publishes one packet of another node. Returns false if it has to wait for a later turn.
    fn publish_one_from_node(
        &mut self,
        frame: &Frame<'_>,
        version: ProtocolVersion,
    ) -> Result<bool, DecodeError> {
        let (publish, topic) = decode_from_node(frame, version)?;
        let mut buffers = std::mem::take(&mut self.output.buffers);
        let outcome = self.split_properties(publish.properties, &mut buffers.forwarded).map_err(|_| WRONG);
        let outcome = outcome.map(|(properties, expires)| {
            let publication = Publication {
                topic,
                payload: publish.payload,
                qos: publish.delivery.qos(),
                retain: publish.retain,
                publisher: None,
                properties,
                expires,
            };
            self.publish_here(&publication, &publish)
        });
        buffers.forwarded.clear();
        self.output.buffers = buffers;
        outcome
    }

    fn publish_here(&mut self, publication: &Publication<'_>, publish: &Publish<'_>) -> bool {
        if self.lacks_room_for_will(publication) {
            self.output.statistics.refused += 1;
            return true;
        }
        let is_taken = self.publish_unlinked(&mut Outbound::new(*publication), None);
        if is_taken {
            self.output.statistics.received.count(1, publish.payload.len());
        }
        is_taken
    }

    /// Says a message of a client to the other nodes.
    #[inline]
    pub(super) fn tell_nodes(&mut self, publication: &Publication<'_>) {
        if self.output.has_nodes() && !publication.topic.is_about_the_broker() {
            self.output.say_to_nodes(publication, self.clock.now);
        }
    }

    /// Says messages to the other nodes as they came.
    #[inline]
    pub(super) fn repeat_to_nodes(&mut self, topic: TopicName<'_>, version: ProtocolVersion, packets: &[u8]) {
        if let Some(nodes) = self.output.nodes() {
            nodes.push(topic, version, [packets, &[]]);
        }
    }

    /// Notes that a filter has got a subscriber, which may be its first, or is about to lose one, which may be its last.
    #[inline]
    pub(super) fn note_filter(&mut self, filter: FilterId, change: fn(Box<str>) -> FilterChange) {
        if self.output.has_nodes()
            && self.routing.trie.values(filter).len() == 1
            && let Some(nodes) = self.output.nodes()
        {
            nodes.change(change(self.routing.trie.pattern(filter).into_boxed_str()));
        }
    }
}

/// What is wrong with a packet that is none of those that nodes send to each other.
pub(super) const WRONG: DecodeError = DecodeError::ProtocolError("a packet that no node sends");

/// Decodes a packet of another node. It is checked like that of a client.
pub(super) fn decode_from_node<'a>(
    frame: &Frame<'a>,
    version: ProtocolVersion,
) -> Result<(Publish<'a>, TopicName<'a>), DecodeError> {
    let Packet::Publish(publish) = Side::Server.decode(frame, version)? else { return Err(WRONG) };
    let topic = publish.topic.filter(|topic| !topic.is_about_the_broker()).ok_or(WRONG)?;
    if publish.properties.topic_alias().is_some() {
        return Err(WRONG);
    }
    Ok((publish, topic))
}

#[cfg(test)]
mod tests;
