//! A node: the broker of this process as one of several, as a state machine between the core and NATS.
//!
//! What the core says to the other nodes goes to NATS at once, and what they say to the core. Both are at most once: while
//! there is no connection, or too much waits for it, messages are delivered only here. The filters of the clients here
//! decide which messages come.
//!
//! What must not be lost goes through the [log](crate::cluster::log).

mod clients;
mod heard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ::log::Level;

use clients::Clients;
use heard::Heard;

use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::cluster::direct::{Direct, head};
use crate::cluster::engine::{self, Action, Event, Machine, Notice, SubscriptionId};
use crate::cluster::entry::next_record;
use crate::cluster::interest::{Change, Interest, SUBSCRIPTIONS_MAXIMUM};
use crate::cluster::log::{self, Delivery, Log};
use crate::cluster::origin::Origin;
use crate::cluster::subjects::{Purpose, Subjects};
use crate::core::broker::{Broker, Logged};
use crate::core::nodes::{FilterChange, Messages};
use crate::protocol::codec::ProtocolVersion;
use crate::protocol::nats::{Message, Publication, Subject, SubjectPattern};
use crate::protocol::topic::{TopicFilter, TopicName};
use crate::settings::ClusterName;

/// The most subscriptions of a node in NATS: those of its interest, and the one for answers.
pub const ALL_SUBSCRIPTIONS_MAXIMUM: usize = SUBSCRIPTIONS_MAXIMUM + 8;
/// The most different lines about faults of others that are logged.
const FAULTS_MAXIMUM: usize = 32;

/// The rest of something for which the turn of the core had no room.
#[derive(Debug)]
enum Rest {
    /// Packets of another node.
    Direct { version: ProtocolVersion, packets: Vec<u8> },
    /// Messages of an entry of the log.
    Log { records: Vec<u8>, age: Duration, is_own: bool },
}

/// Counts of a node since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bodies that were sent.
    pub sent: u64,
    /// Bodies that were received from other nodes.
    pub received: u64,
    /// Bodies that the other nodes did not get: there was no connection, too much waited for it, or they are too large.
    pub dropped: u64,
    /// Connections that have ended because their clients have connected at other nodes.
    pub takeovers: u64,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    engine: Machine,
    subjects: Subjects,
    log: Log,
    interest: Interest,
    subscriptions: BTreeMap<String, SubscriptionId>,
    /// What was received and not processed.
    input: Vec<u8>,
    rest: Option<Rest>,
    heard: Heard,
    clients: Clients,
    origin: Origin,
    /// The subject of the message that is sent.
    subject: String,
    figures: Figures,
    lines: VecDeque<(Level, String)>,
    /// The faults that were logged.
    faults: BTreeSet<String>,
}

impl Node {
    /// A node that connects now. `seed` is different for each node and each start. The time is that of the broker, and
    /// the one since 1970 according to the system.
    pub fn new(
        (name, interest_levels): (&ClusterName, usize),
        settings: engine::Settings,
        log: log::Settings,
        seed: u64,
        (now, wall): (Time, Duration),
    ) -> Self {
        let subjects = Subjects::new(name);
        // Another number than that of the subjects for answers, which others see.
        let incarnation = seed.rotate_left(32);
        let mut engine = Machine::new(settings, seed, now);
        let clients = Clients::new((incarnation, now, wall), &subjects, &mut engine);
        Self {
            log: Log::new(name, &subjects, log, incarnation),
            engine,
            interest: Interest::new(subjects.clone(), interest_levels, SUBSCRIPTIONS_MAXIMUM),
            subjects,
            subscriptions: BTreeMap::new(),
            input: Vec::new(),
            rest: None,
            heard: Heard::default(),
            clients,
            origin: Origin { incarnation, counter: 0 },
            subject: String::new(),
            figures: Figures::default(),
            lines: VecDeque::new(),
            faults: BTreeSet::new(),
        }
    }

    /// Whether there is a connection to the other nodes.
    pub const fn is_connected(&self) -> bool {
        self.engine.is_ready()
    }

    /// What it has counted.
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// The connection, to be told what happens to its socket.
    pub const fn engine(&mut self) -> &mut Machine {
        &mut self.engine
    }

    /// What the caller is to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.engine.next_action()
    }

    /// Bytes for the server; what was sent of them is reported to the [`Node::engine`].
    pub fn output(&self) -> &[u8] {
        self.engine.output()
    }

    /// The next line for the log of the broker, a whole sentence.
    pub fn next_line(&mut self) -> Option<(Level, String)> {
        let own = self.lines.pop_front().or_else(|| self.log.next_line());
        own.map(|(level, line)| (level, line + ".")).or_else(|| self.engine.next_line())
    }

    /// When [`Node::tick`] is to be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let log = Some(self.log.next_deadline(&self.engine)).filter(|log| *log < Time::NEVER);
        let others = [self.interest.next_expiry(), self.claims_deadline(), log];
        self.engine.next_deadline().into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Whether the log takes a batch of the core.
    pub const fn takes_batch(&self) -> bool {
        self.log.takes_batch()
    }

    /// The log of the cluster.
    pub const fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.engine.tick(now);
        self.note_events(now);
        self.log.tick(&mut self.engine, now);
        let mut changes = Vec::new();
        self.interest.expire(now, &mut changes);
        self.change_subscriptions(changes);
    }

    /// Says messages of clients to the other nodes.
    pub fn say(&mut self, messages: &Messages) {
        for packets in messages.iter() {
            self.subject.clear();
            let topic = TopicName::trusted(packets.topic);
            if self.subjects.push_topic(Purpose::Direct, topic, &mut self.subject).is_none() {
                continue;
            }
            self.origin.counter += 1;
            let head = head(packets.version, self.origin);
            let subject = Subject::new(&self.subject).expect("a topic becomes a subject");
            let publication =
                Publication { subject, reply: None, headers: None, payload: &[&head, packets.bytes] };
            match self.engine.publish(&publication) {
                Ok(()) => self.figures.sent += 1,
                Err(why) => self.drop_message(why, packets.topic),
            }
        }
    }

    #[cold]
    fn drop_message(&mut self, why: engine::NotSent, topic: &str) {
        self.figures.dropped += 1;
        if let engine::NotSent::Invalid(why) = why {
            self.note_fault(&format!("A message on {} does not reach other nodes: {why}", Escaped(topic)));
        }
    }

    /// Takes note of filters to which clients have subscribed, or are no longer subscribed.
    pub fn change_filters(&mut self, filters: Vec<FilterChange>, now: Time) {
        let mut changes = Vec::new();
        for filter in filters {
            match filter {
                FilterChange::Begun(text) => {
                    self.interest.add(TopicFilter::trusted_pattern(&text), &mut changes);
                }
                FilterChange::Ended(text) => {
                    self.interest.remove(TopicFilter::trusted_pattern(&text), now);
                }
            }
        }
        self.change_subscriptions(changes);
    }

    fn change_subscriptions(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Subscribe(subject) => {
                    let pattern = SubjectPattern::new(&subject).expect("a filter becomes a pattern");
                    let opened = self.engine.subscribe(pattern, None);
                    let id = opened.expect("there are no more, and no longer ones, than the interest allows");
                    self.subscriptions.insert(subject, id);
                }
                Change::Unsubscribe(subject) => {
                    if let Some(id) = self.subscriptions.remove(&subject) {
                        self.engine.unsubscribe(id);
                    }
                }
            }
        }
    }

    /// The connection that was asked for is open. Nothing that was received before counts.
    pub fn connected(&mut self, now: Time) {
        self.input.clear();
        self.engine.connected(now);
    }

    /// Bytes of the server have come. They wait for [`Node::process`].
    pub fn received(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Whether more is to be received. If not, the core has no room for what has come, in this turn.
    pub const fn takes_input(&self) -> bool {
        self.rest.is_none() && self.clients.takes_input()
    }

    /// Passes what has come to the core, as far as its turn has room for it.
    pub fn process(&mut self, broker: &mut Broker, now: Time) {
        match self.rest.take() {
            None => {}
            Some(Rest::Direct { version, packets }) => self.publish(broker, version, &packets, now),
            Some(Rest::Log { records, age, is_own }) => {
                self.publish_logged(broker, &Delivery { records: &records, age, is_own }, now);
            }
        }
        self.hear_rest_of_claims(broker, now);
        let input = std::mem::take(&mut self.input);
        let mut processed = 0;
        while self.takes_input() {
            let (length, event) = self.engine.read(&input[processed..], now);
            processed += length;
            match event {
                None => break,
                Some(Event::Message(id, message)) if self.clients.is_heard_by(id) => {
                    self.hear_claims(message.payload, broker, now);
                }
                Some(Event::Message(subscription, message)) if self.log.is_for(subscription) => {
                    self.take_logged(message, broker, now);
                }
                Some(Event::Message(_, message)) => self.take(message.payload, broker, now),
                Some(Event::Answer(request, message)) => {
                    self.log.answered(request, message.payload, &mut self.engine, now);
                }
                Some(Event::TooLarge(subscription)) if self.log.is_for(subscription) => {
                    self.note_fault("An entry of the log was ignored: it is too long");
                }
                Some(Event::TooLarge(_)) => {}
            }
            self.note_events(now);
        }
        self.input = input;
        self.input.drain(..processed);
        self.end_lost(broker, now);
    }

    fn take(&mut self, body: &[u8], broker: &mut Broker, now: Time) {
        match Direct::read(body) {
            // It is on its way over a connection that was given up, which a server that stood still has read after all.
            Ok(direct) if direct.origin.incarnation == self.origin.incarnation => {}
            // Several subscriptions may match one message.
            Ok(direct) if !self.heard.is_new(direct.origin) => {}
            Ok(direct) => {
                self.figures.received += 1;
                self.publish(broker, direct.version, direct.packets, now);
            }
            Err(why) => self.note_fault(&format!("A message of another node was ignored: {why}")),
        }
    }

    /// Passes packets to the core, and remembers those for which it has no room now.
    fn publish(&mut self, broker: &mut Broker, version: ProtocolVersion, packets: &[u8], now: Time) {
        match broker.publish_from_node(packets, version, now) {
            Ok(length) if length == packets.len() => {}
            Ok(length) => self.rest = Some(Rest::Direct { version, packets: packets[length..].to_vec() }),
            Err(why) => self.note_fault(&format!("A message of another node was ignored: {why}")),
        }
    }

    /// Takes a message for the reader of the log.
    fn take_logged(&mut self, message: Message<'_>, broker: &mut Broker, now: Time) {
        match self.log.take(message, &mut self.engine, now) {
            Ok(None) => {}
            Ok(Some(delivery)) => self.publish_logged(broker, &delivery, now),
            Err(why) => {
                self.note_fault(&format!("An entry of the log was ignored: {why}"));
                self.log.is_taken(&mut self.engine, now);
            }
        }
    }

    /// Passes messages of the log to the core, and remembers those for which it has no room now.
    fn publish_logged(&mut self, broker: &mut Broker, delivery: &Delivery<'_>, now: Time) {
        let Delivery { mut records, age, is_own } = *delivery;
        while !records.is_empty() {
            let (record, after) = match next_record(records) {
                Ok(read) => read,
                Err(why) => {
                    self.note_fault(&format!("An entry of the log was ignored: {why}"));
                    break;
                }
            };
            let logged = Logged { publisher: record.publisher, packet: record.packet, age, is_own };
            match broker.publish_from_log(&logged, now) {
                Ok(true) => {}
                Ok(false) => {
                    self.rest = Some(Rest::Log { records: records.to_vec(), age, is_own });
                    return;
                }
                Err(why) => self.note_fault(&format!("A message of the log was ignored: {why}")),
            }
            records = after;
        }
        self.log.is_taken(&mut self.engine, now);
    }

    fn note_events(&mut self, now: Time) {
        while let Some(notice) = self.engine.next_notice() {
            match notice {
                Notice::Ready => {
                    self.clients.say_again();
                    self.log.begin_again(&mut self.engine, now);
                }
                Notice::Lost(_) => self.log.begin_again(&mut self.engine, now),
                Notice::Refused(words) => {
                    self.note_fault(&format!("The NATS server refuses: {}", Escaped(&words)));
                }
                Notice::Unanswered(request, why) => self.log.unanswered(request, why, &mut self.engine, now),
            }
        }
    }

    /// Logs a fault of others, once.
    fn note_fault(&mut self, line: &str) {
        if self.faults.len() < FAULTS_MAXIMUM && self.faults.insert(line.to_owned()) {
            self.lines.push_back((Level::Warn, format!("Warning: {line}")));
        }
    }
}
