//! AUTH: extended authentication, between a CONNECT and its CONNACK, and again on an established connection.
//!
//! The CONNECT is stored until its client has proved who it is, and then processed as if it had just come. The meaning
//! of the exchanged data is left to the access control.

use std::rc::Rc;

use log::info;

use super::decisions::Decisions;
use super::refuse::Applicant;
use super::turn::steps;
use super::{Broker, Effect, Fault, Step};
use crate::base::escape::{Escaped, Quoted};
use crate::core::access::{Client, Progress};
use crate::core::connection::{Authentication, AuthenticationStage};
use crate::core::slots::{ConnectionId, SessionId};
use crate::protocol::codec::{
    Auth, Connect, Packet, Property, PropertyBuffer, ReasonCode, Status, decode, frame,
};

impl Broker {
    /// Begins the authentication of a CONNECT that names a method.
    pub(super) fn begin_authentication(
        &mut self,
        id: ConnectionId,
        method: &str,
        connect: &Connect<'_>,
        packet: &[u8],
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        let connection = &self.connections[id];
        let client = Client {
            connection: Some(id),
            peer: Some(connection.peer()),
            listener: connection.listener,
            client_identifier: connect.client_identifier,
            user_name: connect.user_name,
            certificate: None,
        };
        let Some(mut exchange) = self.permission.access.begin(&client, method) else {
            // [MQTT-4.12.0-1]
            let what = "the Authentication Method is not supported here";
            let hint = format!("the method is {}", Quoted(method));
            let applicant = Applicant { hint: Some(&hint), ..Applicant::of(connect) };
            self.refuse(id, ReasonCode::BadAuthenticationMethod, what, Some(&applicant));
            return Ok(Step::Ended);
        };
        let progress =
            exchange.go_on(connect.properties.authentication_data().unwrap_or_default(), self.clock.now);
        let stage = AuthenticationStage::Challenged(exchange);
        let authentication = Authentication::new(method, stage, packet);
        if let Some(extension) = &mut self.connections[id].extension {
            extension.authentication = Some(Box::new(authentication));
        }
        self.proceed(id, progress, decisions)
    }

    /// Processes a packet between a CONNECT with a method and its CONNACK: AUTH to continue or DISCONNECT
    /// [MQTT-3.1.2-30].
    pub(super) fn process_between(
        &mut self,
        id: ConnectionId,
        packet: Packet<'_>,
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        let stage = self.connections[id].authentication().map(Authentication::stage);
        if matches!(stage, Some(AuthenticationStage::Passed { .. })) {
            // The packet, CONNECT or AUTH, has already had its effect; it only had to wait for a decision.
            return self.decide_waiting_connect(id, decisions);
        }
        match packet {
            Packet::Auth(auth) => self.go_on_connecting(id, &auth, decisions),
            Packet::Disconnect(_) => {
                let peer = self.connections[id].peer();
                let who = self.waiting_applicant(id).unwrap_or_default();
                info!(target: "connection", "Client {peer} disconnected: before it was authenticated.{who}");
                self.begin_ending(id);
                self.effects.push_back(Effect::Drop(id));
                Ok(Step::Ended)
            }
            _ => Err(Fault::protocol_error("neither AUTH nor DISCONNECT before CONNACK")),
        }
    }

    fn go_on_connecting(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        let Some(authentication) = self.connections[id].authentication() else {
            return Err(Fault::protocol_error("AUTH without an Authentication Method"));
        };
        // [MQTT-4.12.0-3]
        if auth.reason_code != ReasonCode::ContinueAuthentication {
            return Err(Fault::protocol_error(
                "AUTH that does not continue the authentication, before CONNACK",
            ));
        }
        check_method(authentication, auth)?;
        let data = auth.properties.authentication_data().unwrap_or_default();
        let Some(progress) = self.go_on_authenticating(id, data) else {
            return Err(Fault::protocol_error("AUTH after the end of the authentication"));
        };
        self.proceed(id, progress, decisions)
    }

    fn proceed(
        &mut self,
        id: ConnectionId,
        progress: Progress,
        decisions: &mut Decisions,
    ) -> Result<Step, Fault> {
        match progress {
            Progress::Challenge(data) => {
                // [MQTT-4.12.0-2]
                self.send_auth(id, ReasonCode::ContinueAuthentication, &data)?;
                Ok(Step::Done)
            }
            Progress::Passed { user_name, data } => {
                if let Some(authentication) = self.connections[id].authentication_mut() {
                    authentication.set_stage(AuthenticationStage::Passed { user_name, data });
                }
                self.decide_waiting_connect(id, decisions)
            }
            Progress::Failed(reason, what) => {
                // [MQTT-4.12.0-4]
                self.refuse_waiting(id, reason, &format!("the client is not authenticated: {what}"));
                Ok(Step::Ended)
            }
        }
    }

    /// Processes the stored CONNECT of a client that is authenticated now.
    fn decide_waiting_connect(&mut self, id: ConnectionId, decisions: &mut Decisions) -> Result<Step, Fault> {
        let connection = &mut self.connections[id];
        let version = connection.version;
        let Some(authentication) = connection.authentication_mut() else { return Ok(Step::Ended) };
        let AuthenticationStage::Passed { user_name, .. } = authentication.stage() else {
            return Ok(Step::Ended);
        };
        let user_name = user_name.clone();
        let packet = std::mem::take(&mut authentication.connect);
        let Status::Complete(frame) = frame(&packet, packet.len())? else {
            unreachable!("it was whole when it came");
        };
        let Packet::Connect(connect) = decode(&frame, version)? else {
            unreachable!("it was a CONNECT when it came");
        };
        if connect.user_name.is_some_and(|claimed| claimed != &*user_name) {
            let what = "the User Name is not the one that was authenticated";
            let hint = format!("it was authenticated as {}", Quoted(&user_name));
            let applicant = Applicant { hint: Some(&hint), ..Applicant::of(&connect) };
            self.refuse(id, ReasonCode::NotAuthorized, what, Some(&applicant));
            return Ok(Step::Ended);
        }
        let proved = Connect { user_name: Some(&user_name), ..connect };
        let outcome = self.decide_connect(id, &proved, decisions);
        if let Ok(Step::Parked) = outcome
            && let Some(authentication) = self.connections[id].authentication_mut()
        {
            authentication.connect = packet;
        }
        outcome
    }

    /// Drops what is no longer needed of an exchange after CONNACK was sent: everything but the method and the User
    /// Name.
    pub(super) fn rest_authentication(&mut self, id: ConnectionId) {
        let Some(authentication) = self.connections[id].authentication() else { return };
        let AuthenticationStage::Passed { user_name, .. } = authentication.stage() else { return };
        let stage = AuthenticationStage::Passed { user_name: user_name.clone(), data: Vec::new() };
        let rested = Authentication::new(&authentication.method, stage, &[]);
        if let Some(extension) = &mut self.connections[id].extension {
            extension.authentication = Some(Box::new(rested));
        }
    }

    /// Handles AUTH from a connected client: it proves again who it is, while everything else goes on.
    pub(super) fn handle_auth(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        auth: &Auth<'_>,
    ) -> Result<(), Fault> {
        let Some(authentication) = self.connections[id].authentication() else {
            // [MQTT-4.12.0-7]
            return Err(Fault::protocol_error("AUTH without an Authentication Method"));
        };
        check_method(authentication, auth)?;
        let data = auth.properties.authentication_data().unwrap_or_default();
        let progress = match (authentication.stage(), auth.reason_code) {
            // [MQTT-4.12.1-1]
            (AuthenticationStage::Passed { .. }, ReasonCode::ReAuthenticate) => {
                self.begin_again(id, session)?;
                self.go_on_authenticating(id, data)
            }
            (_, ReasonCode::ContinueAuthentication) => self.go_on_authenticating(id, data),
            _ => None,
        };
        let Some(progress) = progress else {
            return Err(Fault::protocol_error("AUTH that neither restarts nor continues an authentication"));
        };
        match progress {
            Progress::Challenge(data) => self.send_auth(id, ReasonCode::ContinueAuthentication, &data),
            Progress::Passed { user_name, data } => self.re_authenticated(id, session, user_name, &data),
            // [MQTT-4.12.1-2]
            Progress::Failed(reason, what) => {
                let mut fault = Fault::new(reason, format!("re-authentication failed: {what}"));
                if let Some(name) = &self.clients.sessions[session].user_name {
                    fault.0.detail = format!("User Name {}", Quoted(name));
                }
                if let Some(AuthenticationStage::Challenged(exchange)) =
                    self.connections[id].authentication().map(Authentication::stage)
                    && let Some(why) = exchange.why_failed()
                {
                    fault.0.detail = format!("{}: {why}", fault.0.detail);
                }
                Err(fault)
            }
        }
    }

    /// Passes data to the exchange of a connection; `None` if none is in progress.
    fn go_on_authenticating(&mut self, id: ConnectionId, data: &[u8]) -> Option<Progress> {
        self.connections[id].authentication_mut()?.go_on(data, self.clock.now)
    }

    /// Begins another exchange with a connected client, by the same method.
    fn begin_again(&mut self, id: ConnectionId, session: SessionId) -> Result<(), Fault> {
        let connection = &mut self.connections[id];
        let client = Client {
            connection: Some(id),
            peer: Some(connection.peer()),
            listener: connection.listener,
            client_identifier: &self.clients.sessions[session].client_identifier,
            user_name: self.clients.sessions[session].user_name.as_deref(),
            certificate: None,
        };
        if let Some(authentication) = connection.authentication_mut() {
            let Some(exchange) = self.permission.access.begin(&client, &authentication.method) else {
                let what = "the Authentication Method is no longer supported";
                return Err(Fault::new(ReasonCode::NotAuthorized, what));
            };
            authentication.set_stage(AuthenticationStage::Challenged(exchange));
        }
        Ok(())
    }

    /// A client has authenticated once more, which it may only do as the same user.
    fn re_authenticated(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        user_name: Rc<str>,
        data: &[u8],
    ) -> Result<(), Fault> {
        let state = &self.clients.sessions[session];
        if state.user_name.as_deref() != Some(&*user_name) {
            let mut fault = Fault::new(ReasonCode::NotAuthorized, "re-authenticated as another user");
            fault.0.detail = format!("User Name {}", Quoted(&user_name));
            return Err(fault);
        }
        info!(target: "notice", "Client {} re-authenticated.", Escaped(&state.client_identifier));
        self.forget_verdicts(id);
        self.send_auth(id, ReasonCode::Success, data)?;
        if let Some(authentication) = self.connections[id].authentication_mut() {
            authentication.set_stage(AuthenticationStage::Passed { user_name, data: Vec::new() });
        }
        Ok(())
    }

    /// Forgets what the access control has said about messages of a client whose rights may have changed.
    fn forget_verdicts(&mut self, id: ConnectionId) {
        let looked_at = self.routing.match_cache.verdicts.forget(id);
        self.turn.take(looked_at / steps::COPIED_PER_STEP);
    }

    /// Sends AUTH with the method that the client has chosen [MQTT-4.12.0-5].
    fn send_auth(&mut self, id: ConnectionId, reason_code: ReasonCode, data: &[u8]) -> Result<(), Fault> {
        let mut properties = PropertyBuffer::default();
        if let Some(authentication) = self.connections[id].authentication() {
            properties.push(Property::AuthenticationMethod(&authentication.method));
        }
        if !data.is_empty() {
            properties.push(Property::AuthenticationData(data));
        }
        self.answer(id, &Packet::Auth(Auth { reason_code, properties: properties.properties() }))
    }
}

/// Checks that the method is the same in every AUTH [MQTT-4.12.0-5].
fn check_method(authentication: &Authentication, auth: &Auth<'_>) -> Result<(), Fault> {
    if auth.properties.authentication_method() == Some(&*authentication.method) {
        return Ok(());
    }
    Err(Fault::protocol_error("AUTH with another Authentication Method"))
}
