//! Messages for one client: the queue, the deliveries in flight, and the Packet Identifiers. Messages of QoS 0 are
//! among them if they are queued.
//!
//! Identifiers are assigned in a circle, one after another, and an entry keeps its place until all before it are
//! settled. So the distance of two identifiers is the distance of their entries, and an acknowledgement finds its entry
//! by one subtraction. The standards require clients to acknowledge in order [MQTT-4.6.0-2]. For those that do not,
//! deliveries that are overtaken for too long are [set aside](aside), and their identifiers are skipped.

mod answers;
mod aside;
mod leaving;
mod restoring;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::VecDeque;

use super::{LostCopy, OpenBacklog, RetainedSends};
use crate::base::memory::{self, Audit, Counted};
use crate::base::time::Time;
use crate::core::journal::MessageNumber;
use crate::core::limits::IN_FLIGHT_MAXIMUM;
use crate::core::message::{Message, Spares};
use crate::core::subscription::{GroupId, SharedIdentifiers};
use crate::protocol::codec::{PacketIdentifier, QoS};

pub use leaving::Leftover;

use aside::{Aside, Places};
use waiting::Queue;

/// How many places for the numbers of messages that are no longer needed a session keeps.
const GONE_KEPT: usize = 16;

/// One copy of a message for this client.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The message.
    pub message: Message,
    /// The Subscription Identifiers that go with it.
    pub identifiers: SharedIdentifiers,
    /// The Shared Subscription that chose this client, if one did.
    pub group: Option<GroupId>,
    /// The QoS of this copy: 1 or 2, or 0 where such messages are queued, too.
    pub qos: QoS,
    /// The RETAIN flag of this copy.
    pub retain: bool,
    /// The number under which the message is persisted for the session, if it is.
    pub number: Option<MessageNumber>,
}

const _: () = assert!(size_of::<Queued>() <= 40, "a backlog pays for every byte here");

impl Queued {
    /// What is owed for it if it is dropped.
    fn lost(&self) -> Option<LostCopy> {
        self.retain.then(|| LostCopy::Queued(self.message.clone()))
    }
}

/// The stage of a delivery.
#[derive(Clone, Debug)]
pub enum Stage {
    /// The PUBLISH has its Packet Identifier, and may be sent when that is durable.
    Prepared(Queued),
    /// The PUBLISH has not been answered: by PUBACK for QoS 1, by PUBREC for QoS 2.
    Publish(Queued),
    /// The PUBREL has not been answered by PUBCOMP. The message itself is done [MQTT-4.3.3-6].
    Release,
    /// The delivery is complete; the entry waits for those before it.
    Settled,
    /// Others have overtaken it for too long.
    Aside(Box<Aside>),
}

/// One delivery in flight.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The stage of the delivery.
    stage: Stage,
    /// When its PUBLISH or PUBREL was last queued.
    pub queued_at: Time,
    /// Where that packet ends in the connection's stream; it has left when the outbox has sent this many bytes.
    pub ends_at: u64,
    /// How often it was sent again on this connection.
    pub retries: u8,
    /// The batch that must be durable before its next packet is sent; zero if there is none.
    pub awaited: u64,
}

impl InFlight {
    /// Makes a delivery of which no packet was sent on this connection.
    fn restored(stage: Stage) -> Self {
        Self { stage, queued_at: Time::ZERO, ends_at: 0, retries: 0, awaited: 0 }
    }

    /// The stage of the delivery, set aside or not.
    pub fn stage(&self) -> &Stage {
        match &self.stage {
            Stage::Aside(aside) => &aside.stage,
            stage => stage,
        }
    }

    /// The message, while it is still needed.
    pub fn queued(&self) -> Option<&Queued> {
        match self.stage() {
            Stage::Prepared(queued) | Stage::Publish(queued) => Some(queued),
            Stage::Release | Stage::Settled | Stage::Aside(_) => None,
        }
    }
}

/// The effect of an acknowledgement from the client.
#[derive(Clone, Debug)]
pub enum Settled {
    /// The delivery continued or is over.
    Done,
    /// The delivery had this answer before, and has gone no further.
    Repeated,
    /// No delivery with this identifier is in flight.
    Unknown,
    /// A delivery with this identifier is in flight, but this is not its answer.
    OutOfPlace,
}

/// How much of the messages in flight was sent on this connection.
#[derive(Debug, Default)]
struct Window {
    /// Entries before this index were sent.
    sent: usize,
    /// How many of those are not settled.
    unsettled: usize,
    /// How many of them may be unsettled: the client's Receive Maximum [MQTT-3.3.4-9], at most [`IN_FLIGHT_MAXIMUM`].
    size: usize,
}

/// When the client was last sent a packet and last answered.
#[derive(Debug, Default)]
struct Times {
    /// When a packet that requires an answer was last sent on this connection.
    sent: Time,
    /// When the client last answered one.
    progressed: Time,
}

/// All messages for one client.
#[derive(Debug, Default)]
pub struct Outgoing {
    queue: Queue,
    in_flight: VecDeque<InFlight>,
    /// The identifier of the first entry in flight, unless that was set aside.
    first: u16,
    /// The deliveries that were set aside.
    aside: Places,
    /// How many identifiers the next connection skips after those in flight.
    left_out: u16,
    /// Whether messages have been dropped since the queue was last empty.
    is_losing: bool,
    /// Whether messages of QoS 0 may be in the queue and in the store.
    holds_at_most_once: bool,
    window: Window,
    times: Times,
    /// Subscriptions whose retained messages have not all been sent.
    pub retained_sends: RetainedSends,
    /// The messages in the store, after those in the queue.
    pub backlog: Option<OpenBacklog>,
    /// Whether the session is on the list of those to which more could be sent.
    pub is_listed: bool,
    /// Persisted messages that the session no longer needs, until they are settled.
    gone: Vec<MessageNumber>,
    /// Messages up to this one may have been sent on an earlier connection.
    pub sent_until: Option<MessageNumber>,
    counted: Counted,
}

impl Outgoing {
    /// Whether everything was sent that waited, apart from retained messages.
    pub fn has_drained(&self) -> bool {
        self.window.sent == self.in_flight.len() && self.queue.is_empty() && self.backlog.is_none()
    }

    /// What is owed if all messages are dropped.
    pub fn lost_at_end(&self) -> Vec<LostCopy> {
        let stored = self.backlog.iter().flat_map(|backlog| backlog.retained_topics());
        let in_flight = self.in_flight.iter().filter_map(InFlight::queued);
        in_flight
            .chain(self.queue.iter())
            .filter_map(Queued::lost)
            .chain(stored.map(|topic| LostCopy::Stored(topic.clone())))
            .collect()
    }

    /// Begins a new connection, on which nothing has been sent yet.
    pub fn resume(&mut self, window: u16) {
        self.window.sent = 0;
        self.window.unsettled = 0;
        self.window.size = usize::from(window.min(IN_FLIGHT_MAXIMUM));
        self.times.sent = Time::NEVER;
        for entry in &mut self.in_flight {
            entry.retries = 0;
        }
        self.set_room();
        self.skip_left_out();
        self.count();
    }

    /// Whether everything is done and no message waits.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.is_empty()
            && self.retained_sends.is_empty()
            && self.backlog.is_none()
            && self.gone.is_empty()
            && !self.is_listed
    }

    /// The deliveries in flight, including settled ones in between.
    pub fn in_flight(&self) -> &VecDeque<InFlight> {
        &self.in_flight
    }

    /// Whether there is nothing to send: nothing to send again, nothing queued, nothing retained.
    #[inline]
    pub fn is_at_rest(&self) -> bool {
        self.window.sent == self.in_flight.len()
            && self.queue.is_empty()
            && self.retained_sends.is_empty()
            && self.backlog.is_none()
    }

    /// The Packet Identifier of the entry at an index.
    pub fn identifier_of(&self, index: usize) -> PacketIdentifier {
        match &self.in_flight[index].stage {
            Stage::Aside(aside) => aside.identifier,
            _ => self.identifier_at(index),
        }
    }

    /// The same, for an entry that was not set aside.
    #[inline]
    fn identifier_at(&self, index: usize) -> PacketIdentifier {
        let circle = usize::from(u16::MAX);
        let value = usize::from(self.first.max(1)) + index;
        let value = if value > circle { value - circle } else { value };
        u16::try_from(value)
            .ok()
            .and_then(PacketIdentifier::new)
            .expect("no more are in flight than identifiers")
    }

    /// Whether the window and the identifiers allow one more PUBLISH now, and no older message has to go first.
    #[inline]
    pub fn may_begin(&self) -> bool {
        self.has_turn() && self.has_room_in_flight()
    }

    /// The same, whether or not there is an identifier for it.
    #[inline]
    pub fn has_turn(&self) -> bool {
        self.queue.is_empty() && self.backlog.is_none() && self.has_credit()
    }

    /// Whether the next Packet Identifier is known to be free. If not, [`Outgoing::make_place`] may help.
    #[inline]
    pub fn has_room_in_flight(&self) -> bool {
        self.in_flight.len() < self.aside.room
    }

    /// Like [`Outgoing::may_begin`], for a PUBLISH that has to wait until its Packet Identifier is durable.
    pub fn may_prepare(&self) -> bool {
        self.queue.is_empty()
            && self.backlog.is_none()
            && self.has_room_in_flight()
            && self.has_window_for_prepared()
    }

    /// Like [`Outgoing::may_begin`] or [`Outgoing::may_prepare`], after [a place was made](Outgoing::make_place).
    pub fn may_begin_in_place(&self, prepares: bool) -> bool {
        let has_window = if prepares { self.has_window_for_prepared() } else { self.has_credit() };
        self.queue.is_empty() && self.backlog.is_none() && has_window && self.has_place()
    }

    fn has_window_for_prepared(&self) -> bool {
        let unsent = self.in_flight.len() - self.window.sent;
        self.window.unsettled + unsent < self.window.size
    }

    /// Puts a delivery in flight with [`Outgoing::next_identifier`]. Its PUBLISH is sent when this batch is durable.
    pub fn prepare(&mut self, queued: Queued, now: Time, awaited: u64) {
        let stage = Stage::Prepared(queued);
        self.push_in_flight(InFlight { stage, queued_at: now, ends_at: 0, retries: 0, awaited });
    }

    /// Whether the first queued message has to be prepared, and may be now.
    fn may_prepare_next(&self) -> bool {
        let is_of_the_kind = |queued: &Queued| queued.qos == QoS::ExactlyOnce && queued.number.is_some();
        self.queue.front().is_some_and(is_of_the_kind) && self.has_window_for_prepared()
    }

    /// Whether everything was sent and the client takes more.
    #[inline]
    fn has_credit(&self) -> bool {
        self.window.sent == self.in_flight.len() && self.window.unsettled < self.window.size
    }

    /// The identifier that the next delivery will have.
    #[inline]
    pub fn next_identifier(&self) -> PacketIdentifier {
        self.identifier_at(self.in_flight.len())
    }

    /// Puts a delivery in flight whose PUBLISH has been queued with [`Outgoing::next_identifier`].
    #[inline]
    pub fn begin(&mut self, queued: Queued, now: Time, ends_at: u64) {
        let stage = Stage::Publish(queued);
        self.push_in_flight(InFlight { stage, queued_at: now, ends_at, retries: 0, awaited: 0 });
        self.window.sent += 1;
        self.window.unsettled += 1;
    }

    #[inline(always)]
    fn push_in_flight(&mut self, entry: InFlight) {
        if self.in_flight.len() == self.in_flight.capacity() {
            self.in_flight.reserve(1);
            self.count();
        }
        self.in_flight.push_back(entry);
    }

    /// Sets the number under which the message that was last put in flight or in the queue is persisted.
    pub fn number_last(&mut self, number: MessageNumber) {
        if let Some(InFlight { stage: Stage::Publish(queued), .. }) = self.in_flight.back_mut() {
            queued.number = Some(number);
        }
    }

    /// The number of the last message that the client may have been sent.
    pub fn last_sent(&self) -> Option<MessageNumber> {
        let sent = self.in_flight.iter().rev().find_map(|entry| match entry.stage() {
            Stage::Publish(queued) => queued.number,
            Stage::Prepared(_) | Stage::Release | Stage::Settled | Stage::Aside(_) => None,
        });
        sent.max(self.sent_until)
    }

    /// Notes that the session no longer needs this message.
    pub fn let_go(&mut self, number: Option<MessageNumber>) {
        self.gone.extend(number);
    }

    /// Takes the persisted messages that the session no longer needs, in the order in which they were let go.
    pub fn take_gone(&mut self, take: impl FnMut(MessageNumber)) {
        self.gone.drain(..).for_each(take);
        self.gone.shrink_to(GONE_KEPT);
    }

    /// The number of the message in flight with this identifier, if it is persisted and still needed.
    pub fn number_in_flight(&self, identifier: PacketIdentifier) -> Option<MessageNumber> {
        let in_place = self.find(identifier).filter(|_| self.is_in_place(identifier));
        self.in_flight[in_place.or_else(|| self.find_aside(identifier))?].queued()?.number
    }

    /// If anything is in flight when the client is back, the next `count` identifiers are not assigned until the client
    /// has answered all of it.
    pub const fn leave_out(&mut self, count: u16) {
        self.left_out = count;
    }

    /// Whether there is a queued message that may be sent now, or prepared. One of QoS 0 needs no window.
    #[inline]
    pub fn may_begin_next(&self, prepares: bool) -> bool {
        let has_window = self.has_credit() || prepares && self.may_prepare_next();
        has_window && self.has_place() && !self.queue.is_empty() || self.is_at_most_once_next()
    }

    /// The batch that the next packet to be sent again waits for, if it is later than `durable`.
    pub fn resends_after(&self, durable: u64) -> Option<u64> {
        self.in_flight.get(self.window.sent).map(|entry| entry.awaited).filter(|&awaited| awaited > durable)
    }

    /// The index of the first unsettled delivery that has not been sent on this connection, if it may be sent now. A
    /// PUBREL always may, a PUBLISH only within the window [MQTT-3.3.4-10]; neither before what it promises is durable,
    /// as all batches up to `durable` are.
    pub fn next_to_resend(&mut self, durable: u64) -> Option<usize> {
        while let Some(entry) = self.in_flight.get(self.window.sent) {
            match entry.stage() {
                Stage::Settled => self.window.sent += 1,
                _ if entry.awaited > durable => return None,
                Stage::Publish(_) | Stage::Prepared(_) if self.window.unsettled >= self.window.size => {
                    return None;
                }
                _ => return Some(self.window.sent),
            }
        }
        None
    }

    /// Notes that the delivery from [`Outgoing::next_to_resend`] has been queued again.
    pub fn resent(&mut self, now: Time, ends_at: u64) {
        let entry = &mut self.in_flight[self.window.sent];
        entry.queued_at = now;
        entry.ends_at = ends_at;
        entry.stage = match std::mem::replace(&mut entry.stage, Stage::Settled) {
            Stage::Prepared(queued) => Stage::Publish(queued),
            stage => stage,
        };
        self.window.sent += 1;
        self.window.unsettled += 1;
    }

    /// Ends the delivery from [`Outgoing::next_to_resend`] without sending it again, because the client no longer
    /// accepts packets of that size [MQTT-3.1.2-25].
    pub fn give_up(&mut self) {
        self.set_stage(self.window.sent, Stage::Settled);
        self.window.sent += 1;
        self.forget_settled();
    }

    /// Counts the memory of the lists; the messages count themselves.
    fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + self.queue.memory()
                + memory::allocation(self.in_flight.capacity() * size_of::<InFlight>())
                + self.aside.memory(),
        );
    }

    #[inline]
    fn find(&self, identifier: PacketIdentifier) -> Option<usize> {
        let (identifier, first) = (usize::from(identifier.value()), usize::from(self.first.max(1)));
        let circle = if identifier < first { usize::from(u16::MAX) } else { 0 };
        let index = identifier + circle - first;
        (index < self.window.sent).then_some(index)
    }

    /// Ends a delivery that was sent on this connection. Returns its former stage.
    #[inline]
    fn settle(&mut self, index: usize) -> Option<Stage> {
        self.window.unsettled -= 1;
        if index > 0 {
            return self.replace_stage(index, Stage::Settled);
        }
        // Clients answer in order [MQTT-4.6.0-2], so it is nearly always the first one.
        let former = self.pop_first();
        self.forget_settled();
        former
    }

    #[inline]
    fn replace_stage(&mut self, index: usize, stage: Stage) -> Option<Stage> {
        Some(std::mem::replace(&mut self.in_flight.get_mut(index)?.stage, stage))
    }

    /// Drops the message of a delivery that has moved on.
    #[inline(always)]
    fn let_message_go(&mut self, former: Option<Stage>, spares: &mut Spares) {
        if let Some(Stage::Publish(queued)) = former {
            if let Some(number) = queued.number {
                self.gone.push(number);
            }
            spares.keep(queued.message);
        }
    }

    /// Removes the first delivery, whose identifier is free from now on.
    #[inline]
    fn pop_first(&mut self) -> Option<Stage> {
        let first = self.in_flight.pop_front()?;
        self.first = self.identifier_at(1).value();
        // The entry may not have been skipped yet on this connection, if it was settled on an earlier one.
        self.window.sent = self.window.sent.saturating_sub(1);
        Some(first.stage)
    }

    /// Sets the stage of a delivery that has not been sent on this connection.
    fn set_stage(&mut self, index: usize, stage: Stage) {
        self.forget_aside(index);
        let entry = &mut self.in_flight[index];
        self.gone.extend(entry.queued().and_then(|queued| queued.number));
        entry.stage = stage;
    }

    /// Removes settled entries from the front.
    #[inline(always)]
    fn forget_settled(&mut self) {
        while matches!(self.in_flight.front(), Some(InFlight { stage: Stage::Settled, .. })) {
            self.pop_first();
        }
    }

    /// Adds the memory that it holds to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        let backlog = self.backlog.as_ref().map_or(0, |backlog| backlog.memory());
        audit.add(self.counted.bytes() + self.retained_sends.memory() + backlog);
        let in_flight = self.in_flight.iter().filter_map(InFlight::queued);
        for queued in self.queue.iter().chain(in_flight) {
            queued.message.audit(audit);
            queued.identifiers.audit(audit);
        }
    }

    /// Asserts that the sums are right and the window is respected.
    pub fn check_invariants(&self) {
        self.queue.check_invariants();
        assert!(self.window.sent <= self.in_flight.len(), "no more was sent than is in flight");
        let unsettled = self
            .in_flight
            .iter()
            .take(self.window.sent)
            .filter(|entry| !matches!(entry.stage, Stage::Settled))
            .count();
        assert_eq!(unsettled, self.window.unsettled, "unsettled deliveries are counted");
        let releases = self.in_flight.iter().filter(|entry| matches!(entry.stage(), Stage::Release)).count();
        assert!(unsettled <= self.window.size + releases, "the window is respected");
        assert!(
            !matches!(self.in_flight.front(), Some(InFlight { stage: Stage::Settled, .. })),
            "settled entries leave from the front"
        );
        self.check_aside();
    }
}
