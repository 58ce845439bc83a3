//! Describes TLS errors, so that a reader who does not know the standard knows where to look.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::core::connection::Side;

/// Describes an error, as this side sees it.
pub(super) fn in_words(error: &Error, side: Side) -> String {
    let peer = side.peer();
    match error {
        Error::NoCertificatesPresented => format!("the {peer} presented no certificate"),
        Error::InvalidCertificate(why) => {
            format!("the {peer}'s certificate {}", about_certificate(why, peer))
        }
        Error::AlertReceived(alert) => about_alert(*alert, side),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => format!("the {peer} does not speak TLS"),
        Error::InvalidMessage(why) => format!("the {peer} sent malformed TLS ({why:?})"),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => format!("the {peer} offers no version of TLS that is spoken here"),
        Error::PeerIncompatible(why) => {
            format!("the {peer} and this side have no TLS parameters in common ({why:?})")
        }
        Error::NoApplicationProtocol => format!("the {peer} offers only other protocols (ALPN)"),
        Error::DecryptError => format!("data from the {peer} cannot be decrypted"),
        other => other.to_string(),
    }
}

fn about_certificate(why: &CertificateError, peer: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => "was not issued by an authority in cafile or capath".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::Revoked => "was revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "is not covered by crlfile, which has no list of its issuer".to_owned()
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "cannot be checked, because the list in crlfile has expired".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("is not meant for {peer}s")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for a different name".to_owned()
        }
        CertificateError::BadSignature => "was not signed by the issuer that it names".to_owned(),
        CertificateError::Other(why) => format!("is unusable ({why})"),
        other => format!("is unusable ({other:?})"),
    }
}

fn about_alert(alert: AlertDescription, side: Side) -> String {
    let peer = side.peer();
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::UnsupportedCertificate => {
            let whose = match side {
                Side::Server => "the certificate of this listener",
                Side::Client => "the certificate of this broker",
            };
            format!("the {peer} does not trust {whose} ({alert:?})")
        }
        AlertDescription::ProtocolVersion => {
            format!("the {peer} speaks no version of TLS that is spoken here")
        }
        other => format!("the {peer} has aborted the connection ({other:?})"),
    }
}
