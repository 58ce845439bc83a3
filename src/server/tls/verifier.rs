//! Verifies the certificates of clients.
//!
//! That is done by rustls, with one exception: it rejects certificates of version 1, which `openssl` has made by
//! default for twenty years and which the clients of many brokers have. They are accepted as far as they can be
//! verified without extensions: if one of the authorities itself has signed them, if they are within their validity,
//! and only where no revocation list is configured.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::certificate::{Certificate, PublicKey};

/// The verifier of rustls, with a verification of version 1.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) authorities: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Whether there are revocation lists.
    pub(super) has_lists: bool,
}

impl Verifier {
    /// Verifies a certificate of version 1.
    fn judge(&self, certificate: &Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
        if self.has_lists {
            return Err(CertificateError::UnknownRevocationStatus);
        }
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < certificate.not_before {
            return Err(CertificateError::NotValidYet);
        }
        if now > certificate.not_after {
            return Err(CertificateError::Expired);
        }
        let mut issuers = self
            .authorities
            .roots
            .iter()
            // An authority with name constraints would need extensions to check them against.
            .filter(|root| root.name_constraints.is_none() && root.subject.as_ref() == certificate.issuer)
            .peekable();
        if issuers.peek().is_none() {
            return Err(CertificateError::UnknownIssuer);
        }
        let is_signed = issuers.any(|issuer| {
            PublicKey::parse(issuer.subject_public_key_info.as_ref()).is_some_and(|key| {
                let of_certificate = self
                    .algorithms
                    .all
                    .iter()
                    .filter(|algorithm| algorithm.signature_alg_id().as_ref() == certificate.algorithm);
                let mut fitting = of_certificate
                    .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm);
                fitting.any(|algorithm| {
                    algorithm.verify_signature(key.bits, certificate.signed, certificate.signature).is_ok()
                })
            })
        });
        if is_signed { Ok(()) } else { Err(CertificateError::BadSignature) }
    }

    /// Whether the handshake of TLS 1.2 was signed with the key of a certificate of version 1.
    fn verify_handshake(
        &self,
        message: &[u8],
        certificate: &Certificate<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let refused = || Error::from(CertificateError::BadSignature);
        let key = PublicKey::parse(certificate.key).ok_or_else(refused)?;
        let of_scheme = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, algorithms) = of_scheme.ok_or_else(refused)?;
        let mut fitting =
            algorithms.iter().filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm);
        let is_signed = fitting
            .any(|algorithm| algorithm.verify_signature(key.bits, message, signed.signature()).is_ok());
        if is_signed { Ok(HandshakeSignatureValid::assertion()) } else { Err(refused()) }
    }
}

/// A certificate that states no version, which means version 1.
fn of_version_1<'a>(certificate: &'a CertificateDer<'_>) -> Option<Certificate<'a>> {
    Certificate::parse(certificate).filter(|certificate| certificate.is_version_1)
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match of_version_1(certificate) {
            None => self.inner.verify_client_cert(certificate, intermediates, now),
            Some(certificate) => {
                self.judge(&certificate, now)?;
                Ok(ClientCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match of_version_1(certificate) {
            None => self.inner.verify_tls12_signature(message, certificate, signed),
            Some(certificate) => self.verify_handshake(message, &certificate, signed),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match of_version_1(certificate) {
            None => self.inner.verify_tls13_signature(message, certificate, signed),
            Some(certificate) => {
                let key = SubjectPublicKeyInfoDer::from(certificate.public_key);
                verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
