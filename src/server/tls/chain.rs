//! Completes a certificate chain that consists of one certificate: the intermediate certificates that it lacks may be
//! among the trusted authorities, as OpenSSL looks for them there.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;

use super::certificate::Certificate;

/// The most certificates that are added. Each client receives them all.
const ADDED_MAXIMUM: usize = 8;

/// Adds the authorities that lead from the certificate to one that signed itself, which is not added, since a peer that
/// trusts it has it. A chain of more than one certificate is complete. `now` is in seconds since 1970.
pub(super) fn complete(
    chain: &mut Vec<CertificateDer<'static>>,
    known: &[CertificateDer<'static>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: i64,
) {
    if chain.len() != 1 {
        return;
    }
    while chain.len() <= ADDED_MAXIMUM {
        let last = chain.last().and_then(|last| Certificate::parse(last));
        let issuer = last.and_then(|last| issuer_of(&last, known, algorithms, now)).cloned();
        let Some(issuer) = issuer.filter(|issuer| !chain.contains(issuer)) else { return };
        chain.push(issuer);
    }
}

/// The authority that has issued this certificate: of several with the same name and key, the one that is valid for the
/// longest time.
fn issuer_of<'a>(
    certificate: &Certificate<'_>,
    known: &'a [CertificateDer<'static>],
    algorithms: &WebPkiSupportedAlgorithms,
    now: i64,
) -> Option<&'a CertificateDer<'static>> {
    if certificate.is_self_issued() {
        return None;
    }
    let candidates = known.iter().filter_map(|known| Some((known, Certificate::parse(known)?)));
    let issuers = candidates.filter(|(_, issuer)| {
        issuer.subject == certificate.issuer
            && !issuer.is_self_issued()
            && issuer.is_authority()
            && certificate.signed.is_signed_with(issuer.key, algorithms)
    });
    issuers
        .max_by_key(|(_, issuer)| ((issuer.not_before..=issuer.not_after).contains(&now), issuer.not_after))
        .map(|(issuer, _)| issuer)
}
