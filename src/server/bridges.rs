//! The bridges of this broker. Each is a machine between two connections: one in memory to the core, and an outgoing
//! one to another broker. Here the bytes are passed on, and what the machine asks for is done.

use std::rc::Rc;

use log::{log, warn};

use super::Server;
use super::bridge_options::{options_of, retained_filters, security_of};
use super::clock::seed;
use super::destination::{CallId, Destination};
use super::dial::Report;
use super::tls;
use crate::base::escape::Escaped;
use crate::base::plural::Count;
use crate::base::time::{Duration, Time};
use crate::bridge::local_connection::LocalConnection;
use crate::bridge::machine::{Action, Condition, Machine, OWN_IDENTIFIERS, Status};
use crate::bridge::topics::Topics;
use crate::core::broker::{DroppedSession, LocalSide};
#[cfg(feature = "system")]
use crate::core::limits::Limits;
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
#[cfg(feature = "persistence")]
use crate::settings::ListenerName;
use crate::settings::{self, ConfigError, Security, Settings};

/// How long each address of the other broker may take until MQTT can be sent.
const PATIENCE: Duration = Duration::from_seconds(10);
/// How often bytes are passed on between the two sides in a turn, before others have theirs.
const ROUNDS_PER_TURN: usize = 16;
/// How often the figures of a bridge are published.
const SHOWN_EVERY: Duration = Duration::from_seconds(10);
/// What is published of each bridge, as the last level of the topic.
const FIGURES: [&str; 7] = ["state", "queue", "oldest", "error", "forwarded", "received", "dropped"];

/// All bridges of this broker.
#[derive(Default)]
pub(super) struct Bridges(Vec<Bridge>);

/// One bridge.
struct Bridge {
    /// The settings of the configuration. The machine may use those before them until its connection has ended.
    settings: Rc<settings::Bridge>,
    /// Whether it does.
    is_outdated: bool,
    listener: ListenerId,
    tls: Option<tls::ClientSetup>,
    machine: Machine,
    /// The connection to the core.
    local: Option<LocalConnection>,
    remote: Option<Remote>,
    /// A second connection, which only finds out whether an address answers.
    probe: Option<CallId>,
    /// What was last published of its state, and when its other figures are published next.
    shown: Option<(Condition, Time)>,
}

/// The connection to the other broker.
struct Remote {
    id: CallId,
    /// Whether the socket takes no more bytes for now.
    is_full: bool,
    /// Whether there may be bytes to receive.
    has_input: bool,
}

/// A bridge whose files were read, so that putting it in force cannot fail.
pub(super) struct Loaded {
    settings: Rc<settings::Bridge>,
    listener: ListenerId,
    tls: Option<tls::ClientSetup>,
}

impl Bridges {
    fn place_of_local(&self, id: ConnectionId) -> Option<usize> {
        self.0.iter().position(|bridge| bridge.local.as_ref().is_some_and(|local| local.id() == id))
    }

    fn place_of_remote(&self, id: CallId) -> Option<usize> {
        self.0.iter().position(|bridge| {
            bridge.remote.as_ref().is_some_and(|remote| remote.id == id) || bridge.probe == Some(id)
        })
    }

    /// The names under which they are stored.
    #[cfg(feature = "persistence")]
    pub(super) fn names(&self) -> impl Iterator<Item = ListenerName> {
        self.0.iter().map(|bridge| ListenerName { name: bridge.settings.stored_name(), proves_names: false })
    }

    /// What the core asks the access control about each of them.
    pub(super) fn securities(&self, common: Option<&Rc<Security>>) -> Vec<(ListenerId, Rc<Security>)> {
        self.0.iter().map(|bridge| (bridge.listener, security_of(&bridge.settings, common))).collect()
    }

    /// When one of them needs something, if nothing happens before.
    pub(super) fn due(&self) -> Option<Time> {
        self.0.iter().flat_map(Bridge::due).flatten().min()
    }
}

#[cfg(feature = "system")]
impl Loaded {
    /// What the core asks the access control about it.
    pub(super) fn security(&self, common: Option<&Rc<Security>>) -> (ListenerId, Rc<Security>) {
        (self.listener, security_of(&self.settings, common))
    }
}

impl Bridge {
    fn new(loaded: Loaded, packet_size: usize, seed: u64, now: Time) -> Self {
        let Loaded { settings, listener, tls } = loaded;
        let machine = Machine::new(Rc::clone(&settings), packet_size, seed, now);
        Self {
            settings,
            is_outdated: false,
            listener,
            tls,
            machine,
            local: None,
            remote: None,
            probe: None,
            shown: None,
        }
    }

    /// The Client Identifier of the session that it uses in this broker.
    fn client_identifier(&self) -> &str {
        &self.machine.settings().local.client_identifier
    }

    /// The sessions that it uses in this broker, now and once the settings have replaced those before them.
    fn local_sides(&self) -> impl Iterator<Item = LocalSide> {
        let next = &*self.settings;
        let former = Some(&**self.machine.settings());
        let former = former.filter(|former| former.local.client_identifier != next.local.client_identifier);
        let listener = self.listener;
        std::iter::once(next).chain(former).map(move |settings| LocalSide {
            client_identifier: settings.local.client_identifier.clone(),
            listener,
            filters: retained_filters(settings),
            changes_maximum: settings.queue.retained_changes,
        })
    }

    /// When it needs something, if nothing happens before.
    fn due(&self) -> [Option<Time>; 2] {
        let next = if self.is_busy() { Some(Time::ZERO) } else { self.machine.next_deadline() };
        [next, Some(self.shown.map_or(Time::ZERO, |(_, shown)| shown))]
    }

    /// Whether it has something to do at once.
    fn is_busy(&self) -> bool {
        let is_local = self.local.as_ref().is_some_and(|local| local.is_busy(&self.machine));
        let is_remote = self.remote.as_ref().is_some_and(|remote| {
            remote.has_input && self.machine.takes_remote()
                || !remote.is_full && !self.machine.remote_output().is_empty()
        });
        is_local || is_remote
    }

    fn destination(&self, index: usize) -> Option<Destination> {
        let address = self.settings.addresses.get(index)?;
        Some(Destination {
            host: address.host.clone(),
            port: address.port,
            from: self.settings.from,
            keepalive: self.settings.tcp_keepalive,
            user_timeout: self.settings.tcp_user_timeout,
            tls: self.tls.clone(),
            websocket: None,
            patience: PATIENCE,
        })
    }
}

impl Server {
    /// Reads the files of the bridges in the settings, and gives each its name. To be called once all listeners are
    /// open, before [`Server::enforce`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong in the files.
    pub fn add_bridges(&mut self, settings: &Settings) -> Result<(), Vec<ConfigError>> {
        let loaded = self.load_bridges(settings)?;
        let now = self.clock.now();
        for loaded in loaded {
            let (packet_size, seed) = (settings.limits.packet_size, seed());
            self.broker.set_listener_options(loaded.listener, options_of(&loaded.settings));
            self.bridges.0.push(Bridge::new(loaded, packet_size, seed, now));
        }
        self.claim_sessions();
        Ok(())
    }

    /// Reads the files of these bridges. Changes nothing but the list of names.
    pub(super) fn load_bridges(
        &mut self,
        Settings { bridges, .. }: &Settings,
    ) -> Result<Vec<Loaded>, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut loaded = Vec::new();
        for settings in bridges {
            let tls = settings.tls.as_ref().map(tls::load_client).transpose();
            match (tls, self.identify(&settings.place, &settings.stored_name())) {
                (Ok(tls), Ok(listener)) => {
                    loaded.push(Loaded { settings: Rc::new(settings.clone()), listener, tls });
                }
                (tls, listener) => {
                    errors.extend(tls.err().into_iter().flatten());
                    errors.extend(listener.err());
                }
            }
        }
        if errors.is_empty() { Ok(loaded) } else { Err(errors) }
    }

    /// Lets the core know which bridges there are, and drops the sessions of former ones.
    pub(super) fn claim_sessions(&mut self) {
        let now = self.clock.now();
        let is_of_bridge = |(place, name): (usize, &String)| {
            let id = u16::try_from(place).ok().map(ListenerId)?;
            name.starts_with(settings::Bridge::STORED_NAME_BEGINS).then_some(id)
        };
        let listeners: Vec<ListenerId> = self.names.iter().enumerate().filter_map(is_of_bridge).collect();
        let sides = self.bridges.0.iter().flat_map(Bridge::local_sides).collect();
        for DroppedSession { client_identifier, messages } in self.broker.set_bridges(sides, &listeners, now)
        {
            let client = Escaped(&client_identifier);
            let messages = Count(messages, "message");
            warn!(
                "Warning: session {client} was dropped with {messages}, since its bridge was removed or renamed."
            );
        }
    }

    /// Starts the bridges. To be called when the stored state has been restored.
    pub fn start_bridges(&mut self) {
        self.claim_sessions();
        let now = self.clock.now();
        for bridge in &self.bridges.0 {
            let topics = Topics::new(&bridge.settings.topics);
            let filters: Vec<String> =
                topics.wanted_here().iter().map(|wanted| wanted.filter.to_string()).collect();
            self.broker.end_other_subscriptions(&bridge.settings.local.client_identifier, &filters, now);
        }
    }

    /// Replaces the bridges by those of a new configuration; those that stay the same are left alone.
    #[cfg(feature = "system")]
    pub(super) fn replace_bridges(&mut self, loaded: Vec<Loaded>, limits: &Limits, now: Time) {
        let mut former = std::mem::take(&mut self.bridges.0);
        for loaded in loaded {
            self.broker.set_listener_options(loaded.listener, options_of(&loaded.settings));
            match former.iter().position(|bridge| bridge.listener == loaded.listener) {
                None => {
                    let (packet_size, seed) = (limits.packet_size, seed());
                    self.bridges.0.push(Bridge::new(loaded, packet_size, seed, now));
                }
                Some(place) => {
                    let mut bridge = former.swap_remove(place);
                    bridge.machine.set_packet_size(limits.packet_size);
                    if !bridge.settings.has_settings_of(&loaded.settings) {
                        bridge.machine.reconfigure(Rc::clone(&loaded.settings), now);
                        bridge.settings = loaded.settings;
                        bridge.is_outdated = true;
                    }
                    bridge.tls = loaded.tls;
                    self.bridges.0.push(bridge);
                }
            }
        }
        for bridge in former {
            self.remove_bridge(bridge, now);
        }
        self.claim_sessions();
    }

    /// Ends a bridge for good. A side that does not take its last bytes at once does not get them.
    #[cfg(feature = "system")]
    fn remove_bridge(&mut self, mut bridge: Bridge, now: Time) {
        bridge.machine.shut_down(now);
        self.run_bridge(&mut bridge, now);
        if bridge.local.is_some() {
            // What it has said last waits in the core, which will drop it with the session.
            if let Some((topic, state)) = bridge.machine.last_state() {
                self.broker.publish_state_of_bridge(topic, state, now);
            }
            self.close_side_here(&mut bridge, now);
        }
        self.close_side_there(&mut bridge);
        for what in FIGURES {
            self.broker.publish_about_bridge(&bridge.settings.name, what, "", now);
        }
    }

    fn close_side_here(&mut self, bridge: &mut Bridge, now: Time) {
        if let Some(local) = bridge.local.take() {
            local.close(&mut self.broker, now);
        }
    }

    fn close_side_there(&mut self, bridge: &mut Bridge) {
        self.end_probe(bridge);
        if let Some(remote) = bridge.remote.take() {
            self.links.calls.hang_up(remote.id, &mut self.resolver);
        }
    }

    /// Passes on what has come for the bridges, and does what they ask for.
    pub(super) fn run_bridges(&mut self, now: Time) {
        if self.bridges.0.is_empty() {
            return;
        }
        self.take_reports(now);
        for place in 0..self.bridges.0.len() {
            self.with_bridge(place, |server, bridge| {
                let waiting = server.broker.waiting_messages(bridge.client_identifier());
                bridge.machine.queued(waiting, now);
                bridge.machine.tick(now);
                server.run_bridge(bridge, now);
                server.show_bridge(bridge, waiting, now);
            });
        }
        self.look_for_replaced();
        self.take_reports(now);
    }

    /// Publishes the state of a bridge when it has changed, and its other figures now and then.
    fn show_bridge(&mut self, bridge: &mut Bridge, waiting: usize, now: Time) {
        let Status { condition, last_error, forwarded, received, dropped, .. } = bridge.machine.status();
        if bridge.shown.is_some_and(|(shown, next)| shown == condition && now < next) {
            return;
        }
        bridge.shown = Some((condition, now + SHOWN_EVERY));
        let (waited, outdated) = self.broker.bridge_queue(bridge.client_identifier(), now);
        let values = [
            condition.to_string(),
            waiting.to_string(),
            waited.seconds().to_string(),
            last_error.unwrap_or_default().to_owned(),
            forwarded.to_string(),
            received.to_string(),
            (dropped + outdated).to_string(),
        ];
        for (what, value) in FIGURES.into_iter().zip(values) {
            self.broker.publish_about_bridge(&bridge.settings.name, what, &value, now);
        }
    }

    /// Drops the sessions of bridges that have begun to use others.
    fn look_for_replaced(&mut self) {
        let mut is_any = false;
        for bridge in self.bridges.0.iter_mut().filter(|bridge| bridge.is_outdated) {
            bridge.is_outdated = !Rc::ptr_eq(bridge.machine.settings(), &bridge.settings);
            is_any |= !bridge.is_outdated;
        }
        if is_any {
            self.claim_sessions();
        }
    }

    /// Takes a bridge out of the list while it works with the rest of the server.
    fn with_bridge(&mut self, place: usize, work: impl FnOnce(&mut Self, &mut Bridge)) {
        let mut bridges = std::mem::take(&mut self.bridges.0);
        if let Some(bridge) = bridges.get_mut(place) {
            work(self, bridge);
        }
        self.bridges.0 = bridges;
    }

    pub(super) fn take_report(&mut self, id: CallId, report: Report, now: Time) {
        let Some(place) = self.bridges.place_of_remote(id) else { return };
        let bridge = &mut self.bridges.0[place];
        if bridge.probe == Some(id) {
            let answers = matches!(report, Report::Connected(_));
            if answers {
                self.links.calls.hang_up(id, &mut self.resolver);
            }
            bridge.probe = None;
            bridge.machine.probed(answers, now);
            return;
        }
        let Some(remote) = &mut bridge.remote else { return };
        match report {
            Report::Connected(_) => bridge.machine.connected(now),
            Report::Readable => remote.has_input = true,
            Report::Writable => remote.is_full = false,
            Report::Failed(failures) => {
                bridge.remote = None;
                let why: Vec<String> = failures.iter().map(ToString::to_string).collect();
                bridge.machine.dial_failed(&why.join("; "), now);
            }
            Report::Closed(why) => {
                bridge.remote = None;
                bridge.machine.remote_closed(&why, now);
            }
            Report::Broken(why) => {
                bridge.remote = None;
                bridge.machine.remote_broken(&why, now);
            }
        }
    }

    /// Passes bytes on in both directions until nothing is left or others have their turn.
    fn run_bridge(&mut self, bridge: &mut Bridge, now: Time) {
        for _ in 0..ROUNDS_PER_TURN {
            self.act_for_bridge(bridge, now);
            self.pass_to_remote(bridge, now);
            self.pass_to_local(bridge, now);
            self.receive_from_remote(bridge, now);
            self.receive_from_local(bridge, now);
            if !bridge.is_busy() {
                break;
            }
        }
        self.act_for_bridge(bridge, now);
    }

    fn act_for_bridge(&mut self, bridge: &mut Bridge, now: Time) {
        while let Some(action) = bridge.machine.next_action() {
            match action {
                Action::OpenLocal => self.open_local(bridge, now),
                Action::CloseLocal => self.close_side_here(bridge, now),
                Action::Dial(index) => self.dial_for_bridge(bridge, index, now),
                Action::Probe(index) => self.probe_for_bridge(bridge, index, now),
                Action::HangUp => self.close_side_there(bridge),
                Action::ForgetReceived => {
                    self.broker.forget_received(bridge.client_identifier());
                    self.broker.owe_all_retained(bridge.client_identifier(), now);
                }
                Action::CatchUp => self.broker.catch_up(bridge.client_identifier(), now),
            }
        }
        while let Some((level, line)) = bridge.machine.next_line() {
            log!(level, "{line}");
        }
    }

    fn open_local(&mut self, bridge: &mut Bridge, now: Time) {
        // On a connection that only gives the session its subscriptions, messages would be in flight and not forwarded.
        self.broker.hold_deliveries(bridge.client_identifier(), bridge.machine.is_preparing());
        bridge.local = LocalConnection::open(&mut self.broker, bridge.listener, now);
        if bridge.local.is_none() {
            bridge.machine.local_closed("there is no room for the connection", now);
        }
    }

    fn dial_for_bridge(&mut self, bridge: &mut Bridge, index: usize, now: Time) {
        let Some(destination) = bridge.destination(index) else { return };
        let spare = self.broker.spare_identifiers(bridge.client_identifier(), OWN_IDENTIFIERS);
        bridge.machine.set_identifiers(spare);
        match self.dial(destination) {
            Ok(id) => bridge.remote = Some(Remote { id, is_full: false, has_input: false }),
            Err(why) => bridge.machine.dial_failed(&why, now),
        }
    }

    fn probe_for_bridge(&mut self, bridge: &mut Bridge, index: usize, now: Time) {
        self.end_probe(bridge);
        let Some(destination) = bridge.destination(index) else { return };
        match self.dial(destination) {
            Ok(id) => bridge.probe = Some(id),
            Err(_) => bridge.machine.probed(false, now),
        }
    }

    fn end_probe(&mut self, bridge: &mut Bridge) {
        if let Some(id) = bridge.probe.take() {
            self.links.calls.hang_up(id, &mut self.resolver);
        }
    }

    fn pass_to_remote(&mut self, bridge: &mut Bridge, now: Time) {
        let Some(remote) = &mut bridge.remote else { return };
        let bytes = bridge.machine.remote_output();
        if remote.is_full || bytes.is_empty() {
            return;
        }
        let count = self.links.calls.send(remote.id, bytes);
        remote.is_full = count < bytes.len();
        bridge.machine.remote_sent(count, now);
    }

    fn pass_to_local(&mut self, bridge: &mut Bridge, now: Time) {
        if let Some(local) = &mut bridge.local {
            local.send(&mut self.broker, &mut bridge.machine, now);
        }
    }

    fn receive_from_remote(&mut self, bridge: &mut Bridge, now: Time) {
        let Some(remote) = &mut bridge.remote else { return };
        if !remote.has_input || !bridge.machine.takes_remote() {
            return;
        }
        remote.has_input = false;
        let (id, machine) = (remote.id, &mut bridge.machine);
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
        calls.receive(id, |bytes| machine.remote_received(bytes, now), &mut world);
    }

    fn receive_from_local(&mut self, bridge: &mut Bridge, now: Time) {
        if let Some(local) = &mut bridge.local {
            local.receive(&mut self.broker, &mut bridge.machine, now);
        }
    }

    /// The core has something to say to a connection that is not a client's.
    #[cold]
    pub(super) fn write_to_bridge(&mut self, id: ConnectionId, now: Time) {
        if let Some(place) = self.bridges.place_of_local(id) {
            self.with_bridge(place, |server, bridge| server.run_bridge(bridge, now));
        }
    }

    /// The core takes bytes of this connection again.
    pub(super) fn resume_bridge(&mut self, id: ConnectionId, now: Time) {
        if let Some(place) = self.bridges.place_of_local(id) {
            self.with_bridge(place, |server, bridge| {
                if let Some(local) = &mut bridge.local {
                    local.resume(&mut bridge.machine, now);
                }
                server.run_bridge(bridge, now);
            });
        }
    }

    /// The core ends this connection.
    pub(super) fn close_local(&mut self, id: ConnectionId, now: Time) {
        if let Some(place) = self.bridges.place_of_local(id) {
            self.with_bridge(place, |server, bridge| {
                server.receive_from_local(bridge, now);
                server.close_side_here(bridge, now);
                bridge.machine.local_closed("this broker has closed the connection", now);
                server.run_bridge(bridge, now);
            });
        }
    }

    /// Ends all bridges: the other brokers are told, and the messages stay queued.
    pub(super) fn shut_down_bridges(&mut self, now: Time) {
        for place in 0..self.bridges.0.len() {
            self.with_bridge(place, |server, bridge| {
                bridge.machine.shut_down(now);
                server.run_bridge(bridge, now);
            });
        }
    }
}
