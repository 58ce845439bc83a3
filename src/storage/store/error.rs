//! The errors of the store, with advice for the operator where there is any.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::base::escape::Escaped;

const MIB: u64 = 1024 * 1024;

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The directory cannot be used.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The file cannot be created, opened or renamed.
    File {
        /// The file.
        path: PathBuf,
        /// The error from the system.
        why: io::Error,
    },
    /// Another process uses it.
    Locked(PathBuf),
    /// It is not a broker's store. The text says what it is.
    Foreign(PathBuf, &'static str),
    /// It was written by a later version of the broker.
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its layout, and the latest version that this broker knows.
        versions: (i64, i64),
    },
    /// There is no room to migrate it to the current layout. It is unchanged.
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
        /// The error in words.
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
                "{}: this is {what}; it is left unchanged. Choose another persistence_file or persistence_location",
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
                "{}: there is no room to bring it to the layout of this version. It is left unchanged, so the version \
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
                "{}: it is damaged ({}) and is left unchanged. Put a copy from a backup in its place, move it \
                 away to begin without what it holds, or have that done by 'persistence_damaged set_aside'",
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

/// The result of an operation on the file.
pub(super) type Outcome<T> = Result<T, StoreError>;

/// Why something could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The disk is full. The same operation may succeed once there is room.
    Full,
    /// The system has refused to write. The reason may be a disk quota.
    Unwritten(String),
    /// The content of the file is invalid.
    Damaged(String),
    /// The file was removed or replaced by another one, so what is written is lost.
    Lost(PathBuf),
    /// Anything else.
    Other(String),
}

impl OpenError {
    /// Whether the only obstacle is lack of disk space.
    pub const fn is_want_of_room(&self) -> bool {
        matches!(self, Self::Full(_) | Self::NoRoom { .. })
    }
}

impl StoreError {
    /// Converts the error into the reason why the store cannot be opened.
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

    /// The error for a value in a row that this module cannot have written.
    pub(super) fn nonsense(what: &str) -> Self {
        Self::Damaged(format!("invalid value where {what} should be"))
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
            // All statements fit the layout, and all rows written fit the tables, so the file is at fault.
            _ if is(ffi::SQLITE_ERROR) => Self::Damaged(error.to_string()),
            _ if is(ffi::SQLITE_IOERR_WRITE) => Self::Unwritten(error.to_string()),
            // A page is incomplete or missing.
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
