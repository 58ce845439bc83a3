//! Sessions, their subscriptions, and the cache of recipients.

use brooklet::base::time::Duration;

use crate::lab::{Lab, compare};
use crate::wire::{Connect, Publish, V5, V311, subscribe, unsubscribe};

const MANY: usize = 30_000;

pub fn compare_all() -> Vec<String> {
    let mut wrong = compare("sessions away", sessions_away);
    wrong.extend(compare("Wills", wills));
    wrong.extend(compare("many filters of one session", |lab| {
        filters(lab, |number| format!("a/{number}/+/b"))
    }));
    wrong.extend(compare("filters in falling order", |lab| {
        filters(lab, |number| format!("{:05}/+", MANY - number));
    }));
    wrong.extend(compare("long filters", |lab| {
        filters(lab, |number| format!("{number}/{}", "long/".repeat(20)));
    }));
    wrong.extend(compare("a few filters of many sessions", few_filters));
    wrong.extend(compare("the same filter of many sessions", same_filter));
    wrong.extend(compare("members of a group", members));
    wrong.extend(compare("long Share Names", share_names));
    wrong.extend(compare("replays", replays));
    wrong.extend(compare("matches", matches));
    wrong.extend(compare("matches of many", matches_of_many));
    wrong
}

fn name(number: usize) -> String {
    format!("client-{number}")
}

fn away(lab: &mut Lab, number: usize) -> brooklet::core::slots::ConnectionId {
    lab.connect(&Connect::new(V5, &name(number)).resume().expiry(10_000))
}

fn sessions_away(lab: &mut Lab) {
    for number in 0..MANY {
        away(lab, number);
    }
    lab.check("connected");
    lab.close_all();
    lab.peak();
    lab.end_sessions((0..MANY).map(name));
}

fn wills(lab: &mut Lab) {
    for number in 0..MANY {
        let connect = Connect::new(V5, &name(number)).resume().expiry(10_000);
        lab.connect(&connect.will("will", &[b'w'; 100], 1, false, &[0x18, 0, 0, 3, 0xE8]));
    }
    lab.peak();
    lab.close_all();
    lab.check("away");
    lab.pass(Duration::from_seconds(20_000));
}

fn filters(lab: &mut Lab, filter: impl Fn(usize) -> String) {
    let id = lab.connect(&Connect::new(V5, "client"));
    for number in 0..MANY {
        lab.send(id, &subscribe(V5, 1, &[], &[(&filter(number), 1)]));
    }
    lab.peak();
    for number in (0..MANY).filter(|number| number % 8 > 0) {
        lab.send(id, &unsubscribe(V5, 1, &[&filter(number)]));
    }
    lab.check("most are unsubscribed");
}

fn few_filters(lab: &mut Lab) {
    for number in 0..MANY / 2 {
        let id = lab.connect(&Connect::new(V311, &name(number)));
        let filters = [format!("sensor/{number}/state"), format!("command/{number}/#"), "all".to_owned()];
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
        lab.send(id, &subscribe(V311, 1, &[], &filters));
    }
    lab.peak();
}

fn same_filter(lab: &mut Lab) {
    for number in 0..MANY {
        let id = lab.connect(&Connect::new(V311, &name(number)));
        lab.send(id, &subscribe(V311, 1, &[], &[("all", 1)]));
    }
    lab.peak();
}

fn members(lab: &mut Lab) {
    for number in 0..MANY {
        let id = lab.connect(&Connect::new(V5, &name(number)));
        lab.send(id, &subscribe(V5, 1, &[], &[("$share/group/all", 1)]));
    }
    lab.peak();
}

fn share_names(lab: &mut Lab) {
    let id = lab.connect(&Connect::new(V5, "client"));
    for number in 0..MANY {
        let long = if number % 20 == 0 { "long".repeat(1_000) } else { String::new() };
        lab.send(id, &subscribe(V5, 1, &[], &[(&format!("$share/{number}{long}/all"), 1)]));
    }
    lab.peak();
}

/// Retained messages owed to clients that take nothing.
fn replays(lab: &mut Lab) {
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for number in 0..100 {
        lab.send(publisher, &Publish::new(V5, &format!("kept/{number}"), &[b'k'; 10_000]).retain().bytes());
    }
    for number in 0..20 {
        let id = away(lab, number);
        lab.is_stalled = true;
        for number in 0..2_000 {
            let filter = format!("kept/{}{}", "+/".repeat(number % 3), number % 1_000);
            lab.send(id, &subscribe(V5, 1, &[], &[("kept/#", 1), (&filter, 1)]));
        }
        lab.is_stalled = false;
    }
    lab.peak();
    for number in 0..100 {
        lab.send(publisher, &Publish::new(V5, &format!("kept/{number}"), b"").retain().bytes());
    }
    lab.end_sessions((0..20).map(name));
}

fn matches(lab: &mut Lab) {
    filters_for_matches(lab, 20);
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for number in 0..MANY {
        lab.send(publisher, &Publish::new(V5, &format!("all/{number}"), b"").bytes());
    }
    lab.peak();
}

fn matches_of_many(lab: &mut Lab) {
    filters_for_matches(lab, 3_000);
    let publisher = lab.connect(&Connect::new(V5, "publisher"));
    for number in 0..100 {
        lab.send(publisher, &Publish::new(V5, &format!("all/{number}"), b"").bytes());
        if number % 9 == 0 {
            lab.check("many get it");
        }
    }
    lab.peak();
}

fn filters_for_matches(lab: &mut Lab, count: usize) {
    for number in 0..5_000 {
        let id = lab.connect(&Connect::new(V5, &name(number)));
        if number < count {
            lab.send(id, &subscribe(V5, 1, &[], &[("all/+", 0), ("all/#", 0)]));
        }
    }
}
