//! The content of a database, resolved: which message, session, subscription and delivery belong together, and what
//! cannot be imported.

use std::collections::{BTreeMap, BTreeSet};

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use super::chunk::{Chunk, Chunks, Client, Content, Entry, Subscription};
use super::reader::{ImportError, Native};
use crate::core::subscription::{IDENTIFIER_MAXIMUM, Identifiers};
use crate::protocol::codec::{PacketIdentifier, Properties, QoS};
use crate::protocol::topic::{TopicFilter, TopicName};

/// Why a part of a database is not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The Session Expiry Interval of a session has passed.
    SessionExpired,
    /// A session that ends with its connection: that of an MQTT 5.0 client without a Session Expiry Interval.
    SessionEnded,
    /// A subscription or a message of a session that is not imported.
    OfNoSession,
    /// The Message Expiry Interval of a message has passed.
    MessageExpired,
    /// A message that the file refers to but does not contain.
    NotThere,
    /// A topic, a filter or a property that the standards do not allow.
    NotValid,
    /// A Packet Identifier that is 0 or that another message of the session has.
    NoPacketIdentifier,
}

impl Reason {
    /// The one thing, or the things, that were left out for it.
    pub const fn about(self, is_one: bool) -> &'static str {
        let [one, more] = match self {
            Self::SessionExpired => [
                "session whose Session Expiry Interval has passed",
                "sessions whose Session Expiry Interval has passed",
            ],
            Self::SessionEnded => {
                ["session that ends with its connection", "sessions that end with their connection"]
            }
            Self::OfNoSession => [
                "subscription or queued message of a session that is left out",
                "subscriptions and queued messages of sessions that are left out",
            ],
            Self::MessageExpired => [
                "message whose Message Expiry Interval has passed",
                "messages whose Message Expiry Interval has passed",
            ],
            Self::NotThere => [
                "message that the file refers to but does not contain",
                "messages that the file refers to but does not contain",
            ],
            Self::NotValid => [
                "message or subscription that the standards do not allow",
                "messages and subscriptions that the standards do not allow",
            ],
            Self::NoPacketIdentifier => [
                "message without a Packet Identifier of its own",
                "messages without a Packet Identifier of their own",
            ],
        };
        if is_one { one } else { more }
    }
}

/// How many parts of a database are not imported, by reason.
pub type LeftOut = BTreeMap<Reason, u64>;

/// A content that can be imported.
#[derive(Clone, Debug)]
pub(super) struct Body<'a> {
    pub(super) topic: TopicName<'a>,
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    pub(super) is_retained: bool,
    pub(super) properties: Properties<'a>,
    /// In seconds since 1970; 0 for never.
    pub(super) expires: u64,
    /// The publisher, as in [`Content`].
    pub(super) port: u16,
    pub(super) client_identifier: &'a str,
    pub(super) user_name: &'a str,
}

/// A session to import.
#[derive(Clone, Debug)]
pub(super) struct Session<'a> {
    pub(super) client_identifier: &'a str,
    pub(super) user_name: Option<&'a str>,
    pub(super) port: u16,
    pub(super) expiry_interval: u32,
    /// In milliseconds since 1970; `u64::MAX` for never.
    pub(super) ends: u64,
}

/// A subscription to import.
#[derive(Clone, Debug)]
pub(super) struct Subscribed<'a> {
    /// Index of its session in [`Tables::sessions`].
    pub(super) session: usize,
    pub(super) filter: TopicFilter<'a>,
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) identifier: u32,
}

/// The progress of a message to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has not been sent.
    Queued,
    /// It may have been sent, and its PUBACK has not arrived.
    Sent,
    /// It may have been sent with this Packet Identifier, and its PUBREC has not arrived.
    Delivered(PacketIdentifier),
    /// Its PUBREC has arrived, and its PUBCOMP has not.
    Released(PacketIdentifier),
}

/// A message queued for or sent to a client.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) session: usize,
    /// Index of its content in [`Tables::contents`], if the file contains it. The content can be imported, except
    /// that of a released delivery, which does not need it.
    pub(super) content: Option<usize>,
    pub(super) progress: Progress,
    pub(super) qos: QoS,
    pub(super) is_retained: bool,
    pub(super) identifiers: Identifiers,
}

impl Outgoing {
    /// Whether only the PUBREL still has to be answered.
    pub(super) const fn is_released(&self) -> bool {
        matches!(self.progress, Progress::Released(_))
    }
}

/// A QoS 2 message that its sender has not released.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) session: usize,
    pub(super) packet_identifier: PacketIdentifier,
    /// It has not been passed on to any subscriber. `None` if it cannot be imported.
    pub(super) content: Option<usize>,
}

/// The whole database.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables<'a> {
    /// In the order in which mosquitto received them; `None` for one that cannot be imported.
    pub(super) contents: Vec<Option<Body<'a>>>,
    pub(super) sessions: Vec<Session<'a>>,
    pub(super) subscriptions: Vec<Subscribed<'a>>,
    /// Those of one session are in the order of its queue.
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) incoming: Vec<Incoming>,
    /// Indexes of the retained contents.
    pub(super) retained: Vec<usize>,
    pub(super) left_out: LeftOut,
    /// Number of sessions whose stored User Name may be that of another one.
    pub(super) doubtful: usize,
    /// The stored User Name of the session before, if it is known to be that of another one.
    repeated: Option<&'a [u8]>,
}

/// The chunks, by their kinds.
#[derive(Default)]
struct Heap<'a> {
    last: Native,
    contents: Vec<Content<'a>>,
    clients: Vec<Client<'a>>,
    entries: Vec<Entry<'a>>,
    subscriptions: Vec<Subscription<'a>>,
    retained: Vec<Native>,
}

impl<'a> Heap<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ImportError> {
        let mut chunks = Chunks::new(bytes)?;
        let mut heap = Self::default();
        while let Some(chunk) = chunks.next()? {
            match chunk {
                Chunk::Configuration { last } => heap.last = last,
                Chunk::Content(content) => heap.contents.push(content),
                Chunk::Client(client) => heap.clients.push(client),
                Chunk::Entry(entry) => heap.entries.push(entry),
                Chunk::Subscription(subscription) => heap.subscriptions.push(subscription),
                Chunk::Retained(number) => heap.retained.push(number),
            }
        }
        Ok(heap)
    }

    /// Returns how to read the numbers of contents so that they rise. They rise on the machine that wrote them, and
    /// the last one is small when read in its byte order. In the other byte order, equal numbers are still equal.
    fn order(&self) -> fn(&Native) -> u64 {
        if BigEndian::read_u64(&self.last) < LittleEndian::read_u64(&self.last) {
            |number| BigEndian::read_u64(number)
        } else {
            |number| LittleEndian::read_u64(number)
        }
    }
}

fn damaged<T>(at: usize, what: &'static str) -> Result<T, ImportError> {
    Err(ImportError::Damaged { at, what })
}

fn text<'a>(bytes: &'a [u8], at: usize, what: &'static str) -> Result<&'a str, ImportError> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map_or_else(|| damaged(at, what), Ok)
}

fn qos(level: u8, at: usize) -> Result<QoS, ImportError> {
    QoS::from_u8(level).map_or_else(|| damaged(at, "a QoS that does not exist"), Ok)
}

/// Finds what the chunks refer to by number or by Client Identifier.
struct Index<'a> {
    /// The numbers of the contents, in the order of [`Tables::contents`].
    contents: Vec<u64>,
    order: fn(&Native) -> u64,
    /// Indexes of the sessions by Client Identifier; `None` for one that is left out.
    sessions: BTreeMap<&'a [u8], Option<usize>>,
}

impl Index<'_> {
    fn content(&self, number: &Native) -> Option<usize> {
        self.contents.binary_search(&(self.order)(number)).ok()
    }

    fn session(&self, client_identifier: &[u8]) -> Option<usize> {
        self.sessions.get(client_identifier).copied().flatten()
    }
}

impl<'a> Tables<'a> {
    /// Reads a whole database. `wall` is the current time in milliseconds since 1970.
    pub(super) fn read(bytes: &'a [u8], wall: u64) -> Result<Self, ImportError> {
        let heap = Heap::read(bytes)?;
        let order = heap.order();
        let Heap { mut contents, clients, entries, subscriptions, retained, .. } = heap;
        let mut tables = Self::default();
        let mut index = Index { contents: Vec::new(), order, sessions: BTreeMap::new() };
        contents.sort_unstable_by_key(|content| (order(&content.number), content.at));
        for content in contents {
            let number = order(&content.number);
            if index.contents.last() == Some(&number) {
                return damaged(content.at, "a number that another message has");
            }
            index.contents.push(number);
            let body = body(&content)?;
            tables.contents.push(body);
        }
        for client in clients {
            let place = tables.take_client(&client, wall)?;
            if index.sessions.insert(client.identifier, place).is_some() {
                return damaged(client.at, "a Client Identifier that another session has");
            }
        }
        for subscription in &subscriptions {
            tables.take_subscription(subscription, &index)?;
        }
        for entry in &entries {
            tables.take_entry(entry, &index, wall)?;
        }
        for number in &retained {
            if let Some(content) = tables.find(index.content(number), wall) {
                tables.retained.push(content);
            }
        }
        tables.leave_out_shared_identifiers();
        Ok(tables)
    }

    fn leave_out(&mut self, reason: Reason) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// Returns the index of a content that can be imported. Otherwise counts the reason.
    fn find(&mut self, place: Option<usize>, wall: u64) -> Option<usize> {
        let reason = match place.map(|place| &self.contents[place]) {
            None => Reason::NotThere,
            Some(None) => Reason::NotValid,
            Some(Some(body)) if body.is_expired(wall) => Reason::MessageExpired,
            Some(Some(_)) => return place,
        };
        self.leave_out(reason);
        None
    }

    /// Adds a session and returns its index, or leaves it out.
    fn take_client(&mut self, client: &Client<'a>, wall: u64) -> Result<Option<usize>, ImportError> {
        let client_identifier = text(client.identifier, client.at, "a Client Identifier that is not text")?;
        if client_identifier.is_empty() {
            return damaged(client.at, "a session without a Client Identifier");
        }
        let user_name = self.user_name(client)?;
        let is_of_a_bridge = client.port == 0 && client.ends == 0;
        let expiry_interval = match client.expiry_interval {
            // Sessions of bridges have no listener, and from version 2.0.15 on they never end.
            0 if is_of_a_bridge => u32::MAX,
            0 => {
                self.leave_out(Reason::SessionEnded);
                return Ok(None);
            }
            seconds => seconds,
        };
        let ends = match (client.ends, expiry_interval) {
            (0, u32::MAX) => u64::MAX,
            // The client was connected when the file was written.
            (0, seconds) => wall.saturating_add(u64::from(seconds) * 1000),
            (seconds, _) => seconds.saturating_mul(1000),
        };
        if ends <= wall {
            self.leave_out(Reason::SessionExpired);
            return Ok(None);
        }
        self.sessions.push(Session {
            client_identifier,
            user_name,
            port: client.port,
            expiry_interval,
            ends,
        });
        Ok(Some(self.sessions.len() - 1))
    }

    /// Returns the User Name of a session. If a session has none, mosquitto 2.0.11 repeats the one of the session
    /// before, with the two bytes of its length swapped each time. So it is written once together with what follows
    /// it in memory, and then as if it were a User Name.
    fn user_name(&mut self, client: &Client<'a>) -> Result<Option<&'a str>, ImportError> {
        let (name, rest) = match client.user_name.iter().position(|&byte| byte == 0) {
            Some(end) => client.user_name.split_at(end),
            None => (client.user_name, &[][..]),
        };
        if !rest.is_empty() {
            self.repeated = Some(name);
            return Ok(None);
        }
        if name.is_empty() {
            self.repeated = None;
            return Ok(None);
        }
        if self.repeated.take() == Some(name) {
            self.doubtful += 1;
        }
        text(name, client.at, "a User Name that is not text").map(Some)
    }

    fn take_subscription(
        &mut self,
        subscription: &Subscription<'a>,
        index: &Index<'_>,
    ) -> Result<(), ImportError> {
        const NO_LOCAL: u8 = 1 << 2;
        const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
        let at = subscription.at;
        let qos = qos(subscription.qos, at)?;
        if subscription.identifier > IDENTIFIER_MAXIMUM {
            return damaged(at, "a Subscription Identifier that does not exist");
        }
        let Some(session) = index.session(subscription.client_identifier) else {
            self.leave_out(Reason::OfNoSession);
            return Ok(());
        };
        let text = std::str::from_utf8(subscription.filter).ok();
        let Some(filter) = text.and_then(|text| TopicFilter::new(text).ok()) else {
            self.leave_out(Reason::NotValid);
            return Ok(());
        };
        self.subscriptions.push(Subscribed {
            session,
            filter,
            qos,
            // [MQTT-3.8.3-4]
            no_local: subscription.options & NO_LOCAL != 0 && filter.share_name().is_none(),
            retain_as_published: subscription.options & RETAIN_AS_PUBLISHED != 0,
            identifier: subscription.identifier,
        });
        Ok(())
    }

    fn take_entry(&mut self, entry: &Entry<'a>, index: &Index<'_>, wall: u64) -> Result<(), ImportError> {
        let qos = qos(entry.qos, entry.at)?;
        let packet_identifier = PacketIdentifier::new(entry.packet_identifier);
        let Some(session) = index.session(entry.client_identifier) else {
            self.leave_out(Reason::OfNoSession);
            return Ok(());
        };
        let progress = match (entry.direction, entry.state, qos, packet_identifier) {
            // The table at the top of this module lists all states.
            (0, 7 | 10 | 11, QoS::ExactlyOnce, Some(packet_identifier)) => {
                let content = self.find(index.content(&entry.content), wall);
                self.incoming.push(Incoming { session, packet_identifier, content });
                return Ok(());
            }
            // Any other message from the client was passed on before it was acknowledged.
            (0, 1..=11, QoS::AtMostOnce | QoS::AtLeastOnce, _) | (0, 1..=9, QoS::ExactlyOnce, Some(_)) => {
                return Ok(());
            }
            (1, 1 | 11, QoS::AtMostOnce, _) | (1, 11, _, _) => Progress::Queued,
            (1, 2 | 3, QoS::AtLeastOnce, _) => Progress::Sent,
            (1, 4 | 5, QoS::ExactlyOnce, Some(packet_identifier)) => Progress::Delivered(packet_identifier),
            (1, 6 | 9, QoS::ExactlyOnce, Some(packet_identifier)) => Progress::Released(packet_identifier),
            (0 | 1, 1..=11, QoS::ExactlyOnce, None) => {
                self.leave_out(Reason::NoPacketIdentifier);
                return Ok(());
            }
            _ => return damaged(entry.at, "a state that no message can be in"),
        };
        let place = index.content(&entry.content);
        let content = match progress {
            Progress::Released(_) => place,
            // The client may know its Packet Identifier, so the delivery must be completed even if the message has
            // expired.
            Progress::Delivered(_) if place.is_some_and(|place| self.contents[place].is_some()) => place,
            _ => match self.find(place, wall) {
                None => return Ok(()),
                found => found,
            },
        };
        let Ok(identifiers) = subscription_identifiers(entry.properties) else {
            return damaged(entry.at, "properties that are not Subscription Identifiers");
        };
        self.outgoing.push(Outgoing {
            session,
            content,
            progress,
            qos,
            is_retained: entry.is_retained,
            identifiers,
        });
        Ok(())
    }

    /// Leaves out messages with a Packet Identifier that an earlier message of the session has in the same direction.
    fn leave_out_shared_identifiers(&mut self) {
        let mut seen = BTreeSet::new();
        let all = self.outgoing.len() + self.incoming.len();
        self.outgoing.retain(|outgoing| match outgoing.progress {
            Progress::Delivered(identifier) | Progress::Released(identifier) => {
                seen.insert((outgoing.session, identifier))
            }
            Progress::Queued | Progress::Sent => true,
        });
        seen.clear();
        self.incoming.retain(|incoming| seen.insert((incoming.session, incoming.packet_identifier)));
        for _ in self.outgoing.len() + self.incoming.len()..all {
            self.leave_out(Reason::NoPacketIdentifier);
        }
    }
}

impl Body<'_> {
    fn is_expired(&self, wall: u64) -> bool {
        self.expires != 0 && self.expires.saturating_mul(1000) <= wall
    }
}

/// Checks a content. Returns `None` if the standards do not allow it.
fn body<'a>(content: &Content<'a>) -> Result<Option<Body<'a>>, ImportError> {
    let qos = qos(content.qos, content.at)?;
    let client_identifier =
        text(content.client_identifier, content.at, "a publisher's Client Identifier that is not text")?;
    let user_name = text(content.user_name, content.at, "a publisher's User Name that is not text")?;
    let topic = std::str::from_utf8(content.topic).ok().and_then(|text| TopicName::new(text).ok());
    let properties = match content.properties {
        [] => Ok(Properties::default()),
        block => Properties::of_publish(block),
    };
    let (Some(topic), Ok(properties)) = (topic, properties) else { return Ok(None) };
    Ok(Some(Body {
        topic,
        payload: content.payload,
        qos,
        is_retained: content.is_retained,
        properties,
        expires: content.expires,
        port: content.port,
        client_identifier,
        user_name,
    }))
}

fn subscription_identifiers(block: &[u8]) -> Result<Identifiers, ()> {
    if block.is_empty() {
        return Ok(Identifiers::default());
    }
    let properties = Properties::of_publish(block).map_err(drop)?;
    let identifiers: Vec<u32> = properties.subscription_identifiers().collect();
    Ok(Identifiers::new(&identifiers))
}
