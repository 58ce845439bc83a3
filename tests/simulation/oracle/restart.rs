//! A crash, and what the broker goes on with: all that was there when the last durable batch was closed, and no
//! connection. What is not durable then was promised to nobody, so it is gone for good until its client sends it again.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use brooklet::codec::QoS;
use brooklet::time::{Duration, Time};

use super::Oracle;
use super::routing::is_match;
use super::state::{Copy, Owed, Publication, Reason, Session};

impl Oracle {
    /// The broker crashes, and another one begins at this moment with what is durable. The store has these messages
    /// retained, by topic and payload.
    pub fn crash(&mut self, retained: &BTreeMap<String, Vec<u8>>, now: Time) {
        self.now = now;
        self.lines.clear();
        let durable = self.durable.take().expect("there is a store");
        let last = durable.last.clone();
        self.sessions = last.sessions;
        self.groups = last.groups;
        self.shared = last.shared;
        self.history = last.history;
        self.promised.clear();
        self.adopt_retained(retained);
        self.lose_passing_sessions();
        self.durable = Some(durable.begin_anew(self.snapshot()));
        for session in self.sessions.values_mut() {
            session.lose_broker(now, &self.retained, &mut self.numbers);
        }
    }

    /// What is retained can be any of what was since it was last written down.
    fn adopt_retained(&mut self, retained: &BTreeMap<String, Vec<u8>>) {
        let unknown = retained.keys().find(|topic| !self.history.contains_key(*topic));
        assert!(unknown.is_none(), "the store has {unknown:?} retained");
        self.retained.clear();
        for (topic, history) in &mut self.history {
            let found = history.iter().rposition(|known| match (known, retained.get(topic)) {
                (Some(known), Some(payload)) => known.payload == *payload,
                (Some(known), None) => known.expires <= self.now,
                (None, payload) => payload.is_none(),
            });
            let Some(found) = found else {
                panic!("the store has {:?} retained for {topic}, not one of {history:?}", retained.get(topic))
            };
            let kept = history[found].clone().filter(|kept| kept.expires > self.now);
            if let Some(kept) = &kept {
                self.retained.insert(topic.clone(), kept.clone());
            }
            *history = vec![kept];
        }
    }

    /// Sessions that no connection of theirs was to leave behind are gone, and their Wills with them.
    fn lose_passing_sessions(&mut self) {
        let passing: BTreeSet<String> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.is_kept)
            .map(|(client, _)| client.clone())
            .collect();
        for shared in &mut self.shared {
            // The member that was chosen may be one of them.
            shared.is_optional |= shared.candidates.keys().any(|client| passing.contains(client));
            // The store knows who gets a message, and not that another member could.
            shared.is_bound = true;
        }
        for client in passing {
            self.session(&client).will = None;
            self.end_session(&client);
        }
    }
}

impl Session {
    /// The client finds itself without a broker, and the next broker finds the session.
    fn lose_broker(&mut self, now: Time, retained: &BTreeMap<String, Rc<Publication>>, numbers: &mut u64) {
        if self.connection.take().is_some() {
            let lifetime = Duration::from_seconds(u64::from(self.expiry));
            self.ends = if self.expiry == u32::MAX { Time::NEVER } else { now + lifetime };
            if let Some(will) = &mut self.will {
                will.due = (now + Duration::from_seconds(u64::from(will.delay))).min(self.ends);
            }
            let (version, maximum) = (self.version, self.maximum_packet_size);
            for copy in &mut self.pending {
                copy.may_be_repeat = true;
                copy.is_optional |= copy.length(version) > maximum;
            }
            for flight in self.in_flight.values_mut() {
                // It may have been given up as too large, and the next connection may take larger ones.
                flight.copy.is_optional |= flight.copy.length(version) > maximum;
            }
        }
        self.last.clear();
        self.handle_lost_flights();
        self.begin_replays_anew(retained, numbers);
    }

    /// A QoS 2 delivery keeps its Packet Identifier; one of QoS 1 begins anew.
    fn handle_lost_flights(&mut self) {
        let flights = std::mem::take(&mut self.in_flight);
        let mut begun: Vec<Copy> = Vec::new();
        for (identifier, mut flight) in flights {
            flight.line = None;
            if flight.copy.qos == QoS::ExactlyOnce {
                self.in_flight.insert(identifier, flight);
            } else {
                let copy = Copy { may_be_repeat: true, is_repeat: true, ..flight.copy };
                begun.push(copy);
            }
        }
        self.pending.extend(begun);
        self.pending.make_contiguous().sort_by_key(|copy| copy.publication.number);
    }

    /// Who was owed retained messages gets all of them, perhaps a second time. Those of the first time go by the terms
    /// that the subscription had then; for the second one it may have been made anew meanwhile, without asking for what
    /// is retained, and what is retained may be older than the subscription.
    fn begin_replays_anew(&mut self, retained: &BTreeMap<String, Rc<Publication>>, numbers: &mut u64) {
        let served: BTreeSet<(u64, String)> = self
            .handed_over
            .drain(..)
            .filter_map(|seen| match seen.reason {
                Reason::Replay(number) => Some((number, seen.copy.publication.topic.clone())),
                Reason::Optional => None,
            })
            .collect();
        let mut again = Vec::new();
        let (version, maximum) = (self.version, self.maximum_packet_size);
        for replay in &mut self.replays {
            replay.may_be_repeat = true;
            let number = replay.number;
            for (topic, owed) in &mut replay.owed {
                let kept = retained.get(topic);
                let is_there =
                    kept.is_some_and(|kept| owed.acceptable.iter().any(|known| known.number == kept.number));
                // What was sent at QoS 0, or too large for the client that was there, counts as handed over.
                let is_weak = owed.acceptable.iter().any(|known| {
                    let copy = Copy::of_replay(known.clone(), &replay.terms);
                    copy.qos == QoS::AtMostOnce || copy.length(version) > maximum
                });
                owed.is_due &= is_there && !is_weak && !served.contains(&(number, topic.clone()));
            }
            let mut second = replay.clone();
            *numbers += 1;
            second.number = *numbers;
            second.terms = self.subscriptions.get(&replay.filter).unwrap_or(&replay.terms).clone();
            let is_same = second.terms == replay.terms;
            let not_due = if is_same { &mut second } else { &mut *replay };
            not_due.owed.values_mut().for_each(|owed| owed.is_due = false);
            for kept in retained.values().filter(|kept| is_match(&replay.filter, kept)) {
                let owed = second.owed.entry(kept.topic.clone());
                let owed = owed.or_insert_with(|| Owed { acceptable: Vec::new(), is_due: false });
                owed.acceptable.push(kept.clone());
            }
            again.push(second);
        }
        self.replays.extend(again);
    }
}
