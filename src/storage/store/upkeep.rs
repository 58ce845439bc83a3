//! What keeps the file in shape while nobody waits: the journal goes back into the file, pages that are not used go
//! back to the system. And what that and the commits have cost.

use rusqlite::Connection;

use super::StoreError;

/// Bytes of a page: a block of the file system, so that a write that is torn hits nothing but what the journal holds.
pub(super) const PAGE_SIZE: u64 = 4096;

/// Bytes of a page in the journal.
const FRAME_SIZE: u64 = PAGE_SIZE + 24;

/// Bytes that the journal keeps on disk when it is empty. One transaction may be larger for a while.
pub const JOURNAL_BYTES_MAXIMUM: u64 = 8 * 1024 * 1024;

/// Pages in the journal from which on it goes back into the file: between two batches, and where there is none. Not
/// sooner, since a page that changes often goes back once for many times that it is in the journal.
const JOURNAL_PAGES_BETWEEN: u64 = 1000;
const JOURNAL_PAGES_IDLE: u64 = 250;

/// Unused pages that are kept, because they will be needed again, and how many of the pages of a file may be.
const SPARE_PAGES: u64 = 256;
const SPARE_SHARE: u64 = 4;

/// Pages that are given back at one time.
const SLICE_PAGES: u64 = 256;

/// What a store has written since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Transactions.
    pub commits: u64,
    /// Bytes, as exactly as it can be known: all that went into the journal, and what went from there into the file as
    /// if no page had been in the journal twice.
    pub bytes: u64,
    /// Pages in the journal, and those of them that are in the file as well.
    journal: Journal,
}

/// How full the journal is, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Journal {
    pages: u64,
    /// The first ones, which are in the file as well.
    copied: u64,
}

/// Where the journal may go back into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Between two batches: the next one waits.
    BetweenBatches,
    /// Where there is none.
    Idle,
    /// The disk has no room for the journal to grow: it starts from its beginning again once all of it is in the file.
    Full,
}

/// Begins to count, with the journal as it is.
pub(super) fn begin(connection: &Connection) -> Result<Written, StoreError> {
    Ok(Written { journal: run(connection, "PRAGMA wal_checkpoint(NOOP)")?, ..Written::default() })
}

/// Counts what a commit has written.
pub(super) fn count(connection: &Connection, written: &mut Written) -> Result<(), StoreError> {
    written.commits += 1;
    let journal = run(connection, "PRAGMA wal_checkpoint(NOOP)")?;
    let before = written.journal;
    // A journal whose pages are all in the file begins anew.
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

/// Brings the journal into the file, if it is time.
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

/// Gives some unused pages back, or more of them if the disk is full. Tells whether there are more.
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
    // Each step gives one page back; none does in a file that was made without the means for it.
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
