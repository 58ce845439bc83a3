//! Syslog. Lines are sent to it one by one, without waiting.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::cut;

/// The socket of the syslog daemon.
const DEVICE: &str = "/dev/log";

/// A connection to syslog. Lines that it does not accept at once are lost.
#[derive(Debug)]
pub(super) struct Syslog {
    facility: u8,
    device: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// With a facility from local0 to local7, or `None` for daemon.
    pub(super) fn new(local: Option<u8>) -> Self {
        Self { facility: local.map_or(3, |local| 16 + local.min(7)), device: DEVICE.into(), socket: None }
    }

    pub(super) fn send(&mut self, severity: u8, stamp: &str, text: &str) {
        let priority = self.facility * 8 + severity;
        // Syslog drops lines that are too long, so they are truncated.
        let (name, process, text) = (env!("CARGO_PKG_NAME"), std::process::id(), cut(text));
        let line = format!("<{priority}>{stamp} {name}[{process}]: {text}");
        // The daemon may have been restarted since the last line, so this tries twice.
        for _ in 0..2 {
            if self.socket.is_none() {
                self.socket = connect(&self.device).ok();
            }
            match self.socket.as_ref().map(|socket| socket.send(line.as_bytes())) {
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => self.socket = None,
                _ => return,
            }
        }
    }
}

fn connect(device: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(device)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_line_for_syslog_has_priority_time_name_and_text() {
        let directory = std::env::temp_dir().join(format!("brooklet-syslog-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory");
        let device = directory.join("log");
        let mut syslog = Syslog { device: device.clone(), ..Syslog::new(Some(2)) };
        syslog.send(4, "Jan  2 03:04:05", "not received");
        for start in 0..2 {
            let listener = UnixDatagram::bind(&device).expect("bound");
            syslog.send(4, "Jan  2 03:04:05", "text");
            let mut bytes = [0; 200];
            let count = listener.recv(&mut bytes).expect("a line");
            let line = format!("<148>Jan  2 03:04:05 brooklet[{}]: text", std::process::id());
            assert_eq!(&bytes[..count], line.as_bytes(), "start {start}");
            fs::remove_file(&device).expect("removed");
        }
        let listener = UnixDatagram::bind(&device).expect("bound");
        syslog.send(4, "Jan  2 03:04:05", &"ö".repeat(400_000));
        listener.set_nonblocking(true).expect("set");
        assert!(listener.recv(&mut [0; 2_000]).expect("a line") < 1_100);
        fs::remove_dir_all(&directory).expect("removed");
        assert_eq!(Syslog::new(None).facility, 3);
    }
}
