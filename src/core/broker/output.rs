//! The way out to clients, and the statistics.

use super::send::Sender;
use crate::base::memory::Audit;
use crate::base::time::Time;
use crate::core::message::Publication;
use crate::core::nodes::ToNodes;
use crate::protocol::codec::{PACKET_SIZE_MAXIMUM, PropertyBuffer, ProtocolVersion};

/// The way out.
pub(super) struct Output {
    pub(super) sender: Sender,
    pub(super) statistics: Statistics,
    pub(super) buffers: Buffers,
    /// What is said to the other nodes of the cluster, if there is one.
    nodes: Option<Box<ToNodes>>,
}

/// Buffers that are used again for one message after another.
#[derive(Default)]
pub(super) struct Buffers {
    /// Properties of a message, as they are forwarded.
    pub(super) forwarded: PropertyBuffer,
    /// The topic that a message named by an alias.
    pub(super) aliased_topic: String,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            sender: Sender::new(),
            statistics: Statistics::default(),
            buffers: Buffers::default(),
            nodes: None,
        }
    }

    /// From now on there are other nodes.
    pub(super) fn begin_cluster(&mut self) {
        self.nodes = Some(Box::default());
    }

    /// What is said to the other nodes. A binary without clusters has none, so that what serves only them is left out of
    /// it.
    #[inline]
    pub(super) fn nodes(&mut self) -> Option<&mut ToNodes> {
        if cfg!(any(feature = "cluster", feature = "fuzzing", test)) {
            self.nodes.as_deref_mut()
        } else {
            None
        }
    }

    /// Whether there are other nodes.
    #[inline]
    pub(super) const fn has_nodes(&self) -> bool {
        cfg!(any(feature = "cluster", feature = "fuzzing", test)) && self.nodes.is_some()
    }

    /// Says a message to the other nodes, unless no packet can hold it.
    #[inline(never)]
    pub(super) fn say_to_nodes(&mut self, publication: &Publication<'_>, now: Time) {
        const VERSION: ProtocolVersion = ProtocolVersion::V5;
        let Some(nodes) = &mut self.nodes else { return };
        let encoder = &mut self.sender.encoder;
        encoder.begin();
        let encoded = encoder.shared(publication, VERSION, publication.qos, publication.retain, now);
        let payload = if encoded.payload_by_reference { publication.payload } else { &[] };
        if encoded.length <= PACKET_SIZE_MAXIMUM {
            nodes.push(publication.topic, VERSION, [encoded.bytes, payload]);
        }
    }

    /// Adds the memory that it holds to an audit.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.sender.audit(audit);
        if let Some(nodes) = &self.nodes {
            nodes.audit(audit);
        }
    }
}

/// The traffic in one direction since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that sockets have read or written.
    pub bytes: u64,
    /// PUBLISH packets that came, or were queued for clients, including those sent again.
    pub publishes: u64,
    /// The bytes of their Application Messages.
    pub publish_bytes: u64,
}

impl Traffic {
    /// Counts this many PUBLISH packets with this many bytes of Application Messages.
    #[inline]
    pub(super) const fn count(&mut self, publishes: usize, bytes: usize) {
        self.publishes += publishes as u64;
        self.publish_bytes += bytes as u64;
    }
}

/// What has been counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Incoming traffic.
    pub received: Traffic,
    /// Outgoing traffic.
    pub sent: Traffic,
    /// Packets that came in and were processed.
    pub packets_received: u64,
    /// Copies of messages dropped because an outbox or a queue was full.
    pub dropped: u64,
    /// Copies not sent because the client does not accept packets of that size [MQTT-3.1.2-25].
    pub oversized: u64,
    /// Copies dropped because their Message Expiry Interval had passed [MQTT-3.3.2-5].
    pub expired: u64,
    /// Copies not delivered because they are missing in the store, or damaged.
    pub missing: u64,
    /// PUBLISH and PUBREL packets sent again.
    pub redelivered: u64,
    /// Connections, subscriptions and messages refused because a limit was reached, with 0x97 where the version has
    /// reason codes. Connections are also refused with 0x89 if there was no time for them.
    pub refused: u64,
    /// Subscriptions that matched a message beyond the number that [`Limits`](crate::core::limits::Limits) allows for
    /// one session.
    pub surplus_matches: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// CONNECT packets that came in.
    pub connects: u64,
    /// Sessions that ended because their clients stayed away too long.
    pub sessions_expired: u64,
}
