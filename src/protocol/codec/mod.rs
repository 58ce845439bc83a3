//! The codec: bytes to [`Packet`] and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! [`frame`] cuts a packet out of a stream, [`decode`] reads it, [`Packet::encode`] writes it. A decoded packet
//! borrows from the input; decoding allocates nothing. Every rule of the standards that one packet can be held to on
//! its own is checked here, and a packet that breaks one is a [`DecodeError`] that knows the Reason Code it earns.
//! Both directions are spoken: [`Side`] says who may send which packet; when, is for the rooms above to say.
//!
//! One file holds one packet; what the packets are made of has files of its own. Of the crate it knows `topic` alone.

mod acknowledgement;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod kind;
mod packet_identifier;
mod plain;
mod properties;
mod property;
mod publish;
mod qos;
mod reader;
mod reason_code;
#[cfg(test)]
mod roundtrip;
mod side;
mod suback;
mod subscribe;
#[cfg(test)]
mod testing;
mod unsuback;
mod unsubscribe;
mod version;
mod writer;

pub use acknowledgement::{Acknowledgement, AcknowledgementKind};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will, connect_version};
pub use disconnect::Disconnect;
pub use error::DecodeError;
pub use frame::{Frame, PACKET_SIZE_MAXIMUM, Status, frame};
pub use packet_identifier::PacketIdentifier;
pub use plain::{PlainPublish, PlainPublishes, PlainRun};
pub use properties::{Properties, PropertyBuffer};
pub use property::Property;
pub use publish::{Delivery, Publish, UncheckedPublish, unchecked_publish};
pub use qos::QoS;
pub use reason_code::ReasonCode;
pub use side::Side;
pub use suback::SubAck;
pub use subscribe::{
    RetainHandling, Subscribe, Subscription, SubscriptionBuffer, Subscriptions, UncheckedSubscribe,
};
pub use unsuback::UnsubAck;
pub use unsubscribe::{FilterBuffer, Filters, UncheckedUnsubscribe, Unsubscribe};
pub use version::ProtocolVersion;

use acknowledgement::{OF_A_MESSAGE, OF_A_RELEASE};

/// A packet of any kind, borrowed from the bytes it was decoded from or from what it is to be encoded of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client opens a connection.
    Connect(Connect<'a>),
    /// The answer to CONNECT.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// The answer to a message of QoS 1.
    PubAck(Acknowledgement<'a>),
    /// The first answer to a message of QoS 2.
    PubRec(Acknowledgement<'a>),
    /// The answer to PUBREC.
    PubRel(Acknowledgement<'a>),
    /// The answer to PUBREL.
    PubComp(Acknowledgement<'a>),
    /// A client asks for subscriptions.
    Subscribe(Subscribe<'a>),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck<'a>),
    /// A client ends subscriptions.
    Unsubscribe(Unsubscribe<'a>),
    /// The answer to UNSUBSCRIBE.
    UnsubAck(UnsubAck<'a>),
    /// A sign of life.
    PingReq,
    /// The answer to PINGREQ.
    PingResp,
    /// The end of the connection.
    Disconnect(Disconnect<'a>),
    /// A step of an extended authentication.
    Auth(Auth<'a>),
}

/// Decodes a packet of this version; CONNECT says its version itself.
///
/// # Errors
///
/// Whatever the standard forbids in a packet of this version, as far as the packet alone can tell.
#[inline]
pub fn decode<'a>(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Packet<'a>, DecodeError> {
    if frame.kind() == kind::CONNECT {
        return Connect::decode(frame).map(Packet::Connect);
    }
    frame.check_length(version)?;
    let body = frame.body;
    match frame.kind() {
        kind::PUBLISH => {
            let unchecked = UncheckedPublish::new(frame)?;
            return unchecked.decode(version).map(Packet::Publish);
        }
        // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => frame.check_flags(0b0010, version)?,
        _ => frame.check_flags(0, version)?,
    }
    match frame.kind() {
        kind::PUBACK => Acknowledgement::decode(body, version, OF_A_MESSAGE).map(Packet::PubAck),
        kind::PUBREC => Acknowledgement::decode(body, version, OF_A_MESSAGE).map(Packet::PubRec),
        kind::PUBREL => Acknowledgement::decode(body, version, OF_A_RELEASE).map(Packet::PubRel),
        kind::PUBCOMP => Acknowledgement::decode(body, version, OF_A_RELEASE).map(Packet::PubComp),
        _ => decode_rare(frame, version),
    }
}

/// The SUBSCRIBE in this frame, its subscriptions yet to be checked; `None` if it is another packet.
///
/// # Errors
///
/// As [`decode`]'s, but for what is wrong with the subscriptions.
pub fn unchecked_subscribe<'a>(
    frame: &Frame<'a>,
    version: ProtocolVersion,
) -> Result<Option<UncheckedSubscribe<'a>>, DecodeError> {
    if frame.kind() != kind::SUBSCRIBE {
        return Ok(None);
    }
    frame.check_length(version)?;
    frame.check_flags(0b0010, version)?;
    UncheckedSubscribe::decode(frame.body, version).map(Some)
}

/// The UNSUBSCRIBE in this frame, its filters yet to be checked; `None` if it is another packet.
///
/// # Errors
///
/// As [`decode`]'s, but for what is wrong with the filters.
pub fn unchecked_unsubscribe<'a>(
    frame: &Frame<'a>,
    version: ProtocolVersion,
) -> Result<Option<UncheckedUnsubscribe<'a>>, DecodeError> {
    if frame.kind() != kind::UNSUBSCRIBE {
        return Ok(None);
    }
    frame.check_length(version)?;
    frame.check_flags(0b0010, version)?;
    UncheckedUnsubscribe::decode(frame.body, version).map(Some)
}

/// The acknowledgement in this frame, if it is a plain one: of success and without properties, in its shortest form.
/// Whatever is not, sound or not, is left to [`decode`].
#[inline]
pub fn plain_acknowledgement(frame: &Frame<'_>) -> Option<(AcknowledgementKind, PacketIdentifier)> {
    let [first, 2, high, low] = *frame.packet else { return None };
    let kind = AcknowledgementKind::ALL.into_iter().find(|kind| kind.first_byte() == first)?;
    Some((kind, PacketIdentifier::new(u16::from_be_bytes([high, low]))?))
}

/// The Packet Identifiers of the plain acknowledgements of one kind that stand one behind the other at the front of
/// `input`.
#[inline]
pub fn plain_acknowledgements(
    kind: AcknowledgementKind,
    input: &[u8],
) -> impl Iterator<Item = PacketIdentifier> {
    let first_byte = kind.first_byte();
    input.as_chunks().0.iter().map_while(move |packet| match *packet {
        [first, 2, high, low] if first == first_byte => {
            PacketIdentifier::new(u16::from_be_bytes([high, low]))
        }
        _ => None,
    })
}

/// Decodes what is no message and no acknowledgement, out of the way of those.
#[inline(never)]
fn decode_rare<'a>(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Packet<'a>, DecodeError> {
    let body = frame.body;
    match frame.kind() {
        kind::CONNACK => ConnAck::decode(body, version).map(Packet::ConnAck),
        kind::SUBSCRIBE => Subscribe::decode(body, version).map(Packet::Subscribe),
        kind::SUBACK => SubAck::decode(body, version).map(Packet::SubAck),
        kind::UNSUBSCRIBE => Unsubscribe::decode(body, version).map(Packet::Unsubscribe),
        kind::UNSUBACK => UnsubAck::decode(body, version).map(Packet::UnsubAck),
        kind::PINGREQ => reader::Reader::new(body).finish().map(|()| Packet::PingReq),
        kind::PINGRESP => reader::Reader::new(body).finish().map(|()| Packet::PingResp),
        kind::DISCONNECT => Disconnect::decode(body, version).map(Packet::Disconnect),
        kind::AUTH => Auth::decode(body, version).map(Packet::Auth),
        _ => Err(DecodeError::Malformed("packet type 0")),
    }
}

impl AcknowledgementKind {
    /// The packet of this kind that says `answer`.
    pub const fn packet(self, answer: Acknowledgement<'_>) -> Packet<'_> {
        match self {
            Self::PubAck => Packet::PubAck(answer),
            Self::PubRec => Packet::PubRec(answer),
            Self::PubRel => Packet::PubRel(answer),
            Self::PubComp => Packet::PubComp(answer),
        }
    }
}

impl Packet<'_> {
    /// Appends the packet in the form of this version; a CONNECT in the form of its own.
    ///
    /// # Panics
    ///
    /// If a part is longer than its length field can say, or an AUTH is to be sent before MQTT 5.0.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, into: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.encode(into),
            Self::ConnAck(connack) => connack.encode(version, into),
            Self::Publish(publish) => publish.encode(version, into),
            Self::PubAck(puback) => puback.encode(AcknowledgementKind::PubAck, version, into),
            Self::PubRec(pubrec) => pubrec.encode(AcknowledgementKind::PubRec, version, into),
            Self::PubRel(pubrel) => pubrel.encode(AcknowledgementKind::PubRel, version, into),
            Self::PubComp(pubcomp) => pubcomp.encode(AcknowledgementKind::PubComp, version, into),
            Self::Subscribe(subscribe) => subscribe.encode(version, into),
            Self::SubAck(suback) => suback.encode(version, into),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, into),
            Self::UnsubAck(unsuback) => unsuback.encode(version, into),
            Self::PingReq => into.extend_from_slice(&[kind::PINGREQ << 4, 0]),
            Self::PingResp => into.extend_from_slice(&[kind::PINGRESP << 4, 0]),
            Self::Disconnect(disconnect) => disconnect.encode(version, into),
            Self::Auth(auth) => auth.encode(version, into),
        }
    }

    /// The name of the packet in the standard.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "CONNECT",
            Self::ConnAck(_) => "CONNACK",
            Self::Publish(_) => "PUBLISH",
            Self::PubAck(_) => "PUBACK",
            Self::PubRec(_) => "PUBREC",
            Self::PubRel(_) => "PUBREL",
            Self::PubComp(_) => "PUBCOMP",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::SubAck(_) => "SUBACK",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::UnsubAck(_) => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect(_) => "DISCONNECT",
            Self::Auth(_) => "AUTH",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn signs_of_life() {
        for version in ALL {
            assert_golden(version, &[0xC0, 0], &Packet::PingReq);
            assert_golden(version, &[0xD0, 0], &Packet::PingResp);
            assert_illegal(
                version,
                &[
                    (&[0xC0, 1, 0], MALFORMED, "PINGREQ with a body"),
                    (&[0xD0, 1, 0], MALFORMED, "PINGRESP with a body"),
                    (&[0x00, 0], MALFORMED, "packet type 0"),
                ],
            );
        }
        for version in [V311, V5] {
            assert_illegal(version, &[(&[0xC1, 0], MALFORMED, "flags"), (&[0xD8, 0], MALFORMED, "flags")]);
        }
        assert_decodes(V31, &[0xC8, 0], &Packet::PingReq);
    }

    #[test]
    fn a_long_packet_gets_a_long_length() {
        let codes = [0; 200];
        let suback =
            SubAck { packet_identifier: identifier(1), properties: Properties::default(), codes: &codes };
        let bytes = [&[0x90, 0xCA, 0x01, 0, 1][..], &codes].concat();
        assert_golden(V311, &bytes, &Packet::SubAck(suback));
    }
}
