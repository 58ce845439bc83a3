//! What the trie holds for each subscription, and the small types that describe one.

use std::num::NonZeroU32;

use crate::codec::QoS;
use crate::slots::SessionId;
use crate::trie::FilterId;

/// The bits that a Subscription Identifier takes.
const IDENTIFIER_BITS: u32 = 28;

/// The largest Subscription Identifier.
pub const IDENTIFIER_MAXIMUM: u32 = (1 << IDENTIFIER_BITS) - 1;

/// One Shared Subscription: a Share Name with a Topic Filter. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(NonZeroU32);

impl GroupId {
    /// The smallest of all.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The key with this number.
    pub const fn new(number: NonZeroU32) -> Self {
        Self(number)
    }
}

/// What a client asked of a subscription, packed into four bytes: the granted QoS, No Local, Retain As
/// Published and the Subscription Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms(u32);

impl Terms {
    const NO_LOCAL: u32 = 1 << 30;
    const RETAIN_AS_PUBLISHED: u32 = 1 << 31;

    /// Packs them. The identifier is at most 2^28 - 1, as the codec has checked; zero stands for none.
    pub fn new(qos: QoS, no_local: bool, retain_as_published: bool, identifier: u32) -> Self {
        assert!(identifier <= IDENTIFIER_MAXIMUM, "the codec limits Subscription Identifiers");
        let flags = if no_local { Self::NO_LOCAL } else { 0 }
            | if retain_as_published { Self::RETAIN_AS_PUBLISHED } else { 0 };
        Self(identifier | u32::from(qos.level()) << IDENTIFIER_BITS | flags)
    }

    /// The granted QoS.
    #[inline]
    pub fn qos(self) -> QoS {
        match self.0 >> IDENTIFIER_BITS & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Whether nothing but a QoS was asked for.
    #[inline]
    pub const fn are_plain(self) -> bool {
        self.0 & !(3 << IDENTIFIER_BITS) == 0
    }

    /// The same at a lower QoS, if that is lower.
    pub fn capped(self, most: QoS) -> Self {
        let qos = u32::from(self.qos().min(most).level()) << IDENTIFIER_BITS;
        Self(self.0 & !(3 << IDENTIFIER_BITS) | qos)
    }

    /// What another subscription of the same session adds: its QoS, if that is higher, and RETAIN as published; and the
    /// client's own messages, unless both leave them out.
    pub fn joined(self, other: Self) -> Self {
        let no_local = self.no_local() && other.no_local();
        let as_published = self.retain_as_published() || other.retain_as_published();
        Self::new(self.qos().max(other.qos()), no_local, as_published, self.identifier().unwrap_or(0))
    }

    /// Whether the subscriber's own messages are left out.
    pub const fn no_local(self) -> bool {
        self.0 & Self::NO_LOCAL != 0
    }

    /// Whether the RETAIN flag is forwarded as it was published.
    pub const fn retain_as_published(self) -> bool {
        self.0 & Self::RETAIN_AS_PUBLISHED != 0
    }

    /// The Subscription Identifier.
    pub const fn identifier(self) -> Option<u32> {
        match self.0 & IDENTIFIER_MAXIMUM {
            0 => None,
            identifier => Some(identifier),
        }
    }
}

/// Who gets what matches a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One session.
    Session(SessionId),
    /// One member of a Shared Subscription.
    Group(GroupId),
}

/// One entry of a filter's node in the trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who gets what matches.
    pub target: Target,
    /// On which terms. For a group each member's own terms count instead.
    pub terms: Terms,
}

const _: () = assert!(size_of::<Subscriber>() <= 16, "a million subscriptions pay for every byte here");

/// A subscription as its session remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// An ordinary subscription, by its node in the trie.
    Filter(FilterId),
    /// Membership in a Shared Subscription.
    Group(GroupId),
}

/// The Subscription Identifiers that go with one delivery: almost always none, so kept in eight bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identifiers(Option<Box<IdentifierList>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct IdentifierList(Vec<u32>);

impl Identifiers {
    /// Keeps `identifiers`.
    #[inline]
    pub fn new(identifiers: &[u32]) -> Self {
        Self((!identifiers.is_empty()).then(|| Box::new(IdentifierList(identifiers.to_vec()))))
    }

    /// The identifiers.
    pub fn as_slice(&self) -> &[u32] {
        self.0.as_ref().map_or(&[], |list| &list.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_keep_what_was_asked() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (no_local, retain_as_published) in [(false, false), (true, false), (false, true)] {
                for identifier in [0, 1, IDENTIFIER_MAXIMUM] {
                    let terms = Terms::new(qos, no_local, retain_as_published, identifier);
                    assert_eq!(terms.qos(), qos);
                    assert_eq!(terms.no_local(), no_local);
                    assert_eq!(terms.retain_as_published(), retain_as_published);
                    assert_eq!(terms.identifier().unwrap_or(0), identifier);
                    let capped =
                        Terms::new(qos.min(QoS::AtLeastOnce), no_local, retain_as_published, identifier);
                    assert_eq!(terms.capped(QoS::AtLeastOnce), capped);
                }
            }
        }
    }
}
