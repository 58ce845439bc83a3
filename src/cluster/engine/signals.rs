//! What the machine asks its caller to do, and what it reports.

use std::collections::VecDeque;

use log::Level;

use super::requests::{RequestId, Unanswered};
use super::servers::Address;

/// The most log lines, and the most refusals, that wait to be taken. Further ones are dropped.
const WAITING_MAXIMUM: usize = 256;
/// The most different reasons that are remembered as said.
const SAID_MAXIMUM: usize = 16;

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to this server, and answer with `connected` or `dial_failed`.
    Dial(Address),
    /// Begin the handshake of TLS on the open connection, and answer with `secured` or `closed`.
    StartTls,
    /// Close the connection, or stop connecting.
    HangUp,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is a connection, on which all subscriptions were made again.
    Ready,
    /// The connection was lost, for this reason. What was sent and not answered may have been carried out. Messages of
    /// subscriptions may be missing.
    Lost(String),
    /// A request has ended without an answer.
    Unanswered(RequestId, Unanswered),
    /// The server has refused to let the client publish or subscribe to a subject, in its own words.
    Refused(String),
}

/// Actions, notices and log lines that wait for the caller.
#[derive(Debug, Default)]
pub struct Signals {
    actions: VecDeque<Action>,
    notices: VecDeque<Notice>,
    refusals: usize,
    lines: VecDeque<(Level, String)>,
    /// The reasons for failed attempts that were said since the last connection.
    said: Vec<String>,
}

impl Signals {
    pub fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Adds a notice. There are no more than requests, connections and a limited number of refusals.
    pub fn note(&mut self, notice: Notice) {
        if matches!(notice, Notice::Refused(_)) {
            if self.refusals == WAITING_MAXIMUM {
                return;
            }
            self.refusals += 1;
        }
        self.notices.push_back(notice);
    }

    pub fn next_notice(&mut self) -> Option<Notice> {
        let notice = self.notices.pop_front()?;
        if matches!(notice, Notice::Refused(_)) {
            self.refusals -= 1;
        }
        Some(notice)
    }

    /// Adds a line, which gets its period here.
    pub fn say(&mut self, level: Level, line: String) {
        if self.lines.len() < WAITING_MAXIMUM {
            self.lines.push_back((level, line + "."));
        }
    }

    pub fn next_line(&mut self) -> Option<(Level, String)> {
        self.lines.pop_front()
    }

    /// Says why an attempt has failed, once for each reason until there is a connection again.
    pub fn say_once(&mut self, why: &str, line: String) {
        let is_new = self.said.len() < SAID_MAXIMUM && self.said.iter().all(|said| said != why);
        if is_new {
            self.said.push(why.to_owned());
        }
        self.say(if is_new { Level::Warn } else { Level::Debug }, line);
    }

    /// There is a connection: reasons count as new again.
    pub fn forget_said(&mut self) {
        self.said.clear();
    }
}
