//! The file and its directory, as seen by the system: the checks before SQLite opens the file, and what is done about
//! it after SQLite has failed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::OpenError;

/// The mode of new files: only the broker may read messages.
pub(super) const MODE: u32 = 0o600;

/// The permissions of users other than the owner and the group.
const WORLD: u32 = 0o007;

/// The first bytes of a database of mosquitto.
const MOSQUITTO: &[u8] = b"\x00\xB5\x00mosquitto db";

/// Bytes to write as a test. More than may be left where no page of the journal fits.
const PROBE_LENGTH: usize = 8192;

/// The endings of the files that SQLite creates next to the database.
const COMPANIONS: [&str; 2] = ["-wal", "-journal"];

/// Makes sure that there is a file that SQLite can open. An existing file is not opened here, because closing it
/// would release the locks that this process may hold on it.
#[expect(clippy::disallowed_methods, reason = "opening a file that is created here never blocks")]
pub(super) fn prepare(path: &Path) -> Result<(), OpenError> {
    let directory = check_directory(path)?;
    let in_words = |why| OpenError::File { path: path.to_owned(), why };
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => return sync_names(directory).map_err(in_words),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(in_words(error)),
    }
    let file = fs::metadata(path).map_err(in_words)?;
    if !file.is_file() {
        return Err(in_words(io::Error::other("it is not a file")));
    }
    if file.mode() & WORLD != 0 {
        let mode = file.mode() & !WORLD;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(in_words)?;
    }
    access(path, AccessFlags::R_OK | AccessFlags::W_OK).map_err(|why| in_words(why.into()))
}

/// Resolves all symbolic links in the path of a file.
pub(super) fn real(path: &Path) -> Result<PathBuf, OpenError> {
    path.canonicalize().map_err(|why| OpenError::File { path: path.to_owned(), why })
}

/// Makes the file names in a directory durable. After a power cut a file is of no use if its name is lost.
#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
fn sync_names(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// Returns the directory of a file after checking it. SQLite creates files of its own in it, so the broker must be
/// able to write to the directory itself.
fn check_directory(path: &Path) -> Result<&Path, OpenError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let in_words = |why: String| OpenError::Directory { path: directory.to_owned(), why };
    let found = fs::metadata(directory).map_err(|error| {
        in_words(format!(
            "{error}, expected the directory of persistence_location; make it for the broker's user"
        ))
    })?;
    if !found.is_dir() {
        return Err(in_words("it is not a directory, expected that of persistence_location".to_owned()));
    }
    let rights = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    access(directory, rights).map_err(|why| {
        in_words(format!("the broker's user cannot write into it ({}); give it to that user", why.desc()))
    })?;
    Ok(directory)
}

/// Whether a disk quota is the reason that the system does not write. SQLite recognises a full disk, but takes an
/// exhausted quota for a failure of the disk.
#[expect(clippy::disallowed_methods, reason = "opening a file that is created here never blocks")]
pub(super) fn lacks_quota(path: &Path) -> bool {
    let probe = beside(path, ".probe");
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&probe);
    let outcome = file.and_then(|file| file.write_all_at(&[0; PROBE_LENGTH], 0));
    // It may not exist.
    let _ = fs::remove_file(&probe);
    outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::QuotaExceeded | ErrorKind::StorageFull))
}

/// Describes a file that SQLite does not recognise as a database. `None` if its kind is unknown.
pub(super) fn foreign(path: &Path) -> Option<&'static str> {
    is_database_of_mosquitto(path)
        .then_some("a database of mosquitto, which `brooklet import` can bring into a new file")
}

/// Whether there is a database of mosquitto at a path. Not for the path of a store that this process has open.
#[expect(clippy::disallowed_methods, reason = "this floor may open files, and anything else is not opened")]
pub fn is_database_of_mosquitto(path: &Path) -> bool {
    let mut beginning = [0; MOSQUITTO.len()];
    let is_file = fs::metadata(path).is_ok_and(|file| file.is_file());
    is_file
        && fs::File::open(path).and_then(|mut file| file.read_exact(&mut beginning)).is_ok()
        && beginning == MOSQUITTO
}

/// Renames a new store that no process has open to `path`, where no store may be.
///
/// # Errors
///
/// The system refuses, or the new store was not closed properly.
pub fn replace(new: &Path, path: &Path) -> io::Result<()> {
    if journal(new).exists() {
        return Err(io::Error::other("the new store has a journal"));
    }
    fs::rename(new, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_names(directory.unwrap_or(Path::new(".")))
}

/// The paths of the open database and of its journal, and the identity of both files.
#[derive(Debug)]
pub(super) struct Place {
    file: (PathBuf, Identity),
    /// `None` if there was no journal at the first look.
    journal: Option<(PathBuf, Identity)>,
}

/// Identifies a file whatever its name: the number of its device and its inode.
type Identity = (u64, u64);

impl Place {
    /// Records which files are there now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let journal = journal(path);
        let journal = identity(&journal).ok().map(|identity| (journal, identity));
        Ok(Self { file: (path.to_owned(), identity(path)?), journal })
    }

    /// Returns the path of the first of the two files that is gone or has been replaced. If that cannot be found out,
    /// the next access to the file will show it.
    pub(super) fn lost(&self) -> Option<&Path> {
        let files = std::iter::once(&self.file).chain(&self.journal);
        let is_lost = |(path, was): &&(PathBuf, Identity)| match identity(path) {
            Ok(is) => is != *was,
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        files.filter(is_lost).map(|(path, _)| path.as_path()).next()
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Returns the path of a database's journal.
pub(super) fn journal(path: &Path) -> PathBuf {
    beside(path, COMPANIONS[0])
}

/// Renames a file and the files that SQLite has created for it. Returns the new path. No process may have the file
/// open.
pub(super) fn set_aside(path: &Path, wall: u64) -> Result<PathBuf, OpenError> {
    let names = (0u32..).map(|count| beside(path, &aside_name(wall, count)));
    let aside = names.into_iter().find(|name| !name.exists()).expect("one of 2^32 names is free");
    let rename = |from: &Path, to: &Path| match fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(OpenError::File { path: from.to_owned(), why: error })
        }
        _ => Ok(()),
    };
    // The companions come first: left where they are, they would be taken for parts of the next file.
    for companion in COMPANIONS {
        rename(&beside(path, companion), &beside(&aside, companion))?;
    }
    rename(path, &aside)?;
    Ok(aside)
}

fn aside_name(wall: u64, count: u32) -> String {
    if count == 0 { format!(".damaged-{wall}") } else { format!(".damaged-{wall}-{count}") }
}

/// Appends an ending to the name of a file.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}
