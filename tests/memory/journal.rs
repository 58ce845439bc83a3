//! Data that waits to be made durable.

use crate::lab::{Lab, compare};
use crate::wire::{Connect, Publish, V5, subscribe};

pub fn compare_all() -> Vec<String> {
    let mut wrong = compare("records of subscriptions", records);
    wrong.extend(compare("topics of retained messages", topics));
    wrong.extend(compare("answers", answers));
    wrong.extend(compare("messages of others", leftovers));
    wrong.extend(compare("recipients with Subscription Identifiers", recipients));
    wrong
}

fn away(lab: &mut Lab, number: usize) -> brooklet::core::slots::ConnectionId {
    lab.connect(&Connect::new(V5, &name(number)).resume().expiry(10_000))
}

fn name(number: usize) -> String {
    format!("client-{number}")
}

fn finish(lab: &mut Lab, count: usize) {
    lab.commit();
    lab.check("durable");
    lab.end_sessions((0..count).map(name));
    for _ in 0..1_000 {
        lab.commit();
    }
}

fn records(lab: &mut Lab) {
    lab.begin_journal();
    let id = away(lab, 0);
    lab.commit();
    for number in 0..2_000 {
        let filter = format!("{}{number}", "long/".repeat(190));
        // The second record replaces the first.
        for _ in 0..2 {
            lab.send(id, &subscribe(V5, 1, &[], &[(&filter, 1)]));
        }
    }
    lab.peak();
    finish(lab, 1);
}

fn topics(lab: &mut Lab) {
    lab.begin_journal();
    let id = away(lab, 0);
    lab.commit();
    for number in 0..5_000 {
        let topic = format!("{}{number}", "long/".repeat(190));
        lab.send(id, &Publish::new(V5, &topic, b"kept").retain().qos(1, 1).bytes());
        lab.send(id, &Publish::new(V5, &topic, b"").retain().bytes());
    }
    lab.peak();
    finish(lab, 1);
}

fn answers(lab: &mut Lab) {
    lab.begin_journal();
    let receiver = away(lab, 0);
    lab.send(receiver, &subscribe(V5, 1, &[], &[("#", 1)]));
    lab.commit();
    let publishers: Vec<_> = (1..200).map(|number| away(lab, number)).collect();
    lab.commit();
    for id in publishers {
        for identifier in 1..=500 {
            let publish = Publish::new(V5, "answer", b"").qos(1, identifier);
            lab.send(id, &publish.bytes());
        }
    }
    lab.peak();
    finish(lab, 200);
}

fn leftovers(lab: &mut Lab) {
    lab.begin_journal();
    for number in 0..500 {
        let id = away(lab, number);
        lab.send(id, &subscribe(V5, 1, &[], &[("left", 1)]));
    }
    lab.close_all();
    let publisher = away(lab, 500);
    lab.commit();
    for _ in 0..900 {
        lab.send(publisher, &Publish::new(V5, "left", &[b'l'; 100]).qos(1, 1).bytes());
        lab.commit();
    }
    lab.peak();
    lab.end_sessions((0..501).map(name));
    lab.check("left");
    for _ in 0..1_000 {
        lab.commit();
    }
}

fn recipients(lab: &mut Lab) {
    lab.begin_journal();
    let id = away(lab, 0);
    for number in 0..1_024 {
        let level = |bit: usize| if number >> bit & 1 == 0 { "a" } else { "+" };
        let filter: Vec<&str> = (0..10).map(level).collect();
        let low = u8::try_from(number % 100 + 1).unwrap();
        lab.send(id, &subscribe(V5, 1, &[0x0B, low], &[(&filter.join("/"), 1)]));
    }
    lab.close_all();
    let publisher = away(lab, 1);
    lab.commit();
    for number in 0..800 {
        let last = if number % 2 == 0 { "a" } else { "b" };
        let topic = format!("{}{last}", "a/".repeat(9));
        lab.send(publisher, &Publish::new(V5, &topic, &[b'm'; 1_000]).qos(1, 1).bytes());
    }
    lab.peak();
    finish(lab, 2);
}
