//! The clients that are connected to a node, on the way to the other nodes and back.

use super::Node;
use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::cluster::claims::{Claims, ClientHash, Lost};
use crate::cluster::engine::{Machine, SubscriptionId};
use crate::cluster::subjects::Subjects;
use crate::core::broker::Broker;
use crate::core::nodes::ClientChange;
use crate::protocol::nats::{Publication, Subject, SubjectPattern};

/// How many messages about clients are sent in a turn. The rest follows in later turns.
const SAID_PER_TURN: usize = 4;
/// Clients that are looked up in about the time of one step of the core.
const CLIENTS_PER_STEP: usize = 2;

/// What a node knows of clients.
#[derive(Debug)]
pub(super) struct Clients {
    claims: Claims,
    /// The subscription to what nodes say about their clients.
    heard_by: SubscriptionId,
    /// What was received and not heard, because the turn of the core had no room for it.
    unheard: Option<Vec<u8>>,
}

impl Clients {
    pub(super) fn new(
        (incarnation, now, wall): (u64, Time, Duration),
        subjects: &Subjects,
        engine: &mut Machine,
    ) -> Self {
        let subject = subjects.clients();
        let pattern = SubjectPattern::new(&subject).expect("a name is a subject");
        let heard_by = engine.subscribe(pattern, None).expect("it is the first one");
        Self { claims: Claims::new(incarnation, wall, now), heard_by, unheard: None }
    }

    /// Whether messages of this subscription are about clients.
    pub(super) fn is_heard_by(&self, id: SubscriptionId) -> bool {
        self.heard_by == id
    }

    /// Whether more can be heard in this turn.
    pub(super) const fn takes_input(&self) -> bool {
        self.unheard.is_none()
    }

    /// There is a new connection to the other nodes.
    pub(super) fn say_again(&mut self) {
        self.claims.begin_again();
    }
}

impl Node {
    /// Tells the other nodes which clients have connected here, and ends the connections of those that have connected
    /// at another node since. To be called in each turn.
    pub fn exchange_clients(&mut self, broker: &mut Broker, now: Time) {
        let claims = &mut self.clients.claims;
        for change in broker.take_client_changes() {
            match change {
                ClientChange::Connected { connection, client_identifier, user_name } => {
                    let client = ClientHash::of(&client_identifier, user_name.as_deref());
                    claims.connected(client, connection, now);
                }
                ClientChange::Ended(connection) => claims.ended(connection),
            }
        }
        self.end_lost(broker, now);
        self.say_claims(now);
    }

    /// When there is something to do about clients.
    pub(super) fn claims_deadline(&self) -> Option<Time> {
        self.clients.claims.next_deadline(self.engine.has_room())
    }

    fn say_claims(&mut self, now: Time) {
        let name = self.subjects.clients();
        let mut body = Vec::new();
        for _ in 0..SAID_PER_TURN {
            let room = self.engine.message_maximum();
            if !self.engine.has_room() || !self.clients.claims.write_next(room, now, &mut body) {
                return;
            }
            let subject = Subject::new(&name).expect("a name is a subject");
            let publication = Publication { subject, reply: None, headers: None, payload: &[&body] };
            if self.engine.publish(&publication).is_err() {
                self.clients.claims.was_not_sent();
                return;
            }
        }
    }

    /// Hears what has waited for this turn.
    pub(super) fn hear_rest_of_claims(&mut self, broker: &mut Broker, now: Time) {
        if let Some(body) = self.clients.unheard.take() {
            self.hear_claims(&body, broker, now);
        }
    }

    /// Hears what another node says about its clients, in a later turn if this one has no room for it.
    pub(super) fn hear_claims(&mut self, body: &[u8], broker: &mut Broker, now: Time) {
        if !broker.takes_input() {
            self.clients.unheard = Some(body.to_vec());
            return;
        }
        match self.clients.claims.hear(body, now) {
            Ok(count) => broker.take_steps(1 + count / CLIENTS_PER_STEP),
            Err(why) => {
                self.note_fault(&format!("What another node says about its clients was ignored: {why}"));
            }
        }
    }

    /// Ends connections whose clients have connected at another node since, as far as the turn has room for it.
    pub(super) fn end_lost(&mut self, broker: &mut Broker, now: Time) {
        while broker.takes_input()
            && let Some(Lost { connection, has_rival }) = self.clients.claims.next_lost()
        {
            let client = broker.end_elsewhere(connection, now);
            self.figures.takeovers += u64::from(client.is_some());
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
