//! What one seed is about: the settings of the bridge, and which faults occur.

use std::rc::Rc;

use brooklet::base::time::Duration;
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::{ProtocolVersion, QoS};
use brooklet::settings::{
    Bridge, BridgeQueue, BridgeTopic, Direction, Local, Notifications, QueueDrop, Remote, RemoteAddress,
    Restart,
};

use crate::chance::Chance;

/// The broker that has the bridge, and the other one.
pub const NEAR: usize = 0;
pub const FAR: usize = 1;

/// The topic for the state of the bridge.
pub const STATE: &str = "state";
/// The Client Identifier of the bridge in the far broker.
pub const REMOTE_CLIENT: &str = "near.bridge";

/// The largest packet in bytes that the far broker accepts in some seeds.
pub const SMALL_PACKET: usize = 5_000;

/// What may happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Publish,
    Pass,
    /// The link is cut after any byte.
    Cut,
    /// One direction of the link, or both, take nothing.
    Block,
    Unblock,
    Crash(usize),
    CrashBoth,
    /// The far broker loses the session of the bridge.
    LoseSession,
}

/// Chances are in percent, and zero where a feature is off.
#[derive(Debug)]
pub struct Plan {
    pub settings: Rc<Bridge>,
    pub acts: Vec<(Act, u64)>,
    pub steps: u64,
    pub limits: [Limits; 2],
    /// The Receive Maximum of the far broker after each crash.
    pub windows: Vec<u16>,
    pub highest_qos: u64,
    pub retain: u64,
    pub large_payload: u64,
    /// The bytes of a large payload at most.
    pub largest_payload: u64,
    /// The highest QoS that the far broker supports.
    pub far_qos: QoS,
    pub chop: u64,
    /// The bytes that may be on the link in each direction.
    pub room: usize,
    /// Milliseconds that a batch takes at most, and that it waits at most for others.
    pub slowest_disk: u64,
    pub lazy: u64,
    pub longest_pass: u64,
}

const fn feature(chance: &mut Chance, most: u64) -> u64 {
    if chance.percent(50) { chance.between(1, most) } else { 0 }
}

impl Plan {
    pub fn draw(chance: &mut Chance) -> Self {
        let mut limits = [Limits::default(), Limits::default()];
        for limits in &mut limits {
            limits.in_flight = chance.pick(&[1, 20, 100, 100]);
            limits.receive_maximum = chance.pick(&[2, 3, 5, 100]);
        }
        let has_crashes = chance.percent(70);
        let crash = |chance: &mut Chance| if has_crashes { feature(chance, 6) } else { 0 };
        let acts = vec![
            (Act::Publish, chance.between(20, 60)),
            (Act::Pass, chance.between(5, 30)),
            (Act::Cut, feature(chance, 8)),
            (Act::Block, feature(chance, 8)),
            (Act::Unblock, 8),
            (Act::Crash(NEAR), crash(chance)),
            (Act::Crash(FAR), crash(chance)),
            (Act::CrashBoth, crash(chance) / 2),
            (Act::LoseSession, if chance.percent(20) { 2 } else { 0 }),
        ];
        let settings = settings(chance);
        let mut far_qos = QoS::ExactlyOnce;
        // Before MQTT 5.0, a broker cannot say that it supports less.
        if settings.remote.version == ProtocolVersion::V5 {
            far_qos = match chance.below(6) {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            limits[FAR].packet_size =
                chance.pick(&[SMALL_PACKET, usize::MAX, usize::MAX]).min(limits[FAR].packet_size);
        }
        Self {
            settings: Rc::new(settings),
            far_qos,
            acts,
            steps: chance.between(30, 200),
            windows: (0..4).map(|_| chance.pick(&[1, 2, 5, 20, 100])).collect(),
            limits,
            highest_qos: chance.pick(&[1, 2, 2, 2]),
            retain: if chance.percent(30) { 20 } else { 0 },
            large_payload: feature(chance, 20),
            largest_payload: chance.pick(&[9_000, 9_000, 40_000]),
            chop: feature(chance, 100),
            room: chance.pick(&[20, 300, 100_000, 100_000]),
            slowest_disk: chance.pick(&[0, 5, 50, 500]),
            lazy: chance.pick(&[0, 10, 250]),
            longest_pass: chance.pick(&[20, 500, 5_000, 60_000]),
        }
    }
}

fn rule(pattern: &str, direction: Direction, chance: &mut Chance) -> BridgeTopic {
    const PREFIXES: [&str; 4] = ["", "", "x/", "y/z/"];
    BridgeTopic {
        pattern: pattern.into(),
        direction,
        qos: chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]),
        local_prefix: chance.pick(&PREFIXES).into(),
        remote_prefix: chance.pick(&PREFIXES).into(),
    }
}

fn settings(chance: &mut Chance) -> Bridge {
    let mut topics = vec![
        rule("out/#", Direction::Out, chance),
        rule("in/+/#", Direction::In, chance),
        rule("both/#", Direction::Both, chance),
    ];
    topics.remove(chance.below(3));
    if chance.percent(30) {
        let (local_prefix, remote_prefix) = ("one".into(), "other".into());
        let direction = chance.pick(&[Direction::Out, Direction::In]);
        topics.push(BridgeTopic { local_prefix, remote_prefix, ..rule("", direction, chance) });
    }
    let least = Duration::from_milliseconds(chance.pick(&[100, 1_000, 5_000]));
    let unset = Bridge::unset("b", String::new());
    Bridge {
        addresses: vec![RemoteAddress { host: "far".to_owned(), port: 1883 }],
        topics,
        remote: remote(unset.remote, chance),
        local: Local {
            client_identifier: "local.near.bridge".into(),
            is_clean: chance.percent(10),
            ..unset.local
        },
        notifications: chance
            .percent(80)
            .then(|| Notifications { topic: STATE.into(), is_local_only: chance.percent(20) }),
        restart: Restart { least, most: Duration::from_seconds(20), stable: Duration::from_seconds(10) },
        queue: BridgeQueue {
            length: if chance.percent(20) { Some(chance.pick(&[1, 5, 20])) } else { None },
            drops: chance.pick(&[QueueDrop::Oldest, QueueDrop::Newest]),
            rate: if chance.percent(20) { Some(chance.pick(&[1, 20, 200])) } else { None },
            retained_changes: 100,
            ..unset.queue
        },
        ..unset
    }
}

fn remote(unset: Remote, chance: &mut Chance) -> Remote {
    Remote {
        client_identifier: REMOTE_CLIENT.into(),
        version: chance.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]),
        is_clean: chance.percent(10),
        keep_alive: chance.pick(&[5, 60]),
        receive_maximum: chance.pick(&[1, 5, 20, 100]),
        topic_alias_maximum: chance.pick(&[0, 3]),
        forwards_retain: chance.percent(80),
        unsubscribes: chance.percent(80),
        ..unset
    }
}
