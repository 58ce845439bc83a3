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

/// The type of the value about TLS, and that of the Common Name inside of it.
const KIND_TLS: u8 = 0x20;
const KIND_COMMON_NAME: u8 = 0x22;
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
    },
}

/// The content of a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The address of the client; `None` if the connection is the proxy's own or the proxy does not know it.
    pub source: Option<Peer>,
    /// Whether the client is connected to the proxy by TLS.
    pub is_tls: bool,
    /// The Common Name of the client's certificate, if the proxy has verified one.
    pub common_name: Option<String>,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
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
    /// The header is not of this form, is malformed, or does not satisfy the listener's requirement of TLS. Reported as
    /// soon as it is certain.
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
        let Proxy::V2 { requires_tls } = self.proxy else { return parse_line(&self.held) };
        let header = parse_binary(&self.held)?;
        if requires_tls && !header.is_tls {
            return Err(Malformed("the client is not connected to the proxy by TLS"));
        }
        Ok(header)
    }
}

/// The number of bytes that the line lacks at least. It is read byte by byte, since the bytes after it do not belong
/// to it.
fn lacking_of_line(held: &[u8]) -> Result<usize, Malformed> {
    if !held.iter().zip(LINE_START).all(|(byte, expected)| byte == expected) {
        return Err(Malformed("there is no PROXY header of version 1"));
    }
    if held.last() == Some(&b'\n') {
        return Ok(0);
    }
    if held.len() == LINE_MAXIMUM {
        return Err(Malformed("the PROXY header has no end"));
    }
    Ok(1)
}

fn lacking_of_binary(held: &[u8]) -> Result<usize, Malformed> {
    if !held.iter().zip(SIGNATURE).all(|(byte, expected)| byte == expected) {
        return Err(Malformed("there is no PROXY header of version 2"));
    }
    let Some(&[high, low]) = held.get(FIXED_LENGTH - 2..FIXED_LENGTH) else {
        return Ok(FIXED_LENGTH - held.len());
    };
    let length = FIXED_LENGTH + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_MAXIMUM {
        return Err(Malformed("the PROXY header is too long"));
    }
    Ok(length - held.len())
}

fn parse_line(line: &[u8]) -> Result<Header, Malformed> {
    const MALFORMED: Malformed = Malformed("the PROXY header is malformed");
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
        0x20 => return Ok(Header::default()),
        0x21 => {}
        _ => return Err(Malformed("the PROXY header has an unknown command")),
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
        _ => return Err(Malformed("the PROXY header is not about a stream")),
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
                return Err(Malformed("the PROXY header has two values about TLS"));
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
    let is_named = header.is_tls && is_verified && flags & SHOWED_CERTIFICATE != 0;
    while let Some((kind, value)) = fields.take_value()? {
        if kind == KIND_COMMON_NAME && is_named {
            let name = core::str::from_utf8(value).map_err(|_| Malformed("the Common Name is not UTF-8"))?;
            header.common_name = Some(name.to_owned());
        }
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
            self.0.split_at_checked(count).ok_or(Malformed("the PROXY header ends inside a field"))?;
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V2: Proxy = Proxy::V2 { requires_tls: false };

    fn peer(text: &str) -> Option<Peer> {
        Some(Peer::Internet(text.parse().unwrap()))
    }

    fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    fn tcp4(values: &[u8]) -> Vec<u8> {
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x07, 0x5b];
        binary(0x21, 0x11, &[&addresses[..], values].concat())
    }

    fn tls(flags: u8, verified: u8, values: &[u8]) -> Vec<u8> {
        value(KIND_TLS, &[&[flags, 0, 0, 0, verified][..], values].concat())
    }

    fn read(proxy: Proxy, bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
        Reader::new(proxy).receive(bytes)
    }

    #[test]
    fn the_text_form_has_the_address_of_the_client() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n", peer("192.0.2.1:4660")),
            ("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", peer("[2001:db8::1]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n", peer("192.0.2.1:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
        ] {
            let header = Header { source, ..Header::default() };
            assert_eq!(read(Proxy::V1, line.as_bytes()), Ok(Some((header, line.len()))), "{line}");
        }
    }

    #[test]
    fn a_malformed_line_is_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4660  1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883 1\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 4660 1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2 4660 1883\r\n",
            "PROXY TCP4 ::1 ::1 4660 1883\r\n",
            "PROXY TCP6 192.0.2.1 ::1 4660 1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 04660 1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +4660 1883\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 4660 65536\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 4660 1883\r\n",
            "PROXY \r\n",
            "PROXY\r\n",
            "Proxy TCP4",
            "\x10\x0c\0\x04MQTT",
        ] {
            assert!(read(Proxy::V1, line.as_bytes()).is_err(), "{line:?}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; LINE_MAXIMUM]].concat();
        assert!(read(Proxy::V1, &endless).is_err());
        assert_eq!(read(Proxy::V1, &endless[..LINE_MAXIMUM - 1]), Ok(None));
    }

    #[test]
    fn the_binary_form_has_the_address_of_the_client() {
        let six = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 7, 7, 0x5b]].concat();
        for (bytes, source) in [
            (tcp4(&[]), peer("192.0.2.1:4660")),
            (tcp4(&value(0x04, &[0; 9])), peer("192.0.2.1:4660")),
            (binary(0x21, 0x21, &six), peer("[2001:db8::1]:7")),
            (binary(0x21, 0x31, &[0; PATHS_LENGTH]), Some(Peer::Local)),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x20, 0x00, b"ignored for LOCAL"), None),
        ] {
            let header = Header { source, ..Header::default() };
            assert_eq!(read(V2, &bytes), Ok(Some((header, bytes.len()))), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_malformed_binary_header_is_refused() {
        for bytes in [
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x31, &[0; 215]),
            binary(0x21, 0x12, &[0; 12]),
            binary(0x21, 0x41, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x11, 0x11, &[0; 12]),
            tcp4(&[0x04]),
            tcp4(&[0x04, 0]),
            tcp4(&[0x04, 0, 1]),
            tcp4(&value(KIND_TLS, &[1, 0, 0, 0])),
            tcp4(&tls(1, 0, &[0x22, 0, 2, b'a'])),
            tcp4(&tls(7, 0, &value(KIND_COMMON_NAME, &[0xff]))),
            tcp4(&[tls(1, 0, &[]), tls(1, 0, &[])].concat()),
            binary(0x20, 0, &[0; HEADER_MAXIMUM - 15]),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n".to_vec(),
            b"\r\n\r\nX".to_vec(),
        ] {
            assert!(read(V2, &bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_name_of_a_certificate_is_used_only_if_it_was_verified() {
        let name = value(KIND_COMMON_NAME, b"device");
        for (flags, verified, is_tls, expected) in [
            (7, 0, true, Some("device")),
            (3, 0, true, Some("device")),
            (7, 1, true, None),
            (1, 0, true, None),
            (6, 0, false, None),
        ] {
            let (header, _) = read(V2, &tcp4(&tls(flags, verified, &name))).unwrap().unwrap();
            assert_eq!((header.is_tls, header.common_name.as_deref()), (is_tls, expected), "flags {flags}");
        }
    }

    #[test]
    fn tls_can_be_required() {
        let strict = Proxy::V2 { requires_tls: true };
        assert!(read(strict, &tcp4(&tls(1, 0, &[]))).is_ok());
        for refused in [tcp4(&tls(0, 0, &[])), tcp4(&[]), binary(0x20, 0, &[])] {
            assert!(read(strict, &refused).is_err(), "{refused:02x?}");
        }
    }

    fn whole_headers() -> impl Strategy<Value = (Proxy, Vec<u8>)> {
        prop_oneof![
            Just((Proxy::V1, b"PROXY TCP4 192.0.2.1 192.0.2.2 4660 1883\r\n".to_vec())),
            Just((V2, tcp4(&tls(7, 0, &value(KIND_COMMON_NAME, b"device"))))),
            Just((V2, binary(0x20, 0, &[7; 300]))),
        ]
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_result_as_the_whole(
            (proxy, header) in whole_headers(),
            pieces in prop::collection::vec(1_usize..40, 0..30),
        ) {
            let (expected, length) = read(proxy, &header).unwrap().unwrap();
            prop_assert_eq!(length, header.len());
            let stream = [&header[..], b"MQTT follows"].concat();
            let mut reader = Reader::new(proxy);
            let mut start = 0;
            for piece in pieces.into_iter().chain([stream.len()]) {
                let end = stream.len().min(start + piece);
                let outcome = reader.receive(&stream[start..end]).unwrap();
                prop_assert_eq!(outcome.is_some(), end >= header.len());
                if let Some((header_read, taken)) = outcome {
                    prop_assert_eq!((header_read, start + taken), (expected, header.len()));
                    break;
                }
                start = end;
            }
        }

        #[test]
        fn random_bytes_never_panic(
            is_binary: bool,
            has_start: bool,
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cut in 0_usize..400,
        ) {
            let (proxy, start) = if is_binary { (V2, SIGNATURE) } else { (Proxy::V1, LINE_START) };
            let stream = if has_start { [start, &bytes].concat() } else { bytes };
            let mut reader = Reader::new(proxy);
            let (first, second) = stream.split_at(cut.min(stream.len()));
            if let Ok(None) = reader.receive(first) {
                let _ = reader.receive(second);
            }
            prop_assert!(reader.held.len() <= HEADER_MAXIMUM);
        }

        /// A header with a changed byte is either parsed or refused, and its Common Name is never longer than the
        /// value.
        #[test]
        fn values_never_extend_beyond_their_bounds(at in 16_usize..60, to: u8) {
            let mut bytes = tcp4(&tls(7, 0, &value(KIND_COMMON_NAME, b"device")));
            let at = at.min(bytes.len() - 1);
            bytes[at] = to;
            if let Ok(Some((header, taken))) = read(V2, &bytes) {
                prop_assert_eq!(taken, bytes.len());
                prop_assert!(header.common_name.is_none_or(|name| name.len() <= 6));
            }
        }
    }
}
