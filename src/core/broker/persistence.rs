//! The journal, if anything is persisted, and the figures of the store.

use crate::core::journal::{Awaited, OpenJournal, SessionNumber};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{Delivery, QoS};

#[derive(Default)]
pub(super) struct Persistence {
    /// `None` if nothing is persisted.
    pub(super) journal: Option<OpenJournal>,
    /// Whether the log of the cluster takes the place of a store.
    pub(super) is_log: bool,
    /// The longest message that the log takes, in bytes of its content.
    pub(super) logged_maximum: usize,
    /// What the store has reported about itself.
    pub(super) figures: StorageFigures,
}

impl Persistence {
    /// Whether the log of the cluster takes the place of a store. A binary without clusters has none, so that what serves
    /// only them is left out of it.
    #[inline]
    pub(super) const fn has_log(&self) -> bool {
        cfg!(any(feature = "cluster", feature = "fuzzing", test)) && self.is_log
    }

    /// Returns the number of a session in the store, if it is persisted.
    #[inline]
    pub(super) fn number_of(&self, session: SessionId) -> Option<SessionNumber> {
        self.journal.as_ref()?.number_of(session)
    }

    /// The number of a session in the store, as it was noted. Without a journal there is none, which the compiler does
    /// not know.
    pub(super) fn noted(&self, number: Option<SessionNumber>) -> Option<SessionNumber> {
        number.filter(|_| self.journal.is_some())
    }

    /// Whether a session is persisted.
    #[inline]
    pub(super) fn is_persisted(&self, session: SessionId) -> bool {
        self.number_of(session).is_some()
    }

    /// Whether answers are held back until what they promise is durable.
    fn holds(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.holds())
    }

    /// Begins another message, from the client of this connection if it comes from one.
    #[inline]
    pub(super) fn begin_message(&mut self, publisher: Option<ConnectionId>) {
        if let Some(journal) = &mut self.journal {
            journal.begin_message(publisher);
        }
    }

    /// Whether a PUBLISH of this QoS to a session has to wait until its Packet Identifier is durable: after a crash, no
    /// other message may have the identifier that the client may have seen with this one.
    pub(super) fn must_prepare(&self, session: SessionId, qos: QoS) -> bool {
        qos == QoS::ExactlyOnce && self.holds() && self.is_persisted(session)
    }

    /// The batch that must be durable before a packet that depends on the latest records may leave.
    pub(super) fn awaited_batch(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.awaited_batch())
    }

    /// The latest batch up to which all are durable; the highest number if nothing waits for batches.
    pub(super) fn durable_batch(&self) -> u64 {
        match &self.journal {
            Some(journal) => journal.durable(),
            None => u64::MAX,
        }
    }

    /// Returns what the answer to the current message waits for.
    pub(super) fn take_awaited(&mut self) -> Awaited {
        self.journal.as_mut().map_or(Awaited::Nothing, |journal| journal.take_awaited())
    }

    /// Returns what an answer waits for that promises what was recorded of a session, if that is persisted.
    pub(super) fn recorded(&self, session: SessionId) -> Awaited {
        match &self.journal {
            Some(journal) if journal.number_of(session).is_some() => journal.recorded(),
            _ => Awaited::Nothing,
        }
    }

    /// Returns what the answer to a message waits for that has been received before.
    pub(super) fn received(&self, session: SessionId) -> Awaited {
        match &self.journal {
            Some(journal) if self.has_log() => journal.recorded(),
            _ => self.recorded(session),
        }
    }

    /// Whether an answer has to wait: for what it promises, or for earlier answers.
    #[inline]
    pub(super) fn must_wait(&self, id: ConnectionId, awaited: Awaited) -> bool {
        self.journal.as_ref().is_some_and(|journal| {
            journal.holds() && (!journal.is_there(awaited) || journal.answers.are_waiting(id))
        })
    }

    /// Whether a message of a connection is left unanswered because an earlier one was, so that all of them are sent
    /// again in order.
    #[inline]
    pub(super) fn is_unanswered(&self, id: ConnectionId, delivery: Delivery) -> bool {
        delivery != Delivery::AtMostOnce
            && self.journal.as_ref().is_some_and(|journal| journal.is_unanswered(id))
    }

    /// Leaves a message unanswered for which there is no room, because versions before 5.0 cannot refuse it. The
    /// message has no effect; its client sends it again on another connection.
    pub(super) fn leave_unanswered(&mut self, id: ConnectionId) {
        if let Some(journal) = &mut self.journal {
            journal.leave_unanswered(id);
        }
    }

    /// Whether every message of this connection is accepted: none is left unanswered for want of room on disk.
    #[inline]
    pub(super) fn takes_all(&self, id: ConnectionId) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.has_room() && !journal.is_unanswered(id))
    }

    /// Whether the store accepts new messages, or there is no store.
    #[inline]
    pub(super) fn has_storage_room(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.has_room())
    }

    /// Whether there is room for what is stored of a session, or nothing of it is stored.
    #[inline]
    pub(super) fn has_room_for(&self, session: SessionId) -> bool {
        self.has_storage_room() || !self.is_persisted(session)
    }

    /// Whether a packet that has to be stored waits while the journal is full. It does not wait if it is refused
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
    /// The median time of recent commits, in microseconds. Some thousand commits count as recent.
    pub median: u64,
    /// The time that 99 % of recent commits did not exceed, in microseconds.
    pub percentile_99: u64,
    /// The longest time that a commit took, in microseconds.
    pub longest: u64,
    /// Rows that were found to be damaged.
    pub damaged: u64,
    /// Commits that were lost with a damaged journal.
    pub severed: u64,
}
