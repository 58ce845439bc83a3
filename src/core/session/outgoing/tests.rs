//! Tests of the messages for one client.

use super::*;
use crate::core::limits::Limits;
use crate::core::message::Publication;
use crate::protocol::codec::Properties;
use crate::protocol::topic::TopicName;
use proptest::prelude::*;

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

/// Queues a message, if there is room for it.
fn enqueue(outgoing: &mut Outgoing, queued: Queued, limits: &Limits, is_there: bool, now: Time) -> bool {
    let (bytes, limits) = (queued.message.memory(), limits.queue());
    let has_room = outgoing.has_room(bytes, limits, is_there)
        || outgoing.forget_expired(now, &mut Vec::new()) > 0 && outgoing.has_room(bytes, limits, is_there);
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
fn identifiers_go_round_and_skip_zero() {
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
        matches!(outgoing.receive(exactly, false, &mut Spares::default()), Settled::Repeated),
        "a repeat asks for PUBREL again"
    );
    assert!(
        matches!(outgoing.receive(exactly, true, &mut Spares::default()), Settled::Unknown),
        "it is too late to refuse"
    );
    assert!(matches!(outgoing.complete(exactly), Settled::Done));
    assert!(matches!(outgoing.complete(exactly), Settled::Unknown));
    assert!(matches!(outgoing.acknowledge(once, &mut Spares::default()), Settled::Done));
    assert!(outgoing.is_idle());
}

#[test]
fn a_release_does_what_a_first_answer_and_its_pubrel_do() {
    let (now, ends_at, awaited) = (Time::from_milliseconds(7), 11, 3);
    let [mut in_one, mut apart] = [Outgoing::default(), Outgoing::default()];
    for outgoing in [&mut in_one, &mut apart] {
        outgoing.resume(10);
        begin(outgoing, QoS::AtLeastOnce);
        begin(outgoing, QoS::ExactlyOnce);
        outgoing.number_last(MessageNumber(std::num::NonZeroU64::MIN));
    }
    let [once, exactly, unknown] = [1, 2, 3].map(|value| PacketIdentifier::new(value).unwrap());
    let released = in_one.release(exactly, now, ends_at, awaited).unwrap();
    assert!(matches!(apart.receive(exactly, false, &mut Spares::default()), Settled::Done));
    apart.released(exactly, now, ends_at, awaited);
    apart.take_gone(|number| assert_eq!(released.number, Some(number)));
    for other in [once, exactly, unknown] {
        assert!(in_one.release(other, Time::ZERO, 0, 0).is_none(), "no first PUBREC: {other:?}");
    }
    assert_eq!(format!("{:?}", in_one.in_flight()), format!("{:?}", apart.in_flight()));
    in_one.check_invariants();
    assert!(matches!(in_one.complete(exactly), Settled::Done));
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
fn a_loss_is_reported_once_until_the_queue_is_empty() {
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
fn a_burst_for_a_connected_client_is_not_counted() {
    let one = queued(QoS::AtLeastOnce, Time::NEVER);
    let burst_bytes = 3 * one.message.memory();
    let limits = Limits { queue_length: 1, burst_bytes, ..Limits::default() };
    let mut outgoing = Outgoing::default();
    let mut is_queued = |is_connected| enqueue(&mut outgoing, one.clone(), &limits, is_connected, Time::ZERO);
    assert_eq!([false, false].map(&mut is_queued), [true, false], "while disconnected, each message counts");
    assert_eq!(
        [true, true, true].map(&mut is_queued),
        [true, true, false],
        "while connected, their bytes count"
    );
    assert!(!is_queued(false), "queued messages stay, and none is added");
    outgoing.check_invariants();
}

/// Returns the identifiers of unsettled deliveries in flight, in the order in which they were sent.
fn in_use(outgoing: &Outgoing) -> Vec<u16> {
    let entries = (0..outgoing.in_flight().len()).filter(|&index| {
        let stage = outgoing.in_flight()[index].stage();
        !matches!(stage, Stage::Settled)
    });
    entries.map(|index| outgoing.identifier_of(index).value()).collect()
}

/// Settles the delivery with this identifier.
fn answer(outgoing: &mut Outgoing, value: u16, qos: QoS) {
    let (identifier, spares) = (PacketIdentifier::new(value).unwrap(), &mut Spares::default());
    let settled = match qos {
        QoS::ExactlyOnce => {
            let received = outgoing.receive(identifier, false, spares);
            assert!(matches!(received, Settled::Done), "{received:?}");
            outgoing.check_invariants();
            outgoing.complete(identifier)
        }
        _ => outgoing.acknowledge(identifier, spares),
    };
    assert!(matches!(settled, Settled::Done), "{value}: {settled:?}");
    outgoing.check_invariants();
}

/// Makes a place for one more delivery and begins it.
fn begin_in_place(outgoing: &mut Outgoing, qos: QoS) -> u16 {
    outgoing.make_place();
    assert!(outgoing.may_begin_in_place(false));
    begin(outgoing, qos).value()
}

#[test]
fn identifiers_in_use_are_skipped_in_bounded_work() {
    const WINDOW: u16 = 20;
    let mut outgoing = Outgoing::default();
    outgoing.resume(WINDOW);
    // Three are never answered, and their identifiers follow each other.
    let stuck: Vec<(u16, QoS)> = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce]
        .map(|qos| (begin_in_place(&mut outgoing, qos), qos))
        .into();
    let (mut looks, mut most, mut last) = (0, 0, 3);
    for _ in 0..200_000 {
        looks += outgoing.make_place();
        let value = begin_in_place(&mut outgoing, QoS::AtLeastOnce);
        let next = if last == u16::MAX { 4 } else { last + 1 };
        assert_eq!(value, next, "all but those in use, in their order");
        last = value;
        most = most.max(outgoing.in_flight().len());
        let identifier = PacketIdentifier::new(value).unwrap();
        assert!(matches!(outgoing.acknowledge(identifier, &mut Spares::default()), Settled::Done));
    }
    outgoing.check_invariants();
    assert!(most <= 200 && looks < 3 * 200_000, "{most} places, {looks} looks");
    assert!(!outgoing.may_begin(), "new messages wait until identifiers are checked");
    assert_eq!(in_use(&outgoing), [1, 2, 3]);
    // When the ones aside are answered at last, nothing is left of them.
    for (value, qos) in stuck.into_iter().rev() {
        answer(&mut outgoing, value, qos);
    }
    assert!(outgoing.is_idle() && outgoing.may_begin());
}

/// Begins `count` deliveries that are not answered, and as many more as it takes until these are set aside.
fn set_aside(outgoing: &mut Outgoing, count: u16) {
    for _ in 0..count {
        begin_in_place(outgoing, QoS::AtLeastOnce);
    }
    while outgoing.may_begin() {
        let value = begin_in_place(outgoing, QoS::AtLeastOnce);
        answer(outgoing, value, QoS::AtLeastOnce);
        outgoing.make_place();
    }
}

#[test]
fn deliveries_stay_aside_while_others_are_set_aside_before_them() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(100);
    set_aside(&mut outgoing, 99);
    // The next connection takes less. All but the first delivery that it is sent are answered.
    outgoing.resume(10);
    while outgoing.window.sent < 95 {
        let index = outgoing.next_to_resend(0).expect("the window has room");
        let value = outgoing.identifier_of(index).value();
        outgoing.resent(Time::ZERO, 0);
        if value > 1 {
            answer(&mut outgoing, value, QoS::AtLeastOnce);
        }
    }
    assert!(outgoing.make_place() > 0 && outgoing.may_begin_in_place(true), "a place for one to be prepared");
    outgoing.check_invariants();
    assert_eq!(in_use(&outgoing), [1, 96, 97, 98, 99]);
    while outgoing.next_to_resend(0).is_some() {
        outgoing.resent(Time::ZERO, 0);
    }
    for value in [99, 1, 97, 96, 98] {
        answer(&mut outgoing, value, QoS::AtLeastOnce);
    }
    assert!(outgoing.is_idle());
}

#[test]
fn deliveries_that_were_set_aside_leave_a_session_one_by_one() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(20);
    for _ in 0..3 {
        begin_in_place(&mut outgoing, QoS::AtLeastOnce);
    }
    for _ in 0..200 {
        let value = begin_in_place(&mut outgoing, QoS::AtLeastOnce);
        answer(&mut outgoing, value, QoS::AtLeastOnce);
    }
    assert!(!outgoing.may_begin(), "three are aside");
    for _ in 0..3 {
        assert!(outgoing.pop_leftover().is_some_and(|leftover| leftover.queued.is_some()));
        outgoing.check_invariants();
    }
    assert!(outgoing.pop_leftover().is_none());
}

/// Whatever the client takes, twice as many places as may be in flight have identifiers of their own.
#[test]
fn the_widest_window_takes_bounded_work_and_memory() {
    let mut outgoing = Outgoing::default();
    outgoing.resume(u16::MAX);
    while outgoing.make_place() == 0
        && outgoing.may_begin_in_place(false)
        && outgoing.in_flight().len() < 65_534
    {
        begin(&mut outgoing, QoS::AtLeastOnce);
    }
    assert_eq!(outgoing.in_flight().len(), usize::from(IN_FLIGHT_MAXIMUM));
    answer(&mut outgoing, IN_FLIGHT_MAXIMUM, QoS::AtLeastOnce);
    let mut looks = 0;
    for count in 1..=100_000 {
        looks += outgoing.make_place();
        let value = begin_in_place(&mut outgoing, QoS::AtLeastOnce);
        let identifier = PacketIdentifier::new(value).unwrap();
        assert!(matches!(outgoing.acknowledge(identifier, &mut Spares::default()), Settled::Done));
        assert!(looks < 3 * (count + 32_768), "{looks} looks for {count}");
    }
    outgoing.check_invariants();
    assert!(outgoing.in_flight().len() <= 2 * usize::from(IN_FLIGHT_MAXIMUM) + 64);
}

#[test]
fn all_identifiers_may_be_restored_and_the_first_free_one_is_the_next() {
    let all: Vec<u16> = (1..=u16::MAX).collect();
    let mut outgoing = restore(&all);
    outgoing.leave_out(512);
    outgoing.resume(10);
    assert!(outgoing.make_place() == 0 && !outgoing.may_begin_in_place(false), "all are in use");
    assert_eq!(send_and_answer(&mut outgoing).len(), all.len());
    assert!(outgoing.is_idle());
    begin_in_place(&mut outgoing, QoS::AtLeastOnce);
}

/// Identifiers that are skipped after a crash take no places of their own beyond those of the window.
#[test]
fn identifiers_left_out_are_skipped_without_a_place_for_each() {
    for (left_out, most) in [(0, 3), (50, 53), (51, 84), (IN_FLIGHT_MAXIMUM, 84), (u16::MAX, 84)] {
        let mut outgoing = restore(&[5, 6, 9]);
        outgoing.leave_out(left_out);
        outgoing.resume(10);
        outgoing.check_invariants();
        assert!(outgoing.in_flight().len() <= most + 2, "{left_out}: {} places", outgoing.in_flight().len());
        while outgoing.next_to_resend(0).is_some() {
            outgoing.resent(Time::ZERO, 0);
        }
        let value = begin_in_place(&mut outgoing, QoS::AtLeastOnce);
        assert_eq!(usize::from(value), (9 + usize::from(left_out)) % 65_535 + 1, "{left_out}");
        for value in [9, 6, 5, value] {
            answer(&mut outgoing, value, QoS::AtLeastOnce);
        }
        assert!(outgoing.is_idle());
    }
}

#[test]
fn spare_identifiers_are_those_of_no_delivery_and_come_last() {
    let mut outgoing = Outgoing::default();
    outgoing.begin_at(PacketIdentifier::new(65_500).unwrap());
    outgoing.resume(200);
    for _ in 0..100 {
        begin(&mut outgoing, QoS::ExactlyOnce);
    }
    let spare = |outgoing: &Outgoing| -> Vec<u16> {
        outgoing.spare_identifiers(64).into_iter().map(PacketIdentifier::value).collect()
    };
    assert!(in_use(&outgoing).contains(&u16::MAX), "it goes round");
    assert_eq!(spare(&outgoing), (65 + 32_767..).take(64).collect::<Vec<u16>>());
    // Where many were left unanswered, those in between are free.
    let values: Vec<u16> = (1..=u16::MAX).step_by(3).collect();
    let restored = restore(&values);
    let found = spare(&restored);
    assert_eq!(found.len(), 64);
    assert!(found.iter().all(|value| !values.contains(value)), "{found:?}");
    let all: Vec<u16> = (1..=u16::MAX).collect();
    assert!(spare(&restore(&all)).is_empty());
}

/// Restores deliveries with these identifiers, a QoS 1 message each.
fn restore(values: &[u16]) -> Outgoing {
    let mut outgoing = Outgoing::default();
    outgoing.begin_at(PacketIdentifier::new(30_000).unwrap());
    for (count, value) in values.iter().enumerate() {
        let stage = Stage::Publish(queued(QoS::AtLeastOnce, Time::NEVER));
        assert!(outgoing.restore(PacketIdentifier::new(*value).unwrap(), stage));
        assert!(outgoing.in_flight().len() <= count + 1, "{value} makes one place");
    }
    outgoing.check_invariants();
    outgoing.place_restored();
    outgoing.check_invariants();
    outgoing
}

/// Sends all that is in flight again, and answers each as soon as it is sent.
fn send_and_answer(outgoing: &mut Outgoing) -> Vec<u16> {
    let mut sent = Vec::new();
    while let Some(index) = outgoing.next_to_resend(0) {
        let identifier = outgoing.identifier_of(index);
        outgoing.resent(Time::ZERO, 0);
        sent.push(identifier.value());
        assert!(matches!(outgoing.acknowledge(identifier, &mut Spares::default()), Settled::Done));
    }
    sent
}

#[test]
fn restored_deliveries_take_memory_and_work_only_for_themselves() {
    let far_apart: Vec<u16> = (1..=u16::MAX).step_by(1_000).collect();
    let in_steps: Vec<u16> = (1..=u16::MAX).step_by(3).collect();
    let descending: Vec<u16> = (1..=u16::MAX).rev().step_by(1_000).collect();
    let two_ends: Vec<u16> = (0..100).flat_map(|number| [1 + number, 32_768 + number]).collect();
    let all: Vec<u16> = (1..=u16::MAX).rev().collect();
    for values in [vec![1, u16::MAX], vec![1, 32_768], far_apart, in_steps, descending, two_ends, all] {
        let mut outgoing = restore(&values);
        let (count, spare) = (values.len(), 64 * size_of::<InFlight>());
        let most = count * (3 * size_of::<InFlight>() + 128) + spare + size_of::<Outgoing>() + 64;
        assert!(outgoing.in_flight().len() <= 3 * count + 64, "{count}: {}", outgoing.in_flight().len());
        assert!(outgoing.counted.bytes() <= most, "{count}: {} of {most}", outgoing.counted.bytes());
        outgoing.resume(10);
        let mut sent = send_and_answer(&mut outgoing);
        sent.sort_unstable();
        let mut expected = values;
        expected.sort_unstable();
        assert_eq!(sent, expected);
        assert!(outgoing.is_idle());
    }
}

proptest! {
    /// By the naive model, the oldest is the one from which the shortest way round leads to all others.
    #[test]
    fn restored_deliveries_continue_in_the_order_of_their_identifiers(
        values in prop_oneof![
            prop::collection::hash_set(1..=u16::MAX, 1..40),
            prop::collection::hash_set(1..200_u16, 1..40),
            prop::collection::hash_set(prop_oneof![1..40_u16, 65_500..=u16::MAX], 1..40),
        ],
        window in 1..50_u16,
        left_out in prop_oneof![0..5_u16, 0..=u16::MAX],
    ) {
        let values: Vec<u16> = values.into_iter().collect();
        let mut outgoing = restore(&values);
        let way = |from: u16, to: u16| (u32::from(to) + 65_535 - u32::from(from)) % 65_535;
        let longest = |oldest: u16| values.iter().map(|value| way(oldest, *value)).max().unwrap();
        let order = in_use(&outgoing);
        prop_assert!(values.iter().all(|value| longest(*value) >= longest(order[0])));
        let mut expected = values.clone();
        expected.sort_by_key(|value| way(order[0], *value));
        prop_assert_eq!(&order, &expected);
        outgoing.leave_out(left_out);
        outgoing.resume(window);
        outgoing.check_invariants();
        prop_assert_eq!(send_and_answer(&mut outgoing), order);
    }

    /// The naive model is a list of the deliveries that are not settled, in the order in which they were sent.
    #[test]
    fn any_order_of_acknowledgements_settles_what_it_names(
        window in 1_u16..20,
        first in prop_oneof![Just(1_u16), Just(u16::MAX - 100), any::<u16>().prop_map(|first| first.max(1))],
        steps in prop::collection::vec((0..20_u8, any::<prop::sample::Index>()), 1..600),
    ) {
        let mut outgoing = Outgoing::default();
        outgoing.begin_at(PacketIdentifier::new(first).unwrap());
        outgoing.resume(window);
        let mut model: Vec<(u16, QoS)> = Vec::new();
        for (choice, index) in steps {
            outgoing.make_place();
            prop_assert_eq!(outgoing.may_begin_in_place(false), model.len() < usize::from(window));
            prop_assert!(!outgoing.may_begin() || model.len() < usize::from(window));
            if choice == 0 {
                outgoing.resume(window);
                while let Some(index) = outgoing.next_to_resend(0) {
                    outgoing.check_invariants();
                    outgoing.resent(Time::from_milliseconds(index as u64), 0);
                }
            } else if outgoing.may_begin_in_place(false) {
                let qos = if choice % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                let identifier = begin(&mut outgoing, qos).value();
                prop_assert!(model.iter().all(|(known, _)| *known != identifier), "an identifier in use");
                model.push((identifier, qos));
            } else {
                // Mostly the latest: the others are overtaken.
                let oldest = model.len().saturating_sub(2);
                let place = if choice < 3 { index.index(model.len()) } else { oldest };
                let (value, qos) = model.remove(place);
                answer(&mut outgoing, value, qos);
            }
            outgoing.check_invariants();
            let expected: Vec<u16> = model.iter().map(|(identifier, _)| *identifier).collect();
            prop_assert_eq!(in_use(&outgoing), expected, "in the order in which they were sent");
        }
        // A restarted broker gets them in that order.
        let mut restored = Outgoing::default();
        for (value, qos) in &model {
            let stage = Stage::Publish(queued(*qos, Time::NEVER));
            let identifier = PacketIdentifier::new(*value).unwrap();
            prop_assert!(restored.restore(identifier, stage.clone()));
            prop_assert!(!restored.restore(identifier, stage), "it is there");
            restored.check_invariants();
        }
        restored.place_restored();
        restored.check_invariants();
        prop_assert_eq!(in_use(&restored), in_use(&outgoing));
        restored.resume(window);
        while let Some(index) = restored.next_to_resend(0) {
            restored.resent(Time::from_milliseconds(index as u64), 0);
        }
        for (value, qos) in model {
            answer(&mut restored, value, qos);
        }
        prop_assert!(restored.is_idle());
    }
}
