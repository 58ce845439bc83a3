//! Listening sockets: bound as the operator demands, and accepted from without spinning.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use log::{info, warn};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use crate::base::peer::Peer;
use crate::base::time::{Duration, Time};
use crate::settings::{self, Address, Family};

use super::resolver::look_up;
use super::stream::Stream;
use super::unix_socket::{OwnFile, bind_unix};

/// How long accepting pauses when the process or the system is out of descriptors or memory. Peers wait in the backlog
/// during that time, and nothing spins. It is up to the service manager (`LimitNOFILE=`) or the shell to raise the
/// limit of descriptors; a dependency for that one call at the start would cost more.
const REST: Duration = Duration::from_milliseconds(500);
/// How often running out of descriptors is logged.
const WARNING_INTERVAL: Duration = Duration::from_seconds(60);

/// A listening socket. It is edge-triggered, so it remembers whether connections may be waiting.
#[derive(Debug)]
pub(super) struct Socket {
    bound: Bound,
    is_ready: bool,
    rests_until: Time,
    warned: Option<Time>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Bound {
    Internet {
        socket: TcpListener,
        port: u16,
    },
    /// The file is removed before the socket is closed.
    Unix {
        file: OwnFile,
        socket: UnixListener,
    },
}

impl Socket {
    pub(super) fn register(mut bound: Bound, registry: &Registry, token: Token) -> io::Result<Self> {
        match &mut bound {
            Bound::Internet { socket, .. } => registry.register(socket, token, Interest::READABLE)?,
            Bound::Unix { socket, .. } => registry.register(socket, token, Interest::READABLE)?,
        }
        Ok(Self { bound, is_ready: false, rests_until: Time::ZERO, warned: None })
    }

    /// The place where it listens, for the log.
    pub(super) const fn place(&self) -> &Bound {
        &self.bound
    }

    /// The file of a Unix socket.
    pub(super) const fn file(&self) -> Option<&OwnFile> {
        match &self.bound {
            Bound::Unix { file, .. } => Some(file),
            Bound::Internet { .. } => None,
        }
    }

    /// Notes that the poller has reported waiting connections.
    pub(super) const fn ready(&mut self) {
        self.is_ready = true;
    }

    /// When to accept next: at once, after a pause, or (`None`) not before the poller reports connections.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        self.is_ready.then(|| self.rests_until.max(now))
    }

    /// Accepts one connection. `None` if none waits, or while accepting pauses.
    pub(super) fn accept(&mut self, now: Time) -> Option<(Stream, Peer)> {
        while self.is_ready && now >= self.rests_until {
            match self.bound.accept() {
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
            warn!("Unable to accept a connection on {}: {error}. Clients have to wait.", self.bound);
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet { port, .. } => write!(formatter, "port {port}"),
            Self::Unix { file, .. } => write!(formatter, "path {}", file.path().display()),
        }
    }
}

impl Bound {
    /// The address that it is bound to; `None` for a Unix socket.
    #[cfg(feature = "system")]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet { socket, .. } => socket.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// The port that clients connect to; `None` for a Unix socket.
    pub(super) const fn port(&self) -> Option<u16> {
        match self {
            Self::Internet { port, .. } => Some(*port),
            Self::Unix { .. } => None,
        }
    }

    fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Internet { socket, .. } => {
                let (stream, address) = socket.accept()?;
                // An IPv6 socket may serve IPv4 as well, and shows those clients with mapped addresses.
                let address = match address.ip().to_canonical() {
                    IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
                    IpAddr::V6(_) => address,
                };
                Ok((Stream::Tcp(stream), Peer::Internet(address)))
            }
            Self::Unix { socket, .. } => {
                let (stream, _) = socket.accept()?;
                Ok((Stream::Unix(stream), Peer::Local))
            }
        }
    }
}

/// Looks up the addresses of a listener's host, if it has one. This may take long, so it is only for the start.
pub(super) fn look_up_host(listener: &settings::Listener) -> io::Result<Vec<SocketAddr>> {
    match &listener.address {
        Address::Internet { host: Some(host), .. } => look_up(host),
        Address::Internet { host: None, .. } | Address::Loopback { .. } | Address::Unix { .. } => {
            Ok(Vec::new())
        }
    }
}

/// Binds all sockets of a listener. `host` has the addresses of its host, if it has one. Nothing blocks here.
pub(super) fn bind(listener: &settings::Listener, host: &[SocketAddr]) -> io::Result<Vec<Bound>> {
    let interface = listener.interface.as_deref();
    match &listener.address {
        Address::Loopback { port } => bind_loopback(*port),
        Address::Internet { host: None, port, family } => bind_all(*port, *family, interface),
        Address::Internet { host: Some(name), port, family } => {
            bind_host(name, host, *port, *family, interface)
        }
        Address::Unix { path } => {
            bind_unix(path, &listener.socket_file).map(|(file, socket)| vec![Bound::Unix { file, socket }])
        }
    }
}

/// Binds both loopback addresses. With port 0, the system chooses one port for both. On a machine without IPv6, only
/// IPv4 is bound.
fn bind_loopback(port: u16) -> io::Result<Vec<Bound>> {
    let first = bind_internet(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None)?;
    let port = first.port().unwrap_or(port);
    match bind_internet(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), None) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if is_about_the_machine(&error) => {
            warn!("No IPv6 loopback on this machine: {error}.");
            Ok(vec![first])
        }
        Err(error) => Err(error),
    }
}

/// Whether an address cannot be bound because this machine has no such address, rather than because the port is in use
/// or descriptors have run out.
fn is_about_the_machine(error: &io::Error) -> bool {
    /// The limits of the system and of the process; on Linux, these numbers are the same on every architecture.
    const OUT_OF_DESCRIPTORS: [i32; 2] = [23, 24];
    let is_out = error.raw_os_error().is_some_and(|number| OUT_OF_DESCRIPTORS.contains(&number));
    !is_out && error.kind() != io::ErrorKind::AddrInUse
}

/// Binds all addresses of the machine. One IPv6 socket serves both families, unless the system separates them.
fn bind_all(port: u16, family: Family, interface: Option<&str>) -> io::Result<Vec<Bound>> {
    let v4 = |port| bind_internet(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), interface);
    match family {
        Family::V4 => return Ok(vec![v4(port)?]),
        Family::V6 => {
            let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            return Ok(vec![announce(open(address, interface, true)?)?]);
        }
        Family::Both => {}
    }
    let first = match bind_internet(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), interface) {
        Ok(first) => first,
        // There is no IPv6 on this machine.
        Err(error) if is_about_the_machine(&error) => return Ok(vec![v4(port)?]),
        Err(error) => return Err(error),
    };
    let port = first.port().unwrap_or(port);
    match v4(port) {
        Ok(second) => Ok(vec![first, second]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            info!("Opening ipv4 listen socket on port {port}.");
            Ok(vec![first])
        }
        Err(error) => Err(error),
    }
}

/// Binds the addresses of a host that belong to this family.
fn bind_host(
    name: &str,
    host: &[SocketAddr],
    port: u16,
    family: Family,
    interface: Option<&str>,
) -> io::Result<Vec<Bound>> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for &(mut address) in host {
        address.set_port(port);
        let is_meant = match family {
            Family::Both => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        };
        if is_meant && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::other(format!("{name} has no address of this family")));
    }
    let mut bound: Vec<Bound> = Vec::new();
    for mut address in addresses {
        if let Some(port) = bound.first().and_then(Bound::port) {
            address.set_port(port);
        }
        // With the unspecified IPv6 address, the operator does not mean IPv4.
        let is_v6_only = cfg!(feature = "system") && address.is_ipv6() && address.ip().is_unspecified();
        bound.push(announce(open(address, interface, is_v6_only)?)?);
    }
    Ok(bound)
}

fn bind_internet(address: SocketAddr, interface: Option<&str>) -> io::Result<Bound> {
    announce(open(address, interface, false)?)
}

fn announce(socket: TcpListener) -> io::Result<Bound> {
    let socket = without_delay(socket)?;
    let address = socket.local_addr()?;
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let port = address.port();
    info!("Opening {family} listen socket on port {port}.");
    Ok(Bound::Internet { socket, port })
}

/// Sets TCP_NODELAY for the sockets that `socket` accepts, which inherit it. The broker writes everything in one write
/// a turn, so nothing is gained by waiting for more. Set here, it costs no system call for each connection.
fn without_delay(socket: TcpListener) -> io::Result<TcpListener> {
    // Only streams have a method for this option, and it is the same descriptor.
    let stream = std::net::TcpStream::from(OwnedFd::from(socket));
    stream.set_nodelay(true)?;
    Ok(TcpListener::from_std(OwnedFd::from(stream).into()))
}

/// Opens a listening socket, with options that must be set before it is bound.
#[cfg(feature = "system")]
fn open(address: SocketAddr, interface: Option<&str>, is_v6_only: bool) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    /// As many as the system allows. A peer that finds the backlog full tries again a second later, and after a power
    /// failure thousands connect at once.
    const BACKLOG: i32 = i32::MAX;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    if is_v6_only {
        socket.set_only_v6(true)?;
    }
    if let Some(interface) = interface {
        let bound = socket.bind_device(Some(interface.as_bytes()));
        bound.map_err(|why| io::Error::new(why.kind(), format!("interface {interface}: {why}")))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Opens a listening socket; its backlog holds 128 peers.
#[cfg(not(feature = "system"))]
fn open(address: SocketAddr, interface: Option<&str>, is_v6_only: bool) -> io::Result<TcpListener> {
    if interface.is_some() || is_v6_only {
        return Err(io::Error::other(
            "this binary was built without bind_interface and IPv6-only sockets (feature `system`)",
        ));
    }
    TcpListener::bind(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SocketFile;
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    /// Binds a host by its name.
    fn bind_name(name: &str, family: Family) -> io::Result<Vec<Bound>> {
        bind_host(name, &look_up(name)?, 0, family, None)
    }

    #[test]
    #[cfg(feature = "system")]
    fn as_many_wait_to_be_accepted_as_the_system_allows() {
        let bound = bind_internet(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port().unwrap()));
        let allowed = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let count = allowed.trim().parse::<usize>().unwrap().min(1000);
        // A connection that finds no room never finds any, since none is accepted.
        let patience = std::time::Duration::from_secs(20);
        let connect = |_| std::net::TcpStream::connect_timeout(&address, patience).ok();
        let waiting: Vec<_> = (0..count).map_while(connect).collect();
        assert_eq!(waiting.len(), count);
    }

    fn ready(bound: Bound) -> Socket {
        let poll = mio::Poll::new().unwrap();
        let mut socket = Socket::register(bound, poll.registry(), Token(0)).unwrap();
        socket.ready();
        socket
    }

    fn all(family: Family) -> Vec<Bound> {
        bind_all(0, family, None).unwrap()
    }

    #[test]
    fn accepted_sockets_send_at_once() {
        let mut sockets: Vec<Socket> = bind_loopback(0).unwrap().into_iter().map(ready).collect();
        let port = sockets[0].place().port().unwrap();
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (stream, peer) = sockets[0].accept(Time::ZERO).unwrap();
        assert!(matches!(stream, Stream::Tcp(stream) if stream.nodelay().unwrap()));
        assert_eq!(peer, Peer::Internet(client.local_addr().unwrap()));
        assert!(sockets[0].accept(Time::ZERO).is_none(), "accepting does not block");
        assert!(sockets.iter().all(|socket| socket.place().port() == Some(port)));
    }

    #[test]
    fn both_families_come_in_by_one_port_and_show_their_own_address() {
        let mut sockets: Vec<Socket> = all(Family::Both).into_iter().map(ready).collect();
        let port = sockets[0].place().port().unwrap();
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (_, peer) = sockets.iter_mut().find_map(|socket| socket.accept(Time::ZERO)).unwrap();
        assert_eq!(peer, Peer::Internet(client.local_addr().unwrap()), "an address of IPv4");
        let another = bind_all(port, Family::Both, None).unwrap_err();
        assert_eq!(another.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn one_family_leaves_the_other_alone() {
        let v4 = all(Family::V4);
        assert!(
            matches!(&v4[..], [Bound::Internet { socket, .. }] if socket.local_addr().unwrap().is_ipv4())
        );
        if cfg!(feature = "system")
            && let Ok(v6) = bind_all(0, Family::V6, None)
        {
            assert!(bind_all(v6[0].port().unwrap(), Family::V4, None).is_ok(), "it is free for IPv4");
            let named = bind_name("::", Family::Both).unwrap();
            let (host, port) = (look_up("0.0.0.0").unwrap(), named[0].port().unwrap());
            assert!(bind_host("0.0.0.0", &host, port, Family::Both, None).is_ok());
        }
    }

    #[test]
    fn a_host_is_bound_where_it_lives() {
        assert_eq!(bind_name("127.0.0.1", Family::Both).unwrap().len(), 1);
        assert!(bind_name("127.0.0.1", Family::V6).is_err());
        assert!(bind_name("host.invalid", Family::Both).is_err());
        assert!(!bind_name("localhost", Family::V4).unwrap().is_empty());
    }

    #[test]
    #[cfg(feature = "system")]
    fn an_interface_that_is_not_there_is_an_error() {
        let error = bind_all(0, Family::V4, Some("no-such-interface")).unwrap_err();
        assert!(error.to_string().starts_with("interface no-such-interface: "), "{error}");
    }

    #[test]
    fn want_of_descriptors_is_no_want_of_addresses() {
        assert!(!is_about_the_machine(&io::Error::from_raw_os_error(24)));
        assert!(!is_about_the_machine(&io::ErrorKind::AddrInUse.into()));
        assert!(is_about_the_machine(&io::ErrorKind::AddrNotAvailable.into()));
    }

    #[test]
    fn a_unix_socket_has_both_directions() {
        let directory = std::env::temp_dir().join(format!("brooklet-accept-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("mqtt.sock");
        let (file, socket) = bind_unix(&path, &SocketFile::default()).unwrap();
        let mut socket = ready(Bound::Unix { file, socket });
        let mut client = UnixStream::connect(&path).unwrap();
        let (mut stream, peer) = socket.accept(Time::ZERO).unwrap();
        assert_eq!(peer, Peer::Local);
        client.write_all(b"there").unwrap();
        stream.write_all(b"back").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut there, mut back) = ([0; 5], Vec::new());
        stream.read_exact(&mut there).unwrap();
        client.read_to_end(&mut back).unwrap();
        assert_eq!((&there[..], &back[..]), (&b"there"[..], &b"back"[..]));
        drop(socket);
        assert!(!path.exists(), "it goes with its broker");
        fs::remove_dir_all(&directory).unwrap();
    }
}
