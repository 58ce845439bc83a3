//! What a bridge reports of itself: its state, its counts, and log lines about single messages.

use std::fmt;

use log::Level;

use super::Machine;
use super::forward::Obstacle;
use super::local::LocalState;
use super::loops::{CIRCLE_TIME, CIRCLE_TIMES};
use super::remote::RemoteState;
use crate::base::escape::Escaped;
use crate::base::plural::Count;
use crate::bridge::topics::Way;
use crate::protocol::codec::{ProtocolVersion, ReasonCode};
use crate::settings::RemoteAddress;

/// The state of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It makes sure that its session in this broker has its subscriptions.
    Preparing,
    /// It waits for messages to forward.
    Idle,
    /// It waits before it connects again.
    Waiting,
    /// It connects, and tells the other broker what it wants.
    Connecting,
    /// It forwards messages.
    Connected,
    /// It is about to end its connection.
    Disconnecting,
    /// It has ended and does not connect again.
    Over,
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Preparing => "preparing",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnecting => "disconnecting",
            Self::Over => "over",
        })
    }
}

/// What is known of a bridge.
#[derive(Clone, Copy, Debug)]
pub struct Status<'a> {
    /// Its state.
    pub condition: Condition,
    /// The address that it is connected to or tries.
    pub address: &'a RemoteAddress,
    /// The version that it speaks or tries with the other broker.
    pub version: ProtocolVersion,
    /// Why the latest attempt or connection ended.
    pub last_error: Option<&'a str>,
    /// The number of messages forwarded to the other broker.
    pub forwarded: u64,
    /// The number of messages forwarded from the other broker.
    pub received: u64,
    /// The number of messages that could not be forwarded.
    pub dropped: u64,
}

/// The counts of a bridge, and what was said once and need not be said again.
#[derive(Debug, Default)]
pub struct Report {
    pub forwarded: u64,
    pub received: u64,
    pub dropped: u64,
    pub last_error: Option<String>,
    /// On this connection, a message was named that could not be forwarded.
    has_named_dropped: bool,
    /// A message that has come back, or seems to circle, was named.
    has_named_loop: bool,
    /// On this connection, a refused message was named.
    has_named_refused: bool,
}

impl Report {
    /// A new connection begins.
    pub const fn connects(&mut self) {
        self.has_named_dropped = false;
        self.has_named_refused = false;
    }
}

/// Returns the level of a line that would flood the log if each was a warning: only the first is one.
const fn once(has_named: &mut bool) -> Level {
    match std::mem::replace(has_named, true) {
        false => Level::Warn,
        true => Level::Debug,
    }
}

impl Machine {
    /// What is known of the bridge.
    pub fn status(&self) -> Status<'_> {
        Status {
            condition: self.condition(),
            address: &self.settings.addresses[self.attempts.address()],
            version: self.attempts.variant().version,
            last_error: self.report.last_error.as_deref(),
            forwarded: self.report.forwarded,
            received: self.report.received,
            dropped: self.report.dropped,
        }
    }

    fn condition(&self) -> Condition {
        match &self.remote.state {
            RemoteState::Idle if self.is_prepared && self.local.state == LocalState::Closed => {
                Condition::Idle
            }
            RemoteState::Idle => Condition::Preparing,
            RemoteState::Waiting { .. } => Condition::Waiting,
            RemoteState::Dialling | RemoteState::Greeting { .. } | RemoteState::SettingUp { .. } => {
                Condition::Connecting
            }
            RemoteState::Running { .. } => Condition::Connected,
            RemoteState::Ending { .. } => Condition::Disconnecting,
            RemoteState::Over => Condition::Over,
        }
    }

    /// Adds a log line about this bridge.
    pub(super) fn say(&mut self, level: Level, text: fmt::Arguments<'_>) {
        let line = format!("Bridge {}: {text}.", Escaped(&self.settings.name));
        self.signals.say(level, line);
    }

    /// The current address, for messages.
    pub(super) fn address(&self) -> String {
        let RemoteAddress { host, port } = &self.settings.addresses[self.attempts.address()];
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// Names a message that is not forwarded.
    pub(super) fn name_dropped(&mut self, topic: &str, bytes: usize, way: Way, obstacle: Obstacle) {
        let what = match obstacle {
            Obstacle::NoRule => "no rule forwards it",
            Obstacle::Topic => "its topic is not valid on the other side",
            Obstacle::Size => "it is larger than the receiver accepts",
            Obstacle::Loop => "it has come over this bridge before",
            Obstacle::Hops => "it has come over too many bridges",
            Obstacle::Echo => "this bridge has just forwarded it itself",
        };
        let side = match way {
            Way::Out => "to",
            Way::In => "from",
        };
        let level = match obstacle {
            Obstacle::NoRule => Level::Debug,
            Obstacle::Topic | Obstacle::Size => once(&mut self.report.has_named_dropped),
            Obstacle::Loop | Obstacle::Hops | Obstacle::Echo => once(&mut self.report.has_named_loop),
        };
        let advice = match (obstacle, way) {
            (Obstacle::Size, Way::In) => {
                format!("; the limit is {} (max_packet_size)", self.remote.packet_size)
            }
            (Obstacle::Size, Way::Out) => format!(
                "; the limit is {} (bridge_max_packet_size, or that of the other broker)",
                self.remote.limits.packet_size
            ),
            _ => String::new(),
        };
        self.say(
            level,
            format_args!(
                "A message with {} {side} the other broker was dropped: {what}; topic {}{advice}",
                Count(bytes, "byte"),
                Escaped(topic)
            ),
        );
    }

    /// Names a message that seems to circle, once.
    #[cold]
    #[inline(never)]
    pub(super) fn name_circle(&mut self, topic: &str) {
        if once(&mut self.report.has_named_loop) == Level::Warn {
            self.say(
                Level::Warn,
                format_args!(
                    "The same message was forwarded {CIRCLE_TIMES} times within {} s. Is there a loop of bridges? Topic {}",
                    CIRCLE_TIME.seconds(),
                    Escaped(topic)
                ),
            );
        }
    }

    /// Names a message that its receiver has refused.
    #[cold]
    pub(super) fn name_refused(&mut self, way: Way, code: ReasonCode) {
        let receiver = match way {
            Way::Out => "The other broker",
            Way::In => "This broker",
        };
        let level = once(&mut self.report.has_named_refused);
        self.say(level, format_args!("{receiver} has refused a message: {code}"));
    }
}
