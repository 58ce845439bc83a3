//! Going into the background (`-d`). The command that was called starts the program once more and waits until it runs or has
//! failed, so that it can report that: its exit code and standard error are those of the start.

use std::env;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Set in the environment of the program that goes into the background.
const MARK: &str = "BROOKLET_GOES_INTO_BACKGROUND";

/// Whether this is the program that goes into the background.
pub fn is_going() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts the program once more, and returns the exit code of its start.
///
/// # Errors
///
/// The system refuses.
pub fn start() -> io::Result<u8> {
    /// The start has failed without a word about the exit code.
    const FAILURE: u8 = 1;
    let mut arguments = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let command = command.args(arguments).env(MARK, "true").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut code = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(1).read_to_end(&mut code)?;
    }
    if let [code] = code[..] {
        return Ok(code);
    }
    // It ended before it went into the background, or was killed.
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.filter(|&code| code != 0).unwrap_or(FAILURE))
}

/// The way back to the command that waits for the start.
#[derive(Debug)]
pub struct Background {
    code: File,
    errors: File,
}

impl Background {
    /// Continues in a child of this process, without a terminal and in the same directory. Only for a process without other
    /// threads, which would not be in the child.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn enter() -> io::Result<Self> {
        let code = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let errors = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        nix::unistd::daemon(true, false)?;
        Ok(Self { code, errors })
    }

    /// Writes an error of the start to the standard error of the command.
    pub fn report(&mut self, error: &str) {
        // If this fails, there is no other place for it.
        let _ = writeln!(self.errors, "Error: {error}");
    }

    /// Lets the command end with this exit code. Nothing more can be reported.
    pub fn end(mut self, code: u8) {
        let _ = self.code.write_all(&[code]);
    }
}
