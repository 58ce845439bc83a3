//! Headers of both forms, whole and in pieces, and what is refused.

use super::*;
use proptest::prelude::*;

const V2: Proxy = Proxy::V2 { requires_tls: false, requires_certificate: false };

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
    ] {
        let header = Header { source, ..Header::default() };
        assert_eq!(read(V2, &bytes), Ok(Some((header, bytes.len()))), "{bytes:02x?}");
    }
}

#[test]
fn connections_of_the_proxy_itself_satisfy_every_requirement() {
    let strict = Proxy::V2 { requires_tls: true, requires_certificate: true };
    let tcp4 = [&[0; 12][..], &tls(7, 0, &value(KIND_COMMON_NAME, b"device"))].concat();
    for bytes in [
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, b"ignored for LOCAL"),
        binary(0x20, 0xff, &[4, 0xff, 0xff]),
        binary(0x20, 0x11, &tcp4),
    ] {
        let header = Header { is_local: true, ..Header::default() };
        assert_eq!(read(strict, &bytes), Ok(Some((header, bytes.len()))), "{bytes:02x?}");
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
        tcp4(&tls(7, 0, &value(KIND_COMMON_NAME, b"a").repeat(2))),
        tcp4(&tls(7, 0, &value(KIND_CERTIFICATE, b"a").repeat(2))),
        tcp4(&tls(1, 0, &value(KIND_CERTIFICATE, b"a").repeat(2))),
        tcp4(&tls(7, 0, &[KIND_CERTIFICATE, 0xff, 0xff, 0])),
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
    let strict = Proxy::V2 { requires_tls: true, requires_certificate: false };
    assert!(read(strict, &tcp4(&tls(1, 0, &[]))).is_ok());
    for refused in [tcp4(&tls(0, 0, &[])), tcp4(&[]), tcp4(&value(0x04, &tls(1, 0, &[])))] {
        let outcome = read(strict, &refused).map_err(|why| why.source);
        assert_eq!(outcome, Err(peer("192.0.2.1:4660")), "{refused:02x?}");
    }
}

#[test]
fn a_certificate_can_be_required() {
    let strict = Proxy::V2 { requires_tls: false, requires_certificate: true };
    for (flags, verified, is_accepted) in
        [(7, 0, true), (3, 0, true), (5, 0, true), (7, 1, false), (1, 0, false), (6, 0, false), (0, 0, false)]
    {
        let inner = [value(KIND_COMMON_NAME, b"device"), value(KIND_CERTIFICATE, b"DER")].concat();
        let outcome = read(strict, &tcp4(&tls(flags, verified, &inner)));
        assert_eq!(outcome.is_ok(), is_accepted, "flags {flags}, {verified}");
        if let Ok(Some((header, _))) = outcome {
            let names = (header.common_name.as_deref(), header.certificate.as_deref());
            assert_eq!(names, (Some("device"), Some(&b"DER"[..])));
        }
    }
    // A value inside of another one, or of the wrong level, says nothing.
    let nested = tls(1, 0, &tls(7, 0, &value(KIND_COMMON_NAME, b"device")));
    for refused in [tcp4(&[]), tcp4(&nested), tcp4(&value(KIND_COMMON_NAME, b"device"))] {
        assert!(read(strict, &refused).is_err(), "{refused:02x?}");
    }
}

/// Values of all kinds, some inside of others, with lengths that may be wrong.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(KIND_TLS), Just(KIND_COMMON_NAME), Just(KIND_CERTIFICATE), any::<u8>(),];
    let leaf = (kind.clone(), prop::collection::vec(any::<u8>(), 0..12));
    let leaf = leaf.prop_map(|(kind, bytes)| value(kind, &bytes));
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let inner = prop::collection::vec(inner, 0..4).prop_map(|values| values.concat());
        let flags = prop_oneof![Just(7_u8), Just(1), any::<u8>()];
        let about_tls = (flags, 0_u8..2, inner.clone());
        prop_oneof![
            about_tls.prop_map(|(flags, verified, inner)| tls(flags, verified, &inner)),
            (kind.clone(), inner.clone()).prop_map(|(kind, inner)| value(kind, &inner)),
            (inner, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, to)| {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = to;
                }
                bytes
            }),
        ]
    })
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

    /// Whatever a proxy sends, a client has a name only with a certificate that the first value about TLS vouches for.
    #[test]
    fn only_verified_certificates_give_names(values in values(), cut in 0_usize..4) {
        let mut body = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x07, 0x5b].to_vec();
        body.extend(&values);
        body.truncate(body.len() - cut.min(values.len()));
        let bytes = binary(0x21, 0x11, &body);
        let strict = Proxy::V2 { requires_tls: true, requires_certificate: true };
        let (loose, strict) = (read(V2, &bytes), read(strict, &bytes));
        let Ok(Some((header, taken))) = loose else {
            prop_assert!(strict.is_err(), "the stricter one refuses it as well");
            return Ok(());
        };
        prop_assert_eq!(taken, bytes.len());
        prop_assert_eq!(strict.is_ok(), header.is_tls && header.has_certificate);
        let is_named = header.common_name.is_some() || header.certificate.is_some();
        prop_assert!(!is_named || header.has_certificate);
        prop_assert!(header.certificate.is_none_or(|found| found.len() <= values.len()));
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
