//! Maintenance of the file while no client waits: the journal is brought into the file, and unused pages are returned
//! to the system. Also counts what this and the commits have written.

use rusqlite::Connection;

use super::StoreError;

/// Bytes per page. This is one block of the file system, so that a torn write damages only pages that the journal
/// still holds.
pub(super) const PAGE_SIZE: u64 = 4096;

/// Bytes per page in the journal.
const FRAME_SIZE: u64 = PAGE_SIZE + 24;

/// Bytes on disk that the empty journal keeps. A large transaction may exceed this for a while.
pub const JOURNAL_BYTES_MAXIMUM: u64 = 8 * 1024 * 1024;

/// Pages in the journal that make a checkpoint due, between two batches and while idle. More pages mean fewer writes:
/// a page that changes often is copied once for many changes.
const JOURNAL_PAGES_BETWEEN: u64 = 1000;
const JOURNAL_PAGES_IDLE: u64 = 250;

/// Unused pages to keep because they will be needed again: at least this number, and up to this fraction of the file.
const SPARE_PAGES: u64 = 256;
const SPARE_SHARE: u64 = 4;

/// Pages to release at a time.
const SLICE_PAGES: u64 = 256;

/// What a store has written since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Transactions.
    pub commits: u64,
    /// Bytes, as exactly as can be known: everything written to the journal, and the pages copied from there to the
    /// file, counted as if no page occurred twice in the journal.
    pub bytes: u64,
    /// Current state of the journal.
    journal: Journal,
}

/// How full the journal is, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Journal {
    pages: u64,
    /// How many of them, from the beginning, have been copied to the file.
    copied: u64,
}

/// The occasion for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Between two batches: the next batch waits.
    BetweenBatches,
    /// There is no batch to commit.
    Idle,
    /// The disk has no room for the journal to grow. Once all of it is in the file, it starts from its beginning
    /// again.
    Full,
}

/// Starts the count with the present state of the journal.
pub(super) fn begin(connection: &Connection) -> Result<Written, StoreError> {
    Ok(Written { journal: run(connection, "PRAGMA wal_checkpoint(NOOP)")?, ..Written::default() })
}

/// Adds what a commit has written.
pub(super) fn count(connection: &Connection, written: &mut Written) -> Result<(), StoreError> {
    written.commits += 1;
    let journal = run(connection, "PRAGMA wal_checkpoint(NOOP)")?;
    let before = written.journal;
    // A journal whose pages are all in the file starts from its beginning.
    let has_begun_anew = before.copied == before.pages || journal.pages < before.pages;
    let new = if has_begun_anew { journal.pages } else { journal.pages - before.pages };
    written.bytes += new * FRAME_SIZE;
    written.journal = journal;
    Ok(())
}

fn run(connection: &Connection, text: &str) -> Result<Journal, StoreError> {
    let pages = |column: i64| u64::try_from(column).unwrap_or(0);
    let mut statement = connection.prepare_cached(text)?;
    let journal = statement
        .query_row((), |row| Ok(Journal { pages: pages(row.get(1)?), copied: pages(row.get(2)?) }))?;
    Ok(journal)
}

/// Brings the journal into the file if this is due.
pub(super) fn checkpoint(
    connection: &Connection,
    written: &mut Written,
    pause: Pause,
) -> Result<(), StoreError> {
    let before = written.journal;
    let due = match pause {
        Pause::BetweenBatches => JOURNAL_PAGES_BETWEEN,
        Pause::Idle => JOURNAL_PAGES_IDLE,
        Pause::Full => 1,
    };
    if before.pages - before.copied.min(before.pages) < due {
        return Ok(());
    }
    let journal = run(connection, "PRAGMA wal_checkpoint(PASSIVE)")?;
    written.bytes += journal.copied.saturating_sub(before.copied) * PAGE_SIZE;
    written.journal = journal;
    Ok(())
}

/// Brings the journal into the file whatever its length, and empties it.
pub(super) fn empty_journal(connection: &Connection, written: &mut Written) -> Result<(), StoreError> {
    written.journal = run(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

/// Releases some unused pages, or more of them if the disk is full. Returns whether there are more.
pub(super) fn vacuum_slice(
    connection: &Connection,
    written: &mut Written,
    pause: Pause,
) -> Result<bool, StoreError> {
    let number = |text: &str| -> Result<u64, StoreError> {
        Ok(connection.prepare_cached(text)?.query_row((), |row| row.get(0))?)
    };
    let spare = match pause {
        Pause::Full => SPARE_PAGES,
        _ => (number("PRAGMA page_count")? / SPARE_SHARE).max(SPARE_PAGES),
    };
    let unused = number("PRAGMA freelist_count")?;
    if unused <= spare {
        return Ok(false);
    }
    let mut statement = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({SLICE_PAGES})"))?;
    let mut rows = statement.query(())?;
    // Each step releases one page. A file created without incremental vacuum releases none.
    let mut given_back = 0;
    while rows.next()?.is_some() {
        given_back += 1;
    }
    drop(rows);
    if given_back == 0 {
        return Ok(false);
    }
    count(connection, written)?;
    Ok(unused > spare + SLICE_PAGES)
}
