//! What went wrong with TLS, so that somebody who has never read its standard knows where to look.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::core::connection::Side;

/// What went wrong, as this side sees it.
pub(super) fn in_words(error: &Error, side: Side) -> String {
    let peer = side.peer();
    match error {
        Error::NoCertificatesPresented => format!("the {peer} has shown no certificate"),
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
        Error::PeerIncompatible(why) => format!("the {peer} and we have no way to speak in common ({why:?})"),
        Error::NoApplicationProtocol => format!("the {peer} names other protocols than ours (ALPN)"),
        Error::DecryptError => format!("what the {peer} sent can not be decrypted"),
        other => other.to_string(),
    }
}

fn about_certificate(why: &CertificateError, peer: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => "was issued by nobody of cafile or capath".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::Revoked => "was revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "is not covered by crlfile, which has no list of its issuer".to_owned()
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "can not be checked, because the list of crlfile has expired".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("is not meant for {peer}s")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name than the one that was asked for".to_owned()
        }
        CertificateError::BadSignature => "is not signed by the one whom it names".to_owned(),
        CertificateError::Other(why) => format!("is of no use ({why})"),
        other => format!("is of no use ({other:?})"),
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
                Side::Client => "our certificate",
            };
            format!("the {peer} does not trust {whose} ({alert:?})")
        }
        AlertDescription::ProtocolVersion => format!("the {peer} speaks no version of TLS that we do"),
        other => format!("the {peer} has given up ({other:?})"),
    }
}
