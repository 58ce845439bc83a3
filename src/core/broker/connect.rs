//! CONNECT: nothing of it takes effect before its client is authenticated. The order is: authenticate the client,
//! authorize the Will, take over the session, apply.

use std::borrow::Cow;
use std::rc::Rc;

use log::info;

use super::budget::Pressure;
use super::clock::Timer;
use super::cluster_log::CLOSED;
use super::decisions::Decisions;
use super::listener_options::{Claim, Refusal, granted_keep_alive, limit, mounted_name};
use super::refuse::{Applicant, unauthenticated};
use super::{Broker, Fault, Step};
use crate::base::escape::Escaped;
use crate::base::memory::Counted;
use crate::base::time::{Duration, Time};
use crate::core::access::{Client, Question, Verdict};
use crate::core::connection::{AuthenticationStage, Extension, InboundAliases, OutboundAliases, State};
use crate::core::limits::LITTLE_MEMORY;
use crate::core::listener::{ListenerOptions, UserNameSource};
use crate::core::message::{Message, Publication, Publisher};
use crate::core::session::{EXPIRY_NEVER, Incoming, Presence, Reading, Session, Subscriptions, Will};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    ConnAck, Connect, PACKET_SIZE_MAXIMUM, Packet, Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode,
};
use crate::protocol::topic::TopicName;

impl Broker {
    /// Handles a CONNECT. `packet` holds the bytes from which it was decoded.
    pub(super) fn handle_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        packet: &[u8],
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        let options = Rc::clone(self.options.listeners.of(self.connections[id].listener));
        self.negotiate(id, connect, &options);
        if self.is_log_closed() && !self.options.is_bridge(connect.client_identifier) {
            self.refuse(id, ReasonCode::ServerUnavailable, CLOSED, Some(&Applicant::of(connect)));
            return Ok(Step::Ended);
        }
        match connect.properties.authentication_method() {
            Some(method) => self.begin_authentication(id, method, connect, packet, decisions),
            None => self.decide_connect(id, connect, decisions),
        }
    }

    /// Accepts or refuses the client of a CONNECT. Where an authentication method was used, the User Name in `connect`
    /// is the one that it proved.
    pub(super) fn decide_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        let options = Rc::clone(self.options.listeners.of(self.connections[id].listener));
        let mounted = connect.will.and_then(|will| mounted_name(&options, will.topic));
        match with_will_topic(connect, mounted.as_deref()) {
            Ok(connect) => self.decide_mounted(id, &connect, &options, decisions),
            Err((reason, what)) => {
                self.refuse(id, reason, &what, Some(&Applicant::of(connect)));
                Ok(Step::Ended)
            }
        }
    }

    /// Like [`Broker::decide_connect`], for a CONNECT whose Will already has the topic that it has in the broker.
    fn decide_mounted(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        options: &ListenerOptions,
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        let identity = self.connections[id].certificate();
        let decision = match self.claim(options, identity.as_deref(), connect, decisions) {
            Err(refusal) => Err(refusal),
            Ok(claim) => {
                let claim = Claim { is_proved: self.is_proved(id, claim.user_name), ..claim };
                match self.may_connect(id, &claim, identity.as_deref(), connect, decisions) {
                    None => {
                        if let (Some(parked), Cow::Owned(drawn)) =
                            (&mut self.connections[id].parked, claim.client_identifier)
                        {
                            parked.assign(drawn);
                        }
                        return Ok(Step::Parked);
                    }
                    Some(decision) => decision.map(|()| claim),
                }
            }
        };
        match decision {
            Err((reason, what)) => {
                let what = match decisions.denial.take() {
                    Some(why) => format!("{what}: {why}").into(),
                    None => what,
                };
                let user_name = match options.user_name {
                    UserNameSource::Connect => connect.user_name,
                    UserNameSource::CommonName | UserNameSource::Subject => identity.as_deref(),
                };
                let applicant =
                    Applicant { user_name, hint: decisions.hint.as_deref(), ..Applicant::of(connect) };
                self.refuse(id, reason, &what, Some(&applicant));
                Ok(Step::Ended)
            }
            Ok(claim) => self.admit(id, &claim, options, connect),
        }
    }

    /// Accepts a client that passed all checks.
    fn admit(
        &mut self,
        id: ConnectionId,
        claim: &Claim<'_>,
        options: &ListenerOptions,
        connect: &Connect<'_>,
    ) -> Result<Step, Fault> {
        let properties = self.connack_properties(id, &claim.client_identifier, options, connect);
        let mut connack = ConnAck { session_present: false, code: 0, properties: properties.properties() };
        if !self.has_room_for(id, &Packet::ConnAck(connack)) {
            // Reported before anything has taken effect: no DISCONNECT may come before a CONNACK [MQTT-3.14.0-1].
            let what = "the Maximum Packet Size leaves no room for CONNACK";
            self.refuse(id, ReasonCode::ImplementationSpecificError, what, Some(&Applicant::of(connect)));
            return Ok(Step::Ended);
        }
        let former = self.former(claim, connect, id);
        let (session, is_present) = self.take_session(id, &claim.client_identifier, connect);
        self.apply(id, session, claim, connect);
        self.serve(id, session);
        self.persist_connected(id, session, former);
        info!(target: "connection",
            "New client connected from {} as {} (p{}, c{}, k{}{}).",
            self.connections[id].peer(),
            Escaped(&claim.client_identifier),
            connect.version.level(),
            u8::from(connect.clean_start),
            connect.keep_alive,
            claim.user_name.map_or_else(String::new, |name| format!(", u'{}'", Escaped(name))),
        );
        connack.session_present = is_present;
        self.answer(id, &Packet::ConnAck(connack))?;
        self.rest_authentication(id);
        self.pump(session);
        if self.waiting.has_unlinked(&claim.client_identifier, &mut self.turn) {
            self.wait_for_predecessor(id);
        }
        Ok(Step::Done)
    }

    /// Copies from the CONNECT what concerns the connection alone. A refusal depends on that, too.
    pub(super) fn negotiate(&mut self, id: ConnectionId, connect: &Connect<'_>, options: &ListenerOptions) {
        let is_v5 = connect.version == ProtocolVersion::V5;
        let properties = connect.properties;
        let connection = &mut self.connections[id];
        connection.version = connect.version;
        connection.is_bridge = connect.is_bridge;
        connection.keep_alive = granted_keep_alive(options, connect.keep_alive);
        connection.extension = is_v5.then(|| {
            let accepted = properties.topic_alias_maximum().unwrap_or(0);
            let aliases = accepted.min(options.outbound_topic_alias_maximum);
            Box::new(Extension {
                maximum_packet_size: properties
                    .maximum_packet_size()
                    .and_then(|size| usize::try_from(size).ok())
                    .map_or(PACKET_SIZE_MAXIMUM, |size| size.min(PACKET_SIZE_MAXIMUM)),
                wants_problem_information: properties.request_problem_information().unwrap_or(true),
                inbound_aliases: InboundAliases::default(),
                outbound_aliases: (aliases > 0).then(|| OutboundAliases::new(aliases)),
                authentication: None,
                expiry_is_fixed: properties.session_expiry_interval().unwrap_or(0) == 0,
                counted: Counted::new(Extension::MEMORY),
            })
        });
    }

    fn has_room_for(&self, id: ConnectionId, packet: &Packet<'_>) -> bool {
        let connection = &self.connections[id];
        let maximum = connection.maximum_packet_size();
        if maximum == PACKET_SIZE_MAXIMUM {
            return true;
        }
        let mut bytes = Vec::new();
        packet.encode(connection.version, &mut bytes);
        bytes.len() <= maximum
    }

    /// Checks everything for which a CONNECT may be refused. Returns `None` if a decision comes later.
    fn may_connect(
        &mut self,
        id: ConnectionId,
        claim: &Claim<'_>,
        certificate: Option<&str>,
        connect: &Connect<'_>,
        decisions: &mut Decisions,
    ) -> Option<Result<(), Refusal>> {
        let is_bridge = match self.check_names(id, claim) {
            Ok(is_bridge) => is_bridge,
            Err(refusal) => return Some(Err(refusal)),
        };
        let connection = &self.connections[id];
        let client = Client {
            connection: Some(id),
            peer: Some(connection.peer()),
            listener: connection.listener,
            client_identifier: &claim.client_identifier,
            user_name: claim.user_name,
            certificate,
        };
        if connection.authentication().is_some() {
            if claim.user_name != connect.user_name {
                return Some(Err((
                    ReasonCode::NotAuthorized,
                    "certificate and method name different users".into(),
                )));
            }
            // The authentication method has decided.
            if decisions.verdicts.is_empty() {
                decisions.verdicts.push(Verdict::Granted);
            }
        }
        // A client that has shown a certificate needs no password.
        let password = connect.password.filter(|_| certificate.is_none());
        let verdict =
            self.ask(decisions, 0, id, &client, Question::Connect { password, now: self.clock.now })?;
        if let Verdict::Refused(reason) = verdict {
            let access = &self.permission.access;
            decisions.hint = access.why_unauthenticated(&client, reason, password.is_some());
            return Some(Err((reason, unauthenticated(reason, claim.user_name).into())));
        }
        if !is_bridge && let Some(owner) = self.other_owner(claim) {
            // For the log alone: a client is not told the names of other users.
            decisions.hint = Some(Cow::Owned(owner));
            return Some(Err((ReasonCode::NotAuthorized, "the session belongs to another user".into())));
        }
        if let Err(refusal) = self.may_have_will(id, &client, connect, decisions)? {
            return Some(Err(refusal));
        }
        match is_bridge {
            true => Some(self.check_room(claim, connect)),
            false => Some(self.check_capacity(claim, connect)),
        }
    }

    /// Whether the client of a CONNECT may publish its Will, if it has one. Returns `None` if a decision comes later.
    fn may_have_will(
        &mut self,
        id: ConnectionId,
        client: &Client<'_>,
        connect: &Connect<'_>,
        decisions: &mut Decisions,
    ) -> Option<Result<(), Refusal>> {
        let Some(will) = &connect.will else { return Some(Ok(())) };
        let question = Question::Publish { topic: will.topic, qos: will.qos, retain: will.retain };
        Some(match self.ask(decisions, 1, id, client, question)? {
            // Such a Will is not published then. But mosquitto accepts a bridge like that, whose rules seldom
            // mention the topic.
            Verdict::Refused(_) if will.topic.is_about_a_bridge() => {
                decisions.denial = None;
                Ok(())
            }
            Verdict::Refused(reason) => Err((reason, "the Will is not authorized".into())),
            _ if will.topic.is_about_the_broker() => {
                Err((ReasonCode::NotAuthorized, "the Will is for a $SYS topic".into()))
            }
            _ => Ok(()),
        })
    }

    /// Checks the names of a client. Returns whether it is a bridge of this broker.
    fn check_names(&self, id: ConnectionId, claim: &Claim<'_>) -> Result<bool, Refusal> {
        let is_of_bridge = self.options.is_of_bridge(&claim.client_identifier, self.connections[id].listener);
        if is_of_bridge == Some(false) {
            let what = "the Client Identifier belongs to a bridge of this broker";
            return Err((ReasonCode::ClientIdentifierNotValid, what.into()));
        }
        let names = claim.client_identifier.len() + claim.user_name.map_or(0, str::len);
        if names > Publisher::LENGTH_MAXIMUM {
            let what = "the Client Identifier and the User Name together are too long";
            return Err((ReasonCode::ClientIdentifierNotValid, what.into()));
        }
        Ok(is_of_bridge.is_some())
    }

    /// Whether one more client can be served, and one more session if it has none yet.
    fn check_capacity(&mut self, claim: &Claim<'_>, connect: &Connect<'_>) -> Result<(), Refusal> {
        if self.pressure(0) >= Pressure::Enter {
            return Err((ReasonCode::QuotaExceeded, LITTLE_MEMORY.into()));
        }
        if self.connections.len() > self.options.limits.connections {
            let limit = limit(self.options.limits.connections, "global_max_connections");
            return Err((
                ReasonCode::QuotaExceeded,
                format!("there are too many connections, {limit}").into(),
            ));
        }
        if self.clients.directory.len() >= self.options.limits.sessions
            && self.clients.find(&claim.client_identifier).is_none()
        {
            let limit = limit(self.options.limits.sessions, "global_max_clients");
            return Err((ReasonCode::QuotaExceeded, format!("there are too many sessions, {limit}").into()));
        }
        self.check_room(claim, connect)
    }

    /// Whether the User Name of an accepted client is proved. A method or a certificate always proves it.
    fn is_proved(&self, id: ConnectionId, user_name: Option<&str>) -> bool {
        let connection = &self.connections[id];
        let is_vouched_for = connection.authentication().is_some() || connection.certificate().is_some();
        user_name.is_some() && (is_vouched_for || self.permission.access.proves_names(connection.listener))
    }

    /// Returns who owns the session that a client would take over, and what can be done about it; `None` if the client
    /// may have the session. A session belongs to the User Name that was proved for it. A session without a proved name
    /// goes to the first client that proves one. Without proof, it keeps its name, if it has one. If the access control
    /// knows no users, every session is open to all clients.
    fn other_owner(&self, claim: &Claim<'_>) -> Option<String> {
        let session = &self.clients.sessions[self.clients.find(&claim.client_identifier)?];
        let is_same = session.user_name.as_deref() == claim.user_name;
        let is_its_own = match (session.is_proved, claim.is_proved) {
            (false, true) => true,
            (true, false) => false,
            (true, true) | (false, false) => is_same,
        };
        if is_its_own || self.permission.grants_everything {
            return None;
        }
        let client = Escaped(&session.client_identifier);
        Some(match (&session.user_name, session.is_proved) {
            (Some(name), true) => {
                let name = Escaped(name);
                format!(
                    "client {client} belongs to user '{name}'; connect as that user, or with another Client Identifier"
                )
            }
            (Some(name), false) => {
                let name = Escaped(name);
                format!(
                    "client {client} has the unproved name '{name}'; use it, prove one, or connect as another client"
                )
            }
            (None, _) => format!(
                "client {client} gave no User Name; leave yours out, prove it, or use another Client Identifier"
            ),
        })
    }

    /// Finds the session of this Client Identifier or makes a new one. Returns whether it existed.
    fn take_session(
        &mut self,
        id: ConnectionId,
        client_identifier: &str,
        connect: &Connect<'_>,
    ) -> (SessionId, bool) {
        if let Some(known) = self.clients.find(client_identifier) {
            // The older connection ends, and its session if that was to end with it [MQTT-3.1.4-3].
            if let Some(older) = self.clients.sessions[known].connection() {
                self.end(older, ReasonCode::SessionTakenOver, "session taken over");
            }
        }
        if let Some(known) = self.clients.find(client_identifier) {
            if !connect.clean_start {
                self.disarm_session(known);
                let session = &mut self.clients.sessions[known];
                session.presence = Presence::Connected(id);
                // The client is back before the Will Delay Interval is over [MQTT-3.1.3-9].
                session.will = None;
                self.notify_groups(known);
                return (known, true);
            }
            // [MQTT-3.1.2-4]
            self.end_session(known);
        }
        let session = self.clients.sessions.insert_with(|_| Session {
            client_identifier: client_identifier.into(),
            user_name: None,
            is_proved: false,
            listener: self.connections[id].listener,
            reading: Reading::Free,
            presence: Presence::Connected(id),
            expiry_interval: 0,
            subscriptions: Subscriptions::default(),
            outgoing: None,
            next_identifier: None,
            window: 0,
            incoming: Incoming::default(),
            will: None,
            counted: Counted::default(),
            timer: None,
        });
        self.clients.directory.insert(client_identifier, session);
        (session, false)
    }

    /// Copies from the CONNECT what concerns the session.
    fn apply(&mut self, id: ConnectionId, session_id: SessionId, claim: &Claim<'_>, connect: &Connect<'_>) {
        self.identify(id, session_id, claim);
        let session = &mut self.clients.sessions[session_id];
        let publisher = session.publisher().written();
        let will = connect.will.as_ref().map(|will| self.session_will(will, &publisher));
        let expiry_interval = self.granted_expiry(&claim.client_identifier, connect);
        let session = &mut self.clients.sessions[session_id];
        session.will = will;
        session.count();
        session.expiry_interval = expiry_interval;
        let window = match self.clients.bridge_queues.is_held(&claim.client_identifier) {
            true => 0,
            false => {
                connect.properties.receive_maximum().unwrap_or(u16::MAX).min(self.options.limits.in_flight)
            }
        };
        session.resume(window);
        let latest = self.retention.retained.latest();
        session.outgoing.iter_mut().for_each(|outgoing| outgoing.retained_sends.resume(latest));
    }

    /// Lets a connection serve its session from now on.
    fn serve(&mut self, id: ConnectionId, session_id: SessionId) {
        self.clients.connected += 1;
        let outgoing = self.clients.sessions[session_id].outgoing.as_ref();
        let queues = outgoing.is_some_and(|outgoing| outgoing.holds_at_most_once());
        let connection = &mut self.connections[id];
        connection.state = State::Serving(session_id);
        self.output.sender.queue_at_most_once(connection, queues);
        let silence = connection.silence_allowed();
        self.arm_connection(id, silence);
        self.tell_nodes_of_client(id, session_id);
    }

    /// Records in a session who its client is now, since its rights to receive messages depend on that.
    fn identify(&mut self, id: ConnectionId, session_id: SessionId, claim: &Claim<'_>) {
        let listener = self.connections[id].listener;
        let session = &mut self.clients.sessions[session_id];
        let is_other = session.listener != listener || session.user_name.as_deref() != claim.user_name;
        session.user_name = claim.user_name.map(Into::into);
        session.is_proved = claim.is_proved;
        session.listener = listener;
        let has_state = !session.subscriptions.is_empty() || session.outgoing.is_some();
        if is_other && has_state {
            self.judge_anew(session_id);
            self.routing.match_cache = Default::default();
        }
    }

    pub(super) fn granted_expiry(&self, client_identifier: &str, connect: &Connect<'_>) -> u32 {
        let wanted = match (connect.version, connect.clean_start) {
            (ProtocolVersion::V5, _) => connect.properties.session_expiry_interval().unwrap_or(0),
            (_, true) => 0,
            (_, false) => EXPIRY_NEVER,
        };
        // No other client has come this far with the Client Identifier of a bridge.
        match self.options.is_bridge(client_identifier) {
            true => wanted,
            false => wanted.min(self.options.limits.session_expiry_maximum),
        }
    }

    fn session_will(&mut self, will: &crate::protocol::codec::Will<'_>, publisher: &str) -> Box<Will> {
        let expiry = will.properties.message_expiry_interval();
        self.output.buffers.forwarded.clear();
        for (property, encoded) in will.properties.encoded() {
            if !is_of_moment(&property) {
                self.output.buffers.forwarded.push_encoded(encoded);
            }
        }
        let publication = Publication {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            publisher: will.retain.then_some(publisher),
            properties: self.output.buffers.forwarded.properties(),
            expires: expiry
                .map_or(Time::NEVER, |seconds| Time::ZERO + Duration::from_seconds(u64::from(seconds))),
        };
        Box::new(Will {
            message: Message::new(&publication, &mut self.output.sender.spares),
            delay: Duration::from_seconds(u64::from(will.properties.will_delay_interval().unwrap_or(0))),
            due: Time::NEVER,
        })
    }

    fn connack_properties(
        &self,
        id: ConnectionId,
        client_identifier: &str,
        options: &ListenerOptions,
        connect: &Connect<'_>,
    ) -> PropertyBuffer {
        let mut properties = PropertyBuffer::default();
        if connect.version != ProtocolVersion::V5 {
            return properties;
        }
        let expiry_interval = self.granted_expiry(client_identifier, connect);
        if expiry_interval != connect.properties.session_expiry_interval().unwrap_or(0) {
            properties.push(Property::SessionExpiryInterval(expiry_interval));
        }
        if !self.options.is_bridge(client_identifier) {
            properties.push(Property::ReceiveMaximum(self.options.limits.receive_maximum));
        }
        if options.maximum_qos < QoS::ExactlyOnce {
            // [MQTT-3.2.2-9]
            properties.push(Property::MaximumQoS(options.maximum_qos));
        }
        if !self.options.switches.retain_available {
            properties.push(Property::RetainAvailable(false));
        }
        if let Ok(size) = u32::try_from(self.options.limits.packet_size.min(options.packet_size)) {
            properties.push(Property::MaximumPacketSize(size));
        }
        if connect.client_identifier.is_empty() {
            // [MQTT-3.2.2-16]
            properties.push(Property::AssignedClientIdentifier(client_identifier));
        }
        properties.push(Property::TopicAliasMaximum(options.topic_alias_maximum));
        let keep_alive = self.connections[id].keep_alive;
        if keep_alive != connect.keep_alive {
            // [MQTT-3.1.2-21]
            properties.push(Property::ServerKeepAlive(keep_alive));
        }
        if let Some(authentication) = self.connections[id].authentication() {
            // [MQTT-4.12.0-5]
            properties.push(Property::AuthenticationMethod(&authentication.method));
            if let AuthenticationStage::Passed { data, .. } = authentication.stage()
                && !data.is_empty()
            {
                properties.push(Property::AuthenticationData(data));
            }
        }
        // Only on request [MQTT-3.1.2-28], and only if it is valid as the beginning of a Topic Name.
        let information = format!("response/{client_identifier}");
        if connect.properties.request_response_information() == Some(true)
            && TopicName::new(&information).is_ok()
        {
            properties.push(Property::ResponseInformation(&information));
        }
        properties
    }

    /// Arms, moves or cancels the one timer of a connection.
    pub(super) fn arm_connection(&mut self, id: ConnectionId, after: Option<Duration>) {
        let connection = &mut self.connections[id];
        match (connection.timer, after) {
            (Some(timer), Some(after)) => self.clock.wheel.move_to(timer, self.clock.now + after),
            (None, Some(after)) => {
                connection.timer = Some(self.clock.arm(after, Timer::Connection(id)));
            }
            (Some(timer), None) => {
                self.clock.wheel.cancel(timer);
                connection.timer = None;
            }
            (None, None) => {}
        }
    }
}

/// Whether a property of a Will says when the Will is published or expires, and so is not part of the message.
pub(super) const fn is_of_moment(property: &Property<'_>) -> bool {
    matches!(property, Property::WillDelayInterval(_) | Property::MessageExpiryInterval(_))
}

/// Returns the CONNECT with this topic for its Will, the one that it has in the broker.
fn with_will_topic<'a>(connect: &Connect<'a>, topic: Option<&'a str>) -> Result<Connect<'a>, Refusal> {
    let mut connect = *connect;
    if let (Some(will), Some(topic)) = (&mut connect.will, topic) {
        // The topic may have become too long or have too many levels.
        will.topic = TopicName::new(topic).map_err(|_| {
            (
                ReasonCode::TopicNameInvalid,
                "the topic of the Will is not valid below the mount point (mount_point)".into(),
            )
        })?;
    }
    Ok(connect)
}
