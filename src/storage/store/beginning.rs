//! What a broker stores when it starts for the first time: the sessions of its bridges, with what belongs to them. A store
//! that holds nothing else is as good as empty.

use crate::core::journal::{Record, Restored, SessionNumber};
use crate::core::message::Portable;

/// The contents of a store, as far as they matter here.
#[derive(Debug, Default)]
pub struct Beginning {
    sessions: Vec<SessionNumber>,
    client_identifiers: Vec<String>,
    has_more: bool,
}

impl Beginning {
    /// Takes note of what a store holds. `listeners` are its names of listeners, of which those of bridges begin with
    /// `bridges`.
    pub fn take_note<'a>(
        &mut self,
        restored: Restored,
        mut listeners: impl Iterator<Item = &'a str>,
        bridges: &str,
    ) {
        self.has_more |= match restored {
            Restored::Session(session) => {
                let is_of_bridge =
                    listeners.nth(session.listener.0.into()).is_some_and(|name| name.starts_with(bridges));
                if is_of_bridge {
                    self.sessions.push(session.number);
                    self.client_identifiers.push(session.client_identifier);
                }
                !is_of_bridge
            }
            Restored::Subscription(session, _) => !self.sessions.contains(&session),
            Restored::Owed(owed) => !self.client_identifiers.contains(&owed.client_identifier),
            Restored::Retained(message) => !is_about_a_bridge(&message),
            Restored::Arrived(..) => false,
            _ => true,
        };
    }

    /// Whether the store holds more than what a start makes.
    pub const fn has_more(&self) -> bool {
        self.has_more
    }

    /// The records that remove what a start has made, so that the next one makes it anew.
    pub fn removal(self) -> Vec<Record> {
        let ended = |session| Record::SessionEnded { session, leaves_shared: false };
        let owed = self.client_identifiers.into_iter().map(Record::NothingOwed);
        self.sessions.into_iter().map(ended).chain(owed).collect()
    }
}

/// Whether a message says that a bridge is connected or not.
fn is_about_a_bridge(message: &Portable) -> bool {
    message.publication().topic.is_about_a_bridge()
}
