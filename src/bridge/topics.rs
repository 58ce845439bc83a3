//! The topics of a bridge: which filters it subscribes to on each side, and how a topic is named on the other side.
//!
//! A rule gives a pattern and a prefix for each side. The first rule that matches a topic and has a prefix renames it:
//! the prefix of the one side is replaced by that of the other. A topic that is matched only by rules without prefixes
//! keeps its name.

use crate::protocol::codec::QoS;
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::settings::BridgeTopic;

/// A filter to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The Topic Filter with its prefix.
    pub filter: Box<str>,
    /// The highest QoS of the rules that have this filter.
    pub qos: QoS,
}

impl Wanted {
    /// The filter as a checked type.
    ///
    /// # Panics
    ///
    /// If it is not valid. The configuration has checked that it is.
    pub fn topic_filter(&self) -> TopicFilter<'_> {
        TopicFilter::new(&self.filter).expect("the configuration checks filters with their prefixes")
    }
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From this broker to the other one.
    Out,
    /// From the other broker to this one.
    In,
}

/// The rules of a bridge.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    outgoing: Rules,
    incoming: Rules,
    /// Those that bring back the responses to outgoing messages, as names of topics go out.
    outgoing_responses: Rules,
    /// Those that take the responses to incoming messages away, as names of topics come in.
    incoming_responses: Rules,
    /// The filters in the other broker to which the bridge does not subscribe, though messages that match them are
    /// forwarded to it.
    only_out: Vec<Wanted>,
}

/// The rules for one direction.
#[derive(Clone, Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    wanted: Vec<Wanted>,
}

/// A rule for one direction.
#[derive(Clone, Debug)]
struct Rule {
    /// The pattern with the prefix of the side from which messages come.
    filter: Box<str>,
    /// The prefix that is removed.
    from: Box<str>,
    /// The prefix that is added.
    to: Box<str>,
}

impl Topics {
    /// The rules, in the order of the configuration.
    ///
    /// # Panics
    ///
    /// If a prefix and its pattern are not a valid Topic Filter.
    pub fn new(rules: &[BridgeTopic]) -> Self {
        let mut this = Self::default();
        for rule in rules.iter().filter(|rule| rule.direction.is_out()) {
            this.outgoing.add(rule, &rule.local_prefix, &rule.remote_prefix);
            this.incoming_responses.add(rule, &rule.remote_prefix, &rule.local_prefix);
        }
        for rule in rules.iter().filter(|rule| rule.direction.is_in()) {
            this.incoming.add(rule, &rule.remote_prefix, &rule.local_prefix);
            this.outgoing_responses.add(rule, &rule.local_prefix, &rule.remote_prefix);
        }
        for rule in rules.iter().filter(|rule| !rule.direction.is_in()) {
            let wanted = wanted(rule, &rule.remote_prefix);
            let is_known = |known: &Wanted| known.filter == wanted.filter;
            if !this.incoming.wanted.iter().any(is_known) && !this.only_out.iter().any(is_known) {
                this.only_out.push(wanted);
            }
        }
        this
    }

    /// Writes the name that a topic has on the other side into `renamed`, and returns whether a rule forwards the topic
    /// at all.
    #[inline]
    pub fn rename(&self, way: Way, topic: &str, renamed: &mut String) -> bool {
        match way {
            Way::Out => self.outgoing.rename(topic, renamed),
            Way::In => self.incoming.rename(topic, renamed),
        }
    }

    /// The same for the Response Topic of a message. The rules that forward the response decide, not those that forward
    /// the message.
    pub fn rename_response(&self, way: Way, topic: &str, renamed: &mut String) -> bool {
        match way {
            Way::Out => self.outgoing_responses.rename(topic, renamed),
            Way::In => self.incoming_responses.rename(topic, renamed),
        }
    }

    /// The filters in this broker to subscribe to, each once.
    pub fn wanted_here(&self) -> &[Wanted] {
        &self.outgoing.wanted
    }

    /// The filters in the other broker to subscribe to, each once.
    pub fn wanted_there(&self) -> &[Wanted] {
        &self.incoming.wanted
    }

    /// Whether the bridge gets the messages of a topic of the other broker.
    pub fn is_wanted_there(&self, topic: TopicName<'_>) -> bool {
        self.incoming.rules.iter().any(|rule| TopicFilter::trusted_pattern(&rule.filter).matches(topic))
    }

    /// The filters in the other broker to which there must be no subscription, each once: their messages are only
    /// forwarded to it.
    pub fn unwanted_there(&self) -> &[Wanted] {
        &self.only_out
    }
}

fn wanted(rule: &BridgeTopic, prefix: &str) -> Wanted {
    let wanted = Wanted { filter: format!("{prefix}{}", rule.pattern).into(), qos: rule.qos };
    wanted.topic_filter();
    wanted
}

impl Rules {
    fn add(&mut self, rule: &BridgeTopic, from: &str, to: &str) {
        let wanted = wanted(rule, from);
        let pattern = wanted.topic_filter().pattern().into();
        self.rules.push(Rule { filter: pattern, from: from.into(), to: to.into() });
        match self.wanted.iter_mut().find(|known| known.filter == wanted.filter) {
            Some(known) => known.qos = known.qos.max(wanted.qos),
            None => self.wanted.push(wanted),
        }
    }

    fn rename(&self, topic: &str, renamed: &mut String) -> bool {
        let name = TopicName::trusted(topic);
        let mut is_matched = false;
        for rule in &self.rules {
            if (is_matched && !rule.has_prefix()) || !TopicFilter::trusted_pattern(&rule.filter).matches(name)
            {
                continue;
            }
            if rule.has_prefix() {
                rule.rename(topic, renamed);
                return true;
            }
            is_matched = true;
        }
        renamed.clear();
        renamed.push_str(topic);
        is_matched
    }
}

impl Rule {
    fn has_prefix(&self) -> bool {
        !self.from.is_empty() || !self.to.is_empty()
    }

    fn rename(&self, topic: &str, renamed: &mut String) {
        renamed.clear();
        if let Some(rest) = topic.strip_prefix(&*self.from) {
            renamed.push_str(&self.to);
            renamed.push_str(rest);
            return;
        }
        // `a/#` matches `a` as well, which does not start with `a/`. It becomes the level above the other prefix, and
        // keeps its name if there is none.
        let above = self.to.strip_suffix('/').unwrap_or_default();
        renamed.push_str(if above.is_empty() { topic } else { above });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Direction;

    fn rule(pattern: &str, direction: Direction, qos: u8, local: &str, remote: &str) -> BridgeTopic {
        BridgeTopic {
            pattern: pattern.into(),
            direction,
            qos: QoS::from_u8(qos).unwrap(),
            local_prefix: local.into(),
            remote_prefix: remote.into(),
        }
    }

    fn out(topics: &Topics, topic: &str) -> Option<String> {
        let mut renamed = "left over".to_owned();
        topics.rename(Way::Out, topic, &mut renamed).then_some(renamed)
    }

    fn back(topics: &Topics, topic: &str) -> Option<String> {
        let mut renamed = String::new();
        topics.rename(Way::In, topic, &mut renamed).then_some(renamed)
    }

    #[test]
    fn prefixes_are_exchanged() {
        let topics = Topics::new(&[
            rule("plain/#", Direction::Out, 0, "", ""),
            rule("#", Direction::Both, 1, "here/", "there/"),
            rule("", Direction::Out, 2, "one/topic", "another"),
            rule("only/in", Direction::In, 0, "", "far/"),
        ]);
        for (topic, expected) in [
            ("here/a/b", Some("there/a/b")),
            ("here/", Some("there/")),
            ("here", Some("there")),
            ("one/topic", Some("another")),
            ("plain/a", Some("plain/a")),
            ("only/in", None),
            ("other", None),
            ("hereafter", None),
        ] {
            assert_eq!(out(&topics, topic).as_deref(), expected, "{topic}");
        }
        for (topic, expected) in [
            ("there/a", Some("here/a")),
            ("there", Some("here")),
            ("far/only/in", Some("only/in")),
            ("plain/a", None),
            ("another", None),
        ] {
            assert_eq!(back(&topics, topic).as_deref(), expected, "{topic}");
        }
    }

    #[test]
    fn the_first_matching_rule_with_a_prefix_renames() {
        let topics = Topics::new(&[
            rule("a/b", Direction::Out, 0, "", ""),
            rule("a/+", Direction::Out, 0, "", "first/"),
            rule("a/#", Direction::Out, 0, "", "second/"),
        ]);
        assert_eq!(out(&topics, "a/b").as_deref(), Some("first/a/b"));
        assert_eq!(out(&topics, "a/b/c").as_deref(), Some("second/a/b/c"));
    }

    #[test]
    fn a_topic_above_a_prefix_without_a_counterpart_keeps_its_name() {
        let topics = Topics::new(&[rule("#", Direction::Out, 0, "here/", "")]);
        assert_eq!(out(&topics, "here/a").as_deref(), Some("a"));
        assert_eq!(out(&topics, "here").as_deref(), Some("here"));
    }

    #[test]
    fn a_response_topic_is_named_by_the_rules_that_forward_the_response() {
        let topics = Topics::new(&[
            rule("ask/#", Direction::Out, 0, "here/", "there/"),
            rule("answer/#", Direction::In, 0, "mine/", "yours/"),
        ]);
        let named = |way, topic| {
            let mut renamed = String::new();
            topics.rename_response(way, topic, &mut renamed).then_some(renamed)
        };
        assert_eq!(named(Way::Out, "mine/answer/1").as_deref(), Some("yours/answer/1"));
        assert_eq!(named(Way::Out, "here/ask/1"), None, "it does not come back");
        assert_eq!(named(Way::In, "there/ask/1").as_deref(), Some("here/ask/1"));
    }

    #[test]
    fn each_filter_is_wanted_once_at_its_highest_qos() {
        let topics = Topics::new(&[
            rule("a", Direction::Both, 0, "", "x/"),
            rule("a", Direction::Out, 2, "", "y/"),
            rule("b", Direction::Out, 1, "", ""),
            rule("b", Direction::Out, 1, "z/", ""),
            rule("x/a", Direction::Out, 1, "", ""),
        ]);
        let shown = |wanted: &[Wanted]| {
            wanted.iter().map(|one| format!("{} {}", one.filter, one.qos.level())).collect::<Vec<_>>()
        };
        assert_eq!(shown(topics.wanted_here()), ["a 2", "b 1", "z/b 1", "x/a 1"]);
        assert_eq!(shown(topics.wanted_there()), ["x/a 0"]);
        assert_eq!(shown(topics.unwanted_there()), ["y/a 2", "b 1"]);
    }

    /// The same by operations on whole texts.
    fn model(rules: &[BridgeTopic], topic: &str) -> Option<String> {
        let matching: Vec<&BridgeTopic> = rules
            .iter()
            .filter(|rule| {
                let filter = format!("{}{}", rule.local_prefix, rule.pattern);
                let filter = TopicFilter::new(&filter).unwrap();
                rule.direction.is_out() && filter.matches(TopicName::new(topic).unwrap())
            })
            .collect();
        let first =
            matching.iter().find(|rule| !rule.local_prefix.is_empty() || !rule.remote_prefix.is_empty());
        match first {
            None if matching.is_empty() => None,
            None => Some(topic.to_owned()),
            Some(rule) if format!("{topic}/") == *rule.local_prefix => match &*rule.remote_prefix {
                "" => Some(topic.to_owned()),
                remote => Some(remote[..remote.len() - 1].to_owned()),
            },
            Some(rule) => Some(format!("{}{}", rule.remote_prefix, &topic[rule.local_prefix.len()..])),
        }
    }

    fn prefix() -> impl Strategy<Value = String> {
        prop_oneof![Just(String::new()), "[ab]/", "[ab]/[ab]/"]
    }

    fn any_rule() -> impl Strategy<Value = BridgeTopic> {
        let pattern =
            prop_oneof!["[ab]", "[ab]/[ab]", Just("+".to_owned()), Just("#".to_owned()), "[ab]/[+#]"];
        let direction = prop_oneof![Just(Direction::Out), Just(Direction::In), Just(Direction::Both)];
        (pattern, direction, 0..3u8, prefix(), prefix()).prop_map(
            |(pattern, direction, qos, local, remote)| rule(&pattern, direction, qos, &local, &remote),
        )
    }

    proptest! {
        #[test]
        fn renaming_follows_the_model(
            rules in proptest::collection::vec(any_rule(), 0..6),
            topic in "[ab](/[ab]){0,3}",
        ) {
            let topics = Topics::new(&rules);
            let expected = model(&rules, &topic);
            prop_assert_eq!(out(&topics, &topic), expected);
            let mirrored: Vec<BridgeTopic> = rules
                .iter()
                .map(|one| BridgeTopic {
                    direction: match one.direction {
                        Direction::Out => Direction::In,
                        Direction::In => Direction::Out,
                        Direction::Both => Direction::Both,
                    },
                    local_prefix: one.remote_prefix.clone(),
                    remote_prefix: one.local_prefix.clone(),
                    ..one.clone()
                })
                .collect();
            prop_assert_eq!(back(&Topics::new(&mirrored), &topic), out(&topics, &topic), "both ways are alike");
        }

        #[test]
        fn there_and_back_is_the_same_topic(local in prefix(), remote in prefix(), topic in "[ab](/[ab]){0,3}") {
            let topics = Topics::new(&[rule("#", Direction::Both, 0, &local, &remote)]);
            if let Some(renamed) = out(&topics, &topic).filter(|_| !remote.is_empty() || topic.starts_with(&local)) {
                prop_assert_eq!(back(&topics, &renamed), Some(topic));
            }
        }

        #[test]
        fn a_valid_name_stays_valid(rules in proptest::collection::vec(any_rule(), 0..6), topic in "[ab](/[ab]){0,3}") {
            if let Some(renamed) = out(&Topics::new(&rules), &topic) {
                prop_assert!(TopicName::new(&renamed).is_ok(), "{}", renamed);
            }
        }
    }
}
