//! The access control of a configured broker: per listener, whether clients may come without a name, who the users
//! are and what they may do.
//!
//! Files are read completely before anything of them counts, so that a wrong one changes nothing. Passwords are
//! verified by a thread of their own, which wakes the loop with the answer. Nothing secret is ever put into words.

#[cfg(not(feature = "passwords"))]
mod absent;
#[cfg(feature = "passwords")]
mod conversation;
mod policy;
#[cfg(test)]
mod tests;
#[cfg(feature = "passwords")]
mod worker;

use std::io::{self, Read as _};
use std::rc::Rc;

use crate::auth::acl::{Access, Acl, Ruling, Subject};
use crate::auth::attempts::Attempts;
use crate::base::time::Time;
#[cfg(feature = "passwords")]
use crate::core::access::Exchange;
use crate::core::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{QoS, ReasonCode};
use crate::settings::{ConfigError, Security};

#[cfg(not(feature = "passwords"))]
use absent::Worker;
#[cfg(feature = "passwords")]
use conversation::{Caller, Conversation};
use policy::Policy;
pub use policy::{read_file, unreadable, warning_of_mode};
#[cfg(feature = "passwords")]
use worker::Worker;

/// Random bytes from the system.
///
/// # Errors
///
/// If the system gives none.
#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
pub fn random<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What the files of all listeners say.
#[derive(Debug)]
pub struct Policies {
    policies: Vec<Policy>,
    /// For each listener the place of its policy, in the order of the listeners.
    of_listeners: Vec<(ListenerId, usize)>,
}

impl Policies {
    /// Reads all files that the securities of some listeners name.
    ///
    /// # Errors
    ///
    /// All that is wrong in any of them.
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

    /// What an operator should know, though it can be used.
    pub fn warnings(&self) -> impl Iterator<Item = &ConfigError> {
        self.policies.iter().flat_map(|policy| &policy.warnings)
    }

    /// Notes which users have another password than in the policies that were in force before: their connections are
    /// to end.
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

    /// What holds for the clients of a listener. One that is not there any more allows what all do that are.
    fn in_force(&self, listener: ListenerId) -> impl Iterator<Item = &Policy> {
        let own = self.of(listener);
        let others = if own.is_some() { &[][..] } else { &self.policies };
        own.into_iter().chain(others)
    }

    /// Where a listener stands, or would stand.
    fn position(&self, listener: ListenerId) -> Result<usize, usize> {
        self.of_listeners.binary_search_by_key(&listener, |&(listener, _)| listener)
    }
}

/// The access control of a configured broker.
pub struct Authority {
    policies: Rc<Policies>,
    attempts: Attempts,
    /// The rules that the last question was refused by, and how.
    refused_by: Option<(Rc<Acl>, Ruling)>,
    /// What users that do not exist are judged by. It stays the same for as long as the process lives. If it changed
    /// with a reload, a client that asks before and after could tell users that exist by their answers, which stay as
    /// they were.
    secret: [u8; 32],
}

impl Authority {
    /// An access control by these policies. `wake` is called from another thread whenever there is a decision to
    /// be taken.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn new(
        policies: Rc<Policies>,
        attempts: Attempts,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let has_users = policies.policies.iter().any(|policy| policy.passwords.is_some());
        if has_users && !attempts.has_verifier() {
            attempts.set_verifier(Worker::start(wake)?);
        }
        let secret = attempts.key();
        Ok(Self { policies, attempts, refused_by: None, secret })
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
            // Nobody has said who the users are; where strangers may come in, so may those who give a name.
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

    /// Decides by the rules for the listener of a client that `concerns` names; everything is allowed where there are
    /// none. A ruling that allows less than `least` is a refusal.
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

    /// Where its listener is not there any more, a client stays, unless there are users and it is none of them.
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

/// Where no QoS is asked for, any will do.
const ANY: QoS = QoS::AtMostOnce;

const fn refused(reason: ReasonCode) -> Answer {
    Answer::Now(Verdict::Refused(reason))
}

impl AccessControl for Authority {
    fn grants_everything(&self) -> bool {
        self.policies.policies.iter().all(Policy::grants_everything)
    }

    fn grants_every_act(&self) -> bool {
        self.policies.policies.iter().all(|policy| policy.acl.is_none())
    }

    fn proves_names(&self, listener: ListenerId) -> bool {
        self.policies.of(listener).is_some_and(|policy| policy.passwords.is_some())
    }

    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer {
        self.refused_by = None;
        match question {
            Question::Connect { password, now } => {
                // After a reload it is asked anew, and the former question is of no use.
                client.connection.into_iter().for_each(|connection| self.attempts.forget(connection));
                self.connect(client, password, now)
            }
            Question::Publish { topic, qos, .. } => {
                self.by_rules(client, qos, |_| true, |acl, subject| acl.decide(subject, Access::Write, topic))
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
                |policy| policy.security.checks_retain_source,
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
