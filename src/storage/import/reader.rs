//! A checked reader for the bytes of a database that knows its position.

use std::fmt;

use byteorder::{BigEndian, ByteOrder, LittleEndian};

/// Why a file cannot be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// It does not begin like a database of mosquitto.
    NotADatabase,
    /// Its version of the format is unknown.
    Version(u32),
    /// Its content is invalid.
    Damaged {
        /// The position in the file, in bytes from 0.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADatabase => formatter.write_str("it is not a database of mosquitto"),
            Self::Version(version) => {
                write!(formatter, "it has version {version} of the format, expected 3 to 6")
            }
            Self::Damaged { at, what } => write!(formatter, "it is damaged at byte {at}: {what}"),
        }
    }
}

impl std::error::Error for ImportError {}

/// Eight bytes that mosquitto has copied from its memory, so their byte order has to be found out.
pub(super) type Native = [u8; 8];

/// The unread part of a database, or of a part of it.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Position in the file at which `rest` begins.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn damaged<T>(&self, what: &'static str) -> Result<T, ImportError> {
        Err(ImportError::Damaged { at: self.at, what })
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], ImportError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return self.damaged("a length that exceeds the bytes left");
        };
        self.rest = rest;
        self.at += length;
        Ok(taken)
    }

    /// Splits off the next `length` bytes as a reader of their own.
    pub(super) fn part(&mut self, length: u32) -> Result<Self, ImportError> {
        let at = self.at;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(Self { rest: self.take(length)?, at })
    }

    /// Takes all bytes that are left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.at += self.rest.len();
        std::mem::take(&mut self.rest)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], ImportError> {
        let Some((array, rest)) = self.rest.split_first_chunk() else {
            return self.damaged("it ends within a field");
        };
        self.rest = rest;
        self.at += N;
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ImportError> {
        self.array::<1>().map(|&[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ImportError> {
        self.array::<2>().map(|bytes| BigEndian::read_u16(bytes))
    }

    pub(super) fn u32(&mut self) -> Result<u32, ImportError> {
        self.array::<4>().map(|bytes| BigEndian::read_u32(bytes))
    }

    pub(super) fn native(&mut self) -> Result<Native, ImportError> {
        self.array::<8>().copied()
    }

    /// Reads seconds since 1970, 0 for none. Only one of the two byte orders yields a plausible time; in the other
    /// one, the lowest byte becomes the highest.
    pub(super) fn moment(&mut self) -> Result<u64, ImportError> {
        let bytes = self.native()?;
        Ok(BigEndian::read_u64(&bytes).min(LittleEndian::read_u64(&bytes)))
    }

    /// Checks that no bytes are left over.
    pub(super) const fn finish(&self) -> Result<(), ImportError> {
        if self.rest.is_empty() { Ok(()) } else { self.damaged("more bytes than expected") }
    }
}
