//! The world around the core: the poll loop, listeners, sockets and the clock.
//!
//! One turn of the loop goes through fixed phases: poll, read the clock, read and accept, let time pass, write dirty
//! connections once, remove closed ones. Between them, the loop checks several times what has become durable, and
//! hands over the next batch. Each phase does only so much of its work that a turn takes a few milliseconds; the rest
//! is done in the next turns, in order. A system call is made once a turn for each connection with input or output,
//! however many messages that is; the log lines of a turn are written together as well. A socket is registered once,
//! for both directions, edge-triggered; so the loop remembers which links have more to read.

mod accept;
mod auth;
#[cfg(feature = "system")]
pub mod background;
#[cfg(feature = "bridge")]
mod bridge_options;
#[cfg(feature = "bridge")]
mod bridges;
#[cfg(not(feature = "bridge"))]
#[path = "without_bridges.rs"]
mod bridges;
mod calls;
mod clock;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(not(feature = "cluster"))]
#[path = "without_cluster.rs"]
mod cluster;
#[cfg(feature = "system")]
mod control;
#[cfg(not(feature = "system"))]
#[path = "without_system.rs"]
mod control;
pub mod destination;
pub mod dial;
#[cfg(feature = "system")]
mod fingerprint;
mod footprint;
mod layers;
mod link;
mod links;
mod listener;
#[cfg(feature = "system")]
mod names;
mod notify;
mod owner;
#[cfg(feature = "persistence")]
mod persistence;
#[cfg(not(feature = "persistence"))]
#[path = "without_persistence.rs"]
mod persistence;
pub mod plan;
pub mod privileges;
mod reading;
#[cfg(feature = "system")]
mod reload;
mod resolver;
#[cfg(feature = "system")]
mod signals;
mod socket;
mod stream;
#[cfg(test)]
#[cfg(all(feature = "system", feature = "tls", feature = "websocket"))]
mod tests;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
pub mod tls;
mod trim;
mod unix_socket;
#[cfg(feature = "websocket")]
mod websocket;
#[cfg(not(feature = "websocket"))]
#[path = "without_websocket.rs"]
mod websocket;
mod writing;

use std::io;
use std::sync::Arc;
use std::time::Duration as SystemDuration;

use log::info;
use mio::{Events, Poll, Token, Waker};

use crate::auth::access_control::Attempts;
use crate::auth::access_control::random;
use crate::base::memory;
use crate::base::time::{Duration, Time};
use crate::core::access::AccessControl;
use crate::core::broker::{Broker, Effect, Intake};
use crate::core::limits::Limits;
use crate::core::switches::Switches;
use crate::logging;

use auth::Rights;
use bridges::Bridges;
#[cfg(feature = "persistence")]
pub use clock::AllClocks;
use clock::Clock;
pub use clock::wall;
use cluster::Cluster;
#[cfg(feature = "system")]
use control::Configuration;
use links::Links;
use listener::{Listener, SOCKETS_MAXIMUM};
#[cfg(feature = "system")]
use names::Reloading;
use notify::Notifier;
use persistence::StorageLink;
use reading::READS_OF_SUSPECT;
use resolver::Resolver;
use trim::Trim;

#[cfg(feature = "cluster")]
pub use cluster::check_node;
#[cfg(feature = "system")]
pub use control::Reader;
pub use control::Signals;
pub use listener::{check, probe};
pub use resolver::LookUp;

/// Bytes read at a time, and at most from one link in a turn; fewer if many links have input, or if memory runs out,
/// since input that has to wait is kept.
const READ_BYTES: usize = 256 * 1024;
const BYTES_PER_STEP: usize = 1024;
/// Events taken from the poller in a turn.
const EVENTS_PER_TURN: usize = 1024;
/// Timers that fire in a turn.
const TIMERS_PER_TURN: usize = 1024;
/// Links of peers that seem to be silent which are read in a turn before others.
const SUSPECTS_PER_TURN: usize = 256;
/// How late a turn must be for the loop to count as held up.
const HELD_UP: Duration = Duration::from_milliseconds(1000);
/// Time for the peers to close when the broker ends.
const FAREWELL: Duration = Duration::from_milliseconds(1000);

/// Listeners at one time, including closed ones with open connections.
const LISTENERS_MAXIMUM: usize = 64;

/// The sockets of listeners have the first tokens, followed by signals, other threads and links.
const SIGNALS: Token = Token(LISTENERS_MAXIMUM * SOCKETS_MAXIMUM);
const WAKER: Token = Token(SIGNALS.0 + 1);
const FIRST_LINK: usize = SIGNALS.0 + 2;

/// A broker with its sockets.
pub struct Server {
    poll: Poll,
    clock: Clock,
    waker: Arc<Waker>,
    broker: Broker,
    /// By listener number.
    listeners: Vec<Option<Listener>>,
    links: Links,
    bridges: Bridges,
    cluster: Cluster,
    resolver: Resolver,
    /// When the poller last returned.
    looked: Time,
    /// Whether so many links have input in this turn that peers which ask for little are read first.
    is_crowded: bool,
    #[cfg(feature = "system")]
    configuration: Option<Configuration>,
    /// A reload that waits for host names.
    #[cfg(feature = "system")]
    reloading: Option<Box<Reloading>>,
    rights: Rights,
    /// What access controls know about clients that have tried to authenticate.
    attempts: Attempts,
    notifier: Notifier,
    /// The connection to the storage thread, if anything is persisted.
    persistence: Option<StorageLink>,
    /// The numbers of the listeners, in the order of the settings.
    opened: Vec<usize>,
    /// The name of each present or former listener, by its [`ListenerId`](crate::core::listener::ListenerId).
    names: Vec<String>,
    trim: Trim,
    signals: Signals,
}

impl Server {
    /// A server without listeners, which handles signals once it runs.
    ///
    /// # Errors
    ///
    /// If the system provides no poller or no random bytes.
    pub fn new(limits: &Limits, access: Box<dyn AccessControl>, mut signals: Signals) -> io::Result<Self> {
        let poll = Poll::new()?;
        let clock = Clock::start();
        signals.register(poll.registry(), SIGNALS)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let attempts = Attempts::new(random()?);
        // The memory of sockets and TLS belongs to the same budget.
        let begin = Broker::with_account_of_thread;
        Ok(Self {
            broker: begin(footprint::prepare(limits), access, clock::seed(), clock.now()),
            resolver: Resolver::new(Arc::clone(&waker)),
            waker,
            poll,
            clock,
            listeners: Vec::new(),
            links: Links::default(),
            bridges: Bridges::default(),
            cluster: Cluster::default(),
            looked: clock.now(),
            is_crowded: false,
            #[cfg(feature = "system")]
            configuration: None,
            #[cfg(feature = "system")]
            reloading: None,
            rights: Rights::default(),
            attempts,
            notifier: Notifier::from_environment(),
            persistence: None,
            opened: Vec::new(),
            names: Vec::new(),
            trim: Trim::default(),
            signals,
        })
    }

    /// Publishes information about the broker under `$SYS`, once every `interval`; `None` for never.
    pub fn publish_sys(&mut self, interval: Option<Duration>) {
        self.broker.publish_sys(interval, clock::wall(), self.clock.now());
    }

    /// Sets what the broker does or leaves out from now on: see [`Broker::set_switches`].
    pub fn set_switches(&mut self, switches: Switches) {
        self.broker.set_switches(switches);
    }

    /// Sets the function that returns freed memory to the system after a peak, a step at a time. It applies to the
    /// whole process and blocks all its allocations.
    pub const fn trim_with(&mut self, all: fn()) {
        self.trim.by(all);
    }

    /// Returns what other threads use to wake the loop, so that it takes the decisions of the access control.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Replaces the access control: see [`Broker::replace_access`].
    pub fn replace_access(&mut self, access: Box<dyn AccessControl>) {
        self.broker.replace_access(access, self.clock.now());
    }

    /// Whether a signal has asked the broker to end.
    pub fn is_over(&self) -> bool {
        self.signals.is_over()
    }

    /// Serves until a signal asks the broker to end.
    ///
    /// # Errors
    ///
    /// If the poller fails.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.notifier.tell("READY=1");
        while !self.turn(&mut events, None)? {}
        self.shut_down(&mut events)
    }

    /// Takes one turn of the loop, and waits no longer than until `latest`. Returns whether the broker is to end.
    fn turn(&mut self, events: &mut Events, latest: Option<Time>) -> io::Result<bool> {
        let now = self.clock.now();
        logging::publish(|topic, line| self.broker.publish_line(topic, line, now));
        log::logger().flush();
        let now = self.wait(events, latest)?;
        self.share_turn(self.links.waiting() + events.iter().count());
        self.check_storage_room(now);
        self.exchange(now)?;
        let is_signalled = self.read_input(events, now);
        self.accept(now);
        self.exchange(now)?;
        self.take_pages(now);
        self.apply_effects(now);
        self.answer(now);
        self.broker.tick(now, TIMERS_PER_TURN);
        self.apply_effects(now);
        self.look_for_ends(now);
        self.handle_calls(now);
        self.run_bridges(now);
        self.run_cluster(now);
        self.exchange(now)?;
        self.write(now);
        self.reap(now);
        self.give_back(now);
        self.notifier.keep_alive(now);
        Ok(is_signalled)
    }

    /// Sleeps until something happens or is due, and returns the time. If that is much later than it should be, the
    /// core is told, because input of peers is unread.
    fn wait(&mut self, events: &mut Events, latest: Option<Time>) -> io::Result<Time> {
        let (began, timeout) = (self.clock.now(), self.timeout(latest));
        let mut was_stopped = false;
        if !self.poll_once(events, timeout)? {
            // Whatever has interrupted it may have stopped the process, unless it was a signal that is handled.
            self.poll_once(events, Some(Duration::ZERO))?;
            was_stopped = events.iter().all(|event| event.token() != SIGNALS);
        }
        let now = self.clock.now();
        let slept = match timeout {
            _ if was_stopped => Duration::ZERO,
            Some(timeout) => now.since(began).min(timeout),
            None => now.since(began),
        };
        let late = now.since(self.looked + slept);
        self.looked = now;
        if late >= HELD_UP {
            self.broker.held_up(late, now);
        }
        Ok(now)
    }

    /// Polls once; returns false if it was interrupted, so that there are no events.
    fn poll_once(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<bool> {
        let timeout = timeout.map(|timeout| SystemDuration::from_millis(timeout.milliseconds()));
        match self.poll.poll(events, timeout) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long the poller may sleep; `None` for as long as nothing happens.
    fn timeout(&self, latest: Option<Time>) -> Option<Duration> {
        if self.links.are_busy() || self.broker.has_work() {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now();
        let accepting = self.listeners.iter().flatten().filter_map(|listener| listener.due(now)).min();
        let next = [
            self.broker.next_deadline(),
            accepting,
            self.calls_due(),
            self.bridges.due(),
            self.cluster.due(self.broker.batch_due()),
            self.notifier.due(),
            self.persistence_due(),
            self.trim.due(),
            latest,
        ]
        .into_iter()
        .flatten()
        .min()?;
        Some(next.since(now))
    }

    /// Returns freed memory to the system, if that is due.
    fn give_back(&mut self, now: Time) {
        if self.trim.is_due(memory::held(), now) {
            self.trim.act();
            let took = self.clock.now().since(now);
            self.trim.done(memory::held(), took);
        }
    }

    /// Does what the core asks for in addition to writing.
    fn apply_effects(&mut self, now: Time) {
        while let Some(effect) = self.broker.next_effect() {
            match effect {
                Effect::Close(id) => {
                    if let Some(link) = self.links.clients.find(id) {
                        link.begin_closing();
                        self.finish(id, now);
                        self.links.read_on(id);
                    } else {
                        self.close_local(id, now);
                    }
                }
                Effect::Drop(id) => self.links.dead.push_back((id, String::new())),
                Effect::Listen(id) => self.links.suspects.push_back((id, READS_OF_SUSPECT)),
                Effect::Resume(id) => {
                    if self.broker.resume(id, now) == Intake::More {
                        self.links.read_on(id);
                        self.resume_bridge(id, now);
                    }
                }
            }
        }
    }

    /// Stops listening, closes all connections and gives the peers some time to close their side.
    fn shut_down(&mut self, events: &mut Events) -> io::Result<()> {
        self.notifier.tell("STOPPING=1");
        info!("brooklet version {} terminating", env!("CARGO_PKG_VERSION"));
        self.close_all();
        let now = self.clock.now();
        self.shut_down_bridges(now);
        self.broker.shut_down(now);
        let end = now + FAREWELL;
        while self.links.clients.open() > 0 && self.clock.now() < end {
            if self.turn(events, Some(end))? {
                break;
            }
        }
        self.leave_cluster(events)?;
        self.finish_persistence(events)
    }

    /// Closes the listeners, and leaves everything else to the end of the process: the system reclaims at once what
    /// would take long to free piece by piece.
    pub fn leave(mut self) {
        self.close_all();
        std::mem::forget(self);
    }
}
