//! Revocation lists (RFC 5280) for certificates that signed themselves. rustls has parsed these lists before, and looks
//! up all other certificates itself.

use rustls::CertificateError;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateRevocationListDer;

use super::certificate::Certificate;
use super::der::{BOOLEAN, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, UTC_TIME};
use super::signature::Signed;

/// Context-specific, constructed, number 0: the extensions of a list.
const EXTENSIONS: u8 = 0xa0;

/// A revocation list, borrowed from its bytes.
struct List<'a> {
    signed: Signed<'a>,
    /// The name of the issuer.
    issuer: &'a [u8],
    /// When the next list is due, in seconds since 1970.
    next: Option<i64>,
    /// The entries.
    revoked: &'a [u8],
    /// Whether it is about all certificates of its issuer, and about nothing else.
    is_whole: bool,
}

/// Verifies that none of the lists revokes a certificate that signed itself, and that one of them is about it. `now` is
/// in seconds since 1970.
pub(super) fn verify(
    certificate: &Certificate<'_>,
    lists: &[CertificateRevocationListDer<'_>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: i64,
) -> Result<(), CertificateError> {
    let own = lists.iter().filter_map(|list| List::parse(list)).filter(|list| {
        list.is_whole
            && list.issuer == certificate.issuer
            && list.signed.is_signed_with(certificate.key, algorithms)
    });
    let mut outcome = Err(CertificateError::UnknownRevocationStatus);
    for list in own {
        if list.revokes(certificate.serial) {
            return Err(CertificateError::Revoked);
        }
        let is_current = list.next.is_none_or(|next| now <= next);
        outcome = match outcome {
            Err(_) if !is_current => Err(CertificateError::ExpiredRevocationList),
            _ => Ok(()),
        };
    }
    outcome
}

impl<'a> List<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(bytes);
        let mut list = Reader(outer.take(SEQUENCE)?);
        let contents = list.next_item().filter(|item| item.tag == SEQUENCE)?;
        let (algorithm, signature) = (list.take(SEQUENCE)?, list.take_whole_bits()?);
        let signed = Signed { contents: contents.whole, algorithm, signature };
        let mut fields = Reader(contents.contents);
        if fields.0.first() == Some(&INTEGER) {
            fields.take(INTEGER)?;
        }
        let is_consistent = fields.take(SEQUENCE)? == algorithm;
        let issuer = fields.take(SEQUENCE)?;
        fields.take_time()?;
        let has_next = matches!(fields.0.first(), Some(&(UTC_TIME | GENERALIZED_TIME)));
        let next = if has_next { Some(fields.take_time()?) } else { None };
        let revoked = if fields.0.first() == Some(&SEQUENCE) { fields.take(SEQUENCE)? } else { &[] };
        let is_whole = fields.0.is_empty() || has_nothing_critical(fields.take(EXTENSIONS)?)?;
        (is_consistent && fields.0.is_empty()).then_some(Self { signed, issuer, next, revoked, is_whole })
    }

    fn revokes(&self, serial: &[u8]) -> bool {
        let mut entries = Reader(self.revoked);
        std::iter::from_fn(|| entries.take(SEQUENCE)).any(|entry| Reader(entry).take(INTEGER) == Some(serial))
    }
}

/// Whether no extension is critical. One that limits a list to some of the certificates is.
fn has_nothing_critical(extensions: &[u8]) -> Option<bool> {
    let mut list = Reader(Reader(extensions).take(SEQUENCE)?);
    while !list.0.is_empty() {
        let mut parts = Reader(list.take(SEQUENCE)?);
        parts.take(OBJECT_IDENTIFIER)?;
        if parts.0.first() == Some(&BOOLEAN) {
            return Some(false);
        }
    }
    Some(true)
}
