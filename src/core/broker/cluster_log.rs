//! The log of the cluster: messages that must not be lost go there, and come back to all nodes in the same order.
//!
//! A message of QoS 1 or 2, and one that is to be retained, is not delivered when it comes. It is appended to the log with
//! the next batch, and its publisher is answered when that is durable. Each node, this one as well, delivers it when it
//! reads it from there. What is retained for a topic is what the log has last.
//!
//! A SUBSCRIBE waits until the node has read what was in the log when it came, so that its client gets what was retained
//! before. A later message is delivered to it in any case. An UNSUBSCRIBE waits as well: the client gets what was
//! acknowledged before it.
//!
//! While the log is closed, clients are refused, and so is what would go there. Other messages are still delivered to the
//! clients of this node.

use std::num::NonZeroU64;

use super::deliver::Routed;
use super::distribution::Published;
use super::nodes::{WRONG, decode_from_node};
use super::operation::{LogRead, Operation};
use super::turn::steps;
use super::{Broker, Effect, Fault};
use crate::base::plural::Count;
use crate::base::time::{Duration, Time};
use crate::core::journal::{Journal, MessageNumber, NextNumbers, Pace, Room, SessionNumber};
use crate::core::message::{Outbound, Portable, Publication, Publisher};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    DecodeError, PACKET_SIZE_MAXIMUM, ProtocolVersion, Publish, QoS, ReasonCode, Status, frame,
};
use crate::protocol::topic::TopicName;

/// Answers wait for the log, and a batch goes there as soon as the one before is durable.
const PACE: Pace = Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::ZERO };

/// What a client is told that needs the log while it is closed.
pub(super) const CLOSED: &str = "the cluster cannot be reached";

/// A message that was read from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged<'a> {
    /// Who published it, in the form of [`Publisher::written`].
    pub publisher: Option<&'a str>,
    /// A PUBLISH packet of 5.0.
    pub packet: &'a [u8],
    /// For how long it has been in the log.
    pub age: Duration,
    /// Whether it was published at this node since its start.
    pub is_own: bool,
}

/// Connections with a SUBSCRIBE or UNSUBSCRIBE that waits for the log.
#[derive(Debug, Default)]
pub(super) struct Readers {
    /// Those that have come since the end of the log was asked for.
    new: Vec<ConnectionId>,
    /// Those that wait until the end that was asked for is read.
    waiting: Vec<ConnectionId>,
}

impl Readers {
    /// Adds a connection whose packet has come now.
    pub(super) fn wait(&mut self, id: ConnectionId) {
        self.new.push(id);
    }

    /// The bytes of memory that it takes.
    pub(super) const fn memory(&self) -> usize {
        (self.new.capacity() + self.waiting.capacity()) * size_of::<ConnectionId>()
    }
}

impl Broker {
    /// From now on, messages of QoS 1 and 2, and those to be retained, go into the log of the cluster, with the batches
    /// that [`Broker::take_batch`] returns. They are delivered to clients, also to those of this broker, when they have
    /// come back by [`Broker::publish_from_log`], and answered when the batch is durable. The log is closed until
    /// [`Broker::open_log`]. To be called after [`Broker::begin_cluster`], before there are any clients.
    pub fn begin_log(&mut self) {
        let _entered = self.account.enter();
        let first =
            NextNumbers { session: SessionNumber(NonZeroU64::MIN), message: MessageNumber(NonZeroU64::MIN) };
        self.persistence.journal = Journal::begin(first, PACE);
        self.persistence.is_log = true;
        self.persistence.logged_maximum = usize::MAX;
        if let Some(journal) = &mut self.persistence.journal {
            journal.set_room(Room::Gone);
        }
    }

    /// The log can be used: it was read up to what was its end, and messages can be appended.
    pub fn open_log(&mut self, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(journal) = &mut self.persistence.journal else { return };
        if journal.set_room(Room::Enough) != Room::Enough {
            self.resume_paused();
        }
    }

    /// The log cannot be used until [`Broker::open_log`]. Clients that wait for it lose their connections: whether what
    /// they have sent is in the log is not known.
    pub fn close_log(&mut self, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(journal) = &mut self.persistence.journal else { return };
        if journal.set_room(Room::Gone) == Room::Gone {
            return;
        }
        let unanswered = journal.answers.connections();
        self.effects.extend(journal.take_paused().into_iter().map(Effect::Resume));
        let readers = std::mem::take(&mut self.waiting.readers);
        for id in unanswered.into_iter().chain(readers.new).chain(readers.waiting) {
            self.end_for_log(id);
        }
    }

    /// Ends a connection that waits for the log, unless it is that of a bridge, which has nowhere else to go.
    fn end_for_log(&mut self, id: ConnectionId) {
        let session = self.connections.find(id).and_then(|connection| connection.session());
        if session.is_some_and(|session| self.is_bridge_set_up(session).is_none()) {
            self.turn.take(steps::PACKET);
            self.end(id, ReasonCode::ServerBusy, CLOSED);
        }
    }

    /// The longest message that the log takes, as the bytes of its topic, properties and payload. A client that publishes
    /// a longer one loses its connection.
    pub fn limit_logged(&mut self, bytes: usize) {
        let _entered = self.account.enter();
        self.persistence.logged_maximum = bytes;
    }

    /// Whether packets wait until the node has read the log up to its end. If so, the caller is to find out where that is,
    /// and to call [`Broker::end_of_log_is_read`] when the node has come there.
    pub fn begin_reading_to_the_end(&mut self) -> bool {
        let _entered = self.account.enter();
        let readers = &mut self.waiting.readers;
        if !readers.waiting.is_empty() {
            return false;
        }
        std::mem::swap(&mut readers.new, &mut readers.waiting);
        !readers.waiting.is_empty()
    }

    /// The log is read up to the end that it had at [`Broker::begin_reading_to_the_end`].
    pub fn end_of_log_is_read(&mut self, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        for id in std::mem::take(&mut self.waiting.readers.waiting) {
            if let Some(Operation::Filters(filters)) = self.waiting.operations.find_mut(&id) {
                filters.log = LogRead::ToTheEnd;
                self.defer(id);
            }
        }
    }

    /// Publishes a message that was read from the log, to the clients of this broker. Returns false if it has to wait for
    /// a later turn.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with a message that no node appends.
    pub fn publish_from_log(&mut self, logged: &Logged<'_>, now: Time) -> Result<bool, DecodeError> {
        let _entered = self.account.enter();
        self.advance(now);
        if !self.turn.takes_input() || !self.waiting.has_room_for_unlinked() {
            return Ok(false);
        }
        self.turn.begin_input();
        let Status::Complete(frame) = frame(logged.packet, PACKET_SIZE_MAXIMUM)? else { return Err(WRONG) };
        if frame.length != logged.packet.len() {
            return Err(WRONG);
        }
        self.turn.take(steps::PACKET + frame.length / steps::BYTES_PER_STEP);
        let (publish, topic) = decode_from_node(&frame, ProtocolVersion::V5)?;
        self.publish_decoded(&publish, topic, logged)
    }

    fn publish_decoded(
        &mut self,
        publish: &Publish<'_>,
        topic: TopicName<'_>,
        logged: &Logged<'_>,
    ) -> Result<bool, DecodeError> {
        let mut buffers = std::mem::take(&mut self.output.buffers);
        let outcome = self.split_properties(publish.properties, &mut buffers.forwarded).map_err(|_| WRONG);
        let outcome = outcome.map(|(properties, expires)| {
            if !logged.is_own {
                self.output.statistics.received.count(1, publish.payload.len());
            }
            let publication = Publication {
                topic,
                payload: publish.payload,
                qos: publish.delivery.qos(),
                retain: publish.retain,
                publisher: logged.publisher.filter(|_| publish.retain),
                properties,
                expires: after(expires, logged.age, self.clock.now),
            };
            self.publish_logged(publication, logged.publisher)
        });
        buffers.forwarded.clear();
        self.output.buffers = buffers;
        outcome
    }

    fn publish_logged(&mut self, publication: Publication<'_>, publisher: Option<&str>) -> bool {
        if publication.is_expired(self.clock.now) {
            self.output.statistics.expired += 1;
            if !publication.retain {
                return true;
            }
            // What it has replaced is no longer retained, and neither is it itself.
            return self
                .publish_unlinked(&mut Outbound::new(Publication { payload: &[], ..publication }), None);
        }
        let publisher = publisher.and_then(Publisher::read);
        let session = publisher.and_then(|publisher| self.clients.find(publisher.client_identifier));
        self.publish_unlinked(&mut Outbound::new(publication), session)
    }

    /// Whether a message of a client goes into the log of the cluster.
    #[inline]
    pub(super) fn is_for_log(&self, publication: &Publication<'_>) -> bool {
        self.output.has_nodes()
            && self.persistence.has_log()
            && (publication.qos != QoS::AtMostOnce || publication.retain)
            && !publication.topic.is_about_the_broker()
    }

    /// Whether there is a log that cannot be used now.
    pub(super) fn is_log_closed(&self) -> bool {
        self.persistence.has_log() && !self.persistence.has_storage_room()
    }

    /// Puts a message into the log of the cluster. What becomes of it is known only when it comes back.
    pub(super) fn log(&mut self, outbound: &mut Outbound<'_>) -> Published {
        let message = Portable::new(&outbound.publication);
        if let Some(journal) = &mut self.persistence.journal {
            journal.log(message, self.clock.now);
        }
        Published::Wholly(Routed::logged())
    }

    /// Checks whether a message of a client can go into the log. Returns the Reason Code with which it is refused.
    ///
    /// # Errors
    ///
    /// The client cannot be told, or would send the message again for ever.
    pub(super) fn check_for_log(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        publication: &Publication<'_>,
    ) -> Result<Option<ReasonCode>, Fault> {
        let most = self.persistence.logged_maximum;
        if publication.length() > most {
            let (length, most) = (Count(publication.length(), "byte"), Count(most, "byte"));
            let what = format!("a message of {length}, and the servers of the cluster take {most}");
            return Err(Fault::new(ReasonCode::PacketTooLarge, what));
        }
        if self.persistence.has_storage_room() || self.is_bridge_set_up(session).is_some() {
            return Ok(None);
        }
        if publication.qos != QoS::AtMostOnce && self.connections[id].version != ProtocolVersion::V5 {
            return Err(Fault::new(ReasonCode::ServerBusy, CLOSED));
        }
        self.output.statistics.refused += 1;
        self.log_refused_publish(session, publication, CLOSED);
        Ok(Some(ReasonCode::QuotaExceeded))
    }
}

/// When a message expires that would do so at `expires` if it were published now, and was published earlier.
fn after(expires: Time, age: Duration, now: Time) -> Time {
    if expires == Time::NEVER {
        return expires;
    }
    let left = expires.since(now).milliseconds().saturating_sub(age.milliseconds());
    now + Duration::from_milliseconds(left)
}
