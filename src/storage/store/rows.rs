//! The content of rows: conversion of times, publications and recipients, in both directions.

use std::num::NonZeroU64;
use std::sync::Arc;

use log::warn;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use super::StoreError;
use super::error::Outcome;
use super::listeners::Listeners;
use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::core::journal::{
    CopyForm, MessageNumber, Recipient, SessionNumber, StoredPresence, StoredSession, StoredSubscription,
    StoredWill,
};
use crate::core::message::{Portable, Publication};
use crate::core::subscription::{IDENTIFIER_MAXIMUM, Identifiers};
use crate::protocol::codec::{PacketIdentifier, Properties, QoS};
use crate::protocol::topic::TopicName;
use crate::storage::timeline::Timeline;

/// One moment, both on the broker's clock and on the timeline, from which all others are computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    now: Time,
    moment: u64,
}

impl Present {
    pub(super) fn new(now: Time, timeline: &Timeline) -> Self {
        Self { now, moment: timeline.at(now) }
    }

    /// Converts a time for a row; null means never.
    pub(super) fn written(self, time: Time) -> Option<i64> {
        if time == Time::NEVER {
            return None;
        }
        let ahead = time.since(self.now).milliseconds();
        let behind = self.now.since(time).milliseconds();
        let moment = self.moment.saturating_add(ahead).saturating_sub(behind);
        Some(i64::try_from(moment).unwrap_or(i64::MAX))
    }

    /// Returns the time left until `time`, for a row; null means no end.
    pub(super) fn lifetime(self, time: Time) -> Option<i64> {
        (time != Time::NEVER).then(|| span(time.since(self.now)))
    }

    /// Converts a time from a row, at most `most` after now. After a crash the timeline may resume a little earlier
    /// than it had got, and nothing must last longer than was asked for.
    pub(super) fn read(self, written: Option<i64>, most: Option<Duration>) -> Time {
        let Some(written) = written else { return Time::NEVER };
        let moment = u64::try_from(written).unwrap_or(0);
        let ahead = Duration::from_milliseconds(moment.saturating_sub(self.moment));
        let behind = Duration::from_milliseconds(self.moment.saturating_sub(moment));
        self.now + most.map_or(ahead, |most| ahead.min(most)) - behind
    }

    /// Reads when a message expires. `column` holds the lifetime it had when it was stored, and the next column the
    /// time of its end.
    pub(super) fn expires(self, row: &Row<'_>, column: usize) -> Outcome<Time> {
        let lifetime: Option<u64> = row.get(column)?;
        Ok(self.read(row.get(column + 1)?, lifetime.map(Duration::from_milliseconds)))
    }

    /// How long ago a moment of a row was; not at all if it lies in the future.
    pub(super) const fn age(self, written: u64) -> Duration {
        Duration::from_milliseconds(self.moment.saturating_sub(written))
    }

    /// Whether a time lies in the future.
    pub(super) fn is_ahead(self, time: Time) -> bool {
        time > self.now
    }
}

/// What is needed to convert rows, because times and listeners are represented differently in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation<'a> {
    pub(super) present: Present,
    pub(super) listeners: &'a Listeners,
}

/// Converts a duration for a row.
pub(super) fn span(duration: Duration) -> i64 {
    i64::try_from(duration.milliseconds()).unwrap_or(i64::MAX)
}

/// Converts a number for a row.
pub(super) fn key(number: NonZeroU64) -> i64 {
    i64::try_from(number.get()).expect("numbers start small and grow by one, and no larger ones are read")
}

/// The largest valid number. Beyond it, too few would be left to give.
const NUMBER_MAXIMUM: i64 = i64::MAX / 2;

fn number(row: &Row<'_>, column: usize, what: &str) -> Outcome<NonZeroU64> {
    let value = row.get_ref(column)?.as_i64()?;
    let number = u64::try_from(value).ok().and_then(NonZeroU64::new).filter(|_| value <= NUMBER_MAXIMUM);
    number.ok_or_else(|| StoreError::nonsense(what))
}

pub(super) fn session_number(row: &Row<'_>, column: usize) -> Outcome<SessionNumber> {
    number(row, column, "the number of a session").map(SessionNumber)
}

pub(super) fn message_number(row: &Row<'_>, column: usize) -> Outcome<MessageNumber> {
    number(row, column, "the number of a message").map(MessageNumber)
}

pub(super) fn packet_identifier(row: &Row<'_>, column: usize) -> Outcome<PacketIdentifier> {
    let value = row.get_ref(column)?.as_i64()?;
    let identifier = u16::try_from(value).ok().and_then(PacketIdentifier::new);
    identifier.ok_or_else(|| StoreError::nonsense("a Packet Identifier"))
}

/// Reads an integer that holds flags.
pub(super) fn flags(row: &Row<'_>, column: usize) -> Outcome<u8> {
    let value = row.get_ref(column)?.as_i64()?;
    u8::try_from(value).map_err(|_| StoreError::nonsense("flags"))
}

/// Returns the QoS from the lowest two bits.
pub(super) fn qos_of(flags: u8) -> Outcome<QoS> {
    QoS::from_u8(flags & QOS).ok_or_else(|| StoreError::nonsense("a QoS"))
}

/// The mask of the QoS in all flags, and further flags of publications and copies.
const QOS: u8 = 3;
const RETAIN: u8 = 1 << 2;
const HAS_IDENTIFIERS: u8 = 1 << 3;
const HAS_GROUP: u8 = 1 << 4;
const HAS_BEGUN: u8 = 1 << 5;

/// Returns the flags of a publication.
pub(super) fn publication_flags(publication: &Publication<'_>) -> u8 {
    publication.qos.level() | if publication.retain { RETAIN } else { 0 }
}

/// Reads `expires, flags, topic, publisher, properties, payload`, starting at `column`. The caller has already read
/// when the message expires. Returns `None` if nothing may be published to the topic: an earlier version may have
/// allowed topics that this one does not.
pub(super) fn publication(
    row: &Row<'_>,
    column: usize,
    expires: Time,
    listeners: &Listeners,
) -> Outcome<Option<Portable>> {
    let flags = flags(row, column + 1)?;
    let topic = row.get_ref(column + 2)?.as_str()?;
    let properties = Properties::trusted(row.get_ref(column + 4)?.as_blob()?);
    let length: usize = properties.encoded().map(|(_, bytes)| bytes.len()).sum();
    if length != properties.bytes().len() {
        return Err(StoreError::nonsense("properties"));
    }
    let topic = match TopicName::new(topic) {
        Ok(topic) => topic,
        Err(why) => {
            warn!(
                "Warning: a message in the store is ignored: '{}' is not a Topic Name: {why}.",
                Escaped(topic)
            );
            return Ok(None);
        }
    };
    let publisher = row.get_ref(column + 3)?.as_str_or_null()?.map(|text| listeners.publisher_read(text));
    Ok(Some(Portable::new(&Publication {
        topic,
        payload: row.get_ref(column + 5)?.as_blob()?,
        qos: qos_of(flags)?,
        retain: flags & RETAIN != 0,
        publisher: publisher.as_deref(),
        properties,
        expires,
    })))
}

/// Writes the recipients of a message one after the other. Each consists of the session and the flags. If there are
/// Subscription Identifiers, their number and the identifiers follow. For a Shared Subscription the length and the
/// text of its filter follow, and for a QoS 1 delivery that has begun, the Packet Identifier.
pub(super) fn write_recipients(recipients: &[Recipient], bytes: &mut Vec<u8>) {
    bytes.clear();
    for Recipient { session, form, identifier } in recipients {
        let identifiers = form.identifiers.as_slice();
        write_number(session.0.get(), bytes);
        bytes.push(
            form.qos.level()
                | if form.retain { RETAIN } else { 0 }
                | if identifiers.is_empty() { 0 } else { HAS_IDENTIFIERS }
                | if form.group.is_some() { HAS_GROUP } else { 0 }
                | if identifier.is_some() { HAS_BEGUN } else { 0 },
        );
        if !identifiers.is_empty() {
            write_number(identifiers.len() as u64, bytes);
            identifiers.iter().for_each(|identifier| write_number(u64::from(*identifier), bytes));
        }
        if let Some(group) = &form.group {
            write_number(group.len() as u64, bytes);
            bytes.extend_from_slice(group.as_bytes());
        }
        if let Some(identifier) = identifier {
            bytes.extend_from_slice(&identifier.value().to_be_bytes());
        }
    }
}

/// Writes a number with seven bits in each byte, the lowest first. The eighth bit says that more follow.
fn write_number(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 0x7F {
        bytes.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7F) as u8);
}

/// An iterator over the recipients of a message.
pub(super) struct Recipients<'a> {
    bytes: &'a [u8],
}

impl<'a> Recipients<'a> {
    /// Reads what [`write_recipients`] has written.
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn read(&mut self) -> Option<Recipient> {
        let session = SessionNumber(NonZeroU64::new(self.number()?)?);
        let (&flags, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        let count = if flags & HAS_IDENTIFIERS == 0 { 0 } else { self.number()? };
        let mut identifier = || {
            let identifier = u32::try_from(self.number()?).ok();
            identifier.filter(|identifier| (1..=IDENTIFIER_MAXIMUM).contains(identifier))
        };
        let identifiers: Option<Vec<u32>> = (0..count).map(|_| identifier()).collect();
        let identifiers = Identifiers::new(&identifiers?);
        let group = if flags & HAS_GROUP == 0 { None } else { Some(self.text()?) };
        let (qos, retain) = (QoS::from_u8(flags & QOS)?, flags & RETAIN != 0);
        let form = CopyForm { qos, retain, identifiers, group };
        let identifier = if flags & HAS_BEGUN == 0 { None } else { Some(self.identifier()?) };
        Some(Recipient { session, form, identifier })
    }

    fn identifier(&mut self) -> Option<PacketIdentifier> {
        let (&value, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        PacketIdentifier::new(u16::from_be_bytes(value))
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(std::str::from_utf8(text).ok()?.into())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

impl Iterator for Recipients<'_> {
    type Item = Outcome<Recipient>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let recipient = self.read();
        if recipient.is_none() {
            self.bytes = &[];
        }
        Some(recipient.ok_or_else(|| StoreError::nonsense("the recipients of a message")))
    }
}

/// Flags of a subscription, besides the QoS.
const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
const OWES_RETAINED: u8 = 1 << 4;

/// Returns the flags of a subscription.
pub(super) fn subscription_flags(subscription: &StoredSubscription) -> u8 {
    subscription.qos.level()
        | if subscription.no_local { NO_LOCAL } else { 0 }
        | if subscription.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
        | if subscription.owes_retained { OWES_RETAINED } else { 0 }
}

/// Reads `filter, flags, identifier`, starting at `column`.
pub(super) fn subscription(row: &Row<'_>, column: usize) -> Outcome<StoredSubscription> {
    let flags = flags(row, column + 1)?;
    let identifier: u32 = row.get(column + 2)?;
    if identifier > IDENTIFIER_MAXIMUM {
        return Err(StoreError::nonsense("a Subscription Identifier"));
    }
    Ok(StoredSubscription {
        filter: row.get(column)?,
        qos: qos_of(flags)?,
        no_local: flags & NO_LOCAL != 0,
        retain_as_published: flags & RETAIN_AS_PUBLISHED != 0,
        identifier,
        owes_retained: flags & OWES_RETAINED != 0,
    })
}

/// Reads a session from a row with all columns of the table, in their order.
pub(super) fn session(row: &Row<'_>, translation: Translation<'_>) -> Outcome<StoredSession> {
    let Translation { present, listeners } = translation;
    let expiry_interval: u32 = row.get(4)?;
    let presence = if row.get(5)? {
        let sent_until = match row.get_ref(7)? {
            ValueRef::Null => None,
            _ => Some(message_number(row, 7)?),
        };
        let most = Duration::from_seconds(expiry_interval.into());
        StoredPresence::Away { ends: present.read(row.get(6)?, Some(most)), sent_until }
    } else {
        StoredPresence::Connected
    };
    let delay: Option<u64> = row.get(8)?;
    let will = delay.map(|delay| {
        let expires: Option<u64> = row.get(10)?;
        let expires = expires.map_or(Time::NEVER, Time::from_milliseconds);
        let delay = Duration::from_milliseconds(delay);
        let due = present.read(row.get(9)?, Some(delay));
        let message = publication(row, 10, expires, listeners)?;
        Ok::<_, StoreError>(message.map(|message| StoredWill { message, delay, due }))
    });
    Ok(StoredSession {
        number: session_number(row, 0)?,
        client_identifier: row.get(1)?,
        user_name: row.get(2)?,
        is_proved: row.get(16)?,
        listener: listeners.find(row.get(3)?),
        expiry_interval,
        presence,
        will: will.transpose()?.flatten(),
    })
}
