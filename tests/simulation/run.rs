//! One run: the devices act step by step, then everything calms down, and in the end the broker is empty.

use std::collections::BTreeMap;

use brooklet::core::broker::{Census, Statistics};
use brooklet::core::journal::Room;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode, RetainHandling, Subscription,
};
use brooklet::protocol::topic::{TopicFilter, TopicName};

use crate::device::{Draft, DraftWill, Greeting};
use crate::plan::{Act, TOPICS};
use crate::world::{Course, World};

/// The result of a run.
pub struct Outcome {
    pub trace: u64,
    /// The bytes written to each connection, with the broker that accepted it.
    pub heard: BTreeMap<(u64, ConnectionId), Vec<u8>>,
    /// Of the last broker.
    pub statistics: Statistics,
    /// Whether decisions of the access control may come later.
    pub waits_for_decisions: bool,
    pub deliveries: u64,
    /// How often work was left unfinished at the end of a turn.
    pub spans: u64,
}

/// Tells how to repeat a run that fails.
pub struct Replay(pub u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0} fails; again: make sim SEEDS=1 SEED={0}", self.0);
        }
    }
}

/// Topics of Wills, one per device, so that no two compete.
const WILL_TOPICS: [&str; 10] =
    ["a/will", "b/will", "a/b/will", "w", "b/c/will", "will/x", "a/x/will", "b/x/will", "a/x/c", "x/b"];

/// Runs one seed; prints every packet if `is_told`.
pub fn run(seed: u64, is_told: bool) -> Outcome {
    run_on(seed, Course::Usual, is_told)
}

/// Runs one seed on this course.
pub fn run_on(seed: u64, course: Course, is_told: bool) -> Outcome {
    let mut world = World::new(seed, course);
    world.oracle.is_told = is_told;
    if is_told {
        println!("{:?}", world.plan);
    }
    for _ in 0..world.plan.steps {
        let act = draw_act(&mut world);
        world.trace.note_number(act as u64);
        step(&mut world, act);
        world.pass(1);
    }
    calm(&mut world);
    world.oracle.check_drained();
    clean_up(&mut world);
    Outcome {
        trace: world.trace.value(),
        heard: world.heard,
        statistics: world.broker.statistics().clone(),
        waits_for_decisions: world.plan.later > 0,
        deliveries: world.oracle.deliveries,
        spans: world.oracle.spans,
    }
}

fn draw_act(world: &mut World) -> Act {
    let total: u64 = world.plan.acts.iter().map(|(_, weight)| weight).sum();
    let mut drawn = world.chance.between(1, total);
    for &(act, weight) in &world.plan.acts {
        if drawn <= weight {
            return act;
        }
        drawn -= weight;
    }
    Act::Pass
}

fn step(world: &mut World, act: Act) {
    let device = world.chance.below(world.devices.len());
    match act {
        Act::Connect => connect(world, device),
        Act::Up | Act::Down | Act::Cut | Act::Stall | Act::Unstall => link_act(world, act),
        Act::Pass => {
            let longest = world.plan.longest_pass;
            let milliseconds = world.chance.between(1, longest);
            if world.chance.percent(5) { world.hold_up(milliseconds) } else { world.pass(milliseconds) }
        }
        Act::Decide => world.decide(false),
        Act::Crash => world.crash(),
        Act::SetClock => world.set_clock(),
        Act::Fill => {
            let room = if world.chance.percent(40) { Room::Gone } else { Room::Scarce };
            world.set_storage_room(room);
        }
        Act::Empty => world.set_storage_room(Room::Enough),
        Act::Member => member_act(world, device),
        Act::Publish | Act::Subscribe | Act::Unsubscribe | Act::Acknowledge | Act::Disconnect | Act::Ping => {
            device_act(world, device, act);
        }
    }
    world.settle();
}

fn link_act(world: &mut World, act: Act) {
    let links = world.links();
    if links.is_empty() {
        return;
    }
    let id = world.chance.pick(&links);
    match act {
        Act::Up => world.deliver_up(id),
        Act::Down => world.deliver_down(id),
        Act::Cut => world.hang_up(id),
        Act::Stall => world.stall(id),
        _ => world.unstall(id),
    }
}

fn device_act(world: &mut World, device: usize, act: Act) {
    let Some(link) = world.devices[device].link.filter(|_| world.devices[device].is_connected) else {
        connect(world, device);
        return;
    };
    match act {
        Act::Publish => {
            for _ in 0..world.chance.between(1, 4) {
                let draft = draw_draft(world);
                let draft = Draft { topic: draw_topic(world), ..draft };
                if let Some(packet) = world.devices[device].publish(draft) {
                    world.send(link, packet);
                }
            }
        }
        Act::Subscribe => subscribe(world, device),
        Act::Unsubscribe => {
            let filters = draw_filters(world, device, 1);
            let packet = world.devices[device].unsubscribe(&filters);
            world.send(link, packet);
        }
        Act::Acknowledge => acknowledge(world, device),
        Act::Disconnect => disconnect(world, device),
        _ => {
            let packet = world.devices[device].ping();
            world.send(link, packet);
        }
    }
}

/// Every other device is a member of the group: it connects, subscribes and perhaps acknowledges something, or leaves.
/// The others publish.
fn member_act(world: &mut World, device: usize) {
    if !world.devices[device].is_connected {
        connect(world, device);
        exchange_some(world);
        if device % 2 == 1 && world.chance.percent(70) {
            device_act(world, device, Act::Subscribe);
            exchange_some(world);
        }
        return;
    }
    match world.devices[device].link {
        Some(_) if device.is_multiple_of(2) => device_act(world, device, Act::Publish),
        Some(link) if world.chance.percent(30) => world.hang_up(link),
        Some(_) if world.chance.percent(60) => disconnect(world, device),
        _ => acknowledge(world, device),
    }
    exchange_some(world);
}

/// Bytes on the links arrive, and a batch or two become durable.
fn exchange_some(world: &mut World) {
    for _ in 0..4 {
        for id in world.links() {
            world.deliver_up(id);
            world.settle();
            world.deliver_down(id);
            world.settle();
        }
        world.pass(10);
    }
}

fn connect(world: &mut World, device: usize) {
    let is_there = world.devices[device].link.is_some();
    let takeover = world.plan.takeover;
    if is_there && !world.chance.percent(takeover) {
        return;
    }
    let greeting = draw_greeting(world, device);
    world.connect(device, &greeting);
}

fn draw_greeting(world: &mut World, device: usize) -> Greeting {
    let versions = world.plan.versions.clone();
    let version = world.chance.pick(&versions);
    let has_will = world.chance.percent(world.plan.will);
    let will = has_will.then(|| {
        let draft = Draft { topic: WILL_TOPICS[device], alias: 0, ..draw_draft(world) };
        let is_delayed = world.chance.percent(world.plan.will_delay);
        DraftWill { draft, delay: is_delayed.then(|| world.chance.pick(&[0, 1, 2, 10])) }
    });
    let chance = &mut world.chance;
    let plan = &world.plan;
    let optional = |chance: &mut crate::chance::Chance, percent: u64, values: &[u32]| {
        let is_given = version == ProtocolVersion::V5 && chance.percent(percent);
        is_given.then(|| chance.pick(values))
    };
    let narrow = |value: u32| u16::try_from(value).expect("a small number");
    let clean_start = chance.percent(plan.clean_start);
    let mut keep_alive = if chance.percent(plan.keep_alive) { chance.pick(&[1, 5, 60]) } else { 0 };
    let longest = plan.limits.keep_alive_maximum;
    // Most clients that cannot be told another value stay within the limit.
    if version != ProtocolVersion::V5 && longest < u16::MAX && !chance.percent(10) {
        keep_alive = longest;
    }
    Greeting {
        version,
        clean_start,
        keep_alive,
        expiry: optional(chance, 80, &[0, 1, 5, 60, 3_600, u32::MAX, u32::MAX]),
        receive_maximum: optional(chance, plan.receive_maximum, &[1, 2, 3, 10]).map(narrow),
        maximum_packet_size: optional(chance, plan.small_packets, &[60, 64, 70, 80, 120]),
        alias_maximum: optional(chance, plan.alias_maximum, &[1, 2, 5, 100]).map(narrow),
        will,
    }
}

fn draw_topic(world: &mut World) -> &'static str {
    world.chance.pick(&world.plan.topics)
}

/// In seeds with groups, every other device is a member of one and of nothing else, so that each copy of a message has
/// only one possible reason, and the oracle need not guess.
fn draw_filter(world: &mut World, device: usize) -> &'static str {
    if let Some(filters) = world.plan.shared.filter(|_| device % 2 == 1) {
        return filters[device / 4 % 2];
    }
    world.chance.pick(&world.plan.filters)
}

/// A few filters, or in some seeds many, most of which match nothing.
fn draw_filters(world: &mut World, device: usize, few: u64) -> Vec<String> {
    let many_filters = world.plan.many_filters;
    if !world.chance.percent(many_filters) {
        let count = world.chance.between(1, few);
        return (0..count).map(|_| draw_filter(world, device).to_owned()).collect();
    }
    // At most as many as the answer has room for in the smallest packets that clients accept.
    let count = world.chance.between(20, 50);
    let draw = |number| match world.chance.percent(15) {
        true => draw_filter(world, device).to_owned(),
        false => format!("none/{number}"),
    };
    (0..count).map(draw).collect()
}

fn draw_qos(world: &mut World) -> QoS {
    let level = world.chance.between(world.plan.lowest_qos, world.plan.highest_qos);
    QoS::from_u8(u8::try_from(level).expect("0 to 2")).expect("0 to 2")
}

fn draw_draft(world: &mut World) -> Draft {
    let qos = draw_qos(world);
    world.drafts += 1;
    let number = world.drafts;
    let plan = &world.plan;
    let chance = &mut world.chance;
    let mut payload = number.to_be_bytes().to_vec();
    let filler =
        if chance.percent(plan.large_payload) { chance.between(2_030, 5_000) } else { chance.between(0, 60) };
    payload.resize(8 + usize::try_from(filler).expect("small"), b'.');
    if chance.percent(plan.empty_payload) {
        payload.clear();
    }
    let mut properties = PropertyBuffer::default();
    if chance.percent(plan.properties) {
        properties.push(Property::UserProperty("k", "v"));
        properties.push(Property::ContentType("t"));
        properties.push(Property::UserProperty("a", "b"));
        properties.push(Property::ResponseTopic(TopicName::new("r").expect("good")));
        properties.push(Property::CorrelationData(&number.to_be_bytes()));
    }
    let retain = chance.percent(plan.retain);
    let expiry = chance.percent(plan.message_expiry).then(|| chance.pick(&[0, 1, 2, 5, 100]));
    Draft {
        topic: TOPICS[0],
        // Empty messages look alike, so it could not be known which of them has expired.
        expiry: expiry.filter(|_| !payload.is_empty()),
        payload,
        qos,
        retain,
        properties,
        alias: if chance.percent(plan.alias) {
            u16::try_from(chance.between(1, 4)).expect("small")
        } else {
            0
        },
    }
}

fn subscribe(world: &mut World, device: usize) {
    let filters = draw_filters(world, device, 3);
    let is_v5 = world.devices[device].version == ProtocolVersion::V5;
    let mut wanted = Vec::new();
    for filter in &filters {
        let filter = TopicFilter::new(filter).expect("good");
        let mut subscription = Subscription::new(filter, draw_qos(world));
        if is_v5 {
            let (plan, chance) = (&world.plan, &mut world.chance);
            subscription.no_local = filter.share_name().is_none() && chance.percent(plan.no_local);
            subscription.retain_as_published = chance.percent(plan.as_published);
            subscription.retain_handling = chance.pick(&[
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]);
        }
        wanted.push(subscription);
    }
    let has_identifier = is_v5 && world.chance.percent(world.plan.identifiers);
    let identifier = has_identifier.then(|| world.chance.pick(&[1, 2, 3, 200, 268_435_455]));
    let packet = world.devices[device].subscribe(&wanted, identifier);
    if let Some(link) = world.devices[device].link {
        world.send(link, packet);
    }
}

/// Sends some of the queued acknowledgements, in order or not.
fn acknowledge(world: &mut World, device: usize) {
    let Some(link) = world.devices[device].link else { return };
    for _ in 0..world.chance.between(1, 6) {
        let waiting = world.devices[device].acknowledgements.len();
        if waiting == 0 {
            return;
        }
        let is_ordered = !world.chance.percent(world.plan.unordered);
        let index = if is_ordered { 0 } else { world.chance.below(waiting) };
        if let Some(packet) = world.devices[device].acknowledgements.remove(index) {
            world.send(link, packet);
        }
    }
}

fn disconnect(world: &mut World, device: usize) {
    let Some(link) = world.devices[device].link else { return };
    let is_v5 = world.devices[device].version == ProtocolVersion::V5;
    let expiry_may_change = is_v5 && !world.devices[device].expiry_is_zero;
    let keeps_will = is_v5 && world.chance.percent(30);
    let reason = if keeps_will { ReasonCode::DisconnectWithWillMessage } else { ReasonCode::Success };
    let changes = expiry_may_change && world.chance.percent(40);
    let expiry = changes.then(|| world.chance.pick(&[0, 2, 100]));
    let packet = world.devices[device].disconnect(reason, expiry);
    world.send(link, packet);
    world.devices[device].is_connected = false;
}

/// Moves everything until nothing moves any longer.
fn exchange(world: &mut World) {
    for _ in 0..10_000 {
        world.decide(true);
        for id in world.links() {
            world.unstall(id);
            world.settle();
            world.deliver_up(id);
            world.settle();
            world.deliver_down(id);
            world.settle();
        }
        for device in 0..world.devices.len() {
            acknowledge(world, device);
        }
        world.settle();
        if !world.is_moving() {
            return;
        }
    }
    panic!("the devices never become idle");
}

/// Ends all faults: every client returns and takes what is due.
fn calm(world: &mut World) {
    world.is_calm = true;
    world.plan.unordered = 0;
    world.set_storage_room(Room::Enough);
    exchange(world);
    for device in 0..world.devices.len() {
        if world.oracle.has_session(&world.devices[device].name) {
            let greeting = peaceful(false);
            world.connect(device, &greeting);
            exchange(world);
        }
    }
    for _ in 0..3 {
        world.pass(1);
        exchange(world);
    }
}

/// A CONNECT of 5.0, whose client can be told the values that limits impose.
const fn peaceful(clean_start: bool) -> Greeting {
    Greeting {
        version: ProtocolVersion::V5,
        clean_start,
        keep_alive: 0,
        expiry: if clean_start { None } else { Some(1_000_000) },
        receive_maximum: None,
        maximum_packet_size: None,
        alias_maximum: None,
        will: None,
    }
}

/// Every client leaves for good, nothing stays retained, time passes: the broker is as empty as at the start.
fn clean_up(world: &mut World) {
    for device in 0..world.devices.len() {
        leave_for_good(world, device);
    }
    world.pass(1);
    world.connect(0, &peaceful(true));
    exchange(world);
    for topic in world.oracle.retained_topics() {
        let topic =
            TOPICS.iter().chain(&WILL_TOPICS).copied().find(|known| *known == topic).expect("a known topic");
        let draft = Draft {
            topic,
            payload: Vec::new(),
            qos: QoS::AtMostOnce,
            retain: true,
            properties: PropertyBuffer::default(),
            expiry: None,
            alias: 0,
        };
        if let (Some(packet), Some(link)) = (world.devices[0].publish(draft), world.devices[0].link) {
            world.send(link, packet);
        }
    }
    exchange(world);
    leave_for_good(world, 0);
    world.pass(60_000);
    exchange(world);
    let empty = Census { connections: 0, sessions: 0, subscriptions: 0, retained: 0, timers: 0 };
    assert_eq!(world.broker.census(), empty, "the broker is empty again");
}

fn leave_for_good(world: &mut World, device: usize) {
    world.connect(device, &peaceful(true));
    exchange(world);
    let Some(link) = world.devices[device].link else { return };
    let packet = world.devices[device].disconnect(ReasonCode::Success, None);
    world.send(link, packet);
    exchange(world);
}
