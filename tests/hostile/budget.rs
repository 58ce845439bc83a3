//! The memory budget: whatever the attack, the process grows by no more than the budget and a tenth.

use crate::peer::{Peer, promise};
use crate::target::{KIB, MIB, Target};
use crate::wire::{Connect, Publish, V5, V311, disconnect, subscribe};

const BUDGET: usize = 32 * MIB;

fn target() -> Target {
    Target::start(&["--memory-limit", "32M"])
}

/// The most that the process may grow by: the budget, and a tenth for what is not counted.
fn stays_within(target: &Target, what: &str) {
    target.holds_at_most(BUDGET + BUDGET / 10, what);
}

/// Asserts that the attack reaches the limit, so that the bound above is meaningful: at least three quarters of the
/// budget are for clients and messages, and the last tenth of these is not for stored data.
fn is_well_used(target: &Target) {
    let growth = target.growth();
    assert!(growth >= BUDGET * 6 / 10, "only {} KiB are used", growth / KIB);
}

/// Whether a new client is refused with this code.
fn is_refused(target: &Target, level: u8, refusal: u8) -> bool {
    let (peer, code) = Peer::try_connect(target.address(), &Connect::new(level, "newcomer"));
    if code == Some(0) {
        peer.disconnect();
        return false;
    }
    assert_eq!(code, Some(refusal), "version {level}");
    true
}

/// Asserts that after the load is gone, there is room again for new clients, subscriptions, retained messages and
/// queues.
fn is_open_again(target: &mut Target) {
    let mut newcomer = Peer::connect(target.address(), "newcomer");
    assert_eq!(newcomer.subscribe("again/#", 1), 1);
    assert_eq!(newcomer.publish(Publish::new(V5, "again/a", &[b'a'; 100_000]).retain()), 0);
    assert_eq!(newcomer.publish(Publish::new(V5, "again/a", b"").retain()), 0);
    newcomer.disconnect();
    target.serves();
}

/// Connects clients whose packets in progress fill what others have left of the budget.
fn fill_with_halves(target: &Target) -> Vec<Peer> {
    let mut halves: Vec<Peer> = (0..60)
        .filter_map(|number| {
            let connect = Connect::new(V5, &format!("half-{number}"));
            let (peer, code) = Peer::try_connect(target.address(), &connect);
            (code == Some(0)).then_some(peer)
        })
        .collect();
    for half in &mut halves {
        if half.try_send(&promise(0x30, 1_999_000)).is_ok() {
            // The broker closes the connection during the packet, once no memory is left.
            let _ = half.try_send(&vec![b'h'; 1_040_000]);
        }
    }
    halves
}

#[test]
fn a_flood_of_retained_messages_ends_with_quota_exceeded() {
    let mut target = target();
    let mut flooder = Peer::connect(target.address(), "flooder");
    let mut bytes = Vec::new();
    let (mut hundreds, mut code) = (0, 0);
    // After each hundred messages of QoS 0, one of QoS 1 checks whether there is still room.
    while code != 0x97 {
        bytes.clear();
        for number in 0..100 {
            let topic = format!("retained/{hundreds}/{number}");
            bytes.extend(Publish::new(V5, &topic, &[b'r'; 500]).retain().bytes());
        }
        flooder.send(&bytes);
        code = flooder.publish(Publish::new(V5, &format!("retained/{hundreds}"), &[b'r'; 500]).retain());
        hundreds += 1;
        assert!(hundreds < 1_000, "there is an end to it");
    }
    let refused = flooder.publish(Publish::new(V5, "another", &[b'r'; 200_000]).retain());
    assert_eq!(refused, 0x97, "Quota exceeded");
    eprintln!("{hundreds} hundreds are retained");
    stays_within(&target, "retained messages");
    is_well_used(&target);
    target.serves();
    let halves = fill_with_halves(&target);
    target.serves_at_most_once();
    stays_within(&target, "and packets in progress");
    drop(halves);
    for chunk in 0..hundreds {
        bytes.clear();
        for number in 0..100 {
            let topic = format!("retained/{chunk}/{number}");
            bytes.extend(Publish::new(V5, &topic, b"").retain().bytes());
        }
        bytes.extend(Publish::new(V5, &format!("retained/{chunk}"), b"").retain().bytes());
        flooder.send(&bytes);
    }
    flooder.publish(Publish::new(V5, "last", b""));
    flooder.disconnect();
    is_open_again(&mut target);
}

#[test]
fn floods_for_queues_end_with_quota_exceeded() {
    let mut target = target();
    let mut flooder = Peer::connect(target.address(), "flooder");
    let away = 40;
    for number in 0..away {
        let mut peer = Peer::connect_as(
            target.address(),
            &Connect::new(V5, &format!("away-{number}")).resume().expiry(1_000),
        );
        peer.subscribe(&format!("away/{number}/#"), 1);
        peer.disconnect();
    }
    let mut refused = 0;
    for _ in 0..700 {
        for number in 0..away {
            let publish = Publish::new(V5, &format!("away/{number}/a"), &[b'q'; 10_000]);
            if flooder.publish(publish) == 0x97 {
                refused += 1;
            }
        }
        if refused > 2 * away {
            break;
        }
    }
    assert!(refused > 0, "Quota exceeded");
    stays_within(&target, "queues of disconnected clients");
    is_well_used(&target);
    target.serves();
    for number in 0..away {
        let connect = Connect::new(V5, &format!("away-{number}"));
        let mut peer = Peer::open(target.address());
        peer.send(&connect.bytes());
        assert_eq!(peer.packet()[3], 0, "between nine tenths and nineteen twentieths clients may still come");
        peer.disconnect();
    }
    flooder.disconnect();
    is_open_again(&mut target);
}

#[test]
fn stalled_subscribers_share_the_budget() {
    let mut target = target();
    let stalled: Vec<Peer> = (0..12)
        .map(|number| {
            let mut peer = Peer::connect(target.address(), &format!("stalled-{number}"));
            peer.subscribe("flood/#", number % 3);
            peer
        })
        .collect();
    let mut flooder = Peer::connect(target.address(), "flooder");
    for length in [1_000, 30_000, 100] {
        let payload = vec![b'f'; length];
        for _ in 0..8_000_000 / (length + 100) / 20 {
            let burst = Publish::new(V5, "flood/a", &payload).bytes().repeat(19);
            flooder.send(&burst);
            flooder.publish(Publish::new(V5, "flood/a", &payload));
        }
        target.serves_at_most_once();
        stays_within(&target, "outboxes and queues");
    }
    drop(stalled);
    flooder.disconnect();
    target.gives_back(BUDGET);
    is_open_again(&mut target);
}

#[test]
fn packets_in_progress_end_at_the_budget() {
    let mut target = target();
    let mut halves = fill_with_halves(&target);
    target.serves_at_most_once();
    stays_within(&target, "packets in progress");
    let refused = halves.iter_mut().filter_map(|half| half.try_packet().ok()).next();
    assert_eq!(refused.map(|disconnect| (disconnect[0], disconnect[2])), Some((0xE0, 0x97)));
    drop(halves);
    target.gives_back(BUDGET);
    is_open_again(&mut target);
}

#[test]
fn new_clients_are_refused_for_lack_of_memory() {
    let mut target = target();
    let mut fillers: Vec<Peer> =
        (0..60).map(|number| Peer::connect(target.address(), &format!("filler-{number}"))).collect();
    // Each takes as much as a doubling buffer of a half packet has, so the last steps are small.
    let steps = [&[1_000_000; 28][..], &[250_000; 12], &[60_000; 20]].concat();
    // A client that exceeds the budget is disconnected, and its memory is available to another.
    let are_refused = fillers.iter_mut().zip(steps).any(|(filler, length)| {
        filler.send(&promise(0x30, 1_999_000));
        let _ = filler.try_send(&vec![b'h'; length]);
        target.serves_at_most_once();
        [(V5, 0x97), (V311, 3)].into_iter().all(|(level, refusal)| is_refused(&target, level, refusal))
    });
    assert!(are_refused, "newcomers of both versions");
    stays_within(&target, "half packets");
    drop(fillers);
    target.gives_back(BUDGET);
    is_open_again(&mut target);
}

#[test]
fn subscriptions_end_at_the_budget() {
    // A quarter is for the code of the broker, which leaves 6 MiB.
    let mut target = Target::start(&["--memory-limit", "8M"]);
    let mut hoarders: Vec<Peer> = Vec::new();
    let (mut granted, mut packet_number) = (0, 0);
    let refused = loop {
        // One session has at most 10,000.
        if granted % 10_000 == 0 {
            hoarders.push(Peer::connect(target.address(), &format!("hoarder-{granted}")));
        }
        let hoarder = hoarders.last_mut().unwrap();
        let filters: Vec<String> =
            (0..2_000).map(|number| format!("hoard/{packet_number}/{number}/+/x")).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
        hoarder.send(&subscribe(V5, 1, &[], &filters));
        let suback = hoarder.packet();
        let codes = &suback[suback.len() - 2_000..];
        if codes.contains(&0x97) {
            break codes.iter().filter(|&&code| code == 0x97).count();
        }
        granted += 2_000;
        packet_number += 1;
        assert!(granted < 1_000_000, "there is an end to it");
    };
    eprintln!("{granted} granted, then {refused} refused");
    target.holds_at_most(6 * MIB + 6 * MIB / 10, "subscriptions");
    assert!(target.growth() >= 5 * MIB, "the budget is used");
    target.serves();
    hoarders.into_iter().for_each(Peer::disconnect);
    is_open_again(&mut target);
}

#[test]
fn sessions_end_at_the_budget() {
    let mut target = Target::start(&["--memory-limit", "4M"]);
    let mut count = 0;
    let code = loop {
        let connect = Connect::new(V5, &format!("away-{count}")).resume().expiry(1_000).will(
            "will",
            b"will",
            1,
            false,
            &[0x18, 0, 0, 3, 0xE8],
        );
        let (mut peer, code) = Peer::try_connect(target.address(), &connect);
        if code != Some(0) {
            break code;
        }
        // This one keeps the Will.
        peer.send(&disconnect(0x04, &[]));
        count += 1;
        assert!(count < 20_000, "there is an end to it");
    };
    assert_eq!(code, Some(0x97));
    eprintln!("{count} sessions");
    target.holds_at_most(4 * MIB + 4 * MIB / 10, "sessions");
    target.serves_at_most_once();
}

#[test]
fn connected_clients_are_counted() {
    let mut target = Target::start(&["--memory-limit", "4M"]);
    let mut crowd = Vec::new();
    // As many as most systems let one process open.
    for number in 0..900 {
        crowd.push(Peer::connect(target.address(), &format!("idle-{number}")));
    }
    // A slot in three tables, a timer, a session and its list; all of it is part of the budget.
    target.holds_at_most(900 * 2 * KIB, "connected clients that say nothing");
    drop(crowd);
    target.gives_back(MIB);
}
