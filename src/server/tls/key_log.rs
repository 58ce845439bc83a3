//! Writes the keys of TLS connections to a file, in the format of network analysers. This happens only if the operator
//! names a file. The file is created when the first key is written, for its owner alone.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use log::error;

use crate::base::files;

/// The mode of the file: its owner alone may read it.
const MODE: u32 = 0o600;

/// A file that keys are written to.
#[derive(Debug)]
pub(super) struct KeyLog {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(File),
    /// It could not be written, which has been logged.
    Failed,
}

impl KeyLog {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), state: Mutex::new(State::Closed) }
    }

    fn write(&self, state: &mut State, line: &str) -> io::Result<()> {
        if let State::Closed = state {
            *state = State::Open(files::append(&self.path, MODE)?);
        }
        match state {
            State::Open(file) => file.write_all(line.as_bytes()),
            State::Closed | State::Failed => Ok(()),
        }
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = label.to_owned();
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                // Writing to a `String` does not fail.
                let _ = write!(line, "{byte:02x}");
            }
        }
        line.push('\n');
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = self.write(&mut state, &line) {
            *state = State::Failed;
            error!("Error: unable to write the keys of TLS connections to {}: {why}.", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::KeyLog as _;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_appended_and_only_the_owner_of_the_file_can_read_them() {
        let path = std::env::temp_dir().join(format!("brooklet-keys-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let keys = KeyLog::new(&path);
        assert!(!path.exists(), "it is made when there is something to be written");
        keys.log("CLIENT_RANDOM", &[0, 255], &[16]);
        KeyLog::new(&path).log("EXPORTER_SECRET", &[1], &[2, 3]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "CLIENT_RANDOM 00ff 10\nEXPORTER_SECRET 01 0203\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        let nowhere = KeyLog::new(Path::new("/no/where/keys"));
        nowhere.log("CLIENT_RANDOM", &[0], &[1]);
        assert!(matches!(*nowhere.state.lock().unwrap(), State::Failed));
    }
}
