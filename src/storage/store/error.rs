//! What can go wrong with the file, in words for the operator where there is something for him to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::base::escape::Escaped;

const MIB: u64 = 1024 * 1024;

/// Why a store can not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The directory can not be used.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The file can not be made, opened or moved.
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
    /// Another process uses it.
    Locked(PathBuf),
    /// It is not a broker's store, and what it is.
    Foreign(PathBuf, &'static str),
    /// A later version of the broker has written it.
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its layout, and the last one that is known here.
        versions: (i64, i64),
    },
    /// There is no room to migrate it to the present layout. It is as it was.
    NoRoom {
        /// The file.
        path: PathBuf,
        /// Bytes that are enough.
        enough: u64,
    },
    /// Its disk is full.
    Full(PathBuf),
    /// It is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Reading or writing it has failed.
    Failed {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, why } => write!(formatter, "{}: {why}", Shown(path)),
            Self::File { path, why } => write!(formatter, "{}: {why}", Shown(path)),
            Self::Locked(path) => write!(
                formatter,
                "{}: another process has locked it; is another broker running on it? Stop that one, or give this one \
                 another persistence_location",
                Shown(path)
            ),
            Self::Foreign(path, what) => write!(
                formatter,
                "{}: this is {what}; it is left as it is. Choose another persistence_file or persistence_location",
                Shown(path)
            ),
            Self::Newer { path, versions: (version, known) } => write!(
                formatter,
                "{}: a later version of the broker has written it (layout {version}, this one knows up to {known}). Run \
                 that one, or choose another persistence_file",
                Shown(path)
            ),
            Self::NoRoom { path, enough } => write!(
                formatter,
                "{}: there is no room to bring it to the layout of this version, so it is left as it was and the version \
                 before can still use it. Free {} MiB on its disk and start again",
                Shown(path),
                enough.div_ceil(MIB)
            ),
            Self::Full(path) => write!(
                formatter,
                "{}: there is no space left on its disk. Free some and start again",
                Shown(path)
            ),
            Self::Damaged { path, why } => write!(
                formatter,
                "{}: it is damaged ({}) and is left as it is. Put a copy from a backup in its place, move it away to \
                 begin without what it holds, or have that done by 'persistence_damaged set_aside'",
                Shown(path),
                Escaped(why)
            ),
            Self::Failed { path, why } => write!(formatter, "{}: {}", Shown(path), Escaped(why)),
        }
    }
}

impl std::error::Error for OpenError {}

/// A path in a message.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0.display().to_string()).fmt(formatter)
    }
}

/// What a step with the file comes to.
pub(super) type Outcome<T> = Result<T, StoreError>;

/// Why something could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no room. The same may be tried again when there is.
    Full,
    /// The system has refused to write, which may be for want of room that only its user has not.
    Unwritten(String),
    /// What is in the file makes no sense.
    Damaged(String),
    /// This file is not there any more, or another one has its name: what is written is lost.
    Lost(PathBuf),
    /// Anything else.
    Other(String),
}

impl OpenError {
    /// Whether nothing is missing but room on the disk.
    pub const fn is_want_of_room(&self) -> bool {
        matches!(self, Self::Full(_) | Self::NoRoom { .. })
    }
}

impl StoreError {
    /// The same as a reason why the store can not be opened.
    pub(super) fn about(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Full => OpenError::Full(path),
            Self::Damaged(why) => OpenError::Damaged { path, why },
            Self::Lost(lost) => OpenError::Failed {
                path: lost,
                why: "it was removed, or replaced by another file. Put it back, or start again to go on with what is \
                      there"
                    .to_owned(),
            },
            Self::Unwritten(why) | Self::Other(why) => OpenError::Failed { path, why },
        }
    }

    /// Something in a row can not have been written by this room.
    pub(super) fn nonsense(what: &str) -> Self {
        Self::Damaged(format!("nonsense where {what} should be"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => formatter.write_str("no space left on the device"),
            Self::Damaged(why) => write!(formatter, "the file is damaged: {}", Escaped(why)),
            Self::Lost(path) => write!(formatter, "{} was removed, or replaced by another file", Shown(path)),
            Self::Unwritten(why) | Self::Other(why) => Escaped(why).fmt(formatter),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error;

        match &error {
            Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::SqlInputError { .. }
            | Error::Utf8Error(..) => return Self::Damaged(error.to_string()),
            _ => {}
        }
        let is = |code| error.sqlite_error().is_some_and(|error| error.extended_code == code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            // All statements fit the layout, and all rows that are written fit the tables.
            _ if is(ffi::SQLITE_ERROR) => Self::Damaged(error.to_string()),
            _ if is(ffi::SQLITE_IOERR_WRITE) => Self::Unwritten(error.to_string()),
            // A page is cut short, or is not there.
            _ if is(ffi::SQLITE_IOERR_SHORT_READ) => Self::Damaged("the file is too short".to_owned()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<rusqlite::types::FromSqlError> for StoreError {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Damaged(error.to_string())
    }
}
