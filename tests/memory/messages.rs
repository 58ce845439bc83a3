//! Messages: in queues, in flight, retained.

use brooklet::core::slots::ConnectionId;

use crate::lab::{Lab, compare};
use crate::wire::{Connect, Publish, V5, V311, subscribe};

pub fn compare_all() -> Vec<String> {
    let mut wrong = compare("queues of small messages", |lab| queues(lab, 500, 100, 20, false));
    wrong.extend(compare("queues of large messages", |lab| queues(lab, 10, 20, 100_000, false)));
    wrong.extend(compare("queues of shared messages", |lab| queues(lab, 1_000, 200, 200, true)));
    wrong.extend(compare("Subscription Identifiers in queues", |lab| identifiers(lab, false)));
    wrong.extend(compare("Subscription Identifiers in flight", |lab| identifiers(lab, true)));
    wrong.extend(compare("single Subscription Identifiers", single_identifiers));
    wrong.extend(compare("QoS 1 in flight", |lab| in_flight(lab, 1)));
    wrong.extend(compare("QoS 2 in flight", |lab| in_flight(lab, 2)));
    wrong.extend(compare("incoming QoS 2", incoming));
    wrong.extend(compare("retained small messages", |lab| retained(lab, 20_000, 10)));
    wrong.extend(compare("retained large messages", |lab| retained(lab, 100, 50_000)));
    wrong
}

fn name(number: usize) -> String {
    format!("client-{number}")
}

fn away(lab: &mut Lab, number: usize) -> ConnectionId {
    lab.connect(&Connect::new(V5, &name(number)).resume().expiry(10_000))
}

fn queues(lab: &mut Lab, sessions: usize, messages: usize, length: usize, is_shared: bool) {
    for number in 0..sessions {
        let id = away(lab, number);
        let filter = if is_shared { "queue".to_owned() } else { format!("queue/{number}") };
        lab.send(id, &subscribe(V5, 1, &[], &[(&filter, 1)]));
    }
    lab.close_all();
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    let payload = vec![b'q'; length];
    for _ in 0..messages {
        for number in 0..if is_shared { 1 } else { sessions } {
            let topic = if is_shared { "queue".to_owned() } else { format!("queue/{number}") };
            lab.send(publisher, &Publish::new(V5, &topic, &payload).qos(1, 1).bytes());
        }
    }
    lab.peak();
    lab.end_sessions((0..sessions).map(name));
}

/// Overlapping subscriptions of one session, all with an identifier, to two topics in turn, so that equal lists do not
/// always follow one another.
fn identifiers(lab: &mut Lab, is_connected: bool) {
    let id = away(lab, 0);
    for number in 0..4_096 {
        let level = |bit: usize| if number >> bit & 1 == 0 { "a" } else { "+" };
        let filter: Vec<&str> = (0..12).map(level).collect();
        let low = u8::try_from(number % 100 + 1).unwrap();
        lab.send(id, &subscribe(V5, 1, &[0x0B, low], &[(&filter.join("/"), 1)]));
    }
    if !is_connected {
        lab.close_all();
    }
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for number in 0..400 {
        let last = if number % 2 == 0 { "a" } else { "b" };
        let topic = format!("{}{last}", "a/".repeat(11));
        lab.send(publisher, &Publish::new(V5, &topic, b"message").qos(1, 1).bytes());
    }
    lab.peak();
    lab.end_sessions((0..1).map(name));
}

fn single_identifiers(lab: &mut Lab) {
    for number in 0..100 {
        let id = away(lab, number);
        let low = u8::try_from(number + 1).unwrap();
        lab.send(id, &subscribe(V5, 1, &[0x0B, low], &[("single", 1)]));
    }
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for _ in 0..200 {
        lab.send(publisher, &Publish::new(V5, "single", b"message").qos(1, 1).bytes());
    }
    lab.peak();
    lab.end_sessions((0..100).map(name));
}

fn in_flight(lab: &mut Lab, qos: u8) {
    for number in 0..1_000 {
        let id = away(lab, number);
        lab.send(id, &subscribe(V5, 1, &[], &[(&format!("flight/{number}"), qos)]));
    }
    let receivers = lab.clients.clone();
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for number in 0..1_000 {
        for identifier in 1..=50 {
            let publish = Publish::new(V5, &format!("flight/{number}"), b"message");
            lab.send(publisher, &publish.qos(qos, identifier).bytes());
            lab.send(publisher, &[0x62, 2, 0, u8::try_from(identifier).unwrap()]);
        }
    }
    lab.peak();
    for id in receivers {
        for identifier in 1..=50 {
            lab.send(id, &[if qos == 1 { 0x40 } else { 0x50 }, 2, 0, identifier]);
        }
    }
    lab.check("answered");
    lab.end_sessions((0..1_000).map(name));
}

fn incoming(lab: &mut Lab) {
    for number in 0..3_000 {
        let id = lab.connect(&Connect::new(V311, &name(number)));
        for identifier in 1..if number % 100 == 0 { 60_000 } else { 20 } {
            lab.send(id, &Publish::new(V311, "incoming", b"").qos(2, identifier).bytes());
        }
    }
    lab.peak();
}

fn retained(lab: &mut Lab, count: usize, length: usize) {
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    let payload = vec![b'r'; length];
    for number in 0..count {
        lab.send(publisher, &Publish::new(V5, &format!("retained/{number:05}"), &payload).retain().bytes());
    }
    lab.peak();
    for number in 0..count {
        lab.send(publisher, &Publish::new(V5, &format!("retained/{number:05}"), b"").retain().bytes());
    }
}
