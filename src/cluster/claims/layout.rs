//! What nodes say about their clients: what the body of such a message of NATS consists of.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the version of this layout |
//! | 8 | the incarnation of the node: a number that it draws when it starts |
//! | 8 | the number of the message among those of this incarnation, from 1 |
//! | 8 | the time of the cluster, in milliseconds since 1970 |
//! | 24, up to [`ENTRIES_MAXIMUM`] times | a client: 16 bytes of its hash, and 8 for how many milliseconds it has been connected |
//!
//! Numbers are big-endian. A later version has another number, which this version refuses.

use std::fmt;

use super::ClientHash;
use crate::base::time::Duration;

/// The version of the layout.
const VERSION: u8 = 1;

/// The bytes before the clients.
pub(super) const HEAD_LENGTH: usize = 1 + 8 + 8 + 8;

/// The bytes of a client.
pub(super) const ENTRY_LENGTH: usize = ClientHash::LENGTH + 8;

/// The most clients in one message.
pub(super) const ENTRIES_MAXIMUM: usize = 512;

/// The most bytes of a message.
pub const BODY_LENGTH_MAXIMUM: usize = HEAD_LENGTH + ENTRIES_MAXIMUM * ENTRY_LENGTH;

/// Why the bytes are no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is shorter than a message without clients, or ends within one.
    CutOff,
    /// It has another version.
    Version(u8),
    /// It has more clients than a node writes.
    TooLong,
    /// A client has connected before 1970, or the message has the number 0.
    Impossible,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => formatter.write_str("it is cut off"),
            Self::Version(version) => write!(formatter, "it has the unknown version {version}"),
            Self::TooLong => formatter.write_str("it is too long"),
            Self::Impossible => formatter.write_str("it has an impossible number"),
        }
    }
}

/// What precedes the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) incarnation: u64,
    pub(super) number: u64,
    pub(super) time: u64,
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) client: ClientHash,
    /// How long it has been connected, in milliseconds.
    pub(super) age: u64,
}

impl Head {
    /// Writes it in place of `into`.
    pub(super) fn write(self, into: &mut Vec<u8>) {
        into.clear();
        into.push(VERSION);
        for number in [self.incarnation, self.number, self.time] {
            into.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// When a client has connected that has been connected for so long.
    pub(super) const fn time_of(&self, age: u64) -> u64 {
        self.time.saturating_sub(age)
    }
}

pub(super) fn write_entry(client: ClientHash, age: Duration, into: &mut Vec<u8>) {
    into.extend_from_slice(&client.0);
    into.extend_from_slice(&age.milliseconds().to_be_bytes());
}

/// Reads a message. All of it is checked before the first client is returned.
pub(super) fn read(bytes: &[u8]) -> Result<(Head, impl Iterator<Item = Entry>), Malformed> {
    let (head, entries) = bytes.split_first_chunk::<HEAD_LENGTH>().ok_or(Malformed::CutOff)?;
    let [version, numbers @ ..] = head;
    if *version != VERSION {
        return Err(Malformed::Version(*version));
    }
    let head =
        Head { incarnation: number(numbers, 0), number: number(numbers, 8), time: number(numbers, 16) };
    if entries.len() % ENTRY_LENGTH != 0 {
        return Err(Malformed::CutOff);
    }
    if entries.len() > ENTRIES_MAXIMUM * ENTRY_LENGTH {
        return Err(Malformed::TooLong);
    }
    let entries = entries.chunks_exact(ENTRY_LENGTH).map(entry);
    if head.number == 0 || entries.clone().any(|entry| entry.age > head.time) {
        return Err(Malformed::Impossible);
    }
    Ok((head, entries))
}

fn entry(bytes: &[u8]) -> Entry {
    let mut hash = [0; ClientHash::LENGTH];
    hash.copy_from_slice(&bytes[..ClientHash::LENGTH]);
    Entry { client: ClientHash(hash), age: number(bytes, ClientHash::LENGTH) }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { incarnation: u64::MAX - 7, number: 1 << 40, time: 1_800_000_000_000 };

    fn written(count: usize) -> (Vec<u8>, Vec<Entry>) {
        let mut bytes = b"what was there before".to_vec();
        HEAD.write(&mut bytes);
        let entries: Vec<Entry> = (0..count)
            .map(|number| Entry {
                client: ClientHash::of(&number.to_string(), None),
                age: (number as u64) << 31,
            })
            .collect();
        for entry in &entries {
            write_entry(entry.client, Duration::from_milliseconds(entry.age), &mut bytes);
        }
        (bytes, entries)
    }

    fn read_all(bytes: &[u8]) -> Result<(Head, Vec<Entry>), Malformed> {
        read(bytes).map(|(head, entries)| (head, entries.collect()))
    }

    #[test]
    fn what_is_written_is_read() {
        for count in [0, 1, 2, ENTRIES_MAXIMUM] {
            let (bytes, entries) = written(count);
            assert_eq!(read_all(&bytes), Ok((HEAD, entries)));
        }
    }

    #[test]
    fn what_no_node_writes_is_refused() {
        let (bytes, _) = written(2);
        for length in
            (0..bytes.len()).filter(|&length| length != HEAD_LENGTH && length != HEAD_LENGTH + ENTRY_LENGTH)
        {
            assert_eq!(read_all(&bytes[..length]), Err(Malformed::CutOff), "{length}");
        }
        assert_eq!(read_all(&written(ENTRIES_MAXIMUM + 1).0), Err(Malformed::TooLong));
        for version in [0, 2, 0xff] {
            let mut other = bytes.clone();
            other[0] = version;
            assert_eq!(read_all(&other), Err(Malformed::Version(version)));
        }
        let mut impossible = bytes.clone();
        impossible[9..17].fill(0);
        assert_eq!(read_all(&impossible), Err(Malformed::Impossible));
        let mut impossible = bytes;
        impossible[HEAD_LENGTH + 16] = 0xff;
        assert_eq!(read_all(&impossible), Err(Malformed::Impossible));
    }
}
