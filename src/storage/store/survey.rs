//! A look at the sessions of a store that changes nothing: no file of the store is written, and no lock is taken, so a
//! broker may use it meanwhile. Its file and its journal are put together in a copy, which SQLite then reads.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::beginning::Beginning;
use super::damage::{Damage, severed_in_words};
use super::error::{OpenError, Outcome, StoreError};
use super::listeners::Listeners;
use super::rows::{Present, Translation};
use super::wal::{self, Overlay, PAGE_SIZE};
use super::write::Marks;
use super::{Severed, anchor, file, load, schema};
use crate::core::journal::{Restored, SessionNumber};
use crate::storage::timeline::{Clocks, Timeline};

/// The largest store that is copied, in bytes and in pages.
const COPIED_MAXIMUM: u64 = 64 * 1024 * 1024;
const PAGES_MAXIMUM: u32 = 16 * 1024;
const _: () = assert!(COPIED_MAXIMUM == PAGES_MAXIMUM as u64 * PAGE_SIZE as u64);
/// How often the copy is tried while a broker writes.
const ATTEMPTS: usize = 5;

/// A session in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredQueue {
    /// Its Client Identifier.
    pub client_identifier: String,
    /// The name of the listener by which its client last came in.
    pub listener: String,
    /// How many messages wait in it or are in flight.
    pub messages: usize,
}

/// Returns the sessions in the store at a path that belong to listeners whose names begin with `listener`; none if there is
/// no store. If a copy is needed, it is made in the directory for temporary files. Not for a process that has the store
/// open: closing one of its files would release the locks on it.
///
/// # Errors
///
/// Why the store could not be read, in words for the operator.
pub fn survey(path: &Path, listener: &str, clocks: Clocks) -> Result<Vec<StoredQueue>, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.is_file() => return Err("it is not a file".to_owned()),
        Ok(_) => {}
    }
    let look = || {
        let path = path.canonicalize()?;
        if !(mentions(&path, listener)? || mentions(&file::journal(&path), listener)?) {
            return Ok(None);
        }
        Copy::of(&path).map(Some)
    };
    let Some(copy) = look().map_err(|why: io::Error| why.to_string())? else { return Ok(Vec::new()) };
    copy.queues(listener, clocks).map_err(|why| why.to_string())
}

/// Whether the store at a path holds nothing, or only what a start makes. No store holds nothing. As for [`survey`], a
/// broker may use it meanwhile, but not this process. `bridges` begins the names of listeners of bridges.
///
/// # Errors
///
/// Why the store could not be read, in words for the operator.
pub fn holds_nothing(path: &Path, bridges: &str, clocks: Clocks) -> Result<bool, String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.is_file() => return Err("it is not a file".to_owned()),
        // It was made, and nothing was written yet.
        Ok(found) if found.len() == 0 && !file::journal(path).exists() => return Ok(true),
        // It is not copied.
        Ok(found) if found.len() > COPIED_MAXIMUM => return Ok(false),
        Ok(_) => {}
    }
    let copy = path.canonicalize().and_then(|path| Copy::of(&path)).map_err(|why| why.to_string())?;
    let mut beginning = Beginning::default();
    let each = |restored, listeners: &Listeners| {
        beginning.take_note(restored, listeners.names(), bridges);
        if beginning.has_more() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let outcome = copy.load(clocks, &mut Damage::noting(), each);
    // It was stopped before the end.
    if beginning.has_more() {
        return Ok(false);
    }
    outcome.map(|()| true).map_err(|why| why.to_string())
}

/// Returns what an open of the store at a path would report as lost now: damaged rows and the damaged end of its journal,
/// each as what may follow "the store is". Like [`survey`], it changes nothing, and is not for a process that has the store
/// open. A large store is not read.
///
/// # Errors
///
/// Why the store could not be opened: another process uses it, it is damaged, or not of this version.
pub fn inspect(path: &Path, clocks: Clocks) -> Result<Vec<String>, OpenError> {
    let unreadable = |why| OpenError::File { path: path.to_owned(), why };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        metadata => metadata.map_err(unreadable)?,
    };
    if is_locked(&metadata) {
        return Err(OpenError::Locked(path.to_owned()));
    }
    if let Some(what) = file::foreign(path) {
        return Err(OpenError::Foreign(path.to_owned(), what));
    }
    if metadata.len() == 0 || metadata.len() > COPIED_MAXIMUM {
        return Ok(Vec::new());
    }
    let real = path.canonicalize().map_err(unreadable)?;
    let damaged = Copy::of(&real).map_err(unreadable)?.check(path, clocks)?;
    let severed = Some(wal::severed(&file::journal(&real))).filter(|severed| *severed != Severed::default());
    Ok(severed.map(severed_in_words).into_iter().chain(damaged).collect())
}

/// The first byte that SQLite locks in a file, and how many it uses.
const LOCKED_FIRST: u64 = 0x4000_0000;
const LOCKED_LENGTH: u64 = 512;

/// Whether a process has locked a file as SQLite does. The system lists its locks.
fn is_locked(file: &fs::Metadata) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| {
        // number: kind, advisory or not, read or write, process, device:device:inode, first byte, last byte
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [.., place, first, _] = words[..] else { return false };
        let inode = place.rsplit(':').next().and_then(|inode| inode.parse().ok());
        let first = first.parse::<u64>().ok();
        inode == Some(file.ino())
            && first.is_some_and(|first| (LOCKED_FIRST..LOCKED_FIRST + LOCKED_LENGTH).contains(&first))
    })
}

/// Whether a file has a text in one of its pages; not if there is no file. The names of listeners are too short to be
/// divided.
fn mentions(path: &Path, text: &str) -> io::Result<bool> {
    let Some(mut file) = open(path)? else { return Ok(false) };
    let mut page = [0; PAGE_SIZE];
    let mut length = 0;
    loop {
        let count = file.read(&mut page[length..])?;
        length += count;
        if count == 0 || length == PAGE_SIZE {
            if page[..length].windows(text.len()).any(|part| part == text.as_bytes()) {
                return Ok(true);
            }
            // The pages of a journal do not begin where those of a file do.
            page.copy_within(PAGE_SIZE - text.len().., 0);
            length = text.len();
        }
        if count == 0 {
            return Ok(false);
        }
    }
}

/// Opens a file of a store, if there is one.
#[expect(clippy::disallowed_methods, reason = "this floor may open files, and these belong to a store")]
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// A copy, which is removed when it is dropped.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        // It may never have been there.
        let _ = fs::remove_file(&self.0);
    }
}

impl Copy {
    fn of(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() > COPIED_MAXIMUM {
            return Err(io::Error::other(format!("it has more than {} MiB", COPIED_MAXIMUM >> 20)));
        }
        let name = format!("brooklet-{}.db", std::process::id());
        let copy = Self(std::env::temp_dir().join(name));
        for _ in 0..ATTEMPTS {
            let journal = read_journal(path)?;
            copy.write(path, &wal::overlay(&journal))?;
            // What was brought into the file meanwhile was in the journal, unless that has changed as well.
            if read_journal(path)? == journal {
                return Ok(copy);
            }
        }
        Err(io::Error::other("a broker writes into it all the time"))
    }

    /// Writes the pages of a file, or those of its journal where it has them.
    #[expect(clippy::disallowed_methods, reason = "this floor may open files, and the copy is a new one")]
    fn write(&self, path: &Path, overlay: &Overlay<'_>) -> io::Result<()> {
        let _ = fs::remove_file(&self.0);
        let mut from = open(path)?.ok_or(ErrorKind::NotFound)?.take(COPIED_MAXIMUM);
        let into = OpenOptions::new().write(true).create_new(true).mode(file::MODE).open(&self.0)?;
        let mut into = BufWriter::new(into);
        let length = overlay.length().unwrap_or(PAGES_MAXIMUM).min(PAGES_MAXIMUM);
        for number in 1..=length {
            // SQLite need not write pages that are unused.
            let mut page = [0; PAGE_SIZE];
            let is_there = from.read_exact(&mut page).is_ok();
            match overlay.page(number) {
                Some(newer) => page.copy_from_slice(newer),
                None if !is_there && overlay.length().is_none() => break,
                None => {}
            }
            if number == 1 {
                // The copy has no journal.
                page[schema::JOURNAL_MODE].fill(schema::WITHOUT_JOURNAL);
            }
            into.write_all(&page)?;
        }
        into.flush()
    }

    fn queues(&self, listener: &str, clocks: Clocks) -> Outcome<Vec<StoredQueue>> {
        let mut queues = BTreeMap::<SessionNumber, StoredQueue>::new();
        self.load(clocks, &mut Damage::noting(), |restored, listeners| {
            match restored {
                Restored::Session(session) => {
                    let name = listeners.names().nth(session.listener.0.into());
                    if let Some(name) = name.filter(|name| name.starts_with(listener)) {
                        let client_identifier = session.client_identifier;
                        let queue = StoredQueue { client_identifier, listener: name.to_owned(), messages: 0 };
                        queues.insert(session.number, queue);
                    }
                }
                Restored::Waiting { sessions, in_flight, .. } => {
                    for number in sessions.iter().chain(&in_flight) {
                        if let Some(queue) = queues.get_mut(number) {
                            queue.messages += 1;
                        }
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(queues.into_values().collect())
    }

    /// Checks what an open of the store at `path` would check, of which this is a copy. Returns what it would report.
    fn check(&self, path: &Path, clocks: Clocks) -> Result<Vec<String>, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let in_words = |error: StoreError| error.about(path);
        let connection = Connection::open_with_flags(&self.0, flags).map_err(|why| in_words(why.into()))?;
        schema::identify(&connection, path)?;
        let mut damage = Damage::noting();
        damage.check_structure(&connection).map_err(in_words)?;
        drop(connection);
        self.load(clocks, &mut damage, |_, _| ControlFlow::Continue(())).map_err(in_words)?;
        Ok(damage.into_notes())
    }

    /// Passes on what it holds; nothing if it has an older layout.
    fn load(
        &self,
        clocks: Clocks,
        damage: &mut Damage,
        mut each: impl FnMut(Restored, &Listeners) -> ControlFlow<()>,
    ) -> Outcome<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.0, flags)?;
        connection.query_row("PRAGMA journal_mode = MEMORY", (), |_| Ok(()))?;
        if !schema::is_current(&connection)? {
            return Ok(());
        }
        let listeners = Listeners::read(&connection, &[])?;
        let marks = Marks::read(&connection)?;
        let timeline = Timeline::resume(anchor::read(&connection)?, clocks);
        let translation = Translation { present: Present::new(clocks.now, &timeline), listeners: &listeners };
        let mut each = |restored| each(restored, &listeners);
        load::load(&mut connection, translation, (marks, damage), &mut each)
    }
}

/// The journal of a store; empty if there is none.
fn read_journal(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(journal) = open(&file::journal(path))? {
        journal.take(COPIED_MAXIMUM).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
