//! One publication on its way: borrowed while it is routed, kept as one allocation where it must wait, and
//! encoded once for all receivers that get the same bytes.
//!
//! May know the codec and time, nothing of sessions or connections.

mod portable;
mod spares;

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use byteorder::{BigEndian, ByteOrder};

use crate::base::memory::{self, Audit, Counted};
use crate::base::time::Time;
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::core::listener::ListenerId;
use crate::protocol::codec::{
    Delivery, PacketIdentifier, PlainPublish, Properties, Property, PropertyBuffer, ProtocolVersion, Publish,
    QoS,
};
use crate::protocol::topic::TopicName;

pub use portable::Portable;
pub use spares::Spares;

/// A publication, borrowed from the packet or the [`Message`] that carries it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// What it was published to.
    pub topic: TopicName<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
    /// The QoS it was published with; a receiver gets it with this or a lower one.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// Who published it, as [`Publisher::written`] has it, where it is known and of use: kept with retained messages.
    pub publisher: Option<&'a str>,
    /// The properties that receivers get as they are: without Topic Alias, Message Expiry Interval and
    /// Subscription Identifiers.
    pub properties: Properties<'a>,
    /// When the Message Expiry Interval has passed; [`Time::NEVER`] without one.
    pub expires: Time,
}

impl Publication<'_> {
    /// Bytes of what it is made of: topic, publisher, properties and payload.
    #[inline]
    pub fn length(&self) -> usize {
        self.topic.as_str().len()
            + self.publisher.map_or(0, str::len)
            + self.properties.bytes().len()
            + self.payload.len()
    }
}

impl Publication<'_> {
    /// Whether the Message Expiry Interval has passed.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires <= now
    }
}

/// Who published a message, so that it can be asked later whether he still may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publisher<'a> {
    /// The listener that he came in by.
    pub listener: ListenerId,
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The User Name.
    pub user_name: Option<&'a str>,
}

impl<'a> Publisher<'a> {
    /// The most bytes that Client Identifier and User Name may take together.
    pub const LENGTH_MAXIMUM: usize = 65_535 - "65535\0\0".len();

    /// One text for all of it, parted by what no name contains [MQTT-1.5.4-2].
    pub fn written(&self) -> String {
        match self.user_name {
            Some(user_name) => format!("{}\0{}\0{user_name}", self.listener.0, self.client_identifier),
            None => format!("{}\0{}", self.listener.0, self.client_identifier),
        }
    }

    /// Reads what [`Publisher::written`] wrote.
    pub fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(3, '\0');
        let listener = ListenerId(parts.next()?.parse().ok()?);
        Some(Self { listener, client_identifier: parts.next()?, user_name: parts.next() })
    }
}

/// The bytes before the topic in a [`Message`]: expiry, lengths of the topic, the publisher and the properties,
/// flags, padding. Behind them stand topic, publisher, properties, payload and padding.
const HEADER_LENGTH: usize = 8 + 2 + 2 + 4 + 1 + 1;
/// Where in it what stands.
const EXPIRES: Range<usize> = 0..8;
const TOPIC_LENGTH: Range<usize> = 8..10;
const PUBLISHER_LENGTH: Range<usize> = 10..12;
const PROPERTIES_LENGTH: Range<usize> = 12..16;
const FLAGS: usize = 16;
const PADDING: usize = 17;
/// Bits of the flags beside the QoS.
const RETAIN: u8 = 1 << 2;
const HAS_PUBLISHER: u8 = 1 << 3;

/// What counts the holders of a [`Message`].
const COUNTERS_LENGTH: usize = 2 * size_of::<usize>();

/// Bytes of an allocation that are the allocator's own.
const ALLOCATION_HEADER_LENGTH: usize = 8;

/// A publication that is kept: in a queue, in flight, retained, or as a large payload in an outbox. Immutable,
/// one allocation, shared by counting.
#[derive(Clone, Debug)]
pub struct Message(Rc<[u8]>);

thread_local! {
    static STORED: Cell<Stored> = const { Cell::new(Stored { count: 0, bytes: 0 }) };
}

/// How much is kept in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Messages, however many hold them.
    pub count: u64,
    /// Bytes of their Application Messages.
    pub bytes: u64,
}

/// What all messages of this thread, which is one broker, amount to.
pub fn stored() -> Stored {
    STORED.get()
}

#[inline]
fn count_stored(bytes: usize) {
    let stored = STORED.get();
    STORED.set(Stored { count: stored.count + 1, bytes: stored.bytes + bytes as u64 });
}

#[inline]
fn discount_stored(bytes: usize) {
    let stored = STORED.get();
    STORED.set(Stored { count: stored.count - 1, bytes: stored.bytes - bytes as u64 });
}

impl Drop for Message {
    /// The last one to let go gives the memory back.
    #[inline]
    fn drop(&mut self) {
        if Rc::strong_count(&self.0) == 1 {
            discount_stored(self.payload_length());
            memory::release(self.memory());
        }
    }
}

/// Bytes of a publication and its header.
#[inline]
fn length_of(publication: &Publication<'_>) -> usize {
    HEADER_LENGTH + publication.length()
}

/// Writes a publication into its place, which may be a little larger.
#[inline]
fn write(publication: &Publication<'_>, bytes: &mut [u8]) {
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
        // Most have neither, and to copy nothing is not free.
        if !part.is_empty() {
            let (place, behind) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = behind;
        }
    }
    rest[..publication.payload.len()].copy_from_slice(publication.payload);
}

/// The header, and what stands between it and the end of the payload.
#[inline]
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (header, rest) = bytes.split_at(HEADER_LENGTH);
    (header, &rest[..rest.len() - usize::from(header[PADDING])])
}

/// The publication that [`write`] has written.
fn read(bytes: &[u8]) -> Publication<'_> {
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

impl Message {
    /// Copies a publication into an allocation of its own, a spare one if there is one.
    pub fn new(publication: &Publication<'_>, spares: &mut Spares) -> Self {
        let length = length_of(publication);
        let mut message = spares.take(Self::memory_of(publication)).unwrap_or_else(|| Self::blank(length));
        write(publication, Rc::get_mut(&mut message.0).expect("nobody else holds it"));
        count_stored(publication.payload.len());
        message
    }

    /// Room for so many bytes, and what the allocator adds to them anyway.
    #[inline(never)]
    fn blank(length: usize) -> Self {
        let unused = memory::allocation(length + COUNTERS_LENGTH) - COUNTERS_LENGTH - length;
        let padding = unused.saturating_sub(ALLOCATION_HEADER_LENGTH);
        let message = Self(std::iter::repeat_n(0, length + padding).collect());
        memory::claim(message.memory());
        message
    }

    /// Whether nobody else holds it.
    #[inline]
    fn is_only_holder(&mut self) -> bool {
        Rc::get_mut(&mut self.0).is_some()
    }

    /// The publication in it.
    pub fn publication(&self) -> Publication<'_> {
        read(&self.0)
    }

    /// A copy that may go to another thread.
    pub fn portable(&self) -> Portable {
        Portable::copied(&self.0)
    }

    /// Adds what it takes to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add_shared(self.0.as_ptr().addr(), self.memory());
    }

    /// When its Message Expiry Interval has passed.
    pub fn expires(&self) -> Time {
        Time::from_milliseconds(BigEndian::read_u64(&self.0[EXPIRES]))
    }

    /// The Topic Name's bytes: cheaper than the whole [`Message::publication`].
    pub fn topic_bytes(&self) -> &[u8] {
        let length = usize::from(BigEndian::read_u16(&self.0[TOPIC_LENGTH]));
        &self.0[HEADER_LENGTH..HEADER_LENGTH + length]
    }

    /// The Application Message alone.
    pub fn payload(&self) -> &[u8] {
        let topic = usize::from(BigEndian::read_u16(&self.0[TOPIC_LENGTH]));
        let publisher = usize::from(BigEndian::read_u16(&self.0[PUBLISHER_LENGTH]));
        let properties = BigEndian::read_u32(&self.0[PROPERTIES_LENGTH]) as usize;
        &split(&self.0).1[topic + publisher + properties..]
    }

    /// The length of the Application Message in bytes.
    #[inline]
    fn payload_length(&self) -> usize {
        let (header, rest) = self.0.split_at(HEADER_LENGTH);
        let others = usize::from(BigEndian::read_u16(&header[TOPIC_LENGTH]))
            + usize::from(BigEndian::read_u16(&header[PUBLISHER_LENGTH]))
            + BigEndian::read_u32(&header[PROPERTIES_LENGTH]) as usize;
        rest.len() - usize::from(header[PADDING]) - others
    }

    /// What a message made of `publication` would cost in memory.
    #[inline]
    pub fn memory_of(publication: &Publication<'_>) -> usize {
        Self::memory_of_length(publication.length())
    }

    /// The same for one of so many bytes, see [`Publication::length`].
    #[inline]
    pub const fn memory_of_length(length: usize) -> usize {
        memory::allocation(HEADER_LENGTH + length + COUNTERS_LENGTH)
    }

    /// What it costs in memory, in bytes, its counters included.
    pub fn memory(&self) -> usize {
        memory::allocation(self.0.len() + COUNTERS_LENGTH)
    }
}

/// The packet that a publication came in, where it is one that receivers get too. Nothing has to be encoded for those
/// who speak the same version and get it with the same QoS.
#[derive(Clone, Copy, Debug)]
struct Original<'a> {
    encoded: Encoded<'a>,
    is_v5: bool,
    qos: QoS,
    /// All of it can be copied to every receiver at once, under the name that it came with.
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

/// A publication that becomes a [`Message`] when the first receiver has to keep it.
#[derive(Debug)]
pub struct Keepable<'a> {
    /// The publication itself.
    pub publication: Publication<'a>,
    /// The packet that it came in.
    original: Option<Original<'a>>,
    message: Option<Message>,
}

impl<'a> Keepable<'a> {
    /// A publication that nobody keeps yet.
    pub const fn new(publication: Publication<'a>) -> Self {
        Self { publication, original: None, message: None }
    }

    /// A message that came as `publish` on this topic. `is_for_all` if every receiver knows the topic by that name, and
    /// none has older messages to get first.
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

    /// A publication that is kept already.
    pub fn kept(message: &'a Message) -> Self {
        Self { publication: message.publication(), original: None, message: Some(message.clone()) }
    }

    /// Whether the packet that it came in is known: it is when that goes through the broker by a short way.
    #[inline]
    pub const fn has_original(&self) -> bool {
        self.original.is_some()
    }

    /// The bytes of the packet that it came in, if these are what a receiver gets that needs no RETAIN flag and nothing
    /// of its own but the Packet Identifier.
    #[inline]
    pub fn original(&self, version: ProtocolVersion, qos: QoS) -> Option<&Encoded<'a>> {
        let original = self.original.as_ref()?;
        let is_v5 = version == ProtocolVersion::V5;
        (original.is_v5 == is_v5 && original.qos == qos).then_some(&original.encoded)
    }

    /// The same, if all of it can be copied.
    #[inline]
    pub fn copied_original(&self, version: ProtocolVersion, qos: QoS) -> Option<&Encoded<'a>> {
        self.original(version, qos).filter(|_| self.original.is_some_and(|original| original.is_for_all))
    }

    /// The message; made on first need and then shared.
    pub fn message(&mut self, spares: &mut Spares) -> &Message {
        self.message.get_or_insert_with(|| Message::new(&self.publication, spares))
    }
}

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

/// What one receiver's copy says beside the publication itself.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverCopy<'a> {
    /// Whether this very packet is a retransmission [MQTT-3.3.1-3].
    pub dup: bool,
    /// The RETAIN flag.
    pub retain: bool,
    /// QoS and Packet Identifier.
    pub delivery: Delivery,
    /// The Subscription Identifiers of all subscriptions it answers [MQTT-3.3.4-4].
    pub identifiers: &'a [u32],
    /// How the topic is named.
    pub naming: Naming,
}

impl ReceiverCopy<'_> {
    /// Whether the packet says more that is this receiver's own than the Packet Identifier.
    #[inline]
    pub fn is_private(&self) -> bool {
        self.dup || !self.identifiers.is_empty() || self.naming != Naming::Name
    }
}

/// A PUBLISH ready to be queued: the bytes to copy, what to reference behind them, where the identifier goes.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// Everything to copy: the whole packet, or all but the payload if that is referenced.
    pub bytes: &'a [u8],
    /// Where in `bytes` the Packet Identifier stands, for QoS 1 and 2.
    pub packet_identifier_at: usize,
    /// Length of the whole packet; more than [`PACKET_SIZE_MAXIMUM`](crate::protocol::codec::PACKET_SIZE_MAXIMUM) if
    /// the protocol cannot express it, and no client accepts it.
    pub length: usize,
    /// Whether the payload follows by reference.
    pub payload_by_reference: bool,
}

/// Longer encodings are not worth keeping, in bytes. Properties make them so.
const HUGE_BYTES: usize = 4 * COPIED_PAYLOAD_MAXIMUM;

#[derive(Debug, Default)]
struct Encoding {
    /// Which publication it was made for; zero for none.
    made_for: u64,
    bytes: Vec<u8>,
    packet_identifier_at: usize,
    length: usize,
}

/// Makes the bytes of outgoing PUBLISH packets; equal ones once for each publication.
#[derive(Debug, Default)]
pub struct Encoder {
    /// Counts the publications.
    current: u64,
    /// Whether 5.0, times QoS, times RETAIN; the last is for copies that no two receivers share.
    encodings: [Encoding; 13],
    properties: PropertyBuffer,
    /// What encodings take that are larger than is worth keeping; nothing, if none is.
    huge: Counted,
}

impl Encoder {
    const PRIVATE: usize = 12;

    /// Forgets the encodings of the publication before, and the room that huge ones took.
    pub fn begin(&mut self) {
        self.current += 1;
        self.forget_huge();
    }

    /// Gives the room back that huge encodings took.
    #[inline]
    pub fn forget_huge(&mut self) {
        if self.huge.bytes() > 0 {
            *self = Self { current: self.current, ..Self::default() };
        }
    }

    /// Adds what huge encodings take to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.huge.bytes());
    }

    #[cold]
    fn count_huge(&mut self) {
        let encodings = self.encodings.iter().map(|encoding| memory::allocation(encoding.bytes.capacity()));
        self.huge.set(encodings.sum::<usize>() + memory::allocation(self.properties.capacity()));
    }

    /// The bytes for a receiver that needs nothing of its own but the Packet Identifier.
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
        // One that is huge is not worth keeping beside others that are, too.
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

    /// The bytes for one receiver alone.
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

    /// Puts the properties of a copy together; tells whether there are any.
    fn collect_properties(
        &mut self,
        publication: &Publication<'_>,
        copy: &ReceiverCopy<'_>,
        now: Time,
    ) -> bool {
        self.properties.clear();
        self.properties.push_encoded(publication.properties.bytes());
        if publication.expires != Time::NEVER {
            // What is forwarded is the received interval less the whole seconds waited [MQTT-3.3.2-6].
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
    fn a_message_gives_back_what_it_was_made_of() {
        let message = Message::new(&publication(b"hello"), &mut Spares::default());
        let back = message.publication();
        assert_eq!((back.topic.as_str(), back.payload, back.qos, back.retain), {
            ("a/b", b"hello".as_slice(), QoS::AtLeastOnce, true)
        });
        assert_eq!((back.expires, back.publisher), (Time::from_milliseconds(10_000), Some("p")));
        assert_eq!((message.topic_bytes(), message.payload()), (b"a/b".as_slice(), b"hello".as_slice()));
    }

    #[test]
    fn room_for_huge_properties_is_given_back() {
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
        assert!(room(&encoder) > 0, "small ones keep theirs");
    }

    #[test]
    fn equal_copies_are_encoded_once_and_differ_in_the_identifier_only() {
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
    fn a_publisher_is_one_text() {
        for user_name in [None, Some(""), Some("u")] {
            let publisher = Publisher { listener: ListenerId(7), client_identifier: "c", user_name };
            assert_eq!(Publisher::read(&publisher.written()), Some(publisher));
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
