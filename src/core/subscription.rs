//! The entries of the trie for subscriptions, and the small types that describe a subscription.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::memory::{self, Audit, Counted};
use crate::core::slots::SessionId;
use crate::core::trie::FilterId;
use crate::protocol::codec::QoS;

/// The bits that a Subscription Identifier takes.
const IDENTIFIER_BITS: u32 = 28;

/// The largest Subscription Identifier.
pub const IDENTIFIER_MAXIMUM: u32 = (1 << IDENTIFIER_BITS) - 1;

/// One Shared Subscription: a Share Name with a Topic Filter. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(NonZeroU32);

impl GroupId {
    /// The smallest key.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The key with this number.
    pub const fn new(number: NonZeroU32) -> Self {
        Self(number)
    }
}

/// The terms of a subscription, packed into four bytes: the granted QoS, No Local, Retain As Published and the
/// Subscription Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms(u32);

impl Terms {
    const NO_LOCAL: u32 = 1 << 30;
    const RETAIN_AS_PUBLISHED: u32 = 1 << 31;

    /// Packs the terms. The identifier is at most 2^28 - 1, as the codec has checked; zero stands for none.
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

    /// Whether there is nothing but a QoS.
    #[inline]
    pub const fn are_plain(self) -> bool {
        self.0 & !(3 << IDENTIFIER_BITS) == 0
    }

    /// Returns the same terms with a QoS of at most `most`.
    pub fn capped(self, most: QoS) -> Self {
        let qos = u32::from(self.qos().min(most).level()) << IDENTIFIER_BITS;
        Self(self.0 & !(3 << IDENTIFIER_BITS) | qos)
    }

    /// Adds what another subscription of the same session grants: its QoS if that is higher, Retain As Published, and
    /// the client's own messages, unless both subscriptions have No Local.
    pub fn joined(self, other: Self) -> Self {
        let no_local = self.no_local() && other.no_local();
        let as_published = self.retain_as_published() || other.retain_as_published();
        Self::new(self.qos().max(other.qos()), no_local, as_published, self.identifier().unwrap_or(0))
    }

    /// Whether the subscriber's own messages are not delivered.
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

/// The receiver of messages that match a filter.
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
    /// The receiver.
    pub target: Target,
    /// The terms of the subscription. For a group each member's own terms count instead.
    pub terms: Terms,
}

const _: () = assert!(size_of::<Subscriber>() <= 16, "a million subscriptions pay for every byte here");

/// A subscription, as its session refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    /// A non-shared subscription, by its node in the trie.
    Filter(FilterId),
    /// Membership in a Shared Subscription.
    Group(GroupId),
}

/// The Subscription Identifiers of one delivery: almost always none, so eight bytes. A clone shares the list, and may
/// be sent to another thread; so the memory is not counted here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identifiers(Option<Arc<Box<[u32]>>>);

impl Identifiers {
    /// Stores `identifiers`.
    pub fn new(identifiers: &[u32]) -> Self {
        Self((!identifiers.is_empty()).then(|| Arc::new(identifiers.into())))
    }

    /// The identifiers.
    pub fn as_slice(&self) -> &[u32] {
        self.0.as_ref().map_or(&[], |list| list)
    }

    /// The bytes that the list takes, however many deliveries share it.
    pub fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |list| {
            memory::allocation(size_of::<Box<[u32]>>() + 2 * size_of::<usize>())
                + memory::allocation(size_of_val::<[u32]>(list))
        })
    }
}

/// Subscription Identifiers in the broker, counted once for all deliveries that share them.
#[derive(Clone, Debug, Default)]
pub struct SharedIdentifiers(Option<Rc<CountedIdentifiers>>);

#[derive(Debug)]
struct CountedIdentifiers {
    identifiers: Identifiers,
    counted: Counted,
}

impl SharedIdentifiers {
    /// The identifiers.
    #[inline]
    pub fn as_slice(&self) -> &[u32] {
        self.0.as_ref().map_or(&[], |shared| shared.identifiers.as_slice())
    }

    /// Returns the same list for another thread.
    pub fn portable(&self) -> Identifiers {
        self.0.as_ref().map_or_else(Identifiers::default, |shared| shared.identifiers.clone())
    }

    /// Adds the memory of the list to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        if let Some(shared) = &self.0 {
            audit.add_shared(Rc::as_ptr(shared).addr(), shared.counted.bytes());
        }
    }
}

impl From<Identifiers> for SharedIdentifiers {
    #[inline]
    fn from(identifiers: Identifiers) -> Self {
        Self(identifiers.0.is_some().then(|| {
            let shared = memory::allocation(size_of::<CountedIdentifiers>() + 2 * size_of::<usize>());
            let counted = Counted::new(shared + identifiers.memory());
            Rc::new(CountedIdentifiers { identifiers, counted })
        }))
    }
}

/// The list that was shared last. Deliveries with equal lists often follow each other, because publishers repeat topics
/// and a queue holds their messages.
#[derive(Debug, Default)]
pub struct LatestIdentifiers(SharedIdentifiers);

impl LatestIdentifiers {
    /// Returns a list of these identifiers, the last one if it is equal.
    #[inline]
    pub fn share(&mut self, identifiers: &[u32]) -> SharedIdentifiers {
        if identifiers.is_empty() {
            return SharedIdentifiers::default();
        }
        self.share_some(identifiers)
    }

    #[inline(never)]
    fn share_some(&mut self, identifiers: &[u32]) -> SharedIdentifiers {
        if self.0.as_slice() != identifiers {
            self.0 = Identifiers::new(identifiers).into();
        }
        self.0.clone()
    }

    /// Adds the memory that it holds to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        self.0.audit(audit);
    }
}

/// Returns a position among subscriptions in the size in which it is stored.
pub fn position(index: usize) -> u32 {
    u32::try_from(index).expect("memory ends before the indices do")
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

    #[test]
    fn equal_lists_are_one_and_counted_once() {
        let before = memory::held();
        let mut latest = LatestIdentifiers::default();
        let long: Vec<u32> = (1..=1000).collect();
        let first = latest.share(&long);
        let held = memory::held() - before;
        assert!((4000..4200).contains(&held), "{held}");
        let second = latest.share(&long);
        assert_eq!((memory::held() - before, second.as_slice()), (held, &*long));
        let portable = second.portable();
        assert_eq!(portable.as_slice().as_ptr(), first.as_slice().as_ptr(), "the list is not copied");
        let other = latest.share(&long[1..]);
        drop((first, second, other, latest));
        assert_eq!(memory::held(), before);
        assert_eq!(portable.as_slice(), long);
    }

    #[test]
    fn no_identifiers_take_nothing() {
        let before = memory::held();
        let none = LatestIdentifiers::default().share(&[]);
        assert_eq!((memory::held(), none.as_slice(), none.portable().memory()), (before, &[][..], 0));
    }
}
