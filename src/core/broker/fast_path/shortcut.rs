//! The list of short ways. They have the same result as the full path, to the byte; `fuzzing_differential` compares the
//! two. None is taken if packets [may not take them](super::super::options::Options::may_be_short).
//!
//! Test builds count how often each is taken, so that a test can check that it covers them. In other builds the
//! compiler removes the counting.

use crate::protocol::codec::AcknowledgementKind;

/// A short way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortcut {
    /// A plain PUBLISH on a topic whose subscribers are known, without decoding it or asking about it.
    Relay,
    /// Several of QoS 1 or 2, answered together.
    RelayAnswered,
    /// Several of QoS 0, forwarded as they came.
    RelayRun,
    /// The delivery of QoS 1 or 2 to the only subscriber.
    BeginAlone,
    /// A copy of QoS 0 that is the packet as it came.
    Forward,
    /// PUBACKs or PUBCOMPs, several at once.
    SettleTogether,
    /// The same with PUBRECs, which are answered.
    ReleaseTogether,
    /// The same with PUBRELs.
    CompleteTogether,
    /// Answers to several messages while there is a store: each waits for what it promises.
    AnswerAsPromised,
    /// PUBACKs or PUBCOMPs of a persisted session, several at once.
    SettlePersisted,
    /// The same with PUBRECs.
    ReleasePersisted,
    /// The same with PUBRELs, or where other answers wait.
    CompletePersisted,
    /// An acknowledgement of success that is not decoded.
    HandlePlain,
}

impl Shortcut {
    /// The short way of several acknowledgements.
    #[inline]
    pub(super) const fn of_acknowledgements(kind: AcknowledgementKind) -> Self {
        match kind {
            AcknowledgementKind::PubAck | AcknowledgementKind::PubComp => Self::SettleTogether,
            AcknowledgementKind::PubRec => Self::ReleaseTogether,
            AcknowledgementKind::PubRel => Self::CompleteTogether,
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
mod count {
    use std::cell::Cell;

    use super::Shortcut;

    /// The number of short ways.
    pub const COUNT: usize = Shortcut::HandlePlain as usize + 1;

    thread_local! {
        static TAKEN: Cell<[u64; COUNT]> = const { Cell::new([0; COUNT]) };
    }

    /// Counts a short way that was taken.
    pub fn note(shortcut: Shortcut) {
        let mut taken = TAKEN.get();
        taken[shortcut as usize] += 1;
        TAKEN.set(taken);
    }

    /// How often each short way was taken in this thread, in the order of the list.
    pub fn taken() -> [u64; COUNT] {
        TAKEN.get()
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use count::note;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::core::broker) use count::taken;

/// Counts nothing in this build.
#[cfg(not(any(test, feature = "fuzzing")))]
#[inline]
pub(super) const fn note(_shortcut: Shortcut) {}
