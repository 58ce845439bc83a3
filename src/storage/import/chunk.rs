//! The chunks of a database, read one at a time.
//!
//! A database begins with a header of 23 bytes: 15 that are always the same, a checksum that is never set, and the
//! version of the format. The chunks follow, each with its kind and its length in front. There are two layouts. Up to
//! version 4 a chunk is a sequence of fields, and each text has its length in front; the lengths of most chunks were
//! never read by mosquitto and are not relied on. From version 5 on a chunk is a C struct followed by its texts. So
//! there is meaningless padding between the fields, which differs from processor to processor.

use super::reader::{ImportError, Native, Reader};

const SIGNATURE: &[u8] = b"\0\xB5\0mosquitto db";

/// The largest payload that an MQTT packet can carry, in bytes.
const PAYLOAD_MAXIMUM: u32 = 268_435_455;

/// Size in bytes of the numbers by which chunks refer to each other.
const NUMBER_LENGTH: u8 = 8;

/// One chunk. Its texts have not been checked yet.
#[derive(Clone, Debug)]
pub(super) enum Chunk<'a> {
    /// The highest number given to a content.
    Configuration {
        last: Native,
    },
    Content(Content<'a>),
    Client(Client<'a>),
    Entry(Entry<'a>),
    Subscription(Subscription<'a>),
    /// The content with this number is a retained message.
    Retained(Native),
}

/// A published message, shared by all sessions that receive it.
#[derive(Clone, Debug)]
pub(super) struct Content<'a> {
    /// Its position in the file.
    pub(super) at: usize,
    pub(super) number: Native,
    /// When its Message Expiry Interval ends, in seconds since 1970; 0 for never.
    pub(super) expires: u64,
    pub(super) qos: u8,
    pub(super) is_retained: bool,
    /// The publisher: the port of its listener, its Client Identifier and its User Name; 0 or empty if unknown.
    pub(super) port: u16,
    pub(super) client_identifier: &'a [u8],
    pub(super) user_name: &'a [u8],
    pub(super) topic: &'a [u8],
    pub(super) payload: &'a [u8],
    /// Encoded as in a PUBLISH of MQTT 5.0; empty if there are none.
    pub(super) properties: &'a [u8],
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Client<'a> {
    pub(super) at: usize,
    pub(super) identifier: &'a [u8],
    pub(super) user_name: &'a [u8],
    pub(super) port: u16,
    /// In seconds; `u32::MAX` is for ever.
    pub(super) expiry_interval: u32,
    /// When the session ends, in seconds since 1970; 0 if that is not known yet.
    pub(super) ends: u64,
}

/// A content that is being sent to or received from a client.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) at: usize,
    pub(super) client_identifier: &'a [u8],
    pub(super) content: Native,
    pub(super) packet_identifier: u16,
    pub(super) qos: u8,
    pub(super) is_retained: bool,
    pub(super) direction: u8,
    pub(super) state: u8,
    /// Only Subscription Identifiers, encoded as the properties of a PUBLISH of MQTT 5.0.
    pub(super) properties: &'a [u8],
}

/// A subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription<'a> {
    pub(super) at: usize,
    pub(super) client_identifier: &'a [u8],
    pub(super) filter: &'a [u8],
    pub(super) qos: u8,
    /// As in a SUBSCRIBE of MQTT 5.0, without the QoS.
    pub(super) options: u8,
    /// The Subscription Identifier; 0 for none.
    pub(super) identifier: u32,
}

/// The chunks of a database.
#[derive(Clone, Debug)]
pub(super) struct Chunks<'a> {
    reader: Reader<'a>,
    version: u32,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, ImportError> {
        if !bytes.starts_with(SIGNATURE) {
            return Err(ImportError::NotADatabase);
        }
        let mut reader = Reader::new(bytes);
        reader.take(SIGNATURE.len())?;
        let _check_sum = reader.u32()?;
        let version = reader.u32()?;
        if !(3..=6).contains(&version) {
            return Err(ImportError::Version(version));
        }
        Ok(Self { reader, version })
    }

    /// Returns the next chunk, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Chunk<'a>>, ImportError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        if self.version <= 4 {
            return self.next_of_fields().map(Some);
        }
        let at = self.reader.at();
        let kind = self.reader.u32()?;
        let length = self.reader.u32()?;
        let mut body = self.reader.part(length)?;
        let chunk = match kind {
            1 => configuration(&mut body)?,
            2 => Chunk::Content(content(&mut body)?),
            3 => Chunk::Entry(entry(&mut body)?),
            4 => Chunk::Retained(body.native()?),
            5 => Chunk::Subscription(subscription(&mut body)?),
            6 => Chunk::Client(client(&mut body, self.version)?),
            _ => return Err(ImportError::Damaged { at, what: "an unknown kind of chunk" }),
        };
        body.finish()?;
        Ok(Some(chunk))
    }

    fn next_of_fields(&mut self) -> Result<Chunk<'a>, ImportError> {
        let reader = &mut self.reader;
        let at = reader.at();
        let kind = reader.u16()?;
        let length = reader.u32()?;
        Ok(match kind {
            1 => {
                let _was_shut_down = reader.u8()?;
                check_number_length(reader)?;
                Chunk::Configuration { last: reader.native()? }
            }
            2 => Chunk::Content(content_of_fields(reader, self.version)?),
            3 => Chunk::Entry(entry_of_fields(reader)?),
            4 => Chunk::Retained(reader.native()?),
            5 => {
                let at = reader.at();
                let client_identifier = text(reader)?;
                let filter = text(reader)?;
                let qos = reader.u8()?;
                let (options, identifier) = (0, 0);
                Chunk::Subscription(Subscription { at, client_identifier, filter, qos, options, identifier })
            }
            6 => Chunk::Client(client_of_fields(&mut reader.part(length)?)?),
            _ => return Err(ImportError::Damaged { at, what: "an unknown kind of chunk" }),
        })
    }
}

fn check_number_length(reader: &mut Reader<'_>) -> Result<(), ImportError> {
    if reader.u8()? == NUMBER_LENGTH {
        Ok(())
    } else {
        reader.damaged("numbers that are not eight bytes long")
    }
}

fn configuration<'a>(body: &mut Reader<'_>) -> Result<Chunk<'a>, ImportError> {
    let last = body.native()?;
    let _was_shut_down = body.u8()?;
    check_number_length(body)?;
    // Padded to a multiple of four or eight bytes.
    body.take(if body.len() == 2 { 2 } else { 6 })?;
    Ok(Chunk::Configuration { last })
}

fn content<'a>(body: &mut Reader<'a>) -> Result<Content<'a>, ImportError> {
    let at = body.at();
    let number = body.native()?;
    let expires = body.moment()?;
    let payload_length = body.u32()?;
    let _packet_identifier = body.u16()?;
    let client_identifier_length = body.u16()?;
    let user_name_length = body.u16()?;
    let topic_length = body.u16()?;
    let port = body.u16()?;
    let qos = body.u8()?;
    let is_retained = body.u8()? != 0;
    if payload_length > PAYLOAD_MAXIMUM {
        return body.damaged("a payload that no packet can carry");
    }
    Ok(Content {
        at,
        number,
        expires,
        qos,
        is_retained,
        port,
        client_identifier: body.take(client_identifier_length.into())?,
        user_name: body.take(user_name_length.into())?,
        topic: body.take(topic_length.into())?,
        payload: body.part(payload_length)?.rest(),
        properties: body.rest(),
    })
}

fn entry<'a>(body: &mut Reader<'a>) -> Result<Entry<'a>, ImportError> {
    let at = body.at();
    let content = body.native()?;
    let packet_identifier = body.u16()?;
    let client_identifier_length = body.u16()?;
    let qos = body.u8()?;
    let state = body.u8()?;
    // RETAIN is in the upper half, DUP in the lower half.
    let is_retained = body.u8()? & 0xF0 != 0;
    let direction = body.u8()?;
    let client_identifier = body.take(client_identifier_length.into())?;
    let properties = body.rest();
    Ok(Entry {
        at,
        client_identifier,
        content,
        packet_identifier,
        qos,
        is_retained,
        direction,
        state,
        properties,
    })
}

fn subscription<'a>(body: &mut Reader<'a>) -> Result<Subscription<'a>, ImportError> {
    let at = body.at();
    let identifier = body.u32()?;
    let client_identifier_length = body.u16()?;
    let filter_length = body.u16()?;
    let qos = body.u8()?;
    let options = body.u8()?;
    let _padding = body.u16()?;
    let client_identifier = body.take(client_identifier_length.into())?;
    let filter = body.take(filter_length.into())?;
    Ok(Subscription { at, client_identifier, filter, qos, options, identifier })
}

fn client<'a>(body: &mut Reader<'a>, version: u32) -> Result<Client<'a>, ImportError> {
    let at = body.at();
    let ends = body.moment()?;
    let expiry_interval = body.u32()?;
    let _last_packet_identifier = body.u16()?;
    let identifier_length = usize::from(body.u16()?);
    let (port, user_name_length) = if version == 6 { (body.u16()?, body.u16()?.into()) } else { (0, 0) };
    if version == 6 && body.len() != identifier_length + user_name_length {
        // Padded to a multiple of eight bytes on processors that require it.
        body.take(4)?;
    }
    let identifier = body.take(identifier_length)?;
    let user_name = body.take(user_name_length)?;
    Ok(Client { at, identifier, user_name, port, expiry_interval, ends })
}

/// Reads a text with its length in front.
fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], ImportError> {
    let length = reader.u16()?;
    reader.take(length.into())
}

fn content_of_fields<'a>(reader: &mut Reader<'a>, version: u32) -> Result<Content<'a>, ImportError> {
    let at = reader.at();
    let number = reader.native()?;
    let client_identifier = text(reader)?;
    let (user_name, port): (&[u8], u16) =
        if version == 4 { (text(reader)?, reader.u16()?) } else { (&[], 0) };
    let _packet_identifiers = reader.u32()?;
    let topic = text(reader)?;
    let qos = reader.u8()?;
    let is_retained = reader.u8()? != 0;
    let payload_length = reader.u32()?;
    if payload_length > PAYLOAD_MAXIMUM {
        return reader.damaged("a payload that no packet can carry");
    }
    let payload = reader.part(payload_length)?.rest();
    Ok(Content {
        at,
        number,
        expires: 0,
        qos,
        is_retained,
        port,
        client_identifier,
        user_name,
        topic,
        payload,
        properties: &[],
    })
}

fn entry_of_fields<'a>(reader: &mut Reader<'a>) -> Result<Entry<'a>, ImportError> {
    let at = reader.at();
    let client_identifier = text(reader)?;
    let content = reader.native()?;
    let packet_identifier = reader.u16()?;
    let qos = reader.u8()?;
    let is_retained = reader.u8()? != 0;
    let direction = reader.u8()?;
    let state = reader.u8()?;
    let _dup = reader.u8()?;
    let properties = &[];
    Ok(Entry {
        at,
        client_identifier,
        content,
        packet_identifier,
        qos,
        is_retained,
        direction,
        state,
        properties,
    })
}

fn client_of_fields<'a>(body: &mut Reader<'a>) -> Result<Client<'a>, ImportError> {
    let at = body.at();
    let identifier = text(body)?;
    let _last_packet_identifier = body.u16()?;
    // When the client disconnected, in four or eight bytes. Sessions of these versions do not expire.
    let _disconnected = body.rest();
    Ok(Client { at, identifier, user_name: &[], port: 0, expiry_interval: u32::MAX, ends: 0 })
}
