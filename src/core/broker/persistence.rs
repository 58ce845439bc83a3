//! The journal, if anything is persisted.

use crate::base::planted::{self, is_planted};
use crate::core::journal::{Awaited, OpenJournal};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{Delivery, QoS};

#[derive(Default)]
pub(super) struct Persistence {
    /// What is to be persisted, if anything is.
    pub(super) journal: Option<OpenJournal>,
    /// What the store has told of itself.
    pub(super) figures: StorageFigures,
}

impl Persistence {
    /// Whether a session is kept.
    #[inline]
    pub(super) fn is_persisted(&self, session: SessionId) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.number_of(session).is_some())
    }

    /// Whether anything is said to a client before what it says is durable.
    fn holds(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.holds())
    }

    /// Another message is the current one, from the client of this connection if it is one's.
    #[inline]
    pub(super) fn begin_message(&mut self, publisher: Option<ConnectionId>) {
        if let Some(journal) = &mut self.journal {
            journal.begin_message(publisher);
        }
    }

    /// Whether a PUBLISH of this QoS to a session has to wait until its Packet Identifier is durable: after a crash, no
    /// other message may have the identifier that the client may have seen with this one.
    pub(super) fn must_prepare(&self, session: SessionId, qos: QoS) -> bool {
        qos == QoS::ExactlyOnce
            && self.holds()
            && self.is_persisted(session)
            && !is_planted(planted::Fault::IdentifierNotDurable)
    }

    /// What a packet waits for before which it may not leave.
    pub(super) fn awaited_batch(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.awaited_batch())
    }

    /// All batches up to this one are durable, as far as it matters.
    pub(super) fn durable_batch(&self) -> u64 {
        match &self.journal {
            Some(journal) if !is_planted(planted::Fault::EarlyPubrel) => journal.durable(),
            _ => u64::MAX,
        }
    }

    /// What the answer to the current message waits for.
    pub(super) fn take_awaited(&mut self) -> Awaited {
        self.journal.as_mut().map_or(Awaited::Nothing, |journal| journal.take_awaited())
    }

    /// What an answer waits for that promises what was recorded of a session, if that is kept.
    pub(super) fn recorded(&self, session: SessionId) -> Awaited {
        match &self.journal {
            Some(journal) if journal.number_of(session).is_some() => journal.recorded(),
            _ => Awaited::Nothing,
        }
    }

    /// Whether an answer has to wait: for what it promises, or for those before it.
    #[inline]
    pub(super) fn must_wait(&self, id: ConnectionId, awaited: Awaited) -> bool {
        self.journal.as_ref().is_some_and(|journal| {
            journal.holds() && (journal.answers.are_waiting(id) || !journal.is_there(awaited))
        })
    }

    /// Whether a message of a connection is left unanswered because one before it was, so that all of them come again
    /// in their order.
    #[inline]
    pub(super) fn is_unanswered(&self, id: ConnectionId, delivery: Delivery) -> bool {
        delivery != Delivery::AtMostOnce
            && self.journal.as_ref().is_some_and(|journal| journal.is_unanswered(id))
    }

    /// Leaves a message unanswered that there is no room for, as versions before 5.0 have no word for that. Nothing of
    /// it has taken effect; its client sends it again on another connection.
    pub(super) fn leave_unanswered(&mut self, id: ConnectionId) {
        if let Some(journal) = &mut self.journal {
            journal.leave_unanswered(id);
        }
    }

    /// Whether every message of this connection is accepted: none is left out for want of room on disk.
    #[inline]
    pub(super) fn takes_all(&self, id: ConnectionId) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.has_room() && !journal.is_unanswered(id))
    }

    /// Whether the store accepts new messages, or there is no store.
    #[inline]
    pub(super) fn has_storage_room(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.has_room())
    }

    /// Whether a packet that has to be stored waits while too much is to be written. It does not if it is refused
    /// anyway, unless its refusal would have to wait, too.
    pub(super) fn waits_to_be_persisted(&self, id: ConnectionId) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.has_room() || journal.answers.are_waiting(id))
    }
}

/// What a store has written, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageFigures {
    /// Bytes since the start.
    pub bytes: u64,
    /// Commits since the start.
    pub commits: u64,
    /// How long half of the commits took at most, in microseconds.
    pub median: u64,
    /// How long 99 of 100 took.
    pub percentile_99: u64,
    /// How long the longest took.
    pub longest: u64,
    /// Rows that were found to be damaged.
    pub damaged: u64,
    /// Commits that were lost with a journal that was damaged.
    pub severed: u64,
}
