//! The layout of a publication in one piece of memory.

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};

use super::Publication;
use crate::base::time::Time;
use crate::protocol::codec::{PlainMessage, Properties, QoS};
use crate::protocol::topic::TopicName;

/// The bytes before the topic in a [`Message`](super::Message): expiry, the lengths of the topic, the publisher and the
/// properties, flags, the length of the padding. Topic, publisher, properties, payload and padding follow them.
pub(super) const HEADER_LENGTH: usize = 8 + 2 + 2 + 4 + 1 + 1;
/// The positions of the fields in the header.
const EXPIRES: Range<usize> = 0..8;
const TOPIC_LENGTH: Range<usize> = 8..10;
const PUBLISHER_LENGTH: Range<usize> = 10..12;
const PROPERTIES_LENGTH: Range<usize> = 12..16;
const FLAGS: usize = 16;
const PADDING: usize = 17;
/// The bits of the flags besides the QoS.
const RETAIN: u8 = 1 << 2;
const HAS_PUBLISHER: u8 = 1 << 3;

/// The bytes of a publication and its header.
#[inline]
pub(super) fn length_of(publication: &Publication<'_>) -> usize {
    HEADER_LENGTH + publication.length()
}

/// Writes a publication into `bytes`, which may be a little longer.
#[inline]
pub(super) fn write(publication: &Publication<'_>, bytes: &mut [u8]) {
    let topic = publication.topic.as_str().as_bytes();
    let properties = publication.properties.bytes();
    let publisher = publication.publisher.unwrap_or_default().as_bytes();
    let padding = bytes.len() - length_of(publication);
    let (header, rest) = bytes.split_at_mut(HEADER_LENGTH);
    BigEndian::write_u64(&mut header[EXPIRES], publication.expires.milliseconds());
    BigEndian::write_u16(
        &mut header[TOPIC_LENGTH],
        u16::try_from(topic.len()).expect("checked by TopicName"),
    );
    BigEndian::write_u16(
        &mut header[PUBLISHER_LENGTH],
        u16::try_from(publisher.len()).expect("within Publisher::LENGTH_MAXIMUM"),
    );
    BigEndian::write_u32(
        &mut header[PROPERTIES_LENGTH],
        u32::try_from(properties.len()).expect("a packet is shorter than 2^28 bytes"),
    );
    header[FLAGS] = publication.qos.level()
        | if publication.retain { RETAIN } else { 0 }
        | if publication.publisher.is_some() { HAS_PUBLISHER } else { 0 };
    header[PADDING] = u8::try_from(padding).expect("less than the allocator rounds by");
    let (place, mut rest) = rest.split_at_mut(topic.len());
    place.copy_from_slice(topic);
    for part in [publisher, properties] {
        // Most publications have neither, and copying nothing is not free.
        if !part.is_empty() {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
    }
    rest[..publication.payload.len()].copy_from_slice(publication.payload);
}

/// Splits the bytes into the header and what follows it up to the end of the payload.
#[inline]
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (header, rest) = bytes.split_at(HEADER_LENGTH);
    (header, &rest[..rest.len() - usize::from(header[PADDING])])
}

/// Returns the publication that [`write`] has written.
pub(super) fn read(bytes: &[u8]) -> Publication<'_> {
    let (header, rest) = split(bytes);
    let (topic, rest) = rest.split_at(usize::from(BigEndian::read_u16(&header[TOPIC_LENGTH])));
    let (publisher, rest) = rest.split_at(usize::from(BigEndian::read_u16(&header[PUBLISHER_LENGTH])));
    let (properties, payload) = rest.split_at(BigEndian::read_u32(&header[PROPERTIES_LENGTH]) as usize);
    let text = |bytes| std::str::from_utf8(bytes).expect("it was a text when it came in");
    Publication {
        topic: TopicName::trusted(text(topic)),
        payload,
        qos: QoS::from_u8(header[FLAGS] & 3).expect("written by this room"),
        retain: header[FLAGS] & RETAIN != 0,
        publisher: (header[FLAGS] & HAS_PUBLISHER != 0).then(|| text(publisher)),
        properties: Properties::trusted(properties),
        expires: Time::from_milliseconds(BigEndian::read_u64(&header[EXPIRES])),
    }
}

/// When the publication expires.
pub(super) fn expires(bytes: &[u8]) -> Time {
    Time::from_milliseconds(BigEndian::read_u64(&bytes[EXPIRES]))
}

/// The bytes of the Topic Name.
pub(super) fn topic_bytes(bytes: &[u8]) -> &[u8] {
    let length = usize::from(BigEndian::read_u16(&bytes[TOPIC_LENGTH]));
    &bytes[HEADER_LENGTH..HEADER_LENGTH + length]
}

/// The Application Message.
pub(super) fn payload(bytes: &[u8]) -> &[u8] {
    let topic = usize::from(BigEndian::read_u16(&bytes[TOPIC_LENGTH]));
    let publisher = usize::from(BigEndian::read_u16(&bytes[PUBLISHER_LENGTH]));
    let properties = BigEndian::read_u32(&bytes[PROPERTIES_LENGTH]) as usize;
    &split(bytes).1[topic + publisher + properties..]
}

/// What is sent of it, if that is no more than topic and payload.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> Option<PlainMessage<'_>> {
    let (header, rest) = split(bytes);
    if BigEndian::read_u32(&header[PROPERTIES_LENGTH]) > 0
        || BigEndian::read_u64(&header[EXPIRES]) != Time::NEVER.milliseconds()
    {
        return None;
    }
    let (topic, rest) = rest.split_at(usize::from(BigEndian::read_u16(&header[TOPIC_LENGTH])));
    let (_, payload) = rest.split_at(usize::from(BigEndian::read_u16(&header[PUBLISHER_LENGTH])));
    Some(PlainMessage { topic, payload })
}

/// The length of the Application Message.
#[inline]
pub(super) fn payload_length(bytes: &[u8]) -> usize {
    let (header, rest) = bytes.split_at(HEADER_LENGTH);
    let others = usize::from(BigEndian::read_u16(&header[TOPIC_LENGTH]))
        + usize::from(BigEndian::read_u16(&header[PUBLISHER_LENGTH]))
        + BigEndian::read_u32(&header[PROPERTIES_LENGTH]) as usize;
    rest.len() - usize::from(header[PADDING]) - others
}
