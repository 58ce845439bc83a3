//! What is durable, and so what the broker may promise: once an answer is sent, no crash may revoke it.
//!
//! Events go into batches, and a crash leaves the state at the time when a batch was closed. So the oracle keeps its
//! own state of that time, for the last durable batch and for the one that the store is writing.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{Acknowledgement, QoS};

use super::Oracle;
use super::state::{
    Answer, Copy, Debt, Flight, Group, Key, Publication, Replay, Session, Shared, Source, Subject, Terms,
};

/// The retained messages of a topic, in order, since it was last persisted; never empty.
pub(super) type History = BTreeMap<String, Vec<Option<Rc<Publication>>>>;

/// The state that a batch leaves.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    /// The last number that was assigned.
    pub(super) numbers: u64,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) groups: BTreeMap<(String, String), Group>,
    pub(super) shared: Vec<Shared>,
    pub(super) history: History,
    /// Messages that had not reached all their recipients.
    pub(super) open: BTreeSet<u64>,
}

impl Snapshot {
    /// The session of a client, if it is the same one.
    fn same(&self, client: &str, session: &Session) -> Option<&Session> {
        self.sessions.get(client).filter(|known| known.number == session.number)
    }

    fn terms(&self, client: &str, (share_name, filter): &Key) -> Option<&Terms> {
        match share_name {
            Some(share_name) => self.groups.get(&(share_name.clone(), filter.clone()))?.members.get(client),
            None => self.sessions.get(client)?.subscriptions.get(filter),
        }
    }

    /// Notes that a copy was seen on the wire that was on its way there when the snapshot was taken.
    fn note_sent(&mut self, client: &str, number: u64, greeting: Option<u64>, sent: &Sent<'_>) {
        let Some(session) = self.sessions.get_mut(client).filter(|session| session.number == number) else {
            return;
        };
        let is_same = |copy: &Copy| {
            copy.publication.number == sent.copy.publication.number && copy.source == sent.copy.source
        };
        if sent.copy.qos == QoS::AtLeastOnce {
            let is_known = greeting.is_none_or(|greeting| session.greeting == greeting);
            for copy in session.pending.iter_mut().filter(|copy| is_same(copy)) {
                copy.may_be_repeat = true;
                copy.is_repeat |= is_known;
                copy.sent_as = Some((sent.identifier, sent.order));
            }
            session.places.insert(sent.identifier, (sent.copy.publication.number, sent.order));
            return;
        }
        session.pending.retain(|copy| !is_same(copy));
        let flight = Flight { copy: sent.copy.clone(), line: None, released_at: None, order: sent.order };
        session.in_flight.insert(sent.identifier, flight);
        match sent.copy.source {
            Source::Own => {}
            Source::Replay => session.replays.iter_mut().for_each(|replay| replay.note_sent(sent.copy)),
            Source::Shared(entry) => {
                let shared = self.shared.iter_mut().filter(|shared| shared.number == entry);
                shared.for_each(|shared| shared.holder = Some((client.to_owned(), sent.copy.qos)));
            }
        }
    }
}

/// A copy of QoS 1 or 2 that was sent for the first time.
pub(super) struct Sent<'a> {
    pub(super) identifier: u16,
    pub(super) copy: &'a Copy,
    pub(super) order: u64,
}

/// The batches, as far as they matter.
#[derive(Default)]
pub(super) struct Durable {
    /// Whether the broker withholds its promises until they are durable.
    holds: bool,
    /// The number of closed batches.
    open: u64,
    pub(super) last: Snapshot,
    /// The state that the batch with the store will leave.
    closed: Option<Snapshot>,
}

impl Durable {
    /// The number of durable batches.
    const fn count(&self) -> u64 {
        if self.closed.is_some() { self.open - 1 } else { self.open }
    }

    /// Drops the batch with the store; the others continue. `last` is the durable state.
    pub(super) fn begin_anew(self, last: Snapshot) -> Self {
        Self { last, closed: None, ..self }
    }
}

impl Oracle {
    /// From now on, there is a store.
    pub fn begin_durability(&mut self, holds: bool) {
        self.durable = Some(Durable { holds, ..Durable::default() });
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            numbers: self.numbers,
            sessions: self.sessions.clone(),
            groups: self.groups.clone(),
            shared: self.shared.clone(),
            history: self.history.clone(),
            open: BTreeSet::new(),
        };
        self.leave_out_unfinished(&mut snapshot);
        snapshot
    }

    /// Closes the current batch, which goes to the store. Without space, messages retained at QoS 0 are left out.
    pub fn batch_is_closed(&mut self, has_room: bool) {
        let promised = std::mem::take(&mut self.promised);
        for (topic, history) in &mut self.history {
            if has_room || promised.contains(topic) {
                history.drain(..history.len() - 1);
            }
        }
        let snapshot = self.snapshot();
        let durable = self.durable.as_mut().expect("there is a store");
        durable.open += 1;
        durable.closed = Some(snapshot);
    }

    pub fn batch_is_durable(&mut self) {
        let durable = self.durable.as_mut().expect("there is a store");
        durable.last = durable.closed.take().expect("a batch is with the store");
    }

    /// The number of the batch that records what happens now.
    pub(super) fn batch(&self) -> u64 {
        self.durable.as_ref().map_or(0, |durable| durable.open + 1)
    }

    /// Whether a batch is durable, or there is no store.
    pub(super) fn is_durable(&self, batch: u64) -> bool {
        self.durable.as_ref().is_none_or(|durable| batch <= durable.count())
    }

    /// Notes that the retained message of a topic has changed.
    pub(super) fn note_retained(&mut self, topic: &str, publication: Option<Rc<Publication>>) {
        if self.durable.is_some() {
            if publication.as_ref().is_none_or(|publication| publication.qos > QoS::AtMostOnce) {
                self.promised.insert(topic.to_owned());
            }
            self.history.entry(topic.to_owned()).or_insert_with(|| vec![None]).push(publication);
        }
    }

    /// Notes that a copy of QoS 1 or 2 was sent for the first time.
    pub(super) fn note_sent(&mut self, client: &str, sent: &Sent<'_>) {
        let Some(durable) = &mut self.durable else { return };
        let session = &self.sessions[client];
        if durable.holds
            && sent.copy.qos == QoS::ExactlyOnce
            && session.is_persistent
            && sent.copy.source == Source::Own
        {
            let is_durable = sent.copy.publication.number <= durable.last.numbers;
            assert!(is_durable, "a QoS 2 message for {client} may be delivered twice: {:?}", sent.copy);
        }
        let number = session.number;
        // The client's presence may be unknown after a crash, if its CONNACK has not waited for the disk.
        let line = session.connection.and_then(|id| self.lines.get(&id));
        let greeting = line.filter(|line| line.is_loose).map(|_| session.greeting);
        durable.last.note_sent(client, number, greeting, sent);
        durable.closed.iter_mut().for_each(|snapshot| snapshot.note_sent(client, number, greeting, sent));
    }

    /// Checks a PUBREL that is sent: the message must not be sent again.
    pub(super) fn check_released(&self, client: &str, identifier: u16) {
        let (Some(durable), Some(session)) = (&self.durable, self.sessions.get(client)) else { return };
        if !durable.holds || !session.is_persistent || !session.in_flight.contains_key(&identifier) {
            return;
        }
        let known = durable.last.same(client, session).and_then(|known| known.in_flight.get(&identifier));
        let is_durable = known.is_some_and(|flight| flight.released_at.is_some());
        assert!(is_durable, "PUBREL {identifier} to {client}, and the message may come again");
    }

    /// Notes that a client learns the outcome of its QoS 2 message, which went into this batch. So the outcome is
    /// certain from now on, even after a crash that leaves the batch.
    pub(super) fn end_uncertainty(&mut self, id: ConnectionId, answer: &Acknowledgement<'_>, batch: u64) {
        let Some(client) = self.lines[&id].client.as_deref() else { return };
        let Some(session) = self.sessions.get_mut(client).filter(|session| session.connection == Some(id))
        else {
            return;
        };
        session.end_uncertainty(answer);
        let number = session.number;
        let Some(durable) = &mut self.durable else { return };
        let count = durable.count();
        let last = Some(&mut durable.last).filter(|_| batch <= count);
        let closed = durable.closed.as_mut().filter(|_| batch <= durable.open);
        for snapshot in last.into_iter().chain(closed) {
            let known = snapshot.sessions.get_mut(client).filter(|known| known.number == number);
            known.into_iter().for_each(|known| known.end_uncertainty(answer));
        }
    }

    /// Checks an answer that is sent: a crash must not be able to revoke it.
    pub(super) fn check_promise(&self, id: ConnectionId, debt: &Debt) {
        let Some(durable) = self.durable.as_ref().filter(|durable| durable.holds) else { return };
        let Some(client) = self.lines[&id].serves() else { return };
        let session = &self.sessions[client];
        let last = &durable.last;
        let known = last.same(client, session);
        let is_safe = match &debt.answer {
            Answer::ConnAck { is_refused: true, .. } => true,
            Answer::ConnAck { .. } if self.lines[&id].is_loose => true,
            Answer::ConnAck { .. } if session.is_persistent => known.is_some_and(|known| {
                let has_will = |session: &Session| session.will.is_some();
                known.greeting == session.greeting
                    && known.expiry == session.expiry
                    && has_will(known) == has_will(session)
            }),
            Answer::ConnAck { .. } => !last.sessions.get(client).is_some_and(|older| older.is_persistent),
            Answer::PubRec(identifier, _)
                if session.is_persistent && session.incoming.contains(identifier) =>
            {
                known.is_some_and(|known| known.incoming.contains(identifier))
            }
            Answer::PubComp(identifier, _)
                if session.is_persistent && !session.incoming.contains(identifier) =>
            {
                known.is_none_or(|known| !known.incoming.contains(identifier))
            }
            _ => true,
        };
        assert!(is_safe, "a crash would take back what {client} is told: {debt:?}");
        match &debt.subject {
            Subject::Nothing => {}
            Subject::Publication(number) => self.check_publication(last, *number, client),
            Subject::Subscriptions(changes) if session.is_persistent && !self.is_durable(debt.batch) => {
                for (key, terms) in changes {
                    let is_so_still = self.terms(client, key) == terms.as_ref();
                    let is_durable = known.and_then(|_| last.terms(client, key)) == terms.as_ref();
                    assert!(!is_so_still || is_durable, "{client} is told of {key:?}, which is not durable");
                }
            }
            Subject::Subscriptions(_) => {}
        }
    }

    fn terms(&self, client: &str, (share_name, filter): &Key) -> Option<&Terms> {
        match share_name {
            Some(share_name) => self.groups.get(&(share_name.clone(), filter.clone()))?.members.get(client),
            None => self.sessions.get(client)?.subscriptions.get(filter),
        }
    }

    /// Checks what the publisher is told when its message is acknowledged.
    fn check_publication(&self, last: &Snapshot, number: u64, publisher: &str) {
        if number <= last.numbers && !last.open.contains(&number) {
            return;
        }
        let is_owed = |copy: &Copy| {
            copy.publication.number == number && !copy.is_optional && copy.publication.expires > self.now
        };
        for (client, session) in self.sessions.iter().filter(|(_, session)| session.is_persistent) {
            let flights = session.in_flight.values().filter(|flight| flight.released_at.is_none());
            let copies = session.pending.iter().chain(flights.map(|flight| &flight.copy));
            let mut owed = copies.filter(|copy| is_owed(copy) && session.fits(copy));
            let lost = owed.find(|copy| copy.source == Source::Own);
            assert!(lost.is_none(), "{publisher} is told that {client} will get {lost:?}");
        }
        let mut shared = self.shared.iter().filter(|shared| shared.publication.number == number);
        let lost = shared.find(|shared| {
            let members = shared.candidates.keys();
            let mut sessions = members.filter_map(|client| self.sessions.get(client));
            let has_begun = shared.holder.is_some();
            !shared.is_optional && !has_begun && sessions.all(|session| session.is_persistent)
        });
        let is_missing = lost.is_some_and(|shared| shared.publication.expires > self.now);
        assert!(!is_missing, "{publisher} is told that a group will get {lost:?}");
        // A message is retained before it is delivered.
        let is_news = |publication: &&Rc<Publication>| publication.number == number && number > last.numbers;
        let retained = self.retained.values().find(is_news);
        assert!(retained.is_none(), "{publisher} is told that {retained:?} is retained");
    }
}

impl Replay {
    /// Notes that the retained message is on its way under its own Packet Identifier.
    fn note_sent(&mut self, copy: &Copy) {
        let owed = self.owed.get_mut(&copy.publication.topic);
        let is_it = |known: &Rc<Publication>| known.number == copy.publication.number;
        if let Some(owed) = owed.filter(|owed| owed.acceptable.iter().any(is_it)) {
            owed.is_due = false;
        }
    }
}

impl Session {
    /// Whether the client's last connection accepts packets of this size.
    pub(super) fn fits(&self, copy: &Copy) -> bool {
        copy.length(self.version) <= self.maximum_packet_size
    }
}
