//! The seam for authentication and authorization: the questions that the core asks, and the answers that it knows. An
//! answer may come later; the connection that waits for it is not read until then, and all others go on.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{QoS, ReasonCode};
use crate::protocol::topic::{TopicFilter, TopicName};

/// Why a client is refused whose password is not even checked.
pub const TOO_MANY_WRONG: &str = "too many wrong passwords came from its address";

/// The client that a question is about.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The connection, to which a later answer refers; `None` for a Will that is due, which cannot wait.
    pub connection: Option<ConnectionId>,
    /// Its address; `None` for a Will that is due.
    pub peer: Option<Peer>,
    /// The listener at which it has connected.
    pub listener: ListenerId,
    /// Its Client Identifier.
    pub client_identifier: &'a str,
    /// Its User Name; authenticated, except in [`Question::Connect`].
    pub user_name: Option<&'a str>,
    /// The name in the certificate that it has shown, already verified, if its listener takes the User Name from there;
    /// `None` for a Will that is due.
    pub certificate: Option<&'a str>,
}

/// The questions that the core asks.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// May this client connect with this password?
    Connect {
        /// The bytes of the Password field.
        password: Option<&'a [u8]>,
        /// When it asks: wrong passwords are limited by time.
        now: Time,
    },
    /// May this client publish such a message? Asked for a Will, too.
    Publish {
        /// The Topic Name, with a Topic Alias already resolved.
        topic: TopicName<'a>,
        /// The QoS of the message.
        qos: QoS,
        /// Whether the message is to be retained.
        retain: bool,
    },
    /// May this client subscribe to this filter? For a Shared Subscription the decision is about its pattern.
    Subscribe {
        /// The Topic Filter.
        filter: TopicFilter<'a>,
        /// The requested QoS.
        qos: QoS,
    },
    /// May this client receive a message of this topic? Asked only about clients of which a subscription was
    /// [`Verdict::GrantedInPart`], and answered at once.
    Receive {
        /// The Topic Name.
        topic: TopicName<'a>,
    },
    /// May a retained message that this client has published be sent to subscribers? Answered at once.
    BeSource {
        /// The Topic Name.
        topic: TopicName<'a>,
    },
    /// May this client, which was accepted before, stay? Asked when the access control was replaced, and answered at
    /// once. If it is refused as [`ReasonCode::NotAuthorized`] it loses its session, for any other reason only its
    /// connection.
    Stay,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// Yes, but at most at this QoS; only meaningful for a subscription.
    GrantedAtMost(QoS),
    /// Yes, at most at this QoS, but not for all that the filter matches: each message must be asked about, by
    /// [`Question::Receive`]. Only meaningful for a subscription.
    GrantedInPart(QoS),
    /// No, with the reason code for 5.0 clients.
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
    /// Whether every answer is and will be [`Verdict::Granted`], so that no question needs to be asked.
    fn grants_everything(&self) -> bool {
        false
    }

    /// Whether every accepted client may do everything, so that no question about messages needs to be asked.
    fn grants_every_act(&self) -> bool {
        self.grants_everything()
    }

    /// Whether an answer to [`Question::Publish`] is given at once and stands: the same question about the same
    /// connection is answered the same until the access control is replaced or the client has re-authenticated. Then
    /// it need not be asked about each message, and does not learn of each.
    fn answers_stand(&self) -> bool {
        false
    }

    /// Whether a client that this listener has accepted with a User Name has proved the name by its password. A client
    /// owns nothing under a name that it has not proved.
    fn proves_names(&self, listener: ListenerId) -> bool {
        let _ = listener;
        !self.grants_everything()
    }

    /// Answers one question about one client.
    fn ask(&mut self, client: &Client<'_>, question: Question<'_>) -> Answer;

    /// Returns the next decision that was promised as [`Answer::Later`] and has been made, and its connection.
    fn next_decision(&mut self, now: Time) -> Option<(ConnectionId, Verdict)> {
        let _ = now;
        None
    }

    /// Drops the question of a connection that has ended or no longer needs the promised answer.
    fn forget(&mut self, connection: ConnectionId) {
        let _ = connection;
    }

    /// Why the last answer was a refusal, in words for the log and the client: which rule decided. `None` if the reason
    /// code says it all.
    fn why_refused(&mut self) -> Option<String> {
        None
    }

    /// Why a client that was refused by [`Question::Connect`] for this reason is not authenticated, in words for the log
    /// only: whether there is such a user, for example, or which limit was reached. `None` if there is no more to say.
    fn why_unauthenticated(
        &self,
        client: &Client<'_>,
        reason: ReasonCode,
        has_password: bool,
    ) -> Option<Cow<'static, str>> {
        let _ = (client, reason, has_password);
        None
    }

    /// Begins an extended authentication of a client by a method, instead of [`Question::Connect`]. Returns `None` for
    /// an unknown method. The User Name of the client, if it has one, is only claimed.
    fn begin(&mut self, client: &Client<'_>, method: &str) -> Option<Box<dyn Exchange>> {
        let _ = (client, method);
        None
    }
}

/// An extended authentication in progress.
pub trait Exchange: fmt::Debug {
    /// Processes the Authentication Data that the client has sent, empty if it has sent none.
    fn go_on(&mut self, data: &[u8], now: Time) -> Progress;

    /// The user that the client claims to be, as far as it has said so, for the log.
    fn user_name(&self) -> Option<&str> {
        None
    }

    /// Why it has failed, in words for the log only: whether there is such a user, for example, or which limit was
    /// reached. `None` if there is no more to say.
    fn why_failed(&self) -> Option<Cow<'static, str>> {
        None
    }

    /// The bytes of memory that it takes besides its own allocation.
    fn memory(&self) -> usize;
}

/// The next step of an extended authentication, after the client has sent data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This data is sent to the client, which has to answer.
    Challenge(Vec<u8>),
    /// The client is authenticated.
    Passed {
        /// The User Name that it has proved.
        user_name: Rc<str>,
        /// The last data for the client, if the method has any.
        data: Vec<u8>,
    },
    /// The client is not authenticated; the text is for the log and the client.
    Failed(ReasonCode, &'static str),
}

/// Grants everything: for a broker that listens only on loopback.
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
