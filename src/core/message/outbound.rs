//! A publication while it is delivered to its receivers: the incoming packet is forwarded where it equals the outgoing
//! one.

use super::{Encoded, Message, Publication, Spares};
use crate::base::time::Time;
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::protocol::codec::{PlainPublish, Properties, ProtocolVersion, QoS};
use crate::protocol::topic::TopicName;

/// The packet in which a publication came, if receivers can get the same bytes. Nothing has to be encoded for receivers
/// with the same version and QoS.
#[derive(Clone, Copy, Debug)]
struct Original<'a> {
    encoded: Encoded<'a>,
    is_v5: bool,
    qos: QoS,
    /// Whether all of it can be copied to every receiver at once, with the same Topic Name.
    is_for_all: bool,
}

impl<'a> Original<'a> {
    #[inline]
    fn new(publish: &PlainPublish<'a>, is_for_all: bool) -> Self {
        let packet = publish.packet;
        let payload_by_reference = publish.payload.len() > COPIED_PAYLOAD_MAXIMUM;
        let head_length = packet.len() - publish.payload.len();
        let encoded = Encoded {
            bytes: if payload_by_reference { &packet[..head_length] } else { packet },
            packet_identifier_at: publish.packet_identifier_at(),
            length: packet.len(),
            payload_by_reference,
        };
        Self {
            encoded,
            is_v5: publish.version == ProtocolVersion::V5,
            qos: publish.delivery.qos(),
            is_for_all: is_for_all && !payload_by_reference,
        }
    }
}

/// A publication that becomes a [`Message`] when it has to be stored for the first receiver.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// The publication itself.
    pub publication: Publication<'a>,
    /// The packet in which it came.
    original: Option<Original<'a>>,
    message: Option<Message>,
}

impl<'a> Outbound<'a> {
    /// Makes the outbound form of a publication that is not stored yet.
    pub const fn new(publication: Publication<'a>) -> Self {
        Self { publication, original: None, message: None }
    }

    /// Makes the outbound form of a message that came as `publish` on this topic. `is_for_all` tells that every
    /// receiver knows the topic by that name, and that none has older messages to get first.
    #[inline]
    pub fn plain(topic: TopicName<'a>, publish: &PlainPublish<'a>, is_for_all: bool) -> Self {
        let publication = Publication {
            topic,
            payload: publish.payload,
            qos: publish.delivery.qos(),
            retain: false,
            publisher: None,
            properties: Properties::default(),
            expires: Time::NEVER,
        };
        Self { publication, original: Some(Original::new(publish, is_for_all)), message: None }
    }

    /// Makes the outbound form of a message that is stored already.
    pub fn stored(message: &'a Message) -> Self {
        Self { publication: message.publication(), original: None, message: Some(message.clone()) }
    }

    /// Returns the bytes of the packet in which it came, if they suit receivers that get no RETAIN flag and of which
    /// only the Packet Identifier is specific.
    #[inline]
    pub fn original(&self, version: ProtocolVersion, qos: QoS) -> Option<&Encoded<'a>> {
        let original = self.original.as_ref()?;
        let is_v5 = version == ProtocolVersion::V5;
        (original.is_v5 == is_v5 && original.qos == qos).then_some(&original.encoded)
    }

    /// Returns the same bytes, if all of the packet can be copied.
    #[inline]
    pub fn copied_original(&self, version: ProtocolVersion, qos: QoS) -> Option<&Encoded<'a>> {
        self.original(version, qos).filter(|_| self.original.is_some_and(|original| original.is_for_all))
    }

    /// Returns the message, which is made at the first call and then shared.
    pub fn message(&mut self, spares: &mut Spares) -> &Message {
        self.message.get_or_insert_with(|| Message::new(&self.publication, spares))
    }
}
