//! Hosts and ports to connect to.

use std::net::Ipv6Addr;

use crate::settings::RemoteAddress;

/// Parses `HOST` or `HOST:PORT`. The last colon of an IPv6 address is that of the port if the rest is an address;
/// brackets remove the doubt. The error is `expected`, or what is expected of a port.
pub(super) fn address(
    word: &str,
    default_port: u16,
    expected: &'static str,
) -> Result<RemoteAddress, &'static str> {
    let (host, port) = match word.rsplit_once(':') {
        Some((host, port)) if is_host(host) && !port.starts_with('/') => (host, port_of(port)?),
        _ if is_host(word) => (word, default_port),
        _ => return Err(expected),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(RemoteAddress { host: bare.to_owned(), port })
}

fn is_host(text: &str) -> bool {
    let is_ipv6 = |text: &str| {
        let address = text.split_once('%').map_or(text, |(address, _)| address);
        address.parse::<Ipv6Addr>().is_ok()
    };
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(is_ipv6),
        None => is_ipv6(text) || !(text.is_empty() || text.contains([':', '/', '@', ']', '%'])),
    }
}

fn port_of(text: &str) -> Result<u16, &'static str> {
    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
    let port = text.parse().ok().filter(|&port: &u16| is_number && port > 0);
    port.ok_or("a port from 1 to 65535 after the colon")
}
