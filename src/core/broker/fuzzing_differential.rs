//! The body of the fuzz target for the short ways: one sequence of calls, made to several brokers that differ only in
//! how they process it, must be answered the same. It panics if it is not.

mod alike;
mod bench;

use super::fast_path;
use super::fuzzing_limits::limits;
use super::fuzzing_log::listening;
use super::fuzzing_packets as packets;
use crate::base::fuzzing::Input;
use crate::base::time::Duration;
use crate::core::limits::Limits;
use crate::protocol::codec::{ProtocolVersion, Status, decode, frame};

use alike::{
    assert_alike_but_expired, assert_alike_from_store, assert_alike_in_turns, assert_same_but_late_bytes,
};
use bench::{Bench, Call, Heard, Outcome, Way};

/// The most connections at one time, and in all.
const LINKS_AT_ONCE: usize = 6;
const LINKS_MAXIMUM: usize = 24;

/// Steps of a turn of which a share is enough to ask about all recipients of a message.
const QUESTIONS_FIT: usize = 2_000;

/// Steps in which there is nothing that an input leaves for a later turn.
const LARGE_TURN: usize = 10_000_000;

/// Messages in a queue; an input leads to fewer.
const QUEUE_LENGTH: usize = 100_000;

/// How the filter of a Shared Subscription begins, and a filter of the same length that nothing is published to.
const SHARED: &[u8] = b"$share/";
const ORDINARY: &[u8] = b"$other/";

/// The upper half of the first byte of PUBLISH.
const PUBLISH: u8 = 3;

/// How much a broker does in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turns {
    /// All that there is to do.
    Large,
    /// Little. Nothing new happens before the broker is at rest, but several packets may come at once.
    Small,
    /// Little, and packets come one by one, each when the broker is at rest.
    Calm,
}

/// Draws the calls while they are made to the first broker.
struct Draw<'a, 'b> {
    input: &'a mut Input<'b>,
    turns: Turns,
    bench: Bench,
    calls: Vec<Call>,
    /// The version that each client intends to use, and how many of the received bytes it has answered.
    clients: Vec<(ProtocolVersion, usize)>,
}

impl Draw<'_, '_> {
    fn make(&mut self, call: Call) {
        match call {
            Call::Receive(link, bytes) if self.turns == Turns::Calm => self.receive_calmly(link, &bytes),
            call => self.make_at_once(call),
        }
    }

    fn make_at_once(&mut self, call: Call) {
        self.bench.call(&call);
        self.calls.push(call);
    }

    /// Sends the packets of a client one by one, each when the broker is at rest. The rest is no whole packet.
    fn receive_calmly(&mut self, link: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok(Status::Complete(cut)) = frame(rest, usize::MAX) {
            self.make_at_once(Call::Receive(link, cut.packet.to_vec()));
            self.make_at_once(Call::Rest);
            rest = rest.split_at(cut.length).1;
        }
        if !rest.is_empty() {
            self.make_at_once(Call::Receive(link, rest.to_vec()));
        }
    }

    fn all(mut self) -> (Outcome, Vec<Call>) {
        if self.input.once_in(2) {
            self.begin_plainly();
        }
        while !self.input.is_empty() {
            self.some();
            // Now and then more happens before anything is written.
            if self.turns != Turns::Large || !self.input.once_in(4) {
                self.make(Call::Rest);
            }
        }
        for link in 0..self.bench.links.len() {
            self.make(Call::Allow(link, usize::MAX));
        }
        self.make(Call::Rest);
        (self.bench.finish(), self.calls)
    }

    /// Begins with a case that is too rare by chance alone: messages that are sent and received in the simplest way, by
    /// clients of which some do not accept all sizes.
    fn begin_plainly(&mut self) {
        let version = self.input.pick(&[ProtocolVersion::V5, ProtocolVersion::V311]);
        for _ in 0..=self.input.below(3) {
            self.make(Call::Accept);
            self.clients.push((version, 0));
            let mut bytes = Vec::new();
            packets::plain_receiver(self.input, version, &mut bytes);
            self.make(Call::Receive(self.clients.len() - 1, bytes));
        }
        for _ in 0..=self.input.below(6) {
            self.make(Call::Rest);
            self.send_bursts();
            self.make(Call::Rest);
            self.answer();
        }
        // Before anything else, because messages may still be on their way.
        self.make(Call::Rest);
    }

    fn some(&mut self) {
        match self.input.below(20) {
            0..=2 => self.accept(),
            3..=5 => self.send(packets::packet, 4),
            6..=9 => self.send_bursts(),
            10 | 11 => self.send(packets::subscribe, 2),
            12..=14 => self.answer(),
            15 => self.send_faulty(),
            16 | 17 => self.throttle(),
            18 => self.pass(),
            _ => {
                if let Some(link) = self.choose() {
                    self.make(Call::Close(link));
                }
            }
        }
    }

    /// Returns one of the open links, if there is any.
    fn choose(&mut self) -> Option<usize> {
        let links = self.bench.links.iter().enumerate();
        let living: Vec<usize> = links.filter_map(|(index, link)| link.id.map(|_| index)).collect();
        let chosen = usize::from(self.input.byte());
        (!living.is_empty()).then(|| living[chosen % living.len()])
    }

    fn accept(&mut self) {
        let version = self.input.pick(&[ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31]);
        let living = self.bench.links.iter().filter(|link| link.id.is_some()).count();
        if living == LINKS_AT_ONCE || self.bench.links.len() == LINKS_MAXIMUM {
            return;
        }
        self.make(Call::Accept);
        self.clients.push((version, 0));
        let mut bytes = Vec::new();
        packets::connect(self.input, version, &mut bytes);
        packets::subscribe(self.input, version, &mut bytes);
        self.make(Call::Receive(self.clients.len() - 1, bytes));
    }

    fn send(&mut self, packet: fn(&mut Input<'_>, ProtocolVersion, &mut Vec<u8>), most: usize) {
        let Some(link) = self.choose() else { return };
        let mut bytes = Vec::new();
        for _ in 0..=self.input.below(most) {
            packet(self.input, self.clients[link].0, &mut bytes);
        }
        self.make(Call::Receive(link, bytes));
    }

    /// Sends some bursts; if turns are small, more than one turn is for.
    fn send_bursts(&mut self) {
        let most = if self.turns == Turns::Small { 8 } else { 2 };
        self.send(packets::burst, most);
    }

    fn send_faulty(&mut self) {
        let Some(link) = self.choose() else { return };
        let mut bytes = Vec::new();
        packets::burst(self.input, self.clients[link].0, &mut bytes);
        let at = (self.input.below(256) << 8 | self.input.below(256)) % bytes.len();
        bytes[at] ^= self.input.byte();
        self.make(Call::Receive(link, bytes));
    }

    /// Answers some of what a client has received.
    fn answer(&mut self) {
        let Some(link) = self.choose() else { return };
        let (version, answered) = self.clients[link];
        let heard = &self.bench.links[link].heard.bytes;
        let (mut at, mut bytes) = (answered, Vec::new());
        for _ in 0..self.input.byte().max(1) {
            let Ok(Status::Complete(cut)) = frame(&heard[at..], usize::MAX) else { break };
            at += cut.length;
            if let Ok(packet) = decode(&cut, version) {
                packets::answer(self.input, version, &packet, &mut bytes);
            }
        }
        self.clients[link].1 = at;
        if !bytes.is_empty() {
            self.make(Call::Receive(link, bytes));
        }
    }

    fn throttle(&mut self) {
        let Some(link) = self.choose() else { return };
        let allowance = self.input.pick(&[0, 0, 1, 100, 1_000, usize::MAX, usize::MAX]);
        self.make(Call::Allow(link, allowance));
    }

    fn pass(&mut self) {
        let unit = self.input.pick(&[1, 100, 1_000, 60_000]);
        let span = Duration::from_milliseconds(unit * u64::from(self.input.byte()));
        let end = self.bench.now + span;
        while let Some(deadline) = self.bench.broker.next_deadline().filter(|&deadline| deadline <= end) {
            self.make(Call::Pass(deadline.max(self.bench.now)));
            self.make(Call::Rest);
            if self.bench.broker.next_deadline() == Some(deadline) {
                break;
            }
        }
        self.make(Call::Pass(end));
    }
}

/// Returns the limits, and how much is done in a turn.
fn bounds(input: &mut Input<'_>) -> (Limits, Turns) {
    if input.once_in(6) {
        // Where a turn ends differs between the ways. What is left over is written after the end, which makes room. So
        // there must be room for everything, or different messages would be dropped.
        let small = [40, 300, QUESTIONS_FIT].map(|steps| (steps, Turns::Small));
        let (steps_per_turn, turns) =
            input.pick(&[small, small.map(|(steps, _)| (steps, Turns::Calm))].concat());
        return (Limits { steps_per_turn, queue_length: QUEUE_LENGTH, ..Limits::default() }, turns);
    }
    // The memory that is held differs between the ways, so different messages might be dropped under pressure.
    let mut limits = Limits { memory: None, steps_per_turn: LARGE_TURN, ..limits(input) };
    if input.once_in(3) {
        limits.session_expiry_maximum = 0;
    }
    (limits, Turns::Large)
}

/// Makes the same calls to a broker of each way, one after another, and compares the outcomes.
pub fn compare(data: &[u8]) {
    let mut input = Input::new(data);
    let (limits, turns) = bounds(&mut input);
    let draw = || {
        let bench = Bench::new(Way::Short, &limits);
        Draw { input: &mut input, turns, bench, calls: Vec::new(), clients: Vec::new() }.all()
    };
    let ((mut short, mut calls), lines) = listening(Way::Short.level(), draw);
    short.lines = lines;
    if turns == Turns::Small && has_groups(&calls) {
        // Whose turn it is to get a message depends on the order in which several clients are served.
        calls = without_groups(&calls);
        short = repeat(Way::Short, &limits, &calls);
    }
    for way in Way::OTHERS {
        let other = repeat(way, &limits, &calls);
        match (turns, way) {
            (Turns::Large, _) => assert_same(way, &short, &other),
            // A message whose recipients are looked up in several turns is answered after the publisher's own copy.
            (_, Way::Asked | Way::Remembered) if limits.steps_per_turn < QUESTIONS_FIT => {}
            (Turns::Calm, Way::ByteByByte) => assert_same_but_late_bytes(way, &short, other),
            (Turns::Calm, Way::Asked | Way::Remembered) => assert_alike_but_expired(way, &short, other),
            (Turns::Calm, _) => assert_same(way, &short, &other),
            // Each byte has a share of the turn, so of two pieces of work that wait for a later turn, another one may
            // come first.
            (Turns::Small, Way::ByteByByte) => {}
            (Turns::Small, _) => assert_alike_but_expired(way, &short, other),
        }
    }
    // If turns are small, a session is read from the store in turns of its own. There, brokers with a store are only
    // compared with each other.
    if turns == Turns::Large {
        compare_store_with_none(&limits, &calls, &short);
    }
    compare_stores(&limits, turns, &calls);
    if turns != Turns::Small {
        compare_refusals(&limits, &calls);
    }
}

/// Makes the same calls to a broker with a store, and compares the outcome with that of a broker without one. If nothing
/// was persisted, it is the same. If something was, it is compared only where no message needs to be dropped: the queue
/// in the store may still have room when the one in memory has none.
fn compare_store_with_none(limits: &Limits, calls: &[Call], short: &Outcome) {
    let stored = repeat(Way::Stored, limits, calls);
    if !stored.has_persisted {
        assert_same(Way::Stored, short, &stored);
        return;
    }
    if !is_wide(limits) {
        return;
    }
    // While its queue is in the store, a member of a Shared Subscription is not ready for another message, which goes to
    // one that is. Without a store, the queue may have been sent by then.
    let calls = without_groups(calls);
    // What waits in the store is not in an outbox, where it would keep the broker from reading what the client sends.
    let limits = Limits { outbox_answer_bytes: limits.outbox_bytes, ..limits.clone() };
    let [short, stored] = [Way::Short, Way::Stored].map(|way| repeat(way, &limits, &calls));
    assert_alike_from_store(&short, &stored);
}

/// Whether a client may subscribe to a Shared Subscription.
fn has_groups(calls: &[Call]) -> bool {
    let mentions = |bytes: &[u8]| bytes.windows(SHARED.len()).any(|window| window == SHARED);
    calls.iter().any(|call| matches!(call, Call::Receive(_, bytes) if mentions(bytes)))
}

/// The calls, but that filters of Shared Subscriptions are ordinary ones of the same length, which match nothing.
fn without_groups(calls: &[Call]) -> Vec<Call> {
    let mut calls = calls.to_vec();
    for call in &mut calls {
        let Call::Receive(_, bytes) = call else { continue };
        for at in 0..bytes.len() {
            if bytes[at..].starts_with(SHARED) {
                bytes[at..at + ORDINARY.len()].copy_from_slice(ORDINARY);
            }
        }
    }
    calls
}

/// Makes the same calls to brokers with a store, with and without the fast path, and compares what the store is given as
/// well: nothing is written with another batch, nor in another order where the order counts. No answer leaves before the
/// batch that it waits for.
fn compare_stores(limits: &Limits, turns: Turns, calls: &[Call]) {
    // One pair is enough for each list of calls, and so are the calls with or without those that are added.
    let pairs = if turns == Turns::Small { &Way::AT_REST[..] } else { &Way::STORED };
    let [short, full] = pairs[calls.len() % pairs.len()];
    let calls = if calls.len() % 4 < 2 { echoed(calls) } else { calls.to_vec() };
    let (one, other) = (repeat(short, limits, &calls), repeat(full, limits, &calls));
    if turns == Turns::Small {
        // Where a turn ends, a batch does.
        assert_alike_but_expired(short, &one, other);
        return;
    }
    if short == Way::Late {
        // An answer to a client may leave between two messages to it that are sent together: which of them goes ahead is
        // not promised.
        assert_alike_in_turns(short, &one, &other);
    } else {
        assert_same(short, &one, &other);
    }
    for (number, (one, other)) in one.batches.iter().zip(&other.batches).enumerate() {
        let differs = one.iter().zip(other).find(|(one, other)| one != other);
        assert!(one == other, "{short:?}, batch {number}: {differs:#?}, {} and {}", one.len(), other.len());
    }
    assert_eq!(one.batches.len(), other.batches.len(), "{short:?}");
    if short == Way::Late {
        return;
    }
    let mut numbered = one.heard_before.iter().zip(&other.heard_before).enumerate();
    let differs = numbered.find(|(_, (one, other))| one != other);
    assert!(differs.is_none(), "{short:?}, bytes sent before a batch was durable: {differs:?}");
}

/// The same for two brokers whose access controls refuse the same messages; only one of them stands by its answers, so
/// that questions take fewer steps.
fn compare_refusals(limits: &Limits, calls: &[Call]) {
    let calls = echoed(calls);
    let asked = repeat(Way::Refusing, limits, &calls);
    assert_same(Way::Standing, &asked, &repeat(Way::Standing, limits, &calls));
}

/// The calls, but that messages are sent again by all clients, the access control is replaced now and then, and a client
/// connects again while it is connected, and sends its message again. What the access control has said about one
/// connection is not true of another one, nor afterwards.
fn echoed(calls: &[Call]) -> Vec<Call> {
    let mut echo = Echo::default();
    for (number, call) in calls.iter().enumerate() {
        echo.repeat(call);
        let Call::Receive(link, bytes) = call else { continue };
        if bytes.first().is_some_and(|first| first >> 4 == PUBLISH) {
            echo.send_from_all(bytes);
            echo.calls.extend((number % 3 == 0).then_some(Call::Replace));
            echo.send_from_all(bytes);
            if number % 4 == 1 {
                echo.take_over(*link, bytes);
            }
        }
    }
    // Links that others stand for take everything in the end as well.
    echo.calls.extend((0..echo.accepted).map(|place| Call::Allow(place, usize::MAX)));
    echo.calls.push(Call::Rest);
    echo.calls
}

/// Calls that are added to others.
#[derive(Default)]
struct Echo {
    calls: Vec<Call>,
    /// The number that each link has among all, and the CONNECT that it has sent.
    links: Vec<(usize, Vec<u8>)>,
    accepted: usize,
}

impl Echo {
    /// Adds one of the original calls.
    fn repeat(&mut self, call: &Call) {
        let call = match *call {
            Call::Accept => {
                let place = self.accept();
                self.links.push((place, Vec::new()));
                return;
            }
            Call::Receive(link, ref bytes) => {
                let (place, connect) = &mut self.links[link];
                if let Ok(Status::Complete(first)) = frame(bytes, usize::MAX)
                    && connect.is_empty()
                {
                    *connect = first.packet.to_vec();
                }
                Call::Receive(*place, bytes.clone())
            }
            Call::Close(link) => Call::Close(self.links[link].0),
            Call::Allow(link, count) => Call::Allow(self.links[link].0, count),
            Call::Pass(_) | Call::Replace | Call::Rest => call.clone(),
        };
        self.calls.push(call);
    }

    fn accept(&mut self) -> usize {
        self.calls.push(Call::Accept);
        self.accepted += 1;
        self.accepted - 1
    }

    /// Sends a message from some of the clients.
    fn send_from_all(&mut self, bytes: &[u8]) {
        for (place, _) in self.links.iter().take(3) {
            self.calls.extend([Call::Receive(*place, bytes.to_vec()), Call::Rest]);
        }
    }

    /// Lets the client of a link connect again and send a message. The new link stands for the former one from now on.
    fn take_over(&mut self, link: usize, bytes: &[u8]) {
        let place = self.accept();
        let (former, connect) = &mut self.links[link];
        *former = place;
        let sent = [connect.clone(), bytes.to_vec()];
        self.calls.extend(sent.into_iter().flat_map(|bytes| [Call::Receive(place, bytes), Call::Rest]));
    }
}

fn repeat(way: Way, limits: &Limits, calls: &[Call]) -> Outcome {
    let before = fast_path::taken();
    let (mut outcome, lines) = listening(way.level(), || {
        let mut bench = Bench::new(way, limits);
        calls.iter().for_each(|call| bench.call(call));
        bench.finish()
    });
    outcome.lines = lines;
    let taken = fast_path::taken();
    assert!(!way.is_long() || taken == before, "short ways, {way:?}: {before:?}, then {taken:?}");
    outcome
}

fn assert_same(way: Way, short: &Outcome, other: &Outcome) {
    for (link, (one, other)) in short.heard.iter().zip(&other.heard).enumerate() {
        let same = one.bytes.iter().zip(&other.bytes).take_while(|(one, other)| one == other).count();
        let rest = |heard: &Heard| -> Vec<u8> { heard.bytes.iter().skip(same).take(32).copied().collect() };
        assert!(
            one == other,
            "{way:?}, connection {link}: alike up to {same}, then {:02x?} and {:02x?}; {:?} and {:?}",
            rest(one),
            rest(other),
            one.end,
            other.end,
        );
    }
    assert_eq!(without_topics(&short.lines), without_topics(&other.lines), "{way:?}");
    assert_eq!(short.statistics, other.statistics, "{way:?}");
    assert_eq!(short.census, other.census, "{way:?}");
}

/// The lines, without the topics of packets that are too large and without what is spoken instead of MQTT: how much has
/// arrived when a packet is refused depends on the way.
fn without_topics(lines: &[String]) -> Vec<&str> {
    let start =
        |line: &'_ str| line.find(", topic '").or_else(|| line.find(", it is ")).unwrap_or(line.len());
    lines.iter().map(|line| line[..start(line)].trim_end_matches('.')).collect()
}

/// Whether no message needs to be dropped, however many are queued for a client at once.
fn is_wide(limits: &Limits) -> bool {
    let usual = Limits::default();
    limits.outbox_bytes == usual.outbox_bytes
        && limits.queue_length == usual.queue_length
        && limits.in_flight == usual.in_flight
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{RngSeed, TestRunner};

    use super::fast_path;

    /// Every short way must be taken, so that the comparison covers all of them.
    #[test]
    fn every_way_leads_to_the_same_bytes() {
        let config = ProptestConfig { cases: 120, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() };
        let mut runner =
            TestRunner::new(ProptestConfig { failure_persistence: None, max_shrink_iters: 16, ..config });
        let bytes = proptest::collection::vec(any::<u8>(), 0..2_000);
        let compare = |data: Vec<u8>| {
            super::compare(&data);
            Ok(())
        };
        runner.run(&bytes, compare).unwrap();
        let taken = fast_path::taken();
        assert!(taken.iter().all(|&count| count > 0), "{taken:?}");
    }

    #[test]
    fn inputs_of_the_target_lead_to_the_same_bytes() {
        crate::base::fuzzing::try_out("differential", 200, super::compare);
    }
}
