//! The refusal of a CONNECT: what its client is told, and what the log says about it.

use std::fmt;

use log::info;

use super::Broker;
use crate::base::escape::{Escaped, Quoted};
use crate::core::access::TOO_MANY_WRONG;
use crate::core::connection::AuthenticationStage;
use crate::core::slots::ConnectionId;
use crate::protocol::codec::{
    ConnAck, Connect, Packet, Properties, Property, PropertyBuffer, ProtocolVersion, ReasonCode, Status,
    decode, frame,
};

/// A client that is refused, as the log names it. Never with its password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applicant<'a> {
    pub(super) client_identifier: &'a str,
    pub(super) user_name: Option<&'a str>,
    /// What its operator needs to know and the client must not.
    pub(super) hint: Option<&'a str>,
}

impl<'a> Applicant<'a> {
    /// The client of a CONNECT.
    pub(super) fn of(connect: &Connect<'a>) -> Self {
        let Connect { client_identifier, user_name, .. } = *connect;
        Self { client_identifier, user_name, hint: None }
    }
}

impl fmt::Display for Applicant<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, " Client Identifier {}, ", Quoted(self.client_identifier))?;
        match self.user_name {
            Some(name) => write!(formatter, "User Name {}", Quoted(name))?,
            None => formatter.write_str("no User Name")?,
        }
        self.hint.map_or(Ok(()), |hint| write!(formatter, ": {hint}"))?;
        formatter.write_str(".")
    }
}

impl Broker {
    /// Refuses a CONNECT with the code of its version and ends the connection [MQTT-3.2.2-7]. Where a version before
    /// 5.0 has no code for the reason, the connection ends without a CONNACK [MQTT-3.2.2-6 of MQTT 3.1.1].
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        reason: ReasonCode,
        what: &str,
        applicant: Option<&Applicant<'_>>,
    ) {
        let who = applicant.map_or_else(String::new, ToString::to_string);
        self.refuse_named(id, reason, what, &who);
    }

    /// Like [`Broker::refuse`], for a client whose CONNECT has arrived before and waits.
    pub(super) fn refuse_waiting(&mut self, id: ConnectionId, reason: ReasonCode, what: &str) {
        let who = self.waiting_applicant(id).unwrap_or_default();
        self.refuse_named(id, reason, what, &who);
    }

    /// Describes the client of a CONNECT that waits for an answer or for its turn.
    pub(super) fn waiting_applicant(&self, id: ConnectionId) -> Option<String> {
        let connection = &self.connections[id];
        let authentication = connection.authentication();
        let bytes =
            authentication.map_or_else(|| connection.inbox.bytes(), |authentication| &authentication.connect);
        let Ok(Status::Complete(frame)) = frame(bytes, bytes.len()) else { return None };
        let Ok(Packet::Connect(connect)) = decode(&frame, connection.version) else { return None };
        let claimed = authentication.and_then(|authentication| match authentication.stage() {
            AuthenticationStage::Challenged(exchange) => exchange.user_name(),
            AuthenticationStage::Passed { user_name, .. } => Some(&**user_name),
        });
        let hint = authentication.and_then(|authentication| match authentication.stage() {
            AuthenticationStage::Challenged(exchange) => exchange.why_failed(),
            AuthenticationStage::Passed { .. } => None,
        });
        let named = Applicant::of(&connect);
        let (user_name, hint) = (claimed.or(named.user_name), hint.as_deref());
        Some(Applicant { user_name, hint, ..named }.to_string())
    }

    fn refuse_named(&mut self, id: ConnectionId, reason: ReasonCode, what: &str, who: &str) {
        let is_limit = matches!(reason, ReasonCode::QuotaExceeded | ReasonCode::ServerBusy);
        self.output.statistics.refused += u64::from(is_limit);
        let connection = &mut self.connections[id];
        let is_v5 = connection.version == ProtocolVersion::V5;
        if !is_v5 {
            connection.version = ProtocolVersion::V311;
        }
        let mut properties = PropertyBuffer::default();
        properties.push(Property::ReasonString(what));
        let code = if is_v5 { Some(reason.value()) } else { reason.return_code() };
        info!(target: "notice", "Client connection from {} denied: {}.{who}", connection.peer(), Escaped(what));
        for properties in [properties.properties(), Properties::default()] {
            let Some(code) = code else { break };
            let connack = Packet::ConnAck(ConnAck { session_present: false, code, properties });
            // The reason, or else the whole CONNACK, is left out rather than exceed the client's limit [MQTT-3.2.2-19].
            if self.output.sender.packet(connection, "unknown client", &connack).is_ok() {
                break;
            }
        }
        self.end_output(id);
    }
}

/// Returns why a client is not accepted, in words that it may read: they do not reveal which User Names exist.
pub(super) fn unauthenticated(reason: ReasonCode, user_name: Option<&str>) -> &'static str {
    match (reason, user_name) {
        (ReasonCode::BadUserNameOrPassword, _) => "the User Name or the password is wrong",
        (ReasonCode::NotAuthorized, None) => "clients without a User Name are not accepted",
        (ReasonCode::ServerBusy, _) => "server busy",
        (ReasonCode::ConnectionRateExceeded, _) => TOO_MANY_WRONG,
        _ => "the client is not authenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_client_cannot_pretend_to_be_more() {
        let hint = Some("no such user");
        for (client_identifier, user_name, expected) in [
            ("kitchen", Some("ann"), " Client Identifier 'kitchen', User Name 'ann': no such user."),
            ("", None, " Client Identifier '', no User Name: no such user."),
            (
                "a', User Name 'root",
                Some(""),
                " Client Identifier 'a\\', User Name \\'root', User Name '': no such user.",
            ),
            (
                "a\n",
                Some("\u{202e}nna"),
                " Client Identifier 'a\\u{a}', User Name '\\u{202e}nna': no such user.",
            ),
        ] {
            assert_eq!(Applicant { client_identifier, user_name, hint }.to_string(), expected);
        }
    }

    #[test]
    fn names_that_are_too_long_leave_room_for_the_rest_of_the_line() {
        for name in ["x".repeat(65_535), "\u{202e}".repeat(21_845)] {
            let applicant =
                Applicant { client_identifier: &name, user_name: Some(&name), hint: Some("no such user") };
            assert!(applicant.to_string().len() < 500);
        }
    }
}
