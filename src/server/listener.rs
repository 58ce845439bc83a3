//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use log::{info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::time::{Duration, Time};

/// How long accepting rests when the process or the system is out of descriptors or memory. The peers wait in
/// the backlog meanwhile, and nothing spins.
const REST: Duration = Duration::from_milliseconds(500);
/// How often running out of descriptors is logged.
const WARNING_INTERVAL: Duration = Duration::from_seconds(60);

/// A listening socket; edge-triggered, so it remembers whether connections may be waiting.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    pub(super) port: u16,
    is_ready: bool,
    rests_until: Time,
    warned: Option<Time>,
}

impl Listener {
    /// Binds and registers.
    pub(super) fn bind(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = without_delay(TcpListener::bind(address)?)?;
        registry.register(&mut socket, token, Interest::READABLE)?;
        let port = socket.local_addr()?.port();
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        info!("Opening {family} listen socket on port {port}.");
        Ok(Self { socket, port, is_ready: false, rests_until: Time::ZERO, warned: None })
    }

    /// The poller says that connections wait.
    pub(super) const fn ready(&mut self) {
        self.is_ready = true;
    }

    /// When accepting goes on: at once, after a rest, or not before the poller speaks.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        self.is_ready.then(|| self.rests_until.max(now))
    }

    /// Accepts one connection. `None` when none waits, or while accepting rests.
    pub(super) fn accept(&mut self, now: Time) -> Option<(TcpStream, SocketAddr)> {
        while self.is_ready && now >= self.rests_until {
            match self.socket.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.is_ready = false,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => self.rest(&error, now),
                },
            }
        }
        None
    }

    fn rest(&mut self, error: &io::Error, now: Time) {
        self.rests_until = now + REST;
        if self.warned.is_none_or(|warned| now.since(warned) >= WARNING_INTERVAL) {
            self.warned = Some(now);
            warn!("Unable to accept a connection on port {}: {error}. Clients have to wait.", self.port);
        }
    }
}

/// Lets the sockets that `socket` accepts send at once, which they have from it: one write a turn is all there is to
/// send, so nothing is gained by waiting for more. Told once, it costs no system call for each connection.
fn without_delay(socket: TcpListener) -> io::Result<TcpListener> {
    // Only streams have a name for the option, and it is the same descriptor.
    let stream = std::net::TcpStream::from(OwnedFd::from(socket));
    stream.set_nodelay(true)?;
    Ok(TcpListener::from_std(OwnedFd::from(stream).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_accepted_sends_at_once() {
        let poll = mio::Poll::new().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut listener = Listener::bind(address, poll.registry(), Token(0)).unwrap();
        let _client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, listener.port)).unwrap();
        listener.ready();
        let (stream, _) = listener.accept(Time::ZERO).unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(listener.accept(Time::ZERO).is_none(), "accepting does not block");
    }
}
