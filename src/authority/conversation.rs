//! SCRAM-SHA-256 with the users of a password file.

use std::rc::Rc;

use base64ct::{Base64, Encoding};
use log::error;

use super::random;
use crate::access::{Exchange, Progress};
use crate::codec::ReasonCode;
use crate::passwords::{Passwords, Secret};
use crate::scram::{self, Step, Verifier};

/// Bytes of the server's share of a nonce.
const NONCE_LENGTH: usize = 24;

/// One exchange on its way.
#[derive(Debug)]
pub(super) struct Conversation {
    exchange: scram::Exchange,
    passwords: Rc<Passwords>,
    /// What users who have no verifier are judged by, so that nobody can tell them from others.
    model: Verifier,
    secret: [u8; 32],
}

impl Conversation {
    /// Begins one, if the method is SCRAM-SHA-256 and any user has a verifier for it.
    pub(super) fn begin(method: &str, passwords: Rc<Passwords>, secret: [u8; 32]) -> Option<Self> {
        if method != scram::METHOD {
            return None;
        }
        let model = passwords.secrets().find_map(verifier)?.clone();
        match random::<NONCE_LENGTH>() {
            Ok(nonce) => {
                let exchange = scram::Exchange::new(Base64::encode_string(&nonce));
                Some(Self { exchange, passwords, model, secret })
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

impl Exchange for Conversation {
    fn go_on(&mut self, data: &[u8]) -> Progress {
        if data.is_empty() {
            // Whoever begins without data is asked for it.
            return Progress::Challenge(Vec::new());
        }
        let Self { exchange, passwords, model, secret } = self;
        let step = exchange.go_on(data, |user| match passwords.secret(user).and_then(verifier) {
            Some(verifier) => (verifier.clone(), true),
            None => (model.decoy(user, secret), false),
        });
        match step {
            Step::Challenge(text) => Progress::Challenge(text.into_bytes()),
            Step::Passed { user, proof } => {
                Progress::Passed { user_name: user.into(), data: proof.into_bytes() }
            }
            Step::Failed(what) => Progress::Failed(ReasonCode::NotAuthorized, what),
        }
    }
}
