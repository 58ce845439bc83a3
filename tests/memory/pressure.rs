//! A broker with a limit: however much is asked of it, it holds no more.

use brooklet::core::limits::Limits;

use crate::lab::{Lab, compare_with, unbounded};
use crate::wire::{Connect, PINGREQ, Publish, V5, V311, subscribe};

const LIMIT: usize = 4 * 1024 * 1024;

pub fn compare_all() -> Vec<String> {
    [
        within_limit("unread answers", unread_answers),
        within_limit("cut packets", cut_packets),
        within_limit("bound aliases", bound_aliases),
        within_limit("aliases for clients", aliases_for_clients),
        within_limit("unreleased messages", unreleased),
        within_limit("Subscription Identifiers", identifiers),
    ]
    .concat()
}

fn within_limit(name: &'static str, act: impl FnOnce(&mut Lab)) -> Vec<String> {
    let limits = Limits { memory: Some(LIMIT), ..unbounded() };
    let mut held = 0;
    let mut wrong = compare_with(name, limits, brooklet::core::access::AllowAll, |lab| {
        act(lab);
        lab.peak();
        held = lab.broker.held();
    });
    if !(LIMIT / 2..LIMIT + LIMIT / 20).contains(&held) {
        wrong.push(format!("{name}: {held} bytes are held of {LIMIT}"));
    }
    wrong
}

fn connect(lab: &mut Lab, count: usize) {
    for number in 0..count {
        lab.connect(&Connect::new(V5, &format!("client-{number}")));
    }
}

fn unread_answers(lab: &mut Lab) {
    connect(lab, 200);
    lab.is_stalled = true;
    for _ in 0..20 {
        for id in lab.clients.clone() {
            lab.send(id, &PINGREQ.repeat(20_000));
        }
    }
}

fn cut_packets(lab: &mut Lab) {
    connect(lab, 500);
    let promised = crate::wire::packet(0x30, &vec![b'x'; 300_000]);
    for _ in 0..10 {
        for id in lab.clients.clone() {
            lab.send(id, &promised[..20_000]);
        }
    }
}

fn bound_aliases(lab: &mut Lab) {
    connect(lab, 500);
    for id in lab.clients.clone() {
        for alias in 1..=10 {
            let topic = format!("alias/{alias}/{}", "x".repeat(30_000));
            lab.send(id, &Publish::new(V5, &topic, b"").property(&[0x23, 0, alias]).bytes());
        }
    }
}

fn aliases_for_clients(lab: &mut Lab) {
    let publisher = lab.connect(&Connect::new(V311, "publisher"));
    for number in 0..100 {
        let id = lab.connect(&Connect::new(V5, &format!("taker-{number}")).property(&[0x22, 0, 100]));
        lab.send(id, &subscribe(V5, 1, &[], &[("alias/#", 0)]));
    }
    for alias in 0..32 {
        let topic = format!("alias/{alias}/{}", "x".repeat(30_000));
        lab.send(publisher, &Publish::new(V311, &topic, b"").bytes());
    }
}

fn unreleased(lab: &mut Lab) {
    for number in 0..80 {
        let id = lab.connect(&Connect::new(V311, &format!("client-{number}")));
        for first in (1..60_000_u16).step_by(2_000) {
            let publish = |identifier| Publish::new(V311, "q", b"").qos(2, identifier).bytes();
            lab.send(id, &(first..first + 2_000).flat_map(publish).collect::<Vec<u8>>());
        }
    }
}

/// Of the queue of a client that acknowledges nothing.
fn identifiers(lab: &mut Lab) {
    let id = lab.connect(&Connect::new(V5, "client").property(&[0x21, 0, 1]));
    for number in 0..4_096 {
        let level = |bit: usize| if number >> bit & 1 == 0 { "a" } else { "+" };
        let filter: Vec<&str> = (0..12).map(level).collect();
        lab.send(id, &subscribe(V5, 1, &[0x0B, 1], &[(&filter.join("/"), 1)]));
    }
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for number in 0..1_500 {
        let last = if number % 2 == 0 { "a" } else { "b" };
        let topic = format!("{}{last}", "a/".repeat(11));
        lab.send(publisher, &Publish::new(V5, &topic, b"message").qos(1, 1).bytes());
    }
}
