//! A bridge between two brokers that say what a test tells them. Packets are written and shown as text.

use std::fmt::Write as _;

use crate::base::time::Duration;
use crate::bridge::machine::*;
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, ConnAck, Connect, Delivery, Disconnect, Packet, PacketIdentifier,
    Properties, Property, PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, Side, Status as Cut,
    SubAck, UnsubAck, frame,
};
use crate::protocol::topic::TopicName;
use crate::settings::{
    BridgeTopic, Direction, Local as LocalSettings, Notifications, Remote as RemoteSettings, RemoteAddress,
    Restart,
};

/// A rule with the prefixes `here/` and `there/`.
pub fn both(pattern: &str, direction: Direction, qos: QoS) -> BridgeTopic {
    BridgeTopic {
        pattern: pattern.into(),
        direction,
        qos,
        local_prefix: "here/".into(),
        remote_prefix: "there/".into(),
    }
}

/// The settings of a bridge that forwards `out/#`, `in/#` and `both/#`.
pub fn settings(version: ProtocolVersion) -> Bridge {
    let unset = Bridge::unset("hall", "test.conf:1".to_owned());
    Bridge {
        addresses: vec![RemoteAddress { host: "other".to_owned(), port: 1883 }],
        topics: vec![
            both("out/#", Direction::Out, QoS::AtLeastOnce),
            both("in/#", Direction::In, QoS::AtLeastOnce),
            both("both/#", Direction::Both, QoS::ExactlyOnce),
        ],
        remote: RemoteSettings {
            client_identifier: "hall.gateway".into(),
            user_name: Some("bob".into()),
            password: Some("secret".into()),
            version,
            keep_alive: 60,
            receive_maximum: 20,
            ..unset.remote
        },
        local: LocalSettings { client_identifier: "local.hall.gateway".into(), ..unset.local },
        notifications: Some(Notifications { topic: "state".into(), is_local_only: false }),
        restart: Restart {
            least: Duration::from_seconds(5),
            most: Duration::from_seconds(30),
            stable: Duration::from_seconds(30),
        },
        ..unset
    }
}

/// A bridge, and the time.
pub struct Rig {
    pub machine: Machine,
    pub now: Time,
}

impl Rig {
    pub fn new(settings: Bridge) -> Self {
        let now = Time::from_milliseconds(1_000_000);
        Self { machine: Machine::new(Rc::new(settings), 100_000, 1, now), now }
    }

    /// A bridge that forwards messages. Everything up to that was checked elsewhere and is dropped.
    pub fn running(settings: Bridge) -> Self {
        let mut rig = Self::new(settings);
        rig.prepare();
        rig.machine.connected(rig.now);
        rig.sent_there();
        rig.remote("CONNACK");
        rig.set_up();
        rig.sent_here();
        rig.actions();
        rig.lines();
        rig
    }

    /// Gives the session its subscriptions.
    pub fn prepare(&mut self) {
        self.sent_here();
        self.local("CONNACK");
        self.local("SUBACK 65535 1 2");
        self.sent_here();
        assert_eq!(self.actions().last(), Some(&Action::Dial(0)));
    }

    /// Answers everything after CONNACK.
    pub fn set_up(&mut self) {
        self.local("CONNACK present");
        self.finish_setup();
    }

    /// Answers the requests of the bridge to the other broker.
    pub fn finish_setup(&mut self) {
        for request in self.sent_there() {
            let mut words = request.split(' ');
            match (words.next().unwrap(), words.next().unwrap()) {
                ("PUBLISH", "q0") => {}
                ("PUBLISH", _) => self.remote("PUBACK 65535"),
                ("SUBSCRIBE", identifier) => self.remote(&format!("SUBACK {identifier} 0")),
                ("UNSUBSCRIBE", identifier) => self.remote(&format!("UNSUBACK {identifier}")),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.machine.status().condition, Condition::Connected);
    }

    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.next_action()).collect()
    }

    pub fn lines(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.machine.next_line()).map(|(_, line)| line).collect()
    }

    /// Takes what the bridge sends to this broker, without its own hops.
    pub fn sent_here(&mut self) -> Vec<String> {
        without_hops(self.sent_here_whole())
    }

    /// Takes what the bridge sends to the other broker, without its own hops.
    pub fn sent_there(&mut self) -> Vec<String> {
        without_hops(self.sent_there_whole())
    }

    pub fn sent_here_whole(&mut self) -> Vec<String> {
        let bytes = self.machine.local_output().to_vec();
        self.machine.local_sent(bytes.len(), self.now);
        show_all(&bytes, ProtocolVersion::V5)
    }

    pub fn sent_there_whole(&mut self) -> Vec<String> {
        let mut shown = Vec::new();
        while !self.machine.remote_output().is_empty() {
            let bytes = self.machine.remote_output().to_vec();
            let version = self.machine.status().version;
            self.machine.remote_sent(bytes.len(), self.now);
            shown.extend(show_all(&bytes, version));
        }
        shown
    }

    /// This broker sends a packet.
    pub fn local(&mut self, packet: &str) {
        self.local_bytes(&encode(packet, ProtocolVersion::V5));
    }

    /// This broker sends bytes.
    pub fn local_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.machine.local_received(rest, self.now);
            assert!(taken > 0, "it is not asked in vain");
            rest = &rest[taken..];
        }
    }

    /// The other broker sends a packet.
    pub fn remote(&mut self, packet: &str) {
        let version = self.machine.status().version;
        self.machine.remote_received(&encode(packet, version), self.now);
    }

    /// Lets the time pass until the bridge wants to be called.
    pub fn pass_to_deadline(&mut self) {
        let deadline = self.machine.next_deadline().expect("it waits for something");
        assert!(deadline > self.now, "it was due before");
        self.now = deadline;
        self.machine.tick(deadline);
    }

    /// Lets the time pass, with all calls that are due.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.machine.next_deadline().is_some_and(|deadline| deadline <= end) {
            self.pass_to_deadline();
        }
        self.now = end;
        self.machine.tick(end);
    }
}

/// Removes the User Property that a bridge with the usual settings appends to messages.
fn without_hops(shown: Vec<String>) -> Vec<String> {
    let without = |text: String| match text.rsplit_once(" user=brooklet-hop:hall.gateway/") {
        Some((rest, _)) => rest.to_owned(),
        None => text,
    };
    shown.into_iter().map(without).collect()
}

fn show_all(mut bytes: &[u8], version: ProtocolVersion) -> Vec<String> {
    let mut shown = Vec::new();
    while !bytes.is_empty() {
        let Ok(Cut::Complete(cut)) = frame(bytes, bytes.len()) else { panic!("no packet: {bytes:02x?}") };
        shown.push(show(&Side::Server.decode(&cut, version).unwrap()));
        bytes = &bytes[cut.length..];
    }
    shown
}

fn show(packet: &Packet<'_>) -> String {
    let mut text = packet.name().to_owned();
    match packet {
        Packet::Connect(connect) => show_connect(connect, &mut text),
        Packet::Publish(publish) => {
            write!(text, " q{}", publish.delivery.qos().level()).unwrap();
            if let Some(identifier) = publish.delivery.packet_identifier() {
                write!(text, " {identifier}").unwrap();
            }
            text += if publish.dup { " dup" } else { "" };
            text += if publish.retain { " retain" } else { "" };
            let payload = String::from_utf8_lossy(publish.payload);
            write!(text, " {} {payload}", publish.topic.map_or("-", TopicName::as_str)).unwrap();
            show_properties(publish.properties, &mut text);
        }
        Packet::PubAck(answer)
        | Packet::PubRec(answer)
        | Packet::PubRel(answer)
        | Packet::PubComp(answer) => {
            write!(text, " {}", answer.packet_identifier).unwrap();
            if answer.reason_code != ReasonCode::Success {
                write!(text, " {}", answer.reason_code.value()).unwrap();
            }
        }
        Packet::Subscribe(subscribe) => {
            write!(text, " {}", subscribe.packet_identifier).unwrap();
            for (index, one) in subscribe.subscriptions.iter().enumerate() {
                text += if index > 0 { "," } else { "" };
                write!(text, " {} q{}", one.filter, one.qos.level()).unwrap();
                text += if one.no_local { " no_local" } else { "" };
                if one.retain_as_published {
                    write!(text, " as_published handling={}", one.retain_handling as u8).unwrap();
                }
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            write!(text, " {}", unsubscribe.packet_identifier).unwrap();
            for filter in unsubscribe.filters.iter() {
                write!(text, " {filter}").unwrap();
            }
        }
        Packet::Disconnect(disconnect) => write!(text, " {}", disconnect.reason_code.value()).unwrap(),
        _ => {}
    }
    text
}

fn show_connect(connect: &Connect<'_>, text: &mut String) {
    write!(text, " {:?}", connect.version).unwrap();
    *text += if connect.is_bridge { " private" } else { "" };
    write!(text, " {}", connect.client_identifier).unwrap();
    *text += if connect.clean_start { " clean" } else { "" };
    if connect.keep_alive > 0 {
        write!(text, " keep_alive={}", connect.keep_alive).unwrap();
    }
    if let Some(will) = connect.will {
        let retain = if will.retain { " retain" } else { "" };
        let payload = String::from_utf8_lossy(will.payload);
        write!(text, " will=q{}{retain} {} {payload}", will.qos.level(), will.topic).unwrap();
    }
    if let (Some(user), Some(password)) = (connect.user_name, connect.password) {
        write!(text, " user={user} password={}", String::from_utf8_lossy(password)).unwrap();
    }
    show_properties(connect.properties, text);
}

fn show_properties(properties: Properties<'_>, text: &mut String) {
    for property in properties.iter() {
        match property {
            Property::SessionExpiryInterval(seconds) | Property::MessageExpiryInterval(seconds) => {
                write!(text, " expiry={seconds}").unwrap();
            }
            Property::ReceiveMaximum(count) => write!(text, " receive_maximum={count}").unwrap(),
            Property::MaximumPacketSize(bytes) => write!(text, " size={bytes}").unwrap(),
            Property::TopicAliasMaximum(count) => write!(text, " aliases={count}").unwrap(),
            Property::UserProperty(name, value) => write!(text, " user={name}:{value}").unwrap(),
            Property::ResponseTopic(topic) => write!(text, " response={topic}").unwrap(),
            other => write!(text, " {other:?}").unwrap(),
        }
    }
}

/// Encodes a packet of a server: its name, numbers and flags, and properties as `name=value`. A PUBLISH has a topic and
/// a payload after its flags; `-` stands for no topic.
pub fn encode(text: &str, version: ProtocolVersion) -> Vec<u8> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    let (fields, words): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| word.contains('='));
    let buffer = properties(&fields);
    let properties = buffer.properties();
    let number = |index: usize| words.get(index).and_then(|word| word.parse::<u16>().ok());
    let identifier = || PacketIdentifier::new(number(0).unwrap()).unwrap();
    let codes: Vec<u8> = words.iter().skip(1).filter_map(|word| word.parse().ok()).collect();
    let answer = || {
        let code = codes.first().map_or(ReasonCode::Success, |&code| ReasonCode::from_u8(code).unwrap());
        Acknowledgement::new(identifier(), code)
    };
    let code =
        fields.iter().find_map(|field| field.strip_prefix("code=")).map_or(0, |code| code.parse().unwrap());
    let packet = match name {
        "CONNACK" => {
            Packet::ConnAck(ConnAck { session_present: words.contains(&"present"), code, properties })
        }
        "PUBLISH" => return publish(&words, properties, version),
        "PUBACK" => AcknowledgementKind::PubAck.packet(answer()),
        "PUBREC" => AcknowledgementKind::PubRec.packet(answer()),
        "PUBREL" => AcknowledgementKind::PubRel.packet(answer()),
        "PUBCOMP" => AcknowledgementKind::PubComp.packet(answer()),
        "SUBACK" => Packet::SubAck(SubAck { packet_identifier: identifier(), properties, codes: &codes }),
        "UNSUBACK" => Packet::UnsubAck(UnsubAck { packet_identifier: identifier(), properties, codes: &[0] }),
        "PINGRESP" => Packet::PingResp,
        "DISCONNECT" => {
            Packet::Disconnect(Disconnect { reason_code: ReasonCode::from_u8(code).unwrap(), properties })
        }
        other => panic!("no packet of a server: {other}"),
    };
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

fn publish(words: &[&str], properties: Properties<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut words = words.iter().copied().peekable();
    let qos = words.next().unwrap();
    let identifier = words.next_if(|word| word.parse::<u16>().is_ok());
    let identifier = identifier.map(|word| PacketIdentifier::new(word.parse().unwrap()).unwrap());
    let dup = words.next_if_eq(&"dup").is_some();
    let retain = words.next_if_eq(&"retain").is_some();
    let topic = words.next().filter(|topic| *topic != "-").map(|topic| TopicName::new(topic).unwrap());
    let delivery = match qos {
        "q0" => Delivery::AtMostOnce,
        "q1" => Delivery::AtLeastOnce(identifier.unwrap()),
        _ => Delivery::ExactlyOnce(identifier.unwrap()),
    };
    let payload = words.next().unwrap_or_default().as_bytes();
    let mut bytes = Vec::new();
    Packet::Publish(Publish { dup, retain, delivery, topic, properties, payload })
        .encode(version, &mut bytes);
    bytes
}

fn properties(fields: &[&str]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::default();
    for field in fields {
        let (name, value) = field.split_once('=').unwrap();
        let number = || value.parse::<u32>().unwrap();
        let short = || value.parse::<u16>().unwrap();
        buffer.push(match name {
            "code" => continue,
            "user" => {
                let (name, value) = value.split_once(':').unwrap();
                Property::UserProperty(name, value)
            }
            "response" => Property::ResponseTopic(TopicName::new(value).unwrap()),
            "reference" => Property::ServerReference(value),
            "reason" => Property::ReasonString(value),
            "expiry" => Property::MessageExpiryInterval(number()),
            "subscription" => Property::SubscriptionIdentifier(number()),
            "size" => Property::MaximumPacketSize(number()),
            "alias" => Property::TopicAlias(short()),
            "receive_maximum" => Property::ReceiveMaximum(short()),
            "keep_alive" => Property::ServerKeepAlive(short()),
            "qos" => Property::MaximumQoS(QoS::from_u8(value.parse().unwrap()).unwrap()),
            "retain" => Property::RetainAvailable(value == "1"),
            "wildcards" => Property::WildcardSubscriptionAvailable(value == "1"),
            other => panic!("no property: {other}"),
        });
    }
    buffer
}
