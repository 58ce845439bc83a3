//! The PROXY header that a load balancer sends in front of a connection to tell whose it is: bytes to facts.
//!
//! Both forms are read strictly. Whoever may send the header is believed, so what is malformed is never guessed
//! at: the connection ends. A header is at most [`HEADER_MAXIMUM`] bytes long, and no more than those are ever
//! kept while it arrives in pieces.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;

use crate::base::memory;
use crate::base::peer::Peer;

/// The longest header of the binary form, in bytes. A certificate of the client may be among what it tells.
pub const HEADER_MAXIMUM: usize = 16 + 8 * 1024;

/// The longest header of the text form, its line end included.
const LINE_MAXIMUM: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
/// What the binary form begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, and the length of what follows.
const FIXED_LENGTH: usize = 16;
/// Two paths, as the binary form holds them.
const PATHS_LENGTH: usize = 216;

/// The kind of the value that tells of TLS, and of the Common Name inside of it.
const KIND_TLS: u8 = 0x20;
const KIND_COMMON_NAME: u8 = 0x22;
/// The client came by TLS.
const CAME_BY_TLS: u8 = 0x01;
/// The client has shown a certificate, on this connection or earlier in its TLS session.
const SHOWED_CERTIFICATE: u8 = 0x06;

/// A PROXY header in front of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// The text form.
    V1,
    /// The binary form.
    V2 {
        /// Whether only clients that reached the proxy by TLS may come in (`proxy_protocol_v2_require_tls`).
        requires_tls: bool,
    },
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Whose connection it is; `None` where the proxy speaks for itself or does not know.
    pub source: Option<Peer>,
    /// Whether the client reached the proxy by TLS.
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

/// Puts a header together from the pieces in which it arrives.
#[derive(Debug)]
pub struct Reader {
    proxy: Proxy,
    held: Vec<u8>,
}

impl Reader {
    /// A reader of the form that the listener expects; the other one is malformed.
    pub const fn new(proxy: Proxy) -> Self {
        Self { proxy, held: Vec::new() }
    }

    /// Takes from the front of `bytes` what belongs to the header. As soon as it is whole it is given back, with
    /// the number of bytes that were taken; until then all are.
    ///
    /// # Errors
    ///
    /// As soon as it is clear that this is no header of this form, or not one that may come in.
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

    /// Bytes that it takes beside its own place.
    pub const fn memory(&self) -> usize {
        memory::allocation(self.held.capacity())
    }

    fn finish(&self) -> Result<Header, Malformed> {
        let Proxy::V2 { requires_tls } = self.proxy else { return parse_line(&self.held) };
        let header = parse_binary(&self.held)?;
        if requires_tls && !header.is_tls {
            return Err(Malformed("the client did not reach the proxy by TLS"));
        }
        Ok(header)
    }
}

/// How many bytes the line certainly lacks. It is taken byte by byte, since what follows it is not ours.
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

/// A port as the text form writes it: no sign, no zeros in front.
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
        // The proxy itself, which looks after our health.
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

/// What is told beside the addresses. Kinds that nobody here needs are passed over, but never beyond their bounds.
fn parse_values(mut fields: Fields<'_>) -> Result<Header, Malformed> {
    let mut header = Header::default();
    let mut is_told = false;
    while let Some((kind, value)) = fields.take_value()? {
        if kind == KIND_TLS {
            if is_told {
                return Err(Malformed("the PROXY header tells of TLS twice"));
            }
            is_told = true;
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

/// An address of IPv4 stays one, whatever form the proxy gives it.
fn internet(address: IpAddr, port: u16) -> Peer {
    Peer::Internet(SocketAddr::new(address.to_canonical(), port))
}

/// What is left to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(Malformed("the PROXY header is shorter than it says"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], Malformed> {
        let mut array = [0; COUNT];
        array.copy_from_slice(self.take(COUNT)?);
        Ok(array)
    }

    /// The source's port; the destination's is passed over.
    fn take_ports(&mut self) -> Result<u16, Malformed> {
        let port = u16::from_be_bytes(self.take_array()?);
        self.take(2)?;
        Ok(port)
    }

    /// The next value with its kind; `None` at the end.
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
    fn a_line_names_the_client() {
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
    fn the_binary_form_names_the_client() {
        let six = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 7, 7, 0x5b]].concat();
        for (bytes, source) in [
            (tcp4(&[]), peer("192.0.2.1:4660")),
            (tcp4(&value(0x04, &[0; 9])), peer("192.0.2.1:4660")),
            (binary(0x21, 0x21, &six), peer("[2001:db8::1]:7")),
            (binary(0x21, 0x31, &[0; PATHS_LENGTH]), Some(Peer::Local)),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x20, 0x00, b"what a proxy says of itself"), None),
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
    fn the_name_of_a_certificate_counts_only_if_it_was_verified() {
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
        fn pieces_give_what_the_whole_gives(
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
        fn no_bytes_break_it(
            is_binary: bool,
            is_led: bool,
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            cut in 0_usize..400,
        ) {
            let (proxy, start) = if is_binary { (V2, SIGNATURE) } else { (Proxy::V1, LINE_START) };
            let stream = if is_led { [start, &bytes].concat() } else { bytes };
            let mut reader = Reader::new(proxy);
            let (first, second) = stream.split_at(cut.min(stream.len()));
            if let Ok(None) = reader.receive(first) {
                let _ = reader.receive(second);
            }
            prop_assert!(reader.held.len() <= HEADER_MAXIMUM);
        }

        /// Any byte of a header changed either still reads or is refused, and never tells of more than TLS can.
        #[test]
        fn values_never_reach_beyond_their_bounds(at in 16_usize..60, to: u8) {
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
