//! What the listener that a client came in by asks of it: whom it takes the client for, and what it grants.

use std::borrow::Cow;
use std::rc::Rc;

use super::Broker;
use crate::access::Peer;
use crate::codec::{Connect, ProtocolVersion, ReasonCode};
use crate::connection::State;
use crate::limits::Limits;
use crate::settings::{ListenerId, Rules, UserNameSource};
use crate::slots::ConnectionId;

/// The rules of all listeners.
#[derive(Debug)]
pub(super) struct RuleBook {
    /// By the number of the listener.
    said: Vec<Rc<Rules>>,
    /// What holds where nothing was said.
    unsaid: Rc<Rules>,
}

impl RuleBook {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { said: Vec::new(), unsaid: Rc::new(Rules::within(limits)) }
    }

    /// The rules of one listener.
    #[inline]
    pub(super) fn of(&self, listener: ListenerId) -> &Rc<Rules> {
        self.said.get(usize::from(listener.0)).unwrap_or(&self.unsaid)
    }

    fn set(&mut self, listener: ListenerId, rules: Rc<Rules>) {
        let index = usize::from(listener.0);
        while self.said.len() <= index {
            self.said.push(Rc::clone(&self.unsaid));
        }
        self.said[index] = rules;
    }
}

/// What the server has learnt of a peer since it was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Where it really comes from, if a proxy told so.
    pub peer: Option<Peer>,
    /// The name in the certificate that it has shown.
    pub identity: Option<Rc<str>>,
}

/// Why a CONNECT is refused.
pub(super) type Refusal = (ReasonCode, &'static str);

/// Whom the broker takes a client for.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// Drawn by the broker, if it is owned.
    pub(super) client_identifier: Cow<'a, str>,
    pub(super) user_name: Option<&'a str>,
}

impl Broker {
    /// What a listener asks of its clients from now on; those who are connected already have been asked.
    pub fn set_rules(&mut self, listener: ListenerId, rules: Rc<Rules>) {
        self.rules.set(listener, rules);
    }

    /// Who the peer of a connection is, where a PROXY header or a certificate has told. Of no effect once a CONNECT
    /// was accepted.
    pub fn introduce(&mut self, id: ConnectionId, introduction: Introduction) {
        let Some(connection) = self.connections.find_mut(id) else { return };
        if connection.state != State::Greeting {
            return;
        }
        // Elsewhere it must not be mistaken for who the client is.
        let is_taken = self.rules.of(connection.listener).user_name != UserNameSource::Connect;
        let peer = introduction.peer.unwrap_or_else(|| connection.peer());
        connection.introduce(peer, introduction.identity.filter(|_| is_taken));
    }

    /// Whom this listener takes the client of a CONNECT for.
    pub(super) fn claim<'a>(
        &mut self,
        rules: &Rules,
        identity: Option<&'a str>,
        connect: &Connect<'a>,
    ) -> Result<Claim<'a>, Refusal> {
        let is_spoken = match connect.version {
            ProtocolVersion::V31 => rules.versions[0],
            ProtocolVersion::V311 => rules.versions[1],
            ProtocolVersion::V5 => rules.versions[2],
        };
        if !is_spoken {
            let what = "this version is not spoken at this listener";
            return Err((ReasonCode::UnsupportedProtocolVersion, what));
        }
        let user_name = match (rules.user_name, identity) {
            (UserNameSource::Connect, _) => connect.user_name,
            (_, Some(identity)) if is_user_name(identity) => Some(identity),
            (_, Some(_)) => {
                return Err((ReasonCode::NotAuthorized, "the name in the certificate is no User Name"));
            }
            (_, None) => return Err((ReasonCode::NotAuthorized, "no certificate tells the User Name")),
        };
        let client_identifier = self.claimed_identifier(rules, user_name, connect)?;
        let prefixes = &rules.client_identifier_prefixes;
        if !prefixes.is_empty() && !prefixes.iter().any(|prefix| client_identifier.starts_with(&**prefix)) {
            return Err((ReasonCode::NotAuthorized, "the Client Identifier does not begin as it must"));
        }
        Ok(Claim { client_identifier, user_name })
    }

    fn claimed_identifier<'a>(
        &mut self,
        rules: &Rules,
        user_name: Option<&'a str>,
        connect: &Connect<'a>,
    ) -> Result<Cow<'a, str>, Refusal> {
        if rules.user_name_is_client_identifier {
            return match user_name {
                Some(name) if !name.is_empty() => Ok(name.into()),
                _ => Err((ReasonCode::NotAuthorized, "no User Name tells the Client Identifier")),
            };
        }
        if !connect.client_identifier.is_empty() {
            return Ok(connect.client_identifier.into());
        }
        if !rules.allows_empty_client_identifier {
            let what = "a Client Identifier of its own is expected of every client";
            return Err((ReasonCode::ClientIdentifierNotValid, what));
        }
        let drawn = self.assigned.take().unwrap_or_else(|| self.draw_client_identifier(&rules.drawn_prefix));
        Ok(drawn.into())
    }
}

/// Whether a text from a certificate could have come in a CONNECT: not empty, not too long and without U+0000
/// [MQTT-1.5.4-2].
fn is_user_name(text: &str) -> bool {
    (1..=usize::from(u16::MAX)).contains(&text.len()) && !text.contains('\0')
}
