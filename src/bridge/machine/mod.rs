//! A bridge as a state machine between two connections: one to this broker and one to the other broker.
//!
//! To this broker, the bridge is a client of MQTT 5.0 whose session outlives its connections. So the queue, the messages
//! in flight and QoS 2 are those of any session. Messages pass through with their Packet Identifiers, and so do their
//! acknowledgements: what the other broker sends is acknowledged once this broker has acknowledged it, and the other
//! way round. Only the requests of the bridge itself need identifiers, which no message in flight has. They are answered
//! before any message of this broker is forwarded, unless the other broker sends more messages before its answers than
//! this one accepts at a time.
//!
//! # Calls
//!
//! The machine makes no system calls. Its caller passes in the time, received bytes and events, and polls after each
//! call:
//!
//! 1. [`Machine::next_action`] until it returns `None`: what to do. After `HangUp` or `CloseLocal`, nothing more is
//!    reported about that connection.
//! 2. [`Machine::remote_output`] and [`Machine::local_output`]: what to send. What was sent is reported by
//!    [`Machine::remote_sent`] and [`Machine::local_sent`].
//! 3. [`Machine::takes_remote`] and [`Machine::takes_local`]: whether to pass in more bytes.
//! 4. [`Machine::next_line`] until it returns `None`: what to log.
//! 5. [`Machine::next_deadline`]: when to call [`Machine::tick`].
//!
//! # Limits
//!
//! Each output holds at most 96 KiB and one packet; beyond, nothing more is read that would be forwarded to it. Up to
//! 96 KiB of acknowledgements of messages that are not forwarded may come on top.
//! A partial packet of the other broker takes at most the largest packet of this broker; what is larger is skipped before
//! MQTT 5.0, where the other broker cannot know the limit, and ends the connection in MQTT 5.0. At most 64 requests of the
//! bridge wait for answers. Topic Aliases take at most 1 MiB. At most 256 log lines wait; further ones are dropped.
//! At most 1,024 messages are awaited as echoes, each for 10 seconds. A message passes at most 16 bridges.
//! Before MQTT 5.0, at most 20 messages are in flight to the other broker if a rule has QoS 2.

mod aliases;
mod attempts;
mod buffers;
mod connect;
mod ending;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod limits;
mod local;
mod loops;
mod oversized;
mod pace;
mod pulse;
mod remote;
mod report;
mod requests;
mod setup;
mod signals;
#[cfg(test)]
pub(super) mod tests;

use std::rc::Rc;

use log::Level;

use attempts::Attempts;
use forward::{LastTopic, Scratch};
use local::{Local, LocalState};
use loops::{Echoes, OwnHop, Suspect};
use pace::Pace;
use remote::{Next, Probe, Remote, RemoteState};
use report::Report;
use setup::highest_identifiers;
use signals::Signals;

use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::bridge::restart::Waits;
use crate::bridge::topics::Topics;
use crate::protocol::codec::PacketIdentifier;
use crate::settings::{Bridge, Reload, Start};

pub use report::{Condition, Status};
pub use setup::WINDOW as OWN_IDENTIFIERS;
pub use signals::Action;

/// A bridge.
#[derive(Debug)]
pub struct Machine {
    settings: Rc<Bridge>,
    topics: Topics,
    /// The largest packet in bytes that this broker accepts.
    packet_size: usize,
    waits: Waits,
    attempts: Attempts,
    remote: Remote,
    local: Local,
    /// Whether the session in this broker has its subscriptions.
    is_prepared: bool,
    /// Filters of earlier settings that the session may still have.
    obsolete: Vec<Box<str>>,
    /// Settings that apply to the next connection.
    replacement: Option<Rc<Bridge>>,
    /// The number of messages that wait in this broker.
    queued: usize,
    /// When a message was last forwarded.
    forwarded_at: Time,
    pace: Pace,
    /// The Packet Identifiers of its own requests to the other broker.
    identifiers: Rc<[PacketIdentifier]>,
    scratch: Scratch,
    last_topic: LastTopic,
    seed: u64,
    hop: OwnHop,
    echoes: Echoes,
    suspect: Suspect,
    report: Report,
    signals: Signals,
}

impl Machine {
    /// A bridge that starts now. `packet_size` is the largest packet in bytes that this broker accepts. The waits
    /// between attempts depend on the seed. It is to be different in each broker, since it is part of the name that
    /// messages carry to be recognized when they come back.
    ///
    /// # Panics
    ///
    /// If the settings have no address, or a prefix and its pattern are not a valid Topic Filter.
    pub fn new(settings: Rc<Bridge>, packet_size: usize, seed: u64, now: Time) -> Self {
        assert!(!settings.addresses.is_empty(), "the configuration checks that a bridge has an address");
        let attempts = Attempts::new(&settings);
        let mut this = Self {
            topics: Topics::new(&settings.topics),
            packet_size,
            waits: Waits::new(seed),
            remote: Remote::new(attempts.variant()),
            attempts,
            local: Local::new(),
            is_prepared: false,
            obsolete: Vec::new(),
            replacement: None,
            queued: 0,
            forwarded_at: now,
            pace: Pace::new(settings.queue.rate, now),
            identifiers: highest_identifiers(),
            scratch: Scratch::default(),
            last_topic: LastTopic::default(),
            seed,
            hop: OwnHop::new(&settings.remote.client_identifier, seed),
            echoes: Echoes::new(seed),
            suspect: Suspect::default(),
            report: Report::default(),
            signals: Signals::default(),
            settings,
        };
        this.pump(now);
        this
    }

    /// The settings that it uses, which may be those before the last ones until its connection has ended.
    pub const fn settings(&self) -> &Rc<Bridge> {
        &self.settings
    }

    /// Whether its connection to this broker only gives the session its subscriptions.
    pub fn is_preparing(&self) -> bool {
        self.local.state == LocalState::Preparing
    }

    /// The largest packet in bytes that this broker accepts has changed. The other broker is told with the next
    /// connection, so this one keeps what it was told.
    pub const fn set_packet_size(&mut self, bytes: usize) {
        self.packet_size = bytes;
    }

    /// Ends the bridge: it reports that it is not connected and closes its connections. No action follows once
    /// [`Machine::is_over`] is true.
    pub fn shut_down(&mut self, now: Time) {
        self.leave_local();
        self.leave_remote(Next::Over, now);
        self.pump(now);
    }

    /// Whether the bridge has ended and its connections are closed.
    pub fn is_over(&self) -> bool {
        matches!(self.remote.state, RemoteState::Over) && !self.local.is_open()
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.signals.next_action()
    }

    /// The next line for the log.
    pub fn next_line(&mut self) -> Option<(Level, String)> {
        self.signals.next_line()
    }

    /// When [`Machine::tick`] is to be called at the latest; `None` if time alone changes nothing.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadline = match &self.remote.state {
            // Before that, the connection to this broker has to be closed, which its last bytes wait for.
            RemoteState::Waiting { until } if !self.local.is_open() => *until,
            RemoteState::Greeting { deadline } | RemoteState::Ending { deadline, .. } => *deadline,
            RemoteState::SettingUp { deadline, .. } => (*deadline).min(self.remote.pulse.deadline()),
            RemoteState::Running { probe, .. } => {
                let probe = if let Probe::At(due) = *probe { due } else { Time::NEVER };
                probe.min(self.remote.pulse.deadline()).min(self.idle_due()).min(self.pace.deadline())
            }
            RemoteState::Waiting { .. } | RemoteState::Idle | RemoteState::Dialling | RemoteState::Over => {
                Time::NEVER
            }
        };
        (deadline < Time::NEVER).then_some(deadline)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        match self.remote.state {
            RemoteState::Greeting { deadline } if deadline <= now => self.lose("CONNACK has not come", now),
            RemoteState::SettingUp { deadline, .. } if deadline <= now => {
                self.lose("SUBACK, UNSUBACK or PUBACK has not come", now);
            }
            _ => {}
        }
        self.pace.refill(now);
        self.feel_pulse(now);
        self.probe(now);
        self.rest_if_idle(now);
        self.pump(now);
    }

    /// When a lazy bridge has had nothing to forward for long enough.
    fn idle_due(&self) -> Time {
        match self.settings.start {
            Start::Lazy { idle, .. } => self.forwarded_at + idle,
            Start::Automatic | Start::Once => Time::NEVER,
        }
    }

    /// Ends the connection of a lazy bridge that has had nothing to forward for long enough.
    fn rest_if_idle(&mut self, now: Time) {
        if !matches!(self.remote.state, RemoteState::Running { .. }) || now < self.idle_due() {
            return;
        }
        if !self.remote.pulse.is_calm() || self.local.owed > 0 {
            self.forwarded_at = now;
            return;
        }
        self.say(Level::Info, format_args!("There was nothing to forward, so the connection ends"));
        self.queued = 0;
        self.leave_local();
        self.leave_remote(Next::Idle, now);
    }

    /// The settings have changed. They apply to the next connection, or at once if they say so; a bridge that is not
    /// connected begins again. The session in this broker remains if its Client Identifier does. Not to be called after
    /// [`Machine::shut_down`].
    ///
    /// # Panics
    ///
    /// Like [`Machine::new`].
    pub fn reconfigure(&mut self, settings: Rc<Bridge>, now: Time) {
        assert!(!settings.addresses.is_empty(), "the configuration checks that a bridge has an address");
        let is_immediate = settings.reload == Reload::Immediate;
        self.replacement = Some(settings);
        match self.remote.state {
            RemoteState::SettingUp { .. } | RemoteState::Running { .. } | RemoteState::Ending { .. }
                if !is_immediate => {}
            RemoteState::Ending { ref mut next, .. } => *next = Next::Idle,
            _ => {
                self.leave_local();
                self.leave_remote(Next::Idle, now);
            }
        }
        self.pump(now);
    }

    /// Applies changed settings between two connections. They are tried at once, so that a session with another Client
    /// Identifier misses nothing.
    fn apply_replacement(&mut self, now: Time) {
        let Some(settings) = self.replacement.take() else { return };
        let topics = Topics::new(&settings.topics);
        let before = std::mem::replace(&mut self.settings, settings);
        if before.local.client_identifier == self.settings.local.client_identifier {
            let wanted = self.topics.wanted_here().iter().map(|wanted| wanted.filter.clone());
            self.obsolete.extend(wanted);
        } else {
            self.obsolete.clear();
        }
        let is_gone = |filter: &str| topics.wanted_here().iter().all(|wanted| *wanted.filter != *filter);
        self.obsolete.retain(|filter| is_gone(filter));
        self.topics = topics;
        self.pace = Pace::new(self.settings.queue.rate, now);
        self.hop = OwnHop::new(&self.settings.remote.client_identifier, self.seed);
        self.attempts = Attempts::new(&self.settings);
        self.is_prepared = false;
    }

    /// The number of messages that wait in the session of the bridge. It counts for a lazy bridge only, which connects
    /// once there are enough. To be called whenever it changes while the bridge is not connected.
    pub fn queued(&mut self, messages: usize, now: Time) {
        self.queued = messages;
        self.pump(now);
    }

    /// Sets the Packet Identifiers of its own requests on the next connection to the other broker: [`OWN_IDENTIFIERS`] that no
    /// message has which is in flight, or fewer. To be called before each connection.
    pub fn set_identifiers(&mut self, identifiers: Vec<PacketIdentifier>) {
        if !identifiers.is_empty() {
            self.identifiers = identifiers.into();
        }
    }

    /// The connection that `Dial` has asked for is open.
    pub fn connected(&mut self, now: Time) {
        if matches!(self.remote.state, RemoteState::Dialling) {
            self.greet(now);
        }
        self.pump(now);
    }

    /// The connection that `Dial` has asked for could not be opened.
    pub fn dial_failed(&mut self, why: &str, now: Time) {
        if matches!(self.remote.state, RemoteState::Dialling) {
            self.give_up(why, now);
        }
        self.pump(now);
    }

    /// The other broker has closed the connection, or the network has.
    pub fn remote_closed(&mut self, why: &str, now: Time) {
        let tried = self.attempts.variant();
        if self.is_greeting() && self.attempts.closed() {
            self.try_next_variant(tried, why);
            return self.pump(now);
        }
        self.remote_broken(why, now);
    }

    /// The connection to the other broker cannot go on, for a reason that has nothing to do with MQTT.
    pub fn remote_broken(&mut self, why: &str, now: Time) {
        match self.remote.state {
            RemoteState::Ending { next, .. } => self.rest(next),
            RemoteState::Greeting { .. } | RemoteState::SettingUp { .. } | RemoteState::Running { .. } => {
                self.give_up(why, now);
            }
            RemoteState::Idle | RemoteState::Waiting { .. } | RemoteState::Dialling | RemoteState::Over => {}
        }
        self.pump(now);
    }

    /// Closes the connection to the other broker at once, so that it publishes the Will.
    fn lose(&mut self, why: &str, now: Time) {
        if self.remote.is_open() {
            self.signals.act(Action::HangUp);
        }
        self.give_up(why, now);
    }

    /// There is no connection to the other broker any longer, or it could not be opened.
    fn give_up(&mut self, why: &str, now: Time) {
        self.leave_local();
        let next = self.plan(why, now);
        self.rest(next);
    }

    /// Ends the connection to the other broker in order.
    fn leave(&mut self, why: &str, now: Time) {
        let next = self.plan(why, now);
        self.leave_remote(next, now);
    }

    /// Decides what comes after a connection or an attempt that has ended, and says why it has ended.
    fn plan(&mut self, why: &str, now: Time) -> Next {
        match self.remote.state {
            RemoteState::Ending { next, .. } => return next,
            RemoteState::Over => return Next::Over,
            _ => {}
        }
        let address = self.address();
        let (what, level) = match self.remote.state {
            RemoteState::Running { since, .. } => {
                if now.since(since) >= self.settings.restart.stable {
                    self.waits.reset();
                }
                self.attempts.ended();
                ("The connection to", Level::Warn)
            }
            _ => {
                self.attempts.failed();
                ("The attempt to connect to", Level::Warn)
            }
        };
        self.report.last_error = Some(why.to_owned());
        if self.replacement.is_some() {
            self.say(
                level,
                format_args!(
                    "{what} {address} has ended: {}. The changed settings are tried at once",
                    Escaped(why)
                ),
            );
            return Next::Idle;
        }
        if self.settings.start == Start::Once {
            self.say(level, format_args!("{what} {address} has ended: {}. It is not repeated", Escaped(why)));
            return Next::Over;
        }
        let wait = self.waits.next(self.settings.restart);
        let tenths = wait.milliseconds() / 100;
        self.say(
            level,
            format_args!(
                "{what} {address} has ended: {}. The next attempt is in {}.{} s",
                Escaped(why),
                tenths / 10,
                tenths % 10
            ),
        );
        Next::Wait(now + wait)
    }

    /// Does everything that is possible now.
    fn pump(&mut self, now: Time) {
        while self.read_remote_again(now)
            | self.read_local_again(now)
            | self.set_up(now)
            | self.finish_remote(now)
            | self.finish_local()
            | self.start(now)
        {}
    }

    /// Begins to prepare the session or to connect if it is time. Returns whether it did.
    fn start(&mut self, now: Time) -> bool {
        if self.local.state != LocalState::Closed {
            return false;
        }
        if !self.remote.is_open() {
            self.apply_replacement(now);
        }
        match self.remote.state {
            RemoteState::Idle => {}
            RemoteState::Waiting { until } if until <= now => self.remote.state = RemoteState::Idle,
            _ => return false,
        }
        if !self.is_prepared {
            self.prepare();
            return true;
        }
        if let Start::Lazy { threshold, .. } = self.settings.start
            && self.queued < threshold
        {
            return false;
        }
        self.remote.state = RemoteState::Dialling;
        self.signals.act(Action::Dial(self.attempts.address()));
        true
    }
}
