//! Attacks before and during CONNECT.

use std::time::Duration;

use crate::peer::{Peer, promise, user_property};
use crate::target::{KIB, MIB, SLACK, Target, now};
use crate::wire::{Connect, DISCONNECT, V5, V311, packet, properties};

/// The cost of a connection that never sends a whole packet: its slot, its timer, its link, a few stored bytes.
const IDLE_CONNECTION: usize = 2 * KIB;

#[test]
fn slow_lorises_hold_little_memory_and_are_disconnected() {
    let mut target = Target::start(&[]);
    let connect = Connect::new(V311, "loris").bytes();
    let mut lorises: Vec<Peer> = (0..400).map(|_| Peer::open(target.address())).collect();
    for byte in &connect[..10] {
        for loris in &mut lorises {
            // Byte by byte; clients that are too slow are disconnected during this.
            let _ = loris.try_send(&[*byte]);
        }
        target.serves();
    }
    target.holds_at_most(400 * IDLE_CONNECTION + SLACK, "a part of a CONNECT costs its bytes");
    // The timeout for CONNECT is ten seconds, whatever trickles in.
    target.wait_for_line("disconnected: no CONNECT in time");
    for loris in &mut lorises {
        assert!(loris.is_closed());
    }
    drop(lorises);
    target.gives_back(SLACK);
    target.logged_at_most(2 * 400, "one line for each that comes and one for each that goes");
}

#[test]
fn a_giant_remaining_length_costs_what_was_sent() {
    let mut target = Target::start(&[]);
    let mut liars = Vec::new();
    for number in 0..200 {
        let mut liar = Peer::connect(target.address(), &format!("liar-{number}"));
        liar.send(&promise(0x30, 1_999_000));
        liar.send(&[0; 100]);
        liars.push(liar);
        let mut early = Peer::open(target.address());
        early.send(&promise(0x10, 60_000));
        liars.push(early);
    }
    target.serves();
    target.holds_at_most(400 * 2 * IDLE_CONNECTION + SLACK, "only bytes that came are kept");
    for first_byte in [0x10, 0x30, 0x82] {
        let mut giant = Peer::open(target.address());
        giant.send(&promise(first_byte, 268_435_455));
        assert!(giant.is_closed(), "{first_byte:#x}: a packet beyond the limit ends its connection at once");
    }
    drop(liars);
    target.gives_back(SLACK);
    target.logged_at_most(3 * 200 + 2 * 200 + 3 * 2, "three for each client, two for each of the others");
}

#[test]
fn incomplete_packets_are_buffered_as_far_as_they_arrived() {
    let mut target = Target::start(&[]);
    let halves = 20;
    let mut peers: Vec<Peer> =
        (0..halves).map(|number| Peer::connect(target.address(), &format!("half-{number}"))).collect();
    for peer in &mut peers {
        peer.send(&promise(0x30, 1_000_000));
        peer.send(&vec![0; 500_000]);
    }
    target.serves();
    // A buffer that grows by doubling may have twice its bytes, and its former half while it is moved.
    target.holds_at_most(halves * 500_000 * 5 / 2 + SLACK, "half a megabyte each");
    drop(peers);
    target.gives_back(SLACK);
    target.logged_at_most(3 * halves, "came, connected, went");
}

#[test]
fn the_memory_of_property_bombs_is_given_back() {
    let mut target = Target::start(&[]);
    let bomb = user_property("n", "v").repeat(8_000);
    for _ in 0..10 {
        let (_, code) = Peer::try_connect(target.address(), &Connect::new(V5, "bomb").property(&bomb));
        assert_eq!(code, Some(0), "User Properties may come in any number");
        target.serves();
    }
    target.logged_at_most(4 * 10, "came, connected, perhaps taken over, went");
    // The same property twice, where it is allowed only once.
    for _ in 0..10 {
        let twice = [0x21, 0, 1].repeat(5_000);
        let (_, code) = Peer::try_connect(target.address(), &Connect::new(V5, "bomb").property(&twice));
        assert_eq!(code, Some(0x82));
    }
    target.holds_at_most(SLACK, "nothing of a CONNECT's properties is kept");
    target.gives_back(SLACK);
    target.logged_at_most(4 * 10 + 3 * 10, "came, refused, went");
}

#[test]
fn acknowledgements_with_property_bombs_are_read_and_forgotten() {
    let mut target = Target::start(&[]);
    let bomb = user_property("n", "v").repeat(20_000);
    let mut peer = Peer::connect(target.address(), "bomber");
    for first_byte in [0x40, 0x50, 0x62, 0x70] {
        let body = [&[0, 9, 0][..], &properties(&[&bomb])].concat();
        // No such message is in flight: the packet is answered, ignored or ends the connection, but is never stored.
        let _ = peer.try_send(&packet(first_byte, &body));
        target.serves();
    }
    drop(peer);
    target.holds_at_most(SLACK, "an acknowledgement is not kept");
    target.gives_back(SLACK);
    target.logged_at_most(3, "one connection");
}

#[test]
fn a_storm_of_takeovers_leaves_one_session() {
    let mut target = Target::start(&[]);
    let storms = 600;
    let mut last = Vec::new();
    for number in 0..storms {
        let connect = Connect::new(if number % 2 == 0 { V5 } else { V311 }, "contested");
        let connect = if number % 3 == 0 { connect.resume() } else { connect };
        last.push(Peer::connect_as(target.address(), &connect));
        if last.len() > 20 {
            last.remove(0);
        }
        if number % 50 == 0 {
            target.serves();
        }
    }
    target.holds_at_most(21 * IDLE_CONNECTION + SLACK, "one session, and connections about to close");
    drop(last);
    Peer::connect(target.address(), "contested").disconnect();
    target.gives_back(SLACK);
    target.logged_at_most(4 * storms + 3, "came, took over, connected, was taken over");
}

#[test]
fn a_storm_of_wills_is_delivered_and_over() {
    let mut target = Target::start(&[]);
    let storms = 300;
    let mut mourner = Peer::connect(target.address(), "mourner");
    mourner.subscribe("wills/#", 0);
    for number in 0..storms {
        let topic = format!("wills/{number}");
        let connect =
            Connect::new(V5, &format!("dying-{number}")).will(&topic, &[b'w'; 10_000], 1, false, &[]);
        drop(Peer::connect_as(target.address(), &connect));
        if number % 50 == 0 {
            target.serves();
        }
    }
    for _ in 0..storms {
        assert_eq!(mourner.payload().len(), 10_000);
    }
    target.holds_at_most(4 * MIB + SLACK, "at most the outbox of the client that reads late");
    mourner.disconnect();
    target.gives_back(SLACK);
    target.logged_at_most(3 * storms + 3, "came, connected, went");
}

#[test]
fn churn_leaves_nothing() {
    let mut target = Target::start(&[]);
    let rounds = 2_000;
    for number in 0..rounds {
        match number % 4 {
            0 => drop(Peer::open(target.address())),
            1 => drop(Peer::connect(target.address(), &format!("churn-{number}"))),
            2 => {
                let mut peer = Peer::open(target.address());
                // It may be closed before the second packet is sent.
                let _ = peer.try_send(&Connect::new(V311, "").bytes());
                let _ = peer.try_send(&DISCONNECT);
            }
            _ => {
                let mut peer = Peer::open(target.address());
                let _ = peer.try_send(b"GET / HTTP/1.1\r\n\r\n");
            }
        }
        if number % 100 == 0 {
            target.serves();
        }
    }
    target.gives_back(SLACK);
    target.logged_at_most(3 * rounds, "came, connected, went");
}

#[test]
fn a_flood_of_connections_does_not_flood_the_log() {
    let mut target = Target::start(&[]);
    let started = now();
    for _ in 0..2_500 {
        drop(Peer::open(target.address()));
    }
    target.gives_back(SLACK);
    // A thousand lines at once, then twenty a second and one that says how many are left out.
    let seconds = usize::try_from(started.elapsed().as_secs()).expect("a short time") + 1;
    target.logged_at_most(1_000 + seconds * 21, "a flood is cut off");
    std::thread::sleep(Duration::from_millis(1_100));
    Peer::connect(target.address(), "late").disconnect();
    target.wait_for_line("lines were omitted.");
    target.wait_for_line("as late (");
}
