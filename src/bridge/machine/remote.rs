//! The connection to the other broker.

use std::rc::Rc;

use log::Level;

use super::Machine;
use super::aliases::Aliases;
use super::attempts::Variant;
use super::buffers::{Input, Output};
use super::connect::write_remote;
use super::forward::{Lowered, is_refusal};
use super::limits::Limits;
use super::pulse::{Beat, Pulse};
use super::setup::{Request, Setup};
use super::signals::Action;
use crate::base::escape::Escaped;
use crate::base::time::{Duration, Time};
use crate::bridge::topics::Way;
use crate::protocol::codec::{
    Acknowledgement, AcknowledgementKind, ConnAck, DecodeError, Frame, Packet, Properties, ProtocolVersion,
    Publish, QoS, ReasonCode, Side, Status, frame, plain_acknowledgement,
};

/// How long CONNACK may take, and each answer while the bridge sets itself up.
pub const ANSWER_PATIENCE: Duration = Duration::from_seconds(10);
/// The most acknowledgements that are passed on together.
const SERIES_MAXIMUM: usize = 64;
/// How long to wait before the first address is tried again while the bridge is connected to another one.
pub const PROBE_PAUSE: Duration = Duration::from_seconds(5);

/// The state of the connection to the other broker.
#[derive(Debug)]
pub enum RemoteState {
    /// There is none, and nothing to wait for but the session in this broker, or messages.
    Idle,
    /// There is none until then.
    Waiting { until: Time },
    /// The caller connects.
    Dialling,
    /// CONNECT was sent, CONNACK has not come.
    Greeting { deadline: Time },
    /// The bridge reports its state, subscribes and unsubscribes.
    SettingUp { setup: Setup, deadline: Time },
    /// Messages are forwarded.
    Running { since: Time, probe: Probe },
    /// Once the output was sent, the connection is closed.
    Ending { deadline: Time, next: Next },
    /// There will be none again.
    Over,
}

/// Whether the first address answers again while the bridge is connected to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// It need not be known.
    Needless,
    /// It is to be found out then.
    At(Time),
    /// The caller finds it out.
    Asked,
}

/// What comes after the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Idle,
    Wait(Time),
    Over,
}

/// The connection to the other broker.
#[derive(Debug)]
pub struct Remote {
    pub state: RemoteState,
    pub input: Input,
    pub output: Output,
    pub variant: Variant,
    pub limits: Limits,
    /// The largest packet in bytes that the bridge accepts on this connection.
    pub packet_size: usize,
    /// The highest QoS of messages that are sent.
    pub qos: QoS,
    pub pulse: Pulse,
    pub lowered: Lowered,
    /// Whether the other broker did not have a session of the bridge.
    pub is_session_new: bool,
    pub aliases: Aliases,
    /// The number of bytes that follow of a message that is too large.
    pub skipping: usize,
}

impl Remote {
    pub fn new(variant: Variant) -> Self {
        Self {
            state: RemoteState::Idle,
            input: Input::default(),
            output: Output::default(),
            variant,
            limits: Limits::UNLIMITED,
            packet_size: 0,
            qos: Limits::UNLIMITED.qos,
            pulse: Pulse::new(Duration::ZERO, Time::ZERO),
            lowered: Lowered::default(),
            is_session_new: true,
            aliases: Aliases::default(),
            skipping: 0,
        }
    }

    /// Whether there is a connection.
    pub const fn is_open(&self) -> bool {
        matches!(
            self.state,
            RemoteState::Greeting { .. }
                | RemoteState::SettingUp { .. }
                | RemoteState::Running { .. }
                | RemoteState::Ending { .. }
        )
    }
}

impl Machine {
    /// Whether the bridge takes more bytes from the other broker. If not, they are to be left in the socket until it
    /// does.
    #[inline]
    pub fn takes_remote(&self) -> bool {
        match self.remote.state {
            RemoteState::Greeting { .. } => true,
            RemoteState::SettingUp { .. } | RemoteState::Running { .. } => {
                self.local.takes_messages() && !self.remote.output.is_overfull()
            }
            RemoteState::Idle
            | RemoteState::Waiting { .. }
            | RemoteState::Dialling
            | RemoteState::Ending { .. }
            | RemoteState::Over => false,
        }
    }

    /// Bytes from the other broker.
    pub fn remote_received(&mut self, bytes: &[u8], now: Time) {
        if !self.remote.is_open() || matches!(self.remote.state, RemoteState::Ending { .. }) {
            return;
        }
        self.remote.pulse.receives(now);
        if self.remote.input.is_empty() {
            let processed = self.read_remote(bytes, now);
            if self.remote.is_open() {
                self.remote.input.add(&bytes[processed..]);
            }
        } else {
            self.remote.input.add(bytes);
        }
        self.pump(now);
    }

    /// Bytes for the other broker.
    pub fn remote_output(&self) -> &[u8] {
        self.remote.output.pending()
    }

    /// So many bytes of [`Machine::remote_output`] were sent.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn remote_sent(&mut self, count: usize, now: Time) {
        self.remote.output.advance(count);
        self.remote.pulse.sends(count, now);
        self.pump(now);
    }

    /// Processes packets that had to wait. Returns whether there was one.
    pub(super) fn read_remote_again(&mut self, now: Time) -> bool {
        if self.remote.input.is_empty() || !self.takes_remote() {
            return false;
        }
        let bytes = self.remote.input.take();
        let processed = self.read_remote(&bytes, now);
        if self.remote.is_open() {
            self.remote.input.put_back(bytes, processed);
        }
        processed > 0
    }

    /// Processes packets as long as the bridge takes them. Returns the number of bytes processed.
    fn read_remote(&mut self, bytes: &[u8], now: Time) -> usize {
        let (mut processed, most) = (0, self.remote.packet_size);
        while self.takes_remote() {
            let rest = &bytes[processed..];
            if self.remote.skipping > 0 && !rest.is_empty() {
                let skipped = rest.len().min(self.remote.skipping);
                self.remote.skipping -= skipped;
                processed += skipped;
                continue;
            }
            let passed = self.pass_series_in(rest, now);
            if passed > 0 {
                processed += passed;
                continue;
            }
            match frame(rest, most) {
                Ok(Status::Complete(frame)) => {
                    processed += frame.length;
                    self.process_remote(&frame, now);
                }
                Ok(Status::Incomplete { .. }) => break,
                Err(DecodeError::PacketTooLarge) if !self.is_greeting() => {
                    if !self.skip_oversized(rest, now) {
                        break;
                    }
                }
                Err(error) => {
                    let why = match error {
                        DecodeError::PacketTooLarge => self.too_large(rest),
                        other => other.to_string(),
                    };
                    self.lose(&why, now);
                    break;
                }
            }
        }
        processed
    }

    #[inline]
    fn process_remote(&mut self, frame: &Frame<'_>, now: Time) {
        if let RemoteState::Running { .. } = self.remote.state
            && let Some((kind, identifier)) = plain_acknowledgement(frame)
        {
            return self.pass_in(kind, &Acknowledgement::new(identifier, ReasonCode::Success), now);
        }
        match Side::Client.decode(frame, self.remote.variant.version) {
            Ok(packet) => self.process_remote_packet(&packet, now),
            // A broker without MQTT 5.0 refuses it in the format of MQTT 3.1.1.
            Err(_) if self.is_greeting() && frame.packet == [0x20, 2, 0, 1] => {
                self.fall_back("it is not supported", now)
            }
            Err(error) => self.lose(&error.to_string(), now),
        }
    }

    pub(super) const fn is_greeting(&self) -> bool {
        matches!(self.remote.state, RemoteState::Greeting { .. })
    }

    #[inline]
    fn process_remote_packet(&mut self, packet: &Packet<'_>, now: Time) {
        match (&self.remote.state, packet) {
            (RemoteState::Greeting { .. }, Packet::ConnAck(connack)) => self.take_connack(connack, now),
            (RemoteState::Greeting { .. }, _) => self.lose(&format!("{} before CONNACK", packet.name()), now),
            (_, Packet::Publish(publish)) => self.take_publish(publish, now),
            (RemoteState::SettingUp { setup, .. }, Packet::PubAck(answer))
                if !self.local.is_running() || setup.is_state(answer.packet_identifier) =>
            {
                self.take_answer(answer.packet_identifier, |request| request == Request::State, now);
            }
            (_, Packet::PubAck(answer)) => self.pass_in(AcknowledgementKind::PubAck, answer, now),
            (_, Packet::PubRec(answer)) => self.pass_in(AcknowledgementKind::PubRec, answer, now),
            (_, Packet::PubRel(answer)) => self.pass_in(AcknowledgementKind::PubRel, answer, now),
            (_, Packet::PubComp(answer)) => self.pass_in(AcknowledgementKind::PubComp, answer, now),
            (RemoteState::SettingUp { .. }, Packet::SubAck(suback)) => self.take_suback(suback, now),
            (RemoteState::SettingUp { .. }, Packet::UnsubAck(unsuback)) => {
                let is_right = |request| matches!(request, Request::Unsubscribe(_));
                self.take_answer(unsuback.packet_identifier, is_right, now);
            }
            (_, Packet::PingResp) => self.remote.pulse.answers(),
            (_, Packet::Disconnect(disconnect)) => {
                let why = reason(disconnect.reason_code.value(), disconnect.properties);
                self.lose(&format!("the other broker has disconnected: {why}"), now);
            }
            (_, packet) => self.lose(&format!("an unexpected {}", packet.name()), now),
        }
    }

    /// Takes a message of the other broker.
    #[inline]
    fn take_publish(&mut self, publish: &Publish<'_>, now: Time) {
        if let RemoteState::SettingUp { deadline, .. } = &mut self.remote.state {
            // Answers may have to wait for messages.
            *deadline = now + ANSWER_PATIENCE;
        }
        let Some(alias) = publish.properties.topic_alias() else {
            let topic = publish.topic.map_or("", |topic| topic.as_str());
            return self.forward_in(publish, topic, now);
        };
        let mut aliases = std::mem::take(&mut self.remote.aliases);
        let known = publish.topic.map_or(Ok(()), |topic| aliases.set(alias, topic.as_str()));
        match known.and_then(|()| aliases.topic(alias).ok_or("an unknown topic alias")) {
            Ok(topic) => self.forward_in(publish, topic, now),
            Err(why) => self.lose(why, now),
        }
        if self.remote.is_open() {
            self.remote.aliases = aliases;
        }
    }

    /// Passes a series of plain PUBACK packets on to this broker, which takes the same bytes. Returns their length in
    /// bytes; zero if other packets come first, or the QoS of a message was lowered.
    #[inline]
    fn pass_series_in(&mut self, bytes: &[u8], now: Time) -> usize {
        let is_plain = |packet: &&[u8]| matches!(packet, [0x40, 2, high, low] if (high | low) != 0);
        if !matches!(self.remote.state, RemoteState::Running { .. }) || self.remote.lowered.is_any() {
            return 0;
        }
        let packets = bytes.chunks_exact(AcknowledgementKind::PLAIN_LENGTH).take(SERIES_MAXIMUM);
        let count = packets.take_while(is_plain).count();
        if count == 0 {
            return 0;
        }
        let passed = &bytes[..count * AcknowledgementKind::PLAIN_LENGTH];
        self.remote.pulse.acknowledges(count, now);
        self.local.output.write(|into| into.extend_from_slice(passed));
        passed.len()
    }

    /// Passes an acknowledgement of the other broker on to this one.
    #[inline]
    fn pass_in(&mut self, kind: AcknowledgementKind, answer: &Acknowledgement<'_>, now: Time) {
        if is_refusal(kind, answer) {
            self.name_refused(Way::Out, answer.reason_code);
        }
        let kind = match kind {
            AcknowledgementKind::PubRel => kind,
            _ => {
                self.remote.pulse.acknowledges(1, now);
                match kind {
                    AcknowledgementKind::PubAck => {
                        self.remote.lowered.acknowledgement_of(answer.packet_identifier)
                    }
                    _ => kind,
                }
            }
        };
        self.answer_here(kind, Acknowledgement::new(answer.packet_identifier, answer.reason_code));
    }

    fn take_connack(&mut self, connack: &ConnAck<'_>, now: Time) {
        const UNSUPPORTED_VERSION: [u8; 2] = [1, ReasonCode::UnsupportedProtocolVersion.value()];
        match connack.code {
            0 => {}
            code if UNSUPPORTED_VERSION.contains(&code) => return self.fall_back("it is not supported", now),
            code => return self.take_refusal(code, connack.properties, now),
        }
        // MQTT 3.1 does not say whether there is a session.
        let was_left = self.remote.variant.version == ProtocolVersion::V31
            && !self.settings.remote.is_clean
            && self.attempts.was_accepted();
        self.attempts.accepted();
        self.report.connects();
        let limits = Limits::of(connack, &self.settings.remote);
        if let Some(keep_alive) = limits.keep_alive {
            self.remote.pulse.assign(keep_alive);
        }
        self.remote.limits = limits;
        self.last_topic.forget();
        self.remote.qos = limits.qos;
        self.remote.is_session_new = !connack.session_present && !was_left;
        self.remote.aliases = Aliases::new(self.settings.remote.topic_alias_maximum);
        self.name_unusable_filters();
        let setup = Setup::new(&self.settings, &self.topics, &limits, Rc::clone(&self.identifiers));
        self.remote.state = RemoteState::SettingUp { setup, deadline: now + ANSWER_PATIENCE };
        if self.remote.is_session_new {
            self.signals.act(Action::ForgetReceived);
        }
        self.open_local_for_messages();
    }

    fn take_refusal(&mut self, code: u8, properties: Properties<'_>, now: Time) {
        let why = match self.remote.variant.version {
            ProtocolVersion::V5 => {
                if ReasonCode::from_u8(code).is_some_and(|code| self.attempts.will_refused(code)) {
                    return self.hang_up(Next::Idle);
                }
                reason(code, properties)
            }
            ProtocolVersion::V31 | ProtocolVersion::V311 => return_code(code).to_owned(),
        };
        self.lose(&format!("the other broker has refused the connection: {why}"), now);
    }

    /// Names filters that are left out since the other broker would refuse them.
    fn name_unusable_filters(&mut self) {
        let topics = std::mem::take(&mut self.topics);
        for wanted in topics.wanted_there() {
            if let Some(why) = self.remote.limits.refusal(wanted.topic_filter()) {
                let filter = Escaped(&wanted.filter);
                self.say(Level::Warn, format_args!("The other broker does not forward {filter}: {why}"));
            }
        }
        self.topics = topics;
    }

    /// Appends a PINGREQ if it is due, and gives up a connection that is dead.
    pub(super) fn feel_pulse(&mut self, now: Time) {
        if !matches!(self.remote.state, RemoteState::SettingUp { .. } | RemoteState::Running { .. }) {
            return;
        }
        if !self.local.takes_messages() {
            self.remote.pulse.excuse(now);
        }
        let version = self.remote.variant.version;
        match self.remote.pulse.tick(now) {
            Beat::Nothing => {}
            Beat::Ping => {
                self.remote.output.write(|into| Packet::PingReq.encode(version, into));
                self.remote.pulse.pings(self.remote.output.len(), now);
            }
            Beat::Dead(why) => self.lose(why, now),
        }
    }

    /// Asks the caller to try the first address if that is due.
    pub(super) fn probe(&mut self, now: Time) {
        let RemoteState::Running { probe, .. } = &mut self.remote.state else { return };
        if matches!(probe, Probe::At(due) if *due <= now) {
            *probe = Probe::Asked;
            self.signals.act(Action::Probe(0));
        }
    }

    /// The caller has tried the first address, as `Probe` has asked for: whether a connection could be opened. It has
    /// closed it. The bridge changes over to that address then.
    pub fn probed(&mut self, answers: bool, now: Time) {
        if let RemoteState::Running { probe: probe @ Probe::Asked, .. } = &mut self.remote.state {
            if answers {
                self.attempts.prefer_first();
                let address = self.address();
                self.say(Level::Info, format_args!("{address} answers again, the bridge changes over to it"));
                self.leave_local();
                self.leave_remote(Next::Idle, now);
            } else {
                *probe = Probe::At(now + PROBE_PAUSE);
            }
        }
        self.pump(now);
    }

    /// Introduces the bridge.
    pub(super) fn greet(&mut self, now: Time) {
        let remote = &self.settings.remote;
        let keep_alive = Duration::from_seconds(remote.keep_alive.into());
        let variant = self.attempts.variant();
        self.remote = Remote {
            state: RemoteState::Greeting { deadline: now + ANSWER_PATIENCE },
            pulse: Pulse::new(keep_alive, now),
            packet_size: self.packet_size,
            ..Remote::new(variant)
        };
        let (settings, packet_size) = (&self.settings, self.packet_size);
        self.remote.output.write(|into| write_remote(settings, variant, packet_size, into));
    }

    /// The other broker does not accept the variant: the next one is tried.
    pub(super) fn fall_back(&mut self, why: &str, now: Time) {
        let tried = self.attempts.variant();
        if !self.attempts.refused() {
            return self.lose(&format!("{} was refused: {why}", tried.name()), now);
        }
        self.signals.act(Action::HangUp);
        self.try_next_variant(tried, why);
    }

    /// Connects to the same address again, with the next variant.
    pub(super) fn try_next_variant(&mut self, tried: Variant, why: &str) {
        let (address, tried, next) = (self.address(), tried.name(), self.attempts.variant().name());
        let why = Escaped(why);
        self.say(
            Level::Info,
            format_args!("{address} does not accept {tried}: {why}. It is tried with {next}"),
        );
        self.rest(Next::Idle);
    }
}

/// The words for a Reason Code and what the other broker adds to it.
fn reason(code: u8, properties: Properties<'_>) -> String {
    let mut text = ReasonCode::from_u8(code).unwrap_or(ReasonCode::UnspecifiedError).to_string();
    if let Some(more) = properties.reason_string() {
        text.push_str(&format!(" ({more})"));
    }
    if let Some(other) = properties.server_reference() {
        text.push_str(&format!(", use {other}"));
    }
    text
}

/// The words for a return code of MQTT 3.1 and 3.1.1.
const fn return_code(code: u8) -> &'static str {
    match code {
        2 => "client identifier not valid",
        3 => "server unavailable",
        4 => "bad user name or password",
        5 => "not authorized",
        _ => "unspecified error",
    }
}
