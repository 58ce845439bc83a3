//! Verifies certificates of version 1.
//!
//! rustls rejects them, but `openssl` has made them by default for twenty years, and the clients and servers of many
//! brokers have them. They are accepted as far as they can be verified without extensions: if one of the authorities
//! itself has signed them, and if they are within their validity.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore};

use super::certificate::Certificate;
use super::signature::PublicKey;

/// The certificate, if it states no version, which means version 1.
fn of_version_1<'a>(certificate: &'a CertificateDer<'_>) -> Option<Certificate<'a>> {
    Certificate::parse(certificate).filter(|certificate| certificate.is_version_1)
}

/// Verifies that one of the authorities has issued the certificate, and its validity.
pub(super) fn verify(
    certificate: &Certificate<'_>,
    authorities: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Result<(), CertificateError> {
    verify_dates(certificate, now)?;
    let mut issuers = authorities
        .roots
        .iter()
        // An authority with name constraints would need extensions to check them against.
        .filter(|root| root.name_constraints.is_none() && root.subject.as_ref() == certificate.issuer)
        .peekable();
    if issuers.peek().is_none() {
        return Err(CertificateError::UnknownIssuer);
    }
    let is_signed = issuers
        .any(|issuer| certificate.signed.is_signed_with(issuer.subject_public_key_info.as_ref(), algorithms));
    if is_signed { Ok(()) } else { Err(CertificateError::BadSignature) }
}

/// Verifies that the certificate, of whichever version, is valid now.
pub(super) fn verify_dates(certificate: &Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let moment = |seconds: i64| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    let (not_before, not_after) = (moment(certificate.not_before), moment(certificate.not_after));
    if seconds < certificate.not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if seconds > certificate.not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    Ok(())
}

/// Verifies that the handshake of TLS 1.2 was signed with the key of a certificate of any version.
pub(super) fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(certificate) = of_version_1(certificate) else {
        return crypto::verify_tls12_signature(message, certificate, signed, algorithms);
    };
    let refused = || Error::from(CertificateError::BadSignature);
    let key = PublicKey::parse(certificate.key).ok_or_else(refused)?;
    let of_scheme = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let (_, of_scheme) = of_scheme.ok_or_else(refused)?;
    let mut fitting =
        of_scheme.iter().filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm);
    let is_signed =
        fitting.any(|algorithm| algorithm.verify_signature(key.bits, message, signed.signature()).is_ok());
    if is_signed { Ok(HandshakeSignatureValid::assertion()) } else { Err(refused()) }
}

/// Verifies that the handshake of TLS 1.3 was signed with the key of a certificate of any version.
pub(super) fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let Some(certificate) = of_version_1(certificate) else {
        return crypto::verify_tls13_signature(message, certificate, signed, algorithms);
    };
    let key = SubjectPublicKeyInfoDer::from(certificate.public_key);
    crypto::verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
}
