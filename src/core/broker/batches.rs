//! Records that are to be persisted leave in batches, and what has waited for a batch continues when it is durable.
//! Without a journal nothing is persisted, and nothing waits.

use super::turn::steps;
use super::{Broker, Effect};
use crate::base::time::Time;
use crate::core::journal::{Batch, Journal, NextNumbers, Pace, Record, Urgency};
use crate::core::listener::ListenerId;
use crate::core::slots::SessionId;

impl Broker {
    /// Persists, from now on, sessions that outlive their connections. To be called before the first connection.
    pub fn begin_journal(&mut self, next: NextNumbers, pace: Pace) {
        let _entered = self.account.enter();
        self.persistence.journal = Journal::begin(next, pace);
    }

    /// When [`Broker::take_batch`] is to be called. `None` while there is nothing to be persisted, or the store has a
    /// batch.
    pub fn batch_due(&self) -> Option<Time> {
        self.persistence.journal.as_ref()?.batch_due()
    }

    /// Whether everything that is to be persisted and for which there is room is durable.
    pub fn is_durable(&self) -> bool {
        self.persistence.journal.as_ref().is_none_or(|journal| journal.is_empty())
    }

    /// Makes everything that is to be persisted due now, however long it could wait.
    pub fn persist(&mut self, now: Time) {
        let _entered = self.account.enter();
        if let Some(journal) = &mut self.persistence.journal {
            journal.persist(now);
        }
    }

    /// Closes the open batch, which is to become durable as a whole. `None` if there is none, or the store has one.
    pub fn take_batch(&mut self, now: Time) -> Option<Batch> {
        let _entered = self.account.enter();
        self.advance(now);
        let journal = self.persistence.journal.as_mut().filter(|journal| !journal.is_closed())?;
        let changed = journal.take_changed();
        let retained = journal.take_retained();
        let sessions = changed.iter().filter_map(|&session| self.stored_session(session)).collect();
        let retained = retained.iter().map(|topic| self.stored_retained(topic)).collect();
        let now = self.clock.now;
        let batch = self.persistence.journal.as_mut()?.close(sessions, retained, now);
        match &batch {
            None => self.go_on(),
            Some(_) => {
                // The batch was copied for another thread.
                let bytes = self.persistence.journal.as_ref().map_or(0, |journal| journal.closed_bytes());
                self.turn.take(bytes / steps::BYTES_GROWN_PER_STEP);
                self.resume_paused();
            }
        }
        batch
    }

    /// Notes that the batch with this number is durable.
    pub fn durable(&mut self, number: u64, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(journal) = &mut self.persistence.journal else { return };
        journal.is_durable(number);
        self.go_on();
    }

    /// Continues with everything that has waited for what is durable now.
    pub(super) fn go_on(&mut self) {
        self.release_withheld();
        let Some(journal) = &mut self.persistence.journal else { return };
        let answering = journal.answers.connections();
        self.turn.take(answering.len() / steps::COPIED_PER_STEP);
        self.waiting.answer(answering);
        while let Some(id) = self.waiting.first_to_answer(&self.turn) {
            self.turn.take(steps::PACKET);
            self.release_answers(id);
        }
        while let Some(session) =
            self.persistence.journal.as_mut().and_then(|journal| journal.next_to_go_on())
        {
            self.turn.take(steps::PACKET);
            self.list_if_known(session);
        }
        self.ask_for_legacy();
        self.resume_paused();
    }

    /// Lists a session that has waited for the store, unless it is gone.
    pub(super) fn list_if_known(&mut self, session: SessionId) {
        if self.clients.sessions.find(session).is_some() {
            self.list(session);
        }
    }

    /// Releases the output of connections that was held back for what is durable now.
    pub(super) fn release_withheld(&mut self) {
        let Some(journal) = &mut self.persistence.journal else { return };
        for id in journal.take_released() {
            self.turn.take(steps::PACKET);
            self.wake(id);
        }
    }

    /// Resumes connections that have waited for room in the open batch.
    pub(super) fn resume_paused(&mut self) {
        if let Some(journal) = self.persistence.journal.as_mut().filter(|journal| !journal.is_full()) {
            self.effects.extend(journal.take_paused().into_iter().map(Effect::Resume));
        }
    }

    /// Records the name of a listener that did not exist when the journal was begun.
    pub fn name_listener(&mut self, listener: ListenerId, name: &str, now: Time) {
        let _entered = self.account.enter();
        if let Some(journal) = &mut self.persistence.journal {
            journal.record(Record::Listener(listener, name.to_owned()), Urgency::Lazy, now);
        }
    }
}
