//! Verifies the certificates of clients.
//!
//! That is done by rustls, with two exceptions. Certificates of version 1 are accepted where no revocation list is
//! configured. A certificate that signed itself is accepted if the operator trusts that certificate.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::authorities::{Digest, digest};
use super::certificate::Certificate;
use super::{revocation, version_1};

/// The verifier of rustls, with a verification of version 1 and of certificates that signed themselves.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None` if there are no authorities, with which rustls does not verify anything.
    pub(super) inner: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) is_mandatory: bool,
    /// The names of all that is trusted, for clients with several certificates.
    pub(super) hints: Vec<DistinguishedName>,
    pub(super) roots: Arc<RootCertStore>,
    /// Trusted certificates that name themselves as their issuer.
    pub(super) self_issued: Vec<Digest>,
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Verifies everything about a certificate but the client's possession of its key.
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = Certificate::parse(certificate).ok_or(CertificateError::BadEncoding)?;
        if parsed.is_self_issued() {
            if self.self_issued.contains(&digest(certificate)) {
                return Ok(self.verify_trusted(&parsed, now)?);
            }
            // It might have the name and the key of an authority.
            if parsed.signed.is_signed_with(parsed.key, &self.algorithms) {
                return Err(CertificateError::UnknownIssuer.into());
            }
        }
        if parsed.is_version_1 {
            if !self.lists.is_empty() {
                return Err(CertificateError::UnknownRevocationStatus.into());
            }
            return Ok(version_1::verify(&parsed, &self.roots, &self.algorithms, now)?);
        }
        let inner = self.inner.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        inner.verify_client_cert(certificate, intermediates, now).map(|_verified| ())
    }

    /// Verifies a certificate that is itself trusted.
    fn verify_trusted(&self, certificate: &Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
        version_1::verify_dates(certificate, now)?;
        if !certificate.is_for_clients() {
            return Err(CertificateError::InvalidPurpose);
        }
        if self.lists.is_empty() {
            return Ok(());
        }
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        revocation::verify(certificate, &self.lists, &self.algorithms, now)
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(certificate, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_1::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        version_1::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
