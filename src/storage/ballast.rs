//! A file beside the store that holds room on the disk. When the disk is full it is given up, so that what was taken
//! can be written, and what makes room; when there is room again it is made anew.
//!
//! It holds what the largest batch and the journal can need: the journal goes back into a file that grows by it, the
//! batch goes into the journal. It stays when the broker ends, so that the next start finds its room however full the
//! disk is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};

use super::file::{MODE, beside};

/// Bytes that it takes on a disk that is large enough.
pub const BALLAST_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that have to be free beside it for new messages to be taken: what may have been taken since it was last
/// looked.
pub const ROOM_BYTES: u64 = 8 * 1024 * 1024;

/// The share of a small disk that either takes at most.
const SHARE: u64 = 8;

/// Bytes that are written at a time where the file system can not hold room for a file.
const SLICE_BYTES: u64 = 256 * 1024;

/// The size of a block in what the system tells of a file.
const BLOCK_BYTES: u64 = 512;

/// The room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What is free for this user.
    pub available: u64,
    /// All that there is.
    pub all: u64,
}

impl Space {
    /// The room on the disk that a path lies on; `None` where that can not be told.
    #[allow(clippy::useless_conversion, reason = "the numbers are narrower on machines of 32 bits")]
    pub fn of(path: &Path) -> Option<Self> {
        let system = nix::sys::statvfs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(system.fragment_size()));
        Some(Self {
            available: bytes(u64::from(system.blocks_available())),
            all: bytes(u64::from(system.blocks())),
        })
    }

    /// The size of a ballast on this disk.
    pub const fn ballast(self) -> u64 {
        at_most(BALLAST_BYTES, self.all / SHARE)
    }

    /// What has to be free beside it for new messages to be taken.
    pub const fn reserve(self) -> u64 {
        at_most(ROOM_BYTES, self.all / SHARE)
    }
}

const fn at_most(bytes: u64, most: u64) -> u64 {
    if bytes < most { bytes } else { most }
}

/// How it stands with the ballast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BallastState {
    /// It is there.
    Whole,
    /// Some of it is there, and there is room for the rest.
    Growing,
    /// It is not there, for want of room.
    Missing,
}

/// The file.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// While it is written in slices: how far that has come.
    growing: Option<(File, u64)>,
}

impl Ballast {
    /// The one of the store in this file, whose path has no link in it.
    pub(super) fn beside(store: &Path) -> Self {
        Self { path: beside(store, ".ballast"), growing: None }
    }

    /// Gives its room back to the disk; tells whether it had any.
    pub(super) fn give_up(&mut self) -> bool {
        self.growing = None;
        match fs::remove_file(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            // A file system that copies what it writes may have no room to forget a name.
            Err(_) => self.empty().is_ok(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this floor may open files")]
    fn empty(&self) -> io::Result<()> {
        let no_link = OFlag::O_NOFOLLOW.bits() | OFlag::O_NONBLOCK.bits();
        OpenOptions::new().write(true).custom_flags(no_link).open(&self.path)?.set_len(0)
    }

    fn space(&self) -> Option<Space> {
        Space::of(self.path.parent()?)
    }

    /// Makes it, or some of it, if it is not there and the disk has room for it with as much again as new messages
    /// need: it is not made anew at the moment in which it could be given up again.
    ///
    /// # Errors
    ///
    /// It can not be made, for other reasons than want of room.
    pub(super) fn restore(&mut self) -> io::Result<BallastState> {
        let size = self.space().map_or(BALLAST_BYTES, Space::ballast);
        if self.growing.is_none() && self.is_whole(size) {
            return Ok(BallastState::Whole);
        }
        let outcome = match self.growing.take() {
            Some((file, length)) => self.grow(file, length, size),
            None => self.begin(size),
        };
        match outcome {
            Err(error) if lacks_room(&error) => {
                self.give_up();
                Ok(BallastState::Missing)
            }
            other => other,
        }
    }

    /// Whether the file is just what it is to be, and nobody else's.
    fn is_whole(&self, size: u64) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| {
            file.is_file()
                && file.nlink() == 1
                && file.len() == size
                && file.blocks().saturating_mul(BLOCK_BYTES) >= size
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a file that is made here need not be waited for")]
    fn begin(&mut self, size: u64) -> io::Result<BallastState> {
        let needed = |space: Space| size + space.reserve() + space.reserve() / 2;
        // A part of it, a link, or whatever else has the name. A link is removed itself, and never what it leads to.
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if self.space().is_some_and(|space| space.available < needed(space)) {
            return Ok(BallastState::Missing);
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&self.path)?;
        let length = i64::try_from(size).unwrap_or(i64::MAX);
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(BallastState::Whole),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => self.grow(file, 0, size),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one more slice, of bytes that no file system makes smaller.
    fn grow(&mut self, mut file: File, length: u64, size: u64) -> io::Result<BallastState> {
        let slice = SLICE_BYTES.min(size - length.min(size));
        let mut state = length | 1;
        let noise: Vec<u8> = (0..slice)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        file.write_all(&noise)?;
        if length + slice >= size {
            // Some file systems say only here that there is no room.
            file.sync_all()?;
            return Ok(BallastState::Whole);
        }
        self.growing = Some((file, length + slice));
        Ok(BallastState::Growing)
    }
}

fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::QuotaExceeded | ErrorKind::StorageFull)
}
