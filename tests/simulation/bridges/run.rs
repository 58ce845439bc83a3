//! One run: everything starts, faults occur while clients publish, then everything calms down and nothing is missing.

use brooklet::bridge::machine::Condition;
use brooklet::protocol::codec::QoS;
use brooklet::settings::QueueDrop;

use super::plan::{Act, FAR, NEAR, SMALL_PACKET};
use super::world::World;

/// How many seconds everything may take in the end.
const PATIENCE: u64 = 600;

/// The result of a run.
pub struct Outcome {
    pub trace: u64,
    /// The number of messages that have come to the other broker.
    pub crossed: u64,
    /// How often the bridge has connected.
    pub connects: u64,
}

/// Runs one seed; prints what happens if `is_told`.
pub fn run(seed: u64, is_told: bool) -> Outcome {
    let mut world = World::new(seed);
    world.is_told = is_told;
    world.tell(format_args!("{:?}", world.plan));
    // The subscribers come and are durable.
    world.pass(0);
    world.pass(5_000);
    for _ in 0..world.plan.steps {
        step(&mut world);
    }
    calm(&mut world);
    check(&mut world);
    Outcome { trace: world.trace.value(), crossed: world.ledger.crossed, connects: world.joint.connects }
}

fn step(world: &mut World) {
    let total: u64 = world.plan.acts.iter().map(|(_, weight)| weight).sum();
    let mut drawn = world.chance.between(1, total);
    let mut act = Act::Pass;
    for &(one, weight) in &world.plan.acts {
        if drawn <= weight {
            act = one;
            break;
        }
        drawn -= weight;
    }
    match act {
        Act::Publish => (0..world.chance.between(1, 5)).for_each(|_| world.publish()),
        Act::Pass => {
            let longest = world.plan.longest_pass;
            let milliseconds = world.chance.between(1, longest);
            world.pass(milliseconds);
        }
        Act::Cut => world.cut(),
        Act::Block => world.block(),
        Act::Unblock => world.link().is_blocked = [false; 2],
        Act::Crash(place) => world.crash(&[place]),
        Act::CrashBoth => world.crash(&[NEAR, FAR]),
        Act::LoseSession => world.lose_session(),
    }
    world.pass(1);
    world.check_nodes();
    world.joint.check_pace(world.now);
}

/// Ends all faults, and waits until nothing moves any longer.
fn calm(world: &mut World) {
    world.is_calm = true;
    world.link().is_blocked = [false; 2];
    rest(world);
    let is_connected = world.joint.machine.status().condition == Condition::Connected;
    assert!(is_connected, "the bridge does not connect: {:?}", world.joint.lines);
    // What comes now, arrives in any case.
    let before = world.ledger.messages.len();
    for rule in world.plan.settings.topics.clone() {
        for publisher in [1, 2, 4, 5] {
            let qos = world.chance.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
            world.publish_by(publisher, &rule, "last", qos, false, 20);
            rest(world);
        }
    }
    for message in &world.ledger.messages[before..] {
        let lines = &world.joint.lines;
        let is_lost = message.away.as_ref().is_some_and(|(_, qos)| {
            message.copies[1 - message.from] != 1 && (*qos != QoS::AtMostOnce || message.retain)
        });
        assert!(!is_lost, "it was sent in the end and has not arrived once: {message:?} {lines:#?}");
    }
}

fn rest(world: &mut World) {
    for _ in 0..PATIENCE {
        world.pass(1_000);
        if world.is_at_rest() {
            return;
        }
    }
    let status = world.joint.machine.status();
    let stores = world.nodes.each_ref().map(|node| {
        format!("{:?} {:?} {:?}", node.store.messages, node.store.deliveries, node.store.received)
    });
    let lines = &world.joint.lines[world.joint.lines.len().saturating_sub(5)..];
    panic!("something stays in flight: {status:?} {stores:#?} {lines:#?}");
}

fn check(world: &mut World) {
    world.ledger.check_copies(world.disturbances());
    let here = world.ledger.missing_here();
    assert!(here.is_empty(), "{here:?} were acknowledged and not delivered");
    let queue = world.plan.settings.queue;
    for from in [NEAR, FAR] {
        let missing = world.ledger.missing(from);
        let limit = queue.length.filter(|_| from == NEAR);
        let dropped = world.nodes[from].dropped() + world.joint.dropped();
        let may_be_large = world.plan.limits[FAR].packet_size <= SMALL_PACKET;
        let most = if limit.is_some() || may_be_large { dropped } else { 0 };
        let lines = &world.joint.lines;
        assert!(
            missing.len() as u64 <= most,
            "{missing:?} were acknowledged and have not come to the other side, {dropped} were dropped, {lines:#?}"
        );
        if let Some(length) = limit.filter(|_| queue.drops == QueueDrop::Oldest && !may_be_large) {
            let latest = world.ledger.latest(from, length);
            let lost: Vec<_> = latest.iter().filter(|number| missing.contains(number)).collect();
            assert!(lost.is_empty(), "{lost:?} were dropped, and older ones were not");
        }
    }
    let has_states = world.plan.settings.notifications.as_ref().map(|found| !found.is_local_only);
    let expected = [has_states.is_some(), has_states == Some(true)];
    for place in [NEAR, FAR] {
        let state = world.states[place].as_deref();
        assert_eq!(state, expected[place].then_some(b"1".as_slice()), "the state in broker {place}");
    }
    for line in &world.joint.lines {
        world.tell(format_args!("{line}"));
    }
}
