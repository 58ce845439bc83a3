//! The bytes of outgoing PUBLISH packets, encoded once for all receivers that get the same ones.

use super::Publication;
use crate::base::memory::{self, Audit, Counted};
use crate::base::time::Time;
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::protocol::codec::{
    Delivery, PacketIdentifier, Properties, Property, PropertyBuffer, ProtocolVersion, Publish, QoS,
};

/// How an outgoing PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By the Topic Name alone.
    Name,
    /// By the Topic Name, binding this Topic Alias to it.
    NameAndAlias(u16),
    /// By a Topic Alias that the receiver knows.
    Alias(u16),
}

/// The contents of one receiver's copy besides the publication itself.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverCopy<'a> {
    /// Whether this packet is sent again [MQTT-3.3.1-3].
    pub dup: bool,
    /// The RETAIN flag.
    pub retain: bool,
    /// QoS and Packet Identifier.
    pub delivery: Delivery,
    /// The Subscription Identifiers of all subscriptions that it matches [MQTT-3.3.4-4].
    pub identifiers: &'a [u32],
    /// How the topic is named.
    pub naming: Naming,
}

impl ReceiverCopy<'_> {
    /// Whether anything but the Packet Identifier is specific to this receiver.
    #[inline]
    pub fn is_private(&self) -> bool {
        self.dup || !self.identifiers.is_empty() || self.naming != Naming::Name
    }
}

/// A PUBLISH ready to be queued: the bytes to copy, whether the payload is referenced after them, and where the Packet
/// Identifier is.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// Everything to copy: the whole packet, or all but the payload if that is referenced.
    pub bytes: &'a [u8],
    /// The index of the Packet Identifier in `bytes`, for QoS 1 and 2.
    pub packet_identifier_at: usize,
    /// The length of the whole packet; more than [`PACKET_SIZE_MAXIMUM`](crate::protocol::codec::PACKET_SIZE_MAXIMUM)
    /// if the protocol cannot express it, so that no client accepts it.
    pub length: usize,
    /// Whether the payload follows by reference.
    pub payload_by_reference: bool,
}

/// Buffers for longer encodings, in bytes, are not kept. Long properties lead to such encodings.
const HUGE_BYTES: usize = 4 * COPIED_PAYLOAD_MAXIMUM;

#[derive(Debug, Default)]
struct Encoding {
    /// The number of the publication that it encodes; zero for none.
    made_for: u64,
    bytes: Vec<u8>,
    packet_identifier_at: usize,
    length: usize,
}

/// Encodes outgoing PUBLISH packets; equal ones once for each publication.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The number of the current publication.
    current: u64,
    /// One for each combination of 5.0 or not, QoS and RETAIN; the last one is for copies that no two receivers share.
    encodings: [Encoding; 13],
    properties: PropertyBuffer,
    /// The memory of all buffers while any of them is too large to be kept; otherwise zero.
    huge: Counted,
}

impl Encoder {
    const PRIVATE: usize = 12;

    /// Begins another publication: discards the encodings of the previous one, and the buffers if any is too large.
    pub fn begin(&mut self) {
        self.current += 1;
        self.forget_huge();
    }

    /// Releases the buffers if any is too large to be kept.
    #[inline]
    pub fn forget_huge(&mut self) {
        if self.huge.bytes() > 0 {
            *self = Self { current: self.current, ..Self::default() };
        }
    }

    /// Adds the memory of buffers that are too large to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.huge.bytes());
    }

    #[cold]
    fn count_huge(&mut self) {
        let encodings = self.encodings.iter().map(|encoding| memory::allocation(encoding.bytes.capacity()));
        self.huge.set(encodings.sum::<usize>() + memory::allocation(self.properties.capacity()));
    }

    /// Returns the bytes for receivers of which only the Packet Identifier is specific.
    pub fn shared(
        &mut self,
        publication: &Publication<'_>,
        version: ProtocolVersion,
        qos: QoS,
        retain: bool,
        now: Time,
    ) -> Encoded<'_> {
        let is_v5 = usize::from(version == ProtocolVersion::V5);
        let slot = (is_v5 * 3 + usize::from(qos.level())) * 2 + usize::from(retain);
        // An encoding that is too large to be kept must not be one of several.
        let slot = if publication.properties.bytes().len() > HUGE_BYTES { Self::PRIVATE } else { slot };
        if slot == Self::PRIVATE || self.encodings[slot].made_for != self.current {
            let delivery = match qos {
                QoS::AtMostOnce => Delivery::AtMostOnce,
                QoS::AtLeastOnce => Delivery::AtLeastOnce(PacketIdentifier::FIRST),
                QoS::ExactlyOnce => Delivery::ExactlyOnce(PacketIdentifier::FIRST),
            };
            let copy = ReceiverCopy { dup: false, retain, delivery, identifiers: &[], naming: Naming::Name };
            self.encode(slot, publication, version, &copy, now);
        }
        self.encoded(slot, publication)
    }

    /// Returns the bytes for one receiver alone.
    pub fn private(
        &mut self,
        publication: &Publication<'_>,
        version: ProtocolVersion,
        copy: &ReceiverCopy<'_>,
        now: Time,
    ) -> Encoded<'_> {
        self.encode(Self::PRIVATE, publication, version, copy, now);
        self.encoded(Self::PRIVATE, publication)
    }

    fn encoded(&self, slot: usize, publication: &Publication<'_>) -> Encoded<'_> {
        let encoding = &self.encodings[slot];
        Encoded {
            bytes: &encoding.bytes,
            packet_identifier_at: encoding.packet_identifier_at,
            length: encoding.length,
            payload_by_reference: publication.payload.len() > COPIED_PAYLOAD_MAXIMUM,
        }
    }

    fn encode(
        &mut self,
        slot: usize,
        publication: &Publication<'_>,
        version: ProtocolVersion,
        copy: &ReceiverCopy<'_>,
        now: Time,
    ) {
        let has_properties =
            version == ProtocolVersion::V5 && self.collect_properties(publication, copy, now);
        let publish = Publish {
            dup: copy.dup,
            retain: copy.retain,
            delivery: copy.delivery,
            topic: (!matches!(copy.naming, Naming::Alias(_))).then_some(publication.topic),
            properties: if has_properties { self.properties.properties() } else { Properties::default() },
            payload: publication.payload,
        };
        let encoding = &mut self.encodings[slot];
        encoding.made_for = self.current;
        encoding.bytes.clear();
        encoding.packet_identifier_at = publish.encode_head(version, &mut encoding.bytes);
        encoding.length = encoding.bytes.len() + publication.payload.len();
        if publication.payload.len() <= COPIED_PAYLOAD_MAXIMUM {
            encoding.bytes.extend_from_slice(publication.payload);
        }
        if encoding.bytes.len() > HUGE_BYTES {
            self.count_huge();
        }
    }

    /// Collects the properties of a copy. Returns whether there are any.
    fn collect_properties(
        &mut self,
        publication: &Publication<'_>,
        copy: &ReceiverCopy<'_>,
        now: Time,
    ) -> bool {
        self.properties.clear();
        self.properties.push_encoded(publication.properties.bytes());
        if publication.expires != Time::NEVER {
            // The forwarded interval is the received one minus the whole seconds for which the message has waited
            // [MQTT-3.3.2-6].
            let left = publication.expires.since(now).milliseconds().div_ceil(1000);
            let seconds = u32::try_from(left).unwrap_or(u32::MAX);
            self.properties.push(Property::MessageExpiryInterval(seconds));
        }
        for &identifier in copy.identifiers {
            self.properties.push(Property::SubscriptionIdentifier(identifier));
        }
        if let Naming::NameAndAlias(alias) | Naming::Alias(alias) = copy.naming {
            self.properties.push(Property::TopicAlias(alias));
        }
        !self.properties.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::topic::TopicName;

    fn publication<'a>(payload: &'a [u8]) -> Publication<'a> {
        Publication {
            topic: TopicName::new("a/b").unwrap(),
            payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            publisher: Some("p"),
            properties: Properties::default(),
            expires: Time::from_milliseconds(10_000),
        }
    }

    #[test]
    fn buffers_for_huge_properties_are_released() {
        let mut encoder = Encoder::default();
        let mut properties = PropertyBuffer::default();
        (0..10_000).for_each(|_| properties.push(Property::UserProperty("name", "value")));
        let huge = Publication { properties: properties.properties(), ..publication(b"x") };
        encoder.begin();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let _ = encoder.shared(&huge, ProtocolVersion::V5, qos, false, Time::ZERO);
        }
        let room = |encoder: &Encoder| {
            encoder.encodings.iter().map(|encoding| encoding.bytes.capacity()).sum::<usize>()
        };
        assert!(room(&encoder) >= 200_000);
        encoder.begin();
        assert_eq!(room(&encoder), 0);
        let small = publication(b"x");
        let _ = encoder.shared(&small, ProtocolVersion::V5, QoS::AtMostOnce, false, Time::ZERO);
        encoder.begin();
        assert!(room(&encoder) > 0, "small buffers are kept");
    }

    #[test]
    fn equal_copies_are_encoded_once_and_differ_only_in_the_identifier() {
        let mut encoder = Encoder::default();
        let publication = publication(b"x");
        encoder.begin();
        let version = ProtocolVersion::V311;
        let encoded = encoder.shared(&publication, version, QoS::AtLeastOnce, false, Time::ZERO);
        assert_eq!(encoded.bytes, b"\x32\x08\x00\x03a/b\x00\x01x");
        assert_eq!((encoded.packet_identifier_at, encoded.length), (7, 10));
        encoder.begin();
        let encoded = encoder.shared(&publication, version, QoS::AtMostOnce, true, Time::ZERO);
        assert_eq!(encoded.bytes, b"\x31\x06\x00\x03a/bx");
    }

    #[test]
    fn expiry_counts_down_by_whole_seconds_waited() {
        let mut encoder = Encoder::default();
        let publication = publication(b"");
        for (now, seconds) in [(0, 10), (999, 10), (1_000, 9), (9_999, 1)] {
            encoder.begin();
            let now = Time::from_milliseconds(now);
            let encoded = encoder.shared(&publication, ProtocolVersion::V5, QoS::AtMostOnce, false, now);
            assert_eq!(encoded.bytes, [0x30, 11, 0, 3, b'a', b'/', b'b', 5, 2, 0, 0, 0, seconds]);
        }
    }

    #[test]
    fn a_large_payload_is_referenced() {
        let mut encoder = Encoder::default();
        let payload = vec![7; COPIED_PAYLOAD_MAXIMUM + 1];
        encoder.begin();
        let version = ProtocolVersion::V311;
        let publication = publication(&payload);
        let encoded = encoder.shared(&publication, version, QoS::AtMostOnce, false, Time::ZERO);
        assert!(encoded.payload_by_reference);
        assert_eq!(encoded.bytes.len() + payload.len(), encoded.length);
    }
}
