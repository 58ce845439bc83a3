//! A client of either version over rumqttc, driven by the test itself: a client communicates only while its test waits
//! for something from it, and there is no thread to wait for.

use std::collections::VecDeque;
use std::ops::Range;

use rumqttc::{QoS, v5};
use v5::mqttbytes::v5 as packets;

use crate::server::{PATIENCE, Server};

/// The most that a client receives or sends in one packet, in bytes.
const PACKET_SIZE: u32 = 4 * 1024 * 1024;
/// How long a persistent 5.0 session outlives its connection, in seconds.
const EXPIRY: u32 = 3_600;
/// The number of requests that may be queued.
const REQUESTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// The options of a client's CONNECT.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) version: Version,
    pub(crate) port: u16,
    pub(crate) identifier: String,
    pub(crate) will: Option<(&'static str, &'static str, QoS, bool)>,
    /// Whether the session outlives the connection.
    pub(crate) is_persistent: bool,
    /// Whether nothing is acknowledged.
    pub(crate) is_silent: bool,
    /// Topic Aliases that the broker may use; 5.0 only.
    pub(crate) topic_aliases: Option<u16>,
}

pub(crate) struct Client {
    line: Line,
    /// Whether the broker knew the session.
    pub(crate) session_present: bool,
    /// Messages that arrived while something else was awaited.
    messages: VecDeque<Message>,
}

enum Line {
    V311(rumqttc::AsyncClient, Box<rumqttc::EventLoop>),
    V5(v5::AsyncClient, Box<v5::EventLoop>),
}

/// A received message. Before 5.0, the properties are empty.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) properties: packets::PublishProperties,
}

/// The result of one step of a client.
#[derive(Debug)]
enum Happening {
    Connected(bool),
    Message(Message),
    /// The QoS of each filter, `None` for one that was refused.
    Subscribed(Vec<Option<QoS>>),
    Unsubscribed,
    /// A PUBLISH has been sent.
    Sent,
    /// The last acknowledgement of a PUBLISH has come.
    Acknowledged,
    /// The client's DISCONNECT has been sent.
    SaidGoodbye,
    /// Anything else.
    Other,
    /// The connection has ended, for this reason.
    Ended(String),
}

/// Runs a test once for each version; one that does not finish fails.
pub(crate) fn in_both_versions(test: impl AsyncFn(Version)) {
    for version in [Version::V311, Version::V5] {
        run(test(version));
    }
}

/// Runs a test; one that does not finish fails.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test comes to an end") });
}

impl Options {
    pub(crate) fn new(server: &Server, version: Version, identifier: &str) -> Self {
        Self::at(server.port(), version, identifier)
    }

    /// Those of a client of the broker at this port.
    pub(crate) fn at(port: u16, version: Version, identifier: &str) -> Self {
        Self {
            version,
            port,
            identifier: identifier.to_owned(),
            will: None,
            is_persistent: false,
            is_silent: false,
            topic_aliases: None,
        }
    }

    pub(crate) fn persistent(server: &Server, version: Version, identifier: &str) -> Self {
        Self { is_persistent: true, ..Self::new(server, version, identifier) }
    }

    pub(crate) async fn connect(&self) -> Client {
        let line = match self.version {
            Version::V311 => self.line_v311(),
            Version::V5 => self.line_v5(),
        };
        let mut client = Client { line, session_present: false, messages: VecDeque::new() };
        match client.step().await {
            Happening::Connected(session_present) => client.session_present = session_present,
            other => panic!("{other:?} instead of CONNACK"),
        }
        client
    }

    /// Connects, and returns why the broker refuses it, as the client words it.
    pub(crate) async fn refused(&self) -> String {
        let line = match self.version {
            Version::V311 => self.line_v311(),
            Version::V5 => self.line_v5(),
        };
        let mut client = Client { line, session_present: false, messages: VecDeque::new() };
        match client.step().await {
            Happening::Ended(why) => why,
            other => panic!("{other:?} instead of a refusal"),
        }
    }

    fn line_v311(&self) -> Line {
        let size = usize::try_from(PACKET_SIZE).expect("it is small");
        let mut options = rumqttc::MqttOptions::new(&self.identifier, "127.0.0.1", self.port);
        options.set_clean_session(!self.is_persistent);
        options.set_max_packet_size(size, size);
        options.set_manual_acks(self.is_silent);
        if let Some((topic, payload, qos, retain)) = self.will {
            options.set_last_will(rumqttc::LastWill::new(topic, payload, qos, retain));
        }
        let (client, event_loop) = rumqttc::AsyncClient::new(options, REQUESTS);
        Line::V311(client, Box::new(event_loop))
    }

    fn line_v5(&self) -> Line {
        let mut options = v5::MqttOptions::new(&self.identifier, "127.0.0.1", self.port);
        options.set_clean_start(!self.is_persistent);
        options.set_session_expiry_interval(self.is_persistent.then_some(EXPIRY));
        options.set_max_packet_size(Some(PACKET_SIZE));
        options.set_topic_alias_max(self.topic_aliases);
        options.set_manual_acks(self.is_silent);
        if let Some((topic, payload, qos, retain)) = self.will {
            options.set_last_will(packets::LastWill::new(topic, payload, in_v5(qos), retain, None));
        }
        let (client, event_loop) = v5::AsyncClient::new(options, REQUESTS);
        Line::V5(client, Box::new(event_loop))
    }
}

impl Client {
    pub(crate) async fn connect(server: &Server, version: Version, identifier: &str) -> Self {
        Options::new(server, version, identifier).connect().await
    }

    /// Subscribes, waits for the SUBACK, and returns the granted QoS.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) -> QoS {
        match &self.line {
            Line::V311(client, _) => client.try_subscribe(filter, qos).expect("it can wait"),
            Line::V5(client, _) => client.try_subscribe(filter, in_v5(qos)).expect("it can wait"),
        }
        self.wait_until_subscribed().await
    }

    /// Subscribes with a Subscription Identifier.
    pub(crate) async fn subscribe_as(&mut self, filter: &str, identifier: usize) {
        let properties = packets::SubscribeProperties { id: Some(identifier), user_properties: Vec::new() };
        let qos = in_v5(QoS::AtLeastOnce);
        self.v5().try_subscribe_with_properties(filter, qos, properties).expect("it can wait");
        self.wait_until_subscribed().await;
    }

    async fn wait_until_subscribed(&mut self) -> QoS {
        loop {
            match self.next_but_messages().await {
                Happening::Subscribed(granted) => match granted[..] {
                    [Some(qos)] => return qos,
                    _ => panic!("{granted:?} for one filter"),
                },
                Happening::Ended(why) => panic!("no SUBACK: {why}"),
                _ => {}
            }
        }
    }

    /// Unsubscribes, and waits for the UNSUBACK.
    pub(crate) async fn unsubscribe(&mut self, filter: &str) {
        match &self.line {
            Line::V311(client, _) => client.try_unsubscribe(filter).expect("it can wait"),
            Line::V5(client, _) => client.try_unsubscribe(filter).expect("it can wait"),
        }
        loop {
            match self.next_but_messages().await {
                Happening::Unsubscribed => return,
                Happening::Ended(why) => panic!("no UNSUBACK: {why}"),
                _ => {}
            }
        }
    }

    /// Publishes, and waits until that is acknowledged as its QoS requires; for QoS 0, until it has been sent.
    pub(crate) async fn publish(&mut self, topic: &str, qos: QoS, retain: bool, payload: impl Into<Vec<u8>>) {
        match &self.line {
            Line::V311(client, _) => client.try_publish(topic, qos, retain, payload).expect("it can wait"),
            Line::V5(client, _) => {
                client.try_publish(topic, in_v5(qos), retain, payload.into()).expect("it can wait");
            }
        }
        self.wait_until_published(qos).await;
    }

    /// Publishes, and waits until that is acknowledged, or returns why the connection ends before.
    pub(crate) async fn try_to_publish(
        &mut self,
        topic: &str,
        qos: QoS,
        payload: String,
    ) -> Result<(), String> {
        let queued = match &self.line {
            Line::V311(client, _) => client.try_publish(topic, qos, false, payload).is_ok(),
            Line::V5(client, _) => client.try_publish(topic, in_v5(qos), false, payload).is_ok(),
        };
        assert!(queued, "it can wait");
        loop {
            match self.next_but_messages().await {
                Happening::Acknowledged => return Ok(()),
                Happening::Ended(why) => return Err(why),
                _ => {}
            }
        }
    }

    /// Publishes at QoS 1, and waits until that is acknowledged.
    pub(crate) async fn publish_one(&mut self, topic: &str, payload: String) {
        self.publish(topic, QoS::AtLeastOnce, false, payload).await;
    }

    /// Publishes at QoS 1, and returns why the connection ends instead of an acknowledgement.
    pub(crate) async fn publish_in_vain(mut self, topic: &str, payload: &str) -> String {
        assert!(self.try_publish(topic, payload.to_owned()), "it can wait");
        loop {
            match self.next_but_messages().await {
                Happening::Acknowledged => panic!("it is acknowledged"),
                Happening::Ended(why) => return why,
                _ => {}
            }
        }
    }

    /// Publishes at QoS 1 with properties.
    pub(crate) async fn publish_with(
        &mut self,
        topic: &str,
        payload: &'static str,
        properties: packets::PublishProperties,
    ) {
        let qos = in_v5(QoS::AtLeastOnce);
        self.v5().try_publish_with_properties(topic, qos, false, payload, properties).expect("it can wait");
        self.wait_until_published(QoS::AtLeastOnce).await;
    }

    async fn wait_until_published(&mut self, qos: QoS) {
        loop {
            match self.next_but_messages().await {
                Happening::Sent if qos == QoS::AtMostOnce => return,
                Happening::Acknowledged => return,
                Happening::Ended(why) => panic!("not published: {why}"),
                _ => {}
            }
        }
    }

    /// Publishes these numbers at QoS 1, as many at a time as both sides allow.
    pub(crate) async fn publish_numbers(&mut self, topic: &str, numbers: Range<usize>) {
        let (mut next, mut acknowledged) = (numbers.start, numbers.start);
        while acknowledged < numbers.end {
            while next < numbers.end && self.try_publish(topic, next.to_string()) {
                next += 1;
            }
            match self.next_but_messages().await {
                Happening::Acknowledged => acknowledged += 1,
                Happening::Ended(why) => panic!("{acknowledged} of {numbers:?} acknowledged: {why}"),
                _ => {}
            }
        }
    }

    /// Returns false if too many requests are queued already.
    fn try_publish(&self, topic: &str, payload: String) -> bool {
        match &self.line {
            Line::V311(client, _) => client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_ok(),
            Line::V5(client, _) => client.try_publish(topic, in_v5(QoS::AtLeastOnce), false, payload).is_ok(),
        }
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Message {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            if let Happening::Ended(why) = self.next_but_messages().await {
                panic!("no message: {why}");
            }
        }
    }

    /// The messages up to the first one of this topic, which is left out.
    pub(crate) async fn receive_until(&mut self, topic: &str) -> Vec<Message> {
        let mut received = Vec::new();
        loop {
            let message = self.receive().await;
            if message.topic == topic {
                return received;
            }
            received.push(message);
        }
    }

    /// Waits for the end of the connection; returns the messages that arrived before, and the reason as the client
    /// words it.
    pub(crate) async fn wait_for_end(mut self) -> (Vec<Message>, String) {
        loop {
            if let Happening::Ended(why) = self.next_but_messages().await {
                return (self.messages.into(), why);
            }
        }
    }

    /// Ends the connection with DISCONNECT. Dropping it ends it without.
    pub(crate) async fn disconnect(mut self) {
        match &self.line {
            Line::V311(client, _) => client.try_disconnect().expect("it can wait"),
            Line::V5(client, _) => client.try_disconnect().expect("it can wait"),
        }
        while !matches!(self.next_but_messages().await, Happening::SaidGoodbye | Happening::Ended(_)) {}
    }

    fn v5(&self) -> &v5::AsyncClient {
        match &self.line {
            Line::V5(client, _) => client,
            Line::V311(..) => panic!("this is for 5.0"),
        }
    }

    /// What happens next. Messages are set aside.
    async fn next_but_messages(&mut self) -> Happening {
        match self.step().await {
            Happening::Message(message) => {
                self.messages.push_back(message);
                Happening::Other
            }
            Happening::Ended(why) => {
                self.save_messages();
                Happening::Ended(why)
            }
            other => other,
        }
    }

    /// Stores messages that arrived together with the end of the connection.
    fn save_messages(&mut self) {
        let left: Vec<Happening> = match &mut self.line {
            Line::V311(_, event_loop) => event_loop.state.events.drain(..).map(read_v311).collect(),
            Line::V5(_, event_loop) => event_loop.state.events.drain(..).map(read_v5).collect(),
        };
        self.messages.extend(left.into_iter().filter_map(|happening| match happening {
            Happening::Message(message) => Some(message),
            _ => None,
        }));
    }

    async fn step(&mut self) -> Happening {
        match &mut self.line {
            Line::V311(_, event_loop) => match event_loop.poll().await {
                Ok(event) => read_v311(event),
                Err(error) => Happening::Ended(format!("{error:?}")),
            },
            Line::V5(_, event_loop) => match event_loop.poll().await {
                Ok(event) => read_v5(event),
                Err(error) => Happening::Ended(format!("{error:?}")),
            },
        }
    }
}

fn read_v311(event: rumqttc::Event) -> Happening {
    use rumqttc::{Event, Outgoing, Packet, SubscribeReasonCode};
    match event {
        Event::Incoming(Packet::ConnAck(connack)) => Happening::Connected(connack.session_present),
        Event::Incoming(Packet::Publish(publish)) => Happening::Message(Message {
            topic: publish.topic,
            payload: publish.payload.into(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties: packets::PublishProperties::default(),
        }),
        Event::Incoming(Packet::SubAck(suback)) => {
            let granted = suback.return_codes.iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Some(*qos),
                SubscribeReasonCode::Failure => None,
            });
            Happening::Subscribed(granted.collect())
        }
        Event::Incoming(Packet::UnsubAck(_)) => Happening::Unsubscribed,
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Happening::Acknowledged,
        Event::Outgoing(Outgoing::Publish(_)) => Happening::Sent,
        Event::Outgoing(Outgoing::Disconnect) => Happening::SaidGoodbye,
        _ => Happening::Other,
    }
}

fn read_v5(event: v5::Event) -> Happening {
    use packets::{Packet, SubscribeReasonCode};
    use rumqttc::Outgoing;
    use v5::Event;
    match event {
        Event::Incoming(Packet::ConnAck(connack)) => Happening::Connected(connack.session_present),
        Event::Incoming(Packet::Publish(publish)) => Happening::Message(Message {
            topic: String::from_utf8(publish.topic.into()).expect("a topic is text"),
            payload: publish.payload.into(),
            qos: from_v5(publish.qos),
            retain: publish.retain,
            dup: publish.dup,
            properties: publish.properties.unwrap_or_default(),
        }),
        Event::Incoming(Packet::SubAck(suback)) => {
            let granted = suback.return_codes.iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Some(from_v5(*qos)),
                _ => None,
            });
            Happening::Subscribed(granted.collect())
        }
        Event::Incoming(Packet::UnsubAck(_)) => Happening::Unsubscribed,
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Happening::Acknowledged,
        Event::Outgoing(Outgoing::Publish(_)) => Happening::Sent,
        Event::Outgoing(Outgoing::Disconnect) => Happening::SaidGoodbye,
        _ => Happening::Other,
    }
}

fn in_v5(qos: QoS) -> v5::mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => v5::mqttbytes::QoS::ExactlyOnce,
    }
}

fn from_v5(qos: v5::mqttbytes::QoS) -> QoS {
    match qos {
        v5::mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        v5::mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        v5::mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}
