//! The parts of a certificate (RFC 5280) that the broker needs: its subject, its validity, and its public key.
//!
//! Parsing checks the form of the DER and verifies nothing: a client's certificate has been verified before its
//! subject is used here. A malformed certificate parses as `None`, never in part.

use std::fmt::Write as _;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// Context-specific, constructed, number 0: the version of the certificate.
const VERSION: u8 = 0xa0;

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
    /// The part that is signed.
    pub(super) signed: &'a [u8],
    /// The signature algorithm.
    pub(super) algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    /// The name of the issuer.
    pub(super) issuer: &'a [u8],
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
    subject: &'a [u8],
}

/// A public key and its algorithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublicKey<'a> {
    pub(super) algorithm: &'a [u8],
    pub(super) bits: &'a [u8],
}

impl<'a> PublicKey<'a> {
    /// Parses a SubjectPublicKeyInfo without its header.
    pub(super) fn parse(info: &'a [u8]) -> Option<Self> {
        let mut fields = Reader(info);
        let algorithm = fields.take(SEQUENCE)?;
        let bits = fields.take_whole_bits()?;
        fields.0.is_empty().then_some(Self { algorithm, bits })
    }
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
        fields.take(INTEGER)?;
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
            signed: signed.whole,
            algorithm,
            signature,
            issuer,
            not_before,
            not_after,
            subject,
        })
    }

    /// The first Common Name.
    pub(super) fn common_name(&self) -> Option<String> {
        let attributes = self.attributes()?;
        let name = attributes.iter().find(|attribute| attribute.kind == COMMON_NAME)?;
        decode_text(name.tag, name.value)
    }

    /// The whole subject in the form of RFC 2253, the last part first.
    pub(super) fn subject(&self) -> Option<String> {
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

/// One item of DER.
struct Item<'a> {
    tag: u8,
    contents: &'a [u8],
    /// The contents with their header.
    whole: &'a [u8],
}

/// The bytes that are left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The contents of the next item, which must have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next_item().filter(|item| item.tag == tag).map(|item| item.contents)
    }

    fn next_item(&mut self) -> Option<Item<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        // Tags of more than one byte do not occur in what is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0_u64, |length, &digit| length << 8 | u64::from(digit));
                let is_shortest = length >= 0x80 && digits.first() != Some(&0);
                (usize::try_from(length).ok().filter(|_| is_shortest)?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Item { tag, contents, whole })
    }

    /// The contents of a bit string that consists of whole bytes.
    fn take_whole_bits(&mut self) -> Option<&'a [u8]> {
        match self.take(BIT_STRING)?.split_first()? {
            (0, bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A time in seconds since 1970.
    fn take_time(&mut self) -> Option<i64> {
        let Item { tag, contents, .. } = self.next_item()?;
        let text = core::str::from_utf8(contents).ok()?.strip_suffix('Z')?;
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let (year_digits, digits) = match tag {
            UTC_TIME => (2, 12),
            GENERALIZED_TIME => (4, 14),
            _ => return None,
        };
        if !is_digits || text.len() != digits {
            return None;
        }
        let (year, rest) = text.split_at_checked(year_digits)?;
        let year: i64 = year.parse().ok()?;
        let year = match tag {
            UTC_TIME if year < 50 => 2000 + year,
            UTC_TIME => 1900 + year,
            _ => year,
        };
        let mut parts = [0_i64; 5];
        for (part, digits) in parts.iter_mut().zip(rest.as_bytes().chunks(2)) {
            *part = digits.iter().fold(0, |number, digit| 10 * number + i64::from(digit - b'0'));
        }
        let [month, day, hour, minute, second] = parts;
        let is_moment = (1..=12).contains(&month) && (1..=31).contains(&day);
        is_moment.then(|| ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    }
}

/// The days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let time = item(UTC_TIME, b"240229235959Z");
        let fields = [
            item(INTEGER, &[1]),
            item(SEQUENCE, &[]),
            item(SEQUENCE, &[]),
            item(SEQUENCE, &[time, item(GENERALIZED_TIME, b"20500101000000Z")].concat()),
            item(SEQUENCE, &subject.concat()),
            item(SEQUENCE, b"key"),
        ];
        let signature = [item(SEQUENCE, &[]), item(BIT_STRING, &[0, 1, 2])].concat();
        item(SEQUENCE, &[item(SEQUENCE, &fields.concat()), signature].concat())
    }

    #[test]
    fn days_are_counted_through_leap_years() {
        for (date, expected) in
            [((1970, 1, 1), 0), ((2000, 2, 29), 11_016), ((2000, 3, 1), 11_017), ((2100, 3, 1), 47_541)]
        {
            let (year, month, day) = date;
            assert_eq!(days(year, month, day), expected, "{date:?}");
        }
    }

    #[test]
    fn the_fields_are_found() {
        let bytes = with_subject(&[]);
        let certificate = Certificate::parse(&bytes).unwrap();
        assert_eq!(certificate.public_key, item(SEQUENCE, b"key"));
        assert_eq!((certificate.not_before, certificate.not_after), (1_709_251_199, 2_524_608_000));
        assert_eq!((certificate.common_name(), certificate.subject()), (None, Some(String::new())));
        assert_eq!((certificate.is_version_1, certificate.signature), (true, &[1, 2][..]));
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
            certificate.subject().unwrap(),
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
        assert_eq!(certificate.subject().unwrap(), told);
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
                let _ = (certificate.common_name(), certificate.subject());
            }
        }

        #[test]
        fn nothing_reads_as_a_certificate(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(certificate) = Certificate::parse(&item(SEQUENCE, &item(SEQUENCE, &bytes))) {
                let _ = (certificate.common_name(), certificate.subject());
            }
        }
    }
}
