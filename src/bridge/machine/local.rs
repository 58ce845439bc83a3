//! The connection to this broker. To it, the bridge is a client of MQTT 5.0 whose session outlives the connections.

use log::Level;

use super::Machine;
use super::buffers::{Input, Output};
use super::connect::{CONNECTED, DISCONNECTED, LOCAL_VERSION, local_state_topic, state, write_local};
use super::forward::is_refusal;
use super::remote::Next;
use super::signals::Action;
use crate::base::escape::Escaped;
use crate::base::time::Time;
use crate::bridge::topics::{Topics, Way};
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, Delivery, Disconnect, FilterBuffer, Frame, PACKET_SIZE_MAXIMUM,
    Packet, PacketIdentifier, Properties, ProtocolVersion, QoS, ReasonCode, RetainHandling, Side, Status,
    SubAck, Subscribe, Subscription, SubscriptionBuffer, Unsubscribe, frame, plain_acknowledgement,
};
use crate::protocol::topic::TopicFilter;

/// A SUBSCRIBE of the bridge has about so many bytes at most.
const SUBSCRIBE_SIZE: usize = 16 * 1024;
/// The most messages in flight to a broker that cannot say how many it takes, if some of them have QoS 2. mosquitto
/// acknowledges more of them and loses those beyond its `max_inflight_messages`, which is 20 by default.
const RECEIVE_MAXIMUM_BEFORE_5: u16 = 20;
/// The most filters in an UNSUBSCRIBE.
const FILTERS_MAXIMUM: usize = 16;

/// The state of the connection to this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalState {
    Closed,
    /// The session gets its subscriptions while there is no connection to the other broker, so that it queues messages.
    Preparing,
    /// CONNECT was sent, CONNACK has not come.
    Opening,
    /// CONNACK has come. Messages of the other broker are forwarded; those of this broker wait until it is set up.
    Held,
    /// Messages are forwarded both ways.
    Running,
    /// Once the output was sent, the connection is closed.
    Closing,
}

/// The connection to this broker.
#[derive(Debug)]
pub struct Local {
    pub state: LocalState,
    pub input: Input,
    pub output: Output,
    /// The number of messages from the other broker that this one has not answered yet.
    pub owed: u32,
    /// The number of subscriptions whose outcome is known.
    granted: usize,
}

impl Local {
    pub fn new() -> Self {
        Self {
            state: LocalState::Closed,
            input: Input::default(),
            output: Output::default(),
            owed: 0,
            granted: 0,
        }
    }

    /// Whether there is a connection.
    pub fn is_open(&self) -> bool {
        self.state != LocalState::Closed
    }

    /// Whether it waits until the other broker is set up.
    pub fn is_held(&self) -> bool {
        self.state == LocalState::Held
    }

    /// Whether this broker has accepted the connection on which messages are forwarded.
    pub fn is_accepted(&self) -> bool {
        matches!(self.state, LocalState::Held | LocalState::Running)
    }

    /// Whether messages of this broker are forwarded.
    pub fn is_running(&self) -> bool {
        self.state == LocalState::Running
    }

    /// Whether a message of the other broker may be added to the output.
    #[inline]
    pub fn takes_messages(&self) -> bool {
        self.is_accepted() && !self.output.is_full()
    }

    fn close(&mut self) {
        self.state = LocalState::Closed;
        self.input.clear();
        self.output.clear();
    }
}

impl Machine {
    /// This broker has closed the connection.
    pub fn local_closed(&mut self, why: &str, now: Time) {
        let was = self.local.state;
        self.local.close();
        match was {
            LocalState::Closed | LocalState::Closing => {}
            LocalState::Preparing => self.fail_to_prepare(why, now),
            LocalState::Opening | LocalState::Held | LocalState::Running => {
                self.is_prepared = false;
                self.leave(&format!("this broker has closed the connection: {why}"), now);
            }
        }
        self.pump(now);
    }

    /// Whether the bridge takes more bytes from this broker. If not, they are to be kept until it does.
    #[inline]
    pub fn takes_local(&self) -> bool {
        match self.local.state {
            LocalState::Closed | LocalState::Held => false,
            LocalState::Preparing | LocalState::Opening | LocalState::Closing => true,
            LocalState::Running => !self.remote.output.is_full() && self.pace.is_open(),
        }
    }

    /// Bytes from this broker. Returns how many were taken, at least one if there are any. The others are to be passed in
    /// again once the bridge takes more.
    #[must_use]
    pub fn local_received(&mut self, bytes: &[u8], now: Time) -> usize {
        if !self.local.is_open() {
            return bytes.len();
        }
        self.pace.refill(now);
        let processed = if self.local.input.is_empty() { self.read_local(bytes, now) } else { 0 };
        // Nothing but the beginning of a packet has come, or bytes before it have to wait.
        if processed == 0 && self.local.is_open() {
            self.local.input.add(bytes);
        }
        self.pump(now);
        if processed == 0 { bytes.len() } else { processed }
    }

    /// Bytes for this broker.
    pub fn local_output(&self) -> &[u8] {
        self.local.output.pending()
    }

    /// This broker has taken so many bytes of [`Machine::local_output`].
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn local_sent(&mut self, count: usize, now: Time) {
        self.local.output.advance(count);
        self.pump(now);
    }

    /// Processes packets that had to wait. Returns whether there was one.
    pub(super) fn read_local_again(&mut self, now: Time) -> bool {
        if self.local.input.is_empty() || !self.takes_local() {
            return false;
        }
        let bytes = self.local.input.take();
        let processed = self.read_local(&bytes, now);
        if self.local.is_open() {
            self.local.input.put_back(bytes, processed);
        }
        processed > 0
    }

    /// Processes packets as long as the bridge takes them. Returns the number of bytes processed.
    fn read_local(&mut self, bytes: &[u8], now: Time) -> usize {
        let mut processed = 0;
        while self.takes_local() {
            match frame(&bytes[processed..], PACKET_SIZE_MAXIMUM) {
                Ok(Status::Complete(frame)) => {
                    processed += frame.length;
                    self.process_local(&frame, now);
                }
                Ok(Status::Incomplete { .. }) => break,
                Err(error) => {
                    self.local_is_wrong(&error.to_string(), now);
                    break;
                }
            }
        }
        processed
    }

    #[inline]
    fn process_local(&mut self, frame: &Frame<'_>, now: Time) {
        if self.local.state == LocalState::Running {
            if self.forward_again(frame, now) {
                return;
            }
            if let Some((kind, identifier)) = plain_acknowledgement(frame) {
                return self.pass_out(kind, &Acknowledgement::new(identifier, ReasonCode::Success), now);
            }
        }
        match Side::Client.decode(frame, LOCAL_VERSION) {
            Ok(packet) => self.process_local_packet(&packet, now),
            Err(error) => self.local_is_wrong(&error.to_string(), now),
        }
    }

    #[inline]
    fn process_local_packet(&mut self, packet: &Packet<'_>, now: Time) {
        match (self.local.state, packet) {
            (LocalState::Running, Packet::Publish(publish)) => self.forward_out(publish, now),
            (LocalState::Running, Packet::PubAck(answer)) => {
                self.pass_out(AcknowledgementKind::PubAck, answer, now)
            }
            (LocalState::Running, Packet::PubRec(answer)) => {
                self.pass_out(AcknowledgementKind::PubRec, answer, now)
            }
            (LocalState::Running, Packet::PubRel(answer)) => {
                self.pass_out(AcknowledgementKind::PubRel, answer, now)
            }
            (LocalState::Running, Packet::PubComp(answer)) => {
                self.pass_out(AcknowledgementKind::PubComp, answer, now)
            }
            (LocalState::Opening | LocalState::Preparing, Packet::ConnAck(connack)) => {
                if connack.code != 0 {
                    let code = ReasonCode::from_u8(connack.code).unwrap_or(ReasonCode::UnspecifiedError);
                    return self.local_is_wrong(&code.to_string(), now);
                }
                if self.local.state == LocalState::Opening {
                    self.open(connack.session_present);
                }
            }
            (LocalState::Running | LocalState::Preparing, Packet::SubAck(suback)) => self.take_grants(suback),
            (LocalState::Closing, _) => {}
            (_, Packet::Disconnect(disconnect)) => {
                self.local_is_wrong(&disconnect.reason_code.to_string(), now);
            }
            // In flight from before. They come again on the connection that forwards them.
            (LocalState::Preparing, _) => {}
            (_, packet) => self.local_is_wrong(&format!("an unexpected {}", packet.name()), now),
        }
    }

    /// This broker has accepted the connection on which messages are forwarded.
    fn open(&mut self, session_present: bool) {
        // The other broker may remember QoS 2 messages of a session that is no longer there, and would take new ones with
        // the same Packet Identifiers for repetitions.
        if !session_present && !self.remote.is_session_new {
            self.remote.qos = self.remote.qos.min(QoS::AtLeastOnce);
        }
        self.local.state = LocalState::Held;
    }

    /// Passes an acknowledgement of this broker on to the other one.
    #[inline]
    fn pass_out(&mut self, kind: AcknowledgementKind, answer: &Acknowledgement<'_>, now: Time) {
        if is_refusal(kind, answer) {
            self.name_refused(Way::In, answer.reason_code);
        }
        match kind {
            AcknowledgementKind::PubAck | AcknowledgementKind::PubRec => {
                self.local.owed = self.local.owed.saturating_sub(1);
            }
            // The message was not sent with QoS 2, so nothing is to be released there.
            AcknowledgementKind::PubRel if self.remote.qos != QoS::ExactlyOnce => {
                let done = Acknowledgement::new(answer.packet_identifier, ReasonCode::Success);
                return self.answer_here(AcknowledgementKind::PubComp, done);
            }
            AcknowledgementKind::PubRel => self.remote.pulse.owes(now),
            AcknowledgementKind::PubComp => {}
        }
        let passed = Acknowledgement::new(answer.packet_identifier, answer.reason_code);
        let version = self.remote.variant.version;
        self.remote.output.write(|into| kind.packet(passed).encode(version, into));
    }

    /// This broker has refused the bridge.
    #[cold]
    fn local_is_wrong(&mut self, why: &str, now: Time) {
        let was = self.local.state;
        self.local.close();
        self.signals.act(Action::CloseLocal);
        if was == LocalState::Preparing {
            return self.fail_to_prepare(why, now);
        }
        self.is_prepared = false;
        self.leave(&format!("this broker has refused the bridge: {why}"), now);
    }

    fn fail_to_prepare(&mut self, why: &str, now: Time) {
        self.report.last_error = Some(why.to_owned());
        let wait = self.waits.next(self.settings.restart);
        let seconds = wait.seconds();
        self.say(
            Level::Error,
            format_args!(
                "This broker has refused the bridge: {}. It tries again in {seconds} s",
                Escaped(why)
            ),
        );
        self.rest(Next::Wait(now + wait));
    }

    /// Opens a connection that gives the session its subscriptions, and publishes that the bridge is not connected.
    pub(super) fn prepare(&mut self) {
        self.open_local(LocalState::Preparing, Some(1));
        self.publish_here(DISCONNECTED);
        if !self.settings.local.is_clean {
            self.unsubscribe_here();
            self.subscribe_here();
        }
        if self.settings.local.is_clean || self.topics.wanted_here().is_empty() {
            self.finish_preparing();
        }
    }

    fn finish_preparing(&mut self) {
        self.is_prepared = true;
        self.obsolete = Vec::new();
        self.close_local();
    }

    /// Opens the connection on which messages are forwarded, once the other broker is set up.
    pub(super) fn open_local_for_messages(&mut self) {
        self.open_local(LocalState::Opening, self.receive_maximum_there());
    }

    /// The most messages in flight to the other broker; `None` for any number.
    fn receive_maximum_there(&self) -> Option<u16> {
        let has_qos_2 = || self.topics.wanted_here().iter().any(|wanted| wanted.qos == QoS::ExactlyOnce);
        match self.remote.variant.version {
            ProtocolVersion::V5 => self.remote.limits.receive_maximum,
            ProtocolVersion::V31 | ProtocolVersion::V311 => has_qos_2().then_some(RECEIVE_MAXIMUM_BEFORE_5),
        }
    }

    fn open_local(&mut self, state: LocalState, receive_maximum: Option<u16>) {
        self.signals.act(Action::OpenLocal);
        self.local = Local { state, ..Local::new() };
        let settings = &self.settings;
        self.local.output.write(|into| write_local(settings, receive_maximum, into));
    }

    /// Publishes the state in this broker.
    fn publish_here(&mut self, payload: &str) {
        let Some(topic) = local_state_topic(&self.settings) else { return };
        // At QoS 0 it needs no Packet Identifier, which a message of the other broker may have.
        let publish = state(topic, payload, Delivery::AtMostOnce, true);
        self.local.output.write(|into| publish.encode(LOCAL_VERSION, into));
    }

    /// The other broker is set up: messages are forwarded to it from now on.
    pub(super) fn run_local(&mut self) {
        self.local.state = LocalState::Running;
        self.subscribe_here();
        // A client that waits for this counts on what it publishes next being forwarded.
        self.publish_here(CONNECTED);
    }

    /// Ends the subscriptions of earlier settings.
    fn unsubscribe_here(&mut self) {
        for filters in self.obsolete.chunks(FILTERS_MAXIMUM) {
            let mut buffer = FilterBuffer::default();
            filters
                .iter()
                .filter_map(|filter| TopicFilter::new(filter).ok())
                .for_each(|filter| buffer.push(filter));
            let Some(filters) = buffer.filters() else { continue };
            let (packet_identifier, properties) = (PacketIdentifier::FIRST, Properties::default());
            let packet = Packet::Unsubscribe(Unsubscribe { packet_identifier, properties, filters });
            self.local.output.write(|into| packet.encode(LOCAL_VERSION, into));
        }
    }

    /// Requests all subscriptions, at the QoS of their rules even if the other broker supports less: messages wait at
    /// that QoS while it is away, and none that come later at QoS 0 may overtake them.
    fn subscribe_here(&mut self) {
        self.local.granted = 0;
        for (bytes, identifier) in subscribes(&self.topics).iter().zip((1..=u16::MAX).rev()) {
            let Some(subscriptions) = bytes.subscriptions() else { continue };
            let packet_identifier = PacketIdentifier::new(identifier).expect("it is not zero");
            let subscribe = Subscribe { packet_identifier, properties: Properties::default(), subscriptions };
            self.local.output.write(|into| Packet::Subscribe(subscribe).encode(LOCAL_VERSION, into));
        }
    }

    /// This broker has granted subscriptions. It answers in the order of the requests.
    fn take_grants(&mut self, suback: &SubAck<'_>) {
        let first = self.local.granted;
        self.local.granted += suback.codes.len();
        for (index, &code) in (first..).zip(suback.codes) {
            let code = ReasonCode::from_u8(code).unwrap_or(ReasonCode::UnspecifiedError);
            if let Some(wanted) = self.topics.wanted_here().get(index).filter(|_| code.is_error()) {
                let filter = wanted.filter.clone();
                self.say(
                    Level::Error,
                    format_args!("This broker refuses to forward {}: {code}", Escaped(&filter)),
                );
            }
        }
        if self.local.granted < self.topics.wanted_here().len() {
            return;
        }
        match self.local.state {
            LocalState::Preparing => self.finish_preparing(),
            _ => self.signals.act(Action::CatchUp),
        }
    }

    /// Ends the connection after everything in the output, and publishes that the bridge is not connected.
    pub(super) fn leave_local(&mut self) {
        match self.local.state {
            LocalState::Closed | LocalState::Closing => return,
            LocalState::Preparing => {}
            LocalState::Opening | LocalState::Held | LocalState::Running => self.publish_here(DISCONNECTED),
        }
        self.close_local();
    }

    /// The topic and the payload of the last message about its state, once it has ended.
    pub fn last_state(&self) -> Option<(&str, &str)> {
        self.settings.notifications.as_ref().map(|notifications| (&*notifications.topic, DISCONNECTED))
    }

    fn close_local(&mut self) {
        let disconnect = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        self.local.output.write(|into| disconnect.encode(LOCAL_VERSION, into));
        self.local.input.clear();
        self.local.state = LocalState::Closing;
    }

    /// Closes the connection once everything was sent. Returns whether it did.
    pub(super) fn finish_local(&mut self) -> bool {
        if self.local.state != LocalState::Closing || !self.local.output.is_empty() {
            return false;
        }
        self.local.close();
        self.signals.act(Action::CloseLocal);
        true
    }
}

/// The subscriptions of a bridge in this broker, in packets of a moderate size.
fn subscribes(topics: &Topics) -> Vec<SubscriptionBuffer> {
    let mut packets = Vec::new();
    let mut size = SUBSCRIBE_SIZE;
    for wanted in topics.wanted_here() {
        if size >= SUBSCRIBE_SIZE {
            packets.push(SubscriptionBuffer::default());
            size = 0;
        }
        let filter = wanted.topic_filter();
        size += filter.as_str().len() + 3;
        let subscription = Subscription {
            no_local: filter.share_name().is_none(),
            retain_as_published: true,
            // This broker knows which retained messages the other one lacks.
            retain_handling: RetainHandling::DoNotSend,
            ..Subscription::new(filter, wanted.qos)
        };
        packets.last_mut().expect("one was pushed").push(subscription);
    }
    packets
}
