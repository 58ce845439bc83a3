//! The state of the oracle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use brooklet::base::time::Time;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, Delivery, Packet, PacketIdentifier, Properties, Property, PropertyBuffer,
    ProtocolVersion, Publish, QoS, ReasonCode, Status, decode, frame,
};
use brooklet::protocol::topic::TopicName;

/// A message that the broker has accepted.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Rises with each publication.
    pub number: u64,
    pub publisher: String,
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    /// The forwarded properties, as on the wire.
    pub properties: Vec<u8>,
    pub interval: Option<u32>,
    pub expires: Time,
    pub published: Time,
}

impl Publication {
    pub fn name(&self) -> TopicName<'_> {
        TopicName::new(&self.topic).expect("it was a good topic")
    }

    /// The same message without expiry. Its size is the same.
    pub fn without_expiry(&self) -> Rc<Self> {
        Rc::new(Self { expires: Time::NEVER, ..self.clone() })
    }
}

/// The terms of a subscription: everything except its filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    pub qos: QoS,
    pub no_local: bool,
    pub as_published: bool,
    pub identifier: Option<u32>,
}

impl Terms {
    pub fn identifiers(&self) -> Vec<u32> {
        self.identifier.into_iter().collect()
    }
}

/// Why a client gets a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its own subscriptions.
    Own,
    /// A Shared Subscription; the number of the entry.
    Shared(u64),
    /// A retained message for a new subscription.
    Replay,
}

/// One copy for one client.
#[derive(Clone, Debug)]
pub struct Copy {
    pub publication: Rc<Publication>,
    pub qos: QoS,
    pub retain: bool,
    /// Sorted.
    pub identifiers: Vec<u32>,
    /// Other identifiers that it may have: only versions that do not show identifiers have received it so far.
    pub unseen_identifiers: BTreeSet<Vec<u32>>,
    /// Whether the broker may have dropped it.
    pub is_optional: bool,
    /// Whether a subscription has changed while the broker looked for recipients, so that it may come on other terms.
    pub is_loose: bool,
    /// Whether it may have been lost on its way after it was sent, and so have DUP when it is first seen.
    pub may_be_repeat: bool,
    /// Whether it was sent, and the broker has forgotten the outcome: it comes with DUP.
    pub is_repeat: bool,
    /// The Packet Identifier with which it was then sent at QoS 1, and its place in the order of all deliveries.
    pub sent_as: Option<(u16, u64)>,
    pub source: Source,
}

impl Copy {
    /// Whether it is known which publication this was, and so which ones may not come after it. Empty ones look alike,
    /// including one that was owed and one that the broker was free to drop.
    pub fn has_order(&self) -> bool {
        self.source == Source::Own && !self.is_optional && !self.publication.payload.is_empty()
    }

    /// This copy, which cannot be distinguished from one with the identifiers of another.
    pub fn or_like(&mut self, other: Self) {
        if other.identifiers != self.identifiers {
            self.unseen_identifiers.insert(other.identifiers);
        }
    }

    /// Sets the identifiers, after a client has seen them.
    pub fn show_identifiers(&mut self, seen: &[u32]) {
        self.identifiers = seen.to_vec();
        self.unseen_identifiers.clear();
    }

    /// Its greatest length on the wire, without Topic Alias.
    pub fn length(&self, version: ProtocolVersion) -> usize {
        let mut properties = PropertyBuffer::default();
        properties.push_encoded(&self.publication.properties);
        if let Some(interval) = self.publication.interval {
            properties.push(Property::MessageExpiryInterval(interval));
        }
        // The alternatives are one identifier or none, and the highest identifier is the longest.
        let identifiers =
            self.unseen_identifiers.last().map_or(&self.identifiers, |unseen| unseen.max(&self.identifiers));
        for &identifier in identifiers {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let delivery = match self.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            _ => Delivery::AtLeastOnce(PacketIdentifier::FIRST),
        };
        let publish = Publish {
            dup: false,
            retain: self.retain,
            delivery,
            topic: Some(self.publication.name()),
            properties: match version {
                ProtocolVersion::V5 => properties.properties(),
                _ => Properties::default(),
            },
            payload: &self.publication.payload,
        };
        publish.encoded_length(version)
    }
}

/// A copy of QoS 1 or 2 on its way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub copy: Copy,
    /// The connection that it was last seen on; `None` until the client returns.
    pub line: Option<ConnectionId>,
    /// When the broker processed the PUBREC.
    pub released_at: Option<Time>,
    /// Rises with each first sight.
    pub order: u64,
}

/// A retained message owed to a new subscription.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Any of these may come: the topic's message may have changed in the meantime.
    pub acceptable: Vec<Rc<Publication>>,
    pub is_due: bool,
}

#[derive(Clone, Debug)]
pub struct Replay {
    pub number: u64,
    pub filter: String,
    pub terms: Terms,
    /// Terms on which its messages may have been delivered before a crash, and so come now.
    pub former_terms: Vec<Terms>,
    pub owed: BTreeMap<String, Owed>,
    pub may_be_repeat: bool,
}

impl Replay {
    /// The copies that may come of this message.
    pub fn copies(&self, publication: &Rc<Publication>) -> impl Iterator<Item = Copy> {
        let all_terms = std::iter::once(&self.terms).chain(&self.former_terms);
        all_terms.map(|terms| Copy::of_replay(publication.clone(), terms))
    }

    /// The connection is gone: copies that may have been sent at QoS 0, or were too large for the client, count as
    /// delivered.
    pub fn give_up_weak(&mut self, version: ProtocolVersion, maximum: usize) {
        let mut owed = std::mem::take(&mut self.owed);
        for owed in owed.values_mut() {
            let mut copies = owed.acceptable.iter().flat_map(|publication| self.copies(publication));
            owed.is_due &= !copies.any(|copy| copy.qos == QoS::AtMostOnce || copy.length(version) > maximum);
        }
        self.owed = owed;
    }
}

/// The reason for a copy that looks like a retained message for a new subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The number of the [`Replay`].
    Replay(u64),
    /// A copy that the broker was free to drop.
    Optional,
}

/// A retained message that was delivered to a new subscription.
#[derive(Clone, Debug)]
pub struct HandOver {
    pub copy: Copy,
    /// The numbers of all subscriptions that it may have been meant for when it was seen.
    pub candidates: Vec<u64>,
    pub reason: Reason,
}

#[derive(Clone, Debug)]
pub struct Will {
    pub publication: Publication,
    pub delay: u32,
    pub due: Time,
    /// When it is tried again, if there was no space for it before.
    pub tried_again: Time,
}

#[derive(Clone, Debug)]
pub struct Session {
    /// A session that was gone and returns has another number.
    pub number: u64,
    /// Whether it was to outlive one of its connections.
    pub is_persistent: bool,
    pub connection: Option<ConnectionId>,
    /// Rises with each CONNECT.
    pub greeting: u64,
    /// The publication last sent at QoS 1 with a Packet Identifier, and its place in the order of deliveries.
    pub places: BTreeMap<u16, (u64, u64)>,
    /// Of the last connection.
    pub version: ProtocolVersion,
    pub maximum_packet_size: usize,
    /// In seconds.
    pub expiry: u32,
    pub ends: Time,
    pub will: Option<Will>,
    pub subscriptions: BTreeMap<String, Terms>,
    /// QoS 2 messages from the client, not released.
    pub incoming: BTreeSet<u16>,
    /// Those that were perhaps refused, so that their identifiers are free.
    pub uncertain: BTreeSet<u16>,
    /// Copies of QoS 1 and 2 not seen on the wire yet.
    pub pending: VecDeque<Copy>,
    /// Copies of QoS 0 that come if the client is connected when its turn comes.
    pub adrift: VecDeque<Copy>,
    pub in_flight: BTreeMap<u16, Flight>,
    pub replays: Vec<Replay>,
    /// The copies that were seen of them.
    pub handed_over: Vec<HandOver>,
    /// The last publication seen of each publisher, topic and QoS.
    pub last: BTreeMap<(String, String, QoS), u64>,
}

impl Session {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            is_persistent: false,
            connection: None,
            greeting: 0,
            places: BTreeMap::new(),
            version: ProtocolVersion::V311,
            maximum_packet_size: usize::MAX,
            expiry: 0,
            ends: Time::NEVER,
            will: None,
            subscriptions: BTreeMap::new(),
            incoming: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            pending: VecDeque::new(),
            adrift: VecDeque::new(),
            in_flight: BTreeMap::new(),
            replays: Vec::new(),
            handed_over: Vec::new(),
            last: BTreeMap::new(),
        }
    }

    /// This PUBREC reports whether a QoS 2 message counts; if it was refused, its identifier is free at once
    /// [MQTT-4.3.3-9].
    pub fn end_uncertainty(&mut self, answer: &Acknowledgement<'_>) {
        let identifier = answer.packet_identifier.value();
        if self.uncertain.remove(&identifier) && answer.reason_code.is_error() {
            self.incoming.remove(&identifier);
        }
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    /// A group that was gone and returns has another number.
    pub number: u64,
    pub members: BTreeMap<String, Terms>,
}

/// A message of which one member of a group gets a copy.
#[derive(Clone, Debug)]
pub struct Shared {
    pub number: u64,
    pub publication: Rc<Publication>,
    pub group: u64,
    /// All clients that could have been chosen since, with all terms that they had.
    pub candidates: BTreeMap<String, Vec<Terms>>,
    /// The client that received it, and at which QoS.
    pub holder: Option<(String, QoS)>,
    /// Whether its holder has acknowledged it.
    pub is_settled: bool,
    pub is_optional: bool,
}

/// A packet that the broker owes as an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    ConnAck {
        is_present: bool,
        is_refused: bool,
    },
    /// With one of these reasons.
    PubAck(u16, Vec<ReasonCode>),
    PubRec(u16, Vec<ReasonCode>),
    PubRel(u16, ReasonCode),
    PubComp(u16, ReasonCode),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16, Vec<u8>),
    PingResp,
}

impl Answer {
    /// Allows more reasons; returns the identifier of a PUBREC.
    pub fn allow(&mut self, more: &[ReasonCode]) -> Option<u16> {
        let (reasons, identifier) = match self {
            Self::PubAck(_, reasons) => (reasons, None),
            Self::PubRec(identifier, reasons) => (reasons, Some(*identifier)),
            _ => return None,
        };
        let missing: Vec<ReasonCode> = more.iter().copied().filter(|more| !reasons.contains(more)).collect();
        let is_news = !missing.is_empty();
        reasons.extend(missing);
        identifier.filter(|_| is_news)
    }
}

/// The subscription that a filter identifies: with its Share Name, if it has one.
pub type Key = (Option<String>, String);

/// What an answer reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Nothing,
    /// The message with this number was accepted.
    Publication(u64),
    /// These subscriptions were made, or ended if there are no terms.
    Subscriptions(Vec<(Key, Option<Terms>)>),
}

/// An answer that the broker owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debt {
    pub answer: Answer,
    pub subject: Subject,
    /// The batch that records what is answered.
    pub batch: u64,
    /// Whether it cannot be observed if the packet was left without an answer.
    pub is_optional: bool,
}

/// Whether a message on a connection was left without an answer, because there was no space for it on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Omission {
    Never,
    /// Unless it was a repeat, which needs no space.
    Perhaps,
    Certain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Greeting,
    Serving,
    /// The broker closes it, for this reason.
    Ending(Option<ReasonCode>),
}

/// One connection.
#[derive(Debug)]
pub struct Line {
    pub opened: Time,
    pub progress: Progress,
    pub client: Option<String>,
    pub version: ProtocolVersion,
    pub keep_alive: u16,
    pub last_heard: Time,
    /// Whether the broker has stopped reading from it.
    pub is_paused: bool,
    pub maximum_packet_size: usize,
    pub alias_maximum: u16,
    pub window: usize,
    /// Packets on their way to the broker.
    pub sent: VecDeque<Vec<u8>>,
    /// The progress of the first of them, if it has many filters.
    pub begun: super::progress::Begun,
    pub answers: VecDeque<Debt>,
    /// Copies of QoS 0 not seen on the wire yet.
    pub at_most_once: VecDeque<Copy>,
    /// Publications of QoS 1 and 2 that were sent on it and are not done.
    pub unsettled: BTreeSet<u16>,
    /// Deliveries that were finished while copies of them may have been in the outbox.
    pub settled: BTreeSet<u16>,
    /// Aliases bound by the client.
    pub inbound: BTreeMap<u16, String>,
    /// Aliases bound by the broker.
    pub outbound: BTreeMap<u16, String>,
    /// When its outbox was last known to be empty.
    pub empty_at: Time,
    /// The order of the last delivery sent again.
    pub resent: u64,
    /// The last publication of QoS 0 seen of each publisher and topic.
    pub last: BTreeMap<(String, String), u64>,
    /// Bytes from the broker that are not a whole packet yet.
    pub tap: Vec<u8>,
    pub is_finished: bool,
    pub omission: Omission,
    /// Whether what its CONNACK says takes no space on disk.
    pub needs_no_room: bool,
    /// Whether it no longer waits for the disk because of that.
    pub is_loose: bool,
}

impl Line {
    pub fn new(now: Time) -> Self {
        Self {
            opened: now,
            progress: Progress::Greeting,
            client: None,
            version: ProtocolVersion::V311,
            keep_alive: 0,
            last_heard: now,
            is_paused: false,
            needs_no_room: false,
            is_loose: false,
            maximum_packet_size: usize::MAX,
            alias_maximum: 0,
            window: 0,
            sent: VecDeque::new(),
            begun: super::progress::Begun::default(),
            answers: VecDeque::new(),
            at_most_once: VecDeque::new(),
            unsettled: BTreeSet::new(),
            settled: BTreeSet::new(),
            inbound: BTreeMap::new(),
            outbound: BTreeMap::new(),
            empty_at: now,
            resent: 0,
            last: BTreeMap::new(),
            tap: Vec::new(),
            is_finished: false,
            omission: Omission::Never,
        }
    }

    /// The version in which a waiting CONNECT is refused.
    pub fn wanted_version(&self) -> ProtocolVersion {
        let packet = self.sent.front().expect("a device that waits has sent its CONNECT");
        let Ok(Status::Complete(frame)) = frame(packet, usize::MAX) else { panic!("it is whole") };
        match decode(&frame, ProtocolVersion::V311) {
            Ok(Packet::Connect(connect)) if connect.version == ProtocolVersion::V5 => ProtocolVersion::V5,
            _ => ProtocolVersion::V311,
        }
    }

    /// The client that it serves, if any.
    pub fn serves(&self) -> Option<&str> {
        self.client.as_deref().filter(|_| self.progress == Progress::Serving)
    }
}
