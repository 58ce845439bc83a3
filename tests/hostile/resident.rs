//! Resident memory of the whole process, with TLS and a store, against `memory_limit`: whatever the attack, no more
//! than the limit, a tenth and 3 MiB.

use std::net::SocketAddr;

use crate::directory::{Directory, unused_port};
use crate::peer::{Peer, promise, user_property};
use crate::secure;
use crate::target::{MIB, Target};
use crate::wire::{Connect, DISCONNECT, Publish, V5, V311, subscribe};

const LIMITS: [usize; 2] = [16 * MIB, 64 * MIB];
/// Messages sent before the first of them is answered.
const BURST: usize = 20;
/// For free memory that the allocator keeps between blocks in use, and for the binary itself.
const ALLOWED: usize = 3 * MIB;

/// A broker with a limit, a store and a second listener, for TLS.
struct Bounded {
    target: Target,
    secure: SocketAddr,
    limit: usize,
    /// The resident code before the attack.
    code: usize,
    _directory: Directory,
}

impl Bounded {
    fn start(limit: usize) -> Self {
        let directory = Directory::new("resident");
        let secure = unused_port();
        let lines = format!("{}memory_limit {limit}\n", directory.tls_listener(secure.port()));
        let target = Target::of(directory.serve(&lines));
        let code = target.resident_code();
        Self { target, secure, limit, code, _directory: directory }
    }

    fn address(&self) -> SocketAddr {
        self.target.address()
    }

    /// Asserts that the process has never been larger than allowed.
    fn is_bounded(&mut self) {
        self.target.serves_at_most_once();
        let (most, bound) = (self.most_resident(), self.limit + self.limit / 10 + ALLOWED);
        let [limit, most_shown, bound_shown] = [self.limit, most, bound].map(|bytes| bytes / 1024);
        eprintln!("limit {limit} KiB: {most_shown} of {bound_shown} KiB");
        assert!(most <= bound, "limit {limit} KiB: {most_shown} of {bound_shown} KiB were resident");
    }

    /// The most memory that was ever resident. A binary that is not optimized has several times as much code as any that
    /// is in use. Of that, only what the broker takes off its limit for code is counted.
    fn most_resident(&self) -> usize {
        let most = self.target.most_resident();
        if !cfg!(debug_assertions) {
            return most;
        }
        // The system may have dropped some pages of the code since.
        let code = self.code.max(self.target.resident_code());
        most - code + code.min(self.limit / 4)
    }
}

/// Runs the attack against a broker of each size.
fn attack(act: impl Fn(&mut Bounded)) {
    for limit in LIMITS {
        let mut bounded = Bounded::start(limit);
        act(&mut bounded);
        bounded.is_bounded();
    }
}

/// Connects clients; returns those that the broker accepts.
fn crowd(bounded: &Bounded, count: usize, connect: impl Fn(usize) -> Connect) -> Vec<Peer> {
    (0..count)
        .filter_map(|number| {
            let (peer, code) = Peer::try_connect(bounded.address(), &connect(number));
            (code == Some(0)).then_some(peer)
        })
        .collect()
}

/// Publishes `count` messages at QoS 1, as long as the broker accepts this client.
fn flood(bounded: &Bounded, count: usize, publish: impl Fn(usize) -> Publish) {
    let (mut flooder, code) = Peer::try_connect(bounded.address(), &Connect::new(V5, "flooder"));
    if code != Some(0) {
        return;
    }
    for first in (0..count).step_by(BURST) {
        let burst = first..(first + BURST).min(count);
        let bytes: Vec<u8> = burst.clone().flat_map(|number| publish(number).qos(1, 1).bytes()).collect();
        if flooder.try_send(&bytes).is_err() || burst.into_iter().any(|_| flooder.try_packet().is_err()) {
            return;
        }
    }
}

#[test]
fn subscription_identifiers_of_overlapping_filters() {
    attack(|bounded| {
        let connect = Connect::new(V5, "hoarder").property(&[0x21, 0, 1]);
        let mut hoarder = Peer::connect_as(bounded.address(), &connect);
        for number in 0..4_096_usize {
            let level = |bit: usize| if number >> bit & 1 == 0 { "a" } else { "+" };
            let filter: Vec<&str> = (0..12).map(level).collect();
            hoarder.send(&subscribe(V5, 1, &[0x0B, 1], &[(&filter.join("/"), 1)]));
            hoarder.packet();
        }
        flood(bounded, 4_000, |number| {
            let last = if number % 2 == 0 { "a" } else { "b" };
            Publish::new(V5, &format!("{}{last}", "a/".repeat(11)), b"message")
        });
    });
}

#[test]
fn clients_of_tls_that_read_nothing() {
    attack(|bounded| {
        let config = secure::config();
        let subscribe = subscribe(V5, 1, &[], &[("flood", 0)]);
        let stalled: Vec<_> = (0..300)
            .map(|number| {
                let connect = Connect::new(V5, &format!("stalled-{number}")).bytes();
                secure::connect(bounded.secure, &config, &[&connect[..], &subscribe].concat())
            })
            .collect();
        for length in [100_000, 10_000, 100] {
            flood(bounded, 300, |_| Publish::new(V5, "flood", &vec![b'f'; length]));
        }
        drop(stalled);
    });
}

#[test]
fn clients_that_read_nothing() {
    attack(|bounded| {
        let mut stalled = crowd(bounded, 200, |number| Connect::new(V5, &format!("stalled-{number}")));
        for (number, peer) in stalled.iter_mut().enumerate() {
            peer.subscribe("flood", u8::try_from(number % 3).unwrap());
        }
        for length in [100_000, 10_000, 1_000, 10] {
            flood(bounded, 1_000, |_| Publish::new(V5, "flood", &vec![b'f'; length]));
        }
    });
}

#[test]
fn clients_that_are_away() {
    attack(|bounded| {
        let connect = |number| Connect::new(V5, &format!("away-{number}")).resume().expiry(1_000);
        for (number, peer) in crowd(bounded, 300, connect).iter_mut().enumerate() {
            peer.subscribe(&format!("away/{}", number % 30), 1);
        }
        for length in [20_000, 100] {
            flood(bounded, 6_000, |number| {
                Publish::new(V5, &format!("away/{}", number % 30), &vec![b'q'; length])
            });
        }
    });
}

#[test]
fn retained_messages() {
    attack(|bounded| {
        flood(bounded, 40_000, |number| {
            let length = if number % 10 == 0 { 10_000 } else { 10 };
            Publish::new(V5, &format!("retained/{number}"), &vec![b'r'; length]).retain()
        });
    });
}

/// Free memory between messages of other lengths is used again.
#[test]
fn messages_of_many_lengths() {
    attack(|bounded| {
        let mut stalled = crowd(bounded, 10, |number| Connect::new(V5, &format!("stalled-{number}")));
        for (number, peer) in stalled.iter_mut().enumerate() {
            peer.subscribe("lengths/#", u8::try_from(number % 3).unwrap());
        }
        for most in [2_000_000, 300_000, 130_000] {
            flood(bounded, 200, |number| {
                let length = number * 7_919 % most;
                Publish::new(V5, &format!("lengths/{}", number % 40), &vec![b'l'; length]).retain()
            });
        }
    });
}

#[test]
fn packets_in_progress() {
    attack(|bounded| {
        let mut halves = crowd(bounded, 200, |number| Connect::new(V5, &format!("half-{number}")));
        for half in &mut halves {
            let _ = half.try_send(&promise(0x30, 1_999_000));
            let _ = half.try_send(&vec![b'h'; 700_000]);
        }
    });
}

#[test]
fn sessions_with_wills_and_names() {
    attack(|bounded| {
        for number in 0..8_000 {
            let name = format!("{number}-{}", "name".repeat(200));
            let connect = Connect::new(V5, &name).resume().expiry(1_000);
            let connect = connect.will("will", &[b'w'; 2_000], 1, false, &[0x18, 0, 0, 3, 0xE8]);
            let (mut peer, code) = Peer::try_connect(bounded.address(), &connect.user_name(&name));
            if code != Some(0) {
                break;
            }
            let _ = peer.try_send(&crate::wire::disconnect(0x04, &[]));
        }
    });
}

#[test]
fn subscriptions() {
    attack(|bounded| {
        let mut hoarders = crowd(bounded, 20, |number| Connect::new(V5, &format!("hoarder-{number}")));
        for round in 0..60 {
            for (number, hoarder) in hoarders.iter_mut().enumerate() {
                let long = if number % 4 == 0 { "long/".repeat(30) } else { String::new() };
                let share = if number % 3 == 0 { format!("$share/{round}{long}/") } else { String::new() };
                let filters: Vec<String> =
                    (0..200).map(|filter| format!("{share}{number}/{round}/{filter}/+/{long}x")).collect();
                let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
                hoarder.send(&subscribe(V5, 1, &[], &filters));
                hoarder.packet();
            }
        }
    });
}

#[test]
fn messages_that_are_never_released() {
    attack(|bounded| {
        for mut sender in crowd(bounded, 150, |number| Connect::new(V311, &format!("sender-{number}"))) {
            for first in (1..60_000_u16).step_by(2_000) {
                let publish = |identifier| Publish::new(V311, "q", b"").qos(2, identifier).bytes();
                let bytes: Vec<u8> = (first..first + 2_000).flat_map(publish).collect();
                // The broker closes the connection once no memory is left.
                if sender.try_send(&bytes).is_err() {
                    break;
                }
                (0..2_000).take_while(|_| sender.try_packet().is_ok()).for_each(drop);
            }
        }
    });
}

#[test]
fn topic_aliases_for_long_topics() {
    attack(|bounded| {
        let mut binders = crowd(bounded, 200, |number| Connect::new(V5, &format!("binder-{number}")));
        for (number, binder) in binders.iter_mut().enumerate() {
            for alias in 1..=10 {
                let topic = format!("{number}/{alias}/{}", "x".repeat(40_000));
                let _ = binder.try_send(&Publish::new(V5, &topic, b"").property(&[0x23, 0, alias]).bytes());
            }
        }
        drop(binders);
        let connect = |number| Connect::new(V5, &format!("taker-{number}")).property(&[0x22, 0, 100]);
        let mut takers = crowd(bounded, 100, connect);
        for taker in &mut takers {
            taker.subscribe("alias/#", 0);
        }
        flood(bounded, 64, |number| {
            Publish::new(V5, &format!("alias/{}/{}", number % 32, "x".repeat(40_000)), b"")
        });
    });
}

#[test]
fn properties_in_great_number() {
    attack(|bounded| {
        let bomb = user_property("name", "value").repeat(80_000);
        let mut peers = crowd(bounded, 10, |number| Connect::new(V5, &format!("bomber-{number}")));
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.subscribe("bomb", u8::try_from(number % 3).unwrap() | 8);
        }
        flood(bounded, 10, |number| {
            let publish = Publish::new(V5, "bomb", b"x").property(&bomb);
            if number % 2 == 0 { publish.retain() } else { publish }
        });
    });
}

#[test]
fn handshakes_that_go_no_further() {
    attack(|bounded| {
        let mut strangers: Vec<Peer> = (0..400).map(|_| Peer::open(bounded.secure)).collect();
        for stranger in &mut strangers {
            // A ClientHello that promises more than is sent, in records of 16 KiB.
            let hello = [&[22, 3, 1, 0x40, 0, 1, 0, 0xF0, 0][..], &[0; 16_380]].concat();
            let _ = stranger.try_send(&hello);
            let _ = stranger.try_send(&hello[..10_000]);
        }
        let mut unfinished: Vec<Peer> = (0..400).map(|_| Peer::open(bounded.address())).collect();
        for peer in &mut unfinished {
            let _ = peer.try_send(&promise(0x10, 120_000));
            let _ = peer.try_send(&[0; 100_000]);
        }
        let _ = strangers[0].try_send(&DISCONNECT);
    });
}

/// Disconnected sessions with messages in the store are resumed at once.
#[test]
fn clients_that_come_back() {
    attack(|bounded| {
        let connect = |number| Connect::new(V5, &format!("away-{number}")).resume().expiry(1_000);
        for peer in &mut crowd(bounded, 300, connect) {
            peer.subscribe("away", 1);
        }
        flood(bounded, 20, |_| Publish::new(V5, "away", &[b'q'; 60_000]));
        drop(crowd(bounded, 300, connect));
        let mut back: Vec<Peer> = (0..300).map(|_| Peer::open(bounded.address())).collect();
        for (number, peer) in back.iter_mut().enumerate() {
            let _ = peer.try_send(&connect(number).bytes());
        }
        for peer in &mut back {
            let _ = peer.try_packet();
        }
    });
}

/// The same long filter again and again, each time as a record.
#[test]
fn long_filters_again_and_again() {
    attack(|bounded| {
        let connect = |number| Connect::new(V5, &format!("hoarder-{number}")).resume().expiry(1_000);
        let mut hoarders = crowd(bounded, 10, connect);
        let long = format!("{}{}", "a/".repeat(150), "x".repeat(65_000));
        let filters = [(long.as_str(), 1); 15];
        for _ in 0..20 {
            for hoarder in &mut hoarders {
                let _ = hoarder.try_send(&subscribe(V5, 1, &[], &filters));
            }
        }
        for hoarder in &mut hoarders {
            let _ = hoarder.try_packet();
        }
    });
}
