//! The body of the fuzz target for databases of mosquitto: any bytes as a file. It panics if the imported records are
//! inconsistent.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::num::NonZeroU64;

use super::{Entrance, Import};
use crate::base::fuzzing::Input;
use crate::core::journal::{MessageNumber, NextNumbers, Record, SessionNumber};
use crate::core::listener::ListenerId;

/// The first byte chooses whether the input is preceded by a valid header, and of which version.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let version = input.pick(&[None, None, Some(3), Some(4), Some(5), Some(6)]);
    let begin = version
        .map_or_else(Vec::new, |version| [&b"\0\xB5\0mosquitto db\0\0\0\0\0\0\0"[..], &[version]].concat());
    let file = [&begin, input.bytes(usize::MAX)].concat();
    let Ok(import) = Import::read(&file, 1_000_000_000_000) else { return };
    let first = NonZeroU64::new(7).expect("7 is not 0");
    let next = NextNumbers { session: SessionNumber(first), message: MessageNumber(first) };
    let mut seen = Seen::default();
    let entrance = |port| Entrance { listener: ListenerId(port), proves_names: port % 2 == 0 };
    let done = import.records(next, &entrance, |record| {
        seen.note(&record);
        Ok::<(), Infallible>(())
    });
    assert!(done.is_ok());
    let brought = import.brought();
    assert_eq!(seen.sessions.len(), brought.sessions);
    assert_eq!(seen.subscriptions, brought.subscriptions);
    assert!(seen.recipients >= brought.queued && seen.retained >= brought.retained);
    // Each chunk yields a bounded number of records, and the shortest chunk takes ten bytes.
    assert!(seen.sessions.len() + seen.subscriptions + brought.queued <= file.len() / 10);
}

#[derive(Default)]
struct Seen {
    sessions: BTreeSet<SessionNumber>,
    messages: Option<MessageNumber>,
    identifiers: BTreeSet<(SessionNumber, bool, u16)>,
    subscriptions: usize,
    recipients: usize,
    retained: usize,
}

impl Seen {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Session(session) => {
                assert!(self.sessions.insert(session.number), "{session:?}");
            }
            Record::Subscribed(session, _) => {
                assert!(self.sessions.contains(session));
                self.subscriptions += 1;
            }
            Record::Message(message) => {
                assert!(self.messages.replace(message.number) < Some(message.number), "numbers rise");
                let of: BTreeSet<_> = message.recipients.iter().map(|recipient| recipient.session).collect();
                assert!(!of.is_empty() && of.len() == message.recipients.len(), "{message:?}");
                assert!(of.is_subset(&self.sessions));
                self.recipients += of.len();
                let publication = message.message.publication();
                assert!(publication.properties.iter().count() <= publication.properties.bytes().len());
            }
            Record::Received(session, identifier) => {
                assert!(self.identifiers.insert((*session, false, identifier.value())));
            }
            Record::Delivery(session, delivery) => {
                assert!(self.identifiers.insert((*session, true, delivery.identifier.value())));
                assert!(delivery.is_released || self.messages == Some(delivery.message));
            }
            Record::Retained(portable) => {
                assert!(!portable.publication().topic.as_str().is_empty());
                self.retained += 1;
            }
            Record::Cleared(_) => {}
            other => panic!("nothing is taken back: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn imported_records_are_consistent() {
        crate::base::fuzzing::try_out("import", 2_000, super::check);
    }
}
