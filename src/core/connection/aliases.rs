//! The Topic Aliases of one connection, in both directions. They end with it [MQTT-3.3.2-7].

use crate::base::memory::{self, Counted};
use crate::core::limits::OUTBOUND_TOPIC_ALIAS_MAXIMUM;
use crate::core::message::Naming;
use crate::protocol::topic::TopicName;

/// The aliases that the peer has bound.
#[derive(Debug, Default)]
pub struct InboundAliases {
    /// The topic of alias `n` at index `n - 1`.
    topics: Vec<Option<Box<str>>>,
    counted: Counted,
}

impl InboundAliases {
    /// Binds an alias, which has been checked to be from 1 to the maximum, instead of its former topic.
    pub fn bind(&mut self, alias: u16, topic: TopicName<'_>) {
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        self.topics[index] = Some(topic.as_str().into());
        let texts: usize = self.topics.iter().flatten().map(|topic| memory::allocation(topic.len())).sum();
        let places = self.topics.capacity() * size_of::<Option<Box<str>>>();
        self.counted.set(texts + memory::allocation(places));
    }

    /// The bytes that they take.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    /// Returns the topic to which the alias is bound.
    pub fn topic(&self, alias: u16) -> Option<TopicName<'_>> {
        let topic = self.topics.get(usize::from(alias).checked_sub(1)?)?.as_deref()?;
        Some(TopicName::trusted(topic))
    }
}

#[derive(Debug)]
struct Bound {
    topic: Box<str>,
    /// Whether it was used since the hand last passed.
    is_used: bool,
}

/// The aliases that the broker has bound. They go to the topics that keep coming: a hand goes round, and an alias that
/// was not used since its last visit is bound to another topic. So a single pass of a thousand topics does not displace
/// the few that matter.
#[derive(Debug)]
pub struct OutboundAliases {
    maximum: usize,
    bound: Vec<Bound>,
    hand: usize,
    counted: Counted,
}

impl OutboundAliases {
    /// Makes the aliases for a peer that accepts aliases up to `maximum` [MQTT-3.3.2-11].
    pub fn new(maximum: u16) -> Self {
        let maximum = usize::from(maximum.min(OUTBOUND_TOPIC_ALIAS_MAXIMUM));
        Self { maximum, bound: Vec::new(), hand: 0, counted: Counted::default() }
    }

    /// Returns how to name `topic` in the next PUBLISH, which must be sent. `may_bind` tells whether a new alias may be
    /// bound.
    pub fn name(&mut self, topic: TopicName<'_>, may_bind: bool) -> Naming {
        if let Some(index) = self.bound.iter().position(|bound| &*bound.topic == topic.as_str()) {
            self.bound[index].is_used = true;
            return Naming::Alias(alias_of(index));
        }
        if !may_bind {
            return Naming::Name;
        }
        let bound = Bound { topic: topic.as_str().into(), is_used: false };
        if self.bound.len() < self.maximum {
            self.bound.push(bound);
            self.count();
            return Naming::NameAndAlias(alias_of(self.bound.len() - 1));
        }
        let index = self.hand;
        self.hand = (index + 1) % self.maximum;
        if std::mem::take(&mut self.bound[index].is_used) {
            return Naming::Name;
        }
        self.bound[index] = bound;
        self.count();
        Naming::NameAndAlias(alias_of(index))
    }

    /// The bytes that they take.
    pub const fn memory(&self) -> usize {
        self.counted.bytes()
    }

    fn count(&mut self) {
        let texts: usize = self.bound.iter().map(|bound| memory::allocation(bound.topic.len())).sum();
        self.counted.set(texts + memory::allocation(self.bound.capacity() * size_of::<Bound>()));
    }

    /// Takes back the binding of a PUBLISH that is not sent after all: the next one must name the topic again.
    pub fn unbind(&mut self, naming: Naming) {
        if let Naming::NameAndAlias(alias) = naming {
            self.bound[usize::from(alias) - 1].topic = Box::default();
        }
    }
}

fn alias_of(index: usize) -> u16 {
    u16::try_from(index + 1).expect("there are fewer than u16::MAX aliases")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::new(text).unwrap()
    }

    #[test]
    fn a_client_may_bind_an_alias_again() {
        let mut aliases = InboundAliases::default();
        assert_eq!((aliases.topic(0), aliases.topic(2)), (None, None));
        aliases.bind(2, topic("a"));
        aliases.bind(2, topic("b"));
        assert_eq!((aliases.topic(1), aliases.topic(2)), (None, Some(topic("b"))));
    }

    #[test]
    fn topics_that_keep_coming_keep_their_alias() {
        let mut aliases = OutboundAliases::new(1);
        assert_eq!(aliases.name(topic("a"), true), Naming::NameAndAlias(1));
        assert_eq!(aliases.name(topic("a"), true), Naming::Alias(1));
        assert_eq!(aliases.name(topic("a"), false), Naming::Alias(1));
        assert_eq!(aliases.name(topic("b"), false), Naming::Name, "nothing is bound while memory runs short");
        assert_eq!(aliases.name(topic("b"), true), Naming::Name);
        assert_eq!(aliases.name(topic("b"), true), Naming::NameAndAlias(1));
        assert_eq!(aliases.name(topic("a"), true), Naming::NameAndAlias(1));
    }

    #[test]
    fn an_alias_that_was_not_sent_is_not_bound() {
        let mut aliases = OutboundAliases::new(3);
        let naming = aliases.name(topic("a"), true);
        aliases.unbind(naming);
        assert_eq!(aliases.name(topic("a"), true), Naming::NameAndAlias(2));
    }
}
