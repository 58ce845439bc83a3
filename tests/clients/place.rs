//! A directory with a store, for brokers that start with it one after another.

use std::fs;
use std::path::PathBuf;

use crate::server::{Server, brooklet};

/// The directory. It is removed when this is dropped.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("brooklet-place-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    /// Writes the configuration, with these further lines. When started as root, the broker would otherwise switch to
    /// a user that cannot read the directory.
    pub(crate) fn configure(&self, lines: &str) {
        self.configure_for("root", lines);
    }

    /// Writes it for a broker that switches to this user.
    #[expect(clippy::disallowed_methods, reason = "a test may write files")]
    pub(crate) fn configure_for(&self, user: &str, lines: &str) {
        let text = format!(
            "user {user}\npersistence true\npersistence_location {}\nallow_anonymous true\n{lines}",
            self.0.display()
        );
        fs::write(self.0.join("conf"), text).expect("a file can be written");
    }

    pub(crate) fn serve(&self) -> Server {
        let mut command = brooklet();
        command.arg("-c").arg(self.0.join("conf"));
        Server::follow(command)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends a broker, which must exit normally.
pub(crate) fn end(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait_for_end().0, Some(0));
}
