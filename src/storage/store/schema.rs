//! The connection to the file: its options, its tables, and the migration of older layouts to the current one.

use std::fmt::Display;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::error::Outcome;
use super::tables::{self, LISTENER};
use super::{OpenError, STATEMENTS_MAXIMUM, StoreError, anchor, file};
use crate::settings::ListenerName;
use crate::storage::timeline::Anchor;

/// The bytes of a file that say whether it has a journal, and their value if it has none.
pub(super) const JOURNAL_MODE: std::ops::Range<usize> = 18..20;
pub(super) const WITHOUT_JOURNAL: u8 = 1;

/// Marks a file as a broker's store.
const APPLICATION: i64 = 0x42_72_6B_6C;

/// Size of SQLite's page cache, in KiB.
pub(super) const CACHE_KIB: u16 = 1024;

/// The statements that lead from each version of the layout to the next. The first one starts from an empty file.
/// Statements never change once they have been released.
const STEPS: [&str; 3] = [VERSION_1, VERSION_2, VERSION_3];

/// All publications have the columns from `expires` to `payload`, see [`rows`](super::rows). Times are milliseconds
/// on the [`timeline`](crate::storage::timeline), and null means never. In this version they were milliseconds since
/// 1970.
const VERSION_1: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE session (
        id INTEGER PRIMARY KEY, client_identifier TEXT NOT NULL, user_name TEXT, listener INTEGER NOT NULL,
        expiry_interval INTEGER NOT NULL, is_away INTEGER NOT NULL, ends INTEGER, sent_until INTEGER,
        will_delay INTEGER, will_due INTEGER,
        expires INTEGER, flags INTEGER, topic TEXT, publisher TEXT, properties BLOB, payload BLOB
    );
    CREATE TABLE sub (
        session INTEGER NOT NULL, filter TEXT NOT NULL, flags INTEGER NOT NULL, identifier INTEGER NOT NULL,
        PRIMARY KEY (session, filter)
    ) WITHOUT ROWID;
    CREATE TABLE msg (
        id INTEGER PRIMARY KEY, recipients BLOB NOT NULL,
        expires INTEGER, flags INTEGER NOT NULL, topic TEXT NOT NULL, publisher TEXT, properties BLOB NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE TABLE done (
        msg INTEGER NOT NULL, session INTEGER NOT NULL, PRIMARY KEY (msg, session)
    ) WITHOUT ROWID;
    CREATE TABLE in2 (
        session INTEGER NOT NULL, identifier INTEGER NOT NULL, PRIMARY KEY (session, identifier)
    ) WITHOUT ROWID;
    CREATE TABLE out2 (
        session INTEGER NOT NULL, identifier INTEGER NOT NULL, msg INTEGER NOT NULL, is_released INTEGER NOT NULL,
        PRIMARY KEY (session, identifier)
    ) WITHOUT ROWID;
    CREATE TABLE retained (
        id INTEGER PRIMARY KEY,
        expires INTEGER, flags INTEGER NOT NULL, topic TEXT NOT NULL UNIQUE, publisher TEXT,
        properties BLOB NOT NULL, payload BLOB NOT NULL
    );
";

/// Listeners have names; before, they were known by their positions in the settings. The store also records which
/// User Names were proved, and which ended sessions have left messages to other members of Shared Subscriptions. A
/// copy in `done` without an identifier is settled; otherwise the identifier is the Packet Identifier of its QoS 1
/// delivery, which has begun. There is a timeline. A message has the lifetime that was left when it was stored, in
/// milliseconds, or null for no end. Every row has a [checksum](super::tables), for which [`MADE_ANEW`] runs after
/// this.
const VERSION_2: &str = "
    CREATE TABLE listener (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, sum INTEGER NOT NULL
    );
    ALTER TABLE session ADD COLUMN is_proved INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE former (session INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
    CREATE TABLE timeline (
        id INTEGER PRIMARY KEY, moment INTEGER NOT NULL, wall INTEGER NOT NULL, boot BLOB, uptime INTEGER,
        sum INTEGER NOT NULL
    );
    ALTER TABLE msg ADD COLUMN lifetime INTEGER;
    ALTER TABLE retained ADD COLUMN lifetime INTEGER;
    ALTER TABLE done ADD COLUMN identifier INTEGER;
";

/// What bridges are owed, by their Client Identifiers.
const VERSION_3: &str = "
    CREATE TABLE owed (
        client_identifier TEXT NOT NULL, topic TEXT NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (client_identifier, topic)
    ) WITHOUT ROWID;
";

/// The tables that version 2 creates anew, so that checksums do not follow payloads, which would have to be read to
/// reach them.
const MADE_ANEW: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE session (
        id INTEGER PRIMARY KEY, client_identifier TEXT NOT NULL, user_name TEXT, listener INTEGER NOT NULL,
        expiry_interval INTEGER NOT NULL, is_away INTEGER NOT NULL, ends INTEGER, sent_until INTEGER,
        will_delay INTEGER, will_due INTEGER, is_proved INTEGER NOT NULL, sum INTEGER NOT NULL,
        expires INTEGER, flags INTEGER, topic TEXT, publisher TEXT, properties BLOB, payload BLOB
    );
    CREATE TABLE sub (
        session INTEGER NOT NULL, filter TEXT NOT NULL, flags INTEGER NOT NULL, identifier INTEGER NOT NULL,
        sum INTEGER NOT NULL, PRIMARY KEY (session, filter)
    ) WITHOUT ROWID;
    CREATE TABLE msg (
        id INTEGER PRIMARY KEY, recipients BLOB NOT NULL, payload_sum INTEGER NOT NULL, sum INTEGER NOT NULL,
        lifetime INTEGER, expires INTEGER, flags INTEGER NOT NULL, topic TEXT NOT NULL, publisher TEXT,
        properties BLOB NOT NULL, payload BLOB NOT NULL
    );
    CREATE TABLE done (
        msg INTEGER NOT NULL, session INTEGER NOT NULL, identifier INTEGER, sum INTEGER NOT NULL,
        PRIMARY KEY (msg, session)
    ) WITHOUT ROWID;
    CREATE TABLE in2 (
        session INTEGER NOT NULL, identifier INTEGER NOT NULL, sum INTEGER NOT NULL,
        PRIMARY KEY (session, identifier)
    ) WITHOUT ROWID;
    CREATE TABLE out2 (
        session INTEGER NOT NULL, identifier INTEGER NOT NULL, msg INTEGER NOT NULL, is_released INTEGER NOT NULL,
        sum INTEGER NOT NULL, PRIMARY KEY (session, identifier)
    ) WITHOUT ROWID;
    CREATE TABLE retained (
        id INTEGER PRIMARY KEY, sum INTEGER NOT NULL,
        lifetime INTEGER, expires INTEGER, flags INTEGER NOT NULL, topic TEXT NOT NULL UNIQUE, publisher TEXT,
        properties BLOB NOT NULL, payload BLOB NOT NULL
    );
";

/// A file that this process has locked and not changed yet.
pub(super) struct Taken {
    connection: Connection,
    version: i64,
}

/// Opens the file and locks it for this process alone.
pub(super) fn take(path: &Path) -> Result<Taken, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| refusal(path, error))?;
    let version = identify(&connection, path)?;
    Ok(Taken { connection, version })
}

impl Taken {
    /// Migrates the file to the current layout. If it has no timeline, one begins with the anchor `first`.
    pub(super) fn bring_up(
        self,
        path: &Path,
        present: &[ListenerName],
        first: Anchor,
    ) -> Result<Connection, OpenError> {
        let Self { mut connection, version } = self;
        let outcome = set_up(&connection).and_then(|()| migrate(&mut connection, version, present, first));
        match outcome {
            Ok(()) => Ok(connection),
            Err(error) if version < known() && lacks_room(path, &error) => Err(no_room(path)),
            Err(error) => Err(refusal(path, error)),
        }
    }

    /// Like [`Taken::bring_up`], for a file that had the current layout before.
    pub(super) fn go_on(self, path: &Path) -> Result<Connection, OpenError> {
        if self.version != known() {
            return Err(StoreError::Damaged("it is not the same file as before".to_owned()).about(path));
        }
        set_up(&self.connection).map_err(|error| refusal(path, error))?;
        Ok(self.connection)
    }
}

/// Whether the disk is full or the user's quota is exhausted.
fn lacks_room(path: &Path, error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};

    match error.sqlite_error_code() {
        Some(DiskFull) => true,
        Some(SystemIoFailure) => file::lacks_quota(path),
        _ => false,
    }
}

/// The changes of a migration go to the journal first: at most every page, some of them twice, and a little for what
/// is new.
fn no_room(path: &Path) -> OpenError {
    const LITTLE: u64 = 1024 * 1024;
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    OpenError::NoRoom { path: path.to_owned(), enough: length.saturating_mul(2).saturating_add(LITTLE) }
}

/// The latest version of the layout that this broker knows.
fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Returns why SQLite has not opened the file.
fn refusal(path: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseBusy, NotADatabase};

    match error.sqlite_error_code() {
        Some(DatabaseBusy) => OpenError::Locked(path.to_owned()),
        Some(NotADatabase) if let Some(what) = file::foreign(path) => {
            OpenError::Foreign(path.to_owned(), what)
        }
        _ => StoreError::from(error).about(path),
    }
}

/// Locks the file and returns the version of its layout, zero for an empty file. Nothing is written, because the file
/// may belong to another program.
pub(super) fn identify(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let number = |query: &str| {
        connection.query_row(query, (), |row| row.get::<_, i64>(0)).map_err(|error| refusal(path, error))
    };
    connection.busy_timeout(std::time::Duration::ZERO).map_err(|error| refusal(path, error))?;
    // Before anything else: then SQLite needs no memory shared with other processes, on disk or otherwise.
    connection
        .query_row("PRAGMA locking_mode = EXCLUSIVE", (), |_| Ok(()))
        .map_err(|error| refusal(path, error))?;
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let known = known();
    match application {
        APPLICATION if version > known => {
            Err(OpenError::Newer { path: path.to_owned(), versions: (version, known) })
        }
        APPLICATION if version < 1 => Err(StoreError::nonsense("the number of its layout").about(path)),
        APPLICATION => Ok(version),
        0 if version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 => Ok(0),
        _ => Err(OpenError::Foreign(path.to_owned(), "a database of another program")),
    }
}

/// Whether a file is a store with the current layout. One that is no store, or that a later version has made, is an error.
pub(super) fn is_current(connection: &Connection) -> Outcome<bool> {
    let number = |query: &str| connection.query_row(query, (), |row| row.get::<_, i64>(0));
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    if version > known() || application != APPLICATION && version > 0 {
        return Err(StoreError::Other("it is not a store of this version".to_owned()));
    }
    Ok(application == APPLICATION && version == known())
}

/// Names the listeners, which were known by their positions in the settings, after those in the current settings.
/// Where no listener has the position, a User Name counts as proved, so that no other user gets its session.
fn name_listeners(connection: &Connection, present: &[ListenerName]) -> rusqlite::Result<()> {
    connection.execute("UPDATE session SET is_proved = user_name IS NOT NULL", ())?;
    for (place, listener) in (0_i64..).zip(present) {
        LISTENER.put(connection, params![place, listener.name])?;
        if !listener.proves_names {
            connection.execute("UPDATE session SET is_proved = 0 WHERE listener = ?", [place])?;
        }
    }
    Ok(())
}

/// Copies every table, with checksums added.
fn sum_up(connection: &Connection) -> rusqlite::Result<()> {
    for table in tables::of_version_1() {
        connection.execute_batch(&format!("ALTER TABLE {0} RENAME TO old_{0}", table.name))?;
    }
    connection.execute_batch(MADE_ANEW)?;
    for table in tables::of_version_1() {
        let old = format!("old_{}", table.name);
        tables::copy(connection, &old, table)?;
        connection.execute_batch(&format!("DROP TABLE {old}"))?;
    }
    Ok(())
}

/// The order matters: the page size and incremental vacuum must be chosen before the first page is written.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAXIMUM);
    choose(connection, "page_size", &super::upkeep::PAGE_SIZE)?;
    choose(connection, "auto_vacuum", &"INCREMENTAL")?;
    choose(connection, "journal_mode", &"WAL")?;
    choose(connection, "synchronous", &"FULL")?;
    choose(connection, "cache_size", &-i64::from(CACHE_KIB))?;
    // Commits never wait for a checkpoint: checkpoints are done between them.
    choose(connection, "wal_autocheckpoint", &0)?;
    choose(connection, "journal_size_limit", &super::JOURNAL_BYTES_MAXIMUM)?;
    choose(connection, "temp_store", &"MEMORY")
}

/// Sets an option of SQLite. Some options answer with their new value.
fn choose(connection: &Connection, option: &str, value: &dyn Display) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("PRAGMA {option} = {value}"))
}

/// Performs the remaining steps in one transaction, so that a crash or a full disk leaves the file as it was.
fn migrate(
    connection: &mut Connection,
    version: i64,
    present: &[ListenerName],
    first: Anchor,
) -> rusqlite::Result<()> {
    if version == known() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (step, reached) in STEPS.iter().zip(1..).filter(|(_, reached)| *reached > version) {
        transaction.execute_batch(step)?;
        if (version, reached) == (1, 2) {
            name_listeners(&transaction, present)?;
        }
        if reached == 2 {
            sum_up(&transaction)?;
            anchor::write(first, &transaction)?;
        }
    }
    choose(&transaction, "application_id", &APPLICATION)?;
    choose(&transaction, "user_version", &known())?;
    transaction.commit()
}
