//! The clients that are connected to a node, on the way to the other nodes and back.

use super::Node;
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::cluster::claims::{ClientHash, Lost};
use crate::cluster::engine::{Machine, SubscriptionId};
use crate::cluster::subjects::Subjects;
use crate::core::broker::Broker;
use crate::core::nodes::ClientChange;
use crate::protocol::nats::{Publication, Subject, SubjectPattern};

/// How many messages about clients are sent in a turn. The rest follows in later turns.
const SAID_PER_TURN: usize = 4;
/// Clients that are looked up in about the time of one step of the core.
const CLIENTS_PER_STEP: usize = 2;

/// Subscribes to what nodes say about their clients.
pub(super) fn subscribe(subjects: &Subjects, engine: &mut Machine) -> SubscriptionId {
    let subject = subjects.clients();
    let pattern = SubjectPattern::new(&subject).expect("a name is a subject");
    engine.subscribe(pattern, None).expect("it is the first one")
}

impl Node {
    /// Tells the other nodes which clients have connected here, and ends the connections of those that have connected
    /// at another node since. To be called in each turn.
    pub fn exchange_clients(&mut self, broker: &mut Broker, now: Time) {
        for change in broker.take_client_changes() {
            match change {
                ClientChange::Connected { connection, client_identifier, user_name } => {
                    let client = ClientHash::of(&client_identifier, user_name.as_deref());
                    self.claims.0.connected(client, connection, now);
                }
                ClientChange::Ended(connection) => self.claims.0.ended(connection),
            }
        }
        self.end_lost(broker, now);
        self.say_claims(now);
    }

    /// When there is something to do about clients.
    pub(super) fn claims_deadline(&self) -> Option<Time> {
        self.claims.0.next_deadline(self.engine.has_room())
    }

    fn say_claims(&mut self, now: Time) {
        let name = self.subjects.clients();
        let mut body = Vec::new();
        for _ in 0..SAID_PER_TURN {
            let room = self.engine.message_maximum();
            if !self.engine.has_room() || !self.claims.0.write_next(room, now, &mut body) {
                return;
            }
            let subject = Subject::new(&name).expect("a name is a subject");
            let publication = Publication { subject, reply: None, headers: None, payload: &[&body] };
            if self.engine.publish(&publication).is_err() {
                self.claims.0.was_not_sent();
                return;
            }
        }
    }

    /// Hears what another node says about its clients.
    pub(super) fn hear_claims(&mut self, body: &[u8], broker: &mut Broker, now: Time) {
        match self.claims.0.hear(body, now) {
            Ok(count) => broker.take_steps(1 + count / CLIENTS_PER_STEP),
            Err(why) => {
                self.note_fault(&format!("What another node says about its clients was ignored: {why}"));
            }
        }
    }

    /// Ends connections whose clients have connected at another node since, as far as the turn has room for it.
    pub(super) fn end_lost(&mut self, broker: &mut Broker, now: Time) {
        while broker.takes_input()
            && let Some(Lost { connection, has_rival }) = self.claims.0.next_lost()
        {
            let client = broker.end_elsewhere(connection, now);
            if let Some(client) = client.filter(|_| has_rival) {
                self.note_fault(&format!(
                    "Client {} connects here and at other nodes in turn: several clients use this Client Identifier, or \
                     one connects to several nodes at once",
                    Escaped(&client)
                ));
            }
        }
    }
}
