//! Packets as a client writes them, byte by byte and without the broker's codec, so that a fault of the codec cannot
//! hide itself.

/// `V5`, `V311` or `V31`: the protocol level.
pub const V5: u8 = 5;
pub const V311: u8 = 4;
pub const V31: u8 = 3;

/// A packet with this first byte and this body.
pub fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    bytes.extend(variable_byte_integer(body.len()));
    bytes.extend_from_slice(body);
    bytes
}

pub fn variable_byte_integer(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value % 128).expect("a remainder of 128");
        value /= 128;
        bytes.push(byte | if value > 0 { 0x80 } else { 0 });
        if value == 0 {
            return bytes;
        }
    }
}

/// Two bytes of length, then the bytes: a string or binary data.
pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&u16::try_from(bytes.len()).expect("a field of at most 65,535 bytes").to_be_bytes(), bytes].concat()
}

/// A property block with its length, of properties as on the wire.
pub fn properties(list: &[&[u8]]) -> Vec<u8> {
    let block = list.concat();
    [variable_byte_integer(block.len()), block].concat()
}

/// A CONNECT under construction; `Connect::new(V5, "id").bytes()` is the shortest valid one.
#[derive(Clone)]
pub struct Connect {
    pub level: u8,
    pub name: &'static str,
    pub flags: u8,
    pub keep_alive: u16,
    pub properties: Vec<u8>,
    pub client_identifier: Vec<u8>,
    pub will: Vec<u8>,
    pub credentials: Vec<u8>,
}

impl Connect {
    /// A clean one without Will, Keep Alive and credentials.
    pub fn new(level: u8, client_identifier: &str) -> Self {
        Self {
            level,
            name: if level == V31 { "MQIsdp" } else { "MQTT" },
            flags: 0x02,
            keep_alive: 0,
            properties: Vec::new(),
            client_identifier: client_identifier.into(),
            will: Vec::new(),
            credentials: Vec::new(),
        }
    }

    /// Unsets Clean Start or Clean Session. In 5.0, add a Session Expiry Interval, or the session ends all the same.
    pub fn resume(mut self) -> Self {
        self.flags &= !0x02;
        self
    }

    /// Adds a property as on the wire, 5.0 only.
    pub fn property(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    /// A Session Expiry Interval in seconds, 5.0 only.
    pub fn expiry(self, seconds: u32) -> Self {
        self.property(&[&[0x11][..], &seconds.to_be_bytes()].concat())
    }

    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// A Will; `properties` is the content of the Will Properties, 5.0 only.
    pub fn will(mut self, topic: &str, payload: &[u8], qos: u8, retain: bool, properties: &[u8]) -> Self {
        self.flags |= 0x04 | qos << 3 | u8::from(retain) << 5;
        if self.level == V5 {
            self.will = [variable_byte_integer(properties.len()), properties.to_vec()].concat();
        }
        self.will.extend(field(topic));
        self.will.extend(field(payload));
        self
    }

    pub fn user_name(mut self, name: &str) -> Self {
        self.flags |= 0x80;
        self.credentials.extend(field(name));
        self
    }

    /// After `user_name`.
    pub fn password(mut self, password: &[u8]) -> Self {
        self.flags |= 0x40;
        self.credentials.extend(field(password));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = field(self.name);
        body.extend([self.level, self.flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.level == V5 {
            body.extend(properties(&[&self.properties]));
        }
        body.extend(field(&self.client_identifier));
        body.extend(&self.will);
        body.extend(&self.credentials);
        packet(0x10, &body)
    }
}

/// A PUBLISH under construction; `Publish::new(V5, "a", b"x").qos(1, 7).bytes()`.
#[derive(Clone)]
pub struct Publish {
    level: u8,
    flags: u8,
    topic: Vec<u8>,
    packet_identifier: Option<u16>,
    properties: Vec<u8>,
    payload: Vec<u8>,
}

impl Publish {
    /// QoS 0, not retained.
    pub fn new(level: u8, topic: &str, payload: &[u8]) -> Self {
        Self {
            level,
            flags: 0,
            topic: topic.into(),
            packet_identifier: None,
            properties: Vec::new(),
            payload: payload.into(),
        }
    }

    pub fn qos(mut self, qos: u8, packet_identifier: u16) -> Self {
        self.flags |= qos << 1;
        self.packet_identifier = Some(packet_identifier);
        self
    }

    pub fn retain(mut self) -> Self {
        self.flags |= 0x01;
        self
    }

    pub fn dup(mut self) -> Self {
        self.flags |= 0x08;
        self
    }

    /// Adds a property as on the wire, 5.0 only.
    pub fn property(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = field(&self.topic);
        if let Some(identifier) = self.packet_identifier {
            body.extend(identifier.to_be_bytes());
        }
        if self.level == V5 {
            body.extend(properties(&[&self.properties]));
        }
        body.extend(&self.payload);
        packet(0x30 | self.flags, &body)
    }
}

/// A SUBSCRIBE for filters with their options byte (in 3.1.1 the QoS); `properties` is the content of the block.
pub fn subscribe(level: u8, packet_identifier: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = packet_identifier.to_be_bytes().to_vec();
    if level == V5 {
        body.extend(variable_byte_integer(properties.len()));
        body.extend_from_slice(properties);
    }
    for (filter, options) in filters {
        body.extend(field(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE without properties.
pub fn unsubscribe(level: u8, packet_identifier: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_identifier.to_be_bytes().to_vec();
    if level == V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(field(filter));
    }
    packet(0xA2, &body)
}

/// PUBACK 0x40, PUBREC 0x50, PUBREL 0x62 or PUBCOMP 0x70 with Success, in the two-byte form of all versions.
pub fn acknowledge(first_byte: u8, packet_identifier: u16) -> Vec<u8> {
    packet(first_byte, &packet_identifier.to_be_bytes())
}

/// The same with a Reason Code, 5.0 only.
pub fn acknowledge_with(first_byte: u8, packet_identifier: u16, reason_code: u8) -> Vec<u8> {
    packet(first_byte, &[&packet_identifier.to_be_bytes()[..], &[reason_code]].concat())
}

/// A DISCONNECT of 5.0 with a Reason Code and the content of its property block.
pub fn disconnect(reason_code: u8, properties: &[u8]) -> Vec<u8> {
    let length = variable_byte_integer(properties.len());
    packet(0xE0, &[&[reason_code][..], &length, properties].concat())
}

/// A normal DISCONNECT, of every version.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];
pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const PINGRESP: [u8; 2] = [0xD0, 0];

/// The parts of a PUBLISH that the broker sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub packet_identifier: Option<u16>,
    /// The content of the property block, empty before 5.0.
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

/// Parses a PUBLISH.
pub fn received(level: u8, packet: &[u8]) -> Received {
    assert_eq!(packet[0] >> 4, 3, "a PUBLISH is expected, not {packet:02x?}");
    let (_, mut rest) = cut_variable_byte_integer(&packet[1..]);
    let topic_length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let topic = String::from_utf8(rest[2..2 + topic_length].to_vec()).expect("a topic is text");
    rest = &rest[2 + topic_length..];
    let qos = packet[0] >> 1 & 3;
    let packet_identifier = (qos > 0).then(|| u16::from_be_bytes([rest[0], rest[1]]));
    rest = if qos > 0 { &rest[2..] } else { rest };
    let mut properties = Vec::new();
    if level == V5 {
        let (length, behind) = cut_variable_byte_integer(rest);
        properties = behind[..length].to_vec();
        rest = &behind[length..];
    }
    Received {
        dup: packet[0] & 8 != 0,
        qos,
        retain: packet[0] & 1 != 0,
        topic,
        packet_identifier,
        properties,
        payload: rest.to_vec(),
    }
}

/// The variable byte integer at the start of `bytes`, and the bytes after it.
pub fn cut_variable_byte_integer(bytes: &[u8]) -> (usize, &[u8]) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("an integer");
    let value = bytes[..=end].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7F));
    (value, &bytes[end + 1..])
}
