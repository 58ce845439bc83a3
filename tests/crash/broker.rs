//! The broker of a round: one directory, and a series of processes that use it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::disk::CALLS;
use crate::server::{Server, brooklet};

/// Whether a file of the broker's directory only reserves space.
pub fn is_ballast(name: &str) -> bool {
    name.ends_with(".ballast")
}

/// A directory in which brokers are started and killed.
pub struct Place {
    directory: PathBuf,
    lives: usize,
    /// Whether the brokers' changes to files are recorded.
    pub is_traced: bool,
}

impl Place {
    /// Creates a directory, with these further configuration lines.
    pub fn new(name: &str, configuration: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-crash-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("data")).expect("a directory can be made");
        let place = Self { directory, lives: 0, is_traced: false };
        place.configure(configuration);
        place
    }

    /// Writes the configuration.
    #[expect(clippy::disallowed_methods, reason = "the broker reads a file")]
    fn configure(&self, configuration: &str) {
        let data = self.data();
        let text = format!(
            "listener 0 127.0.0.1\nallow_anonymous true\nuser root\nsys_interval 0\n\
             persistence true\npersistence_location {}\n{configuration}",
            data.display()
        );
        fs::write(self.configuration(), text).expect("a file can be written");
    }

    /// The directory of the broker's files.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn configuration(&self) -> PathBuf {
        self.directory.join("brooklet.conf")
    }

    /// The command that starts the broker, under `strace` if it is traced, which records its changes to files. The
    /// process is the broker's in both cases, and its standard error ends when everything is recorded.
    pub fn command(&mut self) -> Command {
        self.lives += 1;
        let broker = brooklet();
        let mut command = if self.is_traced { Command::new("strace") } else { brooklet() };
        if self.is_traced {
            let _ = fs::remove_file(self.trace());
            command.args(["-D", "-f", "-y", "-xx", "-s", "1000000", "-e", CALLS, "-e", "signal=none", "-o"]);
            command.arg(self.trace()).arg(broker.get_program());
            command.stdin(Stdio::null()).env_remove("RUST_LOG");
        }
        command.arg("-c").arg(self.configuration());
        command
    }

    fn trace(&self) -> PathBuf {
        self.directory.join("trace")
    }

    /// The recorded calls of the traced broker that has ended; nothing, if it was killed before it did anything.
    pub fn read_trace(&self) -> String {
        fs::read_to_string(self.trace()).unwrap_or_default()
    }

    /// Starts a broker and waits until it serves. The files that it finds are copied beside its own.
    pub fn start(&mut self) -> Server {
        let found = self.directory.join(format!("found-{}", self.lives + 1));
        fs::create_dir_all(&found).expect("a directory can be made");
        for entry in fs::read_dir(self.data()).expect("the directory can be read") {
            let entry = entry.expect("the directory can be read");
            if is_ballast(&entry.file_name().to_string_lossy()) {
                continue;
            }
            fs::copy(entry.path(), found.join(entry.file_name())).expect("a file can be copied");
        }
        Server::follow(self.command())
    }

    /// Starts a broker and kills it during the start, or soon after.
    pub fn start_and_kill(&mut self, after: Duration) {
        let mut child = self.command().stderr(Stdio::piped()).spawn().expect("the binary can be started");
        // A tracer whose broker is gone before tracing has begun never ends.
        while self.is_traced && self.read_trace().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(after);
        child.kill().expect("a child can be killed");
        child.wait_with_output().expect("a child can be waited for");
    }

    /// Saves the log of a broker that was killed or has ended, beside its file.
    pub fn save_log(&self, lines: &[String]) {
        self.save(&format!("log-{}", self.lives), lines);
    }

    /// Saves some lines beside the broker's file.
    #[expect(clippy::disallowed_methods, reason = "it is for a reader")]
    pub fn save(&self, name: &str, lines: &[String]) {
        fs::write(self.directory.join(name), lines.join("\n")).expect("a file can be written");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("its remains are in {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
