//! Describes TLS errors, so that a reader who does not know the standard knows what to do.

use std::fmt::Write as _;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use crate::base::escape::Escaped;
use crate::logging::in_utc;

use super::files::Keywords;

/// The most names of a certificate that are shown; there may be thousands.
const NAMES_MAXIMUM: usize = 5;
/// The kinds of keys and signatures that are supported.
const SUPPORTED: &str =
    "RSA from 2048 bits on, ECDSA with P-256 or P-384, or Ed25519, signed with SHA-256 or more";

/// What was configured for connections to a server, as far as messages refer to it.
#[derive(Debug)]
pub(super) struct Terms {
    /// The trusted authorities, such as `bridge_cafile /etc/authority.crt`.
    pub(super) trusted: String,
    pub(super) is_1_3_only: bool,
    /// Whether a certificate is presented to a server that requests one.
    pub(super) has_certificate: bool,
    /// The keywords of these settings.
    pub(super) keywords: &'static Keywords,
}

/// Describes an error of a connection with a server on these terms, or with a client if there are none.
pub(super) fn in_words(error: &Error, terms: Option<&Terms>) -> String {
    let peer = if terms.is_some() { "server" } else { "client" };
    match (error, terms) {
        (Error::NoCertificatesPresented, _) => format!(
            "the {peer} presented no certificate, or has none that is supported here, as one on P-521; expected \
             {SUPPORTED}"
        ),
        (Error::InvalidCertificate(why), _) => {
            format!("the {peer}'s certificate {}", about_certificate(why, terms))
        }
        (Error::AlertReceived(alert), None) => about_alert_of_client(*alert),
        (Error::AlertReceived(alert), Some(terms)) => about_alert_of_server(*alert, terms),
        (Error::InvalidMessage(InvalidMessage::InvalidContentType), _) => {
            format!("the {peer} does not speak TLS")
        }
        (Error::InvalidMessage(why), _) => format!("the {peer} sent malformed TLS ({why:?})"),
        (
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ),
            Some(terms),
        ) => about_versions(terms),
        (
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ),
            _,
        ) => format!("the {peer} offers no version of TLS that is spoken here"),
        (Error::PeerIncompatible(why), _) => {
            format!("the {peer} and this side have no TLS parameters in common ({why:?})")
        }
        (Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol), Some(_)) => {
            "the server selected a protocol that bridge_alpn does not offer".to_owned()
        }
        (Error::NoApplicationProtocol, _) => format!("the {peer} offers only other protocols (ALPN)"),
        (Error::DecryptError, _) => format!("data from the {peer} cannot be decrypted"),
        (other, _) => other.to_string(),
    }
}

fn about_certificate(why: &CertificateError, terms: Option<&Terms>) -> String {
    match (why, terms) {
        (CertificateError::UnknownIssuer, None) => {
            "was not issued by an authority in cafile or capath".to_owned()
        }
        (CertificateError::UnknownIssuer, Some(terms)) => format!(
            "was not issued by an authority in {}; add the certificate of its authority, or itself if it is \
             self-signed, and check that the server sends all intermediate certificates",
            terms.trusted
        ),
        (CertificateError::ExpiredContext { time, not_after }, _) => format!(
            "has expired (it was valid until {}, and it is {} here); renew it, or set the clock of this machine",
            moment(*not_after),
            moment(*time)
        ),
        (CertificateError::NotValidYetContext { time, not_before }, _) => format!(
            "is not valid yet (it will be from {} on, and it is {} here); set the clock of this machine",
            moment(*not_before),
            moment(*time)
        ),
        (CertificateError::Expired, _) => "has expired, or is never valid".to_owned(),
        (CertificateError::Revoked, _) => "was revoked".to_owned(),
        (CertificateError::UnknownRevocationStatus, _) => {
            "is not covered by crlfile, which has no list of its issuer".to_owned()
        }
        (
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. },
            _,
        ) => "cannot be checked, because the list in crlfile has expired".to_owned(),
        (CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }, _) => {
            let peers = if terms.is_some() { "servers" } else { "clients" };
            format!("is not meant for {peers}")
        }
        (CertificateError::NotValidForNameContext { expected, presented }, _) => {
            about_names(expected, presented, terms)
        }
        (CertificateError::BadSignature, None) => "was not signed by the issuer that it names".to_owned(),
        (CertificateError::BadSignature, Some(_)) => format!(
            "was not signed by the issuer that it names, or with a key that is too small, or the server does not have \
             its key; expected {SUPPORTED}"
        ),
        (
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            _,
        ) => format!(
            "or that of its authority is signed with an algorithm or key that is not supported, such as P-521 or \
             SHA-1; expected {SUPPORTED}"
        ),
        (CertificateError::Other(why), _) => format!("is unusable ({why})"),
        (other, _) => format!("is unusable ({other:?})"),
    }
}

/// Describes which names a certificate has, and the ways out.
fn about_names(expected: &ServerName<'_>, presented: &[String], terms: Option<&Terms>) -> String {
    let mut names = String::new();
    for name in presented.iter().take(NAMES_MAXIMUM) {
        // Writing to a `String` does not fail.
        let _ = write!(names, "{}{}", if names.is_empty() { "" } else { ", " }, Escaped(name));
    }
    match presented.len() {
        0 => names.push_str("no host"),
        count if count > NAMES_MAXIMUM => {
            let _ = write!(names, " and {} more", count - NAMES_MAXIMUM);
        }
        _ => {}
    }
    let any = terms.and_then(|terms| terms.keywords.ignores_name);
    let any = any.map(|keyword| format!(", or accept any name with {keyword}")).unwrap_or_default();
    format!("is for {names}, not for {}; use a name that it has{any}", expected.to_str())
}

fn about_versions(terms: &Terms) -> String {
    let allowed = if terms.is_1_3_only { "only TLS 1.3 (bridge_tls_version)" } else { "TLS 1.2 and 1.3" };
    format!("the server speaks no version of TLS that is allowed here: {allowed}")
}

/// A moment in UTC.
fn moment(time: UnixTime) -> String {
    in_utc(time.as_secs())
}

fn about_alert_of_client(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::UnsupportedCertificate => {
            format!("the client does not trust the certificate of this listener ({alert:?})")
        }
        AlertDescription::ProtocolVersion => {
            "the client speaks no version of TLS that is spoken here".to_owned()
        }
        other => format!("the client has aborted the connection ({other:?})"),
    }
}

fn about_alert_of_server(alert: AlertDescription, terms: &Terms) -> String {
    let Keywords { certificate, key, .. } = terms.keywords;
    let text;
    let meaning = match alert {
        AlertDescription::CertificateRequired if terms.has_certificate => {
            text = format!("it requires a certificate of another kind than {certificate}");
            &*text
        }
        AlertDescription::CertificateRequired => {
            return format!("the server requires a certificate; set {certificate} and {key}");
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate => {
            let way_out = match terms.has_certificate {
                true => format!("{certificate} needs one that it trusts"),
                false => format!("set {certificate} and {key}"),
            };
            return format!(
                "the server does not trust the certificate of this broker ({alert:?}); {way_out}"
            );
        }
        AlertDescription::AccessDenied => "it trusts the certificate of this broker, but denies access",
        AlertDescription::ProtocolVersion => return about_versions(terms),
        AlertDescription::HandshakeFailure if terms.has_certificate => {
            "there are no TLS parameters in common: its key may be of a kind that is not supported here, such as \
             P-521, or it expects a pre-shared key"
        }
        AlertDescription::HandshakeFailure => {
            text = format!(
                "it may require a certificate ({certificate} and {key}), or there are no TLS parameters in common: its \
                 key may be of a kind that is not supported here, such as P-521, or it expects a pre-shared key"
            );
            &*text
        }
        AlertDescription::UnknownPSKIdentity => "it expects a pre-shared key, which is not supported",
        AlertDescription::InsufficientSecurity => "it demands stronger encryption than there is here",
        AlertDescription::UnrecognisedName => "it has no certificate for the host name in the address",
        AlertDescription::NoApplicationProtocol => "it does not speak the protocol in bridge_alpn",
        AlertDescription::DecryptError => "it could not verify a signature or decrypt the handshake",
        AlertDescription::InternalError => "it has failed itself; its log may have a reason",
        AlertDescription::UserCanceled => "it is no longer interested",
        _ => return format!("the server has aborted the connection ({alert:?})"),
    };
    format!("the server has aborted the connection ({alert:?}): {meaning}")
}
