//! The scenarios, by name.

/// Who receives whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// All clients publish to one topic, to which all subscribe.
    OneTopic,
    /// Each publisher has a topic and a subscriber of its own.
    Pairs,
    /// The publisher cycles through this many topics, which one wildcard matches.
    Topics(usize),
}

/// A load in rounds: each publisher sends a burst, and the next round begins when all of it has come and is
/// acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub qos: u8,
    pub pattern: Pattern,
    pub publishers: usize,
    pub subscribers: usize,
    /// Messages of each publisher in a round. A burst fits into the broker's socket.
    pub burst: u16,
    /// Rounds that are not counted.
    pub warm_up: usize,
    /// Rounds that are counted.
    pub rounds: usize,
}

const fn one_to_one(name: &'static str, qos: u8) -> Scenario {
    let pattern = Pattern::OneTopic;
    Scenario { name, qos, pattern, publishers: 1, subscribers: 1, burst: 400, warm_up: 2, rounds: 50 }
}

/// Rounds with many clients. A message of QoS 0 takes so few instructions that more are needed to see a change.
const fn crowd(name: &'static str, qos: u8) -> Scenario {
    Scenario { rounds: if qos == 0 { 100 } else { 10 }, ..one_to_one(name, qos) }
}

const fn fan_out(name: &'static str, qos: u8) -> Scenario {
    Scenario { subscribers: 100, burst: 100, ..crowd(name, qos) }
}

/// More than the subscriber may have in flight with QoS 1 and 2, so the rest waits in its queue.
const fn fan_in(name: &'static str, qos: u8) -> Scenario {
    Scenario { publishers: 100, burst: 50, ..crowd(name, qos) }
}

const fn pairs(name: &'static str, qos: u8) -> Scenario {
    Scenario { pattern: Pattern::Pairs, publishers: 50, subscribers: 50, burst: 100, ..crowd(name, qos) }
}

/// Each topic comes once before it is counted, and then twice.
const fn topics(name: &'static str, qos: u8) -> Scenario {
    Scenario { pattern: Pattern::Topics(10_000), warm_up: 25, ..one_to_one(name, qos) }
}

/// All scenarios, in the order of the table.
pub const ALL: [Scenario; 14] = [
    one_to_one("1:1 QoS 0", 0),
    one_to_one("1:1 QoS 1", 1),
    one_to_one("1:1 QoS 2", 2),
    fan_out("fan-out 1:100 QoS 0", 0),
    fan_out("fan-out 1:100 QoS 1", 1),
    fan_out("fan-out 1:100 QoS 2", 2),
    fan_in("fan-in 100:1 QoS 0", 0),
    fan_in("fan-in 100:1 QoS 1", 1),
    fan_in("fan-in 100:1 QoS 2", 2),
    pairs("50 pairs QoS 0", 0),
    pairs("50 pairs QoS 1", 1),
    pairs("50 pairs QoS 2", 2),
    topics("10,000 topics QoS 0", 0),
    topics("10,000 topics QoS 1", 1),
];

impl Scenario {
    /// The topics of a publisher.
    pub fn topics(&self, publisher: usize) -> Vec<String> {
        match self.pattern {
            Pattern::OneTopic => vec!["bench/all".to_owned()],
            Pattern::Pairs => vec![format!("bench/pair/{publisher}")],
            Pattern::Topics(count) => (0..count).map(|topic| format!("bench/device/{topic}/state")).collect(),
        }
    }

    /// The Topic Filter of a subscriber.
    pub fn filter(&self, subscriber: usize) -> String {
        match self.pattern {
            Pattern::OneTopic => "bench/all".to_owned(),
            Pattern::Pairs => format!("bench/pair/{subscriber}"),
            Pattern::Topics(_) => "bench/device/+/state".to_owned(),
        }
    }

    /// Messages that are published in a round.
    pub fn published(&self) -> usize {
        self.publishers * usize::from(self.burst)
    }

    /// Messages that subscribers receive in a round.
    pub fn delivered(&self) -> usize {
        match self.pattern {
            Pattern::Pairs => self.published(),
            Pattern::OneTopic | Pattern::Topics(_) => self.published() * self.subscribers,
        }
    }
}
