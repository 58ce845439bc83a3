//! Which messages clients may receive. If all subscriptions of a session are allowed without exception, the access
//! control is not asked about its messages; otherwise it is asked about each of them. Also, what happens to clients
//! when the access control is replaced.
//!
//! Subscribers that may not receive a topic are removed when the subscribers of the topic are looked up. This costs
//! nothing while the result is cached, and one test of a flag otherwise.

use log::{Level, debug, info, log_enabled};

use super::lookup::Select;
use super::match_cache::MatchCache;
use super::turn::steps;
use super::{Broker, Effect};
use crate::base::escape::{Escaped, Quoted};
use crate::base::time::Time;
use crate::core::access::{AccessControl, Answer, Client, Question, Verdict};
use crate::core::connection::State;
use crate::core::listener::UserNameSource;
use crate::core::message::Publisher;
use crate::core::session::{Reading, Session};
use crate::core::shared_subscription::Groups;
use crate::core::slots::{ConnectionId, SessionId, SessionMark, Slots};
use crate::core::subscription::{Held, Subscriber, Target};
use crate::core::trie::Trie;
use crate::protocol::codec::{QoS, ReasonCode};
use crate::protocol::topic::{TopicFilter, TopicName};

/// The highest QoS that an answer allows; `None` if it allows nothing. An answer that comes later allows nothing, since
/// there is no way to wait for it here.
pub(super) const fn allowed(answer: Answer) -> Option<QoS> {
    match answer {
        Answer::Now(Verdict::Granted) => Some(QoS::ExactlyOnce),
        Answer::Now(Verdict::GrantedAtMost(most) | Verdict::GrantedInPart(most)) => Some(most),
        Answer::Now(Verdict::Refused(_)) | Answer::Later => None,
    }
}

/// Describes a client that may not be connected.
fn client_of(publisher: Publisher<'_>) -> Client<'_> {
    Client {
        connection: None,
        peer: None,
        listener: publisher.listener,
        client_identifier: publisher.client_identifier,
        user_name: publisher.user_name,
        certificate: None,
    }
}

/// The highest QoS at which a session may receive messages of a topic, as the access control answers.
pub(super) fn may_receive(
    access: &mut dyn AccessControl,
    session: &Session,
    topic: TopicName<'_>,
) -> Option<QoS> {
    allowed(access.ask(&client_of(session.publisher()), Question::Receive { topic }))
}

/// Everything needed to decide which sessions may receive a message.
pub(super) struct Judge<'a> {
    pub(super) access: &'a mut dyn AccessControl,
    pub(super) trie: &'a Trie<Subscriber>,
    pub(super) groups: &'a Groups,
}

/// Filters the subscribers of a topic. It removes those that may not receive its messages, and lowers the QoS of those
/// that may receive them at a lower one. A member of a Shared Subscription is checked when it is chosen.
pub(super) struct Selecting<'a> {
    pub(super) judge: Judge<'a>,
    pub(super) sessions: &'a mut Slots<SessionMark, Session>,
    /// All clients may receive everything.
    pub(super) is_open: bool,
}

impl Select for Selecting<'_> {
    fn steps(&self) -> usize {
        if self.is_open { 0 } else { steps::QUESTION }
    }

    fn admits(&mut self, topic: TopicName<'_>, subscriber: &mut Subscriber) -> bool {
        let Target::Session(id) = subscriber.target else { return true };
        let Some(session) = self.sessions.find_mut(id) else { return false };
        if session.reading == Reading::Unknown {
            self.judge.find_out(session);
        }
        if session.reading == Reading::Free {
            return true;
        }
        let Some(most) = may_receive(self.judge.access, session, topic) else { return false };
        subscriber.terms = subscriber.terms.capped(most);
        true
    }
}

/// The access control is asked about each message to a session with more subscriptions than this, since asking about
/// all of them at once would take long.
const ASKED_AT_ONCE: usize = 64;

impl Judge<'_> {
    /// Asks again about all subscriptions of a session, once no message is queued for its client: queued messages may
    /// belong to subscriptions that have ended.
    pub(super) fn find_out(&mut self, session: &mut Session) {
        if session.outgoing.as_ref().is_some_and(|outgoing| !outgoing.is_at_rest()) {
            return;
        }
        if session.subscriptions.len() > ASKED_AT_ONCE {
            session.reading = Reading::Judged;
            return;
        }
        let client = client_of(session.publisher());
        let is_free = session.subscriptions.iter().all(|(held, _)| {
            let filter = match held {
                Held::Filter(filter) => filter,
                Held::Group(group) => match self.groups.find(group) {
                    Some(group) => group.filter,
                    None => return true,
                },
            };
            let pattern = self.trie.pattern(filter);
            let filter = TopicFilter::trusted_pattern(&pattern);
            let question = Question::Subscribe { filter, qos: QoS::ExactlyOnce };
            self.access.ask(&client, question) == Answer::Now(Verdict::Granted)
        });
        session.reading = if is_free { Reading::Free } else { Reading::Judged };
    }
}

impl Broker {
    /// Asks one question about the client of a session, whether it is connected or not.
    pub(super) fn ask_about(&mut self, session: SessionId, question: Question<'_>) -> Answer {
        self.permission.access.ask(&client_of(self.clients.sessions[session].publisher()), question)
    }

    /// The highest QoS at which a session may receive messages of a topic; `None` if it may not receive them.
    pub(super) fn may_receive(&mut self, session: SessionId, topic: TopicName<'_>) -> Option<QoS> {
        let state = &mut self.clients.sessions[session];
        if state.reading == Reading::Unknown {
            Judge {
                access: &mut *self.permission.access,
                trie: &self.routing.trie,
                groups: &self.routing.groups,
            }
            .find_out(state);
        }
        match state.reading {
            Reading::Free => Some(QoS::ExactlyOnce),
            Reading::Judged | Reading::Unknown => may_receive(&mut *self.permission.access, state, topic),
        }
    }

    /// The same for a retained message. Its publisher must still be allowed to publish it.
    pub(super) fn may_send_retained(
        &mut self,
        session: SessionId,
        topic: TopicName<'_>,
        publisher: Option<Publisher<'_>>,
    ) -> Option<QoS> {
        if self.permission.is_open {
            return Some(QoS::ExactlyOnce);
        }
        if let Some(publisher) = publisher {
            allowed(self.permission.access.ask(&client_of(publisher), Question::BeSource { topic }))?;
        }
        self.may_receive(session, topic)
    }

    /// Whether a session may no longer receive a message that was queued for it: the access rules have changed, or its
    /// client has connected through another listener or as another user.
    pub(super) fn is_barred(&mut self, session: SessionId, topic: TopicName<'_>) -> bool {
        may_receive(&mut *self.permission.access, &self.clients.sessions[session], topic).is_none()
    }

    /// Whether a message in flight from an earlier connection may be sent again.
    pub(super) fn may_send_again(&mut self, session: SessionId, index: usize) -> bool {
        let state = &mut self.clients.sessions[session];
        if state.reading == Reading::Free {
            return true;
        }
        let Some(queued) = state.outgoing_mut().in_flight()[index].queued() else { return true };
        let message = queued.message.clone();
        !self.is_barred(session, message.publication().topic)
    }

    /// Logs a message that was refused. There may be very many of them.
    pub(super) fn trace_denial(&self, session: SessionId, topic: TopicName<'_>, why: Option<&str>) {
        if log_enabled!(Level::Debug) {
            let client = Escaped(&self.clients.sessions[session].client_identifier);
            let why = why.unwrap_or("not authorized");
            debug!("Denied PUBLISH from {client} to '{}': {why}.", Escaped(topic.as_str()));
        }
    }

    /// Applies the decisions that the access control had promised and has now made.
    pub fn take_decisions(&mut self) {
        let _entered = self.account.enter();
        while let Some((id, verdict)) = self.permission.access.next_decision(self.clock.now) {
            self.decide(id, verdict);
        }
    }

    /// Replaces the access control. Clients that may not stay are disconnected. Subscriptions stay, and the new rules
    /// decide about the messages that they match, and about queued messages when they are sent. Takes a look at each
    /// session.
    pub fn replace_access(&mut self, access: Box<dyn AccessControl>, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.permission.replace(access);
        self.ask_about_filters_anew();
        self.routing.match_cache = MatchCache::default();
        self.ask_about_parked_anew();
        let sessions: Vec<SessionId> = self.clients.sessions.iter().map(|(id, _)| id).collect();
        for id in sessions {
            self.ask_whether_to_stay(id);
        }
    }

    /// Asks the new access control all questions about packets that wait for decisions of the former one.
    fn ask_about_parked_anew(&mut self) {
        let connections: Vec<ConnectionId> = self.connections.iter().map(|(id, _)| id).collect();
        for id in connections {
            let Some(parked) = &mut self.connections[id].parked else { continue };
            parked.verdicts.clear();
            if std::mem::take(&mut parked.is_waiting) {
                self.effects.push_back(Effect::Resume(id));
            }
        }
    }

    fn ask_whether_to_stay(&mut self, id: SessionId) {
        // The Will of another session may have ended this one.
        if self.clients.sessions.find(id).is_none() {
            return;
        }
        // The issuer of a certificate answers for the name in it.
        let is_asked = self.options.listeners.of(self.clients.sessions[id].listener).user_name
            == UserNameSource::Connect;
        if is_asked && let Answer::Now(Verdict::Refused(reason)) = self.ask_about(id, Question::Stay) {
            self.turn_out(id, reason);
            return;
        }
        self.judge_anew(id);
    }

    /// Forgets what a session's client may receive, so that it is asked again. Queued messages are checked when they
    /// are sent.
    pub(super) fn judge_anew(&mut self, id: SessionId) {
        self.clients.sessions[id].reading = self.permission.first_reading();
    }

    /// Ends the connection of a client that may not stay, and its session if its user no longer exists.
    fn turn_out(&mut self, id: SessionId, reason: ReasonCode) {
        let session = &self.clients.sessions[id];
        let client = Escaped(&session.client_identifier);
        let user =
            session.user_name.as_deref().map_or_else(String::new, |name| format!(", u{}", Quoted(name)));
        info!(target: "notice", "Client {client} may not stay{user}.");
        if let Some(connection) = self.clients.sessions[id].connection()
            && self.connections[connection].state == State::Serving(id)
        {
            self.end(connection, ReasonCode::NotAuthorized, "its user or password was changed");
        }
        if reason == ReasonCode::NotAuthorized && self.clients.sessions.find(id).is_some() {
            self.end_session(id);
        }
    }
}
