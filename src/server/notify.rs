//! Notifications to a service manager: that the broker is ready, reloads its configuration, stops, and is alive. They
//! follow the protocol of systemd: datagrams to the socket that `NOTIFY_SOCKET` names, and a keep-alive twice within
//! each `WATCHDOG_USEC`. Without these variables, nothing is sent and nothing wakes up.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::base::time::{Duration, Time};

/// The connection to the service manager.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    /// The interval of keep-alives.
    interval: Option<Duration>,
    next: Time,
}

impl Notifier {
    /// A notifier as the environment demands it.
    pub(super) fn from_environment() -> Self {
        let process = std::env::var("WATCHDOG_PID").ok();
        let is_meant = process.is_none_or(|process| process == std::process::id().to_string());
        let limit = std::env::var("WATCHDOG_USEC").ok().filter(|_| is_meant);
        Self::new(std::env::var_os("NOTIFY_SOCKET"), limit.as_deref())
    }

    fn new(name: Option<OsString>, limit: Option<&str>) -> Self {
        let Some(socket) = name.and_then(|name| connect(&name).ok()) else { return Self::default() };
        let limit: Option<u64> = limit.and_then(|limit| limit.parse().ok()).filter(|&limit| limit > 0);
        let interval = limit.map(|limit| Duration::from_milliseconds((limit / 2_000).max(1)));
        Self { socket: Some(socket), interval, next: Time::ZERO }
    }

    /// Sends a state, such as `READY=1`. If the manager does not accept it, there is nothing else to notify.
    pub(super) fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(state.as_bytes());
        }
    }

    /// Notifies of the start of a reload, with its time by the clock by which a manager tells one reload from another.
    #[cfg(feature = "system")]
    pub(super) fn reloading(&self) {
        use nix::sys::time::TimeValLike;
        use nix::time::{ClockId, clock_gettime};
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.num_microseconds())),
            Err(_) => self.tell("RELOADING=1"),
        }
    }

    /// When the next keep-alive is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.interval.map(|_| self.next)
    }

    /// Sends a keep-alive, if one is due.
    pub(super) fn keep_alive(&mut self, now: Time) {
        if let Some(interval) = self.interval.filter(|_| self.next <= now) {
            self.next = now + interval;
            self.tell("WATCHDOG=1");
        }
    }
}

fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 100];
        let count = socket.recv(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn a_manager_hears_of_states_and_life() {
        let name = format!("brooklet-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("bound");
        manager.set_nonblocking(true).expect("set");
        let mut notifier = Notifier::new(Some(format!("@{name}").into()), Some("3000000"));
        notifier.tell("READY=1");
        assert_eq!(heard(&manager), "READY=1");
        notifier.keep_alive(Time::ZERO);
        assert_eq!(
            (heard(&manager).as_str(), notifier.due()),
            ("WATCHDOG=1", Some(Time::from_milliseconds(1_500)))
        );
        notifier.keep_alive(Time::from_milliseconds(1_499));
        assert_eq!(heard(&manager), "");
        notifier.keep_alive(Time::from_milliseconds(1_500));
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }

    #[test]
    fn nothing_is_sent_without_a_socket() {
        for name in [None, Some("/no/such/socket".into()), Some("".into())] {
            let mut notifier = Notifier::new(name, Some("3000000"));
            notifier.tell("READY=1");
            notifier.keep_alive(Time::ZERO);
            assert_eq!(notifier.due(), None);
        }
    }
}
