//! Takes the place of the limits on guessing in a binary built without hashed passwords, where there are none to guess.

use crate::auth::passwords::Trial;
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::access::{Answer, Verdict};
use crate::core::slots::ConnectionId;
use crate::protocol::codec::ReasonCode;

/// The key for values that must be unpredictable.
#[derive(Clone, Debug)]
pub struct Attempts([u8; 32]);

/// A client that claims to be a user.
#[derive(Clone, Copy, Debug)]
pub struct Claimant;

impl Attempts {
    /// Takes a random key, which is never revealed to a client.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Returns the key.
    pub const fn key(&self) -> [u8; 32] {
        self.0
    }

    /// Never called: this binary knows no secrets, so there is never a [`Trial`].
    pub const fn claimant(&self, _peer: Option<Peer>, _user: &str, _client: &str, _most: usize) -> Claimant {
        Claimant
    }

    /// Never called.
    pub fn verify(
        &self,
        _claimant: (ConnectionId, Claimant),
        _user: &str,
        _trial: (Trial, &[u8]),
        _now: Time,
    ) -> Answer {
        Answer::Now(Verdict::Refused(ReasonCode::BadUserNameOrPassword))
    }

    /// Does nothing: no connection waits.
    pub const fn forget(&self, _connection: ConnectionId) {}

    /// There are no decisions.
    pub const fn next_decision(&self, _now: Time) -> Option<(ConnectionId, Verdict)> {
        None
    }
}
