//! Finds commits in the journal after a damaged place. SQLite reads a journal up to the first frame whose checksum is
//! wrong and takes that for its end. It has to: a write interrupted by a power failure looks the same. So damage in
//! the middle silently drops all later commits. This module looks for them before SQLite opens the file.
//!
//! Any part of what was never flushed may be on disk, so not everything after a gap was acknowledged. But the frames
//! of the next transaction are only written once a commit has been flushed. So a commit frame was flushed if the
//! checksum of the next frame continues from it, and a loss is only reported if there is such a frame after the gap.
//! The remains of a transaction that was rolled back, or torn in an earlier crash, have none. Damage in the very last
//! transaction is not detected, because it looks like a torn write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The first word of the journal. Its lowest bit says whether the numbers in checksums are big-endian.
const MAGIC: u32 = 0x377F_0682;
const HEADER_LENGTH: usize = 32;
const FRAME_HEADER_LENGTH: usize = 24;
/// Bytes per page of the store.
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
pub(super) const PAGE_SIZE: usize = super::upkeep::PAGE_SIZE as usize;
/// Valid page sizes, in bytes.
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 512..=65536;

/// What the journal holds after a damaged place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Severed {
    /// Number of commits.
    pub commits: u64,
    /// Pages changed by these commits and by what follows them.
    pub frames: u64,
}

type Checksum = [u32; 2];

/// The pages of a journal that belong to commits, as far as SQLite would read it.
#[derive(Debug, Default)]
pub(super) struct Overlay<'a> {
    pages: BTreeMap<u32, &'a [u8]>,
    /// The number of pages that the file has after the last commit; `None` without one.
    length: Option<u32>,
}

impl<'a> Overlay<'a> {
    /// The number of pages after the last commit; `None` if it is that of the file.
    pub(super) const fn length(&self) -> Option<u32> {
        self.length
    }

    /// A page by its number, which begins with one; `None` if it is that of the file.
    pub(super) fn page(&self, number: u32) -> Option<&'a [u8]> {
        self.pages.get(&number).copied()
    }
}

/// Reads a journal as SQLite does: up to the last commit before the first frame that does not continue the one before.
pub(super) fn overlay(journal: &[u8]) -> Overlay<'_> {
    let mut overlay = Overlay::default();
    let Some((header, frames)) = journal.split_at_checked(HEADER_LENGTH) else { return overlay };
    let is_big_endian = word(header, 0) & 1 == 1;
    let mut sum = checksum([0; 2], &header[..24], is_big_endian);
    if sum != [word(header, 24), word(header, 28)] || usize::try_from(word(header, 8)) != Ok(PAGE_SIZE) {
        return overlay;
    }
    let mut open = Vec::new();
    for frame in frames.chunks_exact(FRAME_HEADER_LENGTH + PAGE_SIZE) {
        let (head, page) = frame.split_at(FRAME_HEADER_LENGTH);
        sum = checksum(checksum(sum, &head[..8], is_big_endian), page, is_big_endian);
        if head[8..16] != header[16..24] || sum != [word(head, 16), word(head, 20)] {
            break;
        }
        open.push((word(head, 0), page));
        if word(head, 4) != 0 {
            overlay.pages.extend(open.drain(..));
            overlay.length = Some(word(head, 4));
        }
    }
    overlay
}

/// Searches a journal, one page at a time. A missing or unreadable journal holds nothing here; SQLite reports it.
#[expect(
    clippy::disallowed_methods,
    reason = "this floor may open files, and this one lies next to the store"
)]
pub(super) fn severed(path: &Path) -> Severed {
    File::open(path).and_then(|file| read(BufReader::new(file))).unwrap_or_default()
}

fn read(mut journal: impl Read) -> io::Result<Severed> {
    let mut header = [0; HEADER_LENGTH];
    journal.read_exact(&mut header)?;
    let is_big_endian = word(&header, 0) & 1 == 1;
    let sum = checksum([0; 2], &header[..24], is_big_endian);
    let is_sound = word(&header, 0) & !1 == MAGIC && sum == [word(&header, 24), word(&header, 28)];
    let page_size = usize::try_from(word(&header, 8)).unwrap_or(0);
    // A damaged header cannot be trusted, but the page size of the store is known.
    let is_believed = is_sound && page_size.is_power_of_two() && PAGE_SIZES.contains(&page_size);
    let page_size = if is_believed { page_size } else { PAGE_SIZE };
    let mut search = Search {
        salts: is_believed.then(|| [word(&header, 16), word(&header, 20)]),
        is_big_endian,
        last: Last { sums: [sum; 2], is_commit: false },
        is_behind: !is_believed,
        found: Severed::default(),
        unsure: 0,
    };
    let mut frame = vec![0; FRAME_HEADER_LENGTH + page_size];
    while journal.read_exact(&mut frame).is_ok() {
        search.take(&frame);
    }
    Ok(search.found)
}

/// The previous frame.
#[derive(Clone, Copy)]
struct Last {
    /// The checksum stored in it, and the one computed from its content. Either of the two may be damaged.
    sums: [Checksum; 2],
    is_commit: bool,
}

/// A walk through the frames.
struct Search {
    /// The salts shared by all frames since the journal last started from its beginning, and by no earlier frame.
    salts: Option<[u32; 2]>,
    is_big_endian: bool,
    last: Last,
    /// Whether a frame has failed to fit. SQLite reads no further than that.
    is_behind: bool,
    found: Severed,
    /// Consecutive frames not yet followed by proof that a commit among them was flushed.
    unsure: u64,
}

impl Search {
    fn take(&mut self, frame: &[u8]) {
        let salts = [word(frame, 8), word(frame, 12)];
        let written = [word(frame, 16), word(frame, 20)];
        let is_big_endian = self.is_big_endian;
        let expected = self.last.sums.map(|sum| {
            let sum = checksum(sum, &frame[..8], is_big_endian);
            checksum(sum, &frame[FRAME_HEADER_LENGTH..], is_big_endian)
        });
        // A frame from before the journal's last start does not fit, so nothing continues from it.
        let is_of_now = *self.salts.get_or_insert(salts) == salts;
        let fits = is_of_now && expected.contains(&written);
        if self.is_behind {
            self.follow(fits);
        }
        self.is_behind |= !fits;
        self.last = Last { sums: [written, expected[0]], is_commit: word(frame, 4) != 0 };
    }

    /// Takes another frame after the gap. `fits` says whether it continues from the one before.
    fn follow(&mut self, fits: bool) {
        self.unsure = if fits { self.unsure + 1 } else { 0 };
        if fits && self.last.is_commit {
            self.found.commits += 1;
            self.found.frames += std::mem::take(&mut self.unsure);
        }
    }
}

fn word(bytes: &[u8], place: usize) -> u32 {
    bytes[place..place + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// Continues a checksum over bytes, eight at a time.
fn checksum(before: Checksum, bytes: &[u8], is_big_endian: bool) -> Checksum {
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("four bytes");
        if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    bytes.chunks_exact(8).fold(before, |[first, second], eight| {
        let first = first.wrapping_add(number(&eight[..4])).wrapping_add(second);
        [first, second.wrapping_add(number(&eight[4..])).wrapping_add(first)]
    })
}
