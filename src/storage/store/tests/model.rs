//! A model of what a store must hold and hand out, as plain as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use crate::base::time::{Duration, Time};
use crate::core::journal::{
    MessageNumber, Owed, Recipient, Record, Restored, SessionNumber, StoredCopy, StoredDelivery,
    StoredPresence, StoredSession, StoredSubscription, StoredWill,
};
use crate::core::message::Portable;
use crate::core::message::Publication;
use crate::protocol::codec::{PacketIdentifier, QoS};

/// All times in it are those of the timeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) sessions: BTreeMap<u64, StoredSession>,
    subscriptions: BTreeMap<(u64, String), StoredSubscription>,
    received: BTreeSet<(u64, u16)>,
    deliveries: BTreeMap<(u64, u16), StoredDelivery>,
    pub(super) messages: BTreeMap<u64, (Portable, Vec<Recipient>)>,
    pub(super) settled: BTreeSet<(u64, u64)>,
    retained: BTreeMap<String, Portable>,
    /// The lifetimes that messages had when they were stored: by number, and of retained messages by topic.
    lifetimes: BTreeMap<u64, Duration>,
    retained_lifetimes: BTreeMap<String, Duration>,
    former: BTreeSet<SessionNumber>,
    owed: BTreeSet<Owed>,
    begun: BTreeMap<(u64, u64), PacketIdentifier>,
    /// When messages for bridges have come, from each of these numbers on.
    arrivals: BTreeMap<u64, u64>,
}

/// The same message, with its expiry converted.
fn shifted(message: &Portable, shift: impl Fn(Time) -> Time) -> Portable {
    let publication = message.publication();
    Portable::new(&Publication { expires: shift(publication.expires), ..publication })
}

/// The time, but at most `most` after `now`.
fn bounded(time: Time, now: u64, most: Duration) -> Time {
    if time == Time::NEVER { time } else { time.min(Time::from_milliseconds(now) + most) }
}

/// The same session, with no more time left than was asked for.
fn bounded_session(session: &StoredSession, now: u64) -> StoredSession {
    let most = Duration::from_seconds(session.expiry_interval.into());
    let presence = match session.presence {
        StoredPresence::Away { ends, sent_until } => {
            StoredPresence::Away { ends: bounded(ends, now, most), sent_until }
        }
        connected => connected,
    };
    let will = session.will.as_ref();
    let will = will.map(|will| StoredWill { due: bounded(will.due, now, will.delay), ..will.clone() });
    StoredSession { presence, will, ..session.clone() }
}

/// The same session by another clock.
fn shifted_session(session: &StoredSession, shift: impl Fn(Time) -> Time) -> StoredSession {
    let presence = match session.presence {
        StoredPresence::Away { ends, sent_until } => StoredPresence::Away { ends: shift(ends), sent_until },
        connected => connected,
    };
    let will = session.will.as_ref().map(|will| StoredWill { due: shift(will.due), ..will.clone() });
    StoredSession { presence, will, ..session.clone() }
}

/// Converts times from one clock to another.
fn shift(from: u64, to: u64) -> impl Fn(Time) -> Time {
    move |time| match time {
        Time::NEVER => Time::NEVER,
        time => time + Duration::from_milliseconds(to) - Duration::from_milliseconds(from),
    }
}

impl Model {
    /// Applies a record. `line` is the moment of the timeline at the broker's time `now`.
    pub(super) fn apply(&mut self, record: &Record, now: u64, line: u64) {
        let shift = shift(now, line);
        let lifetime = |message: &Portable| message.publication().expires.since(Time::from_milliseconds(now));
        match record {
            Record::Session(session) => {
                self.sessions.insert(session.number.0.get(), shifted_session(session, shift));
            }
            Record::Message(message) => {
                let content = (shifted(&message.message, shift), message.recipients.to_vec());
                self.messages.insert(message.number.0.get(), content);
                self.lifetimes.insert(message.number.0.get(), lifetime(&message.message));
            }
            Record::Arrived { message, at, oldest } => {
                self.arrivals.insert(message.0.get(), shift(*at).milliseconds());
                let first = self.arrivals.range(..=oldest.0.get()).next_back().map(|(first, _)| *first);
                self.arrivals.retain(|number, _| first.is_none_or(|first| *number >= first));
            }
            Record::Retained(message) => {
                let topic = message.publication().topic.as_str().to_owned();
                self.retained_lifetimes.insert(topic.clone(), lifetime(message));
                self.retained.insert(topic, shifted(message, shift));
            }
            timeless => self.apply_timeless(timeless),
        }
    }

    fn apply_timeless(&mut self, record: &Record) {
        match record {
            Record::Session(_) | Record::Message(_) | Record::Arrived { .. } | Record::Retained(_) => {
                unreachable!("they are about time")
            }
            Record::Listener(..) => {}
            Record::SessionEnded { session, leaves_shared } => self.end(*session, *leaves_shared),
            Record::FormerEnded(session) => {
                self.former.remove(session);
                self.deliveries.retain(|key, _| key.0 != session.0.get());
            }
            Record::Subscribed(session, subscription) => {
                let key = (session.0.get(), subscription.filter.clone());
                self.subscriptions.insert(key, subscription.clone());
            }
            Record::Unsubscribed(session, filter) => {
                self.subscriptions.remove(&(session.0.get(), filter.clone()));
            }
            Record::Settled { message, is_last: true, .. } => {
                self.messages.remove(&message.0.get());
            }
            Record::Settled { message, session, is_last: false } => {
                self.settled.insert((message.0.get(), session.0.get()));
            }
            Record::Begun { message, session, identifier } => {
                let key = (message.0.get(), session.0.get());
                if self.messages.contains_key(&key.0) {
                    self.begun.insert(key, *identifier);
                }
            }
            Record::Received(session, identifier) => {
                self.received.insert((session.0.get(), identifier.value()));
            }
            Record::Released(session, identifier) => {
                self.received.remove(&(session.0.get(), identifier.value()));
            }
            Record::Delivery(session, delivery) => {
                self.deliveries.insert((session.0.get(), delivery.identifier.value()), *delivery);
            }
            Record::Completed(session, identifier) => {
                self.deliveries.remove(&(session.0.get(), identifier.value()));
            }
            Record::Cleared(topic) => {
                self.retained.remove(topic);
            }
            Record::Owed(owed) => {
                self.owed.insert(owed.clone());
            }
            Record::Sent(owed) => {
                self.owed.remove(owed);
            }
            Record::NothingOwed(client) => self.owed.retain(|owed| owed.client_identifier != *client),
        }
    }

    fn end(&mut self, number: SessionNumber, leaves_shared: bool) {
        let session = number.0.get();
        self.sessions.remove(&session);
        self.subscriptions.retain(|key, _| key.0 != session);
        self.received.retain(|key| key.0 != session);
        match leaves_shared {
            true => drop(self.former.insert(number)),
            false => self.deliveries.retain(|key, _| key.0 != session),
        }
    }

    /// Whether a session that exists still needs a message.
    fn needs(&self, message: u64, session: SessionNumber) -> bool {
        self.sessions.contains_key(&session.0.get()) && !self.settled.contains(&(message, session.0.get()))
    }

    /// The copy that belongs to a delivery.
    fn copy(&self, session: u64, delivery: &StoredDelivery) -> Option<StoredCopy> {
        let number = delivery.message.0.get();
        let (message, recipients) = self.messages.get(&number)?;
        let recipient = recipients.iter().find(|recipient| recipient.session.0.get() == session)?;
        let form = self.needs(number, recipient.session).then(|| recipient.form.clone())?;
        Some(StoredCopy { number: delivery.message, message: message.clone(), form })
    }

    /// The progress of a copy that is still needed. A queued copy is not needed once its message has expired.
    fn progress(
        &self,
        message: u64,
        recipient: &Recipient,
        in_delivery: &BTreeSet<(u64, u64)>,
        is_ahead: bool,
    ) -> Option<Progress> {
        let session = recipient.session.0.get();
        if self.settled.contains(&(message, session)) {
            return None;
        }
        if !self.sessions.contains_key(&session) {
            let mut deliveries = self.deliveries.iter().filter(|((owner, _), _)| *owner == session);
            let has_begun =
                deliveries.any(|(_, delivery)| delivery.message.0.get() == message && !delivery.is_released);
            let is_left = self.former.contains(&recipient.session) && recipient.form.group.is_some();
            return (is_left && !has_begun && is_ahead).then_some(Progress::Waits);
        }
        match self.begun.get(&(message, session)).copied().or(recipient.identifier) {
            Some(identifier) => Some(Progress::Begun(identifier)),
            None if in_delivery.contains(&(message, session)) => Some(Progress::InDelivery),
            None => is_ahead.then_some(Progress::Waits),
        }
    }

    /// When messages for bridges have come, at this moment of the timeline.
    fn arrived(&self, line: u64) -> impl Iterator<Item = Restored> {
        self.arrivals.iter().map(move |(number, moment)| {
            let message = MessageNumber(NonZeroU64::new(*number).expect("it is one"));
            Restored::Arrived(message, Duration::from_milliseconds(line.saturating_sub(*moment)))
        })
    }

    /// What is owed for copies with RETAIN that have expired in queues.
    fn expired(
        &self,
        message: u64,
        topic: &str,
        recipients: &[Recipient],
        progress: impl Fn(&Recipient) -> Option<Progress>,
    ) -> Vec<Owed> {
        let is_owed =
            |to: &&Recipient| to.form.retain && progress(to).is_none() && self.needs(message, to.session);
        let owed = recipients.iter().filter(is_owed).map(|to| Owed {
            client_identifier: self.sessions[&to.session.0.get()].client_identifier.clone(),
            topic: topic.to_owned(),
        });
        owed.collect()
    }

    /// What must be handed out, in words and in order. `line` is the moment of the timeline at the broker's time
    /// `now`.
    pub(super) fn restored(&self, now: u64, line: u64) -> Vec<String> {
        let (shift, mut all) = (shift(line, now), Vec::new());
        let message_now = |message: &Portable, number: u64| {
            shifted(message, |time| bounded(shift(time), now, self.lifetimes[&number]))
        };
        let is_ahead = |message: &Portable| message.publication().expires > Time::from_milliseconds(now);
        for session in self.sessions.values() {
            all.push(Restored::Session(Box::new(bounded_session(&shifted_session(session, &shift), now))));
        }
        all.extend(self.former.iter().map(|session| Restored::Former(*session)));
        for ((session, _), subscription) in &self.subscriptions {
            if let Some(session) = self.sessions.get(session) {
                all.push(Restored::Subscription(session.number, subscription.clone()));
            }
        }
        for (session, identifier) in &self.received {
            if let Some(session) = self.sessions.get(session) {
                let identifier = PacketIdentifier::new(*identifier).expect("it is one");
                all.push(Restored::Received(session.number, identifier));
            }
        }
        let mut in_delivery = BTreeSet::new();
        let mut deliveries: Vec<_> = self.deliveries.iter().collect();
        deliveries.sort_by_key(|((session, identifier), delivery)| (*session, delivery.message, *identifier));
        for ((session, _), delivery) in deliveries {
            let Some(stored) = self.sessions.get(session) else { continue };
            let copy = self.copy(*session, delivery).filter(|_| !delivery.is_released).map(|copy| {
                in_delivery.insert((delivery.message.0.get(), *session));
                let message = message_now(&copy.message, copy.number.0.get());
                Box::new(StoredCopy { message, ..copy })
            });
            if delivery.is_released || copy.is_some() {
                all.push(Restored::Delivery(stored.number, *delivery, copy));
            }
        }
        let mut owed = self.owed.clone();
        for (number, (message, recipients)) in &self.messages {
            let content = message_now(message, *number);
            let is_ahead = is_ahead(&content);
            let progress = |to: &Recipient| self.progress(*number, to, &in_delivery, is_ahead);
            if !is_ahead {
                owed.extend(self.expired(
                    *number,
                    content.publication().topic.as_str(),
                    recipients,
                    progress,
                ));
            }
            all.extend(restored_message(*number, &content, recipients, progress));
        }
        all.extend(owed.into_iter().map(Restored::Owed));
        all.extend(self.arrived(line));
        let mut words: Vec<String> = all.iter().map(in_words).collect();
        let retained = self.retained.iter().map(|(topic, message)| {
            let lifetime = self.retained_lifetimes[topic];
            shifted(message, |time| bounded(shift(time), now, lifetime))
        });
        words.extend(retained.filter(is_ahead).map(|message| in_words(&Restored::Retained(message))));
        words
    }
}

/// The progress of a copy.
#[derive(Clone, Copy, Debug)]
enum Progress {
    Waits,
    /// Its QoS 2 delivery has begun and is not released.
    InDelivery,
    /// Its QoS 1 delivery has begun.
    Begun(PacketIdentifier),
}

/// What is handed out for one message.
fn restored_message(
    number: u64,
    content: &Portable,
    recipients: &[Recipient],
    progress: impl Fn(&Recipient) -> Option<Progress>,
) -> Vec<Restored> {
    let message = super::records::message_number(number);
    let (mut sessions, mut in_flight, mut begun, mut group) = (Vec::new(), Vec::new(), Vec::new(), None);
    let (mut lowest_qos, mut has_retain) = (QoS::ExactlyOnce, false);
    for recipient in recipients {
        let Some(progress) = progress(recipient) else { continue };
        match progress {
            Progress::Waits => {
                sessions.push(recipient.session);
                lowest_qos = lowest_qos.min(recipient.form.qos);
                has_retain |= recipient.form.retain;
            }
            Progress::InDelivery | Progress::Begun(_) => in_flight.push(recipient.session),
        }
        if let Progress::Begun(identifier) = progress {
            begun.push(Recipient { identifier: Some(identifier), ..recipient.clone() });
        }
        group.clone_from(&recipient.form.group);
    }
    let mut restored = Vec::new();
    if !begun.is_empty() {
        restored.push(Restored::Begun { message, content: content.clone(), recipients: begun });
    }
    if !(sessions.is_empty() && in_flight.is_empty()) {
        let publication = content.publication();
        let (length, expires) = (publication.length(), publication.expires);
        let retained = has_retain.then(|| publication.topic.as_str().into());
        restored.push(Restored::Waiting {
            message,
            length,
            expires,
            lowest_qos,
            sessions,
            in_flight,
            group,
            retained,
        });
    }
    restored
}

/// The same for what a store has handed out. Retained messages come in any order, so they are sorted by topic.
pub(super) fn in_words_of_all(all: &[Restored]) -> Vec<String> {
    let is_retained = |restored: &&Restored| matches!(restored, Restored::Retained(_));
    let mut words: Vec<String> = all.iter().filter(|restored| !is_retained(restored)).map(in_words).collect();
    let mut retained: Vec<&Restored> = all.iter().filter(is_retained).collect();
    retained.sort_by_key(|restored| match restored {
        Restored::Retained(message) => message.publication().topic.as_str().to_owned(),
        _ => String::new(),
    });
    words.extend(retained.into_iter().map(in_words));
    words
}

fn in_words(restored: &Restored) -> String {
    format!("{restored:?}")
}
