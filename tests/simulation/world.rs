//! The core with everything around it: links that split, delay, stall and are cut, devices at their far ends, a clock
//! that is moved, and the oracle that watches.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;

use brooklet::base::peer::Peer;
use brooklet::base::time::{Duration, Time};
use brooklet::core::access::{AccessControl, Answer, Client, Question, Verdict};
use brooklet::core::broker::{Broker, Effect, Intake, Part, Statistics};
use brooklet::core::listener::ListenerId;
use brooklet::core::slots::ConnectionId;

use crate::chance::{Chance, Trace};
use crate::device::{Device, Greeting};
use crate::disk::Disk;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::store::Epoch;

/// How many timers one call of the clock handles; few, so that the rest has to be remembered.
const TICK_BUDGET: usize = 2;

/// Decides at once or later, at random.
struct Gate {
    chance: Chance,
    /// How many decisions come later, in percent.
    later: u64,
    waiting: BTreeSet<ConnectionId>,
}

struct Access {
    gate: Rc<RefCell<Gate>>,
    is_asked: bool,
}

impl AccessControl for Access {
    fn grants_every_act(&self) -> bool {
        !self.is_asked
    }

    fn ask(&mut self, client: &Client<'_>, _question: Question<'_>) -> Answer {
        let mut gate = self.gate.borrow_mut();
        let later = gate.later;
        match client.connection {
            Some(id) if gate.chance.percent(later) => {
                gate.waiting.insert(id);
                Answer::Later
            }
            _ => Answer::Now(Verdict::Granted),
        }
    }
}

/// How the core finds its answers, which must make no difference outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The access control is asked about everything, and turns are as small as the seed demands.
    Usual,
    /// The same, but no turn is small: where turns end depends on their work, and the work left for the next one
    /// depends on where they end.
    Asked,
    /// Clients that are accepted may do everything, so the fast paths through the core are taken.
    Short,
    /// No fast path is taken.
    InFull,
}

impl Course {
    const fn is_asked(self) -> bool {
        matches!(self, Self::Usual | Self::Asked)
    }

    /// Whether this course is checked. The others are compared with one that is.
    const fn is_checked(self) -> bool {
        matches!(self, Self::Usual | Self::Short)
    }
}

/// One connection, seen from the middle.
struct Link {
    /// The device at the far end; none if it no longer uses the connection.
    device: Option<usize>,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    /// Bytes of whole packets that the core was given and has not processed, or only in part.
    given: usize,
    is_paused: bool,
    /// Whether the way down takes nothing.
    is_stalled: bool,
    /// The bytes that the way down takes before it blocks.
    allowance: usize,
    /// Whether it has blocked, and the core has not been told that it takes bytes again.
    is_blocked: bool,
    /// Whether the broker sends nothing more once its outbox is empty.
    is_closing: bool,
    /// Whether the core has forgotten it, so that only the way down is left.
    is_closed: bool,
    /// Whether the core wants to know if the peer has sent anything that has arrived.
    is_suspect: bool,
}

impl io::Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = if self.is_stalled { 0 } else { bytes.len().min(self.allowance) };
        if count == 0 {
            self.is_blocked = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.allowance -= count;
        self.down.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn begin(plan: &Plan, access: Box<dyn AccessControl>, course: Course, seed: u64, clock: Time) -> Broker {
    let mut broker = Broker::new(plan.limits.clone(), access, seed, clock);
    if course == Course::InFull {
        broker.take_no_short_way();
    }
    broker
}

fn report_unfinished(broker: &Broker, oracle: &mut Oracle) {
    let unfinished = broker.unfinished().map(|one| (one.client.to_owned(), one.is_looked_up));
    oracle.unfinished(&unfinished.collect::<Vec<_>>());
}

pub struct World {
    pub broker: Broker,
    pub now: Time,
    pub chance: Chance,
    pub plan: Plan,
    pub devices: Vec<Device>,
    pub oracle: Oracle,
    pub trace: Trace,
    /// The bytes written to each connection, with the broker that accepted it.
    pub heard: BTreeMap<(u64, ConnectionId), Vec<u8>>,
    course: Course,
    gate: Rc<RefCell<Gate>>,
    links: BTreeMap<ConnectionId, Link>,
    /// Whether faults have ended.
    pub is_calm: bool,
    /// Numbers the payloads.
    pub drafts: u64,
    pub disk: Option<Disk>,
    pub epoch: Epoch,
    /// The seed of the broker's numbers; another one after each crash.
    pub generation: u64,
}

impl World {
    pub fn new(seed: u64, course: Course) -> Self {
        let mut chance = Chance::new(seed);
        let mut plan = Plan::draw(&mut chance);
        if course != Course::Usual {
            plan = plan.with_whole_turns();
        }
        let gate = Gate { chance: Chance::new(seed + 1), later: plan.later, waiting: BTreeSet::new() };
        let gate = Rc::new(RefCell::new(gate));
        let access = Box::new(Access { gate: Rc::clone(&gate), is_asked: course.is_asked() });
        let disk = plan.disk.clone().map(|plan| Disk::new(plan, Chance::new(seed + 2)));
        let window = plan.limits.receive_maximum.min(16);
        let devices = (0..plan.devices).map(|number| Device::new(format!("d{number}"), window)).collect();
        let mut world = Self {
            broker: begin(&plan, access, course, seed, Time::ZERO),
            now: Time::ZERO,
            oracle: Oracle::new(plan.limits.clone(), plan.is_tight, plan.small_packets > 0),
            chance,
            plan,
            devices,
            trace: Trace::default(),
            heard: BTreeMap::new(),
            course,
            gate,
            links: BTreeMap::new(),
            is_calm: false,
            drafts: 0,
            disk,
            epoch: Epoch::new(Time::ZERO, Time::ZERO),
            generation: seed,
        };
        world.begin_disk();
        world
    }

    /// Starts another broker, with the decisions of the same gate.
    pub fn begin_broker(&self, clock: Time) -> Broker {
        let access = Access { gate: Rc::clone(&self.gate), is_asked: self.course.is_asked() };
        begin(&self.plan, Box::new(access), self.course, self.generation, clock)
    }

    /// The broker's own time.
    pub fn clock(&self) -> Time {
        self.epoch.to_broker(self.now)
    }

    /// Calls the core and tells the oracle the result; `told` reports events other than packets.
    pub fn call<R>(
        &mut self,
        id: Option<ConnectionId>,
        act: impl FnOnce(&mut Broker, Time) -> R,
        told: impl FnOnce(&mut Oracle),
    ) -> R {
        let before: Statistics = self.broker.statistics().clone();
        let clock = self.clock();
        let outcome = act(&mut self.broker, clock);
        let after = self.broker.statistics().clone();
        self.oracle.begin_call(&before, &after, self.now);
        if let Some(id) = id {
            self.oracle.processed(id, after.packets_received - before.packets_received);
            self.oracle.filters(id, self.broker.filters_undone(id));
        }
        told(&mut self.oracle);
        self.oracle.end_call();
        report_unfinished(&self.broker, &mut self.oracle);
        self.trace.note_number(self.now.milliseconds());
        outcome
    }

    /// Tells the oracle which messages have not reached all their recipients.
    pub fn report_unfinished(&mut self) {
        report_unfinished(&self.broker, &mut self.oracle);
    }

    /// A device opens a connection and sends CONNECT; an older connection of it is abandoned.
    pub fn connect(&mut self, device: usize, greeting: &Greeting) {
        let accepted = self.broker.accept(Peer::Local, ListenerId::default(), self.clock());
        let Some(id) = accepted else { return };
        self.oracle.opened(id, self.now);
        if let Some(older) = self.devices[device].link {
            self.turn_away(older);
        }
        let link = Link {
            device: Some(device),
            up: VecDeque::new(),
            down: VecDeque::new(),
            given: 0,
            is_paused: false,
            is_stalled: false,
            allowance: usize::MAX,
            is_blocked: false,
            is_closing: false,
            is_closed: false,
            is_suspect: false,
        };
        self.links.insert(id, link);
        let packet = self.devices[device].connect(id, greeting);
        self.send(id, packet);
    }

    /// The device abandons this connection.
    fn turn_away(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.device = None;
        }
    }

    /// A device sends a packet.
    pub fn send(&mut self, id: ConnectionId, packet: Vec<u8>) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_closed) {
            link.up.extend(&packet);
            self.oracle.sent(id, packet);
        }
    }

    pub fn links(&self) -> Vec<ConnectionId> {
        self.links.keys().copied().collect()
    }

    /// Gives the core some of the bytes that are on the way up.
    pub fn deliver_up(&mut self, id: ConnectionId) {
        let is_chopped = !self.is_calm && self.chance.percent(self.plan.chop);
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.is_paused || link.is_closed || link.up.is_empty() {
            return;
        }
        let most = link.up.len();
        let count = if is_chopped { 1 + self.chance.below(most) } else { most };
        let bytes: Vec<u8> = link.up.drain(..count).collect();
        link.given += count;
        self.trace.note(&bytes);
        let intake = self.call(Some(id), |broker, now| broker.received(id, &bytes, now), |_| ());
        self.set_paused(id, intake);
    }

    fn set_paused(&mut self, id: ConnectionId, intake: Intake) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_paused = intake == Intake::Paused;
            self.oracle.paused(id, link.is_paused);
        }
    }

    /// Gives the device some of the bytes that are on the way down, and sends its answers.
    pub fn deliver_down(&mut self, id: ConnectionId) {
        let is_chopped = !self.is_calm && self.chance.percent(self.plan.chop);
        let refusals = if self.is_calm { 0 } else { self.plan.refusals };
        let Some(link) = self.links.get_mut(&id) else { return };
        let most = link.down.len();
        if most > 0 {
            let count = if is_chopped { 1 + self.chance.below(most) } else { most };
            let bytes: Vec<u8> = link.down.drain(..count).collect();
            if let Some(device) = link.device {
                let chance = &mut self.chance;
                let answers = self.devices[device].take(&bytes, || chance.percent(refusals));
                for answer in answers {
                    self.send(id, answer);
                }
            }
        }
        self.finish(id);
    }

    /// Closes the connection once the broker has sent its last bytes and the device has received them.
    fn finish(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        if !link.down.is_empty() || !(link.is_closed || (link.is_closing && !self.broker.has_output(id))) {
            return;
        }
        self.hang_up(id);
    }

    /// Ends the connection for the device and for the broker.
    pub fn hang_up(&mut self, id: ConnectionId) {
        let Some(link) = self.links.remove(&id) else { return };
        if let Some(device) = link.device {
            self.devices[device].disconnected();
        }
        if !link.is_closed {
            self.close(id);
        }
    }

    /// Drops all connections and all bytes on their way.
    pub fn lose_links(&mut self) {
        for link in std::mem::take(&mut self.links).into_values() {
            if let Some(device) = link.device {
                self.devices[device].disconnected();
            }
        }
        self.gate.borrow_mut().waiting.clear();
    }

    fn close(&mut self, id: ConnectionId) {
        self.gate.borrow_mut().waiting.remove(&id);
        self.call(None, |broker, now| broker.closed(id, "closed", now), |oracle| oracle.closed(id));
    }

    pub fn stall(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.is_stalled = true;
        }
    }

    /// The way down takes bytes again: some, or any number.
    pub fn unstall(&mut self, id: ConnectionId) {
        let is_throttled = !self.is_calm && self.chance.percent(self.plan.throttle);
        let allowance = self.chance.between(1, 400);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.is_stalled = false;
        link.allowance = if is_throttled { usize::try_from(allowance).expect("small") } else { usize::MAX };
        if link.is_blocked && !link.is_closed {
            link.is_blocked = false;
            self.broker.writable(id);
        }
    }

    /// Makes one of the pending decisions, or all.
    pub fn decide(&mut self, all: bool) {
        loop {
            let waiting: Vec<ConnectionId> = self.gate.borrow().waiting.iter().copied().collect();
            if waiting.is_empty() {
                return;
            }
            let id = self.chance.pick(&waiting);
            self.gate.borrow_mut().waiting.remove(&id);
            self.broker.decide(id, Verdict::Granted);
            self.settle();
            if !all {
                return;
            }
        }
    }

    /// Lets time pass, from one deadline of the core to the next.
    pub fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_milliseconds(milliseconds);
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.tick();
            self.settle();
        }
        self.now = end;
        self.tick();
        self.settle();
    }

    /// Lets time pass in which the broker is held up, which it learns afterwards.
    pub fn hold_up(&mut self, milliseconds: u64) {
        let time = Duration::from_milliseconds(milliseconds);
        self.now = self.now + time;
        // As long as it was held up, but at most five seconds.
        self.oracle.respite = self.now + time.min(Duration::from_seconds(5));
        let clock = self.clock();
        self.broker.held_up(time, clock);
        self.tick();
        self.settle();
    }

    /// When something is due next, in the broker or below it.
    fn next_event(&self) -> Option<Time> {
        let deadline = self.broker.next_deadline().map(|deadline| self.epoch.to_world(deadline));
        let (mut done, mut batch) = (None, None);
        if let Some(disk) = &self.disk {
            done = disk.done_at();
            batch = self.broker.batch_due().map(|due| self.epoch.to_world(due));
        }
        deadline.into_iter().chain(done).chain(batch).min()
    }

    /// Lets time pass in the core, which continues pending work turn by turn until everything due is done.
    fn tick(&mut self) {
        let clock = self.clock();
        loop {
            let effects = self.take_turn(clock);
            effects.into_iter().for_each(|effect| self.apply(effect));
            if self.broker.next_deadline().is_none_or(|deadline| deadline > clock) {
                break;
            }
        }
        self.oracle.check_passed();
        self.trace.note_number(self.now.milliseconds());
    }

    /// Takes one turn. The oracle is told of each part separately, because their order matters.
    fn take_turn(&mut self, clock: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Self { broker, oracle, plan, now, .. } = self;
        // Small turns do one thing at a time.
        let timers = if plan.has_small_turns { 1 } else { TICK_BUDGET };
        let mut before = broker.statistics().clone();
        broker.tick_in_parts(clock, timers, |broker, part| {
            let after = broker.statistics().clone();
            oracle.begin_call(&before, &after, *now);
            if let Part::Connection(id) = part {
                oracle.processed(id, after.packets_received - before.packets_received);
                oracle.filters(id, broker.filters_undone(id));
            }
            before = after;
            while let Some(effect) = broker.next_effect() {
                oracle.ends(effect);
                effects.push(effect);
            }
            if part == Part::Timers {
                oracle.pass(&[], |client| broker.has_will(client));
            }
            oracle.end_call();
            report_unfinished(broker, oracle);
        });
        effects
    }

    /// Calls the core for something that may end connections.
    pub fn call_ending(&mut self, act: impl FnOnce(&mut Broker, Time)) {
        let before = self.broker.statistics().clone();
        let clock = self.clock();
        act(&mut self.broker, clock);
        let mut effects = Vec::new();
        while let Some(effect) = self.broker.next_effect() {
            effects.push(effect);
        }
        let after = self.broker.statistics().clone();
        self.oracle.begin_call(&before, &after, self.now);
        effects.iter().for_each(|&effect| self.oracle.ends(effect));
        self.oracle.end_call();
        report_unfinished(&self.broker, &mut self.oracle);
        self.trace.note_number(self.now.milliseconds());
        effects.into_iter().for_each(|effect| self.apply(effect));
    }

    /// Does what a server does, until no work is left. With small turns, the next event often happens before that.
    pub fn settle(&mut self) {
        let is_cut_short = self.plan.has_small_turns && !self.is_calm && self.chance.percent(80);
        let rounds = if is_cut_short { self.chance.below(4) } else { 10_000 };
        for _ in 0..rounds {
            if !self.take_round() {
                self.check_at_rest();
                return;
            }
        }
        assert!(is_cut_short, "the broker never becomes idle");
    }

    /// One round of a server, after checks of everything. Returns false if there was no work.
    fn take_round(&mut self) -> bool {
        if self.course.is_checked() {
            self.broker.check_invariants();
            self.check_budgets();
        }
        let has_written = self.serve_disk();
        let has_heard = self.hear_suspects();
        if !has_written && !has_heard && !self.broker.has_work() {
            return false;
        }
        self.write_dirty();
        while let Some(effect) = self.broker.next_effect() {
            self.oracle.ends(effect);
            self.apply(effect);
        }
        self.tick();
        true
    }

    /// Checks the budgets of work and of memory.
    fn check_budgets(&mut self) {
        self.broker.check_memory();
        // A turn takes at least one share, which is more than a small budget.
        let (taken, most) = (self.broker.heaviest_turn(), self.plan.limits.steps_per_turn);
        assert!(taken <= most || self.plan.has_small_turns, "a turn took {taken} steps of {most}");
    }

    /// Checks that nothing is missing, since no work is left.
    fn check_at_rest(&mut self) {
        self.oracle.rests();
        self.oracle.check_census(self.broker.census());
        self.check_store();
        for id in self.links() {
            self.check_link(id);
        }
    }

    fn write_dirty(&mut self) {
        let clock = self.clock();
        for id in self.broker.take_dirty(Vec::new()) {
            let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_closed) else { continue };
            let before = link.down.len();
            let broker = &mut self.broker;
            broker.write_to(id, link, clock).expect("a link does not fail");
            let bytes: Vec<u8> = link.down.iter().skip(before).copied().collect();
            self.trace.note(&bytes);
            self.heard.entry((self.generation, id)).or_default().extend_from_slice(&bytes);
            self.oracle.written(id, &bytes);
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Close(id) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.is_closing = true;
                    link.is_paused = false;
                }
                // A decision would come too late.
                self.gate.borrow_mut().waiting.remove(&id);
            }
            Effect::Drop(id) => {
                if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_closed) {
                    link.is_closed = true;
                    self.close(id);
                }
            }
            Effect::Resume(id) => {
                let intake = self.call(Some(id), |broker, now| broker.resume(id, now), |_| ());
                self.set_paused(id, intake);
            }
            Effect::Listen(id) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.is_suspect = true;
                }
            }
        }
    }

    /// Reads more from peers that seem to be silent, and lets the broker judge those that have sent nothing more.
    /// Returns false if there are none.
    fn hear_suspects(&mut self) -> bool {
        let is_suspect =
            |(&id, link): (&ConnectionId, &Link)| (link.is_suspect && !link.is_closed).then_some(id);
        let suspects: Vec<ConnectionId> = self.links.iter().filter_map(is_suspect).collect();
        for &id in &suspects {
            self.deliver_up(id);
            let Some(link) = self.links.get_mut(&id).filter(|link| link.up.is_empty() || link.is_paused)
            else {
                continue;
            };
            link.is_suspect = false;
            self.oracle.listening = Some(id);
            self.call_ending(|broker, now| broker.heard_out(id, now));
            self.oracle.listening = None;
        }
        !suspects.is_empty()
    }

    fn check_link(&mut self, id: ConnectionId) {
        let link = &self.links[&id];
        if link.is_closed {
            return;
        }
        let is_partial = link.up.is_empty() && !link.is_paused && self.oracle.backlog(id) == 0;
        if is_partial {
            self.oracle.check_keep_alive(id);
        }
        if !link.is_blocked && !self.oracle.is_withheld(id) {
            assert!(!self.broker.has_output(id), "bytes for {id:?} were forgotten");
            let is_store_busy = self.is_store_busy();
            self.oracle.check_at_rest(id, is_store_busy);
        }
    }
}

impl World {
    /// Whether anything is on its way or waits to be sent.
    pub fn is_moving(&self) -> bool {
        let on_links = self.links.values().any(|link| {
            let goes_up = !link.up.is_empty() && !link.is_closed && !link.is_closing;
            goes_up || !link.down.is_empty() || link.is_closed || link.is_closing
        });
        let at_devices =
            self.devices.iter().any(|device| device.link.is_some() && !device.acknowledgements.is_empty());
        on_links || at_devices || self.broker.has_work() || self.is_store_busy()
    }
}
