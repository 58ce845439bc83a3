//! Converts a database of mosquitto into records of this broker: bytes in, records out, so that a change of broker
//! loses nothing. Supports versions 3 to 6 of the format, which mosquitto has written since 1.2.
//!
//! # States
//!
//! mosquitto gives each message of a session a state. This is what becomes of the message here:
//!
//! | direction | state | QoS | becomes |
//! |---|---|---|---|
//! | out | 1 to be sent, 11 queued | 0 | a queued message |
//! | out | 11 queued | 1, 2 | a queued message |
//! | out | 2 to be sent, 3 waits for PUBACK | 1 | a queued message that may have been sent |
//! | out | 4 to be sent, 5 waits for PUBREC | 2 | a queued message, and a delivery with its Packet Identifier |
//! | out | 6 to be released, 9 waits for PUBCOMP | 2 | a released delivery |
//! | in | 7 waits for PUBREL, 10 PUBREC to be sent, 11 queued | 2 | received, and passed on to all matching subscriptions |
//! | in | any other | any | nothing: it was passed on, and its sender will send it again or release it |
//!
//! What mosquitto does not store cannot be imported: Wills, which it publishes before it ends, and Shared
//! Subscriptions, which its clients have to make again after each of its own restarts, too.

mod chunk;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod order;
mod reader;
mod release;
mod tables;
#[cfg(test)]
mod tests;

use crate::base::time::Time;
use crate::core::journal::{
    CopyForm, MessageNumber, NextNumbers, Recipient, Record, SessionNumber, StoredDelivery, StoredMessage,
    StoredPresence, StoredSession, StoredSubscription,
};
use crate::core::listener::ListenerId;
use crate::core::message::{Portable, Publication, Publisher};
use crate::protocol::codec::{Properties, Property, PropertyBuffer};

use order::Order;
pub use reader::ImportError;
use release::{Release, Share};
use tables::{Body, Incoming, Outgoing, Progress, Tables};
pub use tables::{LeftOut, Reason};

/// A database that has been read.
#[derive(Clone, Debug)]
pub struct Import<'a> {
    tables: Tables<'a>,
    order: Order,
}

/// How much will be imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// Retained messages.
    pub retained: usize,
    /// Sessions.
    pub sessions: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages queued or in flight, counted once for each session that receives them.
    pub queued: usize,
    /// QoS 2 messages that their senders have not released.
    pub unreleased: usize,
    /// Sessions that may really have no User Name, because the stored one may stem from an earlier session.
    pub doubtful: usize,
}

/// The listener that a client came in by.
#[derive(Clone, Copy, Debug)]
pub struct Entrance {
    /// The listener.
    pub listener: ListenerId,
    /// Whether it verifies User Names.
    pub proves_names: bool,
}

/// Assigns the numbers of the imported records, and the listener for each port.
struct Numbering<'n> {
    next: NextNumbers,
    entrance: &'n dyn Fn(u16) -> Entrance,
}

impl Numbering<'_> {
    fn session(&self, place: usize) -> SessionNumber {
        SessionNumber(self.next.session.0.saturating_add(place as u64))
    }

    fn message(&self, place: usize) -> MessageNumber {
        MessageNumber(self.next.message.0.saturating_add(place as u64))
    }

    fn recipient(&self, outgoing: &Outgoing) -> Recipient {
        let identifiers = outgoing.identifiers.clone();
        let form = CopyForm { qos: outgoing.qos, retain: outgoing.is_retained, identifiers, group: None };
        Recipient { session: self.session(outgoing.session), form, identifier: None }
    }

    fn portable(&self, body: &Body<'_>) -> Portable {
        let publisher = Publisher {
            listener: (self.entrance)(body.port).listener,
            client_identifier: body.client_identifier,
            user_name: (!body.user_name.is_empty()).then_some(body.user_name),
        };
        let names = body.client_identifier.len() + body.user_name.len();
        let is_known = !body.client_identifier.is_empty() && names <= Publisher::LENGTH_MAXIMUM;
        let publisher = (body.is_retained && is_known).then(|| publisher.written());
        let mut properties = PropertyBuffer::default();
        Portable::new(&Publication {
            topic: body.topic,
            payload: body.payload,
            qos: body.qos,
            retain: body.is_retained,
            publisher: publisher.as_deref(),
            properties: forwarded(body.properties, &mut properties),
            expires: match body.expires {
                0 => Time::NEVER,
                seconds => Time::from_milliseconds(seconds.saturating_mul(1000)),
            },
        })
    }
}

/// Returns the properties that are forwarded to receivers unchanged.
fn forwarded<'b>(properties: Properties<'_>, buffer: &'b mut PropertyBuffer) -> Properties<'b> {
    for (property, encoded) in properties.encoded() {
        match property {
            Property::MessageExpiryInterval(_)
            | Property::TopicAlias(_)
            | Property::SubscriptionIdentifier(_) => {}
            _ => buffer.push_encoded(encoded),
        }
    }
    buffer.properties()
}

impl<'a> Import<'a> {
    /// Reads a whole database. `wall` is the current time in milliseconds since 1970, which decides what has expired.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and at which byte.
    pub fn read(bytes: &'a [u8], wall: u64) -> Result<Self, ImportError> {
        let tables = Tables::read(bytes, wall)?;
        let order = Order::new(&tables);
        Ok(Self { tables, order })
    }

    /// Returns how much will be imported.
    pub fn brought(&self) -> Brought {
        let is_message = |outgoing: &&Outgoing| !outgoing.is_released();
        Brought {
            retained: self.tables.retained.len(),
            sessions: self.tables.sessions.len(),
            subscriptions: self.tables.subscriptions.len(),
            queued: self.tables.outgoing.iter().filter(is_message).count(),
            unreleased: self.tables.incoming.len(),
            doubtful: self.tables.doubtful,
        }
    }

    /// Returns what will not be imported.
    pub const fn left_out(&self) -> &LeftOut {
        &self.tables.left_out
    }

    /// Passes all records to `write`. Numbers begin with `next`, and `entrance` returns the listener of a port. Times
    /// are milliseconds since 1970, so the records belong in a batch whose `now` is of this kind, too.
    ///
    /// # Errors
    ///
    /// The first error of `write`, after which it is not called again.
    pub fn records<E>(
        &self,
        next: NextNumbers,
        entrance: &dyn Fn(u16) -> Entrance,
        mut write: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let numbering = Numbering { next, entrance };
        self.sessions(&numbering).try_for_each(&mut write)?;
        self.subscriptions(&numbering).try_for_each(&mut write)?;
        for place in 0..self.order.len() {
            self.message(place, &numbering).try_for_each(&mut write)?;
        }
        self.retained(&numbering).try_for_each(&mut write)?;
        let release = Release::new(&self.tables);
        for (place, incoming) in self.tables.incoming.iter().enumerate() {
            let number = numbering.message(self.order.len() + place);
            let received = Record::Received(numbering.session(incoming.session), incoming.packet_identifier);
            let passed_on = self.passed_on(number, incoming, &release, &numbering);
            passed_on.into_iter().chain([received]).try_for_each(&mut write)?;
        }
        Ok(())
    }

    fn sessions(&self, numbering: &Numbering<'_>) -> impl Iterator<Item = Record> {
        let sent_until = self.sent_until();
        self.tables.sessions.iter().zip(sent_until).enumerate().map(|(place, (session, sent_until))| {
            let entrance = (numbering.entrance)(session.port);
            Record::Session(Box::new(StoredSession {
                number: numbering.session(place),
                client_identifier: session.client_identifier.to_owned(),
                user_name: session.user_name.map(str::to_owned),
                is_proved: session.user_name.is_some() && entrance.proves_names,
                listener: entrance.listener,
                expiry_interval: session.expiry_interval,
                presence: StoredPresence::Away {
                    ends: Time::from_milliseconds(session.ends),
                    sent_until: sent_until.map(|message| numbering.message(message)),
                },
                will: None,
            }))
        })
    }

    /// Returns for each session the last message that may have been sent to it.
    fn sent_until(&self) -> Vec<Option<usize>> {
        let mut until = vec![None; self.tables.sessions.len()];
        for message in 0..self.order.len() {
            for outgoing in self.order.of(message, &self.tables) {
                if outgoing.progress != Progress::Queued {
                    until[outgoing.session] = Some(message);
                }
            }
        }
        until
    }

    fn subscriptions(&self, numbering: &Numbering<'_>) -> impl Iterator<Item = Record> {
        self.tables.subscriptions.iter().map(|subscription| {
            let stored = StoredSubscription {
                filter: subscription.filter.as_str().to_owned(),
                qos: subscription.qos,
                no_local: subscription.no_local,
                retain_as_published: subscription.retain_as_published,
                identifier: subscription.identifier,
                owes_retained: false,
            };
            Record::Subscribed(numbering.session(subscription.session), stored)
        })
    }

    /// The records of one message: the message with its recipients, and its deliveries in progress.
    fn message(&self, place: usize, numbering: &Numbering<'_>) -> impl Iterator<Item = Record> {
        let number = numbering.message(place);
        let waiting = self.order.of(place, &self.tables).filter(|outgoing| !outgoing.is_released());
        let body = waiting.clone().find_map(|outgoing| self.body(outgoing.content));
        let stored = body.map(|body| {
            let recipients = waiting.map(|outgoing| numbering.recipient(outgoing)).collect();
            Record::Message(StoredMessage { number, message: numbering.portable(body), recipients })
        });
        let deliveries = self.order.of(place, &self.tables).filter_map(move |outgoing| {
            let (Progress::Delivered(identifier) | Progress::Released(identifier)) = outgoing.progress else {
                return None;
            };
            let delivery =
                StoredDelivery { identifier, message: number, is_released: outgoing.is_released() };
            Some(Record::Delivery(numbering.session(outgoing.session), delivery))
        });
        stored.into_iter().chain(deliveries)
    }

    fn retained(&self, numbering: &Numbering<'_>) -> impl Iterator<Item = Record> {
        let bodies = self.tables.retained.iter().filter_map(|&content| self.body(Some(content)));
        bodies.map(|body| Record::Retained(numbering.portable(body)))
    }

    /// The records of a QoS 2 message that is passed on by the import.
    fn passed_on(
        &self,
        number: MessageNumber,
        incoming: &Incoming,
        release: &Release<'_, '_>,
        numbering: &Numbering<'_>,
    ) -> Vec<Record> {
        let Some(body) = self.body(incoming.content) else { return Vec::new() };
        let recipient = |share: Share| Recipient {
            session: numbering.session(share.session),
            form: CopyForm {
                qos: share.qos,
                retain: share.retain,
                identifiers: share.identifiers,
                group: None,
            },
            identifier: None,
        };
        let recipients: Vec<Recipient> = release.shares(incoming, body).into_iter().map(recipient).collect();
        let mut records = Vec::new();
        if !recipients.is_empty() {
            let message = numbering.portable(body);
            records.push(Record::Message(StoredMessage { number, message, recipients: recipients.into() }));
        }
        if body.is_retained {
            records.push(match body.payload {
                // [MQTT-3.3.1-6]
                [] => Record::Cleared(body.topic.as_str().to_owned()),
                _ => Record::Retained(numbering.portable(body)),
            });
        }
        records
    }

    fn body(&self, content: Option<usize>) -> Option<&Body<'a>> {
        self.tables.contents.get(content?)?.as_ref()
    }
}
