//! A directory for the configuration and the store of one broker.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::secure;
use crate::server::{Server, brooklet};

/// It is removed when this is dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("brooklet-{name}-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the directory is new");
        Self(path)
    }

    #[cfg(all(feature = "passwords", feature = "system"))]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Starts a broker that has its store here, on a port that the system chooses, with these additional configuration
    /// lines.
    pub fn serve(&self, lines: &str) -> Server {
        let configuration = self.0.join("brooklet.conf");
        let text = format!(
            "user root\nallow_anonymous true\npersistence true\npersistence_location {}/\nlistener 0 127.0.0.1\n{lines}",
            self.0.display(),
        );
        write(&configuration, &text);
        let mut command = brooklet();
        command.arg("-c").arg(configuration);
        Server::follow(command)
    }

    /// Configuration lines for a listener with TLS; creates the certificate that it needs.
    pub fn tls_listener(&self, port: u16) -> String {
        secure::issue(&self.0);
        let path = self.0.display();
        format!("listener {port} 127.0.0.1\ncertfile {path}/tls.crt\nkeyfile {path}/tls.key\n")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The directory is removed for tidiness only.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[expect(clippy::disallowed_methods, reason = "tests write files")]
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the file can be written");
}

pub fn unused_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address")
}
