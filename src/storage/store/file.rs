//! The file and its directory, before the engine sees them and after it has given up on them.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::OpenError;

/// Messages are nobody's business but the broker's.
pub(super) const MODE: u32 = 0o600;

/// What everybody may do with a file that is not the owner or of the group.
const WORLD: u32 = 0o007;

/// What a database of mosquitto begins with.
const MOSQUITTO: &[u8] = b"\x00\xB5\x00mosquitto db";

/// More bytes than may be left where no page of the journal could be written.
const PROBE_LENGTH: usize = 8192;

/// What the engine puts beside the file.
const COMPANIONS: [&str; 2] = ["-wal", "-journal"];

/// Sees to it that there is a file that the engine can open. An existing one is not opened, because to close it again
/// would take away the locks that this process may have on it.
#[expect(clippy::disallowed_methods, reason = "a file that is made here need not be waited for")]
pub(super) fn prepare(path: &Path) -> Result<(), OpenError> {
    let directory = check_directory(path)?;
    let in_words = |why| OpenError::File { path: path.to_owned(), why };
    match OpenOptions::new().write(true).create_new(true).mode(MODE).open(path) {
        Ok(_) => return keep_names(directory).map_err(in_words),
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

/// The path of a file with no link in it.
pub(super) fn real(path: &Path) -> Result<PathBuf, OpenError> {
    path.canonicalize().map_err(|why| OpenError::File { path: path.to_owned(), why })
}

/// Makes the names in a directory durable: a file is of no use after a power cut if nobody finds it.
#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
fn keep_names(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// The directory of a file. The engine puts files of its own beside the one that is named, so the directory itself must
/// be open to it.
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
        in_words(format!("the broker's user can not write into it ({}); give it to that user", why.desc()))
    })?;
    Ok(directory)
}

/// Whether the system would write beside a file, but for what its user may take of the disk. The engine knows a disk
/// that is full, and takes this for one that has failed.
#[expect(clippy::disallowed_methods, reason = "a file that is made here need not be waited for")]
pub(super) fn lacks_quota(path: &Path) -> bool {
    let probe = beside(path, ".probe");
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&probe);
    let outcome = file.and_then(|file| file.write_all_at(&[0; PROBE_LENGTH], 0));
    // It may not be there.
    let _ = fs::remove_file(&probe);
    outcome.is_err_and(|error| matches!(error.kind(), ErrorKind::QuotaExceeded | ErrorKind::StorageFull))
}

/// What a file is that the engine takes for none of its own; `None` if that can not be seen.
#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
pub(super) fn foreign(path: &Path) -> Option<&'static str> {
    let mut beginning = [0; MOSQUITTO.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut beginning)).ok()?;
    (beginning == MOSQUITTO)
        .then_some("a database of mosquitto, which `brooklet import` can bring into a new file")
}

/// The paths of the file that the engine has open and of its journal, and which files these are.
#[derive(Debug)]
pub(super) struct Place {
    file: (PathBuf, Identity),
    /// `None` if there was none at the first look.
    journal: Option<(PathBuf, Identity)>,
}

/// A file, whatever its name: the number of its device, and its own number there.
type Identity = (u64, u64);

impl Place {
    /// Looks at what lies there now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let journal = journal(path);
        let journal = identity(&journal).ok().map(|identity| (journal, identity));
        Ok(Self { file: (path.to_owned(), identity(path)?), journal })
    }

    /// The file of the two that is gone, or is another one. Where that cannot be told, the next access shows it.
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

/// The journal of a file.
pub(super) fn journal(path: &Path) -> PathBuf {
    beside(path, COMPANIONS[0])
}

/// Moves a file away, and with it what the engine has put beside it. Tells where it lies then. Nobody may have it
/// open.
pub(super) fn set_aside(path: &Path, wall: u64) -> Result<PathBuf, OpenError> {
    let names = (0u32..).map(|count| beside(path, &aside_name(wall, count)));
    let aside =
        names.into_iter().find(|name| !name.exists()).expect("four thousand million names are enough");
    let rename = |from: &Path, to: &Path| match fs::rename(from, to) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(OpenError::File { path: from.to_owned(), why: error })
        }
        _ => Ok(()),
    };
    // What belongs to the file goes first: left behind it would be taken for a part of the next one.
    for companion in COMPANIONS {
        rename(&beside(path, companion), &beside(&aside, companion))?;
    }
    rename(path, &aside)?;
    Ok(aside)
}

fn aside_name(wall: u64, count: u32) -> String {
    if count == 0 { format!(".damaged-{wall}") } else { format!(".damaged-{wall}-{count}") }
}

/// The path with something behind its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}
