//! One listener: its sockets, and the layers of its connections.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::path::Path;

use mio::{Registry, Token};

use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::listener::ListenerId;
use crate::settings::{self, Address, ConfigError};

use super::privileges::group_number;
use super::socket::{Socket, bind, look_up_host};
use super::unix_socket::OwnFile;
use super::{LISTENERS_MAXIMUM, tls, websocket};

/// Sockets that one listener may have: one for each address of its host.
pub(super) const SOCKETS_MAXIMUM: usize = 4;

/// The number of a listener, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerNumber(NonZero<u8>);

const _: () = assert!(LISTENERS_MAXIMUM <= u8::MAX as usize);

impl ListenerNumber {
    /// The number of the listener at this index.
    ///
    /// # Panics
    ///
    /// If the index is not below the maximum.
    pub(super) fn of(place: usize) -> Self {
        let number = u8::try_from(place + 1).ok().and_then(NonZero::new);
        Self(number.expect("there are fewer listeners"))
    }

    /// The index of the listener.
    pub(super) const fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A listener, or what remains of a closed one while connections that it has accepted are open.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) settings: settings::Listener,
    pub(super) setup: Setup,
    /// Empty once the listener is closed.
    pub(super) sockets: Vec<Socket>,
    /// The number of open connections that it has accepted.
    pub(super) connections: usize,
}

/// What a listener needs beside its sockets.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) tls: Option<tls::Setup>,
    pub(super) websocket: Option<websocket::Setup>,
}

impl Setup {
    /// Reads the files that a listener names.
    pub(super) fn load(settings: &settings::Listener) -> Result<Self, Vec<ConfigError>> {
        match (tls::load(settings), websocket::set_up(settings)) {
            (Ok(tls), Ok(websocket)) => Ok(Self { tls, websocket }),
            (tls, websocket) => Err(tls.err().into_iter().flatten().chain(websocket.err()).collect()),
        }
    }
}

/// Returns everything that is wrong with the TLS and WebSocket setup of a listener, or with the group of its socket.
/// Changes nothing.
pub fn check(settings: &settings::Listener) -> Vec<ConfigError> {
    let mut errors = Setup::load(settings).err().unwrap_or_default();
    if let Some(group) = &settings.socket_file.group
        && let Err(why) = group_number(group)
    {
        let what = format!("{why}, expected one of this machine (socket_group)");
        errors.push(group.error("socket_group", what));
    }
    errors
}

/// Returns why a listener cannot be bound now, if it cannot. Its sockets are closed again at once; that of a Unix socket is
/// not made.
pub fn probe(settings: &settings::Listener) -> Option<ConfigError> {
    let outcome = match &settings.address {
        Address::Unix { path } => expect_free(path),
        Address::Internet { .. } | Address::Loopback { .. } => {
            look_up_host(settings).and_then(|host| bind(settings, &host)).map(drop)
        }
    };
    outcome.err().map(|why| unbound(settings, &why))
}

/// Checks that no other broker answers at a Unix socket.
fn expect_free(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => Ok(()),
    }
}

/// Binds the sockets of a listener whose host has these addresses; their tokens start with `first_token`.
pub(super) fn listen(
    settings: &settings::Listener,
    host: &[SocketAddr],
    registry: &Registry,
    first_token: usize,
) -> io::Result<Vec<Socket>> {
    let bound = bind(settings, host)?;
    if bound.len() > SOCKETS_MAXIMUM {
        return Err(io::Error::other("it has too many addresses"));
    }
    let tokens = (first_token..).map(Token);
    bound.into_iter().zip(tokens).map(|(bound, token)| Socket::register(bound, registry, token)).collect()
}

/// The error of a listener that cannot be bound, with advice where there is any.
pub(super) fn unbound(settings: &settings::Listener, why: &io::Error) -> ConfigError {
    /// Ports below this one need root.
    const PORT_FOR_ALL: u16 = 1024;
    let advice = match (why.kind(), &settings.address) {
        (io::ErrorKind::AddrInUse, Address::Unix { .. }) => "; another broker answers there",
        (io::ErrorKind::AddrInUse, _) => "; another program, or another broker, listens there",
        (io::ErrorKind::AddrNotAvailable, _) => "; this machine has no such address",
        (io::ErrorKind::PermissionDenied, Address::Internet { port, .. } | Address::Loopback { port })
            if *port < PORT_FOR_ALL =>
        {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE"
        }
        (io::ErrorKind::PermissionDenied, Address::Unix { .. }) => {
            "; the broker's user cannot write into its directory"
        }
        _ => "",
    };
    ConfigError::new(&*settings.place, format!("unable to listen at {}: {why}{advice}", settings.address))
}

impl Listener {
    /// Whether it is closed and has no connections left.
    pub(super) const fn is_gone(&self) -> bool {
        self.sockets.is_empty() && self.connections == 0
    }

    /// Whether it may accept one more connection.
    pub(super) const fn has_room(&self) -> bool {
        self.connections < self.settings.connections
    }

    /// Whether connections from this peer are accepted at all. Access to a Unix socket is governed by its file mode.
    pub(super) fn trusts(&self, peer: Peer) -> bool {
        let proxies = &self.settings.proxies;
        match peer {
            Peer::Internet(address) if !proxies.is_empty() => {
                proxies.iter().any(|network| network.contains(address.ip()))
            }
            Peer::Internet(_) | Peer::Local => true,
        }
    }

    /// The files of its Unix sockets.
    pub(super) fn files(&self) -> impl Iterator<Item = &OwnFile> {
        self.sockets.iter().filter_map(Socket::file)
    }

    /// When accepting goes on.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        self.sockets.iter().filter_map(|socket| socket.due(now)).min()
    }
}
