//! SCRAM-SHA-256 with the users of a password file.

use std::net::IpAddr;
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use log::error;

use super::guard::Guard;
use super::{TOO_MANY_WRONG, random};
use crate::access::{Exchange, Progress};
use crate::codec::ReasonCode;
use crate::memory;
use crate::passwords::{Passwords, Secret, pick};
use crate::scram::{self, Step, Verifier};

/// Bytes of the server's share of a nonce.
const NONCE_LENGTH: usize = 24;

/// One exchange on its way.
#[derive(Debug)]
pub(super) struct Conversation {
    exchange: scram::Exchange,
    passwords: Rc<Passwords>,
    secret: [u8; 32],
    guard: Guard,
    address: Option<IpAddr>,
    /// Who the client says it is, once it has.
    user: Option<String>,
}

impl Conversation {
    /// Begins one, if the method is SCRAM-SHA-256 and any user has a verifier for it.
    pub(super) fn begin(
        method: &str,
        passwords: Rc<Passwords>,
        secret: [u8; 32],
        guard: Guard,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        if method != scram::METHOD {
            return None;
        }
        passwords.secrets().find_map(verifier)?;
        match random::<NONCE_LENGTH>() {
            Ok(nonce) => {
                let exchange = scram::Exchange::new(Base64::encode_string(&nonce));
                Some(Self { exchange, passwords, secret, guard, address, user: None })
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

/// What somebody is judged by who has no verifier: made like that of some user, always the same for one name, so that
/// nobody can tell him from others.
fn decoy(passwords: &Passwords, user: &str, secret: &[u8]) -> Verifier {
    let verifiers = || passwords.secrets().filter_map(verifier);
    let model = pick(user, secret, verifiers().count()).and_then(|place| verifiers().nth(place));
    model.expect("without any verifier nothing begins").decoy(user, secret)
}

impl Exchange for Conversation {
    fn go_on(&mut self, data: &[u8]) -> Progress {
        if data.is_empty() {
            // Whoever begins without data is asked for it.
            return Progress::Challenge(Vec::new());
        }
        let Self { exchange, passwords, secret, guard, address, user: claimed } = self;
        let step = exchange.go_on(data, |user| {
            *claimed = Some(user.to_owned());
            match passwords.secret(user).and_then(verifier) {
                Some(verifier) => (verifier.clone(), true),
                None => (decoy(passwords, user, secret), false),
            }
        });
        if claimed.as_ref().is_some_and(|user| !guard.may_try(*address, user)) {
            return Progress::Failed(ReasonCode::ConnectionRateExceeded, TOO_MANY_WRONG);
        }
        match step {
            Step::Challenge(text) => Progress::Challenge(text.into_bytes()),
            Step::Passed { user, proof } => {
                Progress::Passed { user_name: user.into(), data: proof.into_bytes() }
            }
            Step::Failed(what) => {
                if let Some(user) = claimed {
                    guard.note_wrong(*address, user);
                }
                Progress::Failed(ReasonCode::NotAuthorized, what)
            }
        }
    }

    fn memory(&self) -> usize {
        self.exchange.memory() + self.user.as_ref().map_or(0, |user| memory::allocation(user.capacity()))
    }
}
