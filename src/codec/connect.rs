//! CONNECT: who is there, what is to be kept and what is to be said when they are gone.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, Frame, Properties, ProtocolVersion, QoS, kind, writer};
use crate::topic::TopicName;

const PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::SESSION_EXPIRY_INTERVAL,
    identifier::RECEIVE_MAXIMUM,
    identifier::MAXIMUM_PACKET_SIZE,
    identifier::TOPIC_ALIAS_MAXIMUM,
    identifier::REQUEST_RESPONSE_INFORMATION,
    identifier::REQUEST_PROBLEM_INFORMATION,
    identifier::AUTHENTICATION_METHOD,
    identifier::AUTHENTICATION_DATA,
]);

const WILL_PROPERTIES: PropertySet = PropertySet::of(&[
    identifier::WILL_DELAY_INTERVAL,
    identifier::PAYLOAD_FORMAT_INDICATOR,
    identifier::MESSAGE_EXPIRY_INTERVAL,
    identifier::CONTENT_TYPE,
    identifier::RESPONSE_TOPIC,
    identifier::CORRELATION_DATA,
]);

/// The longest Client Identifier of MQTT 3.1, in characters.
const CLIENT_IDENTIFIER_MAXIMUM_V31: usize = 23;

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_QOS: u8 = 0b0001_1000;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// The message to publish when a connection ends badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The quality of service to publish it with.
    pub qos: QoS,
    /// Whether it is to be kept.
    pub retain: bool,
    /// None before MQTT 5.0.
    pub properties: Properties<'a>,
    /// Where it is published to.
    pub topic: TopicName<'a>,
    /// The message itself.
    pub payload: &'a [u8],
}

/// The first packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version that the connection speaks from here on.
    pub version: ProtocolVersion,
    /// Whether an old session is dropped; called Clean Session before MQTT 5.0.
    pub clean_start: bool,
    /// Seconds; zero turns it off.
    pub keep_alive: u16,
    /// None before MQTT 5.0.
    pub properties: Properties<'a>,
    /// Empty if the server is to choose one.
    pub client_identifier: &'a str,
    /// The Will Message, if there is one.
    pub will: Option<Will<'a>>,
    /// The user name, if there is one.
    pub user_name: Option<&'a str>,
    /// The password, if there is one. Not without a user name before MQTT 5.0.
    pub password: Option<&'a [u8]>,
}

/// Peeks at the body of a CONNECT that did not decode, so that it can be refused in the form of its own version.
/// `None` if the Protocol Name and the level are none of ours.
pub fn connect_version(body: &[u8]) -> Option<ProtocolVersion> {
    protocol_version(&mut Reader::new(body)).ok()
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2]
fn protocol_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    let name = reader.binary()?;
    match (name, reader.u8()?) {
        (b"MQIsdp", 3) => Ok(ProtocolVersion::V31),
        (b"MQTT", 4) => Ok(ProtocolVersion::V311),
        (b"MQTT", 5) => Ok(ProtocolVersion::V5),
        _ => Err(DecodeError::UnsupportedProtocolVersion),
    }
}

impl<'a> Connect<'a> {
    pub(super) fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let version = protocol_version(&mut reader)?;
        frame.check_length(version)?;
        frame.check_flags(0, version)?;
        let flags = reader.u8()?;
        check_connect_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = reader.properties(version, PROPERTIES)?;
        let client_identifier = reader.string()?;
        let will = if flags & WILL != 0 { Some(Will::read(&mut reader, flags, version)?) } else { None };
        let has_user_name = flags & USER_NAME != 0 && !is_left_out(&reader, version);
        let user_name = if has_user_name { Some(reader.string()?) } else { None };
        let has_password = flags & PASSWORD != 0 && !is_left_out(&reader, version);
        let password = if has_password { Some(reader.binary()?) } else { None };
        reader.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        check_client_identifier(client_identifier, clean_start, version)?;
        Ok(Self {
            version,
            clean_start,
            keep_alive,
            properties,
            client_identifier,
            will,
            user_name,
            password,
        })
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        writer::packet(into, kind::CONNECT << 4, |into| {
            writer::string(into, self.version.name());
            into.push(self.version.level());
            into.push(self.connect_flags());
            writer::u16(into, self.keep_alive);
            self.properties.encode(self.version, into);
            writer::string(into, self.client_identifier);
            if let Some(will) = &self.will {
                will.properties.encode(self.version, into);
                writer::string(into, will.topic.as_str());
                writer::binary(into, will.payload);
            }
            if let Some(user_name) = self.user_name {
                writer::string(into, user_name);
            }
            if let Some(password) = self.password {
                writer::binary(into, password);
            }
        });
    }

    fn connect_flags(&self) -> u8 {
        let clean_start = if self.clean_start { CLEAN_START } else { 0 };
        let will = self.will.map_or(0, |will| {
            let retain = if will.retain { WILL_RETAIN } else { 0 };
            WILL | will.qos.level() << WILL_QOS_SHIFT | retain
        });
        let password = if self.password.is_some() { PASSWORD } else { 0 };
        let user_name = if self.user_name.is_some() { USER_NAME } else { 0 };
        clean_start | will | password | user_name
    }
}

impl<'a> Will<'a> {
    fn read(reader: &mut Reader<'a>, flags: u8, version: ProtocolVersion) -> Result<Self, DecodeError> {
        // [MQTT-3.1.2-12]
        let qos = QoS::from_u8((flags & WILL_QOS) >> WILL_QOS_SHIFT)
            .ok_or(DecodeError::Malformed("will with QoS 3"))?;
        Ok(Self {
            qos,
            retain: flags & WILL_RETAIN != 0,
            properties: reader.properties(version, WILL_PROPERTIES)?,
            topic: reader.topic_name()?,
            payload: reader.binary()?,
        })
    }
}

/// MQTT 3.1 reserves no bit and says nothing of the will's bits where there is no will.
fn check_connect_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    // [MQTT-3.1.2-22 of MQTT 3.1.1]; MQTT 5.0 allows it.
    if version != ProtocolVersion::V5 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::Malformed("password without a user name"));
    }
    if version == ProtocolVersion::V31 {
        return Ok(());
    }
    // [MQTT-3.1.2-3]
    if flags & RESERVED != 0 {
        return Err(DecodeError::Malformed("reserved flag of CONNECT"));
    }
    // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(DecodeError::Malformed("will QoS or will retain without a will"));
    }
    Ok(())
}

/// In MQTT 3.1 the Remaining Length outweighs the flags: a user name and a password may be promised and not come.
fn is_left_out(reader: &Reader<'_>, version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V31 && reader.is_empty()
}

/// An empty Client Identifier needs Clean Session in MQTT 3.1.1 [MQTT-3.1.3-7 of MQTT 3.1.1]; MQTT 3.1 wants 1 to 23
/// characters.
fn check_client_identifier(
    text: &str,
    clean_start: bool,
    version: ProtocolVersion,
) -> Result<(), DecodeError> {
    let is_valid = match version {
        ProtocolVersion::V31 => (1..=CLIENT_IDENTIFIER_MAXIMUM_V31).contains(&text.chars().count()),
        ProtocolVersion::V311 => clean_start || !text.is_empty(),
        ProtocolVersion::V5 => true,
    };
    if is_valid { Ok(()) } else { Err(DecodeError::ClientIdentifierNotValid) }
}
