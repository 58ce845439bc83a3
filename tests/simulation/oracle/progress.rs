//! Work that the broker continues in later turns: messages that have not reached all their recipients, and packets
//! with many filters. `src/core/broker/distribution.rs` documents the rules for such messages.

use std::rc::Rc;

use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Packet, QoS, ReasonCode, RetainHandling, Status, Subscribe, Subscription, Unsubscribe, decode, frame,
};

use super::Oracle;
use super::durable::Snapshot;
use super::input::key_of;
use super::routing::is_match;
use super::state::{Copy, Group, Key, Publication, Session, Subject, Terms};

/// A message that may not have reached all its recipients.
#[derive(Clone, Debug)]
pub(super) struct Open {
    publication: Rc<Publication>,
    /// The Packet Identifier of a QoS 2 message.
    identifier: Option<u16>,
    /// Whether its recipients are known.
    is_looked_up: bool,
    /// Whether the call that began it has left it unfinished.
    spans_calls: bool,
}

/// How far a SUBSCRIBE or UNSUBSCRIBE has come.
#[derive(Debug, Default)]
pub struct Begun {
    done: usize,
    pub(super) codes: Vec<u8>,
    pub(super) changes: Vec<(Key, Option<Terms>)>,
}

impl Oracle {
    /// Starts the distribution of a message.
    pub(super) fn begin(&mut self, publication: &Rc<Publication>) {
        let open = Open {
            publication: publication.clone(),
            identifier: None,
            is_looked_up: false,
            spans_calls: false,
        };
        self.open.entry(publication.publisher.clone()).or_default().push(open);
    }

    /// Sets the Packet Identifier of a client's last message, which is persisted when the message has reached all its
    /// recipients.
    pub(super) fn identify(&mut self, client: &str, number: u64, identifier: u16) {
        let open = self.open.get_mut(client).and_then(|open| open.last_mut());
        if let Some(open) = open.filter(|open| open.publication.number == number) {
            open.identifier = Some(identifier);
        }
    }

    /// After a part of a turn: these messages have not reached all their recipients. Each has the name of its
    /// publisher, and whether the recipients are known.
    pub fn unfinished(&mut self, unfinished: &[(String, bool)]) {
        let clients: Vec<String> = self.open.keys().cloned().collect();
        for client in clients {
            let of_client: Vec<bool> =
                unfinished.iter().filter(|(name, _)| *name == client).map(|(_, known)| *known).collect();
            let open = self.open.get_mut(&client).expect("it is there");
            let done = open.len().saturating_sub(of_client.len());
            let done: Vec<Open> = open.drain(..done).collect();
            for (open, is_looked_up) in open.iter_mut().zip(of_client) {
                open.is_looked_up = is_looked_up;
                self.spans += u64::from(!open.spans_calls);
                open.spans_calls = true;
            }
            done.iter().for_each(|open| self.finish(open));
            self.open.retain(|_, open| !open.is_empty());
            self.allow_for_changes(&client);
        }
    }

    /// No work is left for a later turn.
    pub fn rests(&mut self) {
        assert!(
            self.open.is_empty(),
            "the broker is idle before {:?} have reached all recipients",
            self.open
        );
        self.former_groups.clear();
    }

    /// The broker has taken the next packet of a client: what it sent before has reached all its recipients.
    pub(super) fn finish_all(&mut self, client: &str) {
        for open in self.open.remove(client).unwrap_or_default() {
            self.finish(&open);
        }
    }

    fn finish(&mut self, open: &Open) {
        let number = open.publication.number;
        if !open.spans_calls {
            return;
        }
        self.call.finished.push(number);
        let batch = self.batch();
        let debts = self.lines.values_mut().flat_map(|line| &mut line.answers);
        debts.filter(|debt| debt.subject == Subject::Publication(number)).for_each(|debt| debt.batch = batch);
        for session in self.sessions.values_mut() {
            session.adrift.retain(|copy| copy.publication.number != number);
        }
    }

    /// The publisher's answer depends on what happens until the last recipient has been served.
    fn allow_for_changes(&mut self, client: &str) {
        let Some(open) = self.open.get(client).and_then(|open| open.last()) else { return };
        let number = open.publication.number;
        // A retained message has taken effect, no matter who else receives it.
        let may_be_refused = self.is_tight && !open.publication.retain;
        let mut more = vec![ReasonCode::Success, ReasonCode::NoMatchingSubscribers];
        more.extend(may_be_refused.then_some(ReasonCode::QuotaExceeded));
        let debts = self
            .lines
            .values_mut()
            .filter(|line| line.version == brooklet::protocol::codec::ProtocolVersion::V5);
        let debts = debts.flat_map(|line| &mut line.answers);
        for debt in debts.filter(|debt| debt.subject == Subject::Publication(number)) {
            if let Some(identifier) = debt.answer.allow(&more)
                && may_be_refused
                && let Some(session) = self.sessions.get_mut(client)
            {
                session.uncertain.insert(identifier);
            }
        }
    }

    /// Whether a message has not reached all its recipients.
    pub(super) fn is_open(&self, number: u64) -> bool {
        let mut open = self.open.values().flatten();
        open.any(|open| open.publication.number == number && open.spans_calls)
    }

    /// Numbers of the messages that were, or may have been, on their way to recipients in this call.
    fn on_their_way(&self) -> Vec<u64> {
        let open = self.open.values().flatten().map(|open| open.publication.number);
        open.chain(self.call.finished.iter().copied()).collect()
    }

    /// Copies were dropped: those of messages on their way may be among them.
    pub(super) fn excuse_on_their_way(&mut self) {
        let numbers = self.on_their_way();
        let mut count = 0;
        let pending = self.sessions.values_mut().flat_map(|session| &mut session.pending);
        let weak = self.lines.values_mut().flat_map(|line| &mut line.at_most_once);
        for copy in pending.chain(weak).filter(|copy| numbers.contains(&copy.publication.number)) {
            copy.is_optional = true;
            count += 1;
        }
        self.call.plausible += count;
    }

    /// A subscription of this client is made, ended or changed while messages look for their recipients: it may or may
    /// not count for them.
    fn blur(&mut self, client: &str, filter: &str) {
        for publication in self.looking(filter) {
            let number = publication.number;
            let session = self.sessions.get_mut(client).expect("it is there");
            let line = session.connection.and_then(|id| self.lines.get_mut(&id));
            let weak = match line {
                Some(line) => &mut line.at_most_once,
                None => &mut session.adrift,
            };
            for copy in session.pending.iter_mut().chain(weak.iter_mut()) {
                if copy.publication.number == number {
                    copy.is_optional = true;
                    copy.is_loose = true;
                }
            }
            let loose = Copy::loose(&publication);
            weak.push_back(Copy { qos: QoS::AtMostOnce, ..loose.clone() });
            if publication.qos > QoS::AtMostOnce {
                session.pending.push_back(loose);
            }
        }
    }

    /// Messages for this filter that may still look for their recipients.
    fn looking(&self, filter: &str) -> Vec<Rc<Publication>> {
        let open = self.open.values().flatten();
        open.filter(|open| !open.is_looked_up && is_match(filter, &open.publication))
            .map(|open| open.publication.clone())
            .collect()
    }

    /// After packets of a connection were handled: `undone` bytes of the filters of the next packet are left, if it
    /// has begun.
    pub fn filters(&mut self, id: ConnectionId, undone: Option<usize>) {
        let Some(undone) = undone else { return };
        let line = self.lines.get(&id).expect("its packets were handled");
        let client = line.serves().expect("it serves a client").to_owned();
        let bytes = line.sent.front().expect("it has begun one").clone();
        let Ok(Status::Complete(frame)) = frame(&bytes, usize::MAX) else {
            panic!("devices send whole packets")
        };
        let packet = decode(&frame, line.version).expect("devices send good packets");
        self.spans += 1;
        self.finish_all(&client);
        match packet {
            Packet::Subscribe(subscribe) => {
                let lengths = subscribe.subscriptions.iter().map(|wanted| wanted.filter.as_str().len() + 3);
                let done = done(&lengths.collect::<Vec<_>>(), undone);
                self.subscribe_until(id, &client, &subscribe, done);
            }
            Packet::Unsubscribe(unsubscribe) => {
                let lengths = unsubscribe.filters.iter().map(|filter| filter.as_str().len() + 2);
                let done = done(&lengths.collect::<Vec<_>>(), undone);
                self.unsubscribe_until(id, &client, &unsubscribe, done);
            }
            _ => panic!("{} has no filters", packet.name()),
        }
    }

    /// Processes the next filters of a SUBSCRIBE, up to this one.
    pub(super) fn subscribe_until(
        &mut self,
        id: ConnectionId,
        client: &str,
        subscribe: &Subscribe<'_>,
        until: usize,
    ) {
        let identifier = subscribe.properties.subscription_identifiers().next();
        let line = self.lines.get_mut(&id).expect("it is there");
        let is_v5 = line.version == brooklet::protocol::codec::ProtocolVersion::V5;
        let mut begun = std::mem::take(&mut line.begun);
        for wanted in subscribe.subscriptions.iter().take(until).skip(begun.done) {
            let terms = Terms {
                qos: wanted.qos,
                no_local: wanted.no_local,
                as_published: wanted.retain_as_published,
                identifier,
            };
            let is_granted = self.subscribe(client, &wanted, terms.clone());
            if is_granted {
                begun.changes.push((key_of(wanted.filter), Some(terms)));
            }
            begun.codes.push(match is_granted {
                true => wanted.qos.level(),
                false if is_v5 => ReasonCode::QuotaExceeded.value(),
                false => ReasonCode::UnspecifiedError.value(),
            });
        }
        begun.done = begun.done.max(until);
        self.lines.get_mut(&id).expect("it is there").begun = begun;
    }

    /// Makes a subscription. Returns false if a limit forbids it.
    fn subscribe(&mut self, client: &str, wanted: &Subscription<'_>, terms: Terms) -> bool {
        let filter = wanted.filter.pattern().to_owned();
        let key = wanted.filter.share_name().map(|share_name| (share_name.to_owned(), filter.clone()));
        let is_new = match &key {
            Some(key) => !self.groups.get(key).is_some_and(|group| group.members.contains_key(client)),
            None => !self.sessions[client].subscriptions.contains_key(&filter),
        };
        let memberships = self.groups.values().filter(|group| group.members.contains_key(client)).count();
        let held = memberships + self.sessions[client].subscriptions.len();
        let is_full = (!self.has_room() && self.sessions[client].is_persistent)
            || held >= self.limits.subscriptions_per_session
            || self.subscription_count() >= self.limits.subscriptions;
        if is_new && is_full {
            return false;
        }
        let Some(key) = key else {
            self.session(client).subscriptions.insert(filter.clone(), terms.clone());
            self.blur(client, &filter);
            let wants_retained = match wanted.retain_handling {
                RetainHandling::SendAtSubscribe => true,
                RetainHandling::SendIfNew => is_new,
                RetainHandling::DoNotSend => false,
            };
            if wants_retained {
                self.begin_replay(client, &filter, terms);
            }
            return true;
        };
        self.join(client, &key, &terms);
        true
    }

    fn join(&mut self, client: &str, key: &(String, String), terms: &Terms) {
        let number = self.number();
        let is_new = !self.groups.contains_key(key);
        // A group whose last session is over, but not freed yet, continues.
        let former = self.former_groups.get(key).copied().filter(|_| is_new);
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group { number, members: [].into() });
        group.members.insert(client.to_owned(), terms.clone());
        let number = group.number;
        self.group_names.insert(number, key.clone());
        for shared in &mut self.shared {
            if shared.group == number || former == Some(shared.group) {
                shared.candidates.entry(client.to_owned()).or_default().push(terms.clone());
                shared.is_optional |= shared.group != number;
                // It may be chosen in a later turn, and lose the message.
                shared.is_optional |= self.spans_turns && terms.qos == QoS::AtMostOnce;
            }
        }
        for publication in self.looking(&key.1).iter().filter(|_| is_new) {
            self.expect_shared(key, publication, true);
        }
    }

    /// Processes the next filters of an UNSUBSCRIBE, up to this one.
    pub(super) fn unsubscribe_until(
        &mut self,
        id: ConnectionId,
        client: &str,
        unsubscribe: &Unsubscribe<'_>,
        until: usize,
    ) {
        let line = self.lines.get_mut(&id).expect("it is there");
        let is_v5 = line.version == brooklet::protocol::codec::ProtocolVersion::V5;
        let mut begun = std::mem::take(&mut line.begun);
        for filter in unsubscribe.filters.iter().take(until).skip(begun.done) {
            begun.changes.push((key_of(filter), None));
            let pattern = filter.pattern().to_owned();
            let was_there = match filter.share_name() {
                Some(share_name) => self.leave(client, &(share_name.to_owned(), pattern)),
                None => {
                    self.cancel_replays(client, &pattern);
                    let was_there = self.session(client).subscriptions.remove(&pattern).is_some();
                    if was_there {
                        self.blur(client, &pattern);
                    }
                    was_there
                }
            };
            let code = if was_there { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
            if is_v5 {
                begun.codes.push(code.value());
            }
        }
        begun.done = begun.done.max(until);
        self.lines.get_mut(&id).expect("it is there").begun = begun;
    }

    /// A group has lost its last member. Messages on their way to it, or to other members of its, may come too late.
    pub(super) fn end_group(&mut self, key: &(String, String), number: u64) {
        if !self.spans_turns {
            return;
        }
        self.former_groups.insert(key.clone(), number);
        let waiting = self.shared.iter_mut().filter(|shared| shared.group == number);
        waiting.filter(|shared| shared.holder.is_none()).for_each(|shared| shared.is_optional = true);
    }

    /// A batch is closed during the distribution of messages: it does not contain the recipients that have not been
    /// served, nor the receipt of a QoS 2 message.
    pub(super) fn leave_out_unfinished(&self, snapshot: &mut Snapshot) {
        for open in self.open.values().flatten().filter(|open| open.spans_calls) {
            let number = open.publication.number;
            let pending = snapshot.sessions.values_mut().flat_map(|session| &mut session.pending);
            let unserved = pending.filter(|copy| copy.publication.number == number);
            unserved.for_each(|copy| copy.is_optional = true);
            let shared = snapshot.shared.iter_mut().filter(|shared| shared.publication.number == number);
            shared.for_each(|shared| shared.is_optional = true);
            let publisher = snapshot.sessions.get_mut(&open.publication.publisher);
            if let (Some(session), Some(identifier)) = (publisher, open.identifier) {
                session.incoming.remove(&identifier);
                session.uncertain.remove(&identifier);
            }
            snapshot.open.insert(number);
        }
    }
}

/// The number of processed filters if `undone` of their bytes are not.
fn done(lengths: &[usize], undone: usize) -> usize {
    let mut left: usize = lengths.iter().sum();
    let is_done = |length: &usize| {
        let is_done = left > undone;
        left -= if is_done { *length } else { 0 };
        is_done
    };
    lengths.iter().copied().take_while(is_done).count()
}

impl Session {
    /// The client is connected: QoS 0 copies on their way reach it, unless its turn was before.
    pub(super) fn take_adrift(&mut self) -> impl Iterator<Item = Copy> {
        self.adrift.drain(..)
    }
}
