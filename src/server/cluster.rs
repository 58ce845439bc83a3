//! This broker as a node of a cluster: the connection to a server of NATS, and what goes on between that and the core.

mod access;

use std::io;

use ::log::{log, warn};
use mio::Events;

pub use access::check_node;
use access::{Access, Tls};

use super::Server;
use super::clock::{seed_of_node, wall};
use super::destination::{CallId, Destination};
use super::dial::Report;
use crate::base::time::{Duration, Time};
use crate::cluster::engine::{self, Action, Address, Limits, Retry, Timing};
use crate::cluster::entry::OVERHEAD;
use crate::cluster::log::{self, Keeping};
use crate::cluster::node::{ALL_SUBSCRIPTIONS_MAXIMUM, Figures, Node};
use crate::core::nodes::Messages;
use crate::settings::{self, ConfigError, Settings};

/// How long each address of a server may take until it is connected.
const PATIENCE: Duration = Duration::from_seconds(5);
/// The times of the connection. A server that is silent for two seconds is left for another one.
const TIMING: Timing = Timing {
    quiet: Duration::from_milliseconds(1_000),
    silence: Duration::from_milliseconds(2_000),
    patience: PATIENCE,
    retry: Retry { least: Duration::from_milliseconds(100), most: Duration::from_milliseconds(5_000) },
};
/// The largest message from node to node in bytes: no server can be configured to take a larger one. Other nodes may have
/// other limits than this one, which reads what they have put into the log.
const MESSAGE_MAXIMUM: usize = 64 * 1024 * 1024;
/// How many bytes may wait to be sent. Further messages do not reach the other nodes.
const OUTPUT_BYTES: usize = 8 * 1024 * 1024;
/// How many requests may wait for answers.
const REQUESTS: usize = 1_024;
/// How long the end of the broker waits for messages that are not in the log.
const LAST_PATIENCE: Duration = Duration::from_seconds(5);
/// How often bytes are passed on in a turn, before others have theirs.
const ROUNDS_PER_TURN: usize = 4;
/// How often the figures are published.
const SHOWN_EVERY: Duration = Duration::from_seconds(10);

/// The cluster of this broker, if it is in one.
#[derive(Default)]
pub(super) struct Cluster(Option<Box<Joined>>);

/// A cluster that was joined.
struct Joined {
    settings: settings::Cluster,
    node: Node,
    tls: Tls,
    call: Option<Call>,
    /// The emptied buffer for the messages of the next turn.
    messages: Messages,
    /// Whether the core takes clients.
    access: log::Access,
    /// What was last published of its state, and when its figures are published next.
    shown: Option<(State, Time)>,
}

/// What is published of the state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Disconnected,
    Log(log::Access),
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Log(log::Access::Joining) => "joining",
            Self::Log(log::Access::Open) => "connected",
            Self::Log(log::Access::Held) => "holding",
            Self::Log(log::Access::Away) => "away",
        }
    }
}

/// The connection to a server.
struct Call {
    id: CallId,
    /// Whether the socket takes no more bytes for now.
    is_full: bool,
    /// Whether there may be bytes to receive.
    has_input: bool,
    /// Whether the handshake of TLS goes on, on a connection that was open.
    is_securing: bool,
}

impl Call {
    const fn new(id: CallId) -> Self {
        Self { id, is_full: false, has_input: false, is_securing: false }
    }
}

impl Cluster {
    /// When it needs something, if nothing happens before.
    pub(super) fn due(&self, batch_due: Option<Time>) -> Option<Time> {
        let joined = self.0.as_ref()?;
        let batch_due = batch_due.filter(|_| joined.node.takes_batch());
        let next = if joined.is_busy() { Some(Time::ZERO) } else { joined.node.next_deadline() };
        next.into_iter()
            .chain(batch_due)
            .chain(Some(joined.shown.map_or(Time::ZERO, |(_, shown)| shown)))
            .min()
    }
}

impl Cluster {
    /// Takes a report about its connection, and returns one about another.
    pub(super) fn take_report(&mut self, id: CallId, report: Report, now: Time) -> Option<Report> {
        let Some(joined) = &mut self.0 else { return Some(report) };
        let Some(call) = joined.call.as_mut().filter(|call| call.id == id) else { return Some(report) };
        match report {
            Report::Connected(_) if std::mem::take(&mut call.is_securing) => {
                joined.node.engine().secured(now);
            }
            Report::Connected(_) => joined.node.connected(now),
            Report::Readable => call.has_input = true,
            Report::Writable => call.is_full = false,
            Report::Failed(failures) => {
                let is_securing = call.is_securing;
                joined.call = None;
                let why: Vec<String> = failures.iter().map(ToString::to_string).collect();
                let (engine, why) = (joined.node.engine(), why.join("; "));
                if is_securing { engine.closed(&why, now) } else { engine.dial_failed(&why, now) }
            }
            Report::Closed(why) | Report::Broken(why) => {
                joined.call = None;
                joined.node.engine().closed(&why, now);
            }
        }
        None
    }
}

impl Joined {
    /// Whether it has something to do at once.
    fn is_busy(&self) -> bool {
        let is_call_busy = self.call.as_ref().is_some_and(|call| {
            call.has_input && self.node.takes_input() || !call.is_full && !self.node.output().is_empty()
        });
        is_call_busy || !self.node.takes_input()
    }
}

impl Server {
    /// Makes the broker a node of a cluster. To be called before the first client and before stored state is restored. It
    /// connects in the first turn.
    ///
    /// # Errors
    ///
    /// What is wrong with the files of credentials and certificates.
    pub fn join_cluster(&mut self, settings: &Settings) -> Result<(), Vec<ConfigError>> {
        let Some(cluster) = &settings.cluster else { return Ok(()) };
        let access = Access::load(cluster)?;
        self.begin_node(cluster.clone(), access);
        Ok(())
    }

    fn begin_node(&mut self, settings: settings::Cluster, Access { authentication, tls }: Access) {
        let name = format!("brooklet {}", settings.node.as_str());
        let address = |server: &settings::RemoteAddress| Address {
            host: server.host.as_str().into(),
            port: server.port,
        };
        let engine = engine::Settings {
            servers: settings.servers.iter().map(address).collect(),
            name: name.into(),
            authentication,
            uses_tls: settings.tls.is_some(),
            inbox: format!("_INBOX.{}", settings.name.as_str()).into(),
            timing: TIMING,
            limits: Limits {
                message: MESSAGE_MAXIMUM,
                output: OUTPUT_BYTES,
                requests: REQUESTS,
                subscriptions: ALL_SUBSCRIPTIONS_MAXIMUM,
            },
        };
        let times = (self.clock.now(), wall());
        let seed = || seed_of_node(settings.node.as_str());
        let node = Node::new(
            (&settings.name, settings.interest_levels),
            engine,
            settings_of_log(&settings.log),
            seed(),
            times,
        );
        self.broker.begin_cluster();
        self.broker.begin_log();
        self.broker.assign_from(seed());
        self.cluster.0 = Some(Box::new(Joined {
            settings,
            node,
            tls,
            call: None,
            messages: Messages::default(),
            access: log::Access::Joining,
            shown: None,
        }));
    }

    /// Passes on what clients have said to the other nodes, and what those say.
    pub(super) fn run_cluster(&mut self, now: Time) {
        if self.cluster.0.is_none() {
            return;
        }
        self.take_reports(now);
        self.with_node(|server, joined| {
            joined.node.tick(now);
            joined.node.change_filters(server.broker.take_filter_changes(), now);
            let messages = server.broker.take_messages_for_nodes(std::mem::take(&mut joined.messages));
            joined.node.say(&messages);
            joined.messages = messages;
            joined.node.exchange_clients(&mut server.broker, now);
            server.exchange_log(joined, now);
        });
        for _ in 0..ROUNDS_PER_TURN {
            self.with_node(|server, joined| server.pass_on(joined, now));
            self.take_reports(now);
            if !self.cluster.0.as_ref().is_some_and(|joined| joined.is_busy() && joined.node.takes_input()) {
                break;
            }
        }
        self.with_node(|server, joined| {
            server.exchange_log(joined, now);
            server.pass_on(joined, now);
            server.show_cluster(joined, now);
        });
    }

    /// Passes on what goes to the log, and what was learned from it.
    fn exchange_log(&mut self, joined: &mut Joined, now: Time) {
        self.broker.limit_logged(joined.node.engine().message_maximum().saturating_sub(OVERHEAD));
        let log = joined.node.log();
        while let Some(number) = log.next_durable() {
            self.broker.durable(number, now);
            while let Some(id) = self.broker.next_answered() {
                self.write_one(id, now);
            }
        }
        let access = std::mem::replace(&mut joined.access, log.access());
        if access != joined.access {
            match joined.access {
                log::Access::Open => self.broker.open_log(now),
                log::Access::Held => {}
                log::Access::Joining | log::Access::Away => self.broker.close_log(now),
            }
        }
        if log.is_read_to_the_end() {
            self.broker.end_of_log_is_read(now);
        }
        if self.broker.begin_reading_to_the_end() {
            log.read_to_the_end();
        }
        let is_due = log.takes_batch() && self.broker.batch_due().is_some_and(|due| due <= now);
        if is_due && let Some(batch) = self.broker.take_batch(now) {
            log.append(&batch, now);
        }
        joined.node.tick(now);
    }

    /// Takes the node out while it works with the rest of the server.
    fn with_node(&mut self, work: impl FnOnce(&mut Self, &mut Joined)) {
        if let Some(mut joined) = self.cluster.0.take() {
            work(self, &mut joined);
            self.cluster.0 = Some(joined);
        }
    }

    /// Passes bytes on in both directions.
    fn pass_on(&mut self, joined: &mut Joined, now: Time) {
        self.act_for_node(joined, now);
        self.send_of_node(joined, now);
        self.receive_for_node(joined, now);
        self.act_for_node(joined, now);
    }

    fn act_for_node(&mut self, joined: &mut Joined, now: Time) {
        while let Some(action) = joined.node.next_action() {
            match action {
                Action::Dial(address) => {
                    self.hang_up_for_node(joined);
                    match self.dial(destination_of(&address)) {
                        Ok(id) => joined.call = Some(Call::new(id)),
                        Err(why) => joined.node.engine().dial_failed(&why, now),
                    }
                }
                Action::StartTls => self.secure_for_node(joined, now),
                Action::HangUp => self.hang_up_for_node(joined),
            }
        }
        while let Some((level, line)) = joined.node.next_line() {
            log!(level, "{line}");
        }
    }

    /// Begins the handshake of TLS. The next reports tell how it ends.
    fn secure_for_node(&mut self, joined: &mut Joined, now: Time) {
        let Some(call) = &mut joined.call else { return };
        match joined.tls.setup() {
            Ok(setup) => {
                *call = Call { is_securing: true, ..Call::new(call.id) };
                let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
                calls.secure(call.id, &setup, &mut world);
            }
            Err(why) => {
                self.hang_up_for_node(joined);
                joined.node.engine().closed(&why, now);
            }
        }
    }

    fn hang_up_for_node(&mut self, joined: &mut Joined) {
        if let Some(call) = joined.call.take() {
            self.links.calls.hang_up(call.id, &mut self.resolver);
        }
    }

    fn send_of_node(&mut self, joined: &mut Joined, now: Time) {
        let Some(call) = &mut joined.call else { return };
        let bytes = joined.node.output();
        if call.is_full || bytes.is_empty() {
            return;
        }
        let count = self.links.calls.send(call.id, bytes);
        call.is_full = count < bytes.len();
        joined.node.engine().sent(count, now);
    }

    fn receive_for_node(&mut self, joined: &mut Joined, now: Time) {
        let Joined { node, call, .. } = joined;
        if let Some(call) = call.as_mut().filter(|call| call.has_input && node.takes_input()) {
            call.has_input = false;
            let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
            calls.receive(call.id, |bytes| node.received(bytes), &mut world);
        }
        node.process(&mut self.broker, now);
    }

    /// Publishes the state of the connection when it has changed, and the figures now and then.
    fn show_cluster(&mut self, joined: &mut Joined, now: Time) {
        let state = match joined.node.is_connected() {
            false if joined.access == log::Access::Open => State::Disconnected,
            _ => State::Log(joined.access),
        };
        if joined.shown.is_some_and(|(shown, next)| shown == state && now < next) {
            return;
        }
        joined.shown = Some((state, now + SHOWN_EVERY));
        let Figures { sent, received, dropped, takeovers } = joined.node.figures();
        let dropped = dropped + self.broker.dropped_for_nodes();
        let values = [
            ("node", joined.settings.node.as_str().to_owned()),
            ("state", state.as_str().to_owned()),
            ("sent", sent.to_string()),
            ("received", received.to_string()),
            ("dropped", dropped.to_string()),
            ("takeovers", takeovers.to_string()),
        ];
        for (what, value) in values {
            self.broker.publish_about_cluster(what, &value, now);
        }
    }

    /// Leaves the cluster in order: what is for the log is stored, as long as the engine is there, and the connection is
    /// closed as far as the socket takes the last bytes at once.
    pub(super) fn leave_cluster(&mut self, events: &mut Events) -> io::Result<()> {
        let end = self.clock.now() + LAST_PATIENCE;
        while self.cluster.0.is_some() && !self.broker.is_durable() {
            let now = self.clock.now();
            if now >= end {
                warn!(
                    "Warning: not everything could be stored in the log of the cluster in time; everything acknowledged was."
                );
                break;
            }
            self.broker.persist(now);
            self.turn(events, Some(end))?;
        }
        let now = self.clock.now();
        if let Some(joined) = &mut self.cluster.0 {
            joined.node.engine().drain(now);
        }
        self.run_cluster(now);
        Ok(())
    }
}

/// How the node uses the log.
fn settings_of_log(settings: &settings::ClusterLog) -> log::Settings {
    let seconds = |seconds: u32| Duration::from_seconds(seconds.into());
    log::Settings {
        keeping: Keeping {
            replicas: settings.replicas,
            age: seconds(settings.keep),
            bytes: Some(settings.keep_bytes as u64).filter(|bytes| *bytes > 0),
        },
        patience: if settings.refuses { Duration::ZERO } else { seconds(settings.patience) },
    }
}

/// Where a server is.
fn destination_of(address: &Address) -> Destination {
    Destination {
        host: address.host.to_string(),
        port: address.port,
        from: None,
        keepalive: None,
        user_timeout: None,
        tls: None,
        websocket: None,
        patience: PATIENCE,
    }
}
