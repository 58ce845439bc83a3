//! The seam for authentication and authorization: the questions that the core asks, and the answers it knows
//! what to do with. An answer may come later; the connection that waits for it is not read meanwhile, everybody
//! else goes on.

use std::fmt;
use std::rc::Rc;

use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{QoS, ReasonCode};
use crate::protocol::topic::{TopicFilter, TopicName};

/// Why a client is refused whose password is not even looked at.
pub const TOO_MANY_WRONG: &str = "too many wrong passwords came from its address";

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
        /// When it asks: wrong passwords are limited in time.
        now: Time,
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
    /// May this client be given a message of this topic? Asked only of clients one of whose subscriptions was
    /// [`Verdict::GrantedInPart`], and answered at once.
    Receive {
        /// The Topic Name.
        topic: TopicName<'a>,
    },
    /// May a retained message that this client has once published be handed over? Answered at once.
    BeSource {
        /// The Topic Name.
        topic: TopicName<'a>,
    },
    /// May this client, who was let in before, stay? Asked when the access control was replaced, and answered at once.
    /// Refused as [`ReasonCode::NotAuthorized`] it loses its session, for any other reason its connection alone.
    Stay,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// Yes, but at most at this QoS; only meaningful for a subscription.
    GrantedAtMost(QoS),
    /// Yes, at most at this QoS, but not all that the filter matches: each message is to be asked about, by
    /// [`Question::Receive`]. Only meaningful for a subscription.
    GrantedInPart(QoS),
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

    /// Whether whoever is let in may do everything, so that nobody needs to be asked about messages.
    fn grants_every_act(&self) -> bool {
        self.grants_everything()
    }

    /// Whether a client that this listener has accepted with a User Name has proved the name by its password. It owns
    /// nothing under a name that it has not proved.
    fn proves_names(&self, listener: ListenerId) -> bool {
        let _ = listener;
        !self.grants_everything()
    }

    /// Answers one question about one client.
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer;

    /// The next decision that was promised as [`Answer::Later`], if there is one by now, and for which connection.
    fn next_decision(&mut self, now: Time) -> Option<(ConnectionId, Verdict)> {
        let _ = now;
        None
    }

    /// The connection that was promised an answer is gone, or has no use for it any more.
    fn forget(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// Why the answer given last was a refusal, in words for the log and the client: which rule has decided. `None` if
    /// there is no more to say than the reason code does.
    fn why_refused(&mut self) -> Option<String> {
        None
    }

    /// Begins an extended authentication of a client by a method, in place of [`Question::Connect`]; `None` for an
    /// unknown method. The User Name of the client, if it has one, is only claimed.
    fn begin(&mut self, client: &Client<'_>, method: &str) -> Option<Box<dyn Exchange>> {
        let _ = (client, method);
        None
    }
}

/// An extended authentication on its way.
pub trait Exchange: fmt::Debug {
    /// Takes the Authentication Data that the client has sent, empty if it has sent none.
    fn go_on(&mut self, data: &[u8], now: Time) -> Progress;

    /// Bytes of memory that it takes beside its own allocation.
    fn memory(&self) -> usize;
}

/// What follows from what a client has sent in an extended authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This is for the client, who is to answer.
    Challenge(Vec<u8>),
    /// The client is authenticated.
    Passed {
        /// Who it is.
        user_name: Rc<str>,
        /// The last word to the client, if the method has one.
        data: Vec<u8>,
    },
    /// It is not; the text is for the log and the client.
    Failed(ReasonCode, &'static str),
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
