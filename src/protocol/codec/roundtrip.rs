//! Property-based tests of the whole codec, with random packets and bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::testing::{ALL, V5, V31, decode_whole};
use super::*;
use crate::base::fuzzing::is_allowed_in_a_string;
use crate::protocol::topic::{TopicFilter, TopicName};

/// Makes a value live as long as the test process, so that packets can borrow from it. The tests leak only few values.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn text() -> impl Strategy<Value = &'static str> {
    vec(any::<char>().prop_filter("it is not allowed in a packet", |&c| is_allowed_in_a_string(c)), 0..12)
        .prop_map(|characters| leak(characters.into_iter().collect::<String>()).as_str())
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..200).prop_map(|bytes| leak(bytes).as_slice())
}

fn topic() -> impl Strategy<Value = TopicName<'static>> {
    text().prop_filter_map("no topic name", |text| TopicName::new(text).ok())
}

fn filter() -> impl Strategy<Value = TopicFilter<'static>> {
    let odd = select(vec!["#", "+", "a/+/#", "$share/g/a/#", "/", "$SYS/#"]);
    prop_oneof![text(), odd].prop_filter_map("no topic filter", |text| TopicFilter::new(text).ok())
}

fn packet_identifier() -> impl Strategy<Value = PacketIdentifier> {
    (1..=u16::MAX).prop_filter_map("zero", PacketIdentifier::new)
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn property() -> impl Strategy<Value = Property<'static>> {
    let flags = (any::<bool>(), 0..7).prop_map(|(value, which)| match which {
        0 => Property::PayloadFormatIndicator(value),
        1 => Property::RequestProblemInformation(value),
        2 => Property::RequestResponseInformation(value),
        3 => Property::RetainAvailable(value),
        4 => Property::WildcardSubscriptionAvailable(value),
        5 => Property::SubscriptionIdentifierAvailable(value),
        _ => Property::SharedSubscriptionAvailable(value),
    });
    let numbers = (1..268_435_456_u32, 1..=u16::MAX, 0..10).prop_map(|(wide, narrow, which)| match which {
        0 => Property::MessageExpiryInterval(wide),
        1 => Property::SubscriptionIdentifier(wide),
        2 => Property::SessionExpiryInterval(wide),
        3 => Property::WillDelayInterval(wide),
        4 => Property::MaximumPacketSize(wide),
        5 => Property::ServerKeepAlive(narrow),
        6 => Property::ReceiveMaximum(narrow),
        7 => Property::TopicAliasMaximum(narrow),
        8 => Property::TopicAlias(narrow),
        _ => Property::MaximumQoS(if wide % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }),
    });
    let texts = (text(), text(), 0..7).prop_map(|(one, other, which)| match which {
        0 => Property::ContentType(one),
        1 => Property::AssignedClientIdentifier(one),
        2 => Property::AuthenticationMethod(one),
        3 => Property::ResponseInformation(one),
        4 => Property::ServerReference(one),
        5 => Property::ReasonString(one),
        _ => Property::UserProperty(one, other),
    });
    let rest = prop_oneof![
        topic().prop_map(Property::ResponseTopic),
        bytes().prop_map(Property::CorrelationData),
        bytes().prop_map(Property::AuthenticationData),
    ];
    prop_oneof![flags, numbers, texts, rest]
}

/// Any properties in any order. [`legal`] removes those that the packet may not have.
fn properties() -> impl Strategy<Value = Vec<Property<'static>>> {
    vec(property(), 0..8)
}

/// Returns the properties that this packet may have. A property is kept if the codec accepts the block with it.
fn legal(
    wanted: &[Property<'static>],
    is_legal: impl Fn(Properties<'static>) -> bool,
) -> Properties<'static> {
    let mut kept = PropertyBuffer::default();
    for property in wanted {
        let mut longer = kept.clone();
        longer.push(*property);
        if is_legal(leak(longer.clone()).properties()) {
            kept = longer;
        }
    }
    leak(kept).properties()
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (packet_identifier(), qos()).prop_map(|(identifier, qos)| match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(identifier),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(identifier),
    })
}

fn connect() -> impl Strategy<Value = Packet<'static>> {
    let will = proptest::option::of((qos(), any::<bool>(), topic(), bytes()));
    let login = proptest::option::of((text(), proptest::option::of(bytes())));
    let flags = (any::<bool>(), any::<bool>());
    (select(ALL.to_vec()), flags, any::<u16>(), "[a-z]{1,23}", will, login).prop_map(
        |(version, (clean_start, is_bridge), keep_alive, name, will, login)| {
            let will = will.map(|(qos, retain, topic, payload)| Will {
                qos,
                retain,
                properties: Properties::default(),
                topic,
                payload,
            });
            Packet::Connect(Connect {
                version,
                is_bridge: is_bridge && version != V5,
                clean_start,
                keep_alive,
                properties: Properties::default(),
                client_identifier: leak(name),
                will,
                user_name: login.map(|(user_name, _)| user_name),
                password: login.and_then(|(_, password)| password),
            })
        },
    )
}

fn publish() -> impl Strategy<Value = Packet<'static>> {
    (any::<bool>(), any::<bool>(), delivery(), topic(), bytes()).prop_map(
        |(dup, retain, delivery, topic, payload)| {
            let dup = dup && delivery != Delivery::AtMostOnce;
            let topic = Some(topic);
            Packet::Publish(Publish {
                dup,
                retain,
                delivery,
                topic,
                properties: Properties::default(),
                payload,
            })
        },
    )
}

fn subscribe() -> impl Strategy<Value = Packet<'static>> {
    (packet_identifier(), vec((filter(), qos()), 1..5)).prop_map(|(packet_identifier, wanted)| {
        let mut buffer = SubscriptionBuffer::default();
        for (filter, qos) in wanted {
            buffer.push(Subscription::new(filter, qos));
        }
        let subscriptions = leak(buffer).subscriptions().unwrap();
        Packet::Subscribe(Subscribe { packet_identifier, properties: Properties::default(), subscriptions })
    })
}

fn unsubscribe() -> impl Strategy<Value = Packet<'static>> {
    (packet_identifier(), vec(filter(), 1..5)).prop_map(|(packet_identifier, wanted)| {
        let mut buffer = FilterBuffer::default();
        for filter in wanted {
            buffer.push(filter);
        }
        let filters = leak(buffer).filters().unwrap();
        Packet::Unsubscribe(Unsubscribe { packet_identifier, properties: Properties::default(), filters })
    })
}

fn answer() -> impl Strategy<Value = Packet<'static>> {
    let codes = vec(select(vec![0_u8, 0x80]), 1..5);
    (packet_identifier(), codes, 0..7).prop_map(|(packet_identifier, codes, which)| {
        let acknowledgement = Acknowledgement::new(packet_identifier, ReasonCode::Success);
        let properties = Properties::default();
        match which {
            0 => Packet::PubAck(acknowledgement),
            1 => Packet::PubRec(acknowledgement),
            2 => Packet::PubRel(acknowledgement),
            3 => Packet::PubComp(acknowledgement),
            4 => Packet::SubAck(SubAck { packet_identifier, properties, codes: leak(codes) }),
            5 => Packet::UnsubAck(UnsubAck { packet_identifier, properties, codes: leak(codes) }),
            _ => Packet::ConnAck(ConnAck { session_present: codes.len() > 2, code: 0, properties }),
        }
    })
}

fn bare() -> impl Strategy<Value = Packet<'static>> {
    let disconnect = Disconnect::new(ReasonCode::Success);
    let auth = Auth { reason_code: ReasonCode::Success, properties: Properties::default() };
    select(vec![Packet::PingReq, Packet::PingResp, Packet::Disconnect(disconnect), Packet::Auth(auth)])
}

/// Returns the packet with these properties, and with this Reason Code if it has one.
fn with_properties<'a>(packet: &Packet<'a>, properties: Properties<'a>, code: ReasonCode) -> Packet<'a> {
    let mut packet = *packet;
    match &mut packet {
        Packet::Connect(connect) => connect.properties = properties,
        Packet::ConnAck(connack) => connack.properties = properties,
        Packet::Publish(publish) => publish.properties = properties,
        Packet::PubAck(it) | Packet::PubRec(it) | Packet::PubRel(it) | Packet::PubComp(it) => {
            (it.properties, it.reason_code) = (properties, code);
        }
        Packet::Subscribe(subscribe) => subscribe.properties = properties,
        Packet::SubAck(suback) => suback.properties = properties,
        Packet::Unsubscribe(unsubscribe) => unsubscribe.properties = properties,
        Packet::UnsubAck(unsuback) => unsuback.properties = properties,
        Packet::Disconnect(disconnect) => {
            (disconnect.properties, disconnect.reason_code) = (properties, code)
        }
        Packet::Auth(auth) => auth.properties = properties,
        Packet::PingReq | Packet::PingResp => {}
    }
    packet
}

fn encode(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    encoded
}

/// Adds to an MQTT 5.0 packet those of the wanted properties that it may have. Packets of older versions get none.
fn dress(packet: Packet<'static>, wanted: &[Property<'static>], version: ProtocolVersion) -> Packet<'static> {
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    if version != V5 {
        return packet;
    }
    let is_legal =
        |block, code| decode_whole(V5, &encode(&with_properties(&packet, block, code), V5)).is_ok();
    let code = match packet {
        Packet::PubAck(_) | Packet::PubRec(_) => ReasonCode::QuotaExceeded,
        Packet::PubRel(_) | Packet::PubComp(_) => ReasonCode::PacketIdentifierNotFound,
        Packet::Disconnect(_) => ReasonCode::DisconnectWithWillMessage,
        _ => ReasonCode::Success,
    };
    let code = if wanted.len().is_multiple_of(2) { code } else { ReasonCode::Success };
    let properties = legal(wanted, |block| is_legal(block, code));
    let mut dressed = with_properties(&packet, properties, code);
    if let Packet::Publish(publish) = &mut dressed
        && properties.topic_alias().is_some()
    {
        publish.topic = None;
    }
    if let Packet::Connect(Connect { will: Some(will), .. }) = &mut dressed {
        let old = *will;
        will.properties = legal(wanted, |properties| {
            let mut packet = packet;
            if let Packet::Connect(connect) = &mut packet {
                connect.will = Some(Will { properties, ..old });
            }
            decode_whole(V5, &encode(&packet, V5)).is_ok()
        });
    }
    dressed
}

/// Removes what this version does not have; `None` if it does not have the packet.
fn undress(packet: Packet<'static>, version: ProtocolVersion) -> Option<Packet<'static>> {
    match packet {
        Packet::Auth(_) if version != V5 => None,
        Packet::UnsubAck(unsuback) if version != V5 => {
            Some(Packet::UnsubAck(UnsubAck { codes: &[], ..unsuback }))
        }
        Packet::ConnAck(connack) if version == V31 => {
            Some(Packet::ConnAck(ConnAck { session_present: false, ..connack }))
        }
        other => Some(other),
    }
}

fn packet(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    let any = prop_oneof![connect(), publish(), subscribe(), unsubscribe(), answer(), bare()];
    (any, properties()).prop_filter_map("not of this version", move |(packet, wanted)| {
        Some(dress(undress(packet, version)?, &wanted, version))
    })
}

fn versioned<T>(strategy: impl Fn(ProtocolVersion) -> T) -> impl Strategy<Value = (ProtocolVersion, T::Value)>
where
    T: Strategy + 'static,
    T::Value: Clone,
{
    let each = ALL.map(|version| (Just(version), strategy(version)).boxed());
    proptest::strategy::Union::new(each)
}

proptest! {
    #[test]
    fn a_packet_decodes_to_itself((version, packet) in versioned(packet)) {
        let encoded = encode(&packet, version);
        prop_assert_eq!(decode_whole(version, &encoded), Ok(packet));
        if let Packet::Publish(publish) = packet {
            prop_assert_eq!(publish.encoded_length(version), encoded.len());
        }
    }

    #[test]
    fn properties_keep_their_bytes(wanted in properties()) {
        let mut buffer = PropertyBuffer::default();
        for property in &wanted {
            buffer.push(*property);
        }
        let block = buffer.properties();
        prop_assert_eq!(block.iter().collect::<Vec<_>>(), wanted);
        let mut copy = PropertyBuffer::default();
        for (_, own) in block.encoded() {
            copy.push_encoded(own);
        }
        prop_assert_eq!(copy, buffer);
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_packets(
        (version, packets) in versioned(|version| vec(packet(version), 1..5)),
        cuts in vec(1..40_usize, 1..20),
    ) {
        let stream: Vec<u8> = packets.iter().flat_map(|packet| encode(packet, version)).collect();
        let mut cuts = cuts.into_iter().cycle();
        let (mut arrived, mut at, mut seen) = (0, 0, 0);
        while at < stream.len() {
            arrived = stream.len().min(arrived + cuts.next().unwrap());
            loop {
                match frame(&stream[at..arrived], stream.len()).unwrap() {
                    Status::Complete(cut) => {
                        prop_assert_eq!(decode(&cut, version), Ok(packets[seen]));
                        at += cut.length;
                        seen += 1;
                    }
                    Status::Incomplete { needed } => {
                        prop_assert!(needed > arrived - at);
                        prop_assert!(at == stream.len() || at + needed <= stream.len());
                        break;
                    }
                }
            }
        }
        prop_assert_eq!(seen, packets.len());
    }

    #[test]
    fn random_bytes_never_panic(data in vec(any::<u8>(), 0..100)) {
        crate::protocol::codec::fuzzing::decode_stream(&data);
    }

    #[test]
    fn damaged_packets_never_panic(
        (version, packet) in versioned(packet),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut data = vec![version.level() % 3];
        packet.encode(version, &mut data);
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        crate::protocol::codec::fuzzing::decode_stream(&data);
    }
}
