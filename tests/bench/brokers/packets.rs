//! MQTT packets as bytes, as far as a load needs them. They are written for this purpose and do not use the broker's
//! codec, so that a fault of the codec does not hide in its own measurement.

/// Why a measurement ended without a result.
pub type Fault = String;

/// The protocol version of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const UNSUBACK: u8 = 11;
pub const PINGRESP: u8 = 13;

const RECEIVE_MAXIMUM: u8 = 0x21;
const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
const KEEP_ALIVE: u16 = 1_200;

/// Bytes of a stamp, which begins each payload.
pub const STAMP_BYTES: usize = 16;

/// The beginning of a payload: the stream that the message belongs to, its number there, and when it was to be sent,
/// in nanoseconds since the measurement began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub stream: u32,
    pub number: u32,
    pub time: u64,
}

/// One whole packet from the broker.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub first: u8,
    /// After the fixed header.
    pub body: &'a [u8],
}

/// A PUBLISH from the broker.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub qos: u8,
    /// Zero for QoS 0.
    pub identifier: u16,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet at the start of `bytes` and its length; `None` while its end has not come.
    #[inline]
    pub fn first_of(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let (&first, rest) = bytes.split_first()?;
        let (length, header) = variable_integer(rest)?;
        let end = 1 + header + length;
        Some((Self { first, body: bytes.get(1 + header..end)? }, end))
    }

    pub const fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The Packet Identifier of a packet that begins with it.
    pub fn identifier(&self) -> Result<u16, Fault> {
        match self.body {
            [high, low, ..] => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err("the broker sent a packet without its Packet Identifier".to_owned()),
        }
    }

    /// Reads a PUBLISH.
    #[inline]
    pub fn delivery(&self, version: Version) -> Result<Delivery<'a>, Fault> {
        self.try_delivery(version).ok_or_else(|| "the broker sent a PUBLISH that ends too early".to_owned())
    }

    #[inline]
    fn try_delivery(&self, version: Version) -> Option<Delivery<'a>> {
        let (topic, _) = self.body.split_first_chunk::<2>()?;
        let mut rest = self.body.get(2 + usize::from(u16::from_be_bytes(*topic))..)?;
        let qos = (self.first >> 1) & 3;
        let mut identifier = 0;
        if qos > 0 {
            let (bytes, behind) = rest.split_first_chunk::<2>()?;
            identifier = u16::from_be_bytes(*bytes);
            rest = behind;
        }
        if version == Version::V5 {
            let (length, header) = variable_integer(rest)?;
            rest = rest.get(header + length..)?;
        }
        Some(Delivery { qos, identifier, payload: rest })
    }

    /// Whether the connection is accepted; if so, its Receive Maximum.
    pub fn accepted(&self, version: Version) -> Result<u16, Fault> {
        match self.body {
            [_, 0, properties @ ..] if version == Version::V5 => {
                Ok(receive_maximum(properties).unwrap_or(u16::MAX))
            }
            [_, 0, ..] => Ok(u16::MAX),
            [_, code, ..] => Err(format!("the broker refused a connection with code {code:#04x}")),
            _ => Err("the broker sent a CONNACK that ends too early".to_owned()),
        }
    }

    /// Whether an acknowledgement reports success; one of 3.1.1 always does.
    #[inline]
    pub fn succeeded(&self) -> Result<(), Fault> {
        match self.body.get(2) {
            Some(&code) if code >= 0x80 => Err(format!("the broker refused a message with code {code:#04x}")),
            _ => Ok(()),
        }
    }

    /// Whether all Topic Filters of a SUBSCRIBE are granted.
    pub fn granted(&self, version: Version) -> Result<(), Fault> {
        let codes = self.body.get(2..).unwrap_or_default();
        let skipped = match variable_integer(codes) {
            Some((length, header)) if version == Version::V5 => header + length,
            _ => 0,
        };
        match codes.get(skipped..).unwrap_or_default().iter().find(|&&code| code >= 0x80) {
            None => Ok(()),
            Some(code) => Err(format!("the broker refused a subscription with code {code:#04x}")),
        }
    }
}

/// The value of a Variable Byte Integer and how many bytes it has.
#[inline]
fn variable_integer(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some((value, place + 1));
        }
    }
    None
}

/// The Receive Maximum among the properties of a CONNACK.
fn receive_maximum(properties: &[u8]) -> Option<u16> {
    let (length, header) = variable_integer(properties)?;
    let mut rest = properties.get(header..header + length)?;
    while let Some((&identifier, value)) = rest.split_first() {
        let size = match identifier {
            RECEIVE_MAXIMUM => return Some(u16::from_be_bytes(*value.first_chunk()?)),
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x26 => {
                let name = 2 + usize::from(u16::from_be_bytes(*value.first_chunk()?));
                name + 2 + usize::from(u16::from_be_bytes(*value.get(name..)?.first_chunk()?))
            }
            _ => 2 + usize::from(u16::from_be_bytes(*value.first_chunk()?)),
        };
        rest = value.get(size..)?;
    }
    None
}

/// Reads the stamp of a payload.
#[inline]
pub fn stamp(payload: &[u8]) -> Result<Stamp, Fault> {
    let Some(bytes) = payload.first_chunk::<STAMP_BYTES>() else {
        return Err("the broker delivered a payload that was never sent".to_owned());
    };
    let [a, b, c, d, e, f, g, h, time @ ..] = *bytes;
    Ok(Stamp {
        stream: u32::from_le_bytes([a, b, c, d]),
        number: u32::from_le_bytes([e, f, g, h]),
        time: u64::from_le_bytes(time),
    })
}

/// A PUBLISH that needs only its Packet Identifier and its stamp before it is sent.
#[derive(Debug)]
pub struct Template {
    bytes: Vec<u8>,
    /// `None` for QoS 0.
    identifier_at: Option<usize>,
    payload_at: usize,
    stream: u32,
}

impl Template {
    /// Creates a template; `payload` is a length in bytes, at least that of a stamp.
    pub fn new(version: Version, qos: u8, topic: &str, payload: usize, stream: usize) -> Self {
        Self::with_flags(version, qos << 1, topic, payload, stream)
    }

    /// The same for a message that is to be retained.
    pub fn retained(version: Version, qos: u8, topic: &str, payload: usize, stream: usize) -> Self {
        Self::with_flags(version, qos << 1 | 1, topic, payload, stream)
    }

    fn with_flags(version: Version, flags: u8, topic: &str, payload: usize, stream: usize) -> Self {
        let body = vec![b'.'; payload.max(STAMP_BYTES)];
        let bytes = publish(version, flags, topic, &body);
        let payload_at = bytes.len() - body.len();
        let before_payload = usize::from(version == Version::V5);
        let identifier_at = (flags & 6 != 0).then(|| payload_at - before_payload - 2);
        let stream = u32::try_from(stream).expect("streams are few");
        Self { bytes, identifier_at, payload_at, stream }
    }

    /// Appends the packet.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>, identifier: u16, number: u32, time: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        if let Some(at) = self.identifier_at {
            packet[at..at + 2].copy_from_slice(&identifier.to_be_bytes());
        }
        let stamp = &mut packet[self.payload_at..self.payload_at + STAMP_BYTES];
        stamp[..4].copy_from_slice(&self.stream.to_le_bytes());
        stamp[4..8].copy_from_slice(&number.to_le_bytes());
        stamp[8..].copy_from_slice(&time.to_le_bytes());
    }
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub client_identifier: String,
    /// Whether an old session ends and the new one ends with the connection.
    pub is_clean: bool,
    /// User Name and Password.
    pub user: Option<(&'static str, &'static str)>,
}

impl Connect {
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        body.push(if self.version == Version::V5 { 5 } else { 4 });
        let flags_of_user = if self.user.is_some() { 0xc0 } else { 0 };
        body.push(flags_of_user | u8::from(self.is_clean) << 1);
        body.extend_from_slice(&KEEP_ALIVE.to_be_bytes());
        if self.version == Version::V5 {
            if self.is_clean {
                body.push(0);
            } else {
                body.extend_from_slice(&[5, SESSION_EXPIRY_INTERVAL, 0, 0, 0x0e, 0x10]);
            }
        }
        text(&mut body, &self.client_identifier);
        if let Some((name, password)) = self.user {
            text(&mut body, name);
            text(&mut body, password);
        }
        packet(0x10, &body)
    }
}

/// A SUBSCRIBE for all `filters`.
pub fn subscribe(version: Version, qos: u8, filters: &[String]) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        text(&mut body, filter);
        body.push(qos);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE for all `filters`.
pub fn unsubscribe(version: Version, filters: &[String]) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        text(&mut body, filter);
    }
    packet(0xa2, &body)
}

/// A PUBLISH with the given flags; with Packet Identifier 1 where the QoS asks for one.
pub fn publish(version: Version, flags: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    if flags & 6 != 0 {
        body.extend_from_slice(&[0, 1]);
    }
    if version == Version::V5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    packet(0x30 | flags, &body)
}

/// A PUBLISH of 5.0 with QoS 1 and a Message Expiry Interval in seconds.
pub fn expiring_publish(topic: &str, seconds: u32, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend_from_slice(&identifier.to_be_bytes());
    body.extend_from_slice(&[5, MESSAGE_EXPIRY_INTERVAL]);
    body.extend_from_slice(&seconds.to_be_bytes());
    body.extend_from_slice(payload);
    packet(0x32, &body)
}

/// Appends a packet that consists of a Packet Identifier only.
#[inline]
pub fn acknowledge(out: &mut Vec<u8>, kind: u8, identifier: u16) {
    let [high, low] = identifier.to_be_bytes();
    let flags = if kind == PUBREL { 2 } else { 0 };
    out.extend_from_slice(&[kind << 4 | flags, 2, high, low]);
}

/// The whole PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// The whole DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("our texts are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).expect("seven bits"));
    bytes.extend_from_slice(body);
    bytes
}
