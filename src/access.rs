//! The seam for authentication and authorisation: the questions that the core asks, and the answers it knows
//! what to do with. An answer may come later; the connection that waits for it is not read meanwhile, everybody
//! else goes on.

use core::net::SocketAddr;
use std::fmt;

use crate::codec::{QoS, ReasonCode};
use crate::settings::ListenerId;
use crate::slots::ConnectionId;
use crate::topic::{TopicFilter, TopicName};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A socket of the internet family.
    Internet(SocketAddr),
    /// A peer on this machine without an address of its own.
    Local,
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(formatter),
            Self::Local => formatter.write_str("local"),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The connection, to answer later with; `None` for a Will that is due, which can not wait.
    pub connection: Option<ConnectionId>,
    /// Where it comes from; `None` for a Will that is due.
    pub peer: Option<Peer>,
    /// The listener that it came in by.
    pub listener: ListenerId,
    /// Its Client Identifier.
    pub client_identifier: &'a str,
    /// Its User Name; authenticated, except in [`Question::Connect`].
    pub user_name: Option<&'a str>,
    /// The name in the certificate that it has shown, already verified, where its listener takes the User Name from
    /// there; `None` for a Will that is due.
    pub certificate: Option<&'a str>,
}

/// What may be asked.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// May this client, with this password, be connected?
    Connect {
        /// The bytes of the Password field.
        password: Option<&'a [u8]>,
    },
    /// May this client publish so? Asked for the Will as well.
    Publish {
        /// The Topic Name, a Topic Alias already resolved.
        topic: TopicName<'a>,
        /// The QoS of the message.
        qos: QoS,
        /// Whether it asks to be retained.
        retain: bool,
    },
    /// May this client subscribe so? For a Shared Subscription the decision is about its pattern.
    Subscribe {
        /// The Topic Filter.
        filter: TopicFilter<'a>,
        /// The QoS that is asked for.
        qos: QoS,
    },
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// Yes, but at most at this QoS; only meaningful for a subscription.
    GrantedAtMost(QoS),
    /// No, with the reason code that 5.0 clients are told.
    Refused(ReasonCode),
}

/// A decision, or the promise of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Decided.
    Now(Verdict),
    /// The decision will be handed to the core with the connection's key.
    Later,
}

/// Decides what clients may do.
pub trait AccessControl {
    /// Whether every answer is and will be [`Verdict::Granted`], so that nobody needs to be asked.
    fn grants_everything(&self) -> bool {
        false
    }

    /// Answers one question about one client.
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer;
}

/// Grants everything: for a broker that listens on loopback only.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl AccessControl for AllowAll {
    fn grants_everything(&self) -> bool {
        true
    }

    fn ask(&mut self, _client: &Client<'_>, _question: Question<'_>) -> Answer {
        Answer::Now(Verdict::Granted)
    }
}
