//! The body of the fuzz target for the decoder. It is in the library so that ordinary tests can run it as well. It
//! takes any bytes and panics if a property of the codec does not hold.

use super::{
    Acknowledgement, Frame, Packet, Properties, Property, ProtocolVersion, Publish, ReasonCode, Status,
    decode, frame, plain_acknowledgement, unchecked_publish,
};
use crate::base::fuzzing::is_allowed_in_a_string;
use crate::protocol::topic::TopicName;

/// Decodes a stream of packets. The first byte of `data` selects the version. Each packet that decodes must encode to
/// bytes that are no longer than before and decode to the same packet.
pub fn decode_stream(data: &[u8]) {
    let Some((&selector, mut stream)) = data.split_first() else {
        return;
    };
    let version = match selector % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let mut encoded = Vec::new();
    loop {
        let cut = match frame(stream, data.len()) {
            Ok(Status::Complete(cut)) => cut,
            Ok(Status::Incomplete { needed }) => {
                assert!(needed > stream.len());
                return;
            }
            Err(_) => return,
        };
        check_short_ways(&cut, version);
        let Ok(packet) = decode(&cut, version) else {
            return;
        };
        check_strings(&packet);
        encoded.clear();
        packet.encode(version, &mut encoded);
        assert!(encoded.len() <= cut.length, "{packet:?} grew");
        check_again(&packet, version, &encoded);
        stream = stream.get(cut.length..).unwrap_or_default();
    }
}

/// Checks that a packet that is accepted as plain is the one that the full decoder returns.
fn check_short_ways(cut: &Frame<'_>, version: ProtocolVersion) {
    if let Some((kind, identifier)) = plain_acknowledgement(cut) {
        let answer = kind.packet(Acknowledgement::new(identifier, ReasonCode::Success));
        assert_eq!(decode(cut, version), Ok(answer));
        assert_eq!(cut.packet, kind.plain(identifier));
    }
    let Ok(Some(unchecked)) = unchecked_publish(cut, version) else { return };
    let text = std::str::from_utf8(unchecked.topic).unwrap_or_default();
    if let (Ok(topic), Some(plain)) = (TopicName::new(text), unchecked.plain(version)) {
        let publish = Publish {
            dup: false,
            retain: false,
            delivery: plain.delivery,
            topic: Some(topic),
            properties: Properties::default(),
            payload: plain.payload,
        };
        assert_eq!(decode(cut, version), Ok(Packet::Publish(publish)));
        let mut encoded = Vec::new();
        let identifier_at = publish.encode_head(version, &mut encoded);
        assert_eq!(plain.packet_identifier_at(), identifier_at);
        encoded.extend_from_slice(publish.payload);
        assert_eq!(cut.packet, encoded);
    }
}

/// Checks that every string of a decoded packet contains allowed characters only.
fn check_strings(packet: &Packet<'_>) {
    let (mut texts, mut blocks) = (Vec::new(), Vec::new());
    match *packet {
        Packet::Connect(connect) => {
            texts.push(connect.client_identifier);
            texts.extend(connect.user_name);
            texts.extend(connect.will.map(|will| will.topic.as_str()));
            blocks.push(connect.properties);
            blocks.extend(connect.will.map(|will| will.properties));
        }
        Packet::Publish(publish) => {
            texts.extend(publish.topic.map(TopicName::as_str));
            blocks.push(publish.properties);
        }
        Packet::Subscribe(subscribe) => {
            texts.extend(subscribe.subscriptions.iter().map(|subscription| subscription.filter.as_str()));
            blocks.push(subscribe.properties);
        }
        Packet::Unsubscribe(unsubscribe) => {
            texts.extend(unsubscribe.filters.iter().map(|filter| filter.as_str()));
            blocks.push(unsubscribe.properties);
        }
        Packet::PubAck(answer)
        | Packet::PubRec(answer)
        | Packet::PubRel(answer)
        | Packet::PubComp(answer) => {
            blocks.push(answer.properties);
        }
        Packet::ConnAck(connack) => blocks.push(connack.properties),
        Packet::SubAck(suback) => blocks.push(suback.properties),
        Packet::UnsubAck(unsuback) => blocks.push(unsuback.properties),
        Packet::Disconnect(disconnect) => blocks.push(disconnect.properties),
        Packet::Auth(auth) => blocks.push(auth.properties),
        Packet::PingReq | Packet::PingResp => {}
    }
    for property in blocks.iter().flat_map(Properties::iter) {
        match property {
            Property::ResponseTopic(topic) => texts.push(topic.as_str()),
            Property::UserProperty(name, value) => texts.extend([name, value]),
            Property::ContentType(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => texts.push(text),
            _ => {}
        }
    }
    assert!(texts.iter().all(|text| text.chars().all(is_allowed_in_a_string)), "{packet:?}");
}

fn check_again(packet: &Packet<'_>, version: ProtocolVersion, encoded: &[u8]) {
    let Ok(Status::Complete(cut)) = frame(encoded, encoded.len()) else {
        panic!("{packet:?} does not make a frame");
    };
    assert_eq!(cut.length, encoded.len());
    assert_eq!(decode(&cut, version), Ok(*packet));
    match packet {
        Packet::Publish(publish) => assert_eq!(publish.encoded_length(version), encoded.len()),
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.subscriptions.iter().count(), subscribe.subscriptions.len());
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters.iter().count(), unsubscribe.filters.len());
        }
        _ => {}
    }
}
