//! Retained messages for new subscriptions. Two subscriptions of one client may be owed messages that look the same on
//! the wire, so an observed copy is not bound to one of them: it keeps all candidates, and moves to another one when
//! that is the only way to explain everything seen and everything owed.

use std::collections::BTreeSet;
use std::rc::Rc;

use brooklet::protocol::codec::{ProtocolVersion, QoS};

use super::Oracle;
use super::output::Received;
use super::state::{Copy, HandOver, Owed, Publication, Reason, Replay, Session, Terms};

impl Oracle {
    /// A new subscription is owed the matching retained messages.
    pub(super) fn begin_replay(&mut self, client: &str, filter: &str, terms: Terms) {
        self.cancel_replays(client, filter);
        let owed = self
            .retained
            .values()
            .filter(|publication| super::routing::is_match(filter, publication))
            .filter(|publication| !(terms.no_local && publication.publisher == client))
            .map(|publication| {
                let is_due = publication.expires > self.now;
                (publication.topic.clone(), Owed { acceptable: vec![publication.clone()], is_due })
            })
            .collect();
        let number = self.number();
        let filter = filter.to_owned();
        let replay = Replay { number, filter, terms, former_terms: Vec::new(), owed, may_be_repeat: false };
        self.sessions.get_mut(client).expect("it is there").replays.push(replay);
    }

    /// Retained messages that have not been sent are no longer owed; they may be on their way already.
    pub(super) fn cancel_replays(&mut self, client: &str, filter: &str) {
        let replays = &mut self.sessions.get_mut(client).expect("it is there").replays;
        for replay in replays.iter_mut().filter(|replay| replay.filter == filter) {
            replay.owed.values_mut().for_each(|owed| owed.is_due = false);
        }
    }

    /// The retained message of a topic has changed while it may wait to be delivered: the former one may be on its
    /// way, the new one comes as any other message does.
    pub(super) fn change_replays(&mut self, publication: &Publication) {
        for replay in self.sessions.values_mut().flat_map(|session| &mut session.replays) {
            if let Some(owed) = replay.owed.get_mut(&publication.topic) {
                owed.is_due = false;
            }
        }
    }

    /// A client has returned. A message retained in the meantime may come as a retained message, if it would have come
    /// at QoS 0 and so not while the client was disconnected.
    pub(super) fn renew_replays(&mut self, client: &str) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        for replay in &mut session.replays {
            let is_lost =
                |publication: &&Rc<Publication>| publication.qos.min(replay.terms.qos) == QoS::AtMostOnce;
            let matching =
                |publication: &&Rc<Publication>| super::routing::is_match(&replay.filter, publication);
            for publication in self.retained.values().filter(matching).filter(is_lost) {
                if replay.terms.no_local && publication.publisher == client {
                    continue;
                }
                let owed = replay.owed.entry(publication.topic.clone());
                let owed = owed.or_insert_with(|| Owed { acceptable: Vec::new(), is_due: false });
                owed.acceptable.push(publication.clone());
            }
        }
    }

    /// Returns the copy that a subscription's retained message explains, if there is a place for it.
    pub(super) fn claim_replay(
        &mut self,
        client: &str,
        received: &Received<'_>,
        version: ProtocolVersion,
    ) -> Option<Copy> {
        let session = self.sessions.get_mut(client)?;
        let (copy, candidates) = session.meant(received, version)?;
        session.handed_over.push(HandOver { copy: copy.clone(), candidates, reason: Reason::Optional });
        if session.explain(session.handed_over.len() - 1, &mut BTreeSet::new()) {
            return Some(copy);
        }
        session.handed_over.pop();
        None
    }

    /// A copy that the broker was free to drop was seen; perhaps it was dropped, and this is a retained message.
    pub(super) fn note_optional(&mut self, client: &str, received: &Received<'_>, version: ProtocolVersion) {
        let Some(session) = self.sessions.get_mut(client) else { return };
        if let Some((copy, candidates)) = session.meant(received, version) {
            session.handed_over.push(HandOver { copy, candidates, reason: Reason::Optional });
        }
    }
}

impl Session {
    /// The received copy as a retained message, and the subscriptions it may have been meant for.
    fn meant(&self, received: &Received<'_>, version: ProtocolVersion) -> Option<(Copy, Vec<u64>)> {
        let mut meant: Option<(Copy, Vec<u64>)> = None;
        for replay in &self.replays {
            let Some(owed) = replay.owed.get(&received.topic) else { continue };
            let copies = owed.acceptable.iter().flat_map(|publication| replay.copies(publication));
            let mut like = copies.filter(|copy| received.is(copy, version)).peekable();
            let Some(copy) = like.peek() else { continue };
            let (first, candidates) = meant.get_or_insert_with(|| (copy.clone(), Vec::new()));
            first.may_be_repeat |= replay.may_be_repeat;
            like.for_each(|copy| first.or_like(copy));
            candidates.push(replay.number);
        }
        meant
    }

    /// The copy that has served a subscription with the retained message of this topic.
    fn server_of(&self, number: u64, topic: &str) -> Option<usize> {
        self.handed_over
            .iter()
            .position(|seen| seen.reason == Reason::Replay(number) && seen.copy.publication.topic == topic)
    }

    fn is_due(&self, number: u64, topic: &str) -> bool {
        let replay = self.replays.iter().find(|replay| replay.number == number);
        replay.and_then(|replay| replay.owed.get(topic)).is_some_and(|owed| owed.is_due)
    }

    /// Finds a subscription that explains a copy, if necessary one that another copy had until now.
    fn explain(&mut self, seen: usize, visited: &mut BTreeSet<u64>) -> bool {
        let HandOver { copy, mut candidates, .. } = self.handed_over[seen].clone();
        let topic = &copy.publication.topic;
        // Subscriptions that have nothing yet come first, and of these the ones that are still owed something.
        candidates
            .sort_by_key(|&number| (self.server_of(number, topic).is_some(), !self.is_due(number, topic)));
        for number in candidates {
            let is_free = visited.insert(number)
                && self.server_of(number, topic).is_none_or(|other| self.explain(other, visited));
            if is_free {
                self.handed_over[seen].reason = Reason::Replay(number);
                return true;
            }
        }
        false
    }

    /// Whether a subscription has got its retained message of this topic, or may have got a copy that was attributed
    /// to another one that can do without it. `due` are the ones that cannot.
    pub(super) fn is_served(
        &mut self,
        number: u64,
        topic: &str,
        due: &BTreeSet<(u64, String)>,
        visited: &mut BTreeSet<u64>,
    ) -> bool {
        if self.server_of(number, topic).is_some() {
            return true;
        }
        visited.insert(number);
        for seen in 0..self.handed_over.len() {
            let HandOver { copy, candidates, reason } = &self.handed_over[seen];
            if copy.publication.topic != topic || !candidates.contains(&number) {
                continue;
            }
            let former = *reason;
            let can_go = match former {
                Reason::Replay(other) if visited.contains(&other) => false,
                Reason::Replay(other) if due.contains(&(other, topic.to_owned())) => {
                    self.handed_over[seen].reason = Reason::Replay(number);
                    self.is_served(other, topic, due, visited)
                }
                _ => true,
            };
            self.handed_over[seen].reason = if can_go { Reason::Replay(number) } else { former };
            if can_go {
                return true;
            }
        }
        false
    }
}
