//! Bytes in: packets are cut out of what arrives and passed to the code for their kind.

use log::{Level, debug, log_enabled};

use super::budget::Pressure;
use super::listener_options::limit as limit_of;
use super::trace::Described;
use super::turn::steps;
use super::{Broker, Fault, Intake, Step};
use crate::base::time::Time;
use crate::core::connection::{Connection, State};
use crate::core::limits::LITTLE_MEMORY;
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    DecodeError, Frame, Oversized, Packet, PlainRun, ProtocolVersion, Publish, ReasonCode, Side, Status,
    decode, frame, unchecked_publish, unchecked_subscribe, unchecked_unsubscribe,
};
use crate::protocol::spoken::{Port, Spoken};

/// The length of an incomplete packet that is kept even when the memory budget is used up, in bytes.
const SPARED_UNDER_PRESSURE: usize = 256;

/// The upper half of the first byte of CONNECT.
const CONNECT: u8 = 1;

/// The input of a client: at least one whole packet, and the bytes after it.
pub(super) struct Batch<'a> {
    /// The first packet.
    pub(super) first: Frame<'a>,
    /// All bytes.
    pub(super) bytes: &'a [u8],
    pub(super) version: ProtocolVersion,
    /// The maximum length of a packet in bytes.
    pub(super) limit: usize,
    /// A run may begin only where at most this many bytes are left. The bytes before have been looked at.
    runs_left: &'a mut usize,
}

impl Batch<'_> {
    /// Whether there may be several messages of QoS 0 at the front, unless it is known that they cannot be forwarded
    /// together.
    #[inline(always)]
    pub(super) fn may_begin_run(&self) -> bool {
        self.bytes.len() <= *self.runs_left
            && PlainRun::may_begin_with(&self.first, &self.bytes[self.first.length..])
    }

    /// Notes that this many bytes at the front need not be looked at again.
    pub(super) fn skip_runs(&mut self, length: usize) {
        *self.runs_left = self.bytes.len() - length;
    }
}

impl Broker {
    /// Bytes arrived. Whole packets are processed in place; only the beginning of an incomplete one is copied.
    pub fn received(&mut self, id: ConnectionId, bytes: &[u8], now: Time) -> Intake {
        let _entered = self.account.enter();
        self.advance(now);
        self.output.statistics.received.bytes += bytes.len() as u64;
        let Some(connection) = self.connections.find_mut(id) else { return Intake::More };
        if connection.is_paused {
            connection.inbox.append(bytes);
            return Intake::Paused;
        }
        let has_something = !(bytes.is_empty() && connection.inbox.is_empty());
        if has_something && !self.turn.takes_input() {
            self.buffer(id, bytes);
            self.defer(id);
            return Intake::Paused;
        }
        self.turn.begin_input();
        self.take_in(id, bytes);
        let Some(connection) = self.connections.find_mut(id) else { return Intake::More };
        if connection.outbox.is_lost() {
            // The answers cannot be sent.
            connection.outbox.clear(&mut self.output.sender.dirty);
        }
        let (is_paused, waiting) = (connection.is_paused, connection.inbox.len());
        let is_its_own = !connection.is_deferred && waiting > SPARED_UNDER_PRESSURE;
        if is_its_own && self.lacks_memory_for_more(id) {
            self.fail(id, &Fault::new(ReasonCode::QuotaExceeded, LITTLE_MEMORY));
            return Intake::More;
        }
        if is_paused { Intake::Paused } else { Intake::More }
    }

    /// Processes the bytes that were queued while reading was suspended. Returns whether reading may continue. The
    /// caller's response to [`super::Effect::Resume`].
    pub fn resume(&mut self, id: ConnectionId, now: Time) -> Intake {
        let _entered = self.account.enter();
        let Some(connection) = self.connections.find_mut(id) else { return Intake::More };
        if connection.must_wait() {
            return Intake::Paused;
        }
        connection.is_paused = false;
        connection.last_heard = now;
        if connection.state == State::Greeting {
            self.advance(now);
            self.restart_connect_timer(id);
        }
        self.received(id, &[], now)
    }

    pub(super) fn take_in(&mut self, id: ConnectionId, mut bytes: &[u8]) {
        loop {
            let limit = self.packet_size_limit(id);
            let Some(connection) = self.connections.find_mut(id) else { return };
            if connection.state == State::Ending {
                return;
            }
            if connection.inbox.is_empty() {
                let used = self.process(id, bytes);
                self.buffer(id, &bytes[used..]);
                return;
            }
            if !self.may_buffer(id, bytes.len()) {
                return;
            }
            let Some(connection) = self.connections.find_mut(id) else { return };
            bytes = connection.inbox.complete_first(bytes, limit);
            let held = connection.inbox.take();
            let used = self.process(id, &held);
            let Some(connection) = self.connections.find_mut(id) else { return };
            connection.inbox.put_back(held, used);
            if connection.is_paused {
                self.buffer(id, bytes);
                return;
            }
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// Whether there is memory to queue this many more bytes; if not, the connection ends. Called before anything is
    /// allocated for them.
    fn may_buffer(&mut self, id: ConnectionId, more: usize) -> bool {
        let Some(connection) = self.connections.find(id) else { return false };
        let growth = connection.inbox.growth(more);
        let state = connection.state;
        // The peer is not to blame for bytes that wait for their turn, and no more of them are read. A CONNECT would
        // only be refused.
        let is_spared = match state {
            _ if connection.is_deferred => true,
            State::Greeting => more == 0 && connection.inbox.is_empty(),
            _ => connection.inbox.len() + more <= SPARED_UNDER_PRESSURE,
        };
        if is_spared || self.pressure(growth) < most_pressure(state) {
            return true;
        }
        self.fail(id, &Fault::new(ReasonCode::QuotaExceeded, LITTLE_MEMORY));
        false
    }

    /// Whether there is no memory for more of a packet, record or handshake that a connection has in progress.
    pub fn lacks_memory_for_more(&self, id: ConnectionId) -> bool {
        let _entered = self.account.enter();
        self.connections
            .find(id)
            .is_some_and(|connection| self.pressure(0) >= most_pressure(connection.state))
    }

    /// Queues bytes until they can be processed, if there is memory for them.
    fn buffer(&mut self, id: ConnectionId, bytes: &[u8]) {
        if !self.may_buffer(id, bytes.len()) {
            return;
        }
        if let Some(connection) = self.connections.find_mut(id)
            && connection.state != State::Ending
        {
            connection.inbox.append(bytes);
        }
    }

    fn packet_size_limit(&self, id: ConnectionId) -> usize {
        match self.connections.find(id).map(|connection| (connection.state, connection.listener)) {
            Some((State::Serving(_), listener)) => self.packet_size_maximum(listener),
            _ => self.options.limits.connect_packet_size,
        }
    }

    /// Processes the whole packets at the front of `bytes`. Returns the number of bytes they took: all of them once the
    /// connection ends, because the rest no longer matters.
    fn process(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let (mut used, mut runs_left) = (0, usize::MAX);
        let (mut limit, most) = (self.packet_size_limit(id), self.answers_allowance());
        loop {
            let is_open = |connection: &&mut Connection| connection.state != State::Ending;
            let Some(connection) = self.connections.find_mut(id).filter(is_open) else { return bytes.len() };
            let (state, version) = (connection.state, connection.version);
            connection.is_paused |= connection.outbox.holds_up(most);
            if connection.is_paused {
                return used;
            }
            if self.turn.is_over() && used < bytes.len() {
                self.defer(id);
                return used;
            }
            let rest = &bytes[used..];
            let frame = match cut(rest, connection, limit) {
                Ok(Status::Complete(frame)) => frame,
                Ok(Status::Incomplete { .. }) => return used,
                Err(error) => {
                    let fault = self.uncut(state, rest, limit, error);
                    self.fail(id, &fault);
                    return bytes.len();
                }
            };
            connection.last_heard = self.clock.now;
            if self.must_pause_for(id, &frame) {
                return used;
            }
            self.turn.take(steps::PACKET + frame.length / steps::BYTES_PER_STEP);
            let outcome = match state {
                State::Serving(session) => {
                    let runs_left = &mut runs_left;
                    let batch = Batch { first: frame, bytes: rest, version, limit, runs_left };
                    self.process_packet((id, session), batch)
                }
                _ => {
                    let outcome = self.process_greeting(id, &frame);
                    limit = self.packet_size_limit(id);
                    outcome
                }
            };
            match self.count_packet(id, outcome) {
                Step::Done => used += frame.length,
                Step::Several(length) => used += length,
                Step::Parked | Step::Suspended => return used,
                Step::Ended => return bytes.len(),
            }
        }
    }

    /// The fault of a client from whose `bytes` no packet of at most `limit` bytes can be cut.
    #[cold]
    fn uncut(&self, state: State, bytes: &[u8], limit: usize, error: DecodeError) -> Fault {
        if error != DecodeError::PacketTooLarge {
            return Self::advised(state, error.into(), bytes);
        }
        let (packet, reason) = (Oversized(bytes), ReasonCode::PacketTooLarge);
        let is_fixed = matches!(state, State::Greeting) && limit < self.options.limits.packet_size;
        let whose = if is_fixed { "fixed, before CONNACK" } else { "max_packet_size" };
        let mut fault = Fault::new(reason, format!("{reason}: {packet}, {}", limit_of(limit, whose)));
        // Its client knows it, and how much of it has arrived is chance.
        fault.0.detail = packet.topic().map_or_else(String::new, |topic| format!("topic {topic}"));
        fault
    }

    /// Adds to the fault of a connection that begins with these bytes what it speaks instead of MQTT.
    fn advised(state: State, mut fault: Fault, bytes: &[u8]) -> Fault {
        let advice = Spoken::advice(bytes, Port::Mqtt).filter(|_| state == State::Greeting);
        fault.0.detail = advice.unwrap_or_default().to_owned();
        fault
    }

    /// Counts a packet unless it will be continued later. A packet that fails is the last one of its connection.
    #[inline(always)]
    fn count_packet(&mut self, id: ConnectionId, outcome: Result<Step, Fault>) -> Step {
        let step = outcome.unwrap_or_else(|fault| {
            self.fail(id, &fault);
            Step::Ended
        });
        let is_continued = matches!(step, Step::Parked | Step::Suspended);
        self.output.statistics.packets_received += u64::from(!is_continued);
        step
    }

    /// Processes the first packet of a batch, and for some kinds also those after it.
    #[inline(always)]
    fn process_packet(
        &mut self,
        (id, session): (ConnectionId, SessionId),
        mut batch: Batch<'_>,
    ) -> Result<Step, Fault> {
        if self.options.may_be_short()
            && let Some(step) = self.try_batch((id, session), &mut batch)?
        {
            return Ok(step);
        }
        let Batch { first, version, .. } = batch;
        if self.waiting.has_begun(id) {
            return self.go_on_packet(id, session, &first);
        }
        match unchecked_publish(&first, version)? {
            Some(unchecked) => self.process_publish(id, session, &unchecked.decode(version)?),
            None => self.process_other(id, session, &first, version),
        }
    }

    #[inline(never)]
    fn process_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
    ) -> Result<Step, Fault> {
        let mut decisions = self.take_decisions_of(id);
        self.trace(session, &Packet::Publish(*publish));
        self.handle_publish(id, session, publish, &mut decisions)
    }

    fn process_other(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        frame: &Frame<'_>,
        version: ProtocolVersion,
    ) -> Result<Step, Fault> {
        let decisions = self.take_decisions_of(id);
        if log_enabled!(Level::Debug)
            && let Ok(packet) = decode(frame, version)
        {
            self.trace(session, &packet);
        }
        if let Some(subscribe) = unchecked_subscribe(frame, version)? {
            return self.handle_subscribe(id, session, &subscribe, decisions);
        }
        if let Some(unsubscribe) = unchecked_unsubscribe(frame, version)? {
            return self.handle_unsubscribe(id, session, &unsubscribe, decisions);
        }
        let packet = Side::Server.decode(frame, version).map_err(|error| match error {
            // Only a CONNECT has these faults, and DISCONNECT no codes for them [MQTT-3.14.2-1].
            DecodeError::UnsupportedProtocolVersion | DecodeError::ClientIdentifierNotValid => {
                Fault::protocol_error("a second CONNECT")
            }
            other => other.into(),
        })?;
        self.handle(id, session, &packet)
    }

    #[inline(never)]
    fn process_greeting(&mut self, id: ConnectionId, frame: &Frame<'_>) -> Result<Step, Fault> {
        let mut decisions = self.take_decisions_of(id);
        let connection = &self.connections[id];
        if connection.authentication().is_some() {
            return self.process_between(id, decode(frame, connection.version)?, &mut decisions);
        }
        match decode(frame, connection.version) {
            Ok(Packet::Connect(connect)) => {
                let outcome = self.handle_connect(id, &connect, frame.packet, &mut decisions);
                self.output.statistics.connects += u64::from(!matches!(outcome, Ok(Step::Parked)));
                outcome
            }
            Ok(_) => Err(Fault::protocol_error("the first packet is not CONNECT")),
            Err(error) => {
                self.refuse_undecoded(id, frame, error);
                Ok(Step::Ended)
            }
        }
    }

    fn handle(&mut self, id: ConnectionId, session: SessionId, packet: &Packet<'_>) -> Result<Step, Fault> {
        match packet {
            Packet::PubAck(answer) => self.handle_puback(session, answer.packet_identifier)?,
            Packet::PubRec(answer) => {
                self.handle_pubrec(id, session, answer.packet_identifier, answer.reason_code.is_error())?;
            }
            Packet::PubRel(answer) => self.handle_pubrel(id, session, answer.packet_identifier)?,
            Packet::PubComp(answer) => self.handle_pubcomp(session, answer.packet_identifier)?,
            Packet::Publish(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) => {
                unreachable!("they are not decoded as a whole")
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                unreachable!("they are not decoded for a server")
            }
            // [MQTT-3.12.4-1]
            Packet::PingReq => self.answer(id, &Packet::PingResp)?,
            Packet::Disconnect(disconnect) => return self.handle_disconnect(id, session, disconnect),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => return Err(Fault::protocol_error("a second CONNECT")),
            Packet::Auth(auth) => self.handle_auth(id, session, auth)?,
        }
        Ok(Step::Done)
    }

    fn trace(&self, session: SessionId, packet: &Packet<'_>) {
        if log_enabled!(Level::Debug) {
            let client = &self.clients.sessions[session].client_identifier;
            debug!("Received {}", Described { packet, direction: "from", client });
        }
    }

    /// Refuses a CONNECT that did not decode. An unknown version gets the oldest form of answer, and so do faults for
    /// which 3.1.1 has a code. A 5.0 client gets a reason. All other connections are closed without an answer
    /// [MQTT-3.1.4-1].
    fn refuse_undecoded(&mut self, id: ConnectionId, frame: &Frame<'_>, error: DecodeError) {
        let fault = Self::advised(State::Greeting, error.into(), frame.packet);
        let version = crate::protocol::codec::connect_version(frame.body);
        if let Some(version) = version {
            self.connections[id].version = version;
        }
        let is_told = match error {
            DecodeError::UnsupportedProtocolVersion | DecodeError::ClientIdentifierNotValid => true,
            _ => version == Some(crate::protocol::codec::ProtocolVersion::V5),
        };
        if is_told {
            self.refuse(id, fault.0.reason, &fault.0.what, None);
        } else {
            self.fail(id, &fault);
        }
    }

    /// The peer has closed or its socket has failed: the connection is gone, and nothing more is sent.
    pub fn closed(&mut self, id: ConnectionId, why: &str, now: Time) {
        let _entered = self.account.enter();
        self.advance(now);
        let Some(connection) = self.connections.find(id) else { return };
        let state = connection.state;
        self.forget_question(id);
        if let State::Serving(session) = state {
            self.detach(id, session, Some(why));
        }
        self.remove_connection(id);
        if let Some(journal) = &mut self.persistence.journal {
            journal.forget(id);
        }
    }

    fn remove_connection(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.remove(id) else { return };
        if let Some(timer) = connection.timer.take() {
            self.clock.wheel.cancel(timer);
        }
        connection.outbox.clear(&mut self.output.sender.dirty);
    }
}

/// Cuts the next packet out of the input of a connection; `limit` is its maximum length.
#[inline]
fn cut<'a>(bytes: &'a [u8], connection: &Connection, limit: usize) -> Result<Status<Frame<'a>>, DecodeError> {
    let is_first = connection.state == State::Greeting && connection.authentication().is_none();
    // The rest of a packet that does not begin like a CONNECT is not waited for [MQTT-3.1.0-1].
    if is_first && bytes.first().is_some_and(|&first| first >> 4 != CONNECT) {
        return Err(DecodeError::ProtocolError("the first packet is not CONNECT"));
    }
    frame(bytes, limit)
}

/// The pressure from which on a connection queues no more of a packet in progress. Peers without a session would only
/// be refused, so they leave the last of the memory to clients.
const fn most_pressure(state: State) -> Pressure {
    match state {
        State::Greeting => Pressure::Enter,
        State::Serving(_) | State::Ending => Pressure::Full,
    }
}
