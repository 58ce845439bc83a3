//! What a bridge asks its caller to do, and what it reports.

use std::collections::VecDeque;

use log::Level;

/// The most log lines that wait to be taken. Beyond: further ones are dropped.
const LINES_MAXIMUM: usize = 256;

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection to this broker for the bridge. Its bytes are exchanged from then on.
    OpenLocal,
    /// Close the connection to this broker. The bridge has sent everything on it.
    CloseLocal,
    /// Connect to the address with this index, and answer with `connected` or `dial_failed`.
    Dial(usize),
    /// Find out whether a connection to the address with this index can be opened, beside the one that is open, close
    /// it, and answer with `probed`. The answer counts only while that one is open.
    Probe(usize),
    /// Close the connection to the other broker, or stop connecting.
    HangUp,
    /// The other broker has a new session: forget the Packet Identifiers of the QoS 2 messages that the session of the
    /// bridge in this broker has received, and send all retained messages with the next `CatchUp`. It comes before the
    /// `OpenLocal` of that session.
    ForgetReceived,
    /// Messages are forwarded to the other broker from now on, and all subscriptions in this one were made: send the
    /// retained messages that have changed meanwhile.
    CatchUp,
}

/// Actions and log lines that wait for the caller.
#[derive(Debug, Default)]
pub struct Signals {
    actions: VecDeque<Action>,
    lines: VecDeque<(Level, String)>,
}

impl Signals {
    pub fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn say(&mut self, level: Level, line: String) {
        if self.lines.len() < LINES_MAXIMUM {
            self.lines.push_back((level, line));
        }
    }

    pub fn next_line(&mut self) -> Option<(Level, String)> {
        self.lines.pop_front()
    }
}
