//! Restarts on machines whose clocks show anything: between two runs, the anchor in the store is replaced by one for
//! other clocks.

use std::io::{Read, Write};
use std::net::TcpStream;

use brooklet::base::time::Time;
use brooklet::server::AllClocks;
use brooklet::settings::{OnDamage, PERSISTENCE_FILE};
use brooklet::storage::store::{Opening, Store};
use brooklet::storage::timeline::{Boot, Clocks};

use crate::place::{Place, end};
use crate::server::{PATIENCE, Server};

const DAY: u64 = 24 * 60 * 60 * 1000;
const HOUR: u64 = 60 * 60 * 1000;

/// Changes the store as if the clocks had shown something else when its broker ended.
fn set_back(place: &Place, other: impl FnOnce(Clocks) -> Clocks) {
    let clocks = AllClocks::start().read();
    let opening = Opening { listeners: Vec::new(), on_damage: OnDamage::Refuse, clocks };
    let mut store = Store::open(&place.0.join(PERSISTENCE_FILE), opening).expect("nothing is wrong with it");
    store.finish(other(clocks)).expect("there is room");
}

/// Connects and disconnects a client whose session outlives its connection for an hour. Returns whether the session
/// was already there.
fn visit(server: &Server) -> bool {
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
    let connect = b"\x10\x13\0\x04MQTT\x05\0\0\x3c\x05\x11\0\0\x0e\x10\0\x01c";
    stream.write_all(connect).expect("the broker reads");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("the broker answers");
    assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
    stream.write_all(b"\xe0\0").expect("the broker reads");
    // The client is gone once the broker has closed its end.
    stream.read_to_end(&mut Vec::new()).expect("the broker closes in good order");
    answer[2] == 1
}

/// The clocks of another boot of the machine.
fn other_boot(clocks: Clocks) -> Clocks {
    Clocks { boot: Some(Boot { id: 1, uptime: Time::ZERO }), ..clocks }
}

#[test]
fn a_session_is_as_old_as_it_is_whatever_the_wall_clock_shows() {
    type Change = fn(Clocks) -> Clocks;
    let cases: [(&str, Change, bool, Option<&str>); 7] = [
        ("same", |clocks| clocks, true, None),
        ("ahead", |clocks| Clocks { wall: clocks.wall + 30 * DAY, ..clocks }, true, None),
        ("behind", |clocks| Clocks { wall: clocks.wall - 30 * DAY, ..clocks }, true, None),
        ("other", |clocks| other_boot(Clocks { wall: clocks.wall - HOUR / 2, ..clocks }), true, None),
        ("over", |clocks| other_boot(Clocks { wall: clocks.wall - 2 * HOUR, ..clocks }), false, None),
        ("1970", |clocks| other_boot(Clocks { wall: 9, ..clocks }), true, Some("more than 400 days after")),
        (
            "future",
            |clocks| other_boot(Clocks { wall: clocks.wall + DAY, ..clocks }),
            true,
            Some("an earlier time than when"),
        ),
    ];
    for (name, change, is_there, warning) in cases {
        let place = Place::new(name);
        place.configure("listener 0 127.0.0.1\n");
        let server = place.serve();
        assert!(!visit(&server), "{name}");
        end(server);
        set_back(&place, change);
        let server = place.serve();
        assert_eq!(visit(&server), is_there, "{name}");
        let warnings = server.lines_with("it is not known how long the broker was down");
        assert_eq!(warnings.len(), usize::from(warning.is_some()), "{name}: {warnings:?}");
        assert!(warnings.iter().all(|line| warning.is_some_and(|text| line.contains(text))), "{warnings:?}");
        end(server);
    }
}
