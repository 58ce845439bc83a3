//! The parts of a certificate (RFC 5280) that the broker needs: its names, its validity, its public key, and some
//! extensions.
//!
//! Parsing checks the form of the DER and verifies nothing: a peer's certificate has been verified before its names
//! are used here. A malformed certificate parses as `None`, never in part.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::der::{
    BIT_STRING, BOOLEAN, INTEGER, Item, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET,
};
use super::signature::{PublicKey, Signed};

/// Context-specific, constructed, number 0: the version of the certificate.
const VERSION: u8 = 0xa0;
/// Context-specific, number 1 and 2: identifiers of the issuer and of the subject, which are never used.
const UNIQUE_IDENTIFIERS: [u8; 2] = [0x81, 0x82];
/// Context-specific, constructed, number 3: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// Context-specific, number 2: a host name in a subjectAltName.
const DNS_NAME: u8 = 0x82;
/// Context-specific, number 7: an IP address in a subjectAltName.
const IP_ADDRESS: u8 = 0x87;

/// The kind of the extension that has the names of a server.
pub(super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
/// The kind of the extension that limits the names which an authority may certify.
pub(super) const NAME_CONSTRAINTS: &[u8] = &[0x55, 29, 30];
/// The kind of the extension that limits what a certificate may be used for.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
/// The uses that include a server: serverAuth and anyExtendedKeyUsage.
const USES_OF_SERVERS: [&[u8]; 2] = [&[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x55, 29, 37, 0]];
/// The uses that include a client: clientAuth and anyExtendedKeyUsage.
const USES_OF_CLIENTS: [&[u8]; 2] = [&[0x2b, 6, 1, 5, 5, 7, 3, 2], &[0x55, 29, 37, 0]];
/// The kind of the extension that says what the key may do.
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
/// The bit in its first byte for a key that may sign certificates.
const SIGNS_CERTIFICATES: u8 = 0x04;
/// The kind of the extension that says whether the certificate is that of an authority.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
/// The object identifier of the curve P-521, with its header.
pub(super) const P521: &[u8] = &[OBJECT_IDENTIFIER, 5, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// The attribute type of the Common Name.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// Short names of attribute types, as written in a subject.
const SHORT_NAMES: [(&[u8], &str); 14] = [
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 42], "GN"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// A certificate, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certificate<'a> {
    /// The SubjectPublicKeyInfo with its header.
    pub(super) public_key: &'a [u8],
    /// The SubjectPublicKeyInfo without its header.
    pub(super) key: &'a [u8],
    /// Whether it states no version, so that it is of version 1 and has no extensions.
    pub(super) is_version_1: bool,
    /// What the issuer has signed.
    pub(super) signed: Signed<'a>,
    /// The serial number.
    pub(super) serial: &'a [u8],
    /// The name of the issuer.
    pub(super) issuer: &'a [u8],
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
    /// The name of its owner.
    pub(super) subject: &'a [u8],
    /// The fields after the public key, all of which are optional.
    rest: &'a [u8],
}

/// An extension of a certificate.
#[derive(Clone, Copy, Debug)]
struct Extension<'a> {
    kind: &'a [u8],
    value: &'a [u8],
}

/// One attribute of a subject.
#[derive(Clone, Copy, Debug)]
struct Attribute<'a> {
    kind: &'a [u8],
    tag: u8,
    value: &'a [u8],
    /// The value with its header.
    whole: &'a [u8],
    /// Whether it belongs to the same set as the attribute before.
    is_joined: bool,
}

impl<'a> Certificate<'a> {
    /// Parses one certificate, which must fill `bytes`.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(bytes);
        let mut certificate = Reader(outer.take(SEQUENCE)?);
        let signed = certificate.next_item().filter(|item| item.tag == SEQUENCE)?;
        let algorithm = certificate.take(SEQUENCE)?;
        let signature = certificate.take_whole_bits()?;
        let mut fields = Reader(signed.contents);
        let is_version_1 = fields.0.first() != Some(&VERSION);
        if !is_version_1 {
            fields.take(VERSION)?;
        }
        let serial = fields.take(INTEGER)?;
        // The algorithm is stated twice, and only one statement is signed.
        let is_consistent = fields.take(SEQUENCE)? == algorithm;
        let issuer = fields.take(SEQUENCE)?;
        let mut validity = Reader(fields.take(SEQUENCE)?);
        let (not_before, not_after) = (validity.take_time()?, validity.take_time()?);
        let subject = fields.take(SEQUENCE)?;
        let key = fields.next_item().filter(|item| item.tag == SEQUENCE)?;
        let is_all = outer.0.is_empty() && certificate.0.is_empty();
        (is_all && is_consistent).then_some(Self {
            public_key: key.whole,
            key: key.contents,
            is_version_1,
            signed: Signed { contents: signed.whole, algorithm, signature },
            serial,
            issuer,
            not_before,
            not_after,
            subject,
            rest: fields.0,
        })
    }

    /// Whether it names its subject as its issuer, as a certificate does that signed itself.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether it certainly has no extension of this kind: not if the extensions are malformed.
    pub(super) fn lacks(&self, kind: &[u8]) -> bool {
        self.extensions().is_some_and(|all| all.iter().all(|extension| extension.kind != kind))
    }

    /// Whether its key is on the curve P-521.
    pub(super) fn is_on_p521(&self) -> bool {
        PublicKey::parse(self.key).is_some_and(|key| key.algorithm.ends_with(P521))
    }

    /// Whether its owner may certify others. Without extensions that say so, that is so for version 1 alone.
    pub(super) fn is_authority(&self) -> bool {
        let Some(extensions) = self.extensions() else { return false };
        let value = |kind| {
            extensions.iter().find(|extension| extension.kind == kind).map(|extension| extension.value)
        };
        let may_sign = value(KEY_USAGE).map(|usage| {
            let bits = Reader(usage).take(BIT_STRING).and_then(|bits| bits.get(1));
            bits.is_some_and(|bits| bits & SIGNS_CERTIFICATES != 0)
        });
        match value(BASIC_CONSTRAINTS) {
            Some(constraints) => {
                let mut constraints = Reader(Reader(constraints).take(SEQUENCE).unwrap_or_default());
                let is_authority = constraints.take(BOOLEAN).is_some_and(|value| value != [0]);
                is_authority && may_sign != Some(false)
            }
            None => may_sign.unwrap_or(self.is_version_1),
        }
    }

    /// Whether a server may use it: its uses are not limited, or include that.
    pub(super) fn is_for_servers(&self) -> bool {
        self.is_for(&USES_OF_SERVERS)
    }

    /// Whether a client may use it, in the same way.
    pub(super) fn is_for_clients(&self) -> bool {
        self.is_for(&USES_OF_CLIENTS)
    }

    fn is_for(&self, meant: &[&[u8]]) -> bool {
        let Some(extensions) = self.extensions() else { return false };
        let mut limits = extensions.iter().filter(|extension| extension.kind == EXTENDED_KEY_USAGE);
        limits.all(|limit| {
            let mut uses = Reader(Reader(limit.value).take(SEQUENCE).unwrap_or_default());
            std::iter::from_fn(|| uses.take(OBJECT_IDENTIFIER)).any(|usage| meant.contains(&usage))
        })
    }

    /// The names of the server that it is for: host names and IP addresses of the subjectAltName; the Common Name if
    /// there is no such extension.
    pub(super) fn host_names(&self) -> Vec<String> {
        if self.lacks(SUBJECT_ALT_NAME) {
            return self.common_name().into_iter().collect();
        }
        let extensions = self.extensions().unwrap_or_default();
        let alternatives = extensions.iter().filter(|extension| extension.kind == SUBJECT_ALT_NAME);
        let mut found = Vec::new();
        for alternative in alternatives {
            let mut names = Reader(Reader(alternative.value).take(SEQUENCE).unwrap_or_default());
            let items = std::iter::from_fn(|| names.next_item());
            found.extend(items.filter_map(|item| match item.tag {
                DNS_NAME => core::str::from_utf8(item.contents).ok().map(str::to_owned),
                IP_ADDRESS => ip_address(item.contents).map(|address| address.to_string()),
                _ => None,
            }));
        }
        found
    }

    /// All extensions; `None` if they are malformed.
    fn extensions(&self) -> Option<Vec<Extension<'a>>> {
        let mut fields = Reader(self.rest);
        let mut extensions = Vec::new();
        while !fields.0.is_empty() {
            let field = fields.next_item()?;
            if UNIQUE_IDENTIFIERS.contains(&field.tag) {
                continue;
            }
            if field.tag != EXTENSIONS {
                return None;
            }
            let mut list = Reader(Reader(field.contents).take(SEQUENCE)?);
            while !list.0.is_empty() {
                let mut parts = Reader(list.take(SEQUENCE)?);
                let kind = parts.take(OBJECT_IDENTIFIER)?;
                if parts.0.first() == Some(&BOOLEAN) {
                    parts.take(BOOLEAN)?;
                }
                let value = parts.take(OCTET_STRING)?;
                extensions.push(Extension { kind, value });
            }
        }
        Some(extensions)
    }

    /// The first Common Name.
    pub(super) fn common_name(&self) -> Option<String> {
        let attributes = self.attributes()?;
        let name = attributes.iter().find(|attribute| attribute.kind == COMMON_NAME)?;
        decode_text(name.tag, name.value)
    }

    /// The whole subject in the form of RFC 2253, the last part first.
    pub(super) fn subject_text(&self) -> Option<String> {
        let attributes = self.attributes()?;
        let mut text = String::new();
        let mut is_joined_to_last = None;
        for attribute in attributes.iter().rev() {
            if let Some(is_joined) = is_joined_to_last {
                text.push(if is_joined { '+' } else { ',' });
            }
            is_joined_to_last = Some(attribute.is_joined);
            push_attribute(&mut text, attribute)?;
        }
        Some(text)
    }

    fn attributes(&self) -> Option<Vec<Attribute<'a>>> {
        let mut attributes = Vec::new();
        let mut names = Reader(self.subject);
        while !names.0.is_empty() {
            let mut set = Reader(names.take(SET)?);
            let mut is_joined = false;
            while !set.0.is_empty() {
                let mut pair = Reader(set.take(SEQUENCE)?);
                let kind = pair.take(OBJECT_IDENTIFIER)?;
                let Item { tag, contents, whole } = pair.next_item()?;
                if !pair.0.is_empty() {
                    return None;
                }
                attributes.push(Attribute { kind, tag, value: contents, whole, is_joined });
                is_joined = true;
            }
        }
        Some(attributes)
    }
}

/// An IP address from its four or sixteen bytes.
fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let of_4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    of_4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Decodes a value of a string type. `None` for other types and for invalid text.
fn decode_text(tag: u8, bytes: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString; TeletexString, where it is ASCII.
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => core::str::from_utf8(bytes).ok().map(str::to_owned),
        0x14 => bytes.is_ascii().then(|| bytes.iter().map(|&byte| char::from(byte)).collect()),
        // UniversalString
        0x1c => {
            let (chunks, rest) = bytes.as_chunks::<4>();
            let characters = chunks.iter().map(|chunk| char::from_u32(u32::from_be_bytes(*chunk)));
            if rest.is_empty() { characters.collect() } else { None }
        }
        // BMPString
        0x1e => {
            let (chunks, rest) = bytes.as_chunks::<2>();
            let units = chunks.iter().map(|chunk| u16::from_be_bytes(*chunk));
            if rest.is_empty() { char::decode_utf16(units).collect::<Result<_, _>>().ok() } else { None }
        }
        _ => None,
    }
}

fn push_attribute(text: &mut String, attribute: &Attribute<'_>) -> Option<()> {
    let name = SHORT_NAMES.iter().find(|(kind, _)| *kind == attribute.kind);
    match (name, decode_text(attribute.tag, attribute.value)) {
        (Some((_, name)), Some(value)) => {
            text.push_str(name);
            text.push('=');
            push_escaped(text, &value);
        }
        _ => {
            match name {
                Some((_, name)) => text.push_str(name),
                None => push_dotted(text, attribute.kind)?,
            }
            text.push_str("=#");
            for byte in attribute.whole {
                write!(text, "{byte:02X}").ok()?;
            }
        }
    }
    Some(())
}

/// Escapes characters with a meaning in a subject, control characters, and all that is not ASCII, byte by byte.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => text.extend(['\\', char::from(byte)]),
            b'#' if index == 0 => text.push_str("\\#"),
            b' ' if index == 0 || index == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a `String` does not fail.
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

/// Appends an object identifier in dotted form.
fn push_dotted(text: &mut String, kind: &[u8]) -> Option<()> {
    let mut number = 0_u64;
    let mut is_first = true;
    for &byte in kind {
        number = number.checked_mul(128)? | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let root = (number / 40).min(2);
            write!(text, "{root}.{}", number - root * 40).ok()?;
        } else {
            write!(text, ".{number}").ok()?;
        }
        is_first = false;
        number = 0;
    }
    kind.last().filter(|last| **last & 0x80 == 0).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tls::der::{GENERALIZED_TIME, UTC_TIME};
    use crate::server::tls::testing::Authority;
    use proptest::prelude::*;

    fn utf8(text: &str) -> Vec<u8> {
        item(0x0c, text.as_bytes())
    }

    fn item(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = contents.len();
        let header = match u8::try_from(length) {
            Ok(short @ 0..128) => vec![short],
            Ok(long) => vec![0x81, long],
            Err(_) => [&[0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
        };
        [&[tag], &header[..], contents].concat()
    }

    fn attribute(kind: &[u8], value: &[u8]) -> Vec<u8> {
        item(SEQUENCE, &[item(OBJECT_IDENTIFIER, kind), value.to_vec()].concat())
    }

    /// A certificate whose subject consists of these sets.
    fn with_subject(subject: &[Vec<u8>]) -> Vec<u8> {
        with_rest(subject, &[])
    }

    /// A certificate with these fields after its key.
    fn with_rest(subject: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
        let time = item(UTC_TIME, b"240229235959Z");
        let fields = [
            item(INTEGER, &[1]),
            item(SEQUENCE, &[]),
            item(SEQUENCE, &[]),
            item(SEQUENCE, &[time, item(GENERALIZED_TIME, b"20500101000000Z")].concat()),
            item(SEQUENCE, &subject.concat()),
            item(SEQUENCE, b"key"),
            rest.to_vec(),
        ];
        let signature = [item(SEQUENCE, &[]), item(BIT_STRING, &[0, 1, 2])].concat();
        item(SEQUENCE, &[item(SEQUENCE, &fields.concat()), signature].concat())
    }

    /// Reads all that can be read of it.
    fn look_at(certificate: &Certificate<'_>) {
        let _ = (certificate.common_name(), certificate.subject_text());
        let _ = (certificate.host_names(), certificate.is_for_servers(), certificate.is_self_issued());
    }

    #[test]
    fn the_fields_are_found() {
        let bytes = with_subject(&[]);
        let certificate = Certificate::parse(&bytes).unwrap();
        assert_eq!(certificate.public_key, item(SEQUENCE, b"key"));
        assert_eq!((certificate.not_before, certificate.not_after), (1_709_251_199, 2_524_608_000));
        assert_eq!((certificate.common_name(), certificate.subject_text()), (None, Some(String::new())));
        assert_eq!((certificate.is_version_1, certificate.signed.signature), (true, &[1, 2][..]));
    }

    fn extension(kind: &[u8], value: &[u8]) -> Vec<u8> {
        let parts = [item(OBJECT_IDENTIFIER, kind), item(BOOLEAN, &[0xff]), item(OCTET_STRING, value)];
        item(SEQUENCE, &parts.concat())
    }

    fn with_extensions(extensions: &[Vec<u8>]) -> Vec<u8> {
        let subject = [item(SET, &attribute(COMMON_NAME, &utf8("common")))];
        let list = item(EXTENSIONS, &item(SEQUENCE, &extensions.concat()));
        with_rest(&subject, &[item(UNIQUE_IDENTIFIERS[0], b"\0x"), list].concat())
    }

    #[test]
    fn the_names_of_a_server_are_those_of_one_kind() {
        let names = [
            item(0x81, b"mail@example.org"),
            item(DNS_NAME, b"*.example.org"),
            item(IP_ADDRESS, &[127, 0, 0, 1]),
            item(IP_ADDRESS, &[0; 16]),
            item(IP_ADDRESS, &[1; 5]),
        ];
        let of =
            |extensions: &[Vec<u8>]| Certificate::parse(&with_extensions(extensions)).unwrap().host_names();
        let alternatives = extension(SUBJECT_ALT_NAME, &item(SEQUENCE, &names.concat()));
        assert_eq!(of(&[extension(b"x", b""), alternatives]), ["*.example.org", "127.0.0.1", "::"]);
        assert_eq!(of(&[extension(SUBJECT_ALT_NAME, &item(SEQUENCE, b""))]), [""; 0]);
        assert_eq!(of(&[extension(SUBJECT_ALT_NAME, b"junk")]), [""; 0]);
        assert_eq!(of(&[extension(b"x", b"")]), ["common"]);
        assert_eq!(of(&[b"junk".to_vec()]), [""; 0]);
    }

    #[test]
    fn an_extension_is_missing_only_where_all_can_be_read() {
        let lacks = |rest: &[u8]| Certificate::parse(&with_rest(&[], rest)).unwrap().lacks(SUBJECT_ALT_NAME);
        assert!(lacks(b""));
        assert!(lacks(&item(EXTENSIONS, &item(SEQUENCE, &extension(NAME_CONSTRAINTS, b"")))));
        assert!(!lacks(&item(EXTENSIONS, &item(SEQUENCE, &extension(SUBJECT_ALT_NAME, b"")))));
        assert!(!lacks(&item(EXTENSIONS, b"")));
        assert!(!lacks(&item(EXTENSIONS, &item(SEQUENCE, b"x"))));
        assert!(!lacks(&item(SEQUENCE, b"")));
    }

    #[test]
    fn the_uses_of_a_certificate_are_read() {
        let uses = |list: &[&[u8]]| {
            let list: Vec<_> = list.iter().map(|usage| item(OBJECT_IDENTIFIER, usage)).collect();
            let bytes = with_extensions(&[extension(EXTENDED_KEY_USAGE, &item(SEQUENCE, &list.concat()))]);
            Certificate::parse(&bytes).unwrap().is_for_servers()
        };
        let for_clients: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
        assert!(uses(&[for_clients, USES_OF_SERVERS[0]]) && uses(&[USES_OF_SERVERS[1]]));
        assert!(!uses(&[for_clients]) && !uses(&[]));
        assert!(Certificate::parse(&with_extensions(&[])).unwrap().is_for_servers());
    }

    #[test]
    fn names_are_read_and_written_as_mosquitto_does() {
        let kind = |short: &str| SHORT_NAMES.iter().find(|(_, name)| *name == short).unwrap().0;
        let subject = [
            item(SET, &attribute(kind("C"), &item(0x13, b"DE"))),
            item(SET, &attribute(kind("O"), &utf8("Ä, B & \"C\""))),
            item(
                SET,
                &[attribute(kind("OU"), &utf8("a+b")), attribute(&[0x2a, 3, 0x81, 4], &utf8("x"))].concat(),
            ),
            item(SET, &attribute(COMMON_NAME, &item(0x1e, &[0, b'#', 0x20, 0xac, 0, b' ']))),
            item(SET, &attribute(COMMON_NAME, &utf8("second"))),
        ];
        let bytes = with_subject(&subject);
        let certificate = Certificate::parse(&bytes).unwrap();
        assert_eq!(certificate.common_name().unwrap(), "#\u{20ac} ");
        assert_eq!(
            certificate.subject_text().unwrap(),
            "CN=second,CN=\\#\\E2\\82\\AC\\ ,1.2.3.132=#0C0178+OU=a\\+b,O=\\C3\\84\\, B & \\\"C\\\",C=DE"
        );
    }

    #[test]
    fn a_name_that_is_no_text_is_no_name() {
        for value in [item(0x0c, &[0xff]), item(0x04, b"octets"), item(0x1e, &[0xd8, 0]), item(0x14, &[0xe4])]
        {
            let bytes = with_subject(&[item(SET, &attribute(COMMON_NAME, &value))]);
            assert_eq!(Certificate::parse(&bytes).unwrap().common_name(), None, "{value:02x?}");
        }
    }

    #[test]
    fn a_real_certificate_reads_as_openssl_reads_it() {
        let authority = Authority::new();
        let subject = "/C=DE/O=Acme, Inc./OU=Ofen \\+ Herd/CN=k\u{fc}che/emailAddress=a@b.example";
        let files = authority.issue("real", subject);
        let der = files.certificate_der();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.common_name().unwrap(), "k\u{fc}che");
        let told = files.openssl_subject();
        assert_eq!(certificate.subject_text().unwrap(), told);
    }

    proptest! {
        /// With one byte changed or its end cut off, a certificate parses or does not, without a panic.
        #[test]
        fn no_bytes_break_it(at in 0_usize..150, to: u8, cut in 0_usize..150) {
            let subject = [item(SET, &attribute(COMMON_NAME, &utf8("device")))];
            let mut bytes = with_subject(&subject);
            let length = bytes.len();
            bytes[at % length] = to;
            bytes.truncate(length - cut % length / 4);
            if let Some(certificate) = Certificate::parse(&bytes) {
                look_at(&certificate);
            }
        }

        #[test]
        fn nothing_reads_as_a_certificate(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(certificate) = Certificate::parse(&item(SEQUENCE, &item(SEQUENCE, &bytes))) {
                look_at(&certificate);
            }
        }
    }
}
