//! The decisions about the packet in progress, made before it takes any effect.

use std::borrow::Cow;

use super::Broker;
use crate::core::access::{Answer, Client, Question, Verdict};
use crate::core::connection::Parked;
use crate::core::slots::{ConnectionId, SessionId};

/// The decisions about one packet, as far as they have been made.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// The answers to its questions, in order.
    pub(super) verdicts: Vec<Verdict>,
    /// The Client Identifier that was assigned to a CONNECT before it had to wait.
    pub(super) assigned: Option<String>,
    /// Why something was refused, in words.
    pub(super) denial: Option<String>,
    /// Why a client was not authenticated, for the log only.
    pub(super) hint: Option<Cow<'static, str>>,
}

impl Broker {
    /// Takes the decisions that have come about the first packet of a connection.
    pub(super) fn take_decisions_of(&mut self, id: ConnectionId) -> Decisions {
        match self.connections[id].parked.take() {
            Some(parked) => {
                let Parked { verdicts, assigned, .. } = *parked;
                Decisions { verdicts, assigned, ..Decisions::default() }
            }
            None => Decisions::default(),
        }
    }

    /// Asks for the decision number `index` about a CONNECT. Returns `None` if it will come later.
    pub(super) fn ask(
        &mut self,
        decisions: &mut Decisions,
        index: usize,
        id: ConnectionId,
        client: &Client<'_>,
        question: Question<'_>,
    ) -> Option<Verdict> {
        if let Some(&verdict) = decisions.verdicts.get(index) {
            return Some(verdict);
        }
        let answer = self.permission.access.ask(client, question);
        let verdict = self.take_answer(decisions, id, answer)?;
        decisions.verdicts.push(verdict);
        Some(verdict)
    }

    /// Like [`Broker::ask`], for another packet, whose client is known by its session.
    pub(super) fn ask_of(
        &mut self,
        decisions: &mut Decisions,
        index: usize,
        (id, session): (ConnectionId, SessionId),
        question: Question<'_>,
    ) -> Option<Verdict> {
        if let Some(&verdict) = decisions.verdicts.get(index) {
            return Some(verdict);
        }
        let verdict = self.ask_anyway(decisions, (id, session), question)?;
        decisions.verdicts.push(verdict);
        Some(verdict)
    }

    /// Like [`Broker::ask_of`], for a packet with only one question, whose answer need not be remembered.
    pub(super) fn ask_once(
        &mut self,
        decisions: &mut Decisions,
        (id, session): (ConnectionId, SessionId),
        question: Question<'_>,
    ) -> Option<Verdict> {
        match decisions.verdicts.first() {
            Some(&verdict) => Some(verdict),
            None => self.ask_anyway(decisions, (id, session), question),
        }
    }

    fn ask_anyway(
        &mut self,
        decisions: &mut Decisions,
        (id, session): (ConnectionId, SessionId),
        question: Question<'_>,
    ) -> Option<Verdict> {
        let answer = self.ask_at((id, session), question);
        self.take_answer(decisions, id, answer)
    }

    /// Asks one question about the client of a session that is connected.
    pub(super) fn ask_at(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        question: Question<'_>,
    ) -> Answer {
        let (connection, session) = (&self.connections[id], &self.clients.sessions[session]);
        let certificate = connection.certificate();
        let client = Client {
            connection: Some(id),
            peer: Some(connection.peer()),
            listener: connection.listener,
            client_identifier: &session.client_identifier,
            user_name: session.user_name.as_deref(),
            certificate: certificate.as_deref(),
        };
        self.permission.access.ask(&client, question)
    }

    /// Notes an answer about the packet in progress. If it comes later, the connection waits for it.
    fn take_answer(
        &mut self,
        decisions: &mut Decisions,
        id: ConnectionId,
        answer: Answer,
    ) -> Option<Verdict> {
        match answer {
            Answer::Now(verdict) => {
                if decisions.denial.is_none() && matches!(verdict, Verdict::Refused(_)) {
                    decisions.denial = self.permission.access.why_refused();
                }
                Some(verdict)
            }
            Answer::Later => {
                let verdicts = std::mem::take(&mut decisions.verdicts);
                let connection = &mut self.connections[id];
                connection.parked = Some(Box::new(Parked::new(verdicts)));
                connection.is_paused = true;
                self.stop_connect_timer(id);
                None
            }
        }
    }
}
