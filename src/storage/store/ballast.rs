//! A file next to the store that reserves disk space. When the disk is full it is removed, so that there is room to
//! write accepted messages and the records that free space. Once there is enough room again, it is created anew.
//!
//! It is large enough for the largest batch and for the journal: the batch is written to the journal, and the file
//! grows when the journal is brought into it. It stays when the broker ends, so that the next start has this room
//! however full the disk is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::libc::off_t;

use super::file::{MODE, beside};

/// Size of the ballast in bytes, on a disk that is large enough.
pub const BALLAST_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that must be free besides the ballast for new messages to be accepted. Covers what may have been accepted
/// since the last check.
pub const ROOM_BYTES: u64 = 8 * 1024 * 1024;

/// On a small disk the ballast and the room besides it are each limited to this fraction of it: an eighth.
const SHARE: u64 = 8;

/// Bytes to write at a time where the file system cannot preallocate a file.
const SLICE_BYTES: u64 = 256 * 1024;

/// Size of a block in the metadata of a file.
const BLOCK_BYTES: u64 = 512;

/// The size and the free space of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free space that this user may use.
    pub available: u64,
    /// Size of the disk.
    pub all: u64,
}

impl Space {
    /// Returns the space of the disk that holds a path, or `None` if the system does not tell.
    #[allow(clippy::useless_conversion, reason = "the numbers are narrower on 32-bit machines")]
    pub fn of(path: &Path) -> Option<Self> {
        let system = nix::sys::statvfs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(system.fragment_size()));
        Some(Self {
            available: bytes(u64::from(system.blocks_available())),
            all: bytes(u64::from(system.blocks())),
        })
    }

    /// Returns the size of a ballast on this disk.
    pub const fn ballast(self) -> u64 {
        at_most(BALLAST_BYTES, self.all / SHARE)
    }

    /// Returns how much must be free besides the ballast for new messages to be accepted.
    pub const fn reserve(self) -> u64 {
        at_most(ROOM_BYTES, self.all / SHARE)
    }
}

const fn at_most(bytes: u64, most: u64) -> u64 {
    if bytes < most { bytes } else { most }
}

/// The state of the ballast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BallastState {
    /// It is complete.
    Whole,
    /// It is written in part, and there is room for the rest.
    Growing,
    /// It does not exist, because the disk has no room for it.
    Missing,
}

/// The file of the ballast.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    /// The file and its length so far, while it is being written slice by slice.
    growing: Option<(File, u64)>,
}

impl Ballast {
    /// The ballast of the store at this path, which must not contain symbolic links.
    pub(super) fn beside(store: &Path) -> Self {
        Self { path: beside(store, ".ballast"), growing: None }
    }

    /// Returns its space to the disk. Returns whether it had any.
    pub(super) fn give_up(&mut self) -> bool {
        self.growing = None;
        match fs::remove_file(&self.path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            // A copy-on-write file system may need room to remove a name.
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

    /// Creates the ballast, or a further part of it, if it does not exist and the disk has room for it. The disk must
    /// have more room than new messages need, so that the ballast is not given up again at once.
    ///
    /// # Errors
    ///
    /// If the file cannot be created for a reason other than lack of room.
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

    /// Whether the file is complete and has no second hard link.
    fn is_whole(&self, size: u64) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| {
            file.is_file()
                && file.nlink() == 1
                && file.len() == size
                && file.blocks().saturating_mul(BLOCK_BYTES) >= size
        })
    }

    #[expect(clippy::disallowed_methods, reason = "opening a file that is created here never blocks")]
    fn begin(&mut self, size: u64) -> io::Result<BallastState> {
        let needed = |space: Space| size + space.reserve() + space.reserve() / 2;
        // An incomplete ballast, a link, or something else of that name. Removing a link leaves its target alone.
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if self.space().is_some_and(|space| space.available < needed(space)) {
            return Ok(BallastState::Missing);
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&self.path)?;
        let length = off_t::try_from(size).unwrap_or(off_t::MAX);
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(BallastState::Whole),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => self.grow(file, 0, size),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one more slice, of bytes that no file system can compress.
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
            // Some file systems report only here that they have no room.
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
