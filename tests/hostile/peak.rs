//! After a peak, memory that was held for it is given back, not kept for the next one.

use brooklet::base::peer::Peer;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::AllowAll;
use brooklet::core::broker::{Broker, Effect};
use brooklet::core::limits::Limits;
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;

const CLIENTS: usize = 2_000;
const RETAINED: usize = 5_000;
/// The smallest sizes of tables.
const ALLOWED: usize = 16 * 1024;
/// When the broker has also freed what it keeps only for speed.
const LATER: Time = Time::from_milliseconds(10_000);

fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    assert!(length < 16_384);
    let low = u8::try_from(length % 128).unwrap();
    let high = u8::try_from(length / 128).unwrap();
    let size: &[u8] = if high > 0 { &[low | 128, high] } else { &[low] };
    [&[first_byte], size, body].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

/// Sends bytes and lets the broker do all its work.
fn send(broker: &mut Broker, id: ConnectionId, bytes: &[u8]) {
    broker.received(id, bytes, Time::ZERO);
    broker.tick(Time::ZERO, usize::MAX);
    for dirty in broker.take_dirty(Vec::new()) {
        broker.write_to(dirty, &mut std::io::sink(), Time::ZERO).unwrap();
    }
    while let Some(effect) = broker.next_effect() {
        match effect {
            Effect::Drop(id) => broker.closed(id, "", Time::ZERO),
            Effect::Listen(id) => broker.heard_out(id, Time::ZERO),
            Effect::Close(_) | Effect::Resume(_) => {}
        }
    }
}

fn connect(broker: &mut Broker, name: &str, flags: u8) -> ConnectionId {
    let id =
        broker.accept(Peer::Internet(([127, 0, 0, 1], 1).into()), ListenerId::default(), Time::ZERO).unwrap();
    let body = [&string("MQTT")[..], &[4, flags, 0, 60], &string(name)].concat();
    send(broker, id, &packet(0x10, &body));
    id
}

#[test]
fn the_memory_of_a_peak_is_given_back() {
    let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, Time::ZERO);
    let publisher = connect(&mut broker, "publisher", 2);
    broker.check_memory();
    let before = broker.held();

    for number in 0..RETAINED {
        let body = [&string(&format!("kept/{number}"))[..], &[b'.'; 64]].concat();
        send(&mut broker, publisher, &packet(0x31, &body));
    }
    let names: Vec<String> = (0..CLIENTS).map(|number| format!("client-{number}")).collect();
    for name in &names {
        let id = connect(&mut broker, name, 0);
        let body = [&[0, 1][..], &string(&format!("queue/{name}")), &[1], &string("more/#"), &[1]].concat();
        send(&mut broker, id, &packet(0x82, &body));
        let body = [&string(&format!("queue/{name}"))[..], &[0, 1], &[b'.'; 200]].concat();
        // In flight, and then, after the connection is closed, in the queue.
        send(&mut broker, publisher, &packet(0x32, &body));
        broker.closed(id, "gone", Time::ZERO);
        send(&mut broker, publisher, &packet(0x32, &body));
    }
    broker.check_memory();
    let peak = broker.held() - before;
    assert!(peak > CLIENTS * 1_000 + RETAINED * 100, "a peak of {peak} bytes");

    for number in 0..RETAINED {
        send(&mut broker, publisher, &packet(0x31, &string(&format!("kept/{number}"))));
    }
    for name in &names {
        let id = connect(&mut broker, name, 2);
        send(&mut broker, id, &[0xE0, 0]);
    }
    assert!(broker.next_deadline().is_some_and(|deadline| deadline <= LATER), "the peak is over");
    broker.tick(LATER, usize::MAX);
    broker.check_memory();
    let left = broker.held().saturating_sub(before);
    assert!(left <= ALLOWED, "{left} bytes are left of a peak of {peak}");
}

/// The memory of many messages in flight is given back while the client is still connected, when its Keep Alive is
/// checked.
#[test]
fn the_memory_of_a_burst_is_given_back() {
    const BURST: u16 = 200;
    let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, Time::ZERO);
    let publisher = connect(&mut broker, "publisher", 2);
    let subscriber = connect(&mut broker, "subscriber", 2);
    send(&mut broker, subscriber, &packet(0x82, &[&[0, 1][..], &string("t"), &[1]].concat()));
    for _ in 0..BURST {
        send(&mut broker, publisher, &packet(0x32, &[&string("t")[..], &[0, 1], &[b'.'; 64]].concat()));
    }
    for identifier in 1..=BURST {
        send(&mut broker, subscriber, &packet(0x40, &identifier.to_be_bytes()));
    }
    let acknowledged = broker.held();
    let later = Time::ZERO + Duration::from_seconds(80);
    for id in [publisher, subscriber] {
        broker.received(id, &[0xC0, 0], later);
    }
    broker.tick(Time::ZERO + Duration::from_seconds(90), usize::MAX);
    broker.check_memory();
    assert_eq!(broker.census().connections, 2);
    let given_back = acknowledged.saturating_sub(broker.held());
    assert!(given_back > usize::from(BURST) * 40, "{given_back} bytes were given back");
}
