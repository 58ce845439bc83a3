//! Deliberate faults, with which the simulator proves that it would find the like. Only the feature
//! `planted-faults`, which no build for use has, makes them possible; without it no fault is ever planted and the
//! compiler takes the hooks out.

/// What can be made to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A PUBREC is not answered.
    LostPubrel,
    /// A message sent again does not say so.
    SkippedDup,
    /// A leading wildcard matches topics that begin with `$`.
    WrongWildcard,
    /// A connection that takes bytes again is not written.
    ForgottenDirty,
    /// A repeated QoS 2 message is delivered again.
    RepeatedDelivery,
    /// A retained message keeps its place when the next one comes.
    RetainedNotReplaced,
    /// A message goes to the front of the queue.
    QueueReordered,
    /// A normal end leaves the Will in place.
    WillNotCancelled,
    /// One message more than the window is sent.
    WindowOffByOne,
    /// A queued message is sent though it has expired.
    ExpiredDelivered,
    /// A client gets its own messages though it does not want them.
    NoLocalIgnored,
    /// A Packet Identifier in flight is given out again.
    IdentifierReused,
    /// A session goes on though its client wants a new one.
    SessionNotDiscarded,
    /// Of several subscriptions that match, the first one decides the QoS.
    FirstQoSWins,
    /// A change of the subscriptions is not seen by the next message.
    StaleMatches,
    /// A closed connection leaves its timer behind.
    ForgottenTimer,
    /// Of several new subscriptions only the last one gets its retained messages.
    RetainedForLastOnly,
    /// A retained message is handed over twice.
    RetainedTwice,
    /// A message that can not be retained is delivered and refused.
    RefusedDelivered,
    /// A message is acknowledged before it is durable.
    EarlyAnswer,
    /// A PUBREL is sent before it is durable that the message is done.
    EarlyPubrel,
    /// A QoS 2 message is sent before its Packet Identifier is durable.
    IdentifierNotDurable,
    /// What a session needs no longer stays in the store.
    NeverSettled,
    /// A PUBCOMP is sent before it is durable that the identifier is free.
    EarlyPubcomp,
    /// A SUBACK is sent before the subscription is durable.
    EarlySuback,
    /// A CONNACK is sent before the session is durable.
    EarlyConnack,
    /// A retained message does not get into the store.
    RetainedNotKept,
    /// What may have been sent before a crash does not say so when it comes again.
    UnmarkedRepeat,
    /// A crash begins the Session Expiry Interval anew.
    ExpiryBeginsAnew,
    /// A message that goes on in a later turn leaves out the recipient who is next.
    RecipientSkipped,
    /// A message is answered in the second of several turns.
    AnsweredBeforeLast,
    /// Retained messages that go on in a later turn begin one topic too late.
    RetainedResumedLate,
    /// A message that was retained after a subscription began is handed over for it, too.
    NewerRetained,
}

#[cfg(feature = "planted-faults")]
mod bed {
    use std::cell::Cell;

    use crate::base::planted::Fault;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Plants one fault, or none, in this thread.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    /// Whether this fault is planted.
    pub fn is_planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(feature = "planted-faults")]
pub use bed::{is_planted, plant};

/// Whether this fault is planted: never.
#[cfg(not(feature = "planted-faults"))]
#[inline]
pub const fn is_planted(_fault: Fault) -> bool {
    false
}
