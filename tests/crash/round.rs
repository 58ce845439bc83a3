//! One round: a dozen clients, and several brokers one after another on one directory, all but the last of them
//! killed.

use std::time::{Duration, Instant};

use crate::broker::Place;
use crate::chance::Chance;
use crate::client::{Character, Client, Memory, number_of};
use crate::disk::{Cut, Disk};
use crate::ledger::Ledger;
use crate::link::Link;
use crate::server::Server;
use crate::wire::{Connect, V5, V311, received, subscribe};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time within which a broker that owes nothing sends its last packets.
const QUIET: Duration = Duration::from_millis(30);
/// The number of brokers before the last one, at least and at most.
const LIVES: (u64, u64) = (3, 5);
/// The longest life of a broker under load in microseconds, and of one under `strace`.
const LIFE: u64 = 150_000;
const LIFE_TRACED: u64 = 500_000;
/// The longest life of a broker that is killed during the start, or soon after, likewise.
const START: u64 = 30_000;
const START_TRACED: u64 = 150_000;
/// An idle broker copies its journal into the file; how long, in milliseconds, it is left alone for that.
const IDLE: (u64, u64) = (950, 1_200);
/// The states that a power cut can leave that are tried each time, in addition to the one that the round continues
/// with.
const FUTURES: usize = 3;
/// No more messages than this are started in one life, so that the last life can deliver what is left.
const MESSAGES_A_LIFE: usize = 600;

/// The result of a round.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub kills: usize,
    /// States after a power cut that were tried.
    pub cuts: usize,
    /// Those with unflushed changes of the file itself, as a checkpoint makes them.
    pub cuts_in_file: usize,
    /// Reports of damage that a kill or a power cut caused.
    pub false_alarms: usize,
    pub messages: usize,
    pub deliveries: usize,
}

impl Outcome {
    pub const fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.cuts += other.cuts;
        self.cuts_in_file += other.cuts_in_file;
        self.false_alarms += other.false_alarms;
        self.messages += other.messages;
        self.deliveries += other.deliveries;
    }
}

pub struct Round {
    name: String,
    place: Place,
    configuration: String,
    chance: Chance,
    topics: Vec<String>,
    ledger: Ledger,
    clients: Vec<Client>,
    outcome: Outcome,
}

impl Round {
    /// `name` separates its directory from those of other rounds with the same seed.
    pub fn new(name: &str, seed: u64) -> Self {
        let name = format!("{name}-{seed}");
        let mut chance = Chance::new(seed);
        let delay = chance.pick(&[0, 0, 1, 10]);
        let configuration = format!("max_queued_messages 0\ncommit_delay {delay}\n");
        let topics = (0..5).map(|number| format!("open/{number}/x"));
        let topics = topics.chain((0..2).map(|number| format!("shared/{number}"))).collect();
        let clients = characters(&mut chance).into_iter().enumerate();
        let clients = clients.map(|(index, character)| Client::new(Memory::new(index, character))).collect();
        Self {
            place: Place::new(&name, &configuration),
            name,
            configuration,
            chance,
            topics,
            ledger: Ledger::default(),
            clients,
            outcome: Outcome::default(),
        }
    }

    /// Kills broker after broker. Everything that the process has written is there.
    pub fn run(mut self) -> Outcome {
        for _ in 0..self.chance.between(LIVES.0, LIVES.1) {
            if self.chance.percent(25) {
                self.start_and_kill();
            }
            self.start_live_and_end();
        }
        self.finish()
    }

    /// Cuts the power again and again: of the data that the process has written, the disk has what was flushed, and
    /// any part of the rest. Several possible states are tried, each with clients that know the same.
    pub fn run_with_power_cuts(mut self, hears_flushes: bool) -> Outcome {
        self.place.is_traced = true;
        for _ in 0..self.chance.between(LIVES.0, LIVES.1) {
            let mut disk = Disk::of(&self.place.data());
            if self.chance.percent(25) {
                self.start_and_kill();
            } else {
                self.start_live_and_end();
            }
            let directory = self.place.data();
            let text = directory.to_str().expect("it is ours");
            disk.follow(&self.place.read_trace(), text, hears_flushes);
            disk.check_against(&directory);
            self.try_futures(&disk);
            let cut = self.chance.pick(&Cut::ALL);
            disk.write_after(cut, &mut self.chance, &directory);
        }
        self.place.is_traced = false;
        self.finish()
    }

    /// Finishes the round from several of the states that a power cut can leave.
    fn try_futures(&mut self, disk: &Disk) {
        let in_journal = disk.unflushed(|name| name.ends_with("-wal"));
        let in_file = disk.unflushed(|name| !name.ends_with("-wal"));
        for _ in 0..if disk.is_certain() { 0 } else { FUTURES } {
            let cut = self.chance.pick(&Cut::ALL);
            let seed = self.chance.next();
            let future = self.fork();
            disk.write_after(cut, &mut Chance::new(seed), &future.place.data());
            let note =
                format!("{cut:?}, not flushed: {in_journal} bytes of the journal, {in_file} of the file");
            future.place.save("cut", &[note]);
            self.outcome.cuts += 1;
            self.outcome.cuts_in_file += usize::from(in_file > 0);
            self.outcome.false_alarms += future.finish().false_alarms;
        }
    }

    /// The same clients with the same memory, and a directory of their own.
    fn fork(&mut self) -> Self {
        let clients = self.clients.iter().map(|client| Client::new(client.memory.clone()));
        Self {
            name: self.name.clone(),
            place: Place::new(&format!("{}-future", self.name), &self.configuration),
            configuration: self.configuration.clone(),
            chance: Chance::new(self.chance.next()),
            topics: self.topics.clone(),
            ledger: self.ledger.clone(),
            clients: clients.collect(),
            outcome: Outcome::default(),
        }
    }

    /// Runs a last broker until everything is done.
    fn finish(mut self) -> Outcome {
        let server = self.place.start();
        self.hear_alarms(&server);
        self.check_retained(&server);
        self.settle(&server);
        self.check_retained(&server);
        self.place.save_log(&server.lines_with(""));
        self.outcome.messages = self.ledger.published();
        self.outcome.deliveries = self.ledger.deliveries();
        self.outcome
    }

    /// Counts the damage that a freshly started broker reports; there must be none.
    fn hear_alarms(&mut self, server: &Server) {
        self.outcome.false_alarms += server.lines_with(" damaged: ").len();
    }

    fn start_and_kill(&mut self) {
        self.outcome.kills += 1;
        let longest = if self.place.is_traced { START_TRACED } else { START };
        self.place.start_and_kill(Duration::from_micros(self.chance.between(0, longest)));
    }

    fn start_live_and_end(&mut self) {
        let server = self.place.start();
        self.hear_alarms(&server);
        self.check_retained(&server);
        self.live(&server);
        if self.place.is_traced && self.chance.percent(30) {
            std::thread::sleep(Duration::from_millis(self.chance.between(IDLE.0, IDLE.1)));
        }
        self.end(server);
    }

    /// A life under load, whose length follows from the seed.
    #[expect(clippy::disallowed_methods, reason = "the broker lives in real time")]
    fn live(&mut self, server: &Server) {
        let longest = if self.place.is_traced { LIFE_TRACED } else { LIFE };
        let end = Instant::now() + Duration::from_micros(self.chance.between(0, longest));
        let messages = self.ledger.published() + MESSAGES_A_LIFE;
        while Instant::now() < end {
            let index = self.chance.below(self.clients.len());
            let is_enough = self.ledger.published() > messages;
            self.act(index, server.port(), is_enough);
            self.turn_all();
        }
    }

    /// One action of one client.
    fn act(&mut self, index: usize, port: u16, is_enough: bool) {
        let client = &mut self.clients[index];
        let may_begin_anew = client.memory.character.shared.is_none();
        if !client.is_connected() {
            if self.chance.percent(30) {
                client.connect(port, may_begin_anew && self.chance.percent(5));
            }
        } else if self.chance.percent(2) {
            client.leave(self.chance.percent(50), &mut self.ledger);
        } else if !is_enough {
            client.act(&mut self.chance, &self.topics, &mut self.ledger);
        }
    }

    /// All clients process what has come, and answer some of it.
    fn turn_all(&mut self) {
        let mut is_idle = true;
        for client in &mut self.clients {
            let answers = self.chance.below(4);
            is_idle &= !client.turn(answers, &mut self.ledger);
        }
        if is_idle {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Kills the broker, or sometimes asks it to end.
    fn end(&mut self, server: Server) {
        let lines = if cfg!(feature = "system") && self.chance.percent(10) {
            server.signal("TERM");
            server.wait_for_end().1
        } else {
            self.outcome.kills += 1;
            server.signal("KILL");
            server.wait_for_end().1
        };
        self.place.save_log(&lines);
        for client in &mut self.clients {
            client.mourn(&mut self.ledger);
        }
        self.ledger.broker_died();
    }

    /// All clients connect and stay until everything that was begun is done, and no promised message is missing.
    #[expect(clippy::disallowed_methods, reason = "the broker lives in real time")]
    fn settle(&mut self, server: &Server) {
        let end = Instant::now() + PATIENCE;
        while !self.is_settled() {
            if Instant::now() > end {
                self.place.save_log(&server.lines_with(""));
                let clients: Vec<String> = self.clients.iter().map(Client::describe).collect();
                let missing = self.ledger.missing();
                panic!("never done:\n{}\n{}", clients.join("\n"), missing.join("\n"));
            }
            for client in self.clients.iter_mut().filter(|client| !client.is_connected()) {
                client.connect(server.port(), false);
            }
            self.turn_all();
        }
        let end = Instant::now() + QUIET;
        while Instant::now() < end {
            self.turn_all();
        }
    }

    fn is_settled(&self) -> bool {
        self.clients.iter().all(Client::is_settled) && self.ledger.missing().is_empty()
    }

    /// The retained message is the last one acknowledged, or one sent after it.
    #[expect(clippy::disallowed_methods, reason = "the broker lives in real time")]
    fn check_retained(&mut self, server: &Server) {
        let mut link = Link::open(server.port());
        link.send(&Connect::new(V5, "auditor").bytes());
        link.send(&subscribe(V5, 1, &[], &[("retained/#", 1)]));
        let mut seen = std::collections::BTreeMap::new();
        let end = Instant::now() + PATIENCE;
        let mut is_subscribed = false;
        loop {
            for packet in link.packets() {
                is_subscribed |= packet[0] == 0x90;
                if packet[0] >> 4 == 3 {
                    let message = received(V5, &packet);
                    seen.insert(message.topic, number_of(&message.payload));
                }
            }
            let of = |topic: &str| seen.get(topic).copied().flatten();
            let wrong =
                self.ledger.retained_topics().find(|topic| !self.ledger.may_be_retained(topic, of(topic)));
            match wrong {
                None if is_subscribed => return,
                Some(topic) if Instant::now() > end => {
                    let expected = self.ledger.describe_retained(topic);
                    panic!("{topic} has {:?} retained, not {expected}", of(topic));
                }
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the round {} has failed", self.name);
            self.place.save("story", self.ledger.story());
        }
    }
}

/// The participants: persistent sessions in both versions, members of shared subscriptions, and publishers without a
/// session.
fn characters(chance: &mut Chance) -> Vec<Character> {
    let mut characters = Vec::new();
    for (level, is_persistent, shared, count) in [
        (V311, true, None, 3),
        (V5, true, None, 3),
        (V311, false, None, 1),
        (V5, false, None, 1),
        (V5, true, Some("$share/group/shared/#"), 2),
        (V5, true, Some("$share/other/shared/+"), 2),
    ] {
        for _ in 0..count {
            let index = characters.len();
            let filters = (0..5).map(|number| match (index + number) % 3 {
                // Each covers only one topic, so that no two overlap.
                0 => format!("open/{number}/x"),
                1 => format!("open/{number}/#"),
                _ => format!("+/{number}/x"),
            });
            characters.push(Character {
                name: format!("client-{index}"),
                level,
                is_persistent,
                receive_maximum: (chance.percent(50)).then(|| chance.pick(&[1, 3, 10])),
                filters: filters.chain([format!("retained/{}/+", (index + 1) % 3)]).collect(),
                shared: shared.map(str::to_owned),
            });
        }
    }
    characters
}
