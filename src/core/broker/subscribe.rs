//! SUBSCRIBE and UNSUBSCRIBE.

use log::info;

use super::budget::Pressure;
use super::decisions::Decisions;
use super::ending::set_places;
use super::listener_options::limit;
use super::operation::{FilterWork, LogRead};
use super::shortage::LITTLE_ROOM;
use super::turn::steps;
use super::{Broker, Fault, Step};
use crate::base::escape::Escaped;
use crate::core::access::{Question, Verdict};
use crate::core::journal::{Awaited, Record, Urgency};
use crate::core::limits::LITTLE_MEMORY;
use crate::core::nodes::FilterChange;
use crate::core::session::Reading;
use crate::core::shared_subscription::Member;
use crate::core::slots::{ConnectionId, SessionId};
use crate::core::subscription::{Held, Subscriber, Target, Terms, position};
use crate::core::trie::FilterId;
use crate::protocol::codec::{
    Filters, Packet, Properties, Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode, RetainHandling,
    SubAck, Subscription, Subscriptions, UncheckedSubscribe, UncheckedUnsubscribe, UnsubAck,
};
use crate::protocol::topic::TopicFilter;

/// The number of filters that are processed between two checks whether the connection's share of the turn is used up.
const FILTERS_AT_ONCE: usize = 16;

/// How far the access control has been asked about the filters of a SUBSCRIBE.
enum Asked {
    /// About all of them.
    Wholly,
    /// About some of them; the rest waits for a later turn.
    InPart,
    /// It has to wait for a decision.
    Later,
}

impl Broker {
    pub(super) fn handle_subscribe(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        subscribe: &UncheckedSubscribe<'_>,
        decisions: Decisions,
    ) -> Result<Step, Fault> {
        let identifier = subscribe.subscription_identifier.unwrap_or(0);
        let bytes = subscribe.subscriptions;
        let filters = FilterWork::new(subscribe.packet_identifier, Some(identifier), bytes.len(), decisions);
        self.work_on_filters((id, session), Box::new(filters), bytes)
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        unsubscribe: &UncheckedUnsubscribe<'_>,
        decisions: Decisions,
    ) -> Result<Step, Fault> {
        let filters =
            FilterWork::new(unsubscribe.packet_identifier, None, unsubscribe.filters.len(), decisions);
        self.work_on_filters((id, session), Box::new(filters), unsubscribe.filters)
    }

    /// Processes the filters of a packet, which are at the end of `bytes`, as far as the connection's share of the turn
    /// allows. The packet is answered after its last filter.
    pub(super) fn work_on_filters(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        mut filters: Box<FilterWork>,
        bytes: &[u8],
    ) -> Result<Step, Fault> {
        if !self.check_filters(id, &mut filters, bytes)? {
            return Ok(self.suspend_filters(id, filters));
        }
        if self.persistence.has_log() && filters.log != LogRead::ToTheEnd {
            return Ok(self.suspend_filters_for_log(id, filters));
        }
        let Some(identifier) = filters.subscription_identifier else {
            return self.unsubscribe_all((id, session), filters, bytes);
        };
        match self.ask_to_subscribe((id, session), &mut filters, bytes) {
            Asked::Wholly => {}
            Asked::InPart => return Ok(self.suspend_filters(id, filters)),
            Asked::Later => return Ok(Step::Parked),
        }
        let rest = Subscriptions::from_end(bytes, filters.undone);
        for (number, (wanted, undone)) in rest.enumerate() {
            if self.is_time_to_stop(number) {
                return Ok(self.suspend_filters(id, filters));
            }
            let verdict =
                filters.decisions.verdicts.get(filters.followed).copied().unwrap_or(Verdict::Granted);
            filters.followed += 1;
            filters.undone = undone;
            // One code for each filter, in the order of the filters [MQTT-3.8.4-6] [MQTT-3.9.3-1].
            let code = match self.subscribe_one((id, session), &wanted, verdict, identifier) {
                Ok(granted) => granted.level(),
                Err(reason) => {
                    if reason == ReasonCode::QuotaExceeded && filters.over_limit.is_none() {
                        filters.over_limit = Some((filters.codes.len(), self.why_no_subscription(session)));
                    }
                    self.code_of_refusal(id, reason)
                }
            };
            filters.codes.push(code);
        }
        self.finish_subscribe((id, session), &mut filters, bytes)
    }

    /// Checks the filters before the packet takes any effect. Returns whether all of them have been checked.
    fn check_filters(
        &mut self,
        id: ConnectionId,
        filters: &mut FilterWork,
        bytes: &[u8],
    ) -> Result<bool, Fault> {
        let version = self.connections[id].version;
        let (mut subscriptions, mut others) = match filters.subscription_identifier {
            Some(_) => (Some(Subscriptions::check_from_end(bytes, filters.unchecked, version)), None),
            None => (None, Some(Filters::check_from_end(bytes, filters.unchecked))),
        };
        let rest = subscriptions.iter_mut().flatten().chain(others.iter_mut().flatten());
        for (number, unchecked) in rest.enumerate() {
            if self.is_time_to_stop(number) {
                return Ok(false);
            }
            self.turn.take(steps::CHECK);
            filters.unchecked = unchecked?;
        }
        Ok(true)
    }

    /// Whether the connection's share of the turn is used up. A few filters are always processed in one go.
    fn is_time_to_stop(&self, number: usize) -> bool {
        number > 0 && number.is_multiple_of(FILTERS_AT_ONCE) && self.turn.is_over()
    }

    /// Makes one subscription and returns the QoS that is granted.
    fn subscribe_one(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        wanted: &Subscription<'_>,
        verdict: Verdict,
        identifier: u32,
    ) -> Result<QoS, ReasonCode> {
        if self.options.limits.memory.is_some() {
            self.count();
        }
        self.turn.take(filter_steps(wanted.filter));
        let (listener, is_bridge) = (self.connections[id].listener, self.connections[id].is_bridge);
        let highest = self.options.listeners.of(listener).maximum_qos;
        let mounted = self.mounted(listener, wanted.filter);
        let outcome = named(wanted.filter, mounted.as_deref()).and_then(|filter| {
            let wanted = Subscription {
                filter,
                qos: wanted.qos.min(highest),
                no_local: wanted.no_local || is_bridge,
                retain_as_published: wanted.retain_as_published || is_bridge,
                ..*wanted
            };
            self.subscribe(session, &wanted, verdict, identifier)
        });
        if let Ok(granted) = outcome {
            let (client, filter) = (&self.clients.sessions[session].client_identifier, wanted.filter);
            let level = granted.level();
            info!(target: "subscribe", "{} {level} {}", Escaped(client), Escaped(filter.as_str()));
        }
        outcome
    }

    /// The code of the SUBACK for a refused filter.
    fn code_of_refusal(&self, id: ConnectionId, reason: ReasonCode) -> u8 {
        match self.connections[id].version {
            ProtocolVersion::V5 => reason.value(),
            ProtocolVersion::V31 | ProtocolVersion::V311 => ReasonCode::UnspecifiedError.value(),
        }
    }

    /// Answers a SUBSCRIBE when all of its filters have been processed.
    fn finish_subscribe(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        filters: &mut FilterWork,
        bytes: &[u8],
    ) -> Result<Step, Fault> {
        self.clients.sessions[session].count();
        // [MQTT-3.8.4-1] [MQTT-3.8.4-2]
        let suback = SubAck {
            packet_identifier: filters.packet_identifier,
            properties: Properties::default(),
            codes: &filters.codes,
        };
        let refused =
            filters.decisions.verdicts.iter().position(|verdict| matches!(verdict, Verdict::Refused(_)));
        // The decisions do not include those made under access rules that have since been replaced.
        let refused = refused.map(|index| filters.codes.len() - filters.followed + index);
        let filter_at = |index| {
            let (subscription, _) = Subscriptions::from_end(bytes, filters.length).nth(index)?;
            Some(subscription.filter)
        };
        if let Some((index, why)) = &filters.over_limit {
            self.log_refused_filter(session, filter_at(*index), why);
        }
        let refused = refused.and_then(filter_at);
        let awaited = self.persistence.recorded(session);
        let why = filters.decisions.denial.take().map(|why| (why, refused));
        self.answer_subscribe((id, session), suback, awaited, why)?;
        if let Some(outgoing) = &mut self.clients.sessions[session].outgoing {
            let position =
                self.persistence.journal.as_ref().map_or(0, |journal| journal.answers.position(id));
            outgoing.retained_sends.are_answered(position);
        }
        // Sends the retained messages that fit into what remains of the share at once, whatever follows in the input.
        let share = self.turn.divide_share();
        self.pump(session);
        self.turn.restore_share(share);
        Ok(Step::Done)
    }

    /// Sends the SUBACK. It carries the reason why the first refused filter was refused if the client wants that and
    /// its Maximum Packet Size leaves room for it [MQTT-3.9.2-1].
    fn answer_subscribe(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        suback: SubAck<'_>,
        awaited: Awaited,
        why: Option<(String, Option<TopicFilter<'_>>)>,
    ) -> Result<(), Fault> {
        if let Some((why, refused)) = why {
            self.log_refused_filter(session, refused, &why);
            if self.connections[id].wants_problem_information() {
                let mut properties = PropertyBuffer::default();
                properties.push(Property::ReasonString(&why));
                let explained = SubAck { properties: properties.properties(), ..suback };
                if self.answer_when(id, awaited, &Packet::SubAck(explained)).is_ok() {
                    return Ok(());
                }
            }
        }
        self.answer_when(id, awaited, &Packet::SubAck(suback))
    }

    fn log_refused_filter(&self, session: SessionId, refused: Option<TopicFilter<'_>>, why: &str) {
        let client = Escaped(&self.clients.sessions[session].client_identifier);
        let filter = Escaped(refused.map_or("", |filter| filter.as_str()));
        info!(target: "notice", "Denied SUBSCRIBE from {client} to '{filter}': {why}.");
    }

    /// Asks the access control about all filters before the first one takes effect, so that a decision may come later.
    fn ask_to_subscribe(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        filters: &mut FilterWork,
        bytes: &[u8],
    ) -> Asked {
        if self.permission.is_open {
            filters.unasked = 0;
        }
        let listener = self.connections[id].listener;
        // Not the number of decisions: after a late decision, the ones that were known before it are visited again.
        let first = filters.asked;
        for (number, (wanted, unasked)) in Subscriptions::from_end(bytes, filters.unasked).enumerate() {
            if self.is_time_to_stop(number) {
                return Asked::InPart;
            }
            self.turn.take(steps::QUESTION);
            let mounted = self.mounted(listener, wanted.filter);
            match named(wanted.filter, mounted.as_deref()) {
                Ok(filter) => {
                    let question = Question::Subscribe { filter, qos: wanted.qos };
                    if self.ask_of(&mut filters.decisions, first + number, (id, session), question).is_none()
                    {
                        return Asked::Later;
                    }
                }
                // No question is asked about a filter that is not valid.
                Err(reason) if filters.decisions.verdicts.len() <= first + number => {
                    filters.decisions.verdicts.push(Verdict::Refused(reason));
                }
                Err(_) => {}
            }
            (filters.unasked, filters.asked) = (unasked, first + number + 1);
        }
        Asked::Wholly
    }

    /// Makes or replaces one subscription. The granted QoS is the lower of the requested and the allowed one
    /// [MQTT-3.8.4-7].
    fn subscribe(
        &mut self,
        session: SessionId,
        wanted: &Subscription<'_>,
        verdict: Verdict,
        identifier: u32,
    ) -> Result<QoS, ReasonCode> {
        let granted = match verdict {
            Verdict::Refused(reason) => return Err(reason),
            Verdict::GrantedAtMost(most) | Verdict::GrantedInPart(most) => wanted.qos.min(most),
            Verdict::Granted => wanted.qos,
        };
        if matches!(verdict, Verdict::GrantedInPart(_))
            && self.clients.sessions[session].reading == Reading::Free
        {
            self.clients.sessions[session].reading = Reading::Judged;
        }
        let terms = Terms::new(granted, wanted.no_local, wanted.retain_as_published, identifier);
        let (filter, is_new) = match wanted.filter.share_name() {
            Some(share_name) => {
                self.join(session, share_name, wanted.filter, terms)?;
                self.persist_subscription(session, wanted.filter.as_str(), terms, false, Urgency::Urgent);
                return Ok(granted);
            }
            None => self.subscribe_alone(session, wanted.filter, terms)?,
        };
        let wants_retained = match wanted.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => is_new,
            // The other broker of a bridge cannot know what was retained before the bridge had this subscription.
            RetainHandling::DoNotSend => {
                is_new
                    && self.clients.sessions[session].expiry_interval > 0
                    && self.is_bridge_set_up(session).is_some()
            }
        };
        let owes_retained = wants_retained && !self.retention.retained.is_empty();
        let outgoing = self.clients.sessions[session].outgoing.as_ref();
        let still_owes = outgoing.is_some_and(|outgoing| outgoing.retained_sends.owed(filter).is_some());
        let owes = owes_retained || still_owes;
        self.persist_subscription(session, wanted.filter.as_str(), terms, owes, Urgency::Urgent);
        if owes_retained {
            self.end_retained_send(session, filter, wanted.filter.pattern());
            let latest = self.retention.retained.latest();
            self.clients.sessions[session].outgoing_mut().retained_sends.begin(filter, terms, latest);
        }
        Ok(granted)
    }

    /// Makes a non-shared subscription. It replaces one with the same filter [MQTT-3.8.4-3]. Returns its filter in the
    /// trie and whether it is new.
    pub(super) fn subscribe_alone(
        &mut self,
        session: SessionId,
        filter: TopicFilter<'_>,
        terms: Terms,
    ) -> Result<(FilterId, bool), ReasonCode> {
        let target = Target::Session(session);
        let entry = Subscriber { target, terms };
        if let Some(known) = self.routing.trie.find(filter.pattern())
            && let Some(position) = self.clients.sessions[session].subscriptions.position(Held::Filter(known))
        {
            self.routing.trie.values_mut(known)[position as usize] = entry;
            return Ok((known, false));
        }
        self.check_subscription_limits(session)?;
        let filter = self.routing.trie.insert(filter.pattern(), entry);
        self.note_filter(filter, FilterChange::Begun);
        let position = position(self.routing.trie.values(filter).len() - 1);
        self.clients.sessions[session].subscriptions.insert(Held::Filter(filter), position);
        Ok((filter, true))
    }

    /// Makes the session a member of a Shared Subscription. Retained messages are not sent for it.
    pub(super) fn join(
        &mut self,
        session: SessionId,
        share_name: &str,
        filter: TopicFilter<'_>,
        terms: Terms,
    ) -> Result<(), ReasonCode> {
        let known = self.routing.find_group(share_name, filter.pattern());
        let member = Member { session, terms };
        if let Some(id) = known
            && let Some(position) = self.clients.sessions[session].subscriptions.position(Held::Group(id))
            && let Some(group) = self.routing.groups.find_mut(id)
        {
            group.replace(position as usize, member);
            return Ok(());
        }
        self.check_subscription_limits(session)?;
        let id = known.unwrap_or_else(|| {
            self.routing.groups.create(share_name, |id| {
                let filter = self
                    .routing
                    .trie
                    .insert(filter.pattern(), Subscriber { target: Target::Group(id), terms });
                (filter, position(self.routing.trie.values(filter).len() - 1))
            })
        });
        let Some(group) = self.routing.groups.find_mut(id) else { return Ok(()) };
        let filter = group.filter;
        let place = group.join(member);
        self.clients.sessions[session].subscriptions.insert(Held::Group(id), position(place));
        if self.clients.sessions[session].connection().is_some() {
            let places = group.connect(place);
            set_places(&mut self.clients.sessions, group.members(), id, places);
        }
        self.routing.members += 1;
        if known.is_none() {
            self.note_filter(filter, FilterChange::Begun);
        }
        Ok(())
    }

    fn check_subscription_limits(&mut self, session: SessionId) -> Result<(), ReasonCode> {
        if self.has_room_for_subscription(session) {
            return Ok(());
        }
        self.output.statistics.refused += 1;
        Err(ReasonCode::QuotaExceeded)
    }

    /// Why a session may have no more subscriptions.
    #[cold]
    pub(super) fn why_no_subscription(&self, session: SessionId) -> String {
        let limits = &self.options.limits;
        match () {
            () if self.clients.sessions[session].subscriptions.len() >= limits.subscriptions_per_session => {
                let limit = limit(limits.subscriptions_per_session, "max_subscriptions");
                format!("the client has too many subscriptions, {limit}")
            }
            () if self.routing.trie.len() >= limits.subscriptions => {
                let limit = limit(limits.subscriptions, "fixed");
                format!("there are too many subscriptions, {limit}")
            }
            () if self.pressure(0) >= Pressure::Keep => LITTLE_MEMORY.to_owned(),
            () => LITTLE_ROOM.to_owned(),
        }
    }

    fn has_room_for_subscription(&self, session: SessionId) -> bool {
        let limits = &self.options.limits;
        self.clients.sessions[session].subscriptions.len() < limits.subscriptions_per_session
            && self.routing.trie.len() < limits.subscriptions
            && self.pressure(0) < Pressure::Keep
            && self.persistence.has_room_for(session)
    }

    fn unsubscribe_all(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        mut filters: Box<FilterWork>,
        bytes: &[u8],
    ) -> Result<Step, Fault> {
        let connection = &self.connections[id];
        let (is_v5, listener) = (connection.version == ProtocolVersion::V5, connection.listener);
        for (number, (filter, undone)) in Filters::from_end(bytes, filters.undone).enumerate() {
            if self.is_time_to_stop(number) {
                return Ok(self.suspend_filters(id, filters));
            }
            self.turn.take(filter_steps(filter));
            let mounted = self.mounted(listener, filter);
            let code = match named(filter, mounted.as_deref()) {
                Ok(filter) if self.unsubscribe(session, filter) => ReasonCode::Success,
                _ => ReasonCode::NoSubscriptionExisted,
            };
            filters.undone = undone;
            if is_v5 {
                filters.codes.push(code.value());
            }
        }
        // Answered even if nothing was removed [MQTT-3.10.4-5].
        let unsuback = UnsubAck {
            packet_identifier: filters.packet_identifier,
            properties: Properties::default(),
            codes: &filters.codes,
        };
        let awaited = self.persistence.recorded(session);
        self.answer_when(id, awaited, &Packet::UnsubAck(unsuback))?;
        Ok(Step::Done)
    }

    /// Ends the subscription with exactly this filter [MQTT-3.10.4-1]. Messages that are queued for it are still
    /// delivered, unless it is a Shared Subscription with other members. Returns whether there was such a subscription.
    pub(super) fn unsubscribe(&mut self, session: SessionId, filter: TopicFilter<'_>) -> bool {
        let held = match filter.share_name() {
            Some(share_name) => self.routing.find_group(share_name, filter.pattern()).map(Held::Group),
            None => self.routing.trie.find(filter.pattern()).map(Held::Filter),
        };
        let Some(held) = held else { return false };
        let state = &mut self.clients.sessions[session];
        let Some(position) = state.subscriptions.remove(held) else { return false };
        let client = Escaped(&state.client_identifier);
        info!(target: "unsubscribe", "{client} {}", Escaped(filter.as_str()));
        state.count();
        if let Held::Filter(id) = held {
            self.end_retained_send(session, id, filter.pattern());
        }
        let text = filter.as_str();
        self.record(session, Urgency::Urgent, |number| Record::Unsubscribed(number, text.to_owned()));
        self.release_subscription(held, position);
        true
    }
}

/// The steps that it takes to find a filter and to change its subscription.
fn filter_steps(filter: TopicFilter<'_>) -> usize {
    steps::SUBSCRIPTION + filter.as_str().len() / steps::BYTES_PER_STEP
}

/// The filter, or its name below the mount point if there is one.
fn named<'a>(filter: TopicFilter<'a>, mounted: Option<&'a str>) -> Result<TopicFilter<'a>, ReasonCode> {
    mounted.map_or(Ok(filter), |text| TopicFilter::new(text).map_err(|_| ReasonCode::TopicFilterInvalid))
}
