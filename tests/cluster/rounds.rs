//! Rounds of random faults: clients at several nodes, servers of NATS and nodes that are killed and stand still, and an
//! oracle that knows what every client was promised.
//!
//! `make clustercrash ROUNDS=n SEED=k` runs `n` rounds from seed `k` on; `cargo test` runs two. What the clients do and
//! which faults there are follows from the seed; when they meet does not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::nodes::Nodes;
use crate::participant::{Character, Client, Memory, number_of};
use crate::servers::Servers;
use crate::wire::{Connect, V5, V311, received, subscribe};

/// Rounds of a plain `cargo test`.
const ROUNDS: u64 = 2;
const NODES: usize = 3;
const SERVERS: usize = 3;
/// Faults in a round, at least and at most.
const FAULTS: (u64, u64) = (4, 8);
/// How long clients go on between two faults, in milliseconds, at most.
const CALM: u64 = 1_500;
/// How long something stands still, in milliseconds, at most.
const STILL: u64 = 6_000;
/// Longer than anything takes that is not stuck: servers choose leaders anew, and nodes wait for them.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time within which a broker that owes nothing sends its last packets.
const QUIET: Duration = Duration::from_millis(100);
/// No more messages than this are started between two faults.
const MESSAGES: usize = 1_500;

/// The result of some rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    faults: usize,
    messages: usize,
    deliveries: usize,
}

struct Round {
    seed: u64,
    servers: Servers,
    nodes: Nodes,
    chance: Chance,
    topics: Vec<String>,
    ledger: Ledger,
    /// Each stays at the node with its number modulo that of nodes.
    clients: Vec<Client>,
    outcome: Outcome,
}

impl Round {
    fn new(seed: u64) -> Self {
        let name = format!("round-{seed}");
        let mut chance = Chance::new(seed);
        let servers = Servers::start(&name, SERVERS);
        let nodes =
            Nodes::start_with(&name, &servers, NODES, "cluster_patience 120\nmax_queued_messages 0\n");
        let clients = characters(&mut chance).into_iter().enumerate();
        let clients = clients.map(|(index, character)| Client::new(Memory::new(index, character))).collect();
        let topics = (0..5).map(|number| format!("open/{number}/x")).collect();
        let (ledger, outcome) = (Ledger::default(), Outcome::default());
        Self { seed, servers, nodes, chance, topics, ledger, clients, outcome }
    }

    fn run(mut self) -> Outcome {
        for _ in 0..self.chance.between(FAULTS.0, FAULTS.1) {
            self.live(CALM);
            self.fail();
            self.outcome.faults += 1;
        }
        self.live(CALM);
        self.settle();
        (0..NODES).for_each(|node| self.check_retained(node));
        self.outcome.messages = self.ledger.published();
        self.outcome.deliveries = self.ledger.deliveries();
        self.outcome
    }

    /// Does something to a server or a node, and undoes it.
    fn fail(&mut self) {
        let (server, node) = (self.chance.below(SERVERS), self.chance.below(NODES));
        match self.chance.below(8) {
            0 | 1 => {
                self.note(&format!("server {server} is killed"));
                self.servers.kill(server);
                self.live(STILL);
                self.servers.restart(server);
            }
            2 | 3 => {
                self.note(&format!("server {server} stands still"));
                self.servers.freeze(server);
                self.live(STILL);
                self.servers.thaw(server);
            }
            4 => {
                let other = (server + 1) % SERVERS;
                self.note(&format!("servers {server} and {other} are killed"));
                [server, other].into_iter().for_each(|number| self.servers.kill(number));
                self.live(STILL / 2);
                [server, other].into_iter().for_each(|number| self.servers.start_again(number));
            }
            5 => {
                self.note("all servers are killed");
                (0..SERVERS).for_each(|number| self.servers.kill(number));
                self.live(STILL / 4);
                (0..SERVERS).for_each(|number| self.servers.start_again(number));
            }
            6 => {
                self.note(&format!("node {node} stands still"));
                self.nodes.node(node).signal("STOP");
                self.live(STILL);
                self.nodes.node(node).signal("CONT");
            }
            _ => {
                self.note(&format!("node {node} is killed"));
                self.nodes.kill(node);
                for client in self.clients.iter_mut().skip(node).step_by(NODES) {
                    client.lose_session(&mut self.ledger);
                }
                self.nodes.restart(node);
            }
        }
    }

    fn note(&self, what: &str) {
        println!("round {}: {what}", self.seed);
    }

    /// Clients go on for a while, whose length follows from the seed.
    #[expect(clippy::disallowed_methods, reason = "the brokers live in real time")]
    fn live(&mut self, longest: u64) {
        let end = Instant::now() + Duration::from_millis(self.chance.between(0, longest));
        let messages = self.ledger.published() + MESSAGES;
        while Instant::now() < end {
            let index = self.chance.below(self.clients.len());
            let is_enough = self.ledger.published() > messages;
            self.act(index, is_enough);
            self.turn_all();
        }
    }

    fn port(&self, index: usize) -> u16 {
        self.nodes.node(index % NODES).port()
    }

    /// One action of one client.
    fn act(&mut self, index: usize, is_enough: bool) {
        let port = self.port(index);
        let client = &mut self.clients[index];
        if !client.is_connected() {
            if self.chance.percent(30) {
                client.connect(port, self.chance.percent(5));
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

    /// All clients connect and stay until everything that was begun is done, and no promised message is missing.
    #[expect(clippy::disallowed_methods, reason = "the brokers live in real time")]
    fn settle(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.is_settled() {
            if Instant::now() > end {
                let clients: Vec<String> = self.clients.iter().map(Client::describe).collect();
                let missing = self.ledger.missing();
                panic!("never done:\n{}\n{}", clients.join("\n"), missing.join("\n"));
            }
            for index in 0..self.clients.len() {
                let port = self.port(index);
                let client = &mut self.clients[index];
                if !client.is_connected() {
                    client.connect(port, false);
                }
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

    /// The retained message of each topic is the last one acknowledged, or one sent after it.
    #[expect(clippy::disallowed_methods, reason = "the brokers live in real time")]
    fn check_retained(&mut self, node: usize) {
        let mut link = Link::open(self.nodes.node(node).port());
        link.send(&Connect::new(V5, &format!("auditor {node}")).bytes());
        link.send(&subscribe(V5, 1, &[], &[("retained/#", 1)]));
        let mut seen = BTreeMap::new();
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
                    panic!("node {node}: {topic} has {:?} retained, not {expected}", of(topic));
                }
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }
}

impl Drop for Round {
    #[expect(clippy::disallowed_methods, reason = "a reader needs the story")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = std::env::temp_dir().join(format!("brooklet-cluster-round-{}", self.seed));
            let logs = (0..NODES).map(|node| self.nodes.lines(node).join("\n"));
            let text = [self.ledger.story().join("\n"), logs.collect::<Vec<_>>().join("\n\n")].join("\n\n");
            let _ = std::fs::write(&path, text);
            println!("the round {} has failed; its story is in {}", self.seed, path.display());
        }
    }
}

/// The participants: sessions that outlive their connections in both versions, and others.
fn characters(chance: &mut Chance) -> Vec<Character> {
    let mut characters = Vec::new();
    for (level, is_persistent, count) in [(V311, true, 3), (V5, true, 3), (V311, false, 2), (V5, false, 2)] {
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
                shared: None,
            });
        }
    }
    characters
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

#[test]
fn what_was_acknowledged_outlives_servers_and_nodes() {
    let (first, count) = (number("SEED").unwrap_or(0), number("ROUNDS").unwrap_or(ROUNDS));
    let mut sum = Outcome::default();
    for seed in first..first + count {
        let Outcome { faults, messages, deliveries } = Round::new(seed).run();
        sum.faults += faults;
        sum.messages += messages;
        sum.deliveries += deliveries;
    }
    println!("{count} rounds from {first} on: {sum:?}");
    assert!(sum.deliveries > 100 * sum.faults, "the rounds are about something");
}
