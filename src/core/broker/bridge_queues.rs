//! The queues of bridges: how long messages wait in them, and the end of those that wait too long. All of this is done
//! where a message has to wait, and once a turn; a message that is sent at once costs nothing.

use log::info;

use super::Broker;
use super::arrivals::{Arrivals, Run};
use super::bridges::LocalSide;
use super::turn::steps;
use crate::base::escape::Escaped;
use crate::base::memory::Audit;
use crate::base::time::{Duration, Time};
use crate::core::journal::{MessageNumber, Record, Urgency};
use crate::core::listener::ListenerId;
use crate::core::session::LostCopy;
use crate::core::slots::SessionId;

/// How many messages of one bridge are dropped in a turn because they have waited too long. The rest follows in the
/// next turn.
const DROPPED_PER_TURN: usize = 1024;

/// What is known of the queues of bridges.
#[derive(Debug)]
pub(super) struct BridgeQueues {
    /// When persisted messages came, by their numbers.
    persisted: Arrivals,
    queues: Vec<BridgeQueue>,
    /// When the next message may have waited too long.
    due: Time,
}

/// What is known of the queue of one bridge.
#[derive(Debug)]
struct BridgeQueue {
    client_identifier: Box<str>,
    listener: ListenerId,
    /// When messages that are not persisted came: the last one in the queue has the number `pushed`.
    arrivals: Arrivals,
    pushed: u64,
    /// Whether no delivery begins on the next connection.
    is_held: bool,
    /// How many messages were dropped because they had waited too long.
    outdated: u64,
    /// Whether that was logged since the queue was last empty without it.
    is_logged: bool,
}

impl Default for BridgeQueues {
    fn default() -> Self {
        Self { persisted: Arrivals::default(), queues: Vec::new(), due: Time::NEVER }
    }
}

impl BridgeQueues {
    /// Sets which bridges there are.
    pub(super) fn set(&mut self, bridges: &[LocalSide]) {
        let mut former = std::mem::take(&mut self.queues);
        for LocalSide { client_identifier, listener, .. } in bridges {
            let same = former.iter().position(|queue| queue.client_identifier == *client_identifier);
            let queue = same.map(|place| former.swap_remove(place));
            self.queues.push(BridgeQueue {
                listener: *listener,
                ..queue.unwrap_or_else(|| BridgeQueue {
                    client_identifier: client_identifier.clone(),
                    listener: *listener,
                    arrivals: Arrivals::default(),
                    pushed: 0,
                    is_held: false,
                    outdated: 0,
                    is_logged: false,
                })
            });
        }
        self.look_again();
    }

    /// Restores how long ago persisted messages came, from this one on.
    pub(super) fn restore(&mut self, MessageNumber(number): MessageNumber, age: Duration, now: Time) {
        self.persisted.restore(
            number.get(),
            signed(now.milliseconds()) - signed(age.milliseconds()),
            signed(now.milliseconds()),
        );
    }

    /// Whether no delivery begins on a connection of this Client Identifier.
    pub(super) fn is_held(&self, client_identifier: &str) -> bool {
        self.queues.iter().any(|queue| queue.is_held && *queue.client_identifier == *client_identifier)
    }

    fn of(&mut self, client_identifier: &str) -> Option<&mut BridgeQueue> {
        self.queues.iter_mut().find(|queue| *queue.client_identifier == *client_identifier)
    }

    /// Looks for messages that have waited too long in the next turn.
    pub(super) const fn look_again(&mut self) {
        self.due = Time::ZERO;
    }

    /// When messages may have waited too long, if any ever will.
    pub(super) fn due(&self) -> Option<Time> {
        Some(self.due).filter(|&due| due < Time::NEVER)
    }

    pub(super) fn audit(&self, audit: &mut Audit) {
        self.persisted.audit(audit);
        self.queues.iter().for_each(|queue| queue.arrivals.audit(audit));
    }
}

impl Broker {
    /// Notes that a message comes into the queue of a session, if it is a bridge's.
    pub(super) fn note_arrival(&mut self, session: SessionId) {
        let state = &self.clients.sessions[session];
        let Some(options) = self.options.queue_options(state.listener) else { return };
        let now = self.clock.now;
        if let Some(age) = options.age {
            self.clients.bridge_queues.due = self.clients.bridge_queues.due.min(now + age);
        }
        let number = self.persistence.number_of(session).and(self.persistence.journal.as_ref());
        if let Some(number) = number.map(|journal| journal.messages.next()) {
            self.note_persisted(number);
            return;
        }
        let length = state.outgoing.as_ref().map_or(0, |outgoing| outgoing.queue_length() as u64);
        let Some(queue) = self.clients.bridge_queues.of(&state.client_identifier) else { return };
        if length == 0 {
            (queue.arrivals, queue.pushed) = (Arrivals::default(), 0);
        }
        queue.pushed += 1;
        queue.arrivals.forget_before(queue.pushed.saturating_sub(length));
        queue.arrivals.note(queue.pushed, signed(now.milliseconds()));
    }

    /// Notes that a persisted message with this number waits from now on.
    fn note_persisted(&mut self, number: MessageNumber) {
        let now = self.clock.now;
        if self.clients.bridge_queues.persisted.note(number.0.get(), signed(now.milliseconds())) {
            let oldest = self.oldest_persisted().map_or(number, |oldest| oldest.min(number));
            self.clients.bridge_queues.persisted.forget_before(oldest.0.get());
            self.record_arrival(number, oldest);
        }
    }

    fn record_arrival(&mut self, message: MessageNumber, oldest: MessageNumber) {
        let at = self.clock.now;
        if let Some(journal) = &mut self.persistence.journal {
            journal.record(Record::Arrived { message, at, oldest }, Urgency::Lazy, at);
        }
    }

    /// The oldest persisted message that waits in the queue of a bridge.
    fn oldest_persisted(&self) -> Option<MessageNumber> {
        let first = |queue: &BridgeQueue| {
            let session = self.clients.find(&queue.client_identifier)?;
            self.clients.sessions[session].outgoing.as_ref()?.first_waiting().flatten()
        };
        self.clients.bridge_queues.queues.iter().filter_map(first).min()
    }

    /// Notes that the expired messages of a queue are about to be removed from it.
    pub(super) fn note_gaps(&mut self, session: SessionId) {
        let state = &self.clients.sessions[session];
        let Some(outgoing) = &state.outgoing else { return };
        if let Some(queue) = self.clients.bridge_queues.of(&state.client_identifier) {
            let before = queue.pushed.saturating_sub(outgoing.queue_length() as u64) + 1;
            let places = outgoing.expired_places(self.clock.now);
            let removed: Vec<u64> = places.into_iter().map(|place| before + place as u64).collect();
            queue.arrivals.close_gaps(&removed);
        }
    }

    /// When the first message came that waits in a queue. One of which nothing is known counts as having come now.
    fn first_arrival(&mut self, place: usize, session: SessionId) -> Option<Run> {
        let now = signed(self.clock.now.milliseconds());
        let outgoing = self.clients.sessions.find(session)?.outgoing.as_ref()?;
        let Some(number) = outgoing.first_waiting()? else {
            let queue = self.clients.bridge_queues.queues.get(place)?;
            return queue.arrivals.run_of((queue.pushed + 1).checked_sub(outgoing.queue_length() as u64)?);
        };
        let arrivals = &mut self.clients.bridge_queues.persisted;
        if arrivals.run_of(number.0.get()).is_none() {
            arrivals.begin_with(number.0.get(), now);
            self.record_arrival(number, number);
        }
        self.clients.bridge_queues.persisted.run_of(number.0.get())
    }

    /// Drops messages that have waited too long in the queues of bridges, if it is time to look for them.
    #[inline]
    pub(super) fn drop_outdated_if_due(&mut self) {
        if self.clients.bridge_queues.due <= self.clock.now {
            self.drop_outdated();
        }
    }

    #[cold]
    #[inline(never)]
    fn drop_outdated(&mut self) {
        let mut due = Time::NEVER;
        for place in 0..self.clients.bridge_queues.queues.len() {
            let queue = &self.clients.bridge_queues.queues[place];
            let options = self.options.queue_options(queue.listener);
            let session = self.clients.find(&queue.client_identifier);
            if let (Some(age), Some(session)) = (options.and_then(|options| options.age), session) {
                due = due.min(self.drop_outdated_of(place, session, age));
            }
        }
        self.clients.bridge_queues.due = due;
    }

    /// Drops the messages of one bridge that have waited longer than `age`. Returns when to look again.
    fn drop_outdated_of(&mut self, place: usize, session: SessionId, age: Duration) -> Time {
        let now = self.now();
        let mut lost = Vec::new();
        let (mut count, mut due) = self.drop_prepared(session, age, &mut lost);
        let is_drained = loop {
            let Some(run) = self.first_arrival(place, session) else { break count == 0 };
            // It may have waited for just as long.
            let ends = run.until.saturating_add(signed(age.milliseconds())).saturating_add(1);
            let ends = Time::from_milliseconds(u64::try_from(ends).unwrap_or(0));
            if now < ends || count >= DROPPED_PER_TURN {
                due = due.min(ends);
                break false;
            }
            let outgoing = self.clients.sessions[session].outgoing_mut();
            if let Some(backlog) = &mut outgoing.backlog {
                // It is read again without what is dropped here.
                backlog.give_up_page();
            }
            outgoing.drop_oldest(&mut lost);
            count += 1;
        };
        self.owe_lost(session, lost);
        self.settle_gone(session);
        self.turn.take(count * steps::PACKET);
        self.output.statistics.expired += count as u64;
        let queue = &mut self.clients.bridge_queues.queues[place];
        queue.outdated += count as u64;
        if count > 0 && !queue.is_logged {
            let (client, seconds) = (Escaped(&queue.client_identifier), age.seconds());
            info!(
                target: "notice",
                "Messages for client {client} are being dropped that have waited for more than {seconds} s. The limit is \
                 bridge_max_age."
            );
        }
        queue.is_logged = (queue.is_logged || count > 0) && !is_drained;
        due
    }

    /// Drops deliveries that had waited for the store when the connection was lost, and have waited too long since.
    /// Returns how many, and when to look again.
    fn drop_prepared(
        &mut self,
        session: SessionId,
        age: Duration,
        lost: &mut Vec<LostCopy>,
    ) -> (usize, Time) {
        let state = &mut self.clients.sessions[session];
        if state.connection().is_some() {
            return (0, Time::NEVER);
        }
        let Some(outgoing) = &mut state.outgoing else { return (0, Time::NEVER) };
        let (count, next) = outgoing.drop_prepared(self.clock.now - age, lost);
        (count, next.map_or(Time::NEVER, |next| next + age + Duration::from_milliseconds(1)))
    }

    /// Sets whether the messages of a bridge wait on its next connection, as they do without one: it connects only to
    /// subscribe.
    pub fn hold_deliveries(&mut self, client_identifier: &str, is_held: bool) {
        let _entered = self.account.enter();
        if let Some(queue) = self.clients.bridge_queues.of(client_identifier) {
            queue.is_held = is_held;
        }
    }

    /// How long the first message has waited in the queue of this bridge, and how many of its messages were dropped
    /// because they had waited too long.
    pub fn bridge_queue(&mut self, client_identifier: &str, now: Time) -> (Duration, u64) {
        let _entered = self.account.enter();
        self.advance(now);
        let mut queues = self.clients.bridge_queues.queues.iter();
        let Some(place) = queues.position(|queue| *queue.client_identifier == *client_identifier) else {
            return (Duration::ZERO, 0);
        };
        let session = self.clients.find(client_identifier);
        let first = session.and_then(|session| self.first_arrival(place, session));
        let waited = first.map_or(0, |run| signed(self.clock.now.milliseconds()) - run.from);
        let waited = Duration::from_milliseconds(u64::try_from(waited).unwrap_or(0));
        (waited, self.clients.bridge_queues.queues[place].outdated)
    }
}

/// Times of this broker are far below the limit.
fn signed(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}
