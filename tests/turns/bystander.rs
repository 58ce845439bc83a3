//! A client that takes no part in an attack and counts how many turns the broker lets it wait.

use crate::server::{Peer, Server};
use crate::wire::{Connect, PINGREQ, Publish, V5, subscribe};

/// Its own topic, which no attack touches.
const TOPIC: &str = "bystander/own";

/// Its requests, which follow one another.
#[derive(Clone, Copy, Debug)]
enum Request {
    Ping,
    /// A message to itself, at this QoS.
    Message(u8),
}

/// A well-behaved client beside an attack.
pub struct Bystander {
    peer: Peer,
    /// The request that it waits for, and since which turn.
    waiting: Option<(Request, usize)>,
    got: Vec<u8>,
    next: Request,
    /// The number of turns in which an answer has to come.
    allowed: usize,
    /// How often it was answered.
    answers: usize,
    number: u16,
}

impl Bystander {
    /// A bystander that must be answered within two turns each time.
    pub fn new(server: &mut Server) -> Self {
        Self::patient(server, 2)
    }

    /// A bystander that must be answered within `allowed` turns each time.
    pub fn patient(server: &mut Server, allowed: usize) -> Self {
        let connect = Connect::new(V5, "bystander").bytes();
        let subscribe = subscribe(V5, 1, &[], &[(TOPIC, 1)]);
        let peer = server.connect([connect, subscribe].concat());
        server.acknowledge_all(&[peer]);
        Self { peer, waiting: None, got: Vec::new(), next: Request::Ping, allowed, answers: 0, number: 0 }
    }

    /// Takes one turn, and before it sends a request, unless the bystander waits for an answer.
    pub fn beside_a_turn(&mut self, server: &mut Server) {
        if self.waiting.is_none() {
            self.ask(server);
        }
        server.turn();
        self.look(server);
    }

    /// Sends the next request.
    pub fn ask(&mut self, server: &mut Server) {
        let request = self.next;
        let bytes = match request {
            Request::Ping => PINGREQ.to_vec(),
            Request::Message(0) => Publish::new(V5, TOPIC, b"").bytes(),
            Request::Message(qos) => {
                self.number = self.number % 1_000 + 1;
                Publish::new(V5, TOPIC, b"").qos(qos, self.number).bytes()
            }
        };
        self.next = match request {
            Request::Ping => Request::Message(0),
            Request::Message(0) => Request::Message(1),
            Request::Message(_) => Request::Ping,
        };
        server.send(self.peer, bytes);
        self.waiting = Some((request, server.turns));
    }

    /// Checks after a turn whether the answer has come; returns whether none is awaited any longer.
    pub fn look(&mut self, server: &mut Server) -> bool {
        self.got.extend(server.take(self.peer).into_iter().map(|packet| packet[0] >> 4));
        self.got.sort_unstable();
        let Some((request, since)) = self.waiting else { return true };
        let waited = server.turns - since;
        let wanted: &[u8] = match request {
            Request::Ping => &[13],
            Request::Message(0) => &[3],
            Request::Message(_) => &[3, 4],
        };
        if self.got == wanted {
            self.got.clear();
            self.waiting = None;
            self.answers += 1;
        }
        assert!(waited <= self.allowed, "the bystander waited {waited} turns for {request:?}");
        self.waiting.is_none()
    }

    /// Asserts that it waits for nothing.
    pub fn assert_rests(&self) {
        assert!(self.waiting.is_none(), "the broker is idle without having answered {:?}", self.waiting);
    }

    /// Asserts that it was answered often enough to prove something.
    pub fn assert_answered(&self, times: usize) {
        assert!(self.answers >= times, "the bystander was answered only {} times", self.answers);
    }
}
