//! SCRAM-SHA-256 (RFC 5802, RFC 7677) on the server's side: the verifier that is stored in place of a password, and the
//! exchange of four messages, which proves to each side that the other one knows the password or its verifier.
//!
//! It uses no randomness of its own: the nonce is passed in. Only passwords of printable ASCII are accepted, which
//! SASLprep does not change; others are refused.

use std::fmt;

use base64ct::{Base64, Encoding};
use ctutils::CtEq;
use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha256};

use crate::base::memory;
use crate::protocol::scram::{ClientFinal, ClientFirst, Key, is_prepared, server_final, server_first, text};

pub use crate::protocol::scram::METHOD;

/// The default rounds of a new verifier, the minimum that RFC 7677 allows.
pub const ROUNDS: u32 = 4_096;
/// The maximum rounds of a verifier.
const ROUNDS_MAXIMUM: u32 = 5_000_000;
/// The allowed lengths of a salt in bytes.
const SALT_LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;

/// What a server stores in place of a password. It is enough to verify a client and to authenticate the server, but not
/// to impersonate the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    rounds: u32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Creates the verifier of a password.
    ///
    /// # Errors
    ///
    /// The password has characters other than printable ASCII.
    pub fn new(password: &[u8], salt: &[u8], rounds: u32) -> Result<Self, &'static str> {
        if !is_prepared(password) {
            return Err("a password for SCRAM-SHA-256 may only have printable ASCII characters");
        }
        Ok(Self::derive(password, salt, rounds))
    }

    fn derive(password: &[u8], salt: &[u8], rounds: u32) -> Self {
        let mut salted = [0; 32];
        pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut salted);
        let stored_key = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
        Self { rounds, salt: salt.into(), stored_key, server_key: hmac(&salted, &[b"Server Key"]) }
    }

    /// Parses the form of RFC 5803, `SCRAM-SHA-256$rounds:salt$stored key:server key`.
    ///
    /// # Errors
    ///
    /// A description of what is wrong and what was expected.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let expected = "a verifier that cannot be read, expected SCRAM-SHA-256$rounds:salt$stored key:server key, \
                        the last three in base64";
        let rest = text.strip_prefix(METHOD).and_then(|rest| rest.strip_prefix('$')).ok_or(expected)?;
        let (cost, keys) = rest.split_once('$').ok_or(expected)?;
        let (rounds, salt) = cost.split_once(':').ok_or(expected)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(expected)?;
        let rounds = rounds.parse().ok().filter(|rounds| (1..=ROUNDS_MAXIMUM).contains(rounds));
        let salt = Base64::decode_vec(salt).ok().filter(|salt| SALT_LENGTHS.contains(&salt.len()));
        let key =
            |text| Base64::decode_vec(text).ok().and_then(|key| Key::try_from(key).ok()).ok_or(expected);
        Ok(Self {
            rounds: rounds.ok_or("rounds of a verifier out of range, expected 1 to 5000000")?,
            salt: salt.ok_or(expected)?.into(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// The rounds of PBKDF2.
    pub const fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Whether this is the verifier of `password`.
    pub fn verifies(&self, password: &[u8]) -> bool {
        let found = Self::derive(password, &self.salt, self.rounds);
        found.stored_key.ct_eq(&self.stored_key).to_bool()
    }

    /// Creates a decoy for a user that does not exist, so that a client cannot find out whether a user exists. It has
    /// the form of this verifier. Its salt is derived from the name and a secret, so it is always the same for a name.
    pub fn decoy(&self, user: &str, secret: &[u8]) -> Self {
        let mut salt = hmac(secret, &[b"salt", user.as_bytes()]).to_vec();
        salt.extend(hmac(secret, &[b"more salt", user.as_bytes()]));
        salt.truncate(self.salt.len());
        let key = hmac(secret, &[b"key", user.as_bytes()]);
        Self { rounds: self.rounds, salt: salt.into(), stored_key: key, server_key: key }
    }
}

/// The form in a password file.
impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base64 = Base64::encode_string;
        write!(
            formatter,
            "{METHOD}${}:{}${}:{}",
            self.rounds,
            base64(&self.salt),
            base64(&self.stored_key),
            base64(&self.server_key)
        )
    }
}

/// Omits all secrets.
impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(METHOD)
    }
}

/// The result of a message from the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this to the client, which answers.
    Challenge(String),
    /// The client is authenticated.
    Passed {
        /// The user.
        user: String,
        /// The last message for the client, which authenticates the server.
        proof: String,
    },
    /// The authentication has failed, for this reason.
    Failed(&'static str),
}

/// An exchange, on the server's side.
#[derive(Debug)]
pub struct Exchange {
    nonce: String,
    /// The user that the client claims to be.
    user: Option<Box<str>>,
    stage: Stage,
}

/// What a client is told whose password is wrong, or whose user does not exist.
pub const WRONG_PROOF: &str = "a wrong proof";

#[derive(Debug)]
enum Stage {
    First,
    Final(Box<Challenged>),
    Over,
}

/// The state after a challenge, to verify the answer.
#[derive(Debug)]
struct Challenged {
    user: String,
    /// The GS2 header of the first message, which the last one has to repeat.
    binding: String,
    /// Both parts of the nonce.
    nonce: String,
    /// The first two messages, which are part of the input for the proofs.
    said: String,
    verifier: Verifier,
    is_known: bool,
}

impl Challenged {
    fn memory(&self) -> usize {
        let texts = [&self.user, &self.binding, &self.nonce, &self.said];
        let texts: usize = texts.map(|text| memory::allocation(text.capacity())).iter().sum();
        texts + memory::allocation(self.verifier.salt.len())
    }
}

impl Exchange {
    /// A new exchange. `nonce` is the server's part: printable ASCII without commas, never used twice.
    pub const fn new(nonce: String) -> Self {
        Self { nonce, user: None, stage: Stage::First }
    }

    /// The heap memory that the exchange uses, in bytes.
    pub fn memory(&self) -> usize {
        let stage = match &self.stage {
            Stage::First | Stage::Over => 0,
            Stage::Final(challenged) => memory::allocation(size_of::<Challenged>()) + challenged.memory(),
        };
        let user = self.user.as_ref().map_or(0, |user| memory::allocation(user.len()));
        memory::allocation(self.nonce.capacity()) + user + stage
    }

    /// Processes the client's next message. `find` returns the verifier of a user, and whether the user exists.
    pub fn go_on(&mut self, message: &[u8], find: impl FnOnce(&str) -> (Verifier, bool)) -> Step {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let message = match text(message) {
            Ok(message) => message,
            Err(what) => return Step::Failed(what),
        };
        match stage {
            Stage::First => match self.challenge(message, find) {
                Ok((challenged, text)) => {
                    self.user = Some(challenged.user.as_str().into());
                    self.stage = Stage::Final(Box::new(challenged));
                    Step::Challenge(text)
                }
                Err(what) => Step::Failed(what),
            },
            Stage::Final(challenged) => challenged.judge(message).unwrap_or_else(Step::Failed),
            Stage::Over => Step::Failed("the exchange is over"),
        }
    }

    /// The user that the client claims to be, once it has said so.
    pub fn user_name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Processes the client-first-message and creates the server-first-message.
    fn challenge(
        &self,
        message: &str,
        find: impl FnOnce(&str) -> (Verifier, bool),
    ) -> Result<(Challenged, String), &'static str> {
        let first = ClientFirst::parse(message)?;
        let (verifier, is_known) = find(&first.user);
        let nonce = format!("{}{}", first.nonce, self.nonce);
        let text = server_first(&nonce, &verifier.salt, verifier.rounds);
        let said = format!("{},{text}", first.bare);
        let binding = first.binding.to_owned();
        Ok((Challenged { user: first.user, binding, nonce, said, verifier, is_known }, text))
    }
}

impl Challenged {
    /// Processes the client-final-message and verifies its proof.
    fn judge(self, message: &str) -> Result<Step, &'static str> {
        let ClientFinal { binding, nonce, without_proof, proof } = ClientFinal::parse(message)?;
        if binding != self.binding.as_bytes() {
            return Err("channel binding that differs from the first message");
        }
        if nonce != self.nonce {
            return Err("a nonce other than that of the exchange");
        }
        let said = [self.said.as_bytes(), b",", without_proof.as_bytes()];
        let signature = hmac(&self.verifier.stored_key, &said);
        let mut client_key = proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let found: Key = Sha256::digest(client_key).into();
        let is_right = found.ct_eq(&self.verifier.stored_key).to_bool();
        if !(is_right && self.is_known) {
            return Err(WRONG_PROOF);
        }
        let proof = server_final(&hmac(&self.verifier.server_key, &said));
        Ok(Step::Passed { user: self.user, proof })
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The last message of a client for a challenge. `bare` is its first message without the GS2 header.
#[cfg(test)]
pub(crate) fn answer(bare: &str, challenge: &str, password: &str) -> String {
    let part = |mark: &str| challenge.split(',').find_map(|part| part.strip_prefix(mark)).unwrap();
    let (salt, rounds) = (Base64::decode_vec(part("s=")).unwrap(), part("i=").parse().unwrap());
    let mut salted = [0; 32];
    pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, rounds, &mut salted);
    let mut proof = hmac(&salted, &[b"Client Key"]);
    let stored_key: Key = Sha256::digest(proof).into();
    let without_proof = format!("c=biws,r={}", part("r="));
    let said = [bare, challenge, &without_proof].join(",");
    let signature = hmac(&stored_key, &[said.as_bytes()]);
    proof.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
    format!("{without_proof},p={}", Base64::encode_string(&proof))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The example of RFC 7677.
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const PROOF: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn pencil() -> Verifier {
        let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Verifier::new(b"pencil", &salt, 4096).unwrap()
    }

    fn find(user: &str) -> (Verifier, bool) {
        (pencil(), user == "user")
    }

    fn exchange(first: &str, last: &str) -> Step {
        let mut exchange = Exchange::new(NONCE.to_owned());
        match exchange.go_on(first.as_bytes(), find) {
            Step::Challenge(_) => exchange.go_on(last.as_bytes(), find),
            over => over,
        }
    }

    #[test]
    fn the_example_of_the_standard_passes() {
        let mut exchange = Exchange::new(NONCE.to_owned());
        assert_eq!(exchange.go_on(FIRST.as_bytes(), find), Step::Challenge(CHALLENGE.to_owned()));
        let passed = Step::Passed { user: "user".to_owned(), proof: PROOF.to_owned() };
        assert_eq!(exchange.go_on(LAST.as_bytes(), find), passed);
        assert!(matches!(exchange.go_on(LAST.as_bytes(), find), Step::Failed(_)), "it is over");
    }

    #[test]
    fn the_helper_for_tests_answers_like_the_example() {
        assert_eq!(answer(FIRST.strip_prefix("n,,").unwrap(), CHALLENGE, "pencil"), LAST);
    }

    #[test]
    fn any_difference_from_the_example_fails() {
        for (from, to) in [
            ("n,,", "p=tls-unique,,"),
            ("n,,", "n,a=other,"),
            ("n=user", "n=usex"),
            ("n=user", "n="),
            ("n=user", "n=us\u{e9}r"),
            ("n=user", "n=us=2Xer"),
            ("n=user", "m=x,n=user"),
            (",r=rO", ",r=pO"),
            (",r=rOprNGfwEbeRWgbNEkqO", ",r="),
            (",r=rOprNGfwEbeRWgbNEkqO", ""),
        ] {
            assert!(matches!(exchange(&FIRST.replace(from, to), LAST), Step::Failed(_)), "{from} {to}");
        }
        for (from, to) in [
            ("c=biws", "c=eSws"),
            ("c=biws", "c=!"),
            (",r=rO", ",r=pO"),
            ("k0,p", ",p"),
            ("p=dH", "p=eH"),
            ("p=dHzb", "p="),
            (",p=", ",q="),
        ] {
            assert!(matches!(exchange(FIRST, &LAST.replace(from, to)), Step::Failed(_)), "{from} {to}");
        }
        assert!(matches!(exchange(&format!("{FIRST},x={}", "y".repeat(5000)), LAST), Step::Failed(_)));
    }

    #[test]
    fn a_decoy_depends_on_the_name_and_the_secret() {
        let real = pencil();
        let decoy = real.decoy("mallory", b"secret");
        assert_eq!(decoy, real.decoy("mallory", b"secret"));
        assert_ne!(decoy.salt, real.decoy("mallet", b"secret").salt);
        assert_ne!(decoy.salt, real.decoy("mallory", b"other").salt);
        assert_eq!((decoy.salt.len(), decoy.rounds), (real.salt.len(), real.rounds));
    }

    #[test]
    fn passwords_that_are_not_printable_ascii_are_refused() {
        assert!(Verifier::new("p\u{e4}ss".as_bytes(), &[0; 16], 1).is_err());
        assert!(Verifier::new(b"p\tss", &[0; 16], 1).is_err());
    }

    proptest! {
        #[test]
        fn random_messages_never_panic_or_pass(
            messages in prop::collection::vec("[nypacr=,iws0-9AZ]{0,40}", 1..4),
            bytes in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let cheap = Verifier::new(b"pencil", &[0; 8], 1).unwrap();
            let mut exchange = Exchange::new(NONCE.to_owned());
            for message in messages.iter().map(String::as_bytes).chain([&*bytes]) {
                let step = exchange.go_on(message, |_| (cheap.clone(), true));
                let has_passed = matches!(step, Step::Passed { .. });
                prop_assert!(!has_passed);
            }
        }
    }
}
