//! What remains of a peak in the memory of the process, with the C library's default settings.

use std::time::Duration;

use crate::peer::Peer;
use crate::target::{KIB, MIB, Target};
use crate::wire::{Connect, Publish, V5, acknowledge, received};

/// What may remain of a peak: pages in which something stays, and buffers that are kept.
const LEFT: usize = 3 * MIB;
/// The peak is at least this.
const PEAK: usize = 30 * MIB;

const RETAINED: usize = 200_000;
const SESSIONS: usize = 5_000;
const QUEUED: usize = 20;
/// Packets sent before they are answered.
const BURST: usize = 500;

/// Starts a broker with the default settings of the C library.
fn start() -> Target {
    let settings = std::env::var_os("GLIBC_TUNABLES");
    assert!(settings.is_none_or(|settings| settings.is_empty()), "the C library has settings");
    Target::start(&[])
}

/// Lets memory rise by `rise`, and fall by `fall`.
fn rise_and_fall(target: &mut Target, rise: impl FnOnce(&Target), fall: impl FnOnce(&Target)) {
    let before = target.anonymous();
    rise(target);
    let peak = target.anonymous() - before;
    assert!(peak >= PEAK, "a peak of {} KiB", peak / KIB);
    fall(target);
    let left = |target: &Target| target.anonymous().saturating_sub(before);
    // Memory that is kept only for speed is freed some time after the peak.
    for _ in 0..600 {
        if left(target) <= LEFT {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    eprintln!("{} KiB are left of {}", left(target) / KIB, peak / KIB);
    assert!(left(target) <= LEFT, "{} KiB are left of {}", left(target) / KIB, peak / KIB);
    target.serves();
}

/// Publishes to each topic, and waits until each burst has been accepted.
fn publish_retained(target: &Target, payload: &[u8]) {
    let mut publisher = Peer::connect(target.address(), "publisher");
    for first in (0..RETAINED).step_by(BURST) {
        let topic = |number: usize| format!("retained/{}/{number}", number / 100);
        let message = |number| Publish::new(V5, &topic(number), payload).retain().bytes();
        publisher.send(&(first..first + BURST).flat_map(message).collect::<Vec<u8>>());
        publisher.publish(Publish::new(V5, "last", b""));
    }
    publisher.disconnect();
}

#[test]
fn retained_messages_that_were_deleted() {
    let mut target = start();
    let [rise, fall] =
        [&[b'r'; 64][..], b""].map(|payload| move |target: &Target| publish_retained(target, payload));
    rise_and_fall(&mut target, rise, fall);
}

/// Resumes the session with this number.
fn resume(target: &Target, number: usize) -> Peer {
    let connect = Connect::new(V5, &format!("away-{number}")).resume().expiry(10_000);
    Peer::connect_as(target.address(), &connect)
}

fn fill_queues(target: &Target) {
    let mut publisher = Peer::connect(target.address(), "publisher");
    for round in 0..QUEUED {
        for first in (0..SESSIONS).step_by(BURST) {
            let message = |number: usize| {
                let payload = vec![u8::try_from(round).expect("few rounds"); 600];
                Publish::new(V5, &format!("queue/{number}"), &payload).qos(1, 1).bytes()
            };
            publisher.send(&(first..first + BURST).flat_map(message).collect::<Vec<u8>>());
            for _ in 0..BURST {
                assert_eq!(publisher.packet()[0], 0x40, "it is queued");
            }
        }
    }
    publisher.disconnect();
}

/// The clients take their queued messages, in an order that leaves some of them between freed ones.
fn empty_queues(target: &Target) {
    const STRIDE: usize = 7;
    for number in (0..STRIDE).flat_map(|first| (first..SESSIONS).step_by(STRIDE)) {
        let mut client = resume(target, number);
        for _ in 0..QUEUED {
            let packet = client.packet();
            let identifier = received(V5, &packet).packet_identifier.expect("QoS 1");
            client.send(&acknowledge(0x40, identifier));
        }
        client.disconnect();
    }
}

#[test]
fn queues_of_sessions_that_were_emptied() {
    let mut target = start();
    for number in 0..SESSIONS {
        let mut client = resume(&target, number);
        client.subscribe(&format!("queue/{number}"), 1);
        client.disconnect();
    }
    rise_and_fall(&mut target, fill_queues, empty_queues);
}
