//! The bridge sets itself up in the other broker, before messages are forwarded.

use log::Level;

use super::Machine;
use super::connect::{CONNECTED, remote_state_topic, state};
use super::remote::{ANSWER_PATIENCE, PROBE_PAUSE, Probe, RemoteState};
use super::setup::Request;
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::protocol::codec::{
    Delivery, FilterBuffer, Packet, PacketIdentifier, Properties, QoS, ReasonCode, RetainHandling, SubAck,
    Subscribe, Subscription, SubscriptionBuffer, Unsubscribe,
};

impl Machine {
    /// Sends the next requests. Returns whether there was one, or whether the last one was answered.
    pub(super) fn set_up(&mut self, now: Time) -> bool {
        // What belonged to an earlier session of the other broker is forgotten durably by then. So the new session gets no
        // messages before, and after a crash they are not taken for repetitions.
        if self.remote.is_session_new && !self.local.is_accepted() {
            return false;
        }
        let mut has_sent = false;
        while !self.remote.output.is_full() {
            let RemoteState::SettingUp { setup, .. } = &mut self.remote.state else { return has_sent };
            let Some((identifier, request)) = setup.next() else { break };
            let is_answered = self.request(identifier, request);
            if let RemoteState::SettingUp { setup, .. } = &mut self.remote.state
                && is_answered
            {
                setup.answer(identifier);
            }
            has_sent = true;
        }
        let RemoteState::SettingUp { setup, .. } = &self.remote.state else { return has_sent };
        let is_done = setup.is_done();
        // Answers of this broker come after its messages. If the other broker has sent so many messages that this one
        // takes no more before such answers are read, the messages of this broker have to pass before the requests are
        // answered. Their Packet Identifiers are far from those of the requests.
        let is_opened = self.local.is_held() && (is_done || !self.local.takes_messages());
        if is_opened {
            self.run_local();
        }
        if !is_done || !self.local.is_running() {
            return has_sent || is_opened;
        }
        let probe =
            if self.attempts.is_second_choice() { Probe::At(now + PROBE_PAUSE) } else { Probe::Needless };
        self.remote.state = RemoteState::Running { since: now, probe };
        self.forwarded_at = now;
        let (address, name) = (self.address(), self.remote.variant.name());
        self.say(Level::Info, format_args!("Connected to {address} with {name}"));
        true
    }

    /// Appends a request. Returns whether it needs no answer.
    fn request(&mut self, packet_identifier: PacketIdentifier, request: Request) -> bool {
        let (version, limits) = (self.remote.variant.version, self.remote.limits);
        match request {
            Request::State => {
                let delivery = match limits.qos {
                    QoS::AtMostOnce => Delivery::AtMostOnce,
                    _ => Delivery::AtLeastOnce(packet_identifier),
                };
                self.publish_there(CONNECTED, delivery);
                return delivery == Delivery::AtMostOnce;
            }
            Request::Subscribe(index) => {
                let wanted = &self.topics.wanted_there()[index];
                let filter = wanted.topic_filter();
                let mut buffer = SubscriptionBuffer::default();
                buffer.push(Subscription {
                    no_local: filter.share_name().is_none(),
                    retain_as_published: true,
                    // A new session has no subscriptions, so it gets all retained messages; another one has seen them.
                    retain_handling: RetainHandling::SendIfNew,
                    ..Subscription::new(filter, wanted.qos.min(limits.qos))
                });
                let subscriptions = buffer.subscriptions().expect("there is one");
                let properties = Properties::default();
                let packet = Packet::Subscribe(Subscribe { packet_identifier, properties, subscriptions });
                self.remote.output.write(|into| packet.encode(version, into));
            }
            Request::Unsubscribe(index) => {
                let mut buffer = FilterBuffer::default();
                buffer.push(self.topics.unwanted_there()[index].topic_filter());
                let filters = buffer.filters().expect("there is one");
                let properties = Properties::default();
                let packet = Packet::Unsubscribe(Unsubscribe { packet_identifier, properties, filters });
                self.remote.output.write(|into| packet.encode(version, into));
            }
        }
        false
    }

    /// Publishes the state in the other broker.
    pub(super) fn publish_there(&mut self, payload: &str, delivery: Delivery) {
        let Some(topic) = remote_state_topic(&self.settings) else { return };
        let publish = state(topic, payload, delivery, self.remote.limits.retains);
        let version = self.remote.variant.version;
        self.remote.output.write(|into| publish.encode(version, into));
    }

    /// An answer has come while the bridge sets itself up. Returns the request, unless it is wrong.
    pub(super) fn take_answer(
        &mut self,
        identifier: PacketIdentifier,
        is_right: impl Fn(Request) -> bool,
        now: Time,
    ) -> Option<Request> {
        let RemoteState::SettingUp { setup, deadline } = &mut self.remote.state else { return None };
        *deadline = now + ANSWER_PATIENCE;
        let request = setup.answer(identifier).filter(|request| is_right(*request));
        if request.is_none() {
            self.lose("an answer to no request", now);
        }
        request
    }

    pub(super) fn take_suback(&mut self, suback: &SubAck<'_>, now: Time) {
        let is_right = |request| matches!(request, Request::Subscribe(_));
        let request = self.take_answer(suback.packet_identifier, is_right, now);
        let Some(Request::Subscribe(index)) = request else { return };
        let &[code] = suback.codes else { return self.lose("SUBACK for another number of filters", now) };
        let (filter, wanted) = {
            let wanted = &self.topics.wanted_there()[index];
            (wanted.filter.clone(), wanted.qos)
        };
        let filter = Escaped(&filter);
        let granted = ReasonCode::from_u8(code).unwrap_or(ReasonCode::UnspecifiedError);
        if granted.is_error() {
            self.say(Level::Warn, format_args!("The other broker refuses to forward {filter}: {granted}"));
        } else if code < wanted.level() {
            self.say(
                Level::Debug,
                format_args!("The other broker forwards {filter} with QoS {code} at most"),
            );
        }
    }
}
