//! CONNECT: the Client Identifier, the credentials, how long the session lasts, and the Will.

use super::properties::PropertySet;
use super::property::identifier;
use super::reader::Reader;
use super::{DecodeError, Frame, Properties, ProtocolVersion, QoS, kind, writer};
use crate::protocol::topic::TopicName;

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

/// The bit of the protocol level that mosquitto's bridges set to identify themselves. It is not in any standard;
/// MQTT 5.0 has Subscription Options for the same purpose.
const BRIDGE: u8 = 0b1000_0000;

const RESERVED: u8 = 0b0000_0001;
const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_QOS: u8 = 0b0001_1000;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USER_NAME: u8 = 0b1000_0000;

/// The message to publish when a connection ends without a normal DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The QoS to publish it with.
    pub qos: QoS,
    /// Whether it is published as a retained message.
    pub retain: bool,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// The Topic Name to publish it to.
    pub topic: TopicName<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
}

/// The first packet that a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version of this packet and of all that follow on the connection.
    pub version: ProtocolVersion,
    /// Whether the client is a bridge: it does not want to receive its own messages, and wants RETAIN as it was
    /// published. Before MQTT 5.0 only.
    pub is_bridge: bool,
    /// Whether to discard an existing session. Called Clean Session before MQTT 5.0.
    pub clean_start: bool,
    /// In seconds; zero disables the Keep Alive mechanism.
    pub keep_alive: u16,
    /// Empty before MQTT 5.0.
    pub properties: Properties<'a>,
    /// Empty if the server is to assign one.
    pub client_identifier: &'a str,
    /// The Will, if there is one.
    pub will: Option<Will<'a>>,
    /// The user name, if there is one.
    pub user_name: Option<&'a str>,
    /// The password, if there is one. Before MQTT 5.0 it requires a user name.
    pub password: Option<&'a [u8]>,
}

/// Returns the version in which to refuse a CONNECT that failed to decode, given its body: its own version, or MQTT 5.0
/// if its level is later. Such a client may know the format of MQTT 5.0, and an older client never sends such a level.
/// `None` if no standard defines the Protocol Name or the level.
pub fn connect_version(body: &[u8]) -> Option<ProtocolVersion> {
    let mut reader = Reader::new(body);
    match (protocol_version(&mut reader.clone()), reader.binary(), reader.u8()) {
        (Ok((version, _)), ..) => Some(version),
        (Err(_), Ok(b"MQTT"), Ok(6..BRIDGE)) => Some(ProtocolVersion::V5),
        _ => None,
    }
}

/// Reads the version and whether the client is a bridge [MQTT-3.1.2-1] [MQTT-3.1.2-2].
fn protocol_version(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    const V31_BRIDGE: u8 = 3 | BRIDGE;
    const V311_BRIDGE: u8 = 4 | BRIDGE;
    let name = reader.binary()?;
    match (name, reader.u8()?) {
        (b"MQIsdp", level @ (3 | V31_BRIDGE)) => Ok((ProtocolVersion::V31, level == V31_BRIDGE)),
        (b"MQTT", level @ (4 | V311_BRIDGE)) => Ok((ProtocolVersion::V311, level == V311_BRIDGE)),
        (b"MQTT", 5) => Ok((ProtocolVersion::V5, false)),
        _ => Err(DecodeError::UnsupportedProtocolVersion),
    }
}

impl<'a> Connect<'a> {
    pub(super) fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let (version, is_bridge) = protocol_version(&mut reader)?;
        frame.check_length(version)?;
        frame.check_flags(0, version)?;
        let flags = reader.u8()?;
        check_connect_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = Properties::read(&mut reader, version, PROPERTIES)?;
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
            is_bridge,
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
            into.push(self.version.level() | if self.is_bridge { BRIDGE } else { 0 });
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
            properties: Properties::read(reader, version, WILL_PROPERTIES)?,
            topic: reader.topic_name()?,
            payload: reader.binary()?,
        })
    }
}

/// Checks the Connect Flags. MQTT 3.1 has no reserved bit, and does not define the bits of the Will when there is no
/// Will.
fn check_connect_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    // [MQTT-3.1.2-22 in MQTT 3.1.1]; MQTT 5.0 allows it.
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

/// Whether a field that the flags announce is missing. In MQTT 3.1 the Remaining Length takes precedence over the
/// flags: the user name and the password may be absent although their flags are set.
fn is_left_out(reader: &Reader<'_>, version: ProtocolVersion) -> bool {
    version == ProtocolVersion::V31 && reader.is_empty()
}

/// Checks the Client Identifier. In MQTT 3.1.1 an empty one requires Clean Session [MQTT-3.1.3-7 in MQTT 3.1.1];
/// MQTT 3.1 requires 1 to 23 characters.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codec::testing::*;
    use crate::protocol::codec::{Packet, Property, ReasonCode};

    const CLIENT_IDENTIFIER_NOT_VALID: ReasonCode = ReasonCode::ClientIdentifierNotValid;
    const UNSUPPORTED: ReasonCode = ReasonCode::UnsupportedProtocolVersion;

    fn plain(version: ProtocolVersion) -> Connect<'static> {
        Connect {
            version,
            is_bridge: false,
            clean_start: true,
            keep_alive: 60,
            properties: Properties::default(),
            client_identifier: "c",
            will: None,
            user_name: None,
            password: None,
        }
    }

    fn will(payload: &[u8]) -> Option<Will<'_>> {
        let topic = TopicName::new("w").unwrap();
        Some(Will { qos: QoS::AtLeastOnce, retain: true, properties: Properties::default(), topic, payload })
    }

    /// CONNECT is decoded by the version in its own bytes, whatever the caller passes.
    fn assert_golden_connect(bytes: &[u8], connect: Connect<'_>) {
        for passed in ALL {
            assert_golden(passed, bytes, &Packet::Connect(connect));
        }
    }

    #[test]
    fn golden_in_all_versions() {
        assert_golden_connect(b"\x10\x0F\x00\x06MQIsdp\x03\x02\x00\x3C\x00\x01c", plain(V31));
        assert_golden_connect(b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c", plain(V311));
        assert_golden_connect(b"\x10\x0E\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01c", plain(V5));
        let unnamed = Connect { client_identifier: "", ..plain(V311) };
        assert_golden_connect(b"\x10\x0C\x00\x04MQTT\x04\x02\x00\x3C\x00\x00", unnamed);
        let unnamed = Connect { clean_start: false, client_identifier: "", ..plain(V5) };
        assert_golden_connect(b"\x10\x0D\x00\x04MQTT\x05\x00\x00\x3C\x00\x00\x00", unnamed);
        let bridge = |version| Connect { is_bridge: true, ..plain(version) };
        assert_golden_connect(b"\x10\x0F\x00\x06MQIsdp\x83\x02\x00\x3C\x00\x01c", bridge(V31));
        assert_golden_connect(b"\x10\x0D\x00\x04MQTT\x84\x02\x00\x3C\x00\x01c", bridge(V311));
    }

    #[test]
    fn golden_with_everything_in_it() {
        let full = |version| Connect {
            clean_start: false,
            will: will(b"gone"),
            user_name: Some("u"),
            password: Some(b"\x00p"),
            ..plain(version)
        };
        let tail = b"\xEC\x00\x3C\x00\x01c\x00\x01w\x00\x04gone\x00\x01u\x00\x02\x00p";
        assert_golden_connect(&[b"\x10\x1F\x00\x06MQIsdp\x03", &tail[..]].concat(), full(V31));
        assert_golden_connect(&[b"\x10\x1D\x00\x04MQTT\x04", &tail[..]].concat(), full(V311));
        let properties = block(&[Property::SessionExpiryInterval(u32::MAX), Property::ReceiveMaximum(10)]);
        let will_properties = block(&[Property::WillDelayInterval(5)]);
        let with_properties = Connect {
            properties: properties.properties(),
            will: will(b"gone").map(|will| Will { properties: will_properties.properties(), ..will }),
            ..full(V5)
        };
        let bytes = b"\x10\x2C\x00\x04MQTT\x05\xEC\x00\x3C\x08\x11\xFF\xFF\xFF\xFF\x21\x00\x0A\x00\x01c\
            \x05\x18\x00\x00\x00\x05\x00\x01w\x00\x04gone\x00\x01u\x00\x02\x00p";
        assert_golden_connect(bytes, with_properties);
        let password_alone = Connect { password: Some(b"p"), ..plain(V5) };
        assert_golden_connect(b"\x10\x11\x00\x04MQTT\x05\x42\x00\x3C\x00\x00\x01c\x00\x01p", password_alone);
    }

    #[test]
    fn mqtt_3_1_is_read_more_leniently() {
        let promised = b"\x10\x0F\x00\x06MQIsdp\x03\xC2\x00\x3C\x00\x01c";
        assert_decodes(V31, promised, &Packet::Connect(plain(V31)));
        let user_name_only = b"\x10\x12\x00\x06MQIsdp\x03\xC2\x00\x3C\x00\x01c\x00\x01u";
        let connect = Connect { user_name: Some("u"), ..plain(V31) };
        assert_decodes(V31, user_name_only, &Packet::Connect(connect));
        let stray_flags = b"\x18\x0F\x00\x06MQIsdp\x03\x3B\x00\x3C\x00\x01c";
        assert_decodes(V31, stray_flags, &Packet::Connect(plain(V31)));
    }

    #[test]
    fn client_identifiers_are_checked() {
        let connect = |characters: usize| {
            let text = "é".repeat(characters);
            let mut encoded = Vec::new();
            Connect { client_identifier: &text, ..plain(V31) }.encode(&mut encoded);
            decode_whole(V31, &encoded).map(|_| ()).map_err(DecodeError::reason_code)
        };
        assert_eq!(connect(0), Err(CLIENT_IDENTIFIER_NOT_VALID));
        assert_eq!(connect(1), Ok(()));
        assert_eq!(connect(23), Ok(()));
        assert_eq!(connect(24), Err(CLIENT_IDENTIFIER_NOT_VALID));
        let unnamed = b"\x10\x0C\x00\x04MQTT\x04\x00\x00\x3C\x00\x00";
        assert_illegal(V311, &[(unnamed, CLIENT_IDENTIFIER_NOT_VALID, "empty and to be stored")]);
    }

    #[test]
    fn illegal_in_any_version() {
        assert_illegal(
            V5,
            &[
                (b"\x10\x0D\x00\x04MQTT\x06\x02\x00\x3C\x00\x01c", UNSUPPORTED, "level 6"),
                (b"\x10\x0E\x00\x04MQTT\x85\x02\x00\x3C\x00\x00\x01c", UNSUPPORTED, "a bridge of 5.0"),
                (b"\x10\x0D\x00\x04MQTT\x03\x02\x00\x3C\x00\x01c", UNSUPPORTED, "MQTT of level 3"),
                (b"\x10\x0F\x00\x06MQIsdp\x04\x02\x00\x3C\x00\x01c", UNSUPPORTED, "MQIsdp of level 4"),
                (b"\x10\x0D\x00\x04mqtt\x04\x02\x00\x3C\x00\x01c", UNSUPPORTED, "another name"),
                (b"\x10\x05\x00\x04MQT", MALFORMED, "half a name"),
                (b"\x10\x00", MALFORMED, "no body"),
            ],
        );
    }

    #[test]
    fn illegal_in_3_1_1() {
        assert_illegal(
            V311,
            &[
                (b"\x11\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c", MALFORMED, "flags of the fixed header"),
                (b"\x10\x0D\x00\x04MQTT\x04\x03\x00\x3C\x00\x01c", MALFORMED, "reserved flag"),
                (b"\x10\x0D\x00\x04MQTT\x04\x0A\x00\x3C\x00\x01c", MALFORMED, "will QoS without a will"),
                (b"\x10\x0D\x00\x04MQTT\x04\x22\x00\x3C\x00\x01c", MALFORMED, "will retain without a will"),
                (b"\x10\x12\x00\x04MQTT\x04\x1E\x00\x3C\x00\x01c\x00\x01w\x00\x00", MALFORMED, "will QoS 3"),
                (b"\x10\x12\x00\x04MQTT\x04\x06\x00\x3C\x00\x01c\x00\x01#\x00\x00", MALFORMED, "will topic"),
                (b"\x10\x10\x00\x04MQTT\x04\x42\x00\x3C\x00\x01c\x00\x01p", MALFORMED, "password alone"),
                (b"\x10\x0D\x00\x04MQTT\x04\x82\x00\x3C\x00\x01c", MALFORMED, "user name left out"),
                (b"\x10\x0E\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c\x00", MALFORMED, "left over"),
                (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01\xFF", MALFORMED, "no UTF-8"),
                (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01\x00", MALFORMED, "U+0000"),
                (b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01\x01", MALFORMED, "U+0001"),
            ],
        );
    }

    #[test]
    fn illegal_properties() {
        let connect = |properties: &[u8]| {
            let mut body = b"\x00\x04MQTT\x05\x02\x00\x3C".to_vec();
            body.push(u8::try_from(properties.len()).unwrap());
            body.extend_from_slice(properties);
            body.extend_from_slice(b"\x00\x01c");
            let mut bytes = vec![0x10, u8::try_from(body.len()).unwrap()];
            bytes.extend_from_slice(&body);
            decode_whole(V5, &bytes).map(|_| ()).map_err(DecodeError::reason_code)
        };
        for (properties, code, what) in [
            (&b"\x21\x00\x00"[..], PROTOCOL_ERROR, "receive maximum 0"),
            (b"\x27\x00\x00\x00\x00", PROTOCOL_ERROR, "maximum packet size 0"),
            (b"\x17\x02", PROTOCOL_ERROR, "request problem information 2"),
            (b"\x19\x02", PROTOCOL_ERROR, "request response information 2"),
            (b"\x16\x00\x00", PROTOCOL_ERROR, "authentication data without a method"),
            (b"\x22\x00\x01\x22\x00\x01", PROTOCOL_ERROR, "topic alias maximum twice"),
            (b"\x18\x00\x00\x00\x01", MALFORMED, "will delay outside of the will"),
            (b"\x0B\x01", MALFORMED, "subscription identifier"),
            (b"\x15\x00\x02M", MALFORMED, "half a method"),
            (b"\x26\x00\x01k\x00\x01\xFF", MALFORMED, "user property that is no UTF-8"),
            (b"\x00", MALFORMED, "property 0"),
            (b"\x91\x00", MALFORMED, "an identifier beyond the set"),
        ] {
            assert_eq!(connect(properties), Err(code), "{what}");
        }
        assert_eq!(connect(b"\x16\x00\x00\x15\x00\x01M\x22\x00\x00"), Ok(()));
        let too_wide = b"\x10\x8E\x00\x00\x04MQTT\x05\x02\x00\x3C\x00\x00\x01c";
        assert_illegal(V311, &[(too_wide, MALFORMED, "remaining length not in its shortest form")]);
    }

    #[test]
    fn the_version_of_a_malformed_connect_is_recognized() {
        assert_eq!(connect_version(b"\x00\x06MQIsdp\x03"), Some(V31));
        assert_eq!(connect_version(b"\x00\x04MQTT\x04\xFF"), Some(V311));
        assert_eq!(connect_version(b"\x00\x04MQTT\x05"), Some(V5));
        for level in 6..0x80 {
            assert_eq!(connect_version(&[b"\x00\x04MQTT", &[level][..]].concat()), Some(V5));
        }
        for level in (0..4).chain([0x80, 0x82, 0x85, 0x86, 0xFF]) {
            assert_eq!(connect_version(&[b"\x00\x04MQTT", &[level][..]].concat()), None);
        }
        assert_eq!(connect_version(b"\x00\x06MQIsdp\x06"), None);
        assert_eq!(connect_version(b"\x00\x04mqtt\x06"), None);
        assert_eq!(connect_version(b"\x00\x04MQTT"), None);
        assert_eq!(connect_version(b""), None);
    }
}
