//! Subscriptions in unreasonable numbers and shapes.

use crate::peer::Peer;
use crate::target::{MIB, SLACK, Target};
use crate::wire::{Connect, Publish, V5, V311, field, packet, subscribe, unsubscribe};

/// The memory of such a subscription: its node, its place in the session, and a share of forks.
const SUBSCRIPTION: usize = 160;

/// A SUBSCRIBE for all these filters at QoS 0.
fn subscribe_all(filters: &[String]) -> Vec<u8> {
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    subscribe(V5, 1, &[], &filters)
}

/// The codes of the SUBACK that comes next.
fn codes(peer: &mut Peer) -> Vec<u8> {
    loop {
        let suback = peer.packet();
        if suback[0] == 0x90 {
            let body = crate::wire::cut_variable_byte_integer(&suback[1..]).1;
            return body[3..].to_vec();
        }
    }
}

#[test]
fn thousands_of_filters_in_one_packet_are_answered_one_by_one() {
    let mut target = Target::start(&[]);
    let mut peer = Peer::connect(target.address(), "many");
    let filters: Vec<String> = (0..10_000).map(|number| format!("many/{number}/+/#")).collect();
    for _ in 0..2 {
        peer.send(&subscribe_all(&filters));
        assert_eq!(codes(&mut peer), vec![0; filters.len()]);
        target.serves();
    }
    target.holds_at_most(filters.len() * SUBSCRIPTION + SLACK, "each filter once");
    let texts: Vec<&str> = filters.iter().map(String::as_str).collect();
    peer.send(&unsubscribe(V5, 1, &texts));
    assert_eq!(peer.packet()[0], 0xB0);
    peer.send(&subscribe_all(&filters));
    assert_eq!(codes(&mut peer), vec![0; filters.len()]);
    // Now they end with their session.
    peer.disconnect();
    target.gives_back(SLACK);
    target.logged_at_most(3, "one client that came, connected and went");
}

#[test]
fn thousands_of_filters_with_retained_messages_do_not_stop_the_others() {
    let mut target = Target::start(&[]);
    let mut publisher = Peer::connect(target.address(), "keeper");
    publisher.publish(Publish::new(V5, "kept", b"message").retain());
    let mut peer = Peer::connect(target.address(), "many");
    let filters: Vec<String> = (0..10_000).map(|number| format!("m/{number:05}")).collect();
    peer.send(&subscribe_all(&filters));
    target.serves();
    assert_eq!(codes(&mut peer), vec![0; filters.len()]);
    let texts: Vec<&str> = filters.iter().map(String::as_str).collect();
    peer.send(&unsubscribe(V5, 1, &texts));
    target.serves();
    assert_eq!(peer.packet()[0], 0xB0);
    peer.disconnect();
    publisher.publish(Publish::new(V5, "kept", b"").retain());
    publisher.disconnect();
    target.gives_back(SLACK);
}

#[test]
fn thousands_of_share_names_for_one_filter_do_not_stop_the_others() {
    let mut target = Target::start(&[]);
    target.attacked_twice(share, SLACK);
    target.logged_at_most(3, "one client that came, connected and went");
}

fn share(target: &mut Target) {
    let mut peer = Peer::connect(target.address(), "sharer");
    let filters: Vec<String> = (0..10_000).map(|number| format!("$share/{number}/a")).collect();
    peer.send(&subscribe_all(&filters));
    target.serves();
    assert_eq!(codes(&mut peer), vec![0; filters.len()]);
    target.holds_at_most(filters.len() * 2 * SUBSCRIPTION + SLACK, "each group with its member");
    peer.disconnect();
}

#[test]
fn filters_of_separators_alone_are_refused() {
    let mut target = Target::start(&[]);
    let slashes = "/".repeat(65_535);
    for filter in [slashes, "+/".repeat(32_767), format!("{}#", "/".repeat(65_534))] {
        for packet in [subscribe(V5, 1, &[], &[(&filter, 0)]), unsubscribe(V5, 1, &[&filter])] {
            let mut peer = Peer::connect(target.address(), "slashes");
            peer.send(&packet);
            let disconnect = peer.packet();
            assert_eq!((disconnect[0], disconnect[2]), (0xE0, 0x8F), "Topic Filter invalid");
        }
        let mut old = Peer::connect_as(target.address(), &Connect::new(V311, "old"));
        old.send(&subscribe(V311, 1, &[], &[(&filter, 0)]));
        assert!(old.is_closed());
    }
    // The longest filter that is allowed works everywhere.
    let mut peer = Peer::connect(target.address(), "slashes");
    let long = format!("{}{}", "/".repeat(200), "x".repeat(65_335));
    assert_eq!(peer.subscribe(&long, 0), 0);
    peer.send(&Publish::new(V5, &long, b"deep").bytes());
    assert_eq!(peer.payload(), b"deep");
    target.serves();
    target.holds_at_most(MIB + SLACK, "one long filter");
    drop(peer);
    target.gives_back(SLACK);
    target.logged_at_most(10 * 3, "ten clients that came, connected and went");
}

#[test]
fn a_filter_repeated_in_one_packet_is_one_subscription() {
    let mut target = Target::start(&[]);
    let mut peer = Peer::connect(target.address(), "again");
    let body = [&[0, 1, 0][..], &[&field("a/+/b")[..], &[0]].concat().repeat(50_000)].concat();
    peer.send(&packet(0x82, &body));
    assert_eq!(codes(&mut peer), vec![0; 50_000]);
    peer.send(&Publish::new(V5, "a/x/b", b"once").bytes());
    peer.send(&Publish::new(V5, "a/x/b", b"next").bytes());
    assert_eq!([peer.payload(), peer.payload()], [b"once", b"next"]);
    target.serves();
    target.holds_at_most(SLACK, "one subscription");
    peer.disconnect();
    target.gives_back(SLACK);
    target.logged_at_most(3, "one client that came, connected and went");
}
