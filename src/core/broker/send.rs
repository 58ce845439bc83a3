//! The way out: puts packets into outboxes.

use log::{Level, debug, log_enabled};

use super::trace::Described;
use crate::base::memory::Audit;
use crate::base::time::Time;
use crate::core::connection::Connection;
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::core::listener::ListenerId;
use crate::core::message::{Encoded, Encoder, Message, Naming, Outbound, Publication, ReceiverCopy, Spares};
use crate::core::outbox::DirtyList;
use crate::core::subscription::LatestIdentifiers;
use crate::protocol::codec::{Delivery, Packet, ProtocolVersion, Publish};
use crate::protocol::topic::TopicName;

/// The state that is needed to put packets into outboxes, shared by all connections.
#[derive(Debug, Default)]
pub(super) struct Sender {
    pub(super) dirty: DirtyList,
    pub(super) encoder: Encoder,
    pub(super) spares: Spares,
    /// Recently used Subscription Identifiers, for queued deliveries.
    pub(super) identifiers: LatestIdentifiers,
    /// Whether there is memory for Topic Aliases that clients do not know yet.
    pub(super) binds_aliases: bool,
    /// The number of packets other than PUBLISH that were queued.
    pub(super) packets: u64,
    /// The mount point that is removed from topics for the clients of a listener, by its number; empty if no listener
    /// has one.
    mounts: Vec<Option<Box<str>>>,
    /// The number of connections whose QoS 0 messages wait in the queues of their sessions.
    queueing: usize,
    /// Whether there are any of those, or mount points. If so, packets that could be forwarded unchanged are checked
    /// more closely.
    must_look: bool,
}

/// The packet is larger than the client accepts or the protocol allows, so it was not queued [MQTT-3.1.2-24]; or its
/// topic has no name below the client's mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oversized;

impl Sender {
    pub(super) fn new() -> Self {
        Self { binds_aliases: true, ..Self::default() }
    }

    /// Sets the mount points from now on.
    pub(super) fn set_mounts(&mut self, mounts: Vec<Option<Box<str>>>) {
        self.mounts = mounts;
        self.note_what_to_look_at();
    }

    /// Sets whether QoS 0 messages for the client of a connection wait in the queue of its session.
    pub(super) fn queue_at_most_once(&mut self, connection: &mut Connection, queues: bool) {
        let before = std::mem::replace(&mut connection.outbox.queues_at_most_once, queues);
        self.queueing = self.queueing + usize::from(queues) - usize::from(before);
        self.note_what_to_look_at();
    }

    fn note_what_to_look_at(&mut self) {
        self.must_look = !self.mounts.is_empty() || self.queueing > 0;
    }

    /// Asserts that packets are checked more closely only if they must be, with this many connections that queue.
    pub(super) fn check_invariants(&self, queueing: usize) {
        assert_eq!(self.queueing, queueing, "connections whose QoS 0 messages wait are counted");
        assert_eq!(self.must_look, queueing > 0 || self.mounts.iter().any(Option::is_some));
    }

    /// Adds the memory that it holds to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.dirty.audit(audit);
        self.spares.audit(audit);
        self.identifiers.audit(audit);
        self.encoder.audit(audit);
    }

    /// Queues a packet other than PUBLISH.
    pub(super) fn packet(
        &mut self,
        connection: &mut Connection,
        client: &str,
        packet: &Packet<'_>,
    ) -> Result<(), Oversized> {
        let (version, maximum) = (connection.version, connection.maximum_packet_size());
        let mut outcome = Ok(());
        connection.outbox.push(&mut self.dirty, |bytes| {
            let before = bytes.len();
            packet.encode(version, bytes);
            if bytes.len() - before > maximum {
                bytes.truncate(before);
                outcome = Err(Oversized);
            }
        });
        self.packets += u64::from(outcome.is_ok());
        if outcome.is_ok() && log_enabled!(Level::Debug) {
            debug!("Sending {}", Described { packet, direction: "to", client });
        }
        outcome
    }

    /// Queues a PUBLISH. [`Encoder::begin`] must have been called for the publication.
    #[inline]
    pub(super) fn publish(
        &mut self,
        connection: &mut Connection,
        client: &str,
        outbound: &mut Outbound<'_>,
        copy: ReceiverCopy<'_>,
        now: Time,
    ) -> Result<(), Oversized> {
        if log_enabled!(Level::Debug) {
            trace(client, &outbound.publication, &copy);
        }
        let is_plain = !copy.retain && !copy.is_private();
        if is_plain && self.original(connection, outbound, copy.delivery) {
            return Ok(());
        }
        self.publish_encoded(connection, outbound, copy, now)
    }

    /// Queues a PUBLISH of a stored message. One that has only a topic and a payload is encoded directly into the outbox.
    #[inline]
    pub(super) fn publish_stored(
        &mut self,
        connection: &mut Connection,
        client: &str,
        message: &Message,
        copy: ReceiverCopy<'_>,
        now: Time,
    ) -> Result<(), Oversized> {
        let is_plain = !(copy.retain || copy.is_private() || self.must_look || log_enabled!(Level::Debug));
        let (version, qos) = (connection.version, copy.delivery.qos());
        if is_plain
            && let Some(plain) = message.plain()
            && plain.payload.len() <= COPIED_PAYLOAD_MAXIMUM
            && takes_as_it_is(connection, plain.length(version, qos))
        {
            connection.outbox.push(&mut self.dirty, |bytes| plain.encode(version, copy.delivery, bytes));
            return Ok(());
        }
        self.encoder.begin();
        self.publish(connection, client, &mut Outbound::stored(message), copy, now)
    }

    /// Whether the receiver must be examined before a packet is forwarded unchanged.
    #[inline]
    pub(super) const fn must_look(&self) -> bool {
        self.must_look
    }

    /// Queues the packet in which the publication came, if the client gets exactly these bytes.
    #[inline(always)]
    pub(super) fn original(
        &mut self,
        connection: &mut Connection,
        outbound: &Outbound<'_>,
        delivery: Delivery,
    ) -> bool {
        let encoded = outbound.copied_original(connection.version, delivery.qos());
        let Some(encoded) = encoded.filter(|encoded| takes_as_it_is(connection, encoded.length)) else {
            return false;
        };
        connection.outbox.push(&mut self.dirty, |bytes| append(bytes, encoded, delivery));
        true
    }

    #[inline(never)]
    fn publish_encoded(
        &mut self,
        connection: &mut Connection,
        outbound: &mut Outbound<'_>,
        mut copy: ReceiverCopy<'_>,
        now: Time,
    ) -> Result<(), Oversized> {
        let mut publication = outbound.publication;
        let is_mounted =
            !self.mounts.is_empty() && self.unmount(connection.listener, &mut publication.topic)?;
        let (version, maximum) = (connection.version, connection.maximum_packet_size());
        let mut aliases =
            connection.extension.as_mut().and_then(|extension| extension.outbound_aliases.as_mut());
        if let Some(aliases) = &mut aliases {
            copy.naming = aliases.name(publication.topic, self.binds_aliases);
        }
        let named = if is_mounted { Named::Below(publication) } else { Named::AsItIs };
        let mut encoded = encode(&mut self.encoder, outbound, named, version, &copy, now);
        if encoded.length > maximum && copy.naming != Naming::Name {
            // An alias is the broker's choice and must not make a packet too large that fits without one.
            if let Some(aliases) = aliases {
                aliases.unbind(copy.naming);
            }
            copy.naming = Naming::Name;
            encoded = encode(&mut self.encoder, outbound, named, version, &copy, now);
        }
        if encoded.length > maximum {
            return Err(Oversized);
        }
        let append = |bytes: &mut Vec<u8>| append(bytes, &encoded, copy.delivery);
        if encoded.payload_by_reference {
            let message = outbound.message(&mut self.spares);
            connection.outbox.push_with_payload(&mut self.dirty, append, message);
        } else {
            connection.outbox.push(&mut self.dirty, append);
        }
        Ok(())
    }

    /// Removes the mount point of a listener from a topic. Returns whether the listener has one. A topic outside of the
    /// mount point has no name for its clients: they have subscribed at another listener.
    #[cold]
    fn unmount(&self, listener: ListenerId, topic: &mut TopicName<'_>) -> Result<bool, Oversized> {
        let mount = self.mounts.get(usize::from(listener.0)).and_then(Option::as_deref);
        let Some(mount) = mount else { return Ok(false) };
        let below = topic.as_str().strip_prefix(mount).filter(|below| !below.is_empty()).ok_or(Oversized)?;
        *topic = TopicName::trusted(below);
        Ok(true)
    }
}

/// Whether a client accepts packets of this length and gets them without a Topic Alias.
#[inline]
pub(super) fn takes_as_it_is(connection: &Connection, length: usize) -> bool {
    connection.extension.as_ref().is_none_or(|extension| {
        extension.outbound_aliases.is_none() && length <= extension.maximum_packet_size
    })
}

/// Appends the bytes with the receiver's own Packet Identifier.
#[inline]
fn append(bytes: &mut Vec<u8>, encoded: &Encoded<'_>, delivery: Delivery) {
    let at = bytes.len() + encoded.packet_identifier_at;
    bytes.extend_from_slice(encoded.bytes);
    if let Delivery::AtLeastOnce(identifier) | Delivery::ExactlyOnce(identifier) = delivery {
        bytes[at..at + 2].copy_from_slice(&identifier.value().to_be_bytes());
    }
}

#[cold]
fn trace(client: &str, publication: &Publication<'_>, copy: &ReceiverCopy<'_>) {
    let packet = Packet::Publish(Publish {
        dup: copy.dup,
        retain: copy.retain,
        delivery: copy.delivery,
        topic: Some(publication.topic),
        properties: publication.properties,
        payload: publication.payload,
    });
    debug!("Sending {}", Described { packet: &packet, direction: "to", client });
}

/// The name under which a receiver knows a topic.
#[derive(Clone, Copy)]
enum Named<'a> {
    /// The name that it has in the broker.
    AsItIs,
    /// What is left of that name below the mount point of the receiver's listener.
    Below(Publication<'a>),
}

/// Returns the bytes of one receiver's copy, shared with other receivers where possible.
#[inline]
fn encode<'a>(
    encoder: &'a mut Encoder,
    outbound: &Outbound<'a>,
    named: Named<'_>,
    version: ProtocolVersion,
    copy: &ReceiverCopy<'_>,
    now: Time,
) -> Encoded<'a> {
    let publication = match named {
        Named::Below(publication) => return encoder.private(&publication, version, copy, now),
        Named::AsItIs => &outbound.publication,
    };
    if copy.is_private() {
        return encoder.private(publication, version, copy, now);
    }
    let qos = copy.delivery.qos();
    match outbound.original(version, qos) {
        Some(&encoded) if !copy.retain => encoded,
        _ => encoder.shared(publication, version, qos, copy.retain, now),
    }
}
