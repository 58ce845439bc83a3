//! The PROXY header, which a load balancer sends at the start of a connection to pass on the address of the client.
//!
//! Both forms are parsed strictly. The sender of the header is trusted, so a malformed header is never interpreted: the
//! connection is closed. A header is at most [`HEADER_MAXIMUM`] bytes long, and no more than that is ever buffered
//! while it arrives in pieces.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;

use crate::base::memory;
use crate::base::peer::Peer;

/// The length in bytes of the longest header of the binary form. It may include a certificate of the client.
pub const HEADER_MAXIMUM: usize = 16 + 8 * 1024;

/// The length in bytes of the longest header of the text form, including its line end.
const LINE_MAXIMUM: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
/// The first bytes of the binary form.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The length of the signature, version and command, family, and the length field.
const FIXED_LENGTH: usize = 16;
/// The length of the two paths of Unix sockets in the binary form.
const PATHS_LENGTH: usize = 216;

/// The type of the value about TLS, and that of the Common Name of the client's certificate inside of it.
const KIND_TLS: u8 = 0x20;
const KIND_COMMON_NAME: u8 = 0x22;
/// The type of the certificate of the client, in DER, inside of it.
const KIND_CERTIFICATE: u8 = 0x28;
/// The flag for a client that is connected to the proxy by TLS.
const CAME_BY_TLS: u8 = 0x01;
/// The flags for a client that has presented a certificate, on this connection or earlier in its TLS session.
const SHOWED_CERTIFICATE: u8 = 0x06;

/// The form of the PROXY header that a listener expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// The text form.
    V1,
    /// The binary form.
    V2 {
        /// Whether to accept only clients that are connected to the proxy by TLS (`proxy_protocol_v2_require_tls`).
        requires_tls: bool,
        /// Whether to accept only clients whose certificate the proxy has verified (`require_certificate`).
        requires_certificate: bool,
    },
}

/// The content of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Whether the connection is the proxy's own, for a health check. Nothing is known of a client then.
    pub is_local: bool,
    /// The address of the client; `None` if the proxy does not know it.
    pub source: Option<Peer>,
    /// Whether the client is connected to the proxy by TLS.
    pub is_tls: bool,
    /// Whether the client has presented a certificate that the proxy has verified.
    pub has_certificate: bool,
    /// The Common Name of that certificate.
    pub common_name: Option<String>,
    /// That certificate, in DER. The proxy sends it only if it is configured to.
    pub certificate: Option<Vec<u8>>,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    what: &'static str,
    /// The address of the client, if the header has one and does not satisfy a requirement.
    pub source: Option<Peer>,
}

const fn malformed(what: &'static str) -> Malformed {
    Malformed { what, source: None }
}

const NO_LINE: Malformed = malformed("there is no PROXY header of version 1");
const NO_BINARY: Malformed = malformed("there is no PROXY header of version 2");

impl Malformed {
    /// Whether the connection does not begin with a header of this form at all.
    pub fn is_absent(self) -> bool {
        self == NO_LINE || self == NO_BINARY
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.what)
    }
}

/// Assembles a header from the pieces in which it arrives.
#[derive(Debug)]
pub struct Reader {
    proxy: Proxy,
    held: Vec<u8>,
}

impl Reader {
    /// A reader for the form that the listener expects. The other form is malformed.
    pub const fn new(proxy: Proxy) -> Self {
        Self { proxy, held: Vec::new() }
    }

    /// Consumes the bytes at the start of `bytes` that belong to the header. Returns the header once it is complete,
    /// with the number of bytes consumed. Until then it consumes all bytes and returns `None`.
    ///
    /// # Errors
    ///
    /// The header is not of this form, is malformed, or does not satisfy the listener's requirements of TLS and of a
    /// certificate. Reported as soon as it is certain. The proxy's own connections need not satisfy them.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
        let mut taken = 0;
        loop {
            let lacking = match self.proxy {
                Proxy::V1 => lacking_of_line(&self.held)?,
                Proxy::V2 { .. } => lacking_of_binary(&self.held)?,
            };
            if lacking == 0 {
                return self.finish().map(|header| Some((header, taken)));
            }
            let rest = &bytes[taken..];
            if rest.is_empty() {
                return Ok(None);
            }
            let piece = &rest[..lacking.min(rest.len())];
            self.held.extend_from_slice(piece);
            taken += piece.len();
        }
    }

    /// The heap memory that the reader uses, in bytes.
    pub const fn memory(&self) -> usize {
        memory::allocation(self.held.capacity())
    }

    fn finish(&self) -> Result<Header, Malformed> {
        let Proxy::V2 { requires_tls, requires_certificate } = self.proxy else {
            return parse_line(&self.held);
        };
        let header = parse_binary(&self.held)?;
        let what = match () {
            () if header.is_local => return Ok(header),
            () if requires_tls && !header.is_tls => "the client is not connected to the proxy by TLS",
            () if requires_certificate && !header.has_certificate => {
                "the client has presented no certificate that the proxy has verified"
            }
            () => return Ok(header),
        };
        Err(Malformed { what, source: header.source })
    }
}

/// The number of bytes that the line lacks at least. It is read byte by byte, since the bytes after it do not belong
/// to it.
fn lacking_of_line(held: &[u8]) -> Result<usize, Malformed> {
    if !held.iter().zip(LINE_START).all(|(byte, expected)| byte == expected) {
        return Err(NO_LINE);
    }
    if held.last() == Some(&b'\n') {
        return Ok(0);
    }
    if held.len() == LINE_MAXIMUM {
        return Err(malformed("the PROXY header has no end"));
    }
    Ok(1)
}

fn lacking_of_binary(held: &[u8]) -> Result<usize, Malformed> {
    if !held.iter().zip(SIGNATURE).all(|(byte, expected)| byte == expected) {
        return Err(NO_BINARY);
    }
    let Some(&[high, low]) = held.get(FIXED_LENGTH - 2..FIXED_LENGTH) else {
        return Ok(FIXED_LENGTH - held.len());
    };
    let length = FIXED_LENGTH + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_MAXIMUM {
        return Err(malformed("the PROXY header is too long"));
    }
    Ok(length - held.len())
}

fn parse_line(line: &[u8]) -> Result<Header, Malformed> {
    const MALFORMED: Malformed = malformed("the PROXY header is malformed");
    let line = line.strip_suffix(b"\r\n").ok_or(MALFORMED)?;
    let line = core::str::from_utf8(line).map_err(|_| MALFORMED)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(MALFORMED)?;
    if family == "UNKNOWN" {
        return Ok(Header::default());
    }
    let rest: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = rest[..] else { return Err(MALFORMED) };
    let parse: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(MALFORMED),
    };
    let source = parse(source).ok_or(MALFORMED)?;
    parse(destination).ok_or(MALFORMED)?;
    let port = parse_port(source_port).ok_or(MALFORMED)?;
    parse_port(destination_port).ok_or(MALFORMED)?;
    Ok(Header { source: Some(internet(source, port)), ..Header::default() })
}

/// Parses a port of the text form, which has no sign and no leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn parse_binary(bytes: &[u8]) -> Result<Header, Malformed> {
    let mut fields = Fields(bytes);
    fields.take(SIGNATURE.len())?;
    let [command, family] = fields.take_array()?;
    fields.take(2)?;
    match command {
        // LOCAL: the proxy itself has connected, for a health check.
        0x20 => return Ok(Header { is_local: true, ..Header::default() }),
        0x21 => {}
        _ => return Err(malformed("the PROXY header has an unknown command")),
    }
    let source = match family {
        0x00 => None,
        0x11 => {
            let address = Ipv4Addr::from(fields.take_array::<4>()?);
            fields.take(4)?;
            Some((IpAddr::V4(address), fields.take_ports()?))
        }
        0x21 => {
            let address = Ipv6Addr::from(fields.take_array::<16>()?);
            fields.take(16)?;
            Some((IpAddr::V6(address), fields.take_ports()?))
        }
        0x31 => {
            fields.take(PATHS_LENGTH)?;
            let mut header = parse_values(fields)?;
            header.source = Some(Peer::Local);
            return Ok(header);
        }
        _ => return Err(malformed("the PROXY header is not about a stream")),
    };
    let mut header = parse_values(fields)?;
    header.source = source.map(|(address, port)| internet(address, port));
    Ok(header)
}

/// Parses the values that follow the addresses. Values of other types are skipped, but their lengths are checked.
fn parse_values(mut fields: Fields<'_>) -> Result<Header, Malformed> {
    let mut header = Header::default();
    let mut has_tls = false;
    while let Some((kind, value)) = fields.take_value()? {
        if kind == KIND_TLS {
            if has_tls {
                return Err(malformed("the PROXY header has two values about TLS"));
            }
            has_tls = true;
            parse_tls(value, &mut header)?;
        }
    }
    Ok(header)
}

fn parse_tls(value: &[u8], header: &mut Header) -> Result<(), Malformed> {
    let mut fields = Fields(value);
    let [flags] = fields.take_array()?;
    let is_verified = fields.take_array::<4>()? == [0; 4];
    header.is_tls = flags & CAME_BY_TLS != 0;
    header.has_certificate = header.is_tls && is_verified && flags & SHOWED_CERTIFICATE != 0;
    let (mut common_name, mut certificate) = (None, None);
    while let Some((kind, value)) = fields.take_value()? {
        let place = match kind {
            KIND_COMMON_NAME => &mut common_name,
            KIND_CERTIFICATE => &mut certificate,
            _ => continue,
        };
        if place.replace(value).is_some() {
            return Err(malformed("the PROXY header has two certificates or two Common Names"));
        }
    }
    if header.has_certificate {
        let text = common_name.map(core::str::from_utf8).transpose();
        header.common_name = text.map_err(|_| malformed("the Common Name is not UTF-8"))?.map(str::to_owned);
        header.certificate = certificate.map(<[u8]>::to_vec);
    }
    Ok(())
}

/// Converts the address of a client. An IPv4-mapped IPv6 address becomes an IPv4 address.
fn internet(address: IpAddr, port: u16) -> Peer {
    Peer::Internet(SocketAddr::new(address.to_canonical(), port))
}

/// The bytes that have not been parsed yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(malformed("the PROXY header ends inside a field"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Malformed> {
        let mut array = [0; COUNT];
        array.copy_from_slice(self.take(COUNT)?);
        Ok(array)
    }

    /// Returns the port of the source and skips that of the destination.
    fn take_ports(&mut self) -> Result<u16, Malformed> {
        let port = u16::from_be_bytes(self.take_array()?);
        self.take(2)?;
        Ok(port)
    }

    /// Returns the next value with its type; `None` at the end.
    fn take_value(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let [kind, high, low] = self.take_array()?;
        let value = self.take(usize::from(u16::from_be_bytes([high, low])))?;
        Ok(Some((kind, value)))
    }
}

#[cfg(test)]
mod tests;
