//! What one seed is about. Every feature and every fault is on in some seeds and off in others, with random weights: a
//! mix that has everything on all the time never gets deep into anything.

use brooklet::base::time::Duration;
use brooklet::core::limits::Limits;
use brooklet::protocol::codec::ProtocolVersion;

use crate::chance::Chance;

pub const TOPICS: [&str; 10] = ["a", "a/b", "a/b/c", "b", "b/c", "/a", "a//c", "$x/a", "abc/b", "a/b/c/d/e"];

pub const FILTERS: [&str; 18] = [
    "a",
    "a/b",
    "b/c",
    "a//c",
    "#",
    "+",
    "a/#",
    "a/+",
    "+/b",
    "+/c",
    "a/b/#",
    "a/+/c",
    "+/+/#",
    "/+",
    "$x/#",
    "$x/+",
    "+/b/c",
    "a/b/c/d/#",
];

pub const SHARED_FILTERS: [&str; 6] =
    ["$share/g/a/#", "$share/g/#", "$share/h/a/b", "$share/h/+/b", "$share/g/b/c", "$share/h/#"];

/// What may happen in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Connect,
    Publish,
    Subscribe,
    Unsubscribe,
    Acknowledge,
    Up,
    Down,
    Pass,
    Cut,
    Disconnect,
    Stall,
    Unstall,
    Decide,
    Ping,
    Crash,
    SetClock,
    Fill,
    Empty,
    /// A member of a group arrives or leaves, or a message for the group is published.
    Member,
}

/// The behaviour of the disk, in a seed with a store.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// Whether the broker promises only what is durable.
    pub holds: bool,
    /// Milliseconds that a batch waits: one that an answer depends on, and one that none does.
    pub urgent: u64,
    pub lazy: u64,
    /// Milliseconds that a batch usually takes at most.
    pub longest: u64,
    /// How often it takes seconds.
    pub slow: u64,
    /// How often it is written twice.
    pub repeated: u64,
}

/// Chances are in percent, and zero where a feature is off.
#[derive(Debug)]
pub struct Plan {
    pub steps: u64,
    pub devices: usize,
    pub versions: Vec<ProtocolVersion>,
    pub limits: Limits,
    /// Whether limits are so low that messages may be dropped.
    pub is_tight: bool,
    /// Whether the budget of a turn is so small that most work takes several turns, with other events in between.
    pub has_small_turns: bool,
    /// Packets with many filters.
    pub many_filters: u64,
    pub acts: Vec<(Act, u64)>,
    pub topics: Vec<&'static str>,
    pub filters: Vec<&'static str>,
    pub lowest_qos: u64,
    pub highest_qos: u64,
    /// The filters of two groups, in seeds that have them.
    pub shared: Option<[&'static str; 2]>,
    pub retain: u64,
    pub empty_payload: u64,
    pub large_payload: u64,
    pub properties: u64,
    pub message_expiry: u64,
    pub will: u64,
    pub will_delay: u64,
    pub alias: u64,
    pub alias_maximum: u64,
    pub receive_maximum: u64,
    pub small_packets: u64,
    pub identifiers: u64,
    pub no_local: u64,
    pub as_published: u64,
    pub clean_start: u64,
    pub takeover: u64,
    pub keep_alive: u64,
    pub chop: u64,
    pub throttle: u64,
    pub later: u64,
    pub refusals: u64,
    pub unordered: u64,
    pub longest_pass: u64,
    pub disk: Option<DiskPlan>,
}

/// On in half of the seeds, with a chance of up to `most` percent.
const fn feature(chance: &mut Chance, most: u64) -> u64 {
    if chance.percent(50) { chance.between(1, most) } else { 0 }
}

impl Plan {
    pub fn draw(chance: &mut Chance) -> Self {
        let retry_interval = Duration::from_seconds(chance.pick(&[0, 0, 1, 5, 20]));
        let mut limits = Limits { retry_interval, ..Limits::default() };
        let is_tight = chance.percent(40);
        if is_tight {
            tighten(&mut limits, chance);
        }
        let has_small_turns = chance.percent(50);
        if has_small_turns {
            let most = chance.pick(&[10, 40, 200]);
            limits.steps_per_turn = usize::try_from(chance.between(2, most)).expect("a small number");
            // Subscriptions of ended sessions count until they are freed, which cannot be observed.
            limits.subscriptions = Limits::default().subscriptions;
        }
        let shared = chance.percent(40).then(|| [chance.pick(&SHARED_FILTERS), chance.pick(&SHARED_FILTERS)]);
        Self {
            steps: chance.between(40, 400),
            devices: usize::try_from(chance.between(2, if has_small_turns { 10 } else { 6 })).expect("a few"),
            versions: versions(chance),
            limits,
            is_tight,
            has_small_turns,
            many_filters: if has_small_turns { feature(chance, 40) } else { 0 },
            acts: acts(chance),
            topics: some_of(&TOPICS, chance),
            filters: some_of(&FILTERS, chance),
            lowest_qos: 0,
            highest_qos: chance.pick(&[0, 1, 1, 2, 2, 2, 2]),
            shared,
            retain: feature(chance, 50),
            // Empty messages look alike, so that groups could not be checked with them.
            empty_payload: if shared.is_some() { 0 } else { feature(chance, 30) },
            large_payload: feature(chance, 20),
            properties: feature(chance, 50),
            message_expiry: feature(chance, 60),
            will: feature(chance, 80),
            will_delay: feature(chance, 80),
            alias: feature(chance, 80),
            alias_maximum: feature(chance, 80),
            receive_maximum: feature(chance, 90),
            small_packets: feature(chance, 60),
            identifiers: feature(chance, 70),
            no_local: feature(chance, 50),
            as_published: feature(chance, 60),
            clean_start: feature(chance, 50),
            takeover: feature(chance, 80),
            keep_alive: feature(chance, 50),
            chop: feature(chance, 100),
            throttle: feature(chance, 60),
            later: feature(chance, 40),
            refusals: feature(chance, 20),
            unordered: feature(chance, 30),
            longest_pass: chance.pick(&[10, 100, 1_500, 1_500, 5_000, 40_000]),
            disk: disk(chance),
        }
        .with_disk_acts(chance)
        .with_many_recipients(chance)
        .with_leaving_members()
    }

    /// The same plan without small turns.
    pub fn with_whole_turns(mut self) -> Self {
        self.has_small_turns = false;
        self.limits.steps_per_turn = Limits::default().steps_per_turn;
        self
    }

    /// With small turns, more clients connect, subscribe and are read, so that operations take several turns.
    fn with_many_recipients(mut self, chance: &mut Chance) -> Self {
        if self.has_small_turns {
            let most = chance.between(0, 40);
            self.acts.extend([(Act::Connect, most / 3), (Act::Subscribe, most / 3), (Act::Up, 2 * most)]);
        }
        self
    }

    /// Some seeds with groups are about members whose sessions end while others stay: all clients are in one group,
    /// nothing may be dropped, and members arrive and leave all the time.
    fn with_leaving_members(mut self) -> Self {
        if self.shared.is_none() || self.is_tight || self.steps.is_multiple_of(2) {
            return self;
        }
        self.shared = Some([SHARED_FILTERS[1]; 2]);
        self.devices = self.devices.max(5);
        self.lowest_qos = 1;
        self.highest_qos = if self.steps.is_multiple_of(3) { 2 } else { 1 };
        (self.small_packets, self.message_expiry) = (0, 0);
        self.clean_start = 20;
        self.longest_pass = self.longest_pass.max(1_500);
        let total: u64 = self.acts.iter().map(|(_, weight)| weight).sum();
        self.acts.push((Act::Member, total));
        self
    }

    /// With a disk, the disk may be full, and the broker may crash.
    fn with_disk_acts(mut self, chance: &mut Chance) -> Self {
        if self.disk.as_ref().is_some_and(|disk| disk.holds) {
            self.acts.extend([(Act::Crash, feature(chance, 4)), (Act::SetClock, 1)]);
        }
        // With small turns, the broker may refuse something for lack of space because it has not searched long enough.
        if self.disk.is_some() && !self.has_small_turns {
            let often = if chance.percent(30) { chance.between(1, 3) } else { 0 };
            self.acts.extend([(Act::Fill, often), (Act::Empty, often)]);
        }
        self
    }
}

/// Two seeds of three have a disk, if the broker can persist anything.
fn disk(chance: &mut Chance) -> Option<DiskPlan> {
    (cfg!(feature = "persistence") && chance.percent(66)).then(|| DiskPlan {
        holds: chance.percent(90),
        urgent: chance.pick(&[0, 0, 5, 20]),
        lazy: chance.pick(&[0, 10, 250, 1_000]),
        longest: chance.pick(&[0, 3, 50, 50]),
        slow: feature(chance, 5),
        repeated: feature(chance, 30),
    })
}

fn versions(chance: &mut Chance) -> Vec<ProtocolVersion> {
    let all = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5, ProtocolVersion::V5];
    match chance.below(4) {
        0 => vec![chance.pick(&all)],
        _ => all.to_vec(),
    }
}

fn some_of(all: &[&'static str], chance: &mut Chance) -> Vec<&'static str> {
    let count = 1 + chance.below(all.len());
    (0..count).map(|_| chance.pick(all)).collect()
}

fn acts(chance: &mut Chance) -> Vec<(Act, u64)> {
    let mut acts = vec![
        (Act::Connect, chance.between(2, 10)),
        (Act::Publish, chance.between(5, 40)),
        (Act::Subscribe, chance.between(2, 15)),
        (Act::Acknowledge, chance.between(2, 25)),
        (Act::Up, chance.between(10, 40)),
        (Act::Down, chance.between(5, 40)),
        (Act::Pass, chance.between(1, 15)),
        (Act::Decide, 10),
        (Act::Unstall, chance.between(1, 10)),
    ];
    for (act, most) in
        [(Act::Unsubscribe, 8), (Act::Cut, 6), (Act::Disconnect, 5), (Act::Stall, 8), (Act::Ping, 4)]
    {
        acts.push((act, feature(chance, most)));
    }
    acts
}

/// Sets some limits so low that they are reached.
fn tighten(limits: &mut Limits, chance: &mut Chance) {
    let mut small = |low: u64, high: u64, usual: usize| {
        if chance.percent(35) {
            usize::try_from(chance.between(low, high)).expect("a small number")
        } else {
            usual
        }
    };
    limits.queue_length = small(1, 8, limits.queue_length);
    limits.queue_bytes = small(60, 3_000, limits.queue_bytes);
    limits.outbox_bytes = small(100, 4_000, limits.outbox_bytes);
    limits.outbox_answer_bytes = small(1, 300, limits.outbox_answer_bytes);
    limits.outbox_refill_bytes = small(20, 1_000, limits.outbox_refill_bytes).min(limits.outbox_bytes);
    limits.subscriptions_per_session = small(1, 4, limits.subscriptions_per_session);
    limits.subscriptions = small(2, 10, limits.subscriptions);
    limits.retained_count = small(1, 4, limits.retained_count);
    limits.retained_bytes = small(60, 500, limits.retained_bytes);
    limits.sessions = small(1, 4, limits.sessions);
    let narrow = |value: usize| u16::try_from(value).expect("it came from a u16");
    limits.in_flight = narrow(small(1, 4, usize::from(limits.in_flight)));
    limits.receive_maximum = narrow(small(1, 4, usize::from(limits.receive_maximum)));
    limits.topic_alias_maximum = narrow(small(0, 2, usize::from(limits.topic_alias_maximum)));
    limits.keep_alive_maximum = narrow(small(1, 30, usize::from(limits.keep_alive_maximum)));
    let longest = small(1, 60, usize::MAX);
    limits.session_expiry_maximum = u32::try_from(longest).unwrap_or(u32::MAX);
    limits.burst_bytes = small(0, 1_000, limits.burst_bytes);
}
