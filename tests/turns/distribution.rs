//! A message whose distribution takes several turns, and what may happen during that: each rule at the top of
//! `src/core/broker/distribution.rs`. The budget is small here, so that a thousand recipients take several turns.

use std::collections::BTreeSet;

use brooklet::core::access::{AccessControl, AllowAll, Answer, Client, Question, Verdict};
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::{QoS, ReasonCode};

use crate::clients::{clean, lasting, subscribers};
use crate::server::{Peer, Server};
use crate::wire::{
    Connect, DISCONNECT, PINGREQ, PINGRESP, Publish, Received, V5, received, subscribe, unsubscribe,
};

const STEPS: usize = 1_024;

/// A message on its way to a thousand clients, of which only the first have received it.
struct Midway {
    server: Server,
    others: Vec<Peer>,
    /// The client whose turn comes after that of all others.
    last: Peer,
    publisher: Peer,
}

impl Midway {
    /// Connects and subscribes these clients, and publishes this message.
    fn with(mut server: Server, last: Vec<u8>, publisher: Vec<u8>, publish: &Publish) -> Self {
        let others = subscribers(&mut server, 1_000, "t", 1);
        let last = server.connect(last);
        let publisher = server.connect(publisher);
        server.send(publisher, publish.bytes());
        while !server.has_got_something(others[1]) {
            server.turn();
        }
        let midway = Self { server, others, last, publisher };
        midway.assert_midway();
        midway
    }

    fn new(last: Vec<u8>, publisher: Vec<u8>) -> Self {
        Self::with(server(), last, publisher, &message())
    }

    /// Asserts that some clients have received it and others have not.
    fn assert_midway(&self) {
        let [_, first, .., last, _, _] = self.others[..] else { panic!("there are others") };
        assert!(self.server.has_got_something(first) && !self.server.has_got_something(last));
    }

    /// Asserts that all the others have received exactly these messages.
    fn assert_others_got(&mut self, expected: &[&str]) {
        self.server.settle();
        for &peer in &self.others {
            assert_eq!(self.server.take_texts(peer), expected);
        }
        self.server.broker.check_invariants();
    }

    /// Asserts that the message is still on its way, that these clients get so many copies of it, and all others one.
    fn assert_goes_on(&mut self, copies: &[(Peer, usize)]) {
        self.assert_midway();
        for &(peer, count) in copies {
            assert_eq!(self.messages_of(peer).len(), count);
        }
        self.assert_others_got(&["one"]);
    }

    /// The messages that a client gets in the end, without answers.
    fn messages_of(&mut self, peer: Peer) -> Vec<Received> {
        self.server.settle();
        let packets = self.server.take(peer).into_iter().filter(|packet| packet[0] >> 4 == 3);
        packets.map(|packet| received(V5, &packet)).collect()
    }
}

fn server() -> Server {
    Server::with_limits(|limits| limits.steps_per_turn = STEPS)
}

fn message() -> Publish {
    Publish::new(V5, "t", b"one").qos(1, 7)
}

fn subscribed(connect: Vec<u8>, qos: u8) -> Vec<u8> {
    [connect, subscribe(V5, 1, &[], &[("t", qos)])].concat()
}

/// It is retained before its recipients are looked up, so a subscription made in the meantime gets it as a retained
/// message.
#[test]
fn a_later_subscription_gets_it_as_a_retained_message() {
    let mut midway = Midway::with(server(), subscribed(clean("last"), 1), clean("p"), &message().retain());
    let late = midway.server.open(subscribed(clean("late"), 1));
    midway.server.turn();
    midway.server.turn();
    midway.assert_midway();
    let found = midway.messages_of(late);
    assert_eq!(found.len(), 1, "once");
    assert!(found[0].retain && found[0].payload == b"one");
    midway.assert_others_got(&["one"]);
}

/// If it is not retained, its recipients are those found when it comes.
#[test]
fn a_later_subscription_does_not_get_it_otherwise() {
    let mut midway = Midway::new(subscribed(clean("last"), 1), clean("p"));
    let late = midway.server.open(subscribed(clean("late"), 1));
    midway.server.turn();
    midway.assert_goes_on(&[(late, 0)]);
}

/// A client that unsubscribes during the distribution still gets it.
#[test]
fn one_that_unsubscribes_still_gets_it() {
    let mut midway = Midway::new(subscribed(clean("last"), 1), clean("p"));
    midway.server.send(midway.last, unsubscribe(V5, 2, &["t"]));
    midway.server.turn();
    midway.assert_midway();
    assert_eq!(midway.server.take(midway.last).len(), 1, "the UNSUBACK");
    let last = midway.last;
    assert_eq!(midway.messages_of(last).len(), 1);
    midway.assert_others_got(&["one"]);
}

/// A client that subscribes again gets it on the former terms.
#[test]
fn one_that_subscribes_again_gets_it_on_the_former_terms() {
    let identifier = |number: u8| vec![0x0B, number];
    let first = [clean("last"), subscribe(V5, 1, &identifier(5), &[("t", 1)])].concat();
    let mut midway = Midway::new(first, clean("p"));
    midway.server.send(midway.last, subscribe(V5, 2, &identifier(6), &[("t", 0)]));
    midway.server.turn();
    midway.assert_midway();
    let last = midway.last;
    let found = midway.messages_of(last);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].qos, &found[0].properties), (1, &identifier(5)));
    midway.assert_others_got(&["one"]);
}

/// A client that loses its connection gets it like any disconnected client.
#[test]
fn one_that_loses_its_connection_gets_it_when_it_is_back() {
    let mut midway = Midway::new(subscribed(lasting("last"), 1), clean("p"));
    midway.server.cut(midway.last);
    midway.server.turn();
    midway.assert_midway();
    midway.assert_others_got(&["one"]);
    let back = midway.server.open(lasting("last"));
    let found = midway.messages_of(back);
    assert_eq!((found.len(), found[0].dup), (1, false));
}

/// At QoS 0, a disconnected client does not get it.
#[test]
fn one_that_loses_its_connection_does_not_get_it_at_qos_0() {
    let mut midway = Midway::new(subscribed(lasting("last"), 0), clean("p"));
    midway.server.cut(midway.last);
    midway.server.turn();
    midway.assert_midway();
    midway.assert_others_got(&["one"]);
    let back = midway.server.open(lasting("last"));
    assert!(midway.messages_of(back).is_empty());
}

/// A client whose session is taken over by a new connection gets it there.
#[test]
fn one_that_is_taken_over_gets_it_on_the_new_connection() {
    let mut midway = Midway::new(subscribed(lasting("last"), 1), clean("p"));
    let new = midway.server.open(lasting("last"));
    midway.server.turn();
    midway.server.turn();
    let last = midway.last;
    midway.assert_goes_on(&[(new, 1), (last, 0)]);
}

/// A client whose session ends does not get it, nor does a session in its place, even one of the same client with the
/// same subscription.
#[test]
fn one_whose_session_ends_does_not_get_it() {
    let mut midway = Midway::new(subscribed(clean("last"), 1), clean("p"));
    midway.server.send(midway.last, DISCONNECT);
    midway.server.turn();
    let again = midway.server.open(subscribed(clean("last"), 1));
    midway.server.turn();
    let last = midway.last;
    midway.assert_goes_on(&[(last, 0), (again, 0)]);
}

/// A Clean Start ends a session as well.
#[test]
fn one_that_starts_clean_does_not_get_it() {
    let mut midway = Midway::new(subscribed(lasting("last"), 1), clean("p"));
    let again = midway.server.open(subscribed(clean("last"), 1));
    midway.server.turn();
    midway.server.turn();
    let last = midway.last;
    midway.assert_goes_on(&[(last, 0), (again, 0)]);
}

fn member(connect: Vec<u8>) -> Vec<u8> {
    [connect, subscribe(V5, 1, &[], &[("$share/g/t", 1)])].concat()
}

/// A member of a Shared Subscription is chosen when the group's turn comes.
#[test]
fn a_member_is_chosen_when_the_turn_of_its_group_comes() {
    let mut midway = Midway::new(member(clean("last")), clean("p"));
    let late = midway.server.open(member(clean("late")));
    midway.server.turn();
    midway.server.send(midway.last, unsubscribe(V5, 2, &["$share/g/t"]));
    midway.server.turn();
    let last = midway.last;
    midway.assert_goes_on(&[(late, 1), (last, 0)]);
}

/// A group that all members have left gets nothing, nor does a new one of the same name.
#[test]
fn a_group_that_all_have_left_gets_nothing() {
    let mut midway = Midway::new(member(clean("last")), clean("p"));
    midway.server.send(midway.last, unsubscribe(V5, 2, &["$share/g/t"]));
    midway.server.send(midway.last, subscribe(V5, 3, &[], &[("$share/g/t", 1)]));
    midway.server.turn();
    let last = midway.last;
    midway.assert_goes_on(&[(last, 0)]);
}

/// Its publisher is not read from, nor answered, until the last recipient has been served.
#[test]
fn its_publisher_is_read_and_answered_afterwards() {
    let mut midway = Midway::new(subscribed(clean("last"), 1), clean("p"));
    let publisher = midway.publisher;
    midway.server.send(publisher, Publish::new(V5, "t", b"two").bytes());
    midway.server.send(publisher, PINGREQ);
    let mut answers = Vec::new();
    while midway.server.is_busy() {
        let was_served = midway.server.take(midway.last).len();
        answers.extend(midway.server.take(publisher));
        assert!(was_served > 0 || answers.is_empty(), "the last one is served first");
        midway.server.turn();
        if was_served > 0 {
            break;
        }
    }
    midway.server.settle();
    answers.extend(midway.server.take(publisher));
    assert_eq!(answers, [vec![0x40, 2, 0, 7], PINGRESP.to_vec()]);
    midway.assert_others_got(&["one", "two"]);
}

/// If the publisher's connection ends, the distribution goes on without it, before its Will.
#[test]
fn the_will_of_its_publisher_comes_after_it() {
    let will = Connect::new(V5, "p").will("t", b"will", 1, false, &[]).bytes();
    let mut midway = Midway::new(subscribed(clean("last"), 1), will);
    midway.server.cut(midway.publisher);
    midway.server.turn();
    midway.assert_midway();
    let last = midway.last;
    assert_eq!(midway.messages_of(last).len(), 2);
    midway.assert_others_got(&["one", "will"]);
}

/// The same if the Will has other recipients than the message, which could get it sooner.
#[test]
fn a_small_will_comes_after_a_large_message() {
    let will = Connect::new(V5, "p").will("small", b"will", 1, false, &[]).bytes();
    let last = [clean("last"), subscribe(V5, 1, &[], &[("t", 1), ("small", 1)])].concat();
    let mut midway = Midway::new(last, will);
    midway.server.cut(midway.publisher);
    let last = midway.last;
    let texts: Vec<Vec<u8>> = midway.messages_of(last).into_iter().map(|message| message.payload).collect();
    assert_eq!(texts, [b"one".to_vec(), b"will".to_vec()]);
    midway.assert_others_got(&["one"]);
}

/// A new connection of the same client is not read from until the distribution is done. It gets its CONNACK at once.
#[test]
fn its_publisher_comes_back_and_waits() {
    for publisher in [clean("p"), lasting("p")] {
        let mut midway = Midway::new(subscribed(clean("last"), 1), publisher.clone());
        midway.server.cut(midway.publisher);
        midway.server.turn();
        let again = midway.server.open(publisher);
        midway.server.send(again, Publish::new(V5, "t", b"two").qos(1, 8).bytes());
        midway.server.turn();
        midway.assert_midway();
        let connack = midway.server.take(again);
        assert_eq!((connack.len(), connack[0][0]), (1, 0x20));
        midway.assert_others_got(&["one", "two"]);
        assert_eq!(midway.server.take(again), [vec![0x40, 2, 0, 8]]);
    }
}

/// The same if the connection is taken over, and with a Clean Start, which publishes the Will.
#[test]
fn its_publisher_is_taken_over_and_waits() {
    let publisher = Connect::new(V5, "p").will("t", b"will", 1, false, &[]).bytes();
    let mut midway = Midway::new(subscribed(clean("last"), 1), publisher);
    let again = midway.server.open(clean("p"));
    midway.server.send(again, Publish::new(V5, "t", b"two").qos(1, 8).bytes());
    midway.server.turn();
    midway.assert_midway();
    midway.assert_others_got(&["one", "will", "two"]);
    assert_eq!(midway.server.take(again).len(), 2, "a CONNACK and a PUBACK");
    assert!(midway.server.is_closed(midway.publisher));
}

/// Other rules, which deny a topic to one client and allow it to another at QoS 0 only.
struct Barring;

impl AccessControl for Barring {
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        Answer::Now(match (question, client.client_identifier) {
            (Question::Subscribe { .. }, _) => Verdict::GrantedInPart(QoS::ExactlyOnce),
            (Question::Receive { .. }, "s0" | "s998" | "last") => Verdict::Refused(ReasonCode::NotAuthorized),
            (Question::Receive { .. }, "s999") => Verdict::GrantedAtMost(QoS::AtMostOnce),
            _ => Verdict::Granted,
        })
    }
}

/// When the access control is replaced, the new one decides about recipients that have not been served yet.
#[test]
fn access_rules_are_replaced() {
    let mut midway = Midway::new(subscribed(clean("last"), 1), clean("p"));
    let now = midway.server.now();
    midway.server.broker.replace_access(Box::new(Barring), now);
    let last = midway.last;
    assert!(midway.messages_of(last).is_empty(), "it is no longer allowed to have it");
    let others = midway.others.clone();
    let counts: Vec<usize> = others.iter().map(|&peer| midway.messages_of(peer).len()).collect();
    assert_eq!((counts[0], counts[998]), (1, 0), "the first one had it before");
    assert!(counts[..998].iter().all(|&count| count == 1) && counts[999] == 1);
    assert!(!midway.server.take(midway.publisher).is_empty(), "it is answered");
    midway.server.broker.check_invariants();
}

/// The QoS that other rules allow applies as well.
#[test]
fn access_rules_lower_the_qos() {
    let mut midway = Midway::new(subscribed(clean("last"), 1), clean("p"));
    let now = midway.server.now();
    midway.server.broker.replace_access(Box::new(Barring), now);
    let peer = midway.others[999];
    assert_eq!(midway.messages_of(peer)[0].qos, 0);
}

/// What the former access control has refused stays refused.
#[test]
fn access_rules_are_taken_away() {
    let limits = Limits { steps_per_turn: STEPS, ..Limits::default() };
    let server = Server::with(limits, Barring);
    let mut midway = Midway::with(server, subscribed(clean("last"), 1), clean("p"), &message());
    let now = midway.server.now();
    midway.server.broker.replace_access(Box::new(AllowAll), now);
    let last = midway.last;
    assert!(midway.messages_of(last).is_empty());
    let others = midway.others.clone();
    let counts: Vec<usize> = others.iter().map(|&peer| midway.messages_of(peer).len()).collect();
    assert_eq!((counts[0], counts[1], counts[997], counts[998], counts[999]), (0, 1, 1, 0, 1));
}

/// A SUBSCRIBE that takes several turns: the new rules apply to the filters that have not been processed.
#[test]
fn access_rules_are_replaced_in_the_midst_of_a_subscribe() {
    /// Grants or refuses all subscriptions.
    struct Subscribing(bool);
    impl AccessControl for Subscribing {
        fn ask(&mut self, _: &Client<'_>, question: Question<'_>) -> Answer {
            Answer::Now(match question {
                Question::Subscribe { .. } if !self.0 => Verdict::Refused(ReasonCode::NotAuthorized),
                _ => Verdict::Granted,
            })
        }
    }
    for (first, second) in [(true, false), (false, true)] {
        let limits = Limits { steps_per_turn: STEPS, ..Limits::default() };
        let mut server = Server::with(limits, Subscribing(first));
        let client = server.connect(clean("c"));
        let filters: Vec<String> = (0..200).map(|number| format!("f/{number}")).collect();
        server.send(client, crate::clients::subscribe_all(1, &filters, 1));
        while server.broker.census().subscriptions < 5 && server.turns < 4 {
            server.turn();
        }
        let now = server.now();
        server.broker.replace_access(Box::new(Subscribing(second)), now);
        server.settle();
        let suback = server.take(client).remove(0);
        let codes = &suback[suback.len() - filters.len()..];
        let [before, after] = [first, second].map(|is_granted| if is_granted { 1 } else { 0x87 });
        let changed = codes.iter().position(|&code| code == after).expect("some are judged by the new rules");
        assert!(changed > 0 && codes[..changed].iter().all(|&code| code == before));
        assert!(codes[changed..].iter().all(|&code| code == after), "{codes:?}");
        let granted = codes.iter().filter(|&&code| code == 1).count();
        assert_eq!(server.broker.census().subscriptions, granted);
    }
}

/// The retained message changes while the former one is on its way: every client gets both, in order.
#[test]
fn the_retained_message_changes_during_the_distribution() {
    let mut midway = Midway::with(server(), subscribed(clean("last"), 1), clean("p"), &message().retain());
    let other = midway.server.open(clean("other"));
    midway.server.send(other, Publish::new(V5, "t", b"").qos(1, 1).retain().bytes());
    midway.server.turn();
    midway.server.turn();
    let late = midway.server.open(subscribed(clean("late"), 1));
    midway.server.settle();
    assert!(midway.messages_of(late).is_empty(), "it was cleared");
    let peers = midway.others.clone();
    for peer in peers {
        let mut texts: Vec<Vec<u8>> =
            midway.messages_of(peer).into_iter().map(|message| message.payload).collect();
        texts.sort_unstable();
        assert_eq!(texts, [b"".to_vec(), b"one".to_vec()], "two publishers may overtake each other");
    }
    midway.server.broker.check_invariants();
}

/// Subscribers that are looked up in several turns, because very many filters match, while others come and go. Those
/// that stay get the message once.
#[test]
fn filters_come_and_go_while_they_are_looked_up() {
    let filters: Vec<String> = (0..1_u32 << 11)
        .map(|bits| {
            let level = |level: u32| if bits >> level & 1 == 1 { "+" } else { "a" };
            (0..11).map(level).collect::<Vec<&str>>().join("/")
        })
        .collect();
    let mut server = Server::with_limits(|limits| limits.steps_per_turn = 2 * STEPS);
    let peers = server.connect_all((0..4).map(|number| clean(&format!("c{number}"))));
    for &peer in &peers {
        server.send(peer, crate::clients::subscribe_all(1, &filters, 1));
    }
    server.settle();
    for &peer in &peers {
        server.take(peer);
    }
    let publisher = server.connect(clean("p"));
    let topic = ["a"; 11].join("/");
    server.send(publisher, Publish::new(V5, &topic, b"one").qos(1, 7).bytes());
    server.turn();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    server.send(peers[0], unsubscribe(V5, 2, &filters));
    server.send(peers[1], DISCONNECT);
    let late = server.open([clean("late"), subscribe(V5, 1, &[], &[("#", 1)])].concat());
    server.settle();
    let mut count = |peer| {
        let packets = server.take(peer).into_iter();
        packets.filter(|packet| packet[0] >> 4 == 3).count()
    };
    assert!(count(peers[0]) <= 1 && count(peers[1]) <= 1 && count(late) <= 1);
    assert_eq!((count(peers[2]), count(peers[3])), (1, 1));
    assert_eq!(server.take(publisher), [vec![0x40, 2, 0, 7]]);
    server.broker.check_invariants();
}

/// More messages of disconnected clients than may wait: the rest of some is dropped, and comes when their clients send
/// them again.
#[test]
fn a_dropped_message_comes_when_it_is_sent_again() {
    let mut server = server();
    let subscribers = subscribers(&mut server, 400, "t", 0);
    let name = |number: usize| format!("p{number}");
    let publish = |number: usize| Publish::new(V5, "t", name(number).as_bytes()).qos(2, 1);
    let publishers = server.connect_all((0..1_600).map(|number| lasting(&name(number))));
    for (number, &publisher) in publishers.iter().enumerate() {
        server.send(publisher, publish(number).bytes());
        if number % 8 == 7 {
            server.turn();
            server.turn();
            publishers[number - 7..=number].iter().for_each(|&publisher| server.cut(publisher));
        }
    }
    server.settle();
    assert!(server.broker.statistics().dropped > 0, "some did not find room");
    for number in 0..1_600 {
        let publisher = server.open(lasting(&name(number)));
        server.send(publisher, publish(number).dup().bytes());
        server.settle();
    }
    for subscriber in subscribers {
        let texts: BTreeSet<String> = server.take_texts(subscriber).into_iter().collect();
        assert_eq!(texts.len(), 1_600);
    }
    server.broker.check_invariants();
}
