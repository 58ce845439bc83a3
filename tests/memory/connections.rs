//! Connections, and the data queued in them.

use std::rc::Rc;

use brooklet::base::time::{Duration, Time};
use brooklet::core::access::{AccessControl, Answer, Client, Exchange, Progress, Question};
use brooklet::core::broker::Introduction;
use brooklet::core::limits::Limits;
use brooklet::core::slots::ConnectionId;

use crate::lab::{Lab, compare, compare_with};
use crate::wire::{Connect, Publish, V5, V311, field, packet, subscribe};

const MANY: usize = 10_000;

pub fn compare_all() -> Vec<String> {
    let mut wrong = compare("idle connections", |lab| {
        connect(lab, MANY);
        lab.peak();
    });
    wrong.extend(compare("connections before CONNECT", |lab| {
        for _ in 0..2 * MANY {
            lab.open();
        }
        lab.peak();
    }));
    wrong.extend(compare("cut packets", cut_packets));
    wrong.extend(compare("User Names", user_names));
    wrong.extend(compare("certificates", certificates));
    wrong.extend(compare_with("undecided clients", Limits::default(), Undecided, undecided));
    wrong.extend(compare_with("authentication", Limits::default(), Slow, authentication));
    wrong.extend(compare("incoming aliases", incoming_aliases));
    wrong.extend(compare("outgoing aliases", outgoing_aliases));
    wrong.extend(compare("slow readers of small messages", |lab| slow_readers(lab, 100, 2_000)));
    wrong.extend(compare("slow readers of large messages", |lab| slow_readers(lab, 50_000, 80)));
    wrong.extend(compare("properties", properties));
    wrong
}

fn connect(lab: &mut Lab, count: usize) {
    for number in 0..count {
        lab.connect(&Connect::new(V5, &format!("client-{number}")));
    }
}

/// Tiny pieces and large ones.
fn cut_packets(lab: &mut Lab) {
    connect(lab, MANY);
    for (number, id) in lab.clients.clone().into_iter().enumerate() {
        let length = if number % 100 == 0 { 200_000 } else { 10 };
        let bytes = packet(0x30, &vec![b'x'; 300_000]);
        lab.send(id, &bytes[..length]);
    }
    lab.peak();
}

fn user_names(lab: &mut Lab) {
    for number in 0..MANY {
        let name = format!("{number}").repeat(if number % 2 == 0 { 1 } else { 100 });
        lab.connect(&Connect::new(V311, &format!("client-{number}")).user_name(&name));
    }
    lab.peak();
}

fn certificates(lab: &mut Lab) {
    for number in 0..MANY {
        let id = lab.open();
        let identity = Some(Rc::from(format!("certificate-{number}").repeat(10)));
        lab.broker.introduce(id, Introduction { peer: None, identity });
        lab.send(id, &Connect::new(V311, &format!("client-{number}")).bytes());
    }
    lab.peak();
}

/// Decides nothing.
struct Undecided;

impl AccessControl for Undecided {
    fn ask(&mut self, _: &Client<'_>, _: Question<'_>) -> Answer {
        Answer::Later
    }
}

fn undecided(lab: &mut Lab) {
    for number in 0..MANY {
        let name = if number % 2 == 0 { String::new() } else { format!("client-{number}").repeat(10) };
        lab.connect(&Connect::new(V5, &name).user_name("user").password(b"password"));
    }
    lab.peak();
}

/// An extended authentication that never ends.
struct Slow;

#[derive(Debug)]
struct Endless(Vec<u8>);

impl AccessControl for Slow {
    fn ask(&mut self, _: &Client<'_>, _: Question<'_>) -> Answer {
        Answer::Later
    }

    fn begin(&mut self, _: &Client<'_>, _: &str) -> Option<Box<dyn Exchange>> {
        Some(Box::new(Endless(Vec::new())))
    }
}

impl Exchange for Endless {
    fn go_on(&mut self, data: &[u8], _: Time) -> Progress {
        self.0.extend_from_slice(data);
        Progress::Challenge(vec![b'c'; 10])
    }

    fn memory(&self) -> usize {
        brooklet::base::memory::allocation(self.0.capacity())
    }
}

fn authentication(lab: &mut Lab) {
    for number in 0..MANY {
        let method = field(format!("method-{number}"));
        let data = field(vec![b'd'; 1_000]);
        let connect = Connect::new(V5, &format!("client-{number}"))
            .property(&[&[0x15], &method[..]].concat())
            .property(&[&[0x16], &data[..]].concat());
        lab.connect(&connect);
    }
    lab.peak();
}

fn incoming_aliases(lab: &mut Lab) {
    connect(lab, 1_000);
    for id in lab.clients.clone() {
        for alias in 1..=10 {
            let topic = format!("alias/{alias}/").repeat(60);
            lab.send(id, &Publish::new(V5, &topic, b"").property(&[0x23, 0, alias]).bytes());
        }
    }
    lab.peak();
}

fn outgoing_aliases(lab: &mut Lab) {
    let publisher = lab.connect(&Connect::new(V311, "publisher"));
    for number in 0..200 {
        let connect = Connect::new(V5, &format!("client-{number}")).property(&[0x22, 0, 100]);
        let id = lab.connect(&connect);
        lab.send(id, &subscribe(V5, 1, &[], &[("alias/#", 0)]));
    }
    for alias in 1..=40 {
        let topic = format!("alias/{alias}/").repeat(50);
        lab.send(publisher, &Publish::new(V311, &topic, b"").bytes());
    }
    lab.peak();
}

fn slow_readers(lab: &mut Lab, length: usize, count: usize) {
    let publisher = lab.connect(&Connect::new(V311, "publisher"));
    for number in 0..30 {
        let id = lab.connect(&Connect::new(V5, &format!("client-{number}")));
        lab.send(id, &subscribe(V5, 1, &[], &[("slow", 0)]));
    }
    lab.is_stalled = true;
    for _ in 0..count {
        lab.send(publisher, &Publish::new(V311, "slow", &vec![b's'; length]).bytes());
    }
    lab.peak();
    // They read again, and nothing stays.
    lab.is_stalled = false;
    for id in lab.clients.clone() {
        lab.broker.writable(id);
    }
    lab.settle();
    lab.pass(Duration::from_seconds(30));
    lab.check("read");
}

/// Scratch space that one large packet has used.
fn properties(lab: &mut Lab) {
    connect(lab, MANY);
    let id = lab.clients[0];
    lab.send(id, &subscribe(V5, 1, &[], &[("large", 1)]));
    send_large(lab, id);
    lab.peak();
}

fn send_large(lab: &mut Lab, id: ConnectionId) {
    let property = [&[0x26][..], &field("name"), &field("value")].concat().repeat(100_000);
    let publish = Publish::new(V5, "large", b"").property(&property);
    lab.send(id, &publish.clone().qos(1, 1).bytes());
    lab.send(id, &publish.bytes());
    lab.send(id, &[0x40, 2, 0, 1]);
}
