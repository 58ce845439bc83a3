//! Distribution of a message whose recipients are more than one turn can serve.
//!
//! - The recipients are the subscribers that are found when the message comes. It is retained before they are looked
//!   up, so a client that subscribes in the meantime gets it as a retained message if not otherwise. The look-up takes
//!   several turns only if very many filters match; a subscription that comes or goes during it may count or not.
//! - A client that unsubscribes or subscribes again after the look-up still gets the message, on its earlier terms. A
//!   client that loses its connection gets it like any disconnected client; one whose session ends does not get it. A
//!   member of a Shared Subscription is chosen when the group is served.
//! - The publisher's connection is not read until the last recipient has been served; then the publisher is answered.
//!   So messages of one publisher keep their order. If the publisher's connection ends, the distribution goes on
//!   without it, before its Will, and a new connection of the same client is not read until it is done.
//! - If the message expires before the last recipient has been served, the remaining recipients do not get it.
//! - When the access control is replaced, the recipients that have not been served yet are judged by the new one. A
//!   recipient that the old one had refused stays refused.
//! - Other messages may be stored between two turns of a distribution. So the recipients that are served in one go
//!   share a row of their own in the store, and the answer waits for the batch of the last one. Only then is the
//!   receipt of a QoS 2 message recorded: if the broker crashes before, the publisher sends it again, and the
//!   recipients that were served first get it twice.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;

use log::info;

use super::Broker;
use super::authorize::{Judge, Selecting};
use super::budget::Pressure;
use super::deliver::Routed;
use super::lookup::{Lookup, Matched, Selection};
use super::match_cache::MatchCache;
use super::turn::{Share, steps};
use crate::base::escape::Escaped;
use crate::base::memory::{self, Audit, Counted};
use crate::core::journal::{Record, Urgency};
use crate::core::message::{Message, Outbound};
use crate::core::shared_subscription::{Choice, LOOKS_MAXIMUM, Search};
use crate::core::slots::SessionId;
use crate::core::subscription::{Subscriber, Target};
use crate::core::trie::Trie;
use crate::protocol::codec::{Delivery, PacketIdentifier};
use crate::protocol::topic::TopicName;

/// How far a distribution has come.
#[derive(Debug)]
enum Stage {
    /// The recipients are being looked up. `None` only while the look-up is running.
    Lookup(Option<Box<Lookup>>),
    /// The recipients are known; those before `next` have been served.
    Recipients { matched: Rc<Matched>, next: usize },
}

/// A message on its way to many recipients.
#[derive(Debug)]
pub(super) struct Distribution {
    message: Message,
    publisher: Option<SessionId>,
    stage: Stage,
    /// How often the access control had been replaced when the recipients were judged.
    judged: u64,
    /// How far the search for a member of the group has come that is being served.
    search: Search,
    pub(super) routed: Routed,
    /// Whether an earlier turn recorded something that the answer promises.
    pub(super) is_recorded: bool,
    /// The Packet Identifier of a QoS 2 message whose connection has ended: its receipt is still to be recorded.
    received: Option<PacketIdentifier>,
}

/// Messages of one publisher that are distributed without a connection, one after the other.
#[derive(Debug)]
pub(super) struct Chain {
    /// `None` for what the broker publishes about itself.
    publisher: Option<SessionId>,
    /// The Client Identifier of the publisher, whose session may be over.
    client: Option<Box<str>>,
    messages: VecDeque<Distribution>,
    counted: Counted,
}

impl Chain {
    /// Makes a chain that begins with this message.
    fn new(client: Option<Box<str>>, first: Distribution) -> Self {
        let mut chain = Self {
            publisher: first.publisher,
            client,
            messages: [first].into(),
            counted: Counted::default(),
        };
        chain.count();
        chain
    }

    fn push(&mut self, distribution: Distribution) {
        self.messages.push_back(distribution);
        self.count();
    }

    pub(super) const fn publisher(&self) -> Option<SessionId> {
        self.publisher
    }

    pub(super) fn is_of(&self, client: &str) -> bool {
        self.client.as_deref() == Some(client)
    }

    fn count(&mut self) {
        self.counted.set(
            memory::allocation(self.messages.capacity() * size_of::<Distribution>())
                + self.client.as_ref().map_or(0, |client| memory::allocation(client.len())),
        );
    }

    /// Returns, for each message, the Client Identifier of its publisher and whether the recipients are known.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (Option<&str>, bool)> {
        self.messages.iter().map(|one| (self.client.as_deref(), one.is_looked_up()))
    }

    /// Adds the memory that it holds to an audit, apart from the place of the value itself.
    pub(super) fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
        self.messages.iter().for_each(|one| one.audit(audit));
    }
}

/// The outcome of a publication.
pub(super) enum Published {
    /// All recipients have been served.
    Wholly(Routed),
    /// The remaining recipients are served in later turns.
    InPart(Box<Distribution>),
}

impl Distribution {
    pub(super) const fn publisher(&self) -> Option<SessionId> {
        self.publisher
    }

    /// Whether the recipients are known.
    pub(super) const fn is_looked_up(&self) -> bool {
        matches!(self.stage, Stage::Recipients { .. })
    }

    /// Adds the memory that it holds to an audit, apart from the place of the value itself.
    pub(super) fn audit(&self, audit: &mut Audit) {
        self.message.audit(audit);
        match &self.stage {
            Stage::Lookup(lookup) => audit.add(lookup.as_ref().map_or(0, |lookup| lookup.memory())),
            Stage::Recipients { matched, .. } => matched.audit(audit),
        }
    }
}

impl Broker {
    /// Delivers a message to all its subscribers, or as many as the share in progress allows.
    pub(super) fn distribute(
        &mut self,
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
        is_retained: bool,
    ) -> Published {
        let stage = match self.look_up(outbound.publication.topic) {
            Ok(matched) if self.fits_share(&matched, outbound.publication.qos) => {
                let mut routed = self.route(outbound, publisher, &matched);
                routed.is_retained = is_retained;
                return Published::Wholly(routed);
            }
            Ok(matched) => Stage::Recipients { matched, next: 0 },
            Err(lookup) => Stage::Lookup(Some(lookup)),
        };
        let message = outbound.message(&mut self.output.sender.spares).clone();
        let mut distribution = Box::new(self.distribution(message, publisher, stage, is_retained));
        match self.serve_more(&mut distribution) {
            true => Published::Wholly(distribution.routed),
            false => Published::InPart(distribution),
        }
    }

    /// Makes the distribution of a message that has reached no recipient yet.
    fn distribution(
        &self,
        message: Message,
        publisher: Option<SessionId>,
        stage: Stage,
        is_retained: bool,
    ) -> Distribution {
        Distribution {
            message,
            publisher,
            stage,
            judged: self.permission.replaced,
            search: Search::default(),
            routed: Routed::with(is_retained),
            is_recorded: false,
            received: None,
        }
    }

    /// Returns the subscribers of a topic, or an unfinished look-up if the share in progress was too small for it.
    pub(super) fn look_up(&mut self, topic: TopicName<'_>) -> Result<Rc<Matched>, Box<Lookup>> {
        self.forget_matches_under_pressure();
        if let Some(known) = self.routing.match_cache.find(&self.routing.trie, topic.as_str().as_bytes()) {
            return Ok(known);
        }
        self.search(|matches, trie, share, selection| matches.look_up(trie, topic, share, selection))
    }

    /// Begins or continues a look-up within the share in progress, and counts its steps and the surplus matches.
    fn search<R>(
        &mut self,
        look_up: impl FnOnce(&mut MatchCache, &Trie<Subscriber>, &mut Share, Selection<'_>) -> R,
    ) -> R {
        let (mut share, mut surplus) = (self.turn.share(), 0);
        let found = self.with_selection(&mut surplus, |matches, trie, selection| {
            look_up(matches, trie, &mut share, selection)
        });
        self.turn.take(share.taken());
        self.output.statistics.surplus_matches += surplus;
        found
    }

    /// Calls a look-up with what it needs to judge subscribers. `surplus` is [`Selection::surplus`].
    fn with_selection<R>(
        &mut self,
        surplus: &mut u64,
        search: impl FnOnce(&mut MatchCache, &Trie<Subscriber>, Selection<'_>) -> R,
    ) -> R {
        let judge = Judge {
            access: &mut *self.permission.access,
            trie: &self.routing.trie,
            groups: &self.routing.groups,
        };
        let mut select =
            Selecting { judge, sessions: &mut self.clients.sessions, is_open: self.permission.is_open };
        let selection = Selection {
            select: &mut select,
            matches_per_session: self.options.limits.matches_per_session,
            surplus,
        };
        search(&mut self.routing.match_cache, &self.routing.trie, selection)
    }

    /// Serves more of the recipients, as many as the share in progress allows. Returns whether all have been served. No
    /// other message is encoded in between.
    fn serve_more(&mut self, distribution: &mut Distribution) -> bool {
        let message = distribution.message.clone();
        let mut outbound = Outbound::stored(&message);
        if let Stage::Lookup(lookup) = &mut distribution.stage
            && let Some(unfinished) = lookup.take()
        {
            let found = self
                .search(|matches, trie, share, selection| matches.go_on(unfinished, trie, share, selection));
            match found {
                Ok(matched) => distribution.stage = Stage::Recipients { matched, next: 0 },
                Err(unfinished) => *lookup = Some(unfinished),
            }
        }
        let Stage::Recipients { matched, next } = &mut distribution.stage else { return false };
        let matched = Rc::clone(matched);
        self.output.sender.encoder.begin();
        let subscribers = matched.subscribers();
        while let Some(rest) = subscribers.get(*next..).filter(|rest| !rest.is_empty()) {
            if self.turn.is_over() {
                return false;
            }
            let length = rest.iter().take_while(|other| other.target == rest[0].target).count();
            let (run, _) = rest.split_at(length);
            let held = memory::held();
            let is_taken = match run[0].target {
                Target::Session(session) => {
                    let judged = distribution.judged;
                    let run = self.judge_run(session, run, outbound.publication.topic, judged);
                    run.and_then(|run| self.deliver_run(&run, &mut outbound, distribution.publisher))
                }
                Target::Group(group) => {
                    let looking = (&mut distribution.search, self.turn.left().max(LOOKS_MAXIMUM));
                    let choice = self.choose_member(group, &outbound.publication, None, looking);
                    if matches!(choice, Choice::Later) {
                        return false;
                    }
                    distribution.search = Search::default();
                    self.deliver_to_chosen(group, choice, &mut outbound)
                }
            };
            *next += length;
            distribution.routed.count(is_taken);
            self.turn.take(steps::delivery(outbound.publication.qos) + length / steps::COPIED_PER_STEP);
            self.turn.take_growth(held);
        }
        true
    }

    /// Continues in a later turn. If the message has expired, the remaining recipients do not get it [MQTT-3.3.2-5].
    pub(super) fn serve_rest(&mut self, distribution: &mut Distribution) -> bool {
        if distribution.message.expires() > self.clock.now {
            return self.serve_more(distribution);
        }
        if let Stage::Recipients { matched, next } = &distribution.stage {
            let left = matched.subscribers().len() - next;
            self.output.statistics.expired += left as u64;
            distribution.routed.count((left > 0).then_some(true));
        }
        true
    }

    /// Returns the subscriptions of a recipient under the current access rules, if these differ from those by which it
    /// was judged. Returns `None` if the recipient may no longer have the message, or its session is gone.
    fn judge_run<'a>(
        &mut self,
        session: SessionId,
        run: &'a [Subscriber],
        topic: TopicName<'_>,
        judged: u64,
    ) -> Option<Cow<'a, [Subscriber]>> {
        if self.clients.sessions.find(session).is_none() {
            // It may have been that of a bridge.
            self.owe_without_session(topic);
            return None;
        }
        if self.permission.is_open || judged == self.permission.replaced {
            return Some(Cow::Borrowed(run));
        }
        self.turn.take(steps::QUESTION);
        let most = self.may_receive(session, topic)?;
        let capped = |entry: &Subscriber| Subscriber { terms: entry.terms.capped(most), ..*entry };
        Some(run.iter().map(capped).collect())
    }

    /// Continues a distribution without the publisher's connection, which has ended.
    pub(super) fn detach_publish(
        &mut self,
        session: SessionId,
        delivery: Delivery,
        mut distribution: Distribution,
    ) {
        if let Delivery::ExactlyOnce(identifier) = delivery {
            distribution.received = Some(identifier);
        }
        if self.waiting.has_room_for_unlinked() {
            self.push_unlinked(distribution);
            return;
        }
        if let Delivery::ExactlyOnce(identifier) = delivery {
            // The publisher's repeat counts as a new message: some recipients get it twice, but all of them get it.
            self.clients.sessions[session].incoming.remove(identifier);
        }
        self.output.statistics.dropped += 1;
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        info!(target: "notice", "The rest of a message of client {client}, which has disconnected, is dropped.");
    }

    /// Publishes a message without a connection. Returns false if too many such messages are being distributed.
    pub(super) fn publish_unlinked(
        &mut self,
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
    ) -> bool {
        if !self.waiting.has_room_for_unlinked() {
            return false;
        }
        self.persistence.begin_message(None);
        let is_retained = outbound.publication.retain && self.retain(outbound, publisher);
        self.turn.take(self.waiting.unlinked.len() / steps::COPIED_PER_STEP);
        let is_first = self.waiting.unlinked.iter().all(|chain| chain.publisher != publisher);
        if is_first {
            if let Published::InPart(rest) = self.distribute(outbound, publisher, is_retained) {
                self.push_unlinked(*rest);
            }
            return true;
        }
        self.queue_unlinked(outbound, publisher, is_retained);
        true
    }

    /// Puts a message after those of its publisher that are still being distributed.
    fn queue_unlinked(
        &mut self,
        outbound: &mut Outbound<'_>,
        publisher: Option<SessionId>,
        is_retained: bool,
    ) {
        let message = outbound.message(&mut self.output.sender.spares).clone();
        let stage = Stage::Lookup(Some(Box::new(Lookup::new(outbound.publication.topic))));
        let distribution = self.distribution(message, publisher, stage, is_retained);
        self.push_unlinked(distribution);
    }

    fn push_unlinked(&mut self, distribution: Distribution) {
        let publisher = distribution.publisher;
        self.waiting.unlinked_count += 1;
        if let Some(chain) = self.waiting.unlinked.iter_mut().find(|chain| chain.publisher == publisher) {
            chain.push(distribution);
            return;
        }
        let client = publisher.map(|session| self.clients.sessions[session].client_identifier.clone());
        self.waiting.unlinked.push_back(Chain::new(client, distribution));
    }

    /// Continues with one of the messages that are distributed without a connection. Publishers take turns.
    pub(super) fn go_on_unlinked(&mut self) {
        let Some(mut chain) = self.waiting.unlinked.pop_front() else { return };
        self.turn.begin_share(self.waiting.unlinked.len());
        self.turn.take(steps::PACKET);
        self.persistence.begin_message(None);
        if let Some(mut distribution) = chain.messages.pop_front() {
            if self.serve_rest(&mut distribution) {
                self.waiting.unlinked_count -= 1;
                self.note_received(&distribution);
            } else {
                chain.messages.push_front(distribution);
            }
        }
        if !chain.messages.is_empty() {
            self.waiting.unlinked.push_back(chain);
        }
    }

    /// Records the receipt of a QoS 2 message whose connection ended before all recipients were served. Its client
    /// sends it again on the next connection, and it must not be taken for a new message then, not even after a crash.
    fn note_received(&mut self, distribution: &Distribution) {
        if let (Some(session), Some(identifier)) = (distribution.publisher, distribution.received)
            && self.clients.sessions.find(session).is_some()
        {
            self.record(session, Urgency::Urgent, |number| Record::Received(number, identifier));
        }
    }

    /// Drops the cache of matches if memory runs out.
    pub(super) fn forget_matches_under_pressure(&mut self) {
        if self.pressure(0) >= Pressure::Keep {
            self.routing.match_cache = MatchCache::default();
        }
    }
}
