//! Packets of clients, made of fuzzed choices. There are few Client Identifiers, topics and Packet Identifiers, so that
//! clients affect each other.

use crate::base::fuzzing::Input;
use crate::protocol::codec::{
    Acknowledgement, Auth, Connect, Delivery, Disconnect, FilterBuffer, Packet, PacketIdentifier, Property,
    PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, Subscribe, Subscription,
    SubscriptionBuffer, Unsubscribe, Will,
};
use crate::protocol::topic::{TopicFilter, TopicName};

const CLIENTS: [&str; 6] = ["a", "b", "c", "", "a+b", "twenty-three characters"];
const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "/", "b", "$SYS/a", "$x", "a//b"];
const FILTERS: [&str; 12] = [
    "a",
    "a/b",
    "#",
    "+/b",
    "a/#",
    "$share/g/a",
    "$share/g/#",
    "$share/h/+/b",
    "+",
    "$SYS/#",
    "a/+/c",
    "a/b/c/d/e/f/g/h/i/j",
];
const QUALITIES: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Spans in seconds, at the ends of their ranges or in between.
const SPANS: [u32; 8] = [0, 1, 2, 10, 60, 3600, u32::MAX - 1, u32::MAX];
const SIZES: [usize; 8] = [0, 1, 7, 20, 200, 2_048, 2_049, 5_000];
/// About the most messages and bytes of a burst.
const BURST_LENGTH: u8 = 48;
const BURST_BYTES: usize = 2_048;
/// Each payload is a part of this one, which repeats itself after 94 bytes: those of a burst begin at different places,
/// so that no message can be taken for the next one.
const PAYLOAD: [u8; 5_000 + BURST_LENGTH as usize] = payloads();

#[expect(clippy::cast_possible_truncation, reason = "it is less than 94")]
const fn payloads() -> [u8; 5_000 + BURST_LENGTH as usize] {
    let (mut all, mut at) = ([0; 5_000 + BURST_LENGTH as usize], 0);
    while at < all.len() {
        all[at] = b'!' + (at % 94) as u8;
        at += 1;
    }
    all
}

fn topic(input: &mut Input<'_>) -> TopicName<'static> {
    TopicName::trusted(input.pick(&TOPICS))
}

fn filter(input: &mut Input<'_>) -> TopicFilter<'static> {
    TopicFilter::new(input.pick(&FILTERS)).expect("the filters are valid")
}

fn payload(input: &mut Input<'_>) -> &'static [u8] {
    payload_at(0, input.pick(&SIZES))
}

fn payload_at(place: usize, size: usize) -> &'static [u8] {
    &PAYLOAD[place..place + size]
}

/// Mostly from 1 to 4.
fn identifier(input: &mut Input<'_>) -> PacketIdentifier {
    let number = if input.once_in(16) { input.number() % 65_536 } else { input.below(4) as u64 + 1 };
    u16::try_from(number).ok().and_then(PacketIdentifier::new).unwrap_or(PacketIdentifier::FIRST)
}

/// Only 5.0 has properties.
fn properties_of(version: ProtocolVersion, fill: impl FnOnce(&mut PropertyBuffer)) -> PropertyBuffer {
    let mut properties = PropertyBuffer::default();
    if version == ProtocolVersion::V5 {
        fill(&mut properties);
    }
    properties
}

pub(super) fn connect(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let properties = properties_of(version, |properties| push_connect_properties(input, properties));
    let will_properties = properties_of(version, |properties| {
        if input.once_in(2) {
            properties.push(Property::WillDelayInterval(input.pick(&SPANS)));
        }
        push_message_properties(input, properties);
    });
    let will = input.once_in(2).then(|| Will {
        qos: input.pick(&QUALITIES),
        retain: input.once_in(2),
        properties: will_properties.properties(),
        topic: topic(input),
        payload: payload(input),
    });
    let clean_start = input.once_in(2);
    let client_identifier = match input.pick(&CLIENTS) {
        // Only MQTT 5.0 lets a client without an identifier keep its session.
        "" if version == ProtocolVersion::V31 || (version == ProtocolVersion::V311 && !clean_start) => "a",
        identifier => identifier,
    };
    let connect = Connect {
        version,
        is_bridge: version != ProtocolVersion::V5 && input.once_in(8),
        clean_start,
        keep_alive: input.pick(&[0, 1, 10, 60, u16::MAX]),
        properties: properties.properties(),
        client_identifier,
        will,
        user_name: input.once_in(4).then_some("user"),
        password: None,
    };
    Packet::Connect(connect).encode(version, into);
}

fn push_connect_properties(input: &mut Input<'_>, properties: &mut PropertyBuffer) {
    let choices = input.byte();
    let has = |bit: u8| choices >> bit & 1 == 1;
    if has(0) {
        properties.push(Property::SessionExpiryInterval(input.pick(&SPANS)));
    }
    if has(1) {
        properties.push(Property::ReceiveMaximum(input.pick(&[1, 2, 5, u16::MAX])));
    }
    if has(2) {
        properties.push(Property::MaximumPacketSize(input.pick(&[1, 2, 4, 10, 30, 100, 2_060, u32::MAX])));
    }
    if has(3) {
        properties.push(Property::TopicAliasMaximum(input.pick(&[0, 1, 2, u16::MAX])));
    }
    if has(4) {
        properties.push(Property::RequestProblemInformation(has(6)));
    }
    if has(5) {
        properties.push(Property::RequestResponseInformation(has(7)));
    }
    if input.once_in(32) {
        properties.push(Property::AuthenticationMethod("method"));
    }
}

fn push_message_properties(input: &mut Input<'_>, properties: &mut PropertyBuffer) {
    let choices = input.byte();
    let has = |bit: u8| choices >> bit & 1 == 1;
    if has(0) {
        properties.push(Property::MessageExpiryInterval(input.pick(&SPANS)));
    }
    if has(1) {
        properties.push(Property::PayloadFormatIndicator(true));
    }
    if has(2) && has(3) {
        properties.push(Property::UserProperty("name", "value"));
    }
    if has(4) && has(5) {
        properties.push(Property::ResponseTopic(topic(input)));
        properties.push(Property::CorrelationData(&[1, 2, 3]));
    }
}

/// Encodes CONNECT and SUBSCRIBE of a client that gets every message in the simplest way, except for its Maximum Packet
/// Size: some messages of a [`burst`] are larger.
pub(super) fn plain_receiver(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let properties = properties_of(version, |properties| {
        properties.push(Property::MaximumPacketSize(input.pick(&[20, 30, 100, 2_060])));
        properties.push(Property::SessionExpiryInterval(input.pick(&[0, 3_600])));
    });
    let connect = Connect {
        version,
        is_bridge: false,
        clean_start: input.once_in(2),
        keep_alive: 0,
        properties: properties.properties(),
        client_identifier: input.pick(&CLIENTS[..3]),
        will: None,
        user_name: None,
        password: None,
    };
    Packet::Connect(connect).encode(version, into);
    let mut wanted = SubscriptionBuffer::default();
    let mut subscription = Subscription::new(TopicFilter::trusted_pattern("#"), input.pick(&QUALITIES));
    subscription.retain_as_published = version == ProtocolVersion::V5 && input.once_in(2);
    wanted.push(subscription);
    let properties = PropertyBuffer::default();
    let subscribe = Subscribe {
        packet_identifier: PacketIdentifier::FIRST,
        properties: properties.properties(),
        subscriptions: wanted.subscriptions().expect("there is one"),
    };
    Packet::Subscribe(subscribe).encode(version, into);
}

/// Encodes any packet but the first one of a connection.
pub(super) fn packet(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    match input.below(20) {
        0..=6 => publish(input, version, into),
        7..=10 => subscribe(input, version, into),
        11 => unsubscribe(input, version, into),
        12 => acknowledge(input, version, Packet::PubAck, into),
        13 => acknowledge(input, version, Packet::PubRec, into),
        14..=15 => acknowledge(input, version, Packet::PubRel, into),
        16 => acknowledge(input, version, Packet::PubComp, into),
        17 => Packet::PingReq.encode(version, into),
        18 => disconnect(input, version, into),
        _ => seldom(input, version, into),
    }
}

/// Encodes what no correct client sends.
fn seldom(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    match input.below(4) {
        0 => connect(input, version, into),
        1 if version == ProtocolVersion::V5 => {
            let properties = PropertyBuffer::default();
            let auth = Auth { reason_code: ReasonCode::ReAuthenticate, properties: properties.properties() };
            Packet::Auth(auth).encode(version, into);
        }
        2 => Packet::PingResp.encode(version, into),
        _ => into.extend_from_slice(input.bytes(4)),
    }
}

fn publish(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let delivery = match input.pick(&QUALITIES) {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier(input)),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier(input)),
    };
    let mut has_alias = false;
    let properties = properties_of(version, |properties| {
        push_message_properties(input, properties);
        has_alias = input.once_in(4);
        if has_alias {
            properties.push(Property::TopicAlias(input.pick(&[1, 2, 10, 11])));
        }
    });
    let topic = topic(input);
    let publish = Publish {
        dup: delivery != Delivery::AtMostOnce && input.once_in(8),
        retain: input.once_in(2),
        delivery,
        topic: (!(has_alias && input.once_in(2))).then_some(topic),
        properties: properties.properties(),
        payload: payload(input),
    };
    Packet::Publish(publish).encode(version, into);
}

/// Encodes messages of one topic, QoS and size, one right after another, as busy devices send them. One of them may be
/// a little different.
pub(super) fn burst(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let (topic, qos, size) = (topic(input), input.pick(&QUALITIES), input.pick(&SIZES));
    let (first, end) = (u16::from(input.byte()), into.len() + BURST_BYTES);
    let (odd, choice) = (u16::from(input.byte() % (BURST_LENGTH / 2)), input.below(3));
    for number in 0..=u16::from(input.byte() % BURST_LENGTH) {
        if into.len() > end {
            return;
        }
        let identifier = PacketIdentifier::new(first + number).unwrap_or(PacketIdentifier::FIRST);
        let delivery = match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
        };
        let is_odd = |kind| number == odd && choice == kind;
        let properties = properties_of(version, |properties| {
            if is_odd(0) {
                properties.push(Property::TopicAlias(1));
            }
        });
        let publish = Publish {
            dup: is_odd(1) && qos != QoS::AtMostOnce,
            retain: is_odd(2),
            delivery,
            topic: Some(topic),
            properties: properties.properties(),
            payload: payload_at(number.into(), size),
        };
        Packet::Publish(publish).encode(version, into);
    }
}

pub(super) fn subscribe(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let is_v5 = version == ProtocolVersion::V5;
    let properties = properties_of(version, |properties| {
        if input.once_in(2) {
            properties.push(Property::SubscriptionIdentifier(input.pick(&[1, 2, 268_435_455])));
        }
    });
    let mut wanted = SubscriptionBuffer::default();
    for _ in 0..=input.below(3) {
        let mut subscription = Subscription::new(filter(input), input.pick(&QUALITIES));
        if is_v5 {
            let is_shared = subscription.filter.share_name().is_some();
            subscription.no_local = !is_shared && input.once_in(4);
            subscription.retain_as_published = input.once_in(2);
            subscription.retain_handling = input.pick(&[
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]);
        }
        wanted.push(subscription);
    }
    let subscriptions = wanted.subscriptions().expect("there is at least one");
    let subscribe = Subscribe {
        packet_identifier: identifier(input),
        properties: properties.properties(),
        subscriptions,
    };
    Packet::Subscribe(subscribe).encode(version, into);
}

fn unsubscribe(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let mut unwanted = FilterBuffer::default();
    for _ in 0..=input.below(3) {
        unwanted.push(filter(input));
    }
    let properties = PropertyBuffer::default();
    let unsubscribe = Unsubscribe {
        packet_identifier: identifier(input),
        properties: properties.properties(),
        filters: unwanted.filters().expect("there is at least one"),
    };
    Packet::Unsubscribe(unsubscribe).encode(version, into);
}

fn acknowledge(
    input: &mut Input<'_>,
    version: ProtocolVersion,
    wrap: fn(Acknowledgement<'static>) -> Packet<'static>,
    into: &mut Vec<u8>,
) {
    let answer = Acknowledgement::new(identifier(input), ReasonCode::Success);
    wrap(answer).encode(version, into);
}

fn disconnect(input: &mut Input<'_>, version: ProtocolVersion, into: &mut Vec<u8>) {
    let properties = properties_of(version, |properties| {
        if input.once_in(2) {
            properties.push(Property::SessionExpiryInterval(input.pick(&SPANS)));
        }
    });
    let reason_code = match version {
        ProtocolVersion::V5 if input.once_in(2) => ReasonCode::DisconnectWithWillMessage,
        _ => ReasonCode::Success,
    };
    Packet::Disconnect(Disconnect { reason_code, properties: properties.properties() }).encode(version, into);
}

/// Encodes the answer of a correct client to a packet of the broker; now and then it refuses.
pub(super) fn answer(
    input: &mut Input<'_>,
    version: ProtocolVersion,
    packet: &Packet<'_>,
    into: &mut Vec<u8>,
) {
    let code = match version {
        ProtocolVersion::V5 if input.once_in(8) => ReasonCode::QuotaExceeded,
        _ => ReasonCode::Success,
    };
    let of_a_message = |identifier| Acknowledgement::new(identifier, code);
    let of_a_release = |identifier| Acknowledgement::new(identifier, ReasonCode::Success);
    match packet {
        Packet::Publish(publish) => match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(identifier) => {
                Packet::PubAck(of_a_message(identifier)).encode(version, into);
            }
            Delivery::ExactlyOnce(identifier) => {
                Packet::PubRec(of_a_message(identifier)).encode(version, into);
            }
        },
        Packet::PubRec(received) if !received.reason_code.is_error() => {
            Packet::PubRel(of_a_release(received.packet_identifier)).encode(version, into);
        }
        Packet::PubRel(released) => {
            Packet::PubComp(of_a_release(released.packet_identifier)).encode(version, into);
        }
        _ => {}
    }
}
