//! The store as its interface describes it, in plain maps: what became durable, and nothing else. It uses the time of
//! the world, since a broker's own time starts anew with each process.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use brooklet::base::time::{Duration, Time};
use brooklet::core::journal::{
    Batch, Fetch, MessageNumber, NextNumbers, Owed, Page, PageCopy, Pages, Recipient, Record, Restored,
    SessionNumber, StoredCopy, StoredDelivery, StoredMessage, StoredPresence, StoredSession,
    StoredSubscription,
};
use brooklet::core::message::{Portable, Publication};
use brooklet::protocol::codec::{PacketIdentifier, QoS};

use crate::chance::Chance;

/// The relation between a broker's time and the world's.
#[derive(Clone, Copy, Debug)]
pub struct Epoch(Duration);

impl Epoch {
    /// When the broker's time is `here`, the world's is `there`, which is not before it.
    pub const fn new(here: Time, there: Time) -> Self {
        Self(there.since(here))
    }

    pub fn to_world(self, time: Time) -> Time {
        if time == Time::NEVER { time } else { time + self.0 }
    }

    /// A time before the broker's time began becomes the time of its start.
    pub fn to_broker(self, time: Time) -> Time {
        if time == Time::NEVER { time } else { time - self.0 }
    }
}

/// A message that some recipient still needs.
#[derive(Clone, Debug)]
pub struct UnsettledMessage {
    pub message: Portable,
    /// The recipients that have not settled it.
    pub open: Vec<Recipient>,
}

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub sessions: BTreeMap<SessionNumber, StoredSession>,
    pub subscriptions: BTreeMap<(SessionNumber, String), StoredSubscription>,
    pub messages: BTreeMap<MessageNumber, UnsettledMessage>,
    pub received: BTreeSet<(SessionNumber, PacketIdentifier)>,
    pub deliveries: BTreeMap<(SessionNumber, PacketIdentifier), StoredDelivery>,
    pub retained: BTreeMap<String, Portable>,
    /// Ended sessions that have left something to other members of Shared Subscriptions.
    pub former: BTreeSet<SessionNumber>,
    /// What bridges are owed.
    pub owed: BTreeSet<Owed>,
    /// When messages for bridges came, from each of these on.
    pub arrivals: BTreeMap<MessageNumber, Time>,
}

impl Store {
    /// Makes a batch durable at this moment of the world, and checks everything.
    pub fn apply(&mut self, batch: &Batch, world: Time) {
        self.write(batch, world);
        self.check();
    }

    /// Makes a batch durable at this moment of the world.
    pub fn write(&mut self, batch: &Batch, world: Time) {
        let epoch = Epoch::new(batch.now, world);
        for record in &batch.records {
            self.put(record, epoch);
        }
    }

    fn put(&mut self, record: &Record, epoch: Epoch) {
        match record {
            Record::Listener(..) => {}
            Record::Session(session) => {
                self.sessions.insert(session.number, moved(session, |time| epoch.to_world(time)));
            }
            Record::SessionEnded { session, leaves_shared } => self.end_session(*session, *leaves_shared),
            Record::FormerEnded(session) => {
                self.former.remove(session);
                self.deliveries.retain(|(owner, _), _| owner != session);
            }
            Record::Subscribed(session, subscription) => {
                self.subscriptions.insert((*session, subscription.filter.clone()), subscription.clone());
            }
            Record::Unsubscribed(session, filter) => {
                self.subscriptions.remove(&(*session, filter.clone()));
            }
            Record::Message(StoredMessage { number, message, recipients }) => {
                assert!(!recipients.is_empty(), "{number:?} is stored without a recipient");
                let message = expiring(message, |time| epoch.to_world(time));
                self.messages.insert(*number, UnsettledMessage { message, open: recipients.to_vec() });
            }
            &Record::Arrived { message, at, oldest } => {
                self.arrivals.insert(message, epoch.to_world(at));
                let first = self.arrivals.range(..=oldest).next_back().map(|(first, _)| *first);
                self.arrivals.retain(|number, _| Some(*number) >= first);
            }
            Record::Settled { message, session, is_last } => self.settle(*message, *session, *is_last),
            Record::Begun { message, session, identifier } => {
                let open =
                    self.messages.get_mut(message).into_iter().flat_map(|unsettled| &mut unsettled.open);
                let its = open.filter(|recipient| recipient.session == *session);
                its.for_each(|recipient| recipient.identifier = Some(*identifier));
            }
            Record::Received(session, identifier) => {
                self.received.insert((*session, *identifier));
            }
            Record::Released(session, identifier) => {
                self.received.remove(&(*session, *identifier));
            }
            Record::Delivery(session, delivery) => {
                self.deliveries.insert((*session, delivery.identifier), *delivery);
            }
            Record::Completed(session, identifier) => {
                self.deliveries.remove(&(*session, *identifier));
            }
            Record::Retained(message) => {
                let topic = message.publication().topic.as_str().to_owned();
                self.retained.insert(topic, expiring(message, |time| epoch.to_world(time)));
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

    fn end_session(&mut self, number: SessionNumber, leaves_shared: bool) {
        self.sessions.remove(&number);
        self.subscriptions.retain(|(session, _), _| *session != number);
        self.received.retain(|(session, _)| *session != number);
        if leaves_shared {
            self.former.insert(number);
        } else {
            self.deliveries.retain(|(session, _), _| *session != number);
        }
    }

    fn settle(&mut self, number: MessageNumber, session: SessionNumber, is_last: bool) {
        self.deliveries.retain(|(owner, _), delivery| {
            *owner != session || delivery.message != number || delivery.is_released
        });
        let Some(unsettled) = self.messages.get_mut(&number) else { return };
        unsettled.open.retain(|recipient| recipient.session != session);
        let is_done = unsettled.open.is_empty();
        assert_eq!(is_done, is_last, "{number:?} is still for {:?}", unsettled.open);
        if is_done {
            self.messages.remove(&number);
        }
    }

    /// Asserts that every record belongs to a session that exists.
    fn check(&self) {
        let owners = self.subscriptions.keys().map(|(session, _)| session);
        let owners = owners.chain(self.received.iter().map(|(session, _)| session));
        let owners = owners.chain(self.deliveries.keys().map(|(session, _)| session));
        for owner in owners {
            let is_there = self.sessions.contains_key(owner) || self.former.contains(owner);
            assert!(is_there, "{owner:?} has something and is not there");
        }
        for ((session, identifier), delivery) in &self.deliveries {
            let needs = |unsettled: &UnsettledMessage| {
                unsettled.open.iter().any(|recipient| recipient.session == *session)
            };
            // Deliveries that a former session has begun are removed together with everything it has left.
            let is_there =
                self.former.contains(session) || self.messages.get(&delivery.message).is_some_and(needs);
            assert!(is_there || delivery.is_released, "{identifier} of {session:?} has no message");
        }
    }

    /// The answers to all fetches in one, in the time of a broker: each message once.
    pub fn read(&self, fetches: &[Fetch], epoch: Epoch) -> Pages {
        let mut pages = Pages::default();
        let mut places = BTreeMap::new();
        for fetch in fetches {
            let mut copies = Vec::new();
            for &number in &fetch.messages {
                let found =
                    self.copy(number, fetch.session, epoch).map(|StoredCopy { message, form, .. }| {
                        let place = *places.entry(number).or_insert_with(|| {
                            pages.messages.push(message);
                            pages.messages.len() - 1
                        });
                        (place, form)
                    });
                copies.push(PageCopy { number, found });
            }
            pages.pages.push(Page { session: fetch.session, copies });
        }
        pages
    }

    fn copy(&self, number: MessageNumber, session: SessionNumber, epoch: Epoch) -> Option<StoredCopy> {
        let UnsettledMessage { message, open } = self.messages.get(&number)?;
        let form = open.iter().find(|recipient| recipient.session == session)?.form.clone();
        let message = expiring(message, |time| epoch.to_broker(time));
        Some(StoredCopy { number, message, form })
    }

    /// Everything, for a broker that starts, in an order that the interface allows. What is no longer needed is
    /// forgotten.
    pub fn restore(&mut self, epoch: Epoch, now: Time, chance: &mut Chance) -> (NextNumbers, Vec<Restored>) {
        let next = self.next_numbers();
        self.forget_needless(now);
        let mut restored: Vec<Restored> = self
            .sessions
            .values()
            .map(|session| Restored::Session(Box::new(moved(session, |time| epoch.to_broker(time)))))
            .collect();
        restored.extend(self.former.iter().map(|session| Restored::Former(*session)));
        shuffle(&mut restored, chance);
        let subscriptions = self.subscriptions.iter();
        let subscriptions = subscriptions.map(|((session, _), stored)| (*session, stored.clone()));
        let mut subscriptions: Vec<Restored> =
            subscriptions.map(|(session, stored)| Restored::Subscription(session, stored)).collect();
        shuffle(&mut subscriptions, chance);
        restored.extend(subscriptions);
        let arrivals = self.arrivals.iter();
        restored.extend(arrivals.map(|(message, at)| Restored::Arrived(*message, now.since(*at))));
        let mut unordered = self.unordered(epoch);
        unordered.extend(self.owed.iter().cloned().map(Restored::Owed));
        shuffle(&mut unordered, chance);
        let mut ordered = self.ordered(epoch);
        ordered.reverse();
        while !(unordered.is_empty() && ordered.is_empty()) {
            let is_next = unordered.is_empty() || chance.percent(50);
            restored.extend(if is_next { ordered.pop() } else { unordered.pop() });
        }
        (next, restored)
    }

    /// Forgets messages without a recipient: because its session has ended, or because they expired before delivery
    /// began. What is owed for those with RETAIN takes their place.
    fn forget_needless(&mut self, now: Time) {
        let Self { sessions, messages, deliveries, retained, former, owed, .. } = self;
        messages.retain(|number, unsettled| {
            let before = unsettled.open.clone();
            let is_expired = unsettled.message.publication().is_expired(now);
            unsettled.open.retain(|recipient| {
                let has_begun = recipient.identifier.is_some()
                    || deliveries.iter().any(|((session, _), delivery)| {
                        *session == recipient.session && delivery.message == *number && !delivery.is_released
                    });
                let is_left = former.contains(&recipient.session) && recipient.form.group.is_some();
                match sessions.contains_key(&recipient.session) {
                    true => has_begun || !is_expired,
                    false => is_left && (recipient.identifier.is_some() || !has_begun) && !is_expired,
                }
            });
            let is_lost =
                |recipient: &&Recipient| recipient.form.retain && !unsettled.open.contains(recipient);
            let lost = before.iter().filter(is_lost).filter_map(|recipient| sessions.get(&recipient.session));
            owed.extend(lost.map(|session| Owed {
                client_identifier: session.client_identifier.clone(),
                topic: unsettled.message.publication().topic.as_str().to_owned(),
            }));
            !unsettled.open.is_empty()
        });
        retained.retain(|_, message| !message.publication().is_expired(now));
    }

    /// The records that may come in any order.
    fn unordered(&self, epoch: Epoch) -> Vec<Restored> {
        let received = self.received.iter();
        let mut unordered: Vec<Restored> =
            received.map(|&(session, identifier)| Restored::Received(session, identifier)).collect();
        unordered.extend(
            self.retained
                .values()
                .map(|message| Restored::Retained(expiring(message, |time| epoch.to_broker(time)))),
        );
        unordered
    }

    /// The records whose order matters: deliveries in the order of their messages, then queued messages.
    fn ordered(&self, epoch: Epoch) -> Vec<Restored> {
        let mut deliveries: Vec<(SessionNumber, StoredDelivery)> =
            self.deliveries.iter().map(|(&(session, _), delivery)| (session, *delivery)).collect();
        deliveries.retain(|(session, _)| self.sessions.contains_key(session));
        deliveries.sort_by_key(|(session, delivery)| (delivery.message, *session));
        let waiting = self.messages.iter().flat_map(|(&message, unsettled)| {
            let is_there = |recipient: &&Recipient| self.sessions.contains_key(&recipient.session);
            let has_delivery = |recipient: &&Recipient| {
                let mut of_session =
                    self.deliveries.iter().filter(|((owner, _), _)| *owner == recipient.session);
                of_session.any(|(_, delivery)| delivery.message == message && !delivery.is_released)
            };
            let (begun, others): (Vec<&Recipient>, Vec<&Recipient>) = unsettled
                .open
                .iter()
                .partition(|recipient| recipient.identifier.is_some() && is_there(recipient));
            let (in_delivery, waiting): (Vec<&Recipient>, Vec<&Recipient>) =
                others.into_iter().partition(has_delivery);
            let qos = waiting.iter().map(|recipient| recipient.form.qos);
            let lowest_qos = qos.min().unwrap_or(QoS::ExactlyOnce);
            let has_retain = waiting.iter().any(|recipient| recipient.form.retain);
            let sessions = waiting.iter().map(|recipient| recipient.session).collect();
            let in_flight = begun.iter().chain(&in_delivery).map(|recipient| recipient.session).collect();
            let content = expiring(&unsettled.message, |time| epoch.to_broker(time));
            let recipients: Vec<Recipient> = begun.into_iter().cloned().collect();
            let begun = Restored::Begun { message, content, recipients };
            let publication = unsettled.message.publication();
            let expires = epoch.to_broker(publication.expires);
            let group = unsettled.open.iter().find_map(|recipient| recipient.form.group.clone());
            let length = publication.length();
            let has_begun = matches!(&begun, Restored::Begun { recipients, .. } if !recipients.is_empty());
            let retained = has_retain.then(|| publication.topic.as_str().into());
            let waiting = Restored::Waiting {
                message,
                length,
                expires,
                lowest_qos,
                sessions,
                in_flight,
                group,
                retained,
            };
            has_begun.then_some(begun).into_iter().chain([waiting])
        });
        let waiting: Vec<Restored> = waiting.collect();
        let begun = deliveries.iter().map(|&(session, delivery)| {
            let copy = || self.copy(delivery.message, session, epoch).map(Box::new);
            Restored::Delivery(session, delivery, if delivery.is_released { None } else { copy() })
        });
        begun.chain(waiting).collect()
    }

    fn next_numbers(&self) -> NextNumbers {
        let recipients = self.messages.values().flat_map(|unsettled| &unsettled.open);
        let session = recipients.map(|recipient| recipient.session);
        let session = session.chain(self.sessions.keys().copied()).max().map_or(0, |last| last.0.get());
        let sent = self.sessions.values().filter_map(|session| match session.presence {
            StoredPresence::Away { sent_until, .. } => sent_until,
            StoredPresence::Connected => None,
        });
        let message = sent.chain(self.messages.keys().copied());
        let message = message.chain(self.deliveries.values().map(|delivery| delivery.message));
        let message = message.max().map_or(0, |last| last.0.get());
        let behind = |last: u64| NonZeroU64::MIN.saturating_add(last);
        NextNumbers { session: SessionNumber(behind(session)), message: MessageNumber(behind(message)) }
    }
}

/// The same session at another time.
fn moved(session: &StoredSession, moved: impl Fn(Time) -> Time) -> StoredSession {
    let mut session = session.clone();
    if let StoredPresence::Away { ends, .. } = &mut session.presence {
        *ends = moved(*ends);
    }
    if let Some(will) = &mut session.will {
        will.due = moved(will.due);
    }
    session
}

/// The same message at another time.
fn expiring(message: &Portable, moved: impl Fn(Time) -> Time) -> Portable {
    let publication = message.publication();
    Portable::new(&Publication { expires: moved(publication.expires), ..publication })
}

fn shuffle<T>(list: &mut [T], chance: &mut Chance) {
    for last in (1..list.len()).rev() {
        list.swap(last, chance.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brooklet::core::journal::{CopyForm, StoredWill};
    use brooklet::core::listener::ListenerId;
    use brooklet::core::subscription::Identifiers;
    use brooklet::protocol::codec::QoS;
    use brooklet::protocol::topic::TopicName;

    const SESSIONS: u64 = 4;

    fn number(value: u64) -> NonZeroU64 {
        NonZeroU64::new(value).unwrap()
    }

    fn seconds(value: u64) -> Time {
        Time::ZERO + Duration::from_seconds(value)
    }

    fn message(expires: Time) -> Portable {
        Portable::new(&Publication {
            topic: TopicName::new("t").unwrap(),
            payload: b"payload",
            qos: QoS::ExactlyOnce,
            retain: false,
            publisher: None,
            properties: brooklet::protocol::codec::Properties::default(),
            expires,
        })
    }

    fn session(name: u64, presence: StoredPresence) -> Record {
        let will = StoredWill { message: message(seconds(7)), delay: Duration::ZERO, due: seconds(20) };
        Record::Session(Box::new(StoredSession {
            number: SessionNumber(number(name)),
            client_identifier: format!("c{name}"),
            user_name: None,
            is_proved: false,
            listener: ListenerId::default(),
            expiry_interval: 60,
            presence,
            will: Some(will),
        }))
    }

    fn sent(name: u64, expires: Time, to: &[u64]) -> Record {
        let (qos, identifiers) = (QoS::ExactlyOnce, Identifiers::default());
        let form = CopyForm { qos, retain: false, identifiers, group: None };
        let to = to.iter().map(|&to| Recipient {
            session: SessionNumber(number(to)),
            form: form.clone(),
            identifier: None,
        });
        let (number, message) = (MessageNumber(number(name)), message(expires));
        Record::Message(StoredMessage { number, message, recipients: to.collect() })
    }

    fn delivery(to: u64, identifier: u16, name: u64, is_released: bool) -> Record {
        let (message, identifier) = (MessageNumber(number(name)), PacketIdentifier::new(identifier).unwrap());
        Record::Delivery(SessionNumber(number(to)), StoredDelivery { identifier, message, is_released })
    }

    fn batch(now: Time, records: Vec<Record>) -> Batch {
        Batch { number: 1, now, records, log: Vec::new() }
    }

    fn is_open(store: &Store, message: MessageNumber, session: SessionNumber) -> bool {
        let unsettled = store.messages.get(&message);
        unsettled.is_some_and(|unsettled| unsettled.open.iter().any(|recipient| recipient.session == session))
    }

    /// A random record that may follow what the store holds.
    fn drawn(store: &Store, next: u64, chance: &mut Chance) -> Record {
        let name = chance.between(1, SESSIONS);
        let owner = SessionNumber(number(name));
        let identifier = PacketIdentifier::new(u16::try_from(chance.between(1, 3)).unwrap()).unwrap();
        let message = MessageNumber(number(chance.between(1, next)));
        let is_there = store.sessions.contains_key(&owner);
        match chance.below(8) {
            0 => session(name, StoredPresence::Connected),
            1 => Record::SessionEnded { session: owner, leaves_shared: false },
            2 if is_there => Record::Received(owner, identifier),
            3 => Record::Released(owner, identifier),
            4 if is_there && is_open(store, message, owner) => {
                delivery(name, identifier.value(), message.0.get(), chance.percent(30))
            }
            5 => Record::Completed(owner, identifier),
            6 if is_open(store, message, owner) => {
                let is_last = store.messages[&message].open.len() == 1;
                Record::Settled { message, session: owner, is_last }
            }
            _ => sent(next, Time::NEVER, &[name, name % SESSIONS + 1]),
        }
    }

    #[test]
    fn a_batch_written_twice_has_the_same_result_as_once() {
        for seed in 0..200 {
            let mut chance = Chance::new(seed);
            let mut store = Store::default();
            for round in 0..8 {
                let mut once = store.clone();
                let mut records = Vec::new();
                for step in 1..=10 {
                    let record = drawn(&once, round * 10 + step, &mut chance);
                    once.put(&record, Epoch::new(Time::ZERO, Time::ZERO));
                    records.push(record);
                }
                let batch = batch(Time::ZERO, records);
                store.apply(&batch, Time::ZERO);
                assert_eq!(format!("{store:?}"), format!("{once:?}"), "seed {seed}");
                store.apply(&batch, Time::ZERO);
                assert_eq!(format!("{store:?}"), format!("{once:?}"), "seed {seed}, twice");
            }
        }
    }

    #[test]
    fn records_are_restored_in_order_and_in_the_time_of_the_new_broker() {
        let mut store = Store::default();
        let away = StoredPresence::Away { ends: seconds(30), sent_until: Some(MessageNumber(number(50))) };
        let records = vec![
            session(1, away),
            session(2, StoredPresence::Connected),
            sent(3, seconds(15), &[1, 2]),
            sent(4, seconds(12), &[1, 2]),
            sent(5, Time::NEVER, &[9]),
            sent(6, Time::NEVER, &[2]),
            delivery(2, 7, 4, false),
            delivery(2, 8, 2, true),
        ];
        // Ten seconds of the old broker's time are a hundred of the world's.
        store.apply(&batch(seconds(10), records), seconds(100));
        for seed in 0..20 {
            let epoch = Epoch::new(seconds(1), seconds(103));
            let mut store = store.clone();
            let (next, restored) = store.restore(epoch, seconds(103), &mut Chance::new(seed));
            assert_eq!(next.message, MessageNumber(number(51)));
            assert_eq!(next.session, SessionNumber(number(10)));
            let told: Vec<String> = restored.iter().map(tell).collect();
            let (sessions, rest) = told.split_at(2);
            assert!(sessions.iter().all(|told| told.starts_with("session")), "{told:?}");
            // The fourth has expired for the recipient that has not been sent it, the fifth was for an unknown one.
            assert_eq!(rest, ["released 8", "delivery 7 of 4", "3 for 2", "4 for 1", "6 for 1"]);
        }
    }

    fn tell(restored: &Restored) -> String {
        match restored {
            Restored::Session(session) => {
                let will = session.will.as_ref().unwrap();
                assert_eq!(will.due, seconds(8), "the Will is due at 110 of the world's time");
                assert_eq!(will.message.publication().expires, seconds(7), "a span has no epoch");
                if let StoredPresence::Away { ends, .. } = session.presence {
                    assert_eq!(ends, seconds(18));
                }
                format!("session {}", session.client_identifier)
            }
            Restored::Delivery(_, delivery, copy) => match copy {
                None => format!("released {}", delivery.identifier.value()),
                Some(copy) => {
                    assert_eq!(copy.message.publication().expires, Time::ZERO);
                    format!("delivery {} of {}", delivery.identifier.value(), copy.number.0)
                }
            },
            Restored::Waiting { message, length, sessions, in_flight, .. } => {
                assert_eq!(*length, "tpayload".len());
                format!("{} for {}", message.0, sessions.len() + in_flight.len())
            }
            other => panic!("not stored: {other:?}"),
        }
    }
}
