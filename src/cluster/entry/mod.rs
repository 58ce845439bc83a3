//! An entry of the log: one or several messages that are stored together.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version of this layout |
//! | 8 | the incarnation of the node: a number that it draws when it starts |
//! | 8 | the number of the entry among those of this incarnation |
//!
//! Then, for each message:
//!
//! | bytes | what |
//! |---|---|
//! | 2 | the length of its fields |
//! | 3 and more, for each field | its tag, two bytes of its length, its value |
//! | the rest | a PUBLISH packet of MQTT 5.0 |
//!
//! Numbers are big-endian. A node reads the layouts of its own version, the one before and the one after it, so that the
//! nodes of a cluster can be upgraded one by one. A new version may only add fields: a reader skips those that it does not
//! know.
//!
//! The Message Expiry Interval in a packet counts from when the entry was stored, which the engine tells: a message carries
//! for how long it is valid, not until when, because clocks of small machines are wrong.
//!
//! Another node may be faulty, and others may have access to the engine. So what arrives is checked like the packet of a
//! client: here the layout, and the packets in the core.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod tests;

use crate::cluster::origin::Origin;
use crate::core::message::Publisher;
use crate::protocol::codec::{PACKET_SIZE_MAXIMUM, Status, frame};
use crate::protocol::utf8;

/// The version of the layout that this node writes.
pub const VERSION: u8 = 1;

/// The oldest version that this node reads.
const OLDEST: u8 = if VERSION > 1 { VERSION - 1 } else { VERSION };

/// The bytes before the messages.
const HEAD_LENGTH: usize = 1 + 8 + 8;

/// The tag of the publisher, in the form of [`Publisher::written`].
const PUBLISHER: u8 = 1;

/// The bytes of a field before its value.
const FIELD_HEAD_LENGTH: usize = 1 + 2;

/// The most bytes that an entry has beside the contents of its only message: the rest of a PUBLISH packet, and the layout.
pub const OVERHEAD: usize = HEAD_LENGTH + 2 + FIELD_HEAD_LENGTH + 32;

const CUT_OFF: &str = "it is cut off";

/// A message of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Who has published it.
    pub publisher: Option<&'a str>,
    /// The PUBLISH packet. Only its length is checked.
    pub packet: &'a [u8],
}

/// An entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it comes from.
    pub origin: Origin,
    /// Its messages, which [`next_record`] reads.
    pub records: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes before the messages.
    pub fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let (head, records) = bytes.split_first_chunk::<HEAD_LENGTH>().ok_or(CUT_OFF)?;
        if !(OLDEST..=VERSION + 1).contains(&head[0]) {
            return Err("it has an unknown version");
        }
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        Ok(Self { origin: Origin { incarnation: number(1), counter: number(9) }, records })
    }
}

/// Reads the first of some messages. Returns it and those after it.
///
/// # Errors
///
/// What is wrong with it. Those after it cannot be read then.
pub fn next_record(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), &'static str> {
    let (fields, rest) = split_short(bytes)?;
    let publisher = publisher_of(fields)?;
    match frame(rest, PACKET_SIZE_MAXIMUM) {
        Ok(Status::Complete(frame)) => {
            let (packet, rest) = rest.split_at(frame.length);
            Ok((Record { publisher, packet }, rest))
        }
        _ => Err("a packet in it is cut off"),
    }
}

/// Splits bytes that begin with the length of a part.
fn split_short(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(CUT_OFF)?;
    rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(CUT_OFF)
}

fn publisher_of(mut fields: &[u8]) -> Result<Option<&str>, &'static str> {
    let mut publisher = None;
    while let Some((&tag, rest)) = fields.split_first() {
        let (value, rest) = split_short(rest)?;
        fields = rest;
        if tag == PUBLISHER && publisher.replace(checked(value)?).is_some() {
            return Err("it has a field twice");
        }
    }
    Ok(publisher)
}

fn checked(value: &[u8]) -> Result<&str, &'static str> {
    const WRONG: &str = "it has a publisher without valid names";
    let text = std::str::from_utf8(value).map_err(|_| WRONG)?;
    let publisher = Publisher::read(text).ok_or(WRONG)?;
    let names = [Some(publisher.client_identifier), publisher.user_name];
    if names.into_iter().flatten().all(utf8::is_sound) { Ok(text) } else { Err(WRONG) }
}

/// An entry that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An entry without messages.
    pub fn new(origin: Origin) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(VERSION);
        bytes.extend(origin.incarnation.to_be_bytes());
        bytes.extend(origin.counter.to_be_bytes());
        Self { bytes }
    }

    /// Adds a message. The packet is in two parts.
    pub fn push(&mut self, publisher: Option<&str>, packet: [&[u8]; 2]) {
        // A longer one is as good as none. There is none: its names are those of a CONNECT.
        let publisher =
            publisher.filter(|publisher| publisher.len() + FIELD_HEAD_LENGTH <= usize::from(u16::MAX));
        let length = publisher.map_or(0, |publisher| FIELD_HEAD_LENGTH + publisher.len());
        self.push_length(length);
        if let Some(publisher) = publisher {
            self.bytes.push(PUBLISHER);
            self.push_length(publisher.len());
            self.bytes.extend_from_slice(publisher.as_bytes());
        }
        packet.into_iter().for_each(|part| self.bytes.extend_from_slice(part));
    }

    fn push_length(&mut self, length: usize) {
        self.bytes.extend(u16::try_from(length).expect("shorter than a field").to_be_bytes());
    }

    /// How many bytes it has.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no messages.
    pub const fn is_empty(&self) -> bool {
        self.bytes.len() <= HEAD_LENGTH
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
