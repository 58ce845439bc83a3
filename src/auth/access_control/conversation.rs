//! SCRAM-SHA-256 with the users of a password file.

use std::borrow::Cow;
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use log::error;

use super::random;
use crate::auth::attempts::{Attempts, Claimant, Standing, limit};
use crate::auth::passwords::{Digest, Passwords, Secret, digest, pick};
use crate::auth::scram::{self, Step, Verifier};
use crate::base::memory;
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::access::{Client, Exchange, Progress, TOO_MANY_WRONG};
use crate::protocol::codec::ReasonCode;

/// Bytes of the server's part of the nonce.
const NONCE_LENGTH: usize = 24;

/// The client that has begun an exchange.
#[derive(Debug)]
pub(super) struct Caller {
    peer: Option<Peer>,
    client_identifier: Box<str>,
    /// How many different wrong passwords of a user are verified; zero for any number.
    most: usize,
}

impl Caller {
    /// The client of a question. `most` is the limit on wrong passwords that its listener sets for each user.
    pub(super) fn new(client: &Client<'_>, most: usize) -> Self {
        Self { peer: client.peer, client_identifier: client.client_identifier.into(), most }
    }
}

/// An exchange in progress.
#[derive(Debug)]
pub(super) struct Conversation {
    exchange: scram::Exchange,
    passwords: Rc<Passwords>,
    secret: [u8; 32],
    attempts: Attempts,
    caller: Caller,
    /// The user that the client claims to be, from its first message on.
    claimed: Option<Claimed>,
    /// Why it has failed, if there is more to say than the client is told.
    failure: Option<Failure>,
}

/// What the client is not told about its failure.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Why its proof is wrong.
    Proof(&'static str),
    /// There were too many wrong passwords before.
    Limit,
}

/// The user that a client claims to be.
#[derive(Clone, Copy, Debug)]
struct Claimed {
    claimant: Claimant,
    /// The digest under which a proof is remembered. It is the same for every exchange with this line of the password
    /// file.
    proof: Digest,
    /// Why its proof is wrong, if it is.
    doubt: &'static str,
}

impl Conversation {
    /// Begins an exchange if the method is SCRAM-SHA-256 and at least one user has a verifier for it.
    pub(super) fn begin(
        method: &str,
        passwords: Rc<Passwords>,
        secret: [u8; 32],
        attempts: Attempts,
        caller: Caller,
    ) -> Option<Self> {
        if method != scram::METHOD {
            return None;
        }
        passwords.secrets().find_map(verifier)?;
        match random::<NONCE_LENGTH>() {
            Ok(nonce) => {
                let exchange = scram::Exchange::new(Base64::encode_string(&nonce));
                Some(Self { exchange, passwords, secret, attempts, caller, claimed: None, failure: None })
            }
            Err(why) => {
                error!("Error: the system gives no random bytes: {why}.");
                None
            }
        }
    }
}

fn verifier(secret: &Secret) -> Option<&Verifier> {
    match secret {
        Secret::Scram(verifier) => Some(verifier),
        Secret::Sha512 { .. } | Secret::Pbkdf2 { .. } | Secret::Argon2id { .. } => None,
    }
}

/// The verifier for a user that has none. It is modelled on the verifier of some real user and is always the same for
/// one name, so that a client cannot find out which users exist.
fn decoy(passwords: &Passwords, user: &str, secret: &[u8]) -> Verifier {
    let verifiers = || passwords.secrets().filter_map(verifier);
    let model = pick(user, secret, verifiers().count()).and_then(|place| verifiers().nth(place));
    model.expect("an exchange begins only if there is a verifier").decoy(user, secret)
}

impl Exchange for Conversation {
    fn go_on(&mut self, data: &[u8], now: Time) -> Progress {
        if data.is_empty() {
            // A client that sends no data with its CONNECT is asked for it.
            return Progress::Challenge(Vec::new());
        }
        let Self { exchange, passwords, secret, attempts, caller, claimed, failure } = self;
        let step = exchange.go_on(data, |user| {
            let stored = passwords.secret(user);
            let (verifier, is_known) = match stored.and_then(verifier) {
                Some(verifier) => (verifier.clone(), true),
                None => (decoy(passwords, user, secret), false),
            };
            let doubt = match (is_known, stored) {
                (true, _) => "wrong password",
                (false, Some(_)) => "the password of this user is not stored for SCRAM-SHA-256",
                (false, None) => "no such user",
            };
            let claimant = attempts.claimant(caller.peer, user, &caller.client_identifier, caller.most);
            let proof = digest(secret, &[b"proof", verifier.to_string().as_bytes(), user.as_bytes()]);
            *claimed = Some(Claimed { claimant, proof, doubt });
            (verifier, is_known)
        });
        // Until the client has named a user, nothing is proved and nothing counts as a wrong password.
        let Some(Claimed { claimant, proof, doubt }) = claimed else {
            return match step {
                Step::Failed(what) => Progress::Failed(ReasonCode::NotAuthorized, what),
                Step::Challenge(_) | Step::Passed { .. } => unreachable!("the first message names the user"),
            };
        };
        let mut too_many = || {
            *failure = Some(Failure::Limit);
            Progress::Failed(ReasonCode::ConnectionRateExceeded, TOO_MANY_WRONG)
        };
        match step {
            _ if attempts.standing(claimant, now) == Standing::Closed => too_many(),
            Step::Challenge(text) => Progress::Challenge(text.into_bytes()),
            Step::Passed { .. } if !attempts.accepts(claimant, *proof, now) => too_many(),
            Step::Passed { user, proof } => {
                Progress::Passed { user_name: user.into(), data: proof.into_bytes() }
            }
            Step::Failed(what) => {
                let was_open = attempts.standing(claimant, now) == Standing::Open;
                // No two proofs are the same, so repeated use of one wrong password cannot be recognised.
                attempts.note_wrong(claimant, digest(secret, &[b"exchange", data]), now);
                if !was_open {
                    return too_many();
                }
                *failure = (what == scram::WRONG_PROOF).then_some(Failure::Proof(doubt));
                Progress::Failed(ReasonCode::NotAuthorized, what)
            }
        }
    }

    fn user_name(&self) -> Option<&str> {
        self.exchange.user_name()
    }

    fn why_failed(&self) -> Option<Cow<'static, str>> {
        self.failure.map(|failure| match failure {
            Failure::Proof(doubt) => doubt.into(),
            Failure::Limit => limit(self.caller.most).into(),
        })
    }

    fn memory(&self) -> usize {
        self.exchange.memory() + memory::allocation(self.caller.client_identifier.len())
    }
}
