//! The layout of a body in bytes.

use byteorder::{BigEndian, ByteOrder};

use super::{Body, MessageError, NamedPublisher, Origin};
use crate::base::time::Duration;
use crate::core::message::Publisher;
use crate::protocol::codec::{PACKET_SIZE_MAXIMUM, Properties, QoS};
use crate::protocol::topic::{LENGTH_MAXIMUM, TopicName};
use crate::protocol::utf8;

/// The version of the layout that this node writes.
pub const VERSION: u8 = 1;

/// The oldest version that this node reads.
const OLDEST: u8 = if VERSION > 1 { VERSION - 1 } else { VERSION };

/// The most bytes of a body that is read: a PUBLISH with the same content and the longest topic is not too long for MQTT.
pub const BODY_LENGTH_MAXIMUM: usize = PACKET_SIZE_MAXIMUM - LENGTH_MAXIMUM - 16;

/// The bytes before the fields.
const HEADER_LENGTH: usize = 1 + 1 + 8 + 8;

/// Follows the last field.
const END: u8 = 0;
const TOPIC: u8 = 1;
const PUBLISHER: u8 = 2;
const PROPERTIES: u8 = 3;
const LIFETIME: u8 = 4;

/// The bits of the QoS.
const QOS: u8 = 0b11;

/// Separates the parts of a publisher. No name has it [MQTT-1.5.4-2].
const PART: char = '\0';

impl<'a> Body<'a> {
    /// Appends the bytes. The engine has a limit for them, which is much lower than that of MQTT for a packet.
    pub fn write(&self, into: &mut Vec<u8>) {
        into.extend([VERSION, self.qos.level()]);
        into.extend(self.origin.incarnation.to_be_bytes());
        into.extend(self.origin.counter.to_be_bytes());
        if let Some(topic) = self.topic {
            write_field(TOPIC, topic.as_str().as_bytes(), into);
        }
        if let Some(publisher) = self.publisher {
            write_field(PUBLISHER, publisher.written().as_bytes(), into);
        }
        if !self.properties.is_empty() {
            write_field(PROPERTIES, self.properties.bytes(), into);
        }
        if let Some(lifetime) = self.lifetime {
            write_field(LIFETIME, &lifetime.milliseconds().to_be_bytes(), into);
        }
        into.push(END);
        into.extend_from_slice(self.payload);
    }

    /// Reads the bytes.
    ///
    /// # Errors
    ///
    /// No node writes this.
    pub fn read(bytes: &'a [u8]) -> Result<Self, MessageError> {
        if bytes.len() > BODY_LENGTH_MAXIMUM {
            return Err(MessageError::TooLong);
        }
        let version = *bytes.first().ok_or(TOO_SHORT)?;
        if !(OLDEST..=VERSION + 1).contains(&version) {
            return Err(MessageError::Version(version));
        }
        let (header, rest) = bytes.split_at_checked(HEADER_LENGTH).ok_or(TOO_SHORT)?;
        let qos = QoS::from_u8(header[1] & QOS).ok_or(MessageError::Malformed("QoS 3"))?;
        let origin = Origin {
            incarnation: BigEndian::read_u64(&header[2..10]),
            counter: BigEndian::read_u64(&header[10..18]),
        };
        let (fields, payload) = Fields::read(rest)?;
        Ok(Self {
            origin,
            topic: fields.topic.map(read_topic).transpose()?,
            publisher: fields.publisher.map(NamedPublisher::read).transpose()?,
            qos,
            properties: Properties::forwarded(fields.properties.unwrap_or_default())
                .map_err(MessageError::Properties)?,
            lifetime: fields.lifetime.map(read_lifetime).transpose()?,
            payload,
        })
    }
}

const TOO_SHORT: MessageError = MessageError::Malformed("it ends inside a field");

fn write_field(tag: u8, value: &[u8], into: &mut Vec<u8>) {
    into.push(tag);
    into.extend(u32::try_from(value.len()).expect("shorter than a packet").to_be_bytes());
    into.extend_from_slice(value);
}

/// The values of the fields.
#[derive(Default)]
struct Fields<'a> {
    topic: Option<&'a [u8]>,
    publisher: Option<&'a [u8]>,
    properties: Option<&'a [u8]>,
    lifetime: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Splits the bytes after the header into the fields and the payload.
    fn read(mut rest: &'a [u8]) -> Result<(Self, &'a [u8]), MessageError> {
        let mut fields = Self::default();
        loop {
            let (&tag, after) = rest.split_first().ok_or(TOO_SHORT)?;
            if tag == END {
                return Ok((fields, after));
            }
            let (length, after) = after.split_first_chunk::<4>().ok_or(TOO_SHORT)?;
            let (value, after) =
                after.split_at_checked(BigEndian::read_u32(length) as usize).ok_or(TOO_SHORT)?;
            rest = after;
            let field = match tag {
                TOPIC => &mut fields.topic,
                PUBLISHER => &mut fields.publisher,
                PROPERTIES => &mut fields.properties,
                LIFETIME => &mut fields.lifetime,
                // A newer node has added it.
                _ => continue,
            };
            if field.replace(value).is_some() {
                return Err(MessageError::Malformed("a field that is there twice"));
            }
        }
    }
}

fn read_topic(bytes: &[u8]) -> Result<TopicName<'_>, MessageError> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| MessageError::Malformed("a topic that is not UTF-8"))?;
    TopicName::new(text).map_err(MessageError::Topic)
}

fn read_lifetime(bytes: &[u8]) -> Result<Duration, MessageError> {
    let bytes = bytes.try_into().map_err(|_| MessageError::Malformed("a lifetime that is not a number"))?;
    Ok(Duration::from_milliseconds(u64::from_be_bytes(bytes)))
}

impl<'a> NamedPublisher<'a> {
    /// Returns one text for all parts.
    fn written(&self) -> String {
        let Self { listener, client_identifier, .. } = self;
        match self.user_name {
            Some(user_name) => format!("{listener}{PART}{client_identifier}{PART}{user_name}"),
            None => format!("{listener}{PART}{client_identifier}"),
        }
    }

    fn read(bytes: &'a [u8]) -> Result<Self, MessageError> {
        const MALFORMED: MessageError = MessageError::Malformed("a publisher without valid names");
        let text = std::str::from_utf8(bytes).map_err(|_| MALFORMED)?;
        let mut parts = text.splitn(3, PART);
        let mut name =
            || parts.next().map(|part| if utf8::is_sound(part) { Ok(part) } else { Err(MALFORMED) });
        let listener = name().ok_or(MALFORMED)??;
        let client_identifier = name().ok_or(MALFORMED)??;
        let user_name = name().transpose()?;
        if client_identifier.len() + user_name.map_or(0, str::len) > Publisher::LENGTH_MAXIMUM {
            return Err(MALFORMED);
        }
        Ok(Self { listener, client_identifier, user_name })
    }
}
