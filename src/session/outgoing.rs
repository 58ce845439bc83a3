//! Messages of QoS 1 and 2, and 0 if they wait too, on their way to one client: the queue, what is in flight, and the Packet Identifiers.
//!
//! Identifiers are given out in a circle, one after the other, and an entry keeps its place until all before it
//! are settled. So the distance of two identifiers is the distance of their entries, and an acknowledgement finds
//! its entry by one subtraction. The price: a client that never acknowledges one message, though it acknowledges
//! the 65,534 behind it, gets nothing more until it does. The standards oblige clients to acknowledge in order
//! [MQTT-4.6.0-2], so only a broken one pays it.

use std::collections::VecDeque;

use super::Replays;
use crate::codec::{PacketIdentifier, QoS};
use crate::limits::Limits;
use crate::memory::{self, Audit, Counted};
use crate::message::{Message, Spares};
use crate::planted::{Fault, is_planted};
use crate::subscription::{GroupId, Identifiers};
use crate::time::Time;

/// One copy of a message for this client.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The message.
    pub message: Message,
    /// The Subscription Identifiers that go with it.
    pub identifiers: Identifiers,
    /// The Shared Subscription that chose this client, if it was one.
    pub group: Option<GroupId>,
    /// The QoS of this copy: 1 or 2, or 0 where such messages wait too.
    pub qos: QoS,
    /// The RETAIN flag of this copy.
    pub retain: bool,
}

const _: () = assert!(size_of::<Queued>() <= 32, "a backlog pays for every byte here");

/// How far a delivery has come.
#[derive(Clone, Debug)]
pub enum Stage {
    /// The PUBLISH is not answered: by PUBACK for QoS 1, by PUBREC for QoS 2.
    Publish(Queued),
    /// The PUBREL is not answered by PUBCOMP. The message itself is done [MQTT-4.3.3-6].
    Release,
    /// Nothing is missing; the entry waits for those before it.
    Settled,
}

/// One delivery in flight.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// How far it has come.
    pub stage: Stage,
    /// When its PUBLISH or PUBREL was last queued.
    pub queued_at: Time,
    /// Where in the connection's stream that packet ends; it has left when the outbox has sent this much.
    pub ends_at: u64,
    /// How often it was sent again on this connection.
    pub retries: u8,
}

/// What an acknowledgement from the client did.
#[derive(Clone, Debug)]
pub enum Settled {
    /// The delivery went on or is over.
    Done,
    /// No delivery with this identifier is in flight.
    Unknown,
    /// A delivery with this identifier is in flight, but this is not its answer.
    OutOfPlace,
}

/// The queue is at its limit in messages or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// All that is on its way to one client.
#[derive(Debug, Default)]
pub struct Outgoing {
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    /// No queued message expires before this.
    queue_expires: Time,
    in_flight: VecDeque<InFlight>,
    /// Identifier of the first entry in flight.
    first: u16,
    /// Messages have been dropped since the queue was last empty.
    is_losing: bool,
    /// Entries before this index were sent on this connection.
    sent: usize,
    /// How many of those are not settled.
    unsettled: usize,
    /// How many of them may be: the client's Receive Maximum [MQTT-3.3.4-9].
    window: usize,
    /// When a packet was last sent that wants an answer, on this connection.
    sent_at: Option<Time>,
    /// Subscriptions whose retained messages are not all handed over.
    pub replays: Replays,
    counted: Counted,
}

impl Outgoing {
    /// A new connection: nothing has been sent on it yet.
    pub fn resume(&mut self, window: u16) {
        self.sent = 0;
        self.unsettled = 0;
        self.window = usize::from(window);
        self.sent_at = None;
        for entry in &mut self.in_flight {
            entry.retries = 0;
        }
        self.count();
    }

    /// Whether everything is done and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_empty() && self.replays.is_empty()
    }

    /// Messages waiting in the queue.
    pub fn queue_length(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of the messages waiting in the queue.
    pub const fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Deliveries in flight, settled ones in between included.
    pub fn in_flight(&self) -> &VecDeque<InFlight> {
        &self.in_flight
    }

    /// How many deliveries were sent on this connection, settled ones in between included.
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// Notes that a packet is sent now that wants an answer; tells whether it is the first one at this moment. What
    /// was done about the time of that one is good for all others.
    #[inline]
    pub fn is_first_at(&mut self, now: Time) -> bool {
        self.sent_at.replace(now) != Some(now)
    }

    /// Whether there is nothing to send: nothing to send again, nothing queued, nothing retained.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.sent == self.in_flight.len() && self.queue.is_empty() && self.replays.is_empty()
    }

    /// The entry at an index.
    pub fn entry_mut(&mut self, index: usize) -> &mut InFlight {
        &mut self.in_flight[index]
    }

    /// The identifier of the entry at an index.
    #[inline]
    pub fn identifier_at(&self, index: usize) -> PacketIdentifier {
        let circle = usize::from(u16::MAX);
        let value = usize::from(self.first.max(1)) + index;
        let value = if value > circle { value - circle } else { value };
        u16::try_from(value)
            .ok()
            .and_then(PacketIdentifier::new)
            .expect("no more are in flight than identifiers")
    }

    /// Whether the window and the identifiers allow one more PUBLISH now, and nothing older waits to go first.
    #[inline]
    pub fn may_begin(&self) -> bool {
        self.queue.is_empty() && self.has_window()
    }

    #[inline]
    fn has_window(&self) -> bool {
        self.sent == self.in_flight.len()
            && self.unsettled < self.window + usize::from(is_planted(Fault::WindowOffByOne))
            && self.in_flight.len() < usize::from(u16::MAX)
    }

    /// The identifier that the next delivery will have.
    #[inline]
    pub fn next_identifier(&self) -> PacketIdentifier {
        self.identifier_at(
            self.in_flight.len() - usize::from(is_planted(Fault::IdentifierReused)).min(self.in_flight.len()),
        )
    }

    /// Puts a delivery in flight, its PUBLISH having been queued with [`Outgoing::next_identifier`].
    #[inline]
    pub fn begin(&mut self, queued: Queued, now: Time, ends_at: u64) {
        let stage = Stage::Publish(queued);
        let entry = InFlight { stage, queued_at: now, ends_at, retries: 0 };
        if self.in_flight.len() == self.in_flight.capacity() {
            self.in_flight.reserve(1);
            self.count();
        }
        self.in_flight.push_back(entry);
        self.sent += 1;
        self.unsettled += 1;
    }

    /// Whether one more message of so many bytes may wait for a client that is there or away.
    pub fn has_room(&self, bytes: usize, limits: &Limits, is_connected: bool) -> bool {
        let total = self.queue_bytes + bytes;
        (self.queue.len() < limits.queue_length || (is_connected && total <= limits.burst_bytes))
            && (self.queue.is_empty() || total <= limits.queue_bytes)
    }

    /// Lets a message wait behind all others. Expired ones make room for it.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] at a limit; the queue is as it was.
    pub fn enqueue(
        &mut self,
        queued: Queued,
        limits: &Limits,
        is_connected: bool,
        now: Time,
    ) -> Result<(), QueueFull> {
        let bytes = queued.message.memory();
        if !self.has_room(bytes, limits, is_connected) {
            self.forget_expired(now);
        }
        if !self.has_room(bytes, limits, is_connected) {
            return Err(QueueFull);
        }
        let expires = queued.message.expires();
        self.queue_expires = if self.queue.is_empty() { expires } else { self.queue_expires.min(expires) };
        self.queue_bytes += bytes;
        if is_planted(Fault::QueueReordered) {
            self.queue.push_front(queued);
        } else {
            self.queue.push_back(queued);
        }
        self.count();
        Ok(())
    }

    /// A message is dropped; tells whether it is the first since the queue was last empty.
    pub const fn lose(&mut self) -> bool {
        !std::mem::replace(&mut self.is_losing, true)
    }

    fn forget_expired(&mut self, now: Time) {
        if self.queue_expires > now {
            return;
        }
        self.queue.retain(|queued| queued.message.expires() > now);
        self.queue_expires = Time::NEVER;
        self.queue_bytes = 0;
        for queued in &self.queue {
            self.queue_bytes += queued.message.memory();
            self.queue_expires = self.queue_expires.min(queued.message.expires());
        }
    }

    /// Takes the first waiting message, if it may be sent now.
    pub fn next_to_begin(&mut self) -> Option<Queued> {
        if !self.has_window() {
            return None;
        }
        let queued = self.queue.pop_front()?;
        self.queue_bytes -= queued.message.memory();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
            self.is_losing = false;
            self.count();
        }
        Some(queued)
    }

    /// The index of the first unsettled delivery that has not been sent on this connection, if it may be now. A
    /// PUBREL may always be, a PUBLISH only within the window [MQTT-3.3.4-10].
    pub fn next_to_resend(&mut self) -> Option<usize> {
        while let Some(entry) = self.in_flight.get(self.sent) {
            match entry.stage {
                Stage::Settled => self.sent += 1,
                Stage::Publish(_) if self.unsettled >= self.window => return None,
                Stage::Publish(_) | Stage::Release => return Some(self.sent),
            }
        }
        None
    }

    /// The delivery that [`Outgoing::next_to_resend`] named has been queued again.
    pub fn resent(&mut self, now: Time, ends_at: u64) {
        let entry = &mut self.in_flight[self.sent];
        entry.queued_at = now;
        entry.ends_at = ends_at;
        self.sent += 1;
        self.unsettled += 1;
    }

    /// The delivery that [`Outgoing::next_to_resend`] named is over without being sent again, because the client
    /// no longer accepts packets of that size [MQTT-3.1.2-25].
    pub fn give_up(&mut self) {
        self.in_flight[self.sent].stage = Stage::Settled;
        self.sent += 1;
        self.forget_settled();
    }

    /// A PUBACK [MQTT-4.3.2-3].
    #[inline]
    pub fn acknowledge(&mut self, identifier: PacketIdentifier, spares: &mut Spares) -> Settled {
        let Some(index) = self.find(identifier) else { return Settled::Unknown };
        match &self.in_flight[index].stage {
            Stage::Publish(queued) if queued.qos == QoS::AtLeastOnce => self.settle(index, spares),
            Stage::Settled => Settled::Unknown,
            Stage::Publish(_) | Stage::Release => Settled::OutOfPlace,
        }
    }

    /// A PUBREC: the message is done and its PUBREL is due [MQTT-4.3.3-4], or over if the client refused it
    /// [MQTT-4.4.0-2]. A repeat asks for the PUBREL once more.
    pub fn receive(
        &mut self,
        identifier: PacketIdentifier,
        is_refused: bool,
        spares: &mut Spares,
    ) -> Settled {
        let Some(index) = self.find(identifier) else { return Settled::Unknown };
        match &self.in_flight[index].stage {
            Stage::Publish(queued) if queued.qos == QoS::ExactlyOnce => {
                if is_refused {
                    return self.settle(index, spares);
                }
                self.go_on(index, Stage::Release, spares);
                Settled::Done
            }
            Stage::Release => Settled::Done,
            Stage::Settled => Settled::Unknown,
            Stage::Publish(_) => Settled::OutOfPlace,
        }
    }

    /// Notes when the PUBREL that answers a PUBREC was queued.
    pub fn released(&mut self, identifier: PacketIdentifier, now: Time, ends_at: u64) {
        if let Some(index) = self.find(identifier) {
            let entry = &mut self.in_flight[index];
            entry.queued_at = now;
            entry.ends_at = ends_at;
            entry.retries = 0;
        }
    }

    /// A PUBCOMP [MQTT-4.3.3-5].
    pub fn complete(&mut self, identifier: PacketIdentifier, spares: &mut Spares) -> Settled {
        let Some(index) = self.find(identifier) else { return Settled::Unknown };
        match &self.in_flight[index].stage {
            Stage::Release => self.settle(index, spares),
            Stage::Settled => Settled::Unknown,
            Stage::Publish(_) => Settled::OutOfPlace,
        }
    }

    /// Takes out the messages that may go to another member of their Shared Subscription: those that wait, and,
    /// if the session is over, those of QoS 1 in flight. A QoS 2 delivery once begun is nobody else's
    /// [MQTT-4.8.2-5].
    pub fn take_shared(&mut self, is_over: bool, mut wanted: impl FnMut(GroupId) -> bool) -> Vec<Queued> {
        let mut taken = Vec::new();
        for index in 0..if is_over { self.in_flight.len() } else { 0 } {
            if let Stage::Publish(queued) = &self.in_flight[index].stage
                && queued.qos == QoS::AtLeastOnce
                && queued.group.is_some_and(&mut wanted)
            {
                taken.push(queued.clone());
                self.in_flight[index].stage = Stage::Settled;
            }
        }
        if self.queue.iter().any(|queued| queued.group.is_some_and(&mut wanted)) {
            let (moving, staying): (VecDeque<Queued>, VecDeque<Queued>) = std::mem::take(&mut self.queue)
                .into_iter()
                .partition(|queued| queued.group.is_some_and(&mut wanted));
            self.queue = staying;
            self.queue_bytes = self.queue.iter().map(|queued| queued.message.memory()).sum();
            self.count();
            taken.extend(moving);
        }
        taken
    }

    /// Takes out what the client may no longer be given: from the queue, and from what is to be sent again. What was
    /// sent on this connection can not be called back. Tells how many messages it was.
    pub fn withdraw(&mut self, mut is_barred: impl FnMut(&Message) -> bool) -> usize {
        let before = self.queue.len();
        self.queue.retain(|queued| !is_barred(&queued.message));
        let mut withdrawn = before - self.queue.len();
        self.queue_bytes = self.queue.iter().map(|queued| queued.message.memory()).sum();
        for entry in self.in_flight.iter_mut().skip(self.sent) {
            if let Stage::Publish(queued) = &entry.stage
                && is_barred(&queued.message)
            {
                entry.stage = Stage::Settled;
                withdrawn += 1;
            }
        }
        self.forget_settled();
        self.count();
        withdrawn
    }

    /// Tells how much memory the lists take; the messages count themselves.
    fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + memory::allocation(self.queue.capacity() * size_of::<Queued>())
                + memory::allocation(self.in_flight.capacity() * size_of::<InFlight>()),
        );
    }

    #[inline]
    fn find(&self, identifier: PacketIdentifier) -> Option<usize> {
        let (identifier, first) = (usize::from(identifier.value()), usize::from(self.first.max(1)));
        let circle = if identifier < first { usize::from(u16::MAX) } else { 0 };
        let index = identifier + circle - first;
        (index < self.sent).then_some(index)
    }

    #[inline]
    fn settle(&mut self, index: usize, spares: &mut Spares) -> Settled {
        self.go_on(index, Stage::Settled, spares);
        self.unsettled -= 1;
        self.forget_settled();
        Settled::Done
    }

    /// Takes a delivery one step further; its message, if it was still there, is not needed any more.
    #[inline]
    fn go_on(&mut self, index: usize, stage: Stage, spares: &mut Spares) {
        if let Stage::Publish(queued) = std::mem::replace(&mut self.in_flight[index].stage, stage) {
            spares.keep(queued.message);
        }
    }

    /// Lets settled entries go from the front, those included that were settled on an earlier connection and not
    /// yet passed over on this one.
    #[inline]
    fn forget_settled(&mut self) {
        while matches!(self.in_flight.front(), Some(InFlight { stage: Stage::Settled, .. })) {
            self.first = self.identifier_at(1).value();
            self.in_flight.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// Adds what it takes to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes() + self.replays.memory());
        self.queue.iter().for_each(|queued| queued.message.audit(audit));
        for entry in &self.in_flight {
            if let Stage::Publish(queued) = &entry.stage {
                queued.message.audit(audit);
            }
        }
    }

    /// Asserts that the sums are right and the window is kept.
    pub fn check_invariants(&self) {
        let bytes: usize = self.queue.iter().map(|queued| queued.message.memory()).sum();
        assert_eq!(bytes, self.queue_bytes, "queued bytes are counted");
        assert!(self.sent <= self.in_flight.len(), "no more was sent than is in flight");
        let unsettled = self
            .in_flight
            .iter()
            .take(self.sent)
            .filter(|entry| !matches!(entry.stage, Stage::Settled))
            .count();
        assert_eq!(unsettled, self.unsettled, "unsettled deliveries are counted");
        let releases = self.in_flight.iter().filter(|entry| matches!(entry.stage, Stage::Release)).count();
        assert!(unsettled <= self.window + releases, "the window is kept");
        assert!(
            !matches!(self.in_flight.front(), Some(InFlight { stage: Stage::Settled, .. })),
            "settled entries leave from the front"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Properties;
    use crate::message::Publication;
    use crate::topic::TopicName;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn queued(qos: QoS, expires: Time) -> Queued {
        let publication = Publication {
            topic: TopicName::new("t").unwrap(),
            payload: b"payload",
            qos,
            retain: false,
            publisher: None,
            properties: Properties::default(),
            expires,
        };
        let message = Message::new(&publication, &mut Spares::default());
        Queued { message, identifiers: Identifiers::default(), group: None, qos, retain: false }
    }

    fn begin(outgoing: &mut Outgoing, qos: QoS) -> PacketIdentifier {
        let identifier = outgoing.next_identifier();
        outgoing.begin(queued(qos, Time::NEVER), Time::ZERO, 0);
        identifier
    }

    #[test]
    fn identifiers_go_round_and_leave_out_zero() {
        let mut outgoing = Outgoing::default();
        outgoing.resume(1);
        for expected in (1..=u16::MAX).chain(1..3) {
            let identifier = begin(&mut outgoing, QoS::AtLeastOnce);
            assert_eq!(identifier.value(), expected);
            assert!(!outgoing.may_begin());
            assert!(matches!(outgoing.acknowledge(identifier, &mut Spares::default()), Settled::Done));
            outgoing.check_invariants();
        }
    }

    #[test]
    fn answers_out_of_place_are_told_from_unknown_ones() {
        let mut outgoing = Outgoing::default();
        outgoing.resume(10);
        let once = begin(&mut outgoing, QoS::AtLeastOnce);
        let exactly = begin(&mut outgoing, QoS::ExactlyOnce);
        assert!(matches!(outgoing.receive(once, false, &mut Spares::default()), Settled::OutOfPlace));
        assert!(matches!(outgoing.acknowledge(exactly, &mut Spares::default()), Settled::OutOfPlace));
        assert!(matches!(outgoing.complete(exactly, &mut Spares::default()), Settled::OutOfPlace));
        assert!(matches!(
            outgoing.acknowledge(PacketIdentifier::new(3).unwrap(), &mut Spares::default()),
            Settled::Unknown
        ));
        assert!(matches!(outgoing.receive(exactly, false, &mut Spares::default()), Settled::Done));
        assert!(
            matches!(outgoing.receive(exactly, false, &mut Spares::default()), Settled::Done),
            "a repeat asks for PUBREL again"
        );
        assert!(matches!(outgoing.complete(exactly, &mut Spares::default()), Settled::Done));
        assert!(matches!(outgoing.complete(exactly, &mut Spares::default()), Settled::Unknown));
        assert!(matches!(outgoing.acknowledge(once, &mut Spares::default()), Settled::Done));
        assert!(outgoing.is_idle());
    }

    #[test]
    fn a_resumed_session_sends_again_in_order_and_within_the_window() {
        let mut outgoing = Outgoing::default();
        outgoing.resume(10);
        let first = begin(&mut outgoing, QoS::ExactlyOnce);
        let second = begin(&mut outgoing, QoS::AtLeastOnce);
        let third = begin(&mut outgoing, QoS::AtLeastOnce);
        assert!(matches!(outgoing.receive(first, false, &mut Spares::default()), Settled::Done));
        outgoing.resume(2);
        assert!(!outgoing.may_begin());
        assert_eq!(outgoing.next_to_resend(), Some(0), "the PUBREL of the first");
        outgoing.resent(Time::ZERO, 0);
        assert_eq!(outgoing.next_to_resend(), Some(1));
        outgoing.resent(Time::ZERO, 0);
        assert_eq!(outgoing.next_to_resend(), None, "the window is used up");
        assert!(
            matches!(outgoing.acknowledge(third, &mut Spares::default()), Settled::Unknown),
            "not sent on this connection"
        );
        assert!(matches!(outgoing.acknowledge(second, &mut Spares::default()), Settled::Done));
        assert_eq!(outgoing.next_to_resend(), Some(2));
        outgoing.check_invariants();
    }

    #[test]
    fn expired_messages_make_room() {
        let limits = Limits { queue_length: 2, ..Limits::default() };
        let mut outgoing = Outgoing::default();
        let at = Time::from_milliseconds;
        for expires in [at(5), Time::NEVER] {
            let queued = queued(QoS::AtLeastOnce, expires);
            assert!(outgoing.enqueue(queued, &limits, false, Time::ZERO).is_ok());
        }
        assert!(outgoing.enqueue(queued(QoS::AtLeastOnce, Time::NEVER), &limits, false, at(4)).is_err());
        assert!(outgoing.enqueue(queued(QoS::AtLeastOnce, Time::NEVER), &limits, false, at(5)).is_ok());
        assert_eq!(outgoing.queue_length(), 2);
        outgoing.check_invariants();
    }

    #[test]
    fn a_loss_is_new_once_until_the_queue_is_empty() {
        let mut outgoing = Outgoing::default();
        outgoing.resume(2);
        for _ in 0..2 {
            let queued = queued(QoS::AtLeastOnce, Time::NEVER);
            assert!(outgoing.enqueue(queued, &Limits::default(), false, Time::ZERO).is_ok());
        }
        assert_eq!([outgoing.lose(), outgoing.lose()], [true, false]);
        assert!(outgoing.next_to_begin().is_some());
        assert!(!outgoing.lose(), "one still waits");
        assert!(outgoing.next_to_begin().is_some());
        assert!(outgoing.lose());
    }

    #[test]
    fn a_burst_for_a_client_that_is_there_is_not_counted() {
        let one = queued(QoS::AtLeastOnce, Time::NEVER);
        let burst_bytes = 3 * one.message.memory();
        let limits = Limits { queue_length: 1, burst_bytes, ..Limits::default() };
        let mut outgoing = Outgoing::default();
        let mut is_queued =
            |is_connected| outgoing.enqueue(one.clone(), &limits, is_connected, Time::ZERO).is_ok();
        assert_eq!([false, false].map(&mut is_queued), [true, false], "away, each message counts");
        assert_eq!([true, true, true].map(&mut is_queued), [true, true, false], "there, their bytes do");
        assert!(!is_queued(false), "what waits stays, and nothing is added");
        outgoing.check_invariants();
    }

    proptest! {
        /// The naive model is a map of the deliveries that are not settled.
        #[test]
        fn any_order_of_acknowledgements_settles_what_it_names(
            window in 1_u16..20,
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..300),
        ) {
            let mut outgoing = Outgoing::default();
            outgoing.resume(window);
            let mut model: BTreeMap<u16, QoS> = BTreeMap::new();
            for (is_exactly, index) in steps {
                prop_assert_eq!(outgoing.may_begin(), model.len() < usize::from(window));
                if outgoing.may_begin() {
                    let qos = if is_exactly { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                    let identifier = begin(&mut outgoing, qos).value();
                    prop_assert_eq!(model.insert(identifier, qos), None, "an identifier in use");
                } else {
                    let value = *model.keys().nth(index.index(model.len())).unwrap();
                    let identifier = PacketIdentifier::new(value).unwrap();
                    let settled = match model.remove(&value).unwrap() {
                        QoS::ExactlyOnce => {
                            prop_assert!(matches!(outgoing.receive(identifier, false, &mut Spares::default()), Settled::Done));
                            outgoing.complete(identifier, &mut Spares::default())
                        }
                        _ => outgoing.acknowledge(identifier, &mut Spares::default()),
                    };
                    prop_assert!(matches!(settled, Settled::Done));
                }
                outgoing.check_invariants();
            }
        }
    }
}
