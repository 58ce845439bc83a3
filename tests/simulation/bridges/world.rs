//! Both brokers with everything around them.

use std::rc::Rc;

use brooklet::base::time::{Duration, Time};
use brooklet::bridge::machine::Condition;
use brooklet::bridge::topics::Topics;
use brooklet::core::broker::LocalSide;
use brooklet::core::journal::Pace;
use brooklet::core::limits::Limits;
use brooklet::core::listener::{ListenerOptions, QueueOptions};
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{Connect, Disconnect, Packet, Properties, ProtocolVersion, QoS, ReasonCode};
use brooklet::settings::{BridgeTopic, QueueDrop};

use super::client::{Client, Heard};
use super::joint::{Joint, Link};
use super::ledger::{Disturbances, Ledger, Message};
use super::node::{BRIDGE, Beginning, Node, Other, Owner};
use super::plan::{FAR, NEAR, Plan, REMOTE_CLIENT, STATE};
use crate::chance::{Chance, Trace};

/// The bytes that may be on the way to a client.
const CLIENT_ROOM: usize = 1 << 20;
/// The most messages that a publisher has in flight.
const PUBLISHER_WINDOW: usize = 20;

pub struct World {
    pub now: Time,
    pub chance: Chance,
    pub plan: Plan,
    pub nodes: [Node; 2],
    pub joint: Joint,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    pub trace: Trace,
    pub is_told: bool,
    pub is_calm: bool,
    /// What the subscriber of each broker has last seen of the state of the bridge.
    pub states: [Option<Vec<u8>>; 2],
    /// Whether the far session of the bridge has its subscriptions.
    has_far_session: bool,
    /// How often the bridge had connected when the session was lost.
    lost_at: u64,
}

fn options(plan: &Plan) -> Rc<ListenerOptions> {
    let queue = &plan.settings.queue;
    let drops_oldest = queue.drops == QueueDrop::Oldest;
    let queue = QueueOptions { length: queue.length, drops_oldest, age: queue.age };
    let options = ListenerOptions::within(&Limits::default());
    Rc::new(ListenerOptions { packet_size: usize::MAX, queue: Some(queue), ..options })
}

fn beginning(plan: &Plan, place: usize) -> Beginning {
    let pace = Pace {
        holds: true,
        urgent: Duration::from_milliseconds(plan.lazy / 10),
        lazy: Duration::from_milliseconds(plan.lazy),
    };
    let bridge = (place == NEAR).then(|| {
        let client_identifier = plan.settings.local.client_identifier.clone();
        let topics = Topics::new(&plan.settings.topics);
        let filters: Vec<Box<str>> =
            topics.wanted_here().iter().map(|wanted| wanted.filter.clone()).collect();
        let subscribed = filters.iter().map(ToString::to_string).collect();
        let changes_maximum = plan.settings.queue.retained_changes;
        (
            LocalSide { client_identifier, listener: BRIDGE, filters, changes_maximum },
            options(plan),
            subscribed,
        )
    });
    let qos = if place == FAR { plan.far_qos } else { QoS::ExactlyOnce };
    Beginning { limits: plan.limits[place].clone(), pace, slowest_disk: plan.slowest_disk, qos, bridge }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let client = |node: usize, number: usize| {
            let version = if number == 1 { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
            Client::new(format!("c{node}{number}"), node, number == 0, version)
        };
        let clients = [NEAR, FAR].into_iter().flat_map(|node| (0..3).map(move |number| client(node, number)));
        Self {
            now: Time::ZERO,
            nodes: [NEAR, FAR].map(|place| Node::new(beginning(&plan, place), seed + place as u64 * 7_919)),
            joint: Joint::new(Rc::clone(&plan.settings), Limits::default().packet_size, plan.room, seed),
            clients: clients.collect(),
            ledger: Ledger::new(plan.far_qos),
            trace: Trace::default(),
            is_told: false,
            is_calm: false,
            states: [None, None],
            has_far_session: false,
            lost_at: 0,
            chance,
            plan,
        }
    }

    /// The message of a random client, forwarded or not.
    pub fn publish(&mut self) {
        let index = self.chance.below(self.plan.settings.topics.len());
        let rule = self.plan.settings.topics[index].clone();
        let from = self.chance.pick(&[NEAR, FAR]);
        let suffix = self.chance.pick(&["a", "b/c"]);
        let number = self.chance.between(1, 2);
        let most = self.plan.highest_qos;
        let qos = self.chance.between(0, most);
        let qos = QoS::from_u8(u8::try_from(qos).expect("0 to 2")).expect("0 to 2");
        let retain = self.chance.percent(self.plan.retain);
        let is_large = self.chance.percent(self.plan.large_payload);
        let largest = self.plan.largest_payload;
        let length = if is_large { self.chance.between(1_000, largest) } else { self.chance.between(8, 60) };
        let length = usize::try_from(length).expect("small");
        let publisher = from * 3 + usize::try_from(number).expect("small");
        self.publish_by(publisher, &rule, suffix, qos, retain, length);
    }

    /// Publishes a message below a rule, if the client can.
    pub fn publish_by(
        &mut self,
        publisher: usize,
        rule: &BridgeTopic,
        suffix: &str,
        qos: QoS,
        retain: bool,
        length: usize,
    ) {
        let from = self.clients[publisher].node;
        let client = &mut self.clients[publisher];
        let Some(wire) = client.wire.filter(|_| client.is_accepted) else { return };
        let window = PUBLISHER_WINDOW.min(self.plan.limits[from].receive_maximum.into());
        if qos != QoS::AtMostOnce && client.in_flight() >= window {
            return;
        }
        // The subscriber of the far broker gets no higher QoS.
        let qos = if from == FAR { qos.min(self.plan.far_qos) } else { qos };
        let length = if from == FAR { length.min(self.plan.limits[FAR].packet_size - 100) } else { length };
        let names = [&rule.local_prefix, &rule.remote_prefix].map(|prefix| name(prefix, rule, suffix));
        let is_forwarded = if from == NEAR { rule.direction.is_out() } else { rule.direction.is_in() };
        let away = is_forwarded.then(|| (names[1 - from].clone(), qos.min(rule.qos)));
        let settings = &self.plan.settings;
        let keeps_both = !settings.local.is_clean && !settings.remote.is_clean;
        let is_promised = match from {
            NEAR => !settings.local.is_clean,
            _ => !settings.remote.is_clean && self.has_far_session,
        };
        let topic = names[from].clone();
        let number = self.ledger.publish(Message {
            from,
            publisher,
            topic: topic.clone(),
            away,
            qos,
            retain,
            is_acknowledged: false,
            is_promised,
            is_exact: keeps_both,
            copies: [0, 0],
        });
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(length.max(8), b'.');
        let bytes = client.publish(number, &topic, &payload, qos, retain);
        self.tell(format_args!("{publisher} publishes {number} {topic} {qos:?}"));
        if let Some(wire) = self.nodes[from].wires.get_mut(&wire) {
            wire.up.extend(bytes);
        }
    }

    /// Ends one broker's process, or both.
    pub fn crash(&mut self, places: &[usize]) {
        for &place in places {
            if !self.nodes[place].is_up() {
                continue;
            }
            self.tell(format_args!("broker {place} crashes"));
            let longest = if self.chance.percent(20) { 40_000 } else { 500 };
            let down = self.chance.between(0, longest);
            let until = self.now + Duration::from_milliseconds(down);
            for client in self.clients.iter_mut().filter(|client| client.node == place) {
                client.disconnected();
            }
            self.nodes[place].crash(until, &mut self.chance);
            let Self { joint, nodes: [_, far], now, chance, .. } = self;
            if place == NEAR {
                joint.crash(far, until, *now, chance);
            } else {
                joint.far_has_crashed(*now, chance);
                let window = chance.pick(&self.plan.windows);
                far.beginning.limits.receive_maximum = window;
                self.plan.limits[FAR].receive_maximum = window;
            }
        }
    }

    pub fn cut(&mut self) {
        self.tell(format_args!("the link is cut"));
        let Self { joint, nodes: [_, far], now, chance, .. } = self;
        joint.cut(far, *now, chance);
    }

    pub fn block(&mut self) {
        let blocked = self.chance.pick(&[[true, false], [false, true], [true, true]]);
        self.tell(format_args!("the link is blocked: {blocked:?}"));
        self.link().is_blocked = blocked;
    }

    pub const fn link(&mut self) -> &mut Link {
        &mut self.joint.link
    }

    /// Another client takes the Client Identifier of the bridge in the far broker, with a new session, and leaves.
    pub fn lose_session(&mut self) {
        if !self.nodes[FAR].is_up() {
            return;
        }
        self.tell(format_args!("the far session is lost"));
        let connect = Connect {
            version: ProtocolVersion::V311,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            properties: Properties::default(),
            client_identifier: REMOTE_CLIENT,
            will: None,
            user_name: None,
            password: None,
        };
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(ProtocolVersion::V311, &mut bytes);
        let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        disconnect.encode(ProtocolVersion::V311, &mut bytes);
        let id = self.nodes[FAR].accept(Owner::Gone(self.now), CLIENT_ROOM, self.now);
        if let Some(wire) = self.nodes[FAR].wires.get_mut(&id) {
            wire.up.extend(bytes);
        }
        self.lost_at = self.joint.connects;
        self.has_far_session = false;
        self.settle();
        self.ledger.lose_session();
    }

    /// Moves everything that can move at this moment.
    pub fn settle(&mut self) {
        for _ in 0..20_000 {
            let mut has_moved = self.restart();
            for place in [NEAR, FAR] {
                has_moved |= self.serve(place);
            }
            if self.nodes[NEAR].is_up() {
                let Self { joint, nodes: [near, far], now, chance, .. } = self;
                has_moved |= joint.run(near, far, *now, chance);
            }
            has_moved |= self.serve_wires();
            if !has_moved {
                return self.check_settled();
            }
        }
        panic!("the brokers never become idle: {:?}", self.joint.lines);
    }

    /// Starts brokers whose time has come. Returns whether there was one.
    fn restart(&mut self) -> bool {
        let mut has_started = false;
        for node in &mut self.nodes {
            if node.down_until.is_some_and(|until| until <= self.now) {
                node.start(self.now, &mut self.chance);
                has_started = true;
            }
        }
        // The bridge prepares its session before clients arrive.
        let is_prepared = self.joint.machine.status().condition != Condition::Preparing;
        for (place, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| client.wire.is_none())
        {
            let node = &mut self.nodes[client.node];
            if node.is_up() && (client.node == FAR || is_prepared) {
                let id = node.accept(Owner::Client(place), CLIENT_ROOM, self.now);
                let bytes = client.connect(id);
                if let Some(wire) = node.wires.get_mut(&id) {
                    wire.up.extend(bytes);
                }
                has_started = true;
            }
        }
        has_started
    }

    fn serve(&mut self, place: usize) -> bool {
        let mut others = Vec::new();
        let Self { joint, nodes, now, chance, .. } = self;
        let node = &mut nodes[place];
        if !node.is_up() {
            return false;
        }
        let has_moved = node.turn(*now, chance, &mut others);
        // In the far broker, connections without a wire are over.
        for other in others.into_iter().filter(|_| place == NEAR) {
            match other {
                Other::Resume(id) => joint.resume(id, *now),
                Other::Close(id) => joint.close_local(id, node, *now),
            }
        }
        has_moved
    }

    /// Moves the bytes of clients, and of connections whose other end is gone.
    fn serve_wires(&mut self) -> bool {
        let mut has_moved = false;
        for place in [NEAR, FAR] {
            let wires: Vec<(ConnectionId, Owner)> =
                self.nodes[place].wires.iter().map(|(id, wire)| (*id, wire.owner)).collect();
            for (id, owner) in wires {
                has_moved |= match owner {
                    Owner::Bridge => false,
                    Owner::Client(client) => self.serve_client(place, id, client),
                    Owner::Gone(at) => self.serve_gone(place, id, at),
                };
            }
        }
        has_moved
    }

    fn serve_client(&mut self, place: usize, id: ConnectionId, client: usize) -> bool {
        let node = &mut self.nodes[place];
        let has_sent = node.deliver_up(id, usize::MAX, self.now);
        assert!(!node.is_finished(id), "client {client} was disconnected");
        let bytes = node.take_down(id, usize::MAX);
        if bytes.is_empty() {
            return has_sent;
        }
        let (heard, answers) = self.clients[client].take(&bytes);
        if let Some(wire) = node.wires.get_mut(&id) {
            wire.up.extend(answers);
        }
        for heard in heard {
            self.hear(place, heard);
        }
        true
    }

    fn hear(&mut self, place: usize, heard: Heard) {
        match heard {
            Heard::Acknowledged(number) => {
                self.tell(format_args!("{number} is acknowledged"));
                self.ledger.acknowledge(number);
            }
            Heard::Copy { topic, payload } if topic == STATE => self.states[place] = Some(payload),
            Heard::Copy { topic, payload } => {
                self.trace.note_number(self.now.milliseconds());
                self.trace.note(&payload);
                self.tell(format_args!("{place} gets {topic} {:?}", &payload[..8]));
                self.ledger.arrive(place, &topic, &payload);
            }
        }
    }

    fn serve_gone(&mut self, place: usize, id: ConnectionId, at: Time) -> bool {
        let node = &mut self.nodes[place];
        if node.deliver_up(id, usize::MAX, self.now) {
            return true;
        }
        let is_over = node.wires.get(&id).is_some_and(|wire| wire.up.is_empty()) && at <= self.now;
        if is_over {
            node.close(id, self.now);
        }
        is_over
    }

    /// Checks the brokers from within.
    pub fn check_nodes(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_up()) {
            node.broker.check_invariants();
            node.broker.check_memory();
        }
    }

    fn check_settled(&mut self) {
        let is_connected = self.joint.machine.status().condition == Condition::Connected;
        let is_later = self.joint.connects > self.lost_at;
        self.has_far_session |= is_connected && is_later && self.nodes[NEAR].is_up();
    }

    /// Lets time pass.
    pub fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_milliseconds(milliseconds);
        while let Some(next) = self.due().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    fn tick(&mut self) {
        self.allow();
        for node in self.nodes.iter_mut().filter(|node| node.is_up()) {
            node.tick(self.now);
        }
        self.settle();
    }

    /// Decides how many bytes pass over the link in this step.
    fn allow(&mut self) {
        for direction in 0..2 {
            let is_chopped = !self.is_calm && self.chance.percent(self.plan.chop);
            let count = if is_chopped { self.chance.between(0, 80) } else { u64::MAX };
            self.link().allowed[direction] = usize::try_from(count).expect("64 bits");
        }
    }

    fn due(&self) -> Option<Time> {
        let joint = if self.nodes[NEAR].is_up() { self.joint.due() } else { None };
        self.nodes.iter().filter_map(Node::due).chain(joint).min()
    }

    pub fn disturbances(&self) -> Disturbances {
        Disturbances {
            crashes: [self.nodes[NEAR].crashes, self.nodes[FAR].crashes],
            connects: self.joint.connects,
            may_echo: self.joint.was_plain(),
        }
    }

    /// Whether nothing is in flight or waits anywhere.
    pub fn is_at_rest(&self) -> bool {
        let waiting = self.nodes[NEAR].broker.waiting_messages(&self.plan.settings.local.client_identifier)
            + self.nodes[FAR].broker.waiting_messages(REMOTE_CLIENT);
        let is_connected = self.joint.machine.status().condition == Condition::Connected;
        let forgets = self.plan.settings.local.is_clean;
        is_connected
            && !self.joint.is_dead()
            && waiting == 0
            && self.nodes.iter().all(|node| node.is_up() && node.is_at_rest(forgets))
    }

    pub fn tell(&self, what: std::fmt::Arguments<'_>) {
        if self.is_told {
            println!("{:>9} {what}", self.now.milliseconds());
        }
    }
}

/// A topic below a rule, with the prefix of one side.
fn name(prefix: &str, rule: &BridgeTopic, suffix: &str) -> String {
    if rule.pattern.is_empty() {
        return prefix.to_owned();
    }
    let begin = rule.pattern.trim_end_matches('#').replace('+', "one");
    format!("{prefix}{begin}{suffix}")
}
