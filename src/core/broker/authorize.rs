//! What clients may be given: whether a session's subscriptions are allowed wholly, so that nobody is asked about a
//! message, or in part, so that each message is; and what becomes of everybody when the rules change.
//!
//! Who is barred from a topic is left out where its subscribers are looked up, so that it costs nothing while the
//! result of that is remembered, and one test of a flag otherwise.

use log::{Level, debug, info, log_enabled};

use super::lookup::Select;
use super::match_cache::MatchCache;
use super::turn::steps;
use super::{Broker, Effect};
use crate::base::escape::Escaped;
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

/// The highest QoS that an answer allows; `None` if it allows nothing. What can only be answered later can not be
/// waited for here.
pub(super) const fn allowed(answer: Answer) -> Option<QoS> {
    match answer {
        Answer::Now(Verdict::Granted) => Some(QoS::ExactlyOnce),
        Answer::Now(Verdict::GrantedAtMost(most) | Verdict::GrantedInPart(most)) => Some(most),
        Answer::Now(Verdict::Refused(_)) | Answer::Later => None,
    }
}

/// A client who may be away.
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

/// The highest QoS at which a session may be given messages of a topic, for one that is to be asked about.
pub(super) fn may_receive(
    access: &mut dyn AccessControl,
    session: &Session,
    topic: TopicName<'_>,
) -> Option<QoS> {
    allowed(access.ask(&client_of(session.publisher()), Question::Receive { topic }))
}

/// What it takes to judge sessions that a message is for.
pub(super) struct Judge<'a> {
    pub(super) access: &'a mut dyn AccessControl,
    pub(super) trie: &'a Trie<Subscriber>,
    pub(super) groups: &'a Groups,
}

/// Judges the subscribers that are found for a topic. Those that may not have its messages are left out, and the QoS is
/// lowered for those that may have them at a lower one. Members of groups are judged when it is their turn.
pub(super) struct Selecting<'a> {
    pub(super) judge: Judge<'a>,
    pub(super) sessions: &'a mut Slots<SessionMark, Session>,
    /// All may have everything.
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

/// A session with more subscriptions is asked about for each message, since to ask about all of them would take long.
const ASKED_AT_ONCE: usize = 64;

impl Judge<'_> {
    /// Asks again about all subscriptions of a session, once nothing waits for its client any more: what waits may have
    /// come by subscriptions that have gone since.
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
    /// Asks one question about the client of a session, whether it is there or not.
    pub(super) fn ask_about(&mut self, session: SessionId, question: Question<'_>) -> Answer {
        self.permission.access.ask(&client_of(self.clients.sessions[session].publisher()), question)
    }

    /// The highest QoS at which a session may be given messages of a topic; `None` if it may not.
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

    /// The same for a retained message, which its publisher has to be allowed still.
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

    /// Whether a session may no longer have a message that has waited for it: other rules are in force, or its client
    /// has connected by another listener or as another user.
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

    /// A line for the log about a message that was not taken. It may be one of very many.
    pub(super) fn trace_denial(&self, session: SessionId, topic: TopicName<'_>, why: Option<&str>) {
        if log_enabled!(Level::Debug) {
            let client = Escaped(&self.clients.sessions[session].client_identifier);
            let why = why.unwrap_or("not authorized");
            debug!("Denied PUBLISH from {client} to '{}': {why}.", Escaped(topic.as_str()));
        }
    }

    /// Takes decisions over that the access control has promised and made meanwhile.
    pub fn take_decisions(&mut self) {
        let _entered = self.account.enter();
        while let Some((id, verdict)) = self.permission.access.next_decision(self.clock.now) {
            self.decide(id, verdict);
        }
    }

    /// Other rules are in force from now on. Who may not stay loses the connection; subscriptions stay, and what they
    /// match is judged by the new rules, and so is what waits for clients, when it leaves. Costs a look at every
    /// session.
    pub fn replace_access(&mut self, access: Box<dyn AccessControl>, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        self.permission.replace(access);
        self.ask_about_filters_anew();
        self.routing.match_cache = MatchCache::default();
        let waiting: Vec<ConnectionId> = self.connections.iter().map(|(id, _)| id).collect();
        for id in waiting {
            self.ask_anew(id);
        }
        let sessions: Vec<SessionId> = self.clients.sessions.iter().map(|(id, _)| id).collect();
        for id in sessions {
            self.ask_whether_to_stay(id);
        }
    }

    /// What waits for a decision of the former access control is asked again from its beginning.
    fn ask_anew(&mut self, id: ConnectionId) {
        if let Some(parked) = &mut self.connections[id].parked {
            parked.verdicts.clear();
            if parked.is_waiting {
                parked.is_waiting = false;
                self.effects.push_back(Effect::Resume(id));
            }
        }
    }

    fn ask_whether_to_stay(&mut self, id: SessionId) {
        // One session's Will may have ended another one.
        if self.clients.sessions.find(id).is_none() {
            return;
        }
        // A name from a certificate is vouched for by others.
        let is_asked = self.options.listeners.of(self.clients.sessions[id].listener).user_name
            == UserNameSource::Connect;
        if is_asked && let Answer::Now(Verdict::Refused(reason)) = self.ask_about(id, Question::Stay) {
            self.turn_out(id, reason);
            return;
        }
        self.judge_anew(id);
    }

    /// What a session's client may be given is to be found out anew. What waits for it is judged when it leaves.
    pub(super) fn judge_anew(&mut self, id: SessionId) {
        self.clients.sessions[id].reading =
            if self.permission.is_open { Reading::Free } else { Reading::Unknown };
    }

    /// Ends the connection of a client who may not stay, and its session if the client is nobody any more.
    fn turn_out(&mut self, id: SessionId, reason: ReasonCode) {
        let client = self.clients.sessions[id].client_identifier.clone();
        info!(target: "notice", "Client {} may not stay.", Escaped(&client));
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
