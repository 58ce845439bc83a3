//! Knows what the broker owes to each client. It observes what goes into the core and what comes out of it at the
//! core's own interface, so it knows in which order packets were processed and is not misled by a slow link.
//!
//! Its state is plain: lists and maps that are searched from end to end, filters matched one by one. Where the
//! standards or a documented limit leave the broker a choice, an expectation is `optional`; everything else is owed.

mod departures;
mod durable;
mod input;
mod output;
mod progress;
mod replays;
mod restart;
mod room;
mod routing;
mod state;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use brooklet::base::time::Time;
use brooklet::core::broker::{Census, Statistics};
use brooklet::core::journal::Room;
use brooklet::core::limits::Limits;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::Packet;

pub use state::Line;
use state::{Answer, Copy, Group, Progress, Publication, Replay, Session, Shared, Source};

/// What is known about one call of the core.
#[derive(Default)]
struct Call {
    /// Copies that the core reports as dropped.
    dropped: u64,
    /// Copies that a limit could have dropped.
    plausible: u64,
    /// Messages from earlier calls that have reached all their recipients now.
    finished: Vec<u64>,
}

pub struct Oracle {
    limits: Limits,
    /// Whether limits are so low that messages may be dropped.
    is_tight: bool,
    /// Whether the budget of a turn is so small that most work takes several turns.
    spans_turns: bool,
    /// Whether messages may be too large for some clients.
    has_small_packets: bool,
    now: Time,
    lines: BTreeMap<ConnectionId, Line>,
    sessions: BTreeMap<String, Session>,
    /// By Share Name and filter.
    groups: BTreeMap<(String, String), Group>,
    /// Messages for groups, each of which goes to one member.
    shared: Vec<Shared>,
    retained: BTreeMap<String, Rc<Publication>>,
    history: durable::History,
    /// The topics whose history the next batch ends, whatever the space.
    promised: BTreeSet<String>,
    room: Room,
    /// The durable state, if there is a store.
    durable: Option<durable::Durable>,
    /// Numbers publications, groups and deliveries.
    numbers: u64,
    call: Call,
    /// Messages that may not have reached all their recipients, by publisher and in order.
    open: BTreeMap<String, Vec<progress::Open>>,
    /// Groups that have lost their last member since the broker was last idle.
    former_groups: BTreeMap<(String, String), u64>,
    /// The names of all groups that have existed, by number.
    group_names: BTreeMap<u64, (String, String)>,
    /// Whether every packet is printed, to examine one seed.
    pub is_told: bool,
    /// How much was checked: deliveries seen for the first time.
    pub deliveries: u64,
    /// How often work was left unfinished: a message, or a packet of many filters.
    pub spans: u64,
    /// The connection whose peer the core is being told to have nothing more to say.
    pub listening: Option<ConnectionId>,
    /// Until then, due work may be late, because the broker was held up.
    pub respite: Time,
}

impl Oracle {
    pub fn new(limits: Limits, is_tight: bool, has_small_packets: bool) -> Self {
        Self {
            spans_turns: limits.steps_per_turn < Limits::default().steps_per_turn,
            limits,
            is_tight,
            has_small_packets,
            now: Time::ZERO,
            lines: BTreeMap::new(),
            sessions: BTreeMap::new(),
            groups: BTreeMap::new(),
            shared: Vec::new(),
            retained: BTreeMap::new(),
            history: durable::History::new(),
            promised: BTreeSet::new(),
            durable: None,
            room: Room::Enough,
            numbers: 0,
            call: Call::default(),
            open: BTreeMap::new(),
            former_groups: BTreeMap::new(),
            group_names: BTreeMap::new(),
            is_told: false,
            deliveries: 0,
            spans: 0,
            listening: None,
            respite: Time::ZERO,
        }
    }

    fn tell(&self, id: ConnectionId, direction: &str, packet: &Packet<'_>) {
        if self.is_told {
            let client = self.lines[&id].client.as_deref().unwrap_or("unknown");
            println!("{:6} {id:?} {direction} {client}: {packet:?}", self.now.milliseconds());
        }
    }

    const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A connection was accepted.
    pub fn opened(&mut self, id: ConnectionId, now: Time) {
        self.now = now;
        self.lines.insert(id, Line::new(now));
    }

    /// A device has sent a packet to the broker.
    pub fn sent(&mut self, id: ConnectionId, packet: Vec<u8>) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.sent.push_back(packet);
        }
    }

    /// Begins a call of the core, with the core's statistics before and after it. The calls up to [`Oracle::end_call`]
    /// report what the core did.
    pub fn begin_call(&mut self, before: &Statistics, after: &Statistics, now: Time) {
        self.now = now;
        self.call = Call { dropped: after.dropped - before.dropped, ..Call::default() };
        if self.is_told && self.call.dropped > 0 {
            println!("{:6} dropped {}", now.milliseconds(), self.call.dropped);
        }
    }

    /// Ends a call: everything that the core did in it has been reported.
    pub fn end_call(&mut self) {
        if self.call.dropped > 0 && (self.is_tight || !self.has_room()) {
            // It cannot be observed which copies of Shared Subscriptions were on their way to other members. Those of
            // a session that was not persisted find no other member if there is no space.
            self.call.plausible += self.shared.len() as u64;
            self.shared.iter_mut().for_each(|shared| shared.is_optional = true);
        }
        if self.call.dropped > 0 && self.is_tight {
            self.excuse_on_their_way();
        }
        let Call { dropped, plausible, .. } = self.call;
        assert!(dropped <= plausible, "{dropped} copies were dropped, {plausible} could be at a limit");
    }

    /// Compares the broker's counts with the expected ones.
    pub fn check_census(&mut self, census: Census) {
        if census.retained < self.retained.len() {
            // Expired ones are removed at some point.
            let now = self.now;
            self.retained.retain(|_, publication| publication.expires > now);
        }
        assert_eq!(census.retained, self.retained.len(), "retained messages");
        assert_eq!(census.sessions, self.sessions.len(), "sessions");
        assert_eq!(census.connections, self.lines.len(), "connections");
        assert_eq!(census.subscriptions, self.subscription_count(), "subscriptions");
    }

    fn subscription_count(&self) -> usize {
        self.groups.len() + self.sessions.values().map(|session| session.subscriptions.len()).sum::<usize>()
    }

    /// Whether nothing is sent on this connection yet, because its client's session is not durable.
    pub fn is_withheld(&self, id: ConnectionId) -> bool {
        let first = self.lines.get(&id).and_then(|line| line.answers.front());
        let is_loose = self.lines.get(&id).is_some_and(|line| line.is_loose);
        first.is_some_and(|debt| {
            let is_connack = matches!(debt.answer, Answer::ConnAck { is_refused: false, .. });
            is_connack && !is_loose && !self.is_durable(debt.batch)
        })
    }

    /// The outbox of this connection is empty, all packets have been processed, and the peer accepts bytes: nothing
    /// that could be sent may be left. While the store is busy, what is not durable may.
    pub fn check_at_rest(&mut self, id: ConnectionId, is_store_busy: bool) {
        let (now, has_room) = (self.now, self.has_room());
        let Some(line) = self.lines.get(&id) else { return };
        let is_ending = matches!(line.progress, Progress::Ending(_)) && self.durable.is_some();
        let mut due = line.answers.iter().filter(|debt| match debt.answer {
            Answer::PingResp | Answer::ConnAck { .. } => true,
            // A client that is sent away need not be told what is not durable yet.
            _ => !is_ending && (!is_store_busy || self.is_durable(debt.batch)),
        });
        let overdue = due.find(|debt| !debt.is_optional);
        assert!(overdue.is_none(), "{id:?} waits for {overdue:?} of {:?}", line.answers);
        let line = self.lines.get_mut(&id).expect("it is there");
        line.empty_at = now;
        line.settled.clear();
        line.answers.retain(|debt| !debt.is_optional || is_store_busy);
        let maximum = line.maximum_packet_size;
        let version = line.version;
        let is_excused = |copy: &Copy| {
            copy.is_optional || copy.publication.expires <= now || copy.length(version) > maximum
        };
        if let Some(lost) = line.at_most_once.iter().find(|copy| !is_excused(copy)) {
            panic!("a QoS 0 message for {:?} is lost: {lost:?}", line.client);
        }
        line.at_most_once.clear();
        let Some(client) = line.serves().filter(|_| !is_store_busy) else { return };
        let session = self.sessions.get_mut(client).expect("a connected client has a session");
        let in_flight = session.in_flight.values().filter(|flight| flight.line == Some(id)).count();
        if in_flight >= line.window {
            return;
        }
        if let Some((identifier, flight)) = session
            .in_flight
            .iter()
            .find(|(_, flight)| flight.line != Some(id) && !is_excused_flight(flight, is_excused))
        {
            panic!("{identifier} is not sent again to {client}: {flight:?}");
        }
        // A copy that is too large for the client is done [MQTT-3.1.2-25].
        session.in_flight.retain(|_, flight| flight.line == Some(id));
        if let Some(waiting) = session.pending.iter().find(|copy| !is_excused(copy)) {
            panic!("a message waits for {client} though it could go: {waiting:?}");
        }
        session.pending.clear();
        if !has_room && session.is_persistent && session.replays.iter().any(Replay::has_weighty) {
            return;
        }
        check_replayed(session, client, is_excused);
        session.handed_over.clear();
        session.replays.clear();
    }

    /// Checks that the Keep Alive of the connection has not been exceeded.
    pub fn check_keep_alive(&self, id: ConnectionId) {
        let Some(line) = self.lines.get(&id) else { return };
        if line.serves().is_some() && line.keep_alive > 0 && self.now >= self.respite {
            let silence = self.now.since(line.last_heard).milliseconds();
            let allowed = u64::from(line.keep_alive) * 1500;
            assert!(silence <= allowed, "{:?} was silent for {silence} ms of {allowed}", line.client);
        }
    }

    /// Checks that nothing is left, once every client has returned and acknowledged everything.
    pub fn check_drained(&self) {
        for (client, session) in &self.sessions {
            assert!(session.in_flight.is_empty(), "{client} has acknowledged all: {:?}", session.in_flight);
            assert!(session.pending.is_empty(), "{client} has got all: {:?}", session.pending);
            assert!(session.replays.is_empty(), "{client} has got all retained messages");
        }
        let lost = self.shared.iter().find(|shared| {
            !shared.is_optional && shared.publication.expires > self.now && shared.holder.is_none()
        });
        assert!(lost.is_none(), "no member got {lost:?}");
    }

    /// Topics with a retained message, as far as is known.
    pub fn retained_topics(&self) -> Vec<String> {
        self.retained.keys().cloned().collect()
    }

    pub fn has_session(&self, client: &str) -> bool {
        self.sessions.contains_key(client)
    }
}

fn is_excused_flight(flight: &state::Flight, is_excused: impl Fn(&Copy) -> bool) -> bool {
    // Once sent, a copy does not expire [MQTT-4.3.3-7]; only its size can be in the way.
    let copy = Copy { publication: flight.copy.publication.without_expiry(), ..flight.copy.clone() };
    flight.released_at.is_none() && is_excused(&copy)
}

/// Checks that all retained messages that are due to a client have been delivered.
fn check_replayed(session: &mut Session, client: &str, is_excused: impl Fn(&Copy) -> bool) {
    let due: BTreeSet<(u64, String)> = session
        .replays
        .iter()
        .flat_map(|replay| replay.owed.iter().map(move |(topic, owed)| (replay, topic, owed)))
        .filter(|(replay, _, owed)| {
            // One that had expired when its turn came may have been skipped, though it has a successor now.
            owed.is_due
                && owed
                    .acceptable
                    .iter()
                    .flat_map(|publication| replay.copies(publication))
                    .all(|copy| !is_excused(&copy))
        })
        .map(|(replay, topic, _)| (replay.number, topic.clone()))
        .collect();
    for (number, topic) in &due {
        let is_served = session.is_served(*number, topic, &due, &mut BTreeSet::new());
        assert!(is_served, "the retained message of {topic} for {client} is missing: {:?}", session.replays);
    }
}

impl Copy {
    fn of_replay(publication: Rc<Publication>, terms: &state::Terms) -> Self {
        Self {
            qos: terms.qos.min(publication.qos),
            retain: true,
            identifiers: terms.identifiers(),
            unseen_identifiers: BTreeSet::new(),
            publication,
            is_optional: false,
            is_loose: false,
            may_be_repeat: false,
            is_repeat: false,
            sent_as: None,
            source: Source::Replay,
        }
    }

    /// A copy that may or may not come, on unknown terms.
    fn loose(publication: &Rc<Publication>) -> Self {
        Self {
            qos: publication.qos,
            retain: publication.retain,
            identifiers: Vec::new(),
            unseen_identifiers: BTreeSet::new(),
            publication: publication.clone(),
            is_optional: true,
            is_loose: true,
            may_be_repeat: true,
            is_repeat: false,
            sent_as: None,
            source: Source::Own,
        }
    }
}
