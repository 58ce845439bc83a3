//! The access control of a configured broker: for each listener, whether clients may connect without a user name, who
//! the users are and what they may do.
//!
//! All files are read completely before any of them takes effect, so that a faulty file changes nothing. Passwords
//! are verified on a thread of their own, which wakes the loop when it has an answer. No secret appears in any
//! message.

#[cfg(not(feature = "passwords"))]
mod absent;
#[cfg(feature = "passwords")]
mod conversation;
mod policy;
#[cfg(test)]
mod tests;
mod unused;
#[cfg(feature = "passwords")]
mod worker;

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::rc::Rc;

use crate::auth::acl::{Access, Acl, Ruling, Subject};
use crate::base::time::Time;
#[cfg(feature = "passwords")]
use crate::core::access::Exchange;
use crate::core::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{QoS, ReasonCode};
use crate::settings::{ConfigError, Security};

#[cfg(feature = "passwords")]
pub use crate::auth::attempts::Attempts;
#[cfg(feature = "passwords")]
use crate::auth::attempts::limit;
use crate::protocol::topic::TopicName;
#[cfg(not(feature = "passwords"))]
pub use absent::Attempts;
#[cfg(feature = "passwords")]
use conversation::{Caller, Conversation};
use policy::Policy;
pub use policy::{FILE_MAXIMUM, read_file, unreadable, warning_of_mode};
use unused::UnusedPatterns;
#[cfg(feature = "passwords")]
use worker::Worker;

/// Returns random bytes from the system.
///
/// # Errors
///
/// If the system has none to give.
#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
pub fn random<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The security policies of all listeners, read from their files.
#[derive(Debug)]
pub struct Policies {
    policies: Vec<Policy>,
    /// The index of each listener's policy, sorted by listener.
    of_listeners: Vec<(ListenerId, usize)>,
}

impl Policies {
    /// Reads all files that the security settings of the listeners name.
    ///
    /// # Errors
    ///
    /// Every fault in any of the files.
    pub fn load(securities: &[(ListenerId, Rc<Security>)]) -> Result<Self, Vec<ConfigError>> {
        let mut loaded = Self { policies: Vec::new(), of_listeners: Vec::new() };
        let mut wrong = Vec::new();
        let mut met: Vec<(&Security, Option<usize>)> = Vec::new();
        for (listener, security) in securities {
            let known = met.iter().find(|(other, _)| *other == &**security).map(|(_, place)| *place);
            let place = known.unwrap_or_else(|| {
                let place = match Policy::load(security) {
                    Ok(policy) => {
                        loaded.policies.push(policy);
                        Some(loaded.policies.len() - 1)
                    }
                    Err(errors) => {
                        wrong.extend(errors);
                        None
                    }
                };
                met.push((security, place));
                place
            });
            if let (Some(place), Err(position)) = (place, loaded.position(*listener)) {
                loaded.of_listeners.insert(position, (*listener, place));
            }
        }
        if wrong.is_empty() { Ok(loaded) } else { Err(wrong) }
    }

    /// The warnings about files that are usable all the same.
    pub fn warnings(&self) -> impl Iterator<Item = &ConfigError> {
        self.policies.iter().flat_map(|policy| &policy.warnings)
    }

    /// Takes note of the passwords of the `former` policies, so that connections of users whose password has changed
    /// are closed.
    pub fn follow(&mut self, former: &Self) {
        for &(listener, place) in &self.of_listeners {
            let (Some(policy), Some(before)) = (self.policies.get_mut(place), former.of(listener)) else {
                continue;
            };
            policy.former.clone_from(&before.passwords);
        }
    }

    fn of(&self, listener: ListenerId) -> Option<&Policy> {
        let position = self.position(listener).ok()?;
        self.policies.get(self.of_listeners.get(position)?.1)
    }

    /// The policies that hold for clients of a listener. If the listener no longer exists, these are the policies of
    /// all listeners, and what one of them forbids is forbidden.
    fn in_force(&self, listener: ListenerId) -> impl Iterator<Item = &Policy> {
        let own = self.of(listener);
        let others = if own.is_some() { &[][..] } else { &self.policies };
        own.into_iter().chain(others)
    }

    /// The index at which a listener is found or would have to be inserted.
    fn position(&self, listener: ListenerId) -> Result<usize, usize> {
        self.of_listeners.binary_search_by_key(&listener, |&(listener, _)| listener)
    }
}

/// The access control of a configured broker.
pub struct Authority {
    policies: Rc<Policies>,
    attempts: Attempts,
    /// The rules that refused the last question, and their ruling.
    refused_by: Option<(Rc<Acl>, Ruling)>,
    unused: UnusedPatterns,
    /// The key of the decoys for users that do not exist. It stays the same for the life of the process. If it
    /// changed on a reload, a client that asks before and after could recognise existing users, because only their
    /// answers would stay the same.
    secret: [u8; 32],
}

impl Authority {
    /// Creates an access control with these policies. `wake` is called from another thread whenever a decision is
    /// ready.
    ///
    /// # Errors
    ///
    /// If the system refuses to start a thread.
    pub fn new(
        policies: Rc<Policies>,
        attempts: Attempts,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        #[cfg(not(feature = "passwords"))]
        drop(wake);
        #[cfg(feature = "passwords")]
        if policies.policies.iter().any(|policy| policy.passwords.is_some()) && !attempts.has_verifier() {
            attempts.set_verifier(Worker::start(wake)?);
        }
        let secret = attempts.key();
        Ok(Self { policies, attempts, refused_by: None, unused: UnusedPatterns::default(), secret })
    }

    fn connect(&mut self, client: &Client<'_>, password: Option<&[u8]>, now: Time) -> Answer {
        let Some(policy) = self.policies.of(client.listener) else {
            return refused(ReasonCode::NotAuthorized);
        };
        let Some(user) = client.user_name else {
            let is_allowed = policy.security.allows_anonymous;
            return if is_allowed { GRANTED } else { refused(ReasonCode::NotAuthorized) };
        };
        if client.certificate == Some(user) {
            return GRANTED;
        }
        let Some(passwords) = &policy.passwords else {
            // Without a password file any user name is as good as none: it is accepted where anonymous clients are.
            let is_allowed = policy.security.allows_anonymous;
            return if is_allowed { GRANTED } else { refused(ReasonCode::BadUserNameOrPassword) };
        };
        let (Some(password), Some(trial)) = (password, passwords.trial(user, &self.secret)) else {
            return refused(ReasonCode::BadUserNameOrPassword);
        };
        let Some(connection) = client.connection else {
            return refused(ReasonCode::ServerUnavailable);
        };
        let most = policy.security.password_attempts;
        let claimant = self.attempts.claimant(client.peer, user, client.client_identifier, most);
        self.attempts.verify((connection, claimant), user, (trial, password), now)
    }

    /// Decides by the rules of the policies that hold for the client's listener and that `concerns` selects. Without
    /// any rules, everything is allowed. A ruling that allows less than `least` is a refusal.
    fn by_rules(
        &mut self,
        client: &Client<'_>,
        least: QoS,
        concerns: impl Fn(&Policy) -> bool,
        judge: impl Fn(&Acl, &Subject<'_>) -> Ruling,
    ) -> Answer {
        let subject = Subject { client_identifier: client.client_identifier, user_name: client.user_name };
        let (mut most, mut is_in_part) = (QoS::ExactlyOnce, false);
        let policies = self.policies.in_force(client.listener).filter(|policy| concerns(policy));
        for acl in policies.filter_map(|policy| policy.acl.as_ref()) {
            let ruling = judge(acl, &subject);
            let (Ruling::Allowed { maximum, .. } | Ruling::InPart { maximum }) = ruling else {
                self.unused.report(client, acl, ruling);
                self.refused_by = Some((acl.clone(), ruling));
                return refused(ReasonCode::NotAuthorized);
            };
            if maximum < least {
                self.refused_by = Some((acl.clone(), ruling));
                return refused(ReasonCode::NotAuthorized);
            }
            most = most.min(maximum);
            is_in_part |= matches!(ruling, Ruling::InPart { .. });
        }
        match most {
            _ if is_in_part => Answer::Now(Verdict::GrantedInPart(most)),
            QoS::ExactlyOnce => GRANTED,
            _ => Answer::Now(Verdict::GrantedAtMost(most)),
        }
    }

    /// Whether a client may stay connected after a reload. If its listener no longer exists it stays, unless there
    /// are users and it is none of them.
    fn stay(&self, client: &Client<'_>) -> Answer {
        let Some(policy) = self.policies.of(client.listener) else {
            let mut users =
                self.policies.policies.iter().filter_map(|policy| policy.passwords.as_ref()).peekable();
            let is_removed = client.user_name.is_some_and(|name| {
                users.peek().is_some() && !users.any(|passwords| passwords.contains(name))
            });
            return if is_removed { refused(ReasonCode::BadUserNameOrPassword) } else { GRANTED };
        };
        let is_known = match (client.user_name, &policy.passwords) {
            (Some(user), Some(passwords)) => passwords.contains(user),
            (None, _) | (_, None) => policy.security.allows_anonymous,
        };
        match (client.user_name, &policy.passwords, &policy.former) {
            _ if !is_known => refused(ReasonCode::NotAuthorized),
            (Some(user), Some(passwords), Some(former)) if !passwords.agrees_with(former, user) => {
                refused(ReasonCode::BadUserNameOrPassword)
            }
            _ => GRANTED,
        }
    }
}

const GRANTED: Answer = Answer::Now(Verdict::Granted);

/// For acts that ask for no particular QoS.
const ANY: QoS = QoS::AtMostOnce;

const fn refused(reason: ReasonCode) -> Answer {
    Answer::Now(Verdict::Refused(reason))
}

/// Whether the clients of a listener may publish to this topic whatever the rules say.
fn is_own_topic(policy: &Policy, topic: TopicName<'_>) -> bool {
    policy.security.own_topic.as_deref() == Some(topic.as_str())
}

impl AccessControl for Authority {
    fn grants_everything(&self) -> bool {
        self.policies.policies.iter().all(Policy::grants_everything)
    }

    fn grants_every_act(&self) -> bool {
        self.policies.policies.iter().all(|policy| policy.acl.is_none())
    }

    fn answers_stand(&self) -> bool {
        true
    }

    fn proves_names(&self, listener: ListenerId) -> bool {
        self.policies.of(listener).is_some_and(|policy| policy.passwords.is_some())
    }

    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        self.refused_by = None;
        match question {
            Question::Connect { password, now } => {
                // After a reload the question is asked anew, and a pending verification for the old one is useless.
                client.connection.into_iter().for_each(|connection| self.attempts.forget(connection));
                self.connect(client, password, now)
            }
            Question::Publish { topic, qos, .. } => {
                let concerns = |policy: &Policy| !is_own_topic(policy, topic);
                self.by_rules(client, qos, concerns, |acl, subject| acl.decide(subject, Access::Write, topic))
            }
            Question::Subscribe { filter, .. } => {
                self.by_rules(client, ANY, |_| true, |acl, subject| acl.decide_filter(subject, filter))
            }
            Question::Receive { topic } => {
                self.by_rules(client, ANY, |_| true, |acl, subject| acl.decide(subject, Access::Read, topic))
            }
            Question::BeSource { topic } => self.by_rules(
                client,
                ANY,
                |policy| policy.security.checks_retain_source && !is_own_topic(policy, topic),
                |acl, subject| acl.decide(subject, Access::Write, topic),
            ),
            Question::Stay => self.stay(client),
        }
    }

    fn next_decision(&mut self, now: Time) -> Option<(ConnectionId, Verdict)> {
        self.attempts.next_decision(now)
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.attempts.forget(connection);
    }

    fn why_refused(&mut self) -> Option<String> {
        self.refused_by.take().map(|(acl, ruling)| acl.explain(ruling).to_string())
    }

    #[cfg_attr(not(feature = "passwords"), expect(unused_variables, reason = "there is no limit on guesses"))]
    fn why_unauthenticated(
        &self,
        client: &Client<'_>,
        reason: ReasonCode,
        has_password: bool,
    ) -> Option<Cow<'static, str>> {
        let policy = self.policies.of(client.listener)?;
        #[cfg(feature = "passwords")]
        if reason == ReasonCode::ConnectionRateExceeded {
            return Some(limit(policy.security.password_attempts).into());
        }
        Some(Cow::Borrowed(match (client.user_name, &policy.passwords) {
            (None, _) => "allow_anonymous is false",
            (Some(_), None) => "there is no password_file",
            (Some(user), Some(passwords)) if !passwords.contains(user) => "no such user",
            (Some(_), Some(_)) if !has_password => "no password",
            (Some(_), Some(_)) => "wrong password",
        }))
    }

    #[cfg(feature = "passwords")]
    fn begin(&mut self, client: &Client<'_>, method: &str) -> Option<Box<dyn Exchange>> {
        let policy = self.policies.of(client.listener)?;
        let passwords = policy.passwords.clone()?;
        let caller = Caller::new(client, policy.security.password_attempts);
        let conversation =
            Conversation::begin(method, passwords, self.secret, self.attempts.clone(), caller)?;
        Some(Box::new(conversation))
    }
}
