//! Two brokers and a bridge between them: clients publish to the one and subscribe to the other, and either or both
//! are killed again and again. In the end everything that was acknowledged has arrived, messages of QoS 2 once.

use std::time::{Duration, Instant};

use crate::broker::Place;
use crate::chance::Chance;
use crate::client::{Character, Client, Memory};
use crate::full::{LEFT, Owed, SmallPlace, has_room_again, leave_owner, owner, publish_all, take_all};
use crate::ledger::Ledger;
use crate::peer::Peer;
use crate::relay::Relay;
use crate::round::Outcome;
use crate::server::Server;
use crate::wire::{V5, V311};

/// Within this time something arrives, unless it is stuck, a few attempts of the bridge to connect included.
const PATIENCE: Duration = Duration::from_secs(40);
/// How many times brokers are killed, at least and at most.
const KILLS: (u64, u64) = (3, 6);
/// The longest time under load before brokers are killed and before they are started again, in microseconds.
const LIFE: u64 = 1_500_000;
const DEATH: u64 = 600_000;
/// Messages take their time in the end, so there are not too many: for each that is in flight at a time, and in all.
const MESSAGES_IN_TURN: usize = 500;
const MESSAGES_MAXIMUM: usize = 3_000;

/// The broker that has the bridge, and the other one.
const NEAR: usize = 0;
const FAR: usize = 1;

/// The configuration of a bridge to this port.
fn bridge(port: u16, version: &str) -> String {
    format!(
        "max_queued_messages 0\nmax_queued_bytes 0\nconnection hall\naddress 127.0.0.1:{port}\nrestart_timeout 1\n\
         bridge_protocol_version {version}\ntopic one/# out 1\ntopic two/# out 2\ntopic full/# out 2\n"
    )
}

/// One round.
pub struct Round {
    name: String,
    places: [Place; 2],
    servers: [Option<Server>; 2],
    relay: Relay,
    chance: Chance,
    ledger: Ledger,
    /// Those of each broker.
    clients: [Vec<Client>; 2],
    messages_maximum: usize,
    outcome: Outcome,
}

impl Round {
    pub fn new(seed: u64) -> Self {
        let (name, relay) = (format!("bridge-{seed}"), Relay::open());
        let mut chance = Chance::new(seed);
        let delay = format!("commit_delay {}\n", chance.pick(&[0, 0, 1, 10]));
        let near = delay.clone() + &bridge(relay.port(), chance.pick(&["mqttv311", "mqttv50"]));
        let window = chance.pick(&[1, 5, 20]);
        let far = format!("{delay}max_queued_messages 0\nmax_inflight_messages {window}\n");
        let client = |index, level, filter: Option<&str>| {
            Client::new(Memory::new(
                index,
                Character {
                    name: format!("client-{index}"),
                    level,
                    is_persistent: true,
                    receive_maximum: None,
                    filters: Vec::new(),
                    shared: filter.map(str::to_owned),
                },
            ))
        };
        Self {
            places: [Place::new(&format!("{name}-near"), &near), Place::new(&format!("{name}-far"), &far)],
            name,
            servers: [None, None],
            relay,
            chance,
            ledger: Ledger::of_bridge(),
            clients: [
                [V311, V5, V5]
                    .into_iter()
                    .zip(0..)
                    .map(|(level, index)| client(index, level, None))
                    .collect(),
                [V311, V5]
                    .into_iter()
                    .zip(3..)
                    .map(|(level, index)| client(index, level, Some("#")))
                    .collect(),
            ],
            messages_maximum: MESSAGES_MAXIMUM.min(window * MESSAGES_IN_TURN),
            outcome: Outcome::default(),
        }
    }

    pub fn run(mut self) -> Outcome {
        self.start(FAR);
        self.pass_until("the subscribers are there", |this| {
            this.clients[FAR].iter().all(Client::is_settled) && this.ledger.is_subscribed(3, "#")
        });
        for _ in 0..self.chance.between(KILLS.0, KILLS.1) {
            self.start(NEAR);
            self.start(FAR);
            self.live(LIFE);
            let killed: &[usize] = self.chance.pick(&[&[NEAR][..], &[FAR], &[NEAR, FAR], &[FAR, NEAR]]);
            killed.iter().for_each(|&place| self.kill(place));
            self.live(DEATH);
        }
        self.start(NEAR);
        self.start(FAR);
        self.pass_until("everything has arrived", |this| {
            this.clients.iter().flatten().all(Client::is_settled) && this.ledger.missing().is_empty()
        });
        for place in [NEAR, FAR] {
            self.kill(place);
        }
        self.outcome.messages = self.ledger.published();
        self.outcome.deliveries = self.ledger.deliveries();
        self.outcome
    }

    fn start(&mut self, place: usize) {
        if self.servers[place].is_some() {
            return;
        }
        let server = self.places[place].start();
        self.outcome.false_alarms += server.lines_with(" damaged: ").len();
        if place == FAR {
            self.relay.lead_to(server.port());
        }
        self.servers[place] = Some(server);
    }

    fn kill(&mut self, place: usize) {
        let Some(server) = self.servers[place].take() else { return };
        self.outcome.kills += 1;
        server.signal("KILL");
        self.places[place].save_log(&server.wait_for_end().1);
        for client in &mut self.clients[place] {
            client.mourn(&mut self.ledger);
        }
        if place == NEAR {
            self.ledger.broker_died();
        }
    }

    /// Lets clients publish for some time, as far as their broker serves.
    #[expect(clippy::disallowed_methods, reason = "the brokers live in real time")]
    fn live(&mut self, longest: u64) {
        let end = Instant::now() + Duration::from_micros(self.chance.between(0, longest));
        while Instant::now() < end {
            self.turn();
            let index = self.chance.below(self.clients[NEAR].len());
            if self.servers[NEAR].is_some() && self.ledger.published() < self.messages_maximum {
                let (topic, qos) =
                    self.chance.pick(&[("one/x", 1), ("two/x", 1), ("two/x", 2), ("two/y/z", 2)]);
                let length = if self.chance.percent(5) { 20_000 } else { self.chance.below(500) };
                self.clients[NEAR][index].publish_to(topic, qos, length, &mut self.ledger);
            }
        }
    }

    /// All clients connect, process what has come, and answer.
    fn turn(&mut self) {
        let mut is_idle = true;
        for place in [NEAR, FAR] {
            let Some(server) = &self.servers[place] else { continue };
            for client in &mut self.clients[place] {
                if !client.is_connected() {
                    client.connect(server.port(), false);
                }
                is_idle &= !client.turn(self.chance.below(8), &mut self.ledger);
            }
        }
        if is_idle {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the brokers live in real time")]
    fn pass_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) {
        let (mut end, mut arrived) = (Instant::now() + PATIENCE, self.ledger.deliveries());
        while !is_done(self) {
            if self.ledger.deliveries() > arrived {
                (end, arrived) = (Instant::now() + PATIENCE, self.ledger.deliveries());
            }
            if Instant::now() > end {
                let clients: Vec<String> = self.clients.iter().flatten().map(Client::describe).collect();
                panic!("never: {what}\n{}\n{}", clients.join("\n"), self.ledger.missing().join("\n"));
            }
            self.turn();
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the round {} has failed", self.name);
            for (place, server) in self.places.iter().zip(&self.servers) {
                let lines = server.as_ref().map(|server| server.lines_with(""));
                place.save_log(&lines.unwrap_or_default());
            }
            self.places[NEAR].save("story", self.ledger.story());
        }
    }
}

/// The disk of the broker with the bridge is full while the other broker is away. What was acknowledged outlives that
/// and a kill, and the messages that have arrived give their space back.
#[test]
fn what_a_bridge_has_queued_outlives_a_full_disk() {
    let relay = Relay::open();
    let Some(mut small) = SmallPlace::mount("bridge", &bridge(relay.port(), "mqttv50")) else { return };
    let mut far = Place::new("full-bridge-far", "max_queued_messages 0\nmax_queued_bytes 0\n");
    let mut owed = Owed::new();
    let server = small.serve();
    small.disk.leave(LEFT);
    for qos in [1, 2] {
        publish_all(&server, qos, &mut owed);
    }
    assert!(!owed.is_empty(), "something was acknowledged before the disk was full");
    small.disk.fill();
    small.end(server, "KILL");
    let server = small.serve();
    let remote = far.start();
    leave_owner(&remote, "full/#");
    relay.lead_to(remote.port());
    take_all(&mut Peer::connect_as(remote.address(), &owner()), &mut owed);
    small.disk.empty();
    has_room_again(&server);
    small.end(server, "KILL");
}
