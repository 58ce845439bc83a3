//! The oracle: what every client was promised, and what it received.
//!
//! A promise begins when an acknowledgement arrives. Until then an action may have taken effect or not, and the ledger
//! keeps both possibilities: for a subscription all the states that it may be in, for a topic all messages that may be
//! retained. A message is owed by the states that a subscription may have been in between the moment when the message
//! was sent first and the one when it was acknowledged.

use std::collections::BTreeMap;

/// The possible states of a subscription: a set of "there is none" and of the QoS that it may have been granted, 1 or
/// 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u8);

impl States {
    const NONE: Self = Self(1);

    const fn granted(qos: u8) -> Self {
        Self(2 << qos)
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn may_be(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the subscription exists in any case.
    const fn is_certain(self) -> bool {
        !self.may_be(Self::NONE)
    }

    /// Whether a message of this QoS may be delivered to this subscription at that one.
    fn may_deliver(self, published: u8, delivered: u8) -> bool {
        (0..=2).any(|qos: u8| self.may_be(Self::granted(qos)) && qos.min(published) == delivered)
    }
}

/// How far a message has come between its publisher and the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No acknowledgement has come.
    Open,
    /// The broker has accepted it.
    Acknowledged,
    /// Its publisher no longer sends it, and the broker may have it or not.
    Abandoned,
    /// The same, and the broker that might still have been processing it is dead.
    Buried,
}

/// One message that a client published.
#[derive(Clone, Debug)]
struct Message {
    publisher: usize,
    topic: String,
    qos: u8,
    /// Whether the payload is empty, so that it cannot be distinguished from others.
    is_empty: bool,
    standing: Standing,
    /// How often it was sent.
    sent: u32,
}

/// What an audience is owed of one message, and what it received.
#[derive(Clone, Copy, Debug)]
struct Owed {
    states: States,
    count: u32,
}

/// The receivers of one copy of a message: a session, or all members of a shared subscription.
#[derive(Clone, Debug, Default)]
struct Audience {
    /// Topic Filter, then member.
    subscriptions: BTreeMap<String, BTreeMap<usize, States>>,
    owed: BTreeMap<usize, Owed>,
    /// Publisher, topic, QoS as published and as delivered: the last message that was delivered for the first time.
    latest: BTreeMap<(usize, String, u8, u8), usize>,
}

impl Audience {
    /// The possible states of the subscriptions to a topic. They do not overlap, except those of the members of a
    /// shared one.
    fn states(&self, topic: &str) -> States {
        let members = self.subscriptions.iter().filter(|(filter, _)| covers(filter, topic));
        let all: Vec<States> = members.flat_map(|(_, members)| members.values().copied()).collect();
        let union = all.iter().fold(States(0), |union, states| union.or(*states));
        match all.iter().any(|states| states.is_certain()) {
            true => States(union.0 & !States::NONE.0),
            false => union.or(States::NONE),
        }
    }
}

/// The retained message of a topic: the last one acknowledged, or one sent after it.
#[derive(Clone, Debug, Default)]
struct Retained {
    certain: Option<usize>,
    later: Vec<usize>,
}

/// All promises of one round.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    messages: Vec<Message>,
    sessions: BTreeMap<usize, Audience>,
    groups: BTreeMap<String, Audience>,
    retained: BTreeMap<String, Retained>,
    deliveries: usize,
    /// Whether a bridge is between publishers and subscribers: what it sends again at QoS 1 is another message there.
    is_of_bridge: bool,
    /// Everything that happened, for a reader.
    story: Vec<String>,
}

impl Ledger {
    /// One for messages that come over a bridge.
    #[cfg(feature = "bridge")]
    pub fn of_bridge() -> Self {
        Self { is_of_bridge: true, ..Self::default() }
    }

    /// A message is about to be sent for the first time; returns its number.
    pub fn publish(&mut self, publisher: usize, topic: &str, qos: u8, retain: bool, is_empty: bool) -> usize {
        let number = self.messages.len();
        self.story.push(format!("{publisher} publishes {number} of QoS {qos} to {topic}, empty {is_empty}"));
        for audience in self.audiences() {
            let states = audience.states(topic);
            if states != States::NONE {
                audience.owed.insert(number, Owed { states, count: 0 });
            }
        }
        if retain {
            self.retained.entry(topic.to_owned()).or_default().later.push(number);
        }
        let standing = if qos == 0 { Standing::Abandoned } else { Standing::Open };
        let topic = topic.to_owned();
        self.messages.push(Message { publisher, topic, qos, is_empty, standing, sent: 1 });
        number
    }

    pub fn topic(&self, number: usize) -> &str {
        &self.messages[number].topic
    }

    pub fn qos(&self, number: usize) -> u8 {
        self.messages[number].qos
    }

    /// A message is about to be sent again.
    pub fn resend(&mut self, number: usize) {
        self.story.push(format!("{number} is sent again"));
        self.messages[number].sent += 1;
    }

    /// Its PUBACK or PUBREC has come.
    pub fn acknowledged(&mut self, number: usize) {
        self.story.push(format!("{number} is acknowledged"));
        let message = &mut self.messages[number];
        message.standing = Standing::Acknowledged;
        if let Some(retained) = self.retained.get_mut(&message.topic)
            && retained.later.contains(&number)
        {
            retained.later.retain(|later| *later > number);
            retained.certain = Some(number);
        }
    }

    /// Its publisher has lost it.
    pub fn abandoned(&mut self, number: usize) {
        self.story.push(format!("{number} is abandoned"));
        self.messages[number].standing = Standing::Abandoned;
    }

    /// The broker is dead, and with it everything it had read and not processed.
    pub fn broker_died(&mut self) {
        self.story.push("the broker dies".to_owned());
        for message in self.messages.iter_mut().filter(|message| message.standing == Standing::Abandoned) {
            message.standing = Standing::Buried;
        }
    }

    /// A SUBSCRIBE is about to be sent.
    pub fn subscribing(&mut self, session: usize, filter: &str, qos: u8) {
        self.change(session, filter, |states| states.or(States::granted(qos)));
    }

    /// Its SUBACK has come.
    pub fn subscribed(&mut self, session: usize, filter: &str, qos: u8) {
        self.change(session, filter, |_| States::granted(qos));
    }

    /// An UNSUBSCRIBE is about to be sent.
    pub fn unsubscribing(&mut self, session: usize, filter: &str) {
        self.change(session, filter, |states| states.or(States::NONE));
    }

    /// Its UNSUBACK has come.
    pub fn unsubscribed(&mut self, session: usize, filter: &str) {
        self.change(session, filter, |_| States::NONE);
    }

    /// The session starts anew: with no subscription, and owed nothing.
    pub fn session_began(&mut self, session: usize) {
        self.story.push(format!("the session of {session} begins"));
        assert!(
            self.groups.values().all(|group| !has_member(group, session)),
            "members of a shared subscription keep their sessions"
        );
        self.sessions.insert(session, Audience::default());
    }

    /// Whether a subscription of a session certainly exists.
    pub fn is_subscribed(&self, session: usize, filter: &str) -> bool {
        let audience = if is_shared(filter) { self.groups.get(filter) } else { self.sessions.get(&session) };
        let states = audience.and_then(|audience| audience.subscriptions.get(filter)?.get(&session));
        states.is_some_and(|states| states.is_certain())
    }

    /// A message has come to the client of a session, which did not know its Packet Identifier.
    pub fn delivered(&mut self, session: usize, number: usize, qos: u8, is_retained: bool, is_dup: bool) {
        self.deliveries += 1;
        self.story
            .push(format!("{number} comes to {session} at QoS {qos}, retain {is_retained}, dup {is_dup}"));
        let (message, is_of_bridge) = (self.messages[number].clone(), self.is_of_bridge);
        // Retained messages come again with every subscription, so only missing ones are checked.
        if is_retained {
            return;
        }
        let audience = self.audience_of(session, &message.topic);
        let Some(owed) = audience.owed.get_mut(&number) else {
            panic!("message {number} to {} came to {session}, which has not asked for it", message.topic);
        };
        owed.count += 1;
        assert!(
            owed.states.may_deliver(message.qos, qos),
            "message {number} of QoS {} came at QoS {qos} for {:?}",
            message.qos,
            owed.states
        );
        if owed.count > 1 {
            // If it may have been one of QoS 1 to this audience, its first delivery promised nothing.
            let may_be_twice = qos == 1 || owed.states.may_be(States::granted(1));
            assert!(
                may_be_twice,
                "message {number} to {} came twice to {session} at QoS {qos}",
                message.topic
            );
            let may_be_another = message.sent > 1 || is_shared_topic(&message.topic) || is_of_bridge;
            assert!(is_dup || may_be_another, "message {number} came again to {session} without DUP");
            return;
        }
        let key = (message.publisher, message.topic.clone(), message.qos, qos);
        let before = audience.latest.insert(key, number);
        // A message of QoS 1 that was sent again counts as another one, whose turn comes later.
        let may_be_another = qos == 1 && message.sent > 1;
        let is_ordered = !may_be_another && !is_shared_topic(&message.topic);
        let is_in_order = before.is_none_or(|before| before < number) || !is_ordered;
        assert!(is_in_order, "message {number} came to {session} after {before:?}");
    }

    /// Whether this may be the retained message of a topic, for a client that subscribes now.
    pub fn may_be_retained(&self, topic: &str, seen: Option<usize>) -> bool {
        let retained = self.retained.get(topic).cloned().unwrap_or_default();
        let mut possible = retained.certain.iter().chain(&retained.later);
        let is_there = |number: &usize| (!self.messages[*number].is_empty).then_some(*number) == seen;
        possible.any(is_there) || (retained.certain.is_none() && seen.is_none())
    }

    /// The messages that may be retained for a topic, for a reader.
    pub fn describe_retained(&self, topic: &str) -> String {
        format!("{:?}", self.retained.get(topic))
    }

    /// All topics that have ever had a retained message.
    pub fn retained_topics(&self) -> impl Iterator<Item = &str> {
        self.retained.keys().map(String::as_str)
    }

    /// The promised messages that have not come.
    pub fn missing(&self) -> Vec<String> {
        let sessions =
            self.sessions.iter().map(|(session, audience)| (format!("session {session}"), audience));
        let groups = self.groups.iter().map(|(filter, audience)| (filter.clone(), audience));
        let mut missing = Vec::new();
        for (name, audience) in sessions.chain(groups) {
            let open = audience.owed.iter().filter(|(number, owed)| self.is_missing(**number, owed));
            missing.extend(open.map(|(number, _)| {
                let message = &self.messages[*number];
                format!("{name} misses message {number} of QoS {} to {}", message.qos, message.topic)
            }));
        }
        missing
    }

    fn is_missing(&self, number: usize, owed: &Owed) -> bool {
        let message = &self.messages[number];
        message.standing == Standing::Acknowledged
            && !message.is_empty
            && owed.states.is_certain()
            && owed.count == 0
    }

    /// Everything that happened, line by line.
    pub fn story(&self) -> &[String] {
        &self.story
    }

    pub fn published(&self) -> usize {
        self.messages.len()
    }

    pub fn deliveries(&self) -> usize {
        self.deliveries
    }

    fn audiences(&mut self) -> impl Iterator<Item = &mut Audience> {
        self.sessions.values_mut().chain(self.groups.values_mut())
    }

    fn audience_of(&mut self, session: usize, topic: &str) -> &mut Audience {
        if is_shared_topic(topic) {
            let group = self.groups.values_mut().find(|group| has_member(group, session));
            return group.expect("only members get messages to shared topics");
        }
        self.sessions.entry(session).or_default()
    }

    /// Changes the possible states of a subscription, and with them what is owed of all messages on their way.
    fn change(&mut self, session: usize, filter: &str, change: impl FnOnce(States) -> States) {
        let audience = match is_shared(filter) {
            true => self.groups.entry(filter.to_owned()).or_default(),
            false => self.sessions.entry(session).or_default(),
        };
        let members = audience.subscriptions.entry(filter.to_owned()).or_default();
        let states = members.entry(session).or_insert(States::NONE);
        *states = change(*states);
        self.story.push(format!("{session} has {states:?} for {filter}"));
        let open = self.messages.iter().enumerate().filter(|(_, message)| {
            matches!(message.standing, Standing::Open | Standing::Abandoned) && covers(filter, &message.topic)
        });
        for (number, message) in open {
            let states = audience.states(&message.topic);
            let owed = audience.owed.entry(number).or_insert(Owed { states: States::NONE, count: 0 });
            owed.states = owed.states.or(states);
        }
    }
}

fn has_member(audience: &Audience, session: usize) -> bool {
    audience.subscriptions.values().any(|members| members.contains_key(&session))
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Whether only groups subscribe to a topic.
fn is_shared_topic(topic: &str) -> bool {
    topic.starts_with("shared/")
}

/// Whether a Topic Filter matches a topic; written for the oracle, which uses no code of the broker.
fn covers(filter: &str, topic: &str) -> bool {
    let filter = if is_shared(filter) { filter.splitn(3, '/').last().unwrap_or_default() } else { filter };
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (exact, Some(level)) if exact == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn filters_match_the_right_topics() {
        for (filter, topic, expected) in [
            ("a/1", "a/1", true),
            ("a/+", "a/1", true),
            ("a/#", "a/1/x", true),
            ("a/#", "a", true),
            ("$share/g/shared/#", "shared/1", true),
            ("a/1", "a/2", false),
            ("a/+", "a/1/x", false),
            ("a/+", "a", false),
        ] {
            assert_eq!(covers(filter, topic), expected, "{filter} {topic}");
        }
    }

    fn subscribed(qos: u8) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.subscribing(0, "a/#", qos);
        ledger.subscribed(0, "a/#", qos);
        ledger
    }

    #[test]
    fn an_acknowledged_message_is_missed_until_it_comes() {
        let mut ledger = subscribed(1);
        let number = ledger.publish(1, "a/1", 1, false, false);
        assert_eq!(ledger.missing().len(), 0);
        ledger.acknowledged(number);
        assert_eq!(ledger.missing().len(), 1);
        ledger.delivered(0, number, 1, false, false);
        assert_eq!(ledger.missing().len(), 0);
    }

    #[test]
    fn nothing_is_promised_where_the_subscription_may_not_have_been_there() {
        let mut ledger = Ledger::default();
        ledger.subscribing(0, "a/#", 1);
        let early = ledger.publish(1, "a/1", 1, false, false);
        ledger.subscribed(0, "a/#", 1);
        let late = ledger.publish(1, "a/1", 1, false, false);
        ledger.unsubscribing(0, "a/#");
        for number in [early, late] {
            ledger.acknowledged(number);
        }
        assert_eq!(ledger.missing().len(), 0);
    }

    #[test]
    fn wrong_deliveries_are_found() {
        type Wrong = fn(&mut Ledger, usize);
        let twice: Wrong = |ledger, number| {
            ledger.delivered(0, number, 2, false, false);
            ledger.delivered(0, number, 2, false, true);
        };
        let wrongs: [Wrong; 5] = [
            twice,
            |ledger, number| ledger.delivered(0, number, 1, false, false),
            |ledger, number| ledger.delivered(3, number, 2, false, false),
            |ledger, number| {
                let later = ledger.publish(1, "a/1", 2, false, false);
                ledger.delivered(0, later, 2, false, false);
                ledger.delivered(0, number, 2, false, false);
            },
            |ledger, number| {
                ledger.session_began(0);
                ledger.delivered(0, number, 2, false, false);
            },
        ];
        for (index, wrong) in wrongs.into_iter().enumerate() {
            let outcome = catch_unwind(|| {
                let mut ledger = subscribed(2);
                let number = ledger.publish(1, "a/1", 2, false, false);
                wrong(&mut ledger, number);
            });
            assert!(outcome.is_err(), "wrong {index} is found");
        }
    }

    #[test]
    fn the_last_acknowledged_or_a_later_message_is_retained() {
        let mut ledger = Ledger::default();
        let first = ledger.publish(1, "r/1", 1, true, false);
        for seen in [None, Some(first)] {
            assert!(ledger.may_be_retained("r/1", seen), "{seen:?}");
        }
        ledger.acknowledged(first);
        assert!(!ledger.may_be_retained("r/1", None));
        let cleared = ledger.publish(1, "r/1", 1, true, true);
        for seen in [None, Some(first)] {
            assert!(ledger.may_be_retained("r/1", seen), "{seen:?}");
        }
        ledger.acknowledged(cleared);
        assert!(!ledger.may_be_retained("r/1", Some(first)));
        assert!(ledger.may_be_retained("r/1", None));
    }

    #[test]
    fn a_group_gets_one_copy() {
        let mut ledger = Ledger::default();
        for member in [0, 1] {
            ledger.subscribing(member, "$share/g/shared/#", 2);
            ledger.subscribed(member, "$share/g/shared/#", 2);
        }
        let number = ledger.publish(2, "shared/1", 2, false, false);
        ledger.acknowledged(number);
        assert_eq!(ledger.missing().len(), 1);
        ledger.delivered(1, number, 2, false, false);
        assert_eq!(ledger.missing().len(), 0);
        let again = move || {
            let mut ledger = ledger;
            ledger.delivered(0, number, 2, false, true);
        };
        assert!(catch_unwind(again).is_err());
    }
}
