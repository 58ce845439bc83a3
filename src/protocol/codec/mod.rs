//! The codec: bytes to [`Packet`] and back, for MQTT 3.1, 3.1.1 and 5.0.
//!
//! [`frame`] splits a packet off a stream, [`decode`] decodes it, [`Packet::encode`] encodes it. A decoded packet
//! borrows from the input; decoding does not allocate. Every rule of the standards that can be checked on a single
//! packet is checked here. A packet that breaks one results in a [`DecodeError`], which has a Reason Code. Packets of
//! both directions are supported: [`Side`] defines which side may send which packet. When it may send it is up to the
//! rooms above.
//!
//! Each packet type has a file, and so has each kind of field that packets share.

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
mod oversized;
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
pub use oversized::Oversized;
pub use packet_identifier::PacketIdentifier;
pub use plain::{PlainMessage, PlainPublish, PlainPublishes, PlainRun};
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

/// A packet of any type. It borrows from the bytes that it was decoded from, or from the values to encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client's request to connect.
    Connect(Connect<'a>),
    /// The response to CONNECT.
    ConnAck(ConnAck<'a>),
    /// An Application Message.
    Publish(Publish<'a>),
    /// The response to a PUBLISH with QoS 1.
    PubAck(Acknowledgement<'a>),
    /// The first response to a PUBLISH with QoS 2.
    PubRec(Acknowledgement<'a>),
    /// The response to PUBREC.
    PubRel(Acknowledgement<'a>),
    /// The response to PUBREL.
    PubComp(Acknowledgement<'a>),
    /// A client's request to subscribe.
    Subscribe(Subscribe<'a>),
    /// The response to SUBSCRIBE.
    SubAck(SubAck<'a>),
    /// A client's request to unsubscribe.
    Unsubscribe(Unsubscribe<'a>),
    /// The response to UNSUBSCRIBE.
    UnsubAck(UnsubAck<'a>),
    /// A client's ping.
    PingReq,
    /// The response to PINGREQ.
    PingResp,
    /// The end of the connection.
    Disconnect(Disconnect<'a>),
    /// A step of enhanced authentication.
    Auth(Auth<'a>),
}

/// Decodes a packet of this version. A CONNECT contains its own version.
///
/// # Errors
///
/// The packet breaks a rule of the standard of this version that can be checked on a single packet.
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

/// Decodes the SUBSCRIBE in this frame without checking its subscriptions; `None` if it is another packet.
///
/// # Errors
///
/// Those of [`decode`], except errors in the subscriptions.
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

/// Decodes the UNSUBSCRIBE in this frame without checking its filters; `None` if it is another packet.
///
/// # Errors
///
/// Those of [`decode`], except errors in the filters.
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

/// Returns the acknowledgement in this frame if it is a plain one: success without properties, in its shortest form.
/// All other packets, valid or not, are left to [`decode`].
#[inline]
pub fn plain_acknowledgement(frame: &Frame<'_>) -> Option<(AcknowledgementKind, PacketIdentifier)> {
    let [first, 2, high, low] = *frame.packet else { return None };
    let kind = AcknowledgementKind::ALL.into_iter().find(|kind| kind.first_byte() == first)?;
    Some((kind, PacketIdentifier::new(u16::from_be_bytes([high, low]))?))
}

/// Returns the Packet Identifiers of the consecutive plain acknowledgements of one kind at the start of `input`.
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

/// Decodes the packets that are neither a PUBLISH nor one of its acknowledgements. It is not inlined, to keep the code
/// for those small.
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
    /// The packet of this kind with the content `answer`.
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
    /// Appends the packet in the format of this version; a CONNECT in the format of its own.
    ///
    /// # Panics
    ///
    /// If a field is too long for its length field, or the packet is an AUTH and the version is before MQTT 5.0.
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
        kind::name(match self {
            Self::Connect(_) => kind::CONNECT,
            Self::ConnAck(_) => kind::CONNACK,
            Self::Publish(_) => kind::PUBLISH,
            Self::PubAck(_) => kind::PUBACK,
            Self::PubRec(_) => kind::PUBREC,
            Self::PubRel(_) => kind::PUBREL,
            Self::PubComp(_) => kind::PUBCOMP,
            Self::Subscribe(_) => kind::SUBSCRIBE,
            Self::SubAck(_) => kind::SUBACK,
            Self::Unsubscribe(_) => kind::UNSUBSCRIBE,
            Self::UnsubAck(_) => kind::UNSUBACK,
            Self::PingReq => kind::PINGREQ,
            Self::PingResp => kind::PINGRESP,
            Self::Disconnect(_) => kind::DISCONNECT,
            Self::Auth(_) => kind::AUTH,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn pings() {
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
    fn a_long_packet_has_a_remaining_length_of_two_bytes() {
        let codes = [0; 200];
        let suback =
            SubAck { packet_identifier: identifier(1), properties: Properties::default(), codes: &codes };
        let bytes = [&[0x90, 0xCA, 0x01, 0, 1][..], &codes].concat();
        assert_golden(V311, &bytes, &Packet::SubAck(suback));
    }
}
