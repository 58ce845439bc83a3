//! Verifies the certificates of servers.
//!
//! Chains are verified by rustls, with the exception of version 1. So are names, but many brokers have certificates
//! that rustls refuses and that the clients of other brokers accept:
//!
//! - A certificate without a subjectAltName is for its Common Name, which is a host name or an address.
//! - A server may present a certificate that signed itself, if the operator trusts that certificate.

use std::net::IpAddr;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::authorities::{Authorities, Digest, digest};
use super::certificate::{Certificate, NAME_CONSTRAINTS, SUBJECT_ALT_NAME};
use super::version_1;

/// Verifies the certificate of one server.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) authorities: Authorities,
    /// Whether the certificate may be for another name.
    pub(super) ignores_name: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate that a server has presented.
struct Presented<'a> {
    certificate: Certificate<'a>,
    /// `None` for version 1, which rustls does not parse.
    parsed: Option<ParsedCertificate<'a>>,
    digest: Digest,
    intermediates: &'a [CertificateDer<'a>],
    now: UnixTime,
}

impl ServerVerifier {
    /// Verifies everything but the name: the signatures up to one of these authorities, the validity of each
    /// certificate, and its purpose.
    fn verify_chain(
        &self,
        presented: &Presented<'_>,
        roots: &RootCertStore,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let Presented { certificate, now, .. } = presented;
        if self.authorities.self_issued.contains(&presented.digest) {
            version_1::verify_dates(certificate, *now)?;
            let is_for_servers = certificate.is_for_servers();
            return if is_for_servers { Ok(()) } else { Err(CertificateError::InvalidPurpose.into()) };
        }
        let Some(parsed) = &presented.parsed else {
            return Ok(version_1::verify(certificate, roots, &self.algorithms, *now)?);
        };
        let all = self.algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(parsed, roots, intermediates, *now, all) {
            // rustls objects to its being an authority before it asks whether it is a trusted one.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if certificate.is_self_issued() => {
                Err(CertificateError::UnknownIssuer.into())
            }
            outcome => outcome,
        }
    }

    /// Verifies that the certificate, whose chain has been verified, is for this name.
    fn verify_name(&self, presented: &Presented<'_>, name: &ServerName<'_>) -> Result<(), Error> {
        let certificate = &presented.certificate;
        match presented.parsed.as_ref().map(|parsed| verify_server_name(parsed, name)) {
            None
            | Some(Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ))) => {}
            Some(outcome) => return outcome,
        }
        let is_named = certificate.lacks(SUBJECT_ALT_NAME)
            && certificate.common_name().is_some_and(|common_name| is_for(&common_name, name))
            && self.verify_unconstrained(presented).is_ok();
        if is_named {
            return Ok(());
        }
        let (expected, presented) = (name.to_owned(), certificate.host_names());
        Err(CertificateError::NotValidForNameContext { expected, presented }.into())
    }

    /// Verifies the chain again, without the authorities that may certify only certain names: rustls does not compare
    /// a Common Name with them.
    fn verify_unconstrained(&self, presented: &Presented<'_>) -> Result<(), Error> {
        let roots = self.authorities.roots.roots.iter();
        let roots = roots.filter(|root| root.name_constraints.is_none()).cloned().collect();
        let is_unconstrained = |certificate: &&CertificateDer<'_>| {
            Certificate::parse(certificate).is_some_and(|certificate| certificate.lacks(NAME_CONSTRAINTS))
        };
        let intermediates: Vec<_> =
            presented.intermediates.iter().filter(is_unconstrained).cloned().collect();
        self.verify_chain(presented, &RootCertStore { roots }, &intermediates)
    }
}

/// Whether a Common Name is the name of this server: without regard to case, and with a wildcard for one whole label
/// above at least two.
fn is_for(common_name: &str, server: &ServerName<'_>) -> bool {
    match server {
        ServerName::DnsName(host) => {
            let host = host.as_ref();
            let host = host.strip_suffix('.').unwrap_or(host);
            let is_covered = |domain: &str| {
                let is_below = |(_, above): (&str, &str)| above.eq_ignore_ascii_case(domain);
                domain.contains('.') && host.split_once('.').is_some_and(is_below)
            };
            common_name.eq_ignore_ascii_case(host) || common_name.strip_prefix("*.").is_some_and(is_covered)
        }
        ServerName::IpAddress(address) => common_name.parse() == Ok(IpAddr::from(*address)),
        _ => false,
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = Certificate::parse(end_entity).ok_or(CertificateError::BadEncoding)?;
        let is_version_1 = certificate.is_version_1;
        let parsed = if is_version_1 { None } else { Some(ParsedCertificate::try_from(end_entity)?) };
        let presented = Presented { certificate, parsed, digest: digest(end_entity), intermediates, now };
        self.verify_chain(&presented, &self.authorities.roots, intermediates)?;
        if !self.ignores_name {
            self.verify_name(&presented, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_compared_as_a_host_name() {
        for (common_name, host, expected) in [
            ("broker.example.org", "Broker.example.ORG", true),
            ("broker.example.org", "broker.example.org.", true),
            ("broker.example.org.", "broker.example.org", false),
            ("broker", "broker", true),
            ("broker", "broker.example.org", false),
            ("*.example.org", "broker.example.org", true),
            ("*.EXAMPLE.org", "broker.example.org.", true),
            ("*.example.org", "a.broker.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.org", "example.org", false),
            ("*.", "broker.", false),
            ("*", "broker", false),
            ("b*.example.org", "broker.example.org", false),
            ("*.*.org", "broker.example.org", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("*.0.2.1", "192.0.2.1", false),
            ("2001:DB8:0::1", "2001:db8::1", true),
            ("2001:db8::2", "2001:db8::1", false),
            ("", "broker", false),
            ("broker\0.example.org", "broker", false),
        ] {
            let server = ServerName::try_from(host).unwrap();
            assert_eq!(is_for(common_name, &server), expected, "{common_name:?} {host}");
        }
    }
}
