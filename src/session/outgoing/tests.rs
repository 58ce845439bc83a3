//! What is on its way to one client, tried.

use super::*;
use crate::codec::Properties;
use crate::message::Publication;
use crate::topic::TopicName;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn queued(qos: QoS, expires: Time) -> Queued {
    let publication = Publication {
        topic: TopicName::new("t").unwrap(),
        payload: b"payload",
        qos,
        retain: false,
        publisher: None,
        properties: Properties::default(),
        expires,
    };
    let message = Message::new(&publication, &mut Spares::default());
    Queued {
        message,
        identifiers: SharedIdentifiers::default(),
        group: None,
        qos,
        retain: false,
        number: None,
    }
}

/// Lets a message wait, if there is room for it.
fn enqueue(outgoing: &mut Outgoing, queued: Queued, limits: &Limits, is_there: bool, now: Time) -> bool {
    let has_room = outgoing.make_room(queued.message.memory(), limits, is_there, now);
    if has_room {
        outgoing.push(queued);
    }
    has_room
}

fn begin(outgoing: &mut Outgoing, qos: QoS) -> PacketIdentifier {
    let identifier = outgoing.next_identifier();
    outgoing.begin(queued(qos, Time::NEVER), Time::ZERO, 0);
    identifier
}

#[test]
fn identifiers_go_round_and_leave_out_zero() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(1);
    for expected in (1..=u16::MAX).chain(1..3) {
        let identifier = begin(&mut outgoing, QoS::AtLeastOnce);
        assert_eq!(identifier.value(), expected);
        assert!(!outgoing.may_begin());
        assert!(matches!(outgoing.acknowledge(identifier, &mut Spares::default()), Settled::Done));
        outgoing.check_invariants();
    }
}

#[test]
fn answers_out_of_place_are_told_from_unknown_ones() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(10);
    let once = begin(&mut outgoing, QoS::AtLeastOnce);
    let exactly = begin(&mut outgoing, QoS::ExactlyOnce);
    assert!(matches!(outgoing.receive(once, false, &mut Spares::default()), Settled::OutOfPlace));
    assert!(matches!(outgoing.acknowledge(exactly, &mut Spares::default()), Settled::OutOfPlace));
    assert!(matches!(outgoing.complete(exactly), Settled::OutOfPlace));
    assert!(matches!(
        outgoing.acknowledge(PacketIdentifier::new(3).unwrap(), &mut Spares::default()),
        Settled::Unknown
    ));
    assert!(matches!(outgoing.receive(exactly, false, &mut Spares::default()), Settled::Done));
    assert!(
        matches!(outgoing.receive(exactly, false, &mut Spares::default()), Settled::Done),
        "a repeat asks for PUBREL again"
    );
    assert!(matches!(outgoing.complete(exactly), Settled::Done));
    assert!(matches!(outgoing.complete(exactly), Settled::Unknown));
    assert!(matches!(outgoing.acknowledge(once, &mut Spares::default()), Settled::Done));
    assert!(outgoing.is_idle());
}

#[test]
fn a_resumed_session_sends_again_in_order_and_within_the_window() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(10);
    let first = begin(&mut outgoing, QoS::ExactlyOnce);
    let second = begin(&mut outgoing, QoS::AtLeastOnce);
    let third = begin(&mut outgoing, QoS::AtLeastOnce);
    assert!(matches!(outgoing.receive(first, false, &mut Spares::default()), Settled::Done));
    outgoing.resume(2);
    assert!(!outgoing.may_begin());
    assert_eq!(outgoing.next_to_resend(0), Some(0), "the PUBREL of the first");
    outgoing.resent(Time::ZERO, 0);
    assert_eq!(outgoing.next_to_resend(0), Some(1));
    outgoing.resent(Time::ZERO, 0);
    assert_eq!(outgoing.next_to_resend(0), None, "the window is used up");
    assert!(
        matches!(outgoing.acknowledge(third, &mut Spares::default()), Settled::Unknown),
        "not sent on this connection"
    );
    assert!(matches!(outgoing.acknowledge(second, &mut Spares::default()), Settled::Done));
    assert_eq!(outgoing.next_to_resend(0), Some(2));
    outgoing.check_invariants();
}

#[test]
fn expired_messages_make_room() {
    let limits = Limits { queue_length: 2, ..Limits::default() };
    let mut outgoing = Outgoing::default();
    let at = Time::from_milliseconds;
    for expires in [at(5), Time::NEVER] {
        let queued = queued(QoS::AtLeastOnce, expires);
        assert!(enqueue(&mut outgoing, queued, &limits, false, Time::ZERO));
    }
    assert!(!enqueue(&mut outgoing, queued(QoS::AtLeastOnce, Time::NEVER), &limits, false, at(4)));
    assert!(enqueue(&mut outgoing, queued(QoS::AtLeastOnce, Time::NEVER), &limits, false, at(5)));
    assert_eq!(outgoing.queue_length(), 2);
    outgoing.check_invariants();
}

#[test]
fn a_loss_is_new_once_until_the_queue_is_empty() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(2);
    for _ in 0..2 {
        let queued = queued(QoS::AtLeastOnce, Time::NEVER);
        assert!(enqueue(&mut outgoing, queued, &Limits::default(), false, Time::ZERO));
    }
    assert_eq!([outgoing.lose(), outgoing.lose()], [true, false]);
    assert!(outgoing.next_to_begin(false).is_some());
    assert!(!outgoing.lose(), "one still waits");
    assert!(outgoing.next_to_begin(false).is_some());
    assert!(outgoing.lose());
}

#[test]
fn a_burst_for_a_client_that_is_there_is_not_counted() {
    let one = queued(QoS::AtLeastOnce, Time::NEVER);
    let burst_bytes = 3 * one.message.memory();
    let limits = Limits { queue_length: 1, burst_bytes, ..Limits::default() };
    let mut outgoing = Outgoing::default();
    let mut is_queued = |is_connected| enqueue(&mut outgoing, one.clone(), &limits, is_connected, Time::ZERO);
    assert_eq!([false, false].map(&mut is_queued), [true, false], "away, each message counts");
    assert_eq!([true, true, true].map(&mut is_queued), [true, true, false], "there, their bytes do");
    assert!(!is_queued(false), "what waits stays, and nothing is added");
    outgoing.check_invariants();
}

proptest! {
    /// The naive model is a map of the deliveries that are not settled.
    #[test]
    fn any_order_of_acknowledgements_settles_what_it_names(
        window in 1_u16..20,
        steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..300),
    ) {
        let mut outgoing = Outgoing::default();
        outgoing.resume(window);
        let mut model: BTreeMap<u16, QoS> = BTreeMap::new();
        for (is_exactly, index) in steps {
            prop_assert_eq!(outgoing.may_begin(), model.len() < usize::from(window));
            if outgoing.may_begin() {
                let qos = if is_exactly { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                let identifier = begin(&mut outgoing, qos).value();
                prop_assert_eq!(model.insert(identifier, qos), None, "an identifier in use");
            } else {
                let value = *model.keys().nth(index.index(model.len())).unwrap();
                let identifier = PacketIdentifier::new(value).unwrap();
                let settled = match model.remove(&value).unwrap() {
                    QoS::ExactlyOnce => {
                        prop_assert!(matches!(outgoing.receive(identifier, false, &mut Spares::default()), Settled::Done));
                        outgoing.complete(identifier)
                    }
                    _ => outgoing.acknowledge(identifier, &mut Spares::default()),
                };
                prop_assert!(matches!(settled, Settled::Done));
            }
            outgoing.check_invariants();
        }
    }
}
