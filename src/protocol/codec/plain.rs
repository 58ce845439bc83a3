//! PUBLISH packets of the most common form, which are forwarded to subscribers as they were received.

use super::publish::{Delivery, UncheckedPublish, unchecked_publish};
use super::reader::Reader;
use super::{Frame, PacketIdentifier, ProtocolVersion, QoS, Status, frame, kind, writer};

/// A PUBLISH without DUP, RETAIN and properties, in its shortest form. Subscribers that use the same version receive
/// the same bytes, except for the Packet Identifier.
#[derive(Clone, Copy, Debug)]
pub struct PlainPublish<'a> {
    /// The QoS and the Packet Identifier.
    pub delivery: Delivery,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The complete packet.
    pub packet: &'a [u8],
    /// The version in which the packet is encoded.
    pub version: ProtocolVersion,
}

impl PlainPublish<'_> {
    /// Whether it was sent before.
    #[inline]
    pub fn is_dup(&self) -> bool {
        self.packet[0] & 0x08 != 0
    }

    /// The index in the packet of the Packet Identifier, or, at QoS 0, of the place where it would be.
    #[inline]
    pub fn packet_identifier_at(&self) -> usize {
        let identifier_length = if self.delivery == Delivery::AtMostOnce { 0 } else { 2 };
        let properties_length = usize::from(self.version == ProtocolVersion::V5);
        self.packet.len() - self.payload.len() - properties_length - identifier_length
    }
}

/// A PUBLISH to be sent without DUP, RETAIN and properties.
#[derive(Clone, Copy, Debug)]
pub struct PlainMessage<'a> {
    /// The bytes of the Topic Name.
    pub topic: &'a [u8],
    /// The Application Message.
    pub payload: &'a [u8],
}

impl PlainMessage<'_> {
    /// The length of the packet in bytes.
    #[inline]
    pub const fn length(&self, version: ProtocolVersion, qos: QoS) -> usize {
        let remaining = self.remaining_length(version, qos);
        1 + writer::integer_width(remaining) + remaining
    }

    #[inline]
    const fn remaining_length(&self, version: ProtocolVersion, qos: QoS) -> usize {
        let identifier_length = if matches!(qos, QoS::AtMostOnce) { 0 } else { 2 };
        let properties_length = if matches!(version, ProtocolVersion::V5) { 1 } else { 0 };
        2 + self.topic.len() + identifier_length + properties_length + self.payload.len()
    }

    /// Appends the packet.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, delivery: Delivery, into: &mut Vec<u8>) {
        let qos = delivery.qos();
        into.push(kind::PUBLISH << 4 | qos.level() << 1);
        writer::length(into, self.remaining_length(version, qos));
        writer::binary(into, self.topic);
        if let Some(identifier) = delivery.packet_identifier() {
            writer::u16(into, identifier.value());
        }
        if version == ProtocolVersion::V5 {
            into.push(0);
        }
        into.extend_from_slice(self.payload);
    }
}

/// Consecutive plain PUBLISH packets with QoS 0 and the same Topic Name. Subscribers that use the same version receive
/// the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainRun<'a> {
    /// The bytes of the Topic Name, not checked.
    pub topic: &'a [u8],
    /// The bytes of all packets.
    pub bytes: &'a [u8],
    /// The number of packets.
    pub count: usize,
    /// The length of the longest packet in bytes.
    pub longest: usize,
    /// The total length of the Application Messages in bytes.
    pub payload_bytes: usize,
}

impl<'a> PlainRun<'a> {
    /// Whether a run of more than one packet may start with this one, by a quick look at the bytes that follow it.
    #[inline]
    pub fn may_begin_with(first: &Frame<'_>, following: &[u8]) -> bool {
        const FIRST_BYTE: u8 = kind::PUBLISH << 4;
        let [FIRST_BYTE, length, body @ ..] = following else { return false };
        let is_longer = length & 0x80 != 0;
        let begins_alike = || {
            let topic = Reader::new(first.body).binary().ok()?;
            Some(body.starts_with(first.body.get(..2 + topic.len())?))
        };
        first.first_byte == FIRST_BYTE && (is_longer || begins_alike().unwrap_or(false))
    }

    /// Returns the run at the start of `input`. It has no packets if the first one is not plain or not of QoS 0. The
    /// run ends before a packet longer than `maximum_packet_size`, and as soon as it has at least `enough` bytes.
    #[inline(never)]
    pub fn new(input: &'a [u8], version: ProtocolVersion, maximum_packet_size: usize, enough: usize) -> Self {
        let mut run = Self { topic: &[], bytes: &[], count: 0, longest: 0, payload_bytes: 0 };
        let mut last = None;
        while run.bytes.len() < enough {
            let (_, rest) = input.split_at(run.bytes.len());
            // Only the lengths of the next packet matter.
            let next = match last {
                Some(last) if differs_in_payload(&last, rest) => last,
                _ => {
                    let Some((topic, plain)) = cut_at_most_once(rest, version, maximum_packet_size) else {
                        break;
                    };
                    if run.count > 0 && run.topic != topic {
                        break;
                    }
                    run.topic = topic;
                    run.longest = run.longest.max(plain.packet.len());
                    plain
                }
            };
            run.bytes = input.split_at(run.bytes.len() + next.packet.len()).0;
            run.payload_bytes += next.payload.len();
            run.count += 1;
            last = Some(next);
        }
        run
    }
}

/// Returns the packet at the start of `input` and the bytes of its Topic Name, if it is plain and of QoS 0.
#[inline]
fn cut_at_most_once(
    input: &[u8],
    version: ProtocolVersion,
    maximum_packet_size: usize,
) -> Option<(&[u8], PlainPublish<'_>)> {
    let Ok(Status::Complete(cut)) = frame(input, maximum_packet_size) else { return None };
    let unchecked = unchecked_publish(&cut, version).ok()??;
    let plain = unchecked.plain(version)?;
    (plain.delivery == Delivery::AtMostOnce).then_some((unchecked.topic, plain))
}

/// Whether `input` starts with a packet that differs from a plain one of QoS 0 in nothing but its payload. The lengths
/// are the same then, and it needs no decoding.
#[inline]
fn differs_in_payload(last: &PlainPublish<'_>, input: &[u8]) -> bool {
    let head = &last.packet[..last.packet.len() - last.payload.len()];
    input.len() >= last.packet.len() && input.starts_with(head)
}

/// An iterator over consecutive plain PUBLISH packets with the same Topic Name and the same QoS.
#[derive(Clone, Debug)]
pub struct PlainPublishes<'a> {
    qos: QoS,
    topic: &'a [u8],
    version: ProtocolVersion,
    maximum_packet_size: usize,
    /// The first packet, until it has been returned.
    next: Option<PlainPublish<'a>>,
    /// The bytes that follow it.
    rest: &'a [u8],
    /// The bytes of the first packet before its Packet Identifier, and the length of that packet.
    head: &'a [u8],
    length: usize,
}

impl<'a> PlainPublishes<'a> {
    /// Returns the packet `first` and those like it that follow it in `input`, which starts with it. Ends before a
    /// packet longer than `maximum_packet_size`.
    #[inline]
    pub fn new(
        first: PlainPublish<'a>,
        topic: &'a [u8],
        input: &'a [u8],
        maximum_packet_size: usize,
    ) -> Self {
        let (head, _) = first.packet.split_at(first.packet_identifier_at());
        Self {
            qos: first.delivery.qos(),
            topic,
            version: first.version,
            maximum_packet_size,
            next: Some(first),
            rest: input.get(first.packet.len()..).unwrap_or_default(),
            head,
            length: first.packet.len(),
        }
    }

    /// The QoS of all packets.
    #[inline]
    pub const fn qos(&self) -> QoS {
        self.qos
    }

    /// Cuts off the next packet. One that begins like the first packet has the same length.
    #[inline(always)]
    fn cut(&mut self) -> Option<PlainPublish<'a>> {
        match self.rest.split_at_checked(self.length) {
            Some((packet, rest)) if packet.starts_with(self.head) => {
                let next = self.after_head(packet)?;
                self.rest = rest;
                Some(next)
            }
            _ => self.cut_other(),
        }
    }

    /// Decodes a packet that begins like the first one.
    #[inline(always)]
    fn after_head(&self, packet: &'a [u8]) -> Option<PlainPublish<'a>> {
        let (identifier, rest) = packet.get(self.head.len()..)?.split_first_chunk()?;
        let identifier = PacketIdentifier::new(u16::from_be_bytes(*identifier))?;
        let delivery = match self.qos {
            QoS::AtMostOnce => return None,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
        };
        let payload = match self.version {
            ProtocolVersion::V5 => rest.strip_prefix(&[0])?,
            ProtocolVersion::V31 | ProtocolVersion::V311 => rest,
        };
        Some(PlainPublish { delivery, payload, packet, version: self.version })
    }

    #[inline(never)]
    fn cut_other(&mut self) -> Option<PlainPublish<'a>> {
        let Ok(Status::Complete(cut)) = frame(self.rest, self.maximum_packet_size) else { return None };
        if cut.first_byte != kind::PUBLISH << 4 | self.qos.level() << 1 {
            return None;
        }
        let unchecked = UncheckedPublish::new(&cut).ok().filter(|unchecked| unchecked.topic == self.topic)?;
        let plain = unchecked.plain(self.version)?;
        self.rest = self.rest.get(cut.length..)?;
        Some(plain)
    }
}

impl<'a> Iterator for PlainPublishes<'a> {
    type Item = PlainPublish<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next.take();
        next.or_else(|| self.cut())
    }
}

impl<'a> UncheckedPublish<'a> {
    /// Returns the packet if it is a plain one: without DUP, RETAIN and properties, in its shortest form. All other
    /// packets, valid or not, are left to [`UncheckedPublish::decode`].
    #[inline]
    pub fn plain(&self, version: ProtocolVersion) -> Option<PlainPublish<'a>> {
        let mut reader = Reader::new(self.rest);
        let delivery = match self.first_byte & 0x0F {
            0 => Delivery::AtMostOnce,
            0b0010 => Delivery::AtLeastOnce(reader.packet_identifier().ok()?),
            0b0100 => Delivery::ExactlyOnce(reader.packet_identifier().ok()?),
            _ => return None,
        };
        let payload = match version {
            ProtocolVersion::V5 => reader.rest().strip_prefix(&[0])?,
            ProtocolVersion::V31 | ProtocolVersion::V311 => reader.rest(),
        };
        let body_length = 2 + self.topic.len() + self.rest.len();
        let is_shortest = self.packet.len() == 1 + writer::integer_width(body_length) + body_length;
        is_shortest.then_some(PlainPublish { delivery, payload, packet: self.packet, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Properties, Publish};
    use crate::protocol::topic::TopicName;

    #[test]
    fn a_plain_message_is_encoded_like_any_other() {
        let identifier = PacketIdentifier::new(0x1234).unwrap();
        let deliveries =
            [Delivery::AtMostOnce, Delivery::AtLeastOnce(identifier), Delivery::ExactlyOnce(identifier)];
        let versions = OLD.into_iter().chain([V5]);
        for (version, delivery) in versions.flat_map(|version| deliveries.map(|delivery| (version, delivery)))
        {
            for length in [0, 1, 100, 115, 120, 130, 16_370, 16_390] {
                let payload = vec![b'x'; length];
                let plain = PlainMessage { topic: b"a/b", payload: &payload };
                let mut bytes = vec![9];
                plain.encode(version, delivery, &mut bytes);
                let publish = Publish {
                    dup: false,
                    retain: false,
                    delivery,
                    topic: Some(TopicName::new("a/b").unwrap()),
                    properties: Properties::default(),
                    payload: &payload,
                };
                let mut expected = vec![9];
                publish.encode(version, &mut expected);
                assert_eq!(bytes, expected);
                assert_eq!(plain.length(version, delivery.qos()), expected.len() - 1);
            }
        }
    }

    #[test]
    fn only_plain_packets_are_accepted_as_plain() {
        let is_plain = |version, bytes: &[u8]| {
            let Ok(Status::Complete(cut)) = frame(bytes, bytes.len()) else { panic!("no frame") };
            let unchecked = unchecked_publish(&cut, version).ok().flatten();
            unchecked.is_some_and(|unchecked| unchecked.plain(version).is_some())
        };
        for version in OLD {
            for (bytes, expected) in [
                (&b"\x30\x07\x00\x03a/bhi"[..], true),
                (b"\x32\x07\x00\x03a/b\x00\x01", true),
                (b"\x34\x07\x00\x03a/b\x00\x01", true),
                (b"\x36\x07\x00\x03a/b\x00\x01", false),
                (b"\x32\x07\x00\x03a/b\x00\x00", false),
                (b"\x32\x06\x00\x03a/b\x00", false),
                (b"\x31\x07\x00\x03a/bhi", false),
                (b"\x38\x07\x00\x03a/bhi", false),
                (b"\x3A\x07\x00\x03a/b\x00\x01", false),
                (b"\x30\x87\x00\x00\x03a/bhi", false),
            ] {
                assert_eq!(is_plain(version, bytes), expected, "{bytes:?}");
            }
        }
        assert!(is_plain(V5, b"\x32\x08\x00\x03a/b\x00\x01\x00"));
        assert!(!is_plain(V5, b"\x32\x07\x00\x03a/b\x00\x01"), "no properties at all");
        assert!(!is_plain(V5, b"\x30\x08\x00\x03a/b\x02\x01\x00"), "a property");
    }

    #[test]
    fn packets_are_alike_if_their_topic_and_qos_are_the_same() {
        let others: [&[u8]; 6] = [
            b"\x32\x06\0\x01u\0\x02x",
            b"\x3A\x06\0\x01t\0\x02x",
            b"\x34\x06\0\x01t\0\x02x",
            b"\x30\x04\0\x01tx",
            b"\x32\x06\0\x01t\0\0x",
            b"\x32\x07\0\x01t\0\x02xy",
        ];
        for (other, exactly_once) in others.into_iter().flat_map(|other| [(other, false), (other, true)]) {
            let mut other = other.to_vec();
            let mut first = b"\x32\x06\0\x01t\0\x01x".to_vec();
            let mut second = b"\x32\x05\0\x01t\0\x03".to_vec();
            if exactly_once {
                for packet in [&mut first, &mut second, &mut other] {
                    packet[0] ^= 0b0110;
                }
            }
            let input = [&*first, &second, &other, &first].concat();
            let Ok(Status::Complete(cut)) = frame(&input, 8) else { panic!("no frame") };
            let unchecked = unchecked_publish(&cut, V311).unwrap().unwrap();
            let plain = unchecked.plain(V311).unwrap();
            let alike = PlainPublishes::new(plain, unchecked.topic, &input, 8);
            let identifier = |plain: &PlainPublish<'_>| plain.delivery.packet_identifier().unwrap().value();
            let found: Vec<_> = alike.map(|plain| (plain.payload, identifier(&plain))).collect();
            assert_eq!(found, [(&b"x"[..], 1), (b"", 3)], "before {other:02x?}");
        }
    }

    #[test]
    fn packets_that_begin_like_the_first_one_are_decoded_alike() {
        for (version, properties) in [(V311, &b""[..]), (V5, b"\0")] {
            let packet = |identifier: u8, payload: &[u8]| {
                let length = u8::try_from(5 + properties.len() + payload.len()).unwrap();
                [&[0x32, length, 0, 1, b't', 0, identifier], properties, payload].concat()
            };
            let first = packet(1, b"xx");
            let second = packet(2, b"yy");
            let property = b"\x32\x08\0\x01t\0\x03\x02\x01\0";
            let zero = [packet(0, b"zz"), packet(3, b"zz")].concat();
            for (last, is_part) in [
                (&packet(3, b"zz")[..], true),
                (&second[..second.len() - 1], false),
                (property, version == V311),
                (&zero, false),
            ] {
                let input = [&*first, &second, last].concat();
                let Ok(Status::Complete(cut)) = frame(&input, 20) else { panic!("no frame") };
                let unchecked = unchecked_publish(&cut, version).unwrap().unwrap();
                let plain = unchecked.plain(version).unwrap();
                let mut publishes = PlainPublishes::new(plain, unchecked.topic, &input, 20);
                let alike: Vec<_> = publishes.by_ref().collect();
                assert!(publishes.next().is_none(), "it has ended");
                assert_eq!(alike.len(), 2 + usize::from(is_part), "{version:?} {last:02x?}");
                assert_eq!(
                    (alike[1].payload, alike[1].packet, alike[1].version),
                    (&b"yy"[..], &*second, version)
                );
                let identifier = PacketIdentifier::new(2).unwrap();
                assert_eq!(alike[1].delivery, Delivery::AtLeastOnce(identifier));
            }
        }
    }

    #[test]
    fn a_run_ends_before_a_packet_of_another_topic_or_kind() {
        let one = b"\x30\x07\x00\x03a/bhi";
        let other = b"\x30\x08\x00\x03a/bhey";
        for (next, is_part) in [
            (&b"\x30\x07\x00\x03a/c.."[..], false),
            (b"\x31\x07\x00\x03a/b..", false),
            (b"\x32\x07\x00\x03a/b\x00\x01", false),
            (b"\x30\x07\x00\x03a/b.", false),
            (b"\x30\x07\x00\x04a/b..", false),
            (b"\x30\x87\x00\x00\x03a/b..", false),
            (b"\xC0\x00", false),
            (b"", false),
            (b"\x30\x05\x00\x03a/b", true),
            (b"\x30\x08\x00\x03a/byou", true),
            (b"\x30\x08\x00\x03a/byo", false),
        ] {
            let input = [one, &other[..], next].concat();
            let run = PlainRun::new(&input, V311, 20, 1000);
            let Ok(Status::Complete(first)) = frame(&input, 20) else { panic!("no frame") };
            assert!(PlainRun::may_begin_with(&first, &input[first.length..]));
            let following = if is_part { next.len() } else { 0 };
            assert_eq!((run.count, run.bytes.len()), (2 + usize::from(is_part), 19 + following), "{next:?}");
            assert_eq!((run.topic, run.longest), (&b"a/b"[..], 10));
        }
        let input = [one, &other[..], one].concat();
        assert_eq!(PlainRun::new(&input, V311, 9, 1000).count, 1, "the second one is too long");
        assert_eq!(PlainRun::new(&input, V311, 20, 10).count, 2, "the second one makes it long enough");
        assert_eq!(PlainRun::new(&input, V5, 20, 1000).count, 0, "another version");
    }
}
