//! Loads certificates and keys from the files that an operator names. Everything that is wrong with them is reported
//! at once, and nothing takes effect unless all of it is right.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log::warn;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{DistinguishedName, RootCertStore, ServerConfig};

use crate::core::listener::UserNameSource;
use crate::settings::{ConfigError, Given, Listener, Protocol, Tls};

use super::Setup;
use super::authorities::{Authorities, load_authorities};
use super::buffers::{RECORD_HEADER, RECORD_SIZE_MAXIMUM};
use super::certificate::{Certificate, P521};
use super::chain::complete;
use super::files::{Keywords, NO_P521, OF_LISTENER, load_certificates, read};
use super::key_log::KeyLog;
use super::verifier::Verifier;

/// Session tickets sent per connection. The client stores them, and the server keeps no sessions.
const TICKETS: usize = 1;

/// Loads the TLS setup of a listener; `None` if it does not use TLS.
///
/// # Errors
///
/// Everything that is wrong with its files.
pub fn load(listener: &Listener) -> Result<Option<Setup>, Vec<ConfigError>> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    let provider = Arc::new(ring::default_provider());
    let mut errors = Vec::new();
    let certificate = load_certificate([&tls.certificate, &tls.key], &OF_LISTENER, &provider, &mut errors);
    let (file, directory) = (tls.authorities.as_ref(), tls.authorities_directory.as_ref());
    let (authorities, known) = load_authorities(file, directory, &OF_LISTENER, &mut errors);
    let lists = load_revoked(tls, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let is_named = listener.options.user_name != UserNameSource::Connect;
    let verifier = load_verifier(&listener.place, tls, is_named, (authorities, lists), &provider);
    match (certificate, verifier) {
        (_, Err(error)) => Err(vec![error]),
        (None, _) => Err(errors),
        (Some(mut certificate), Ok(verifier)) => {
            complete(&mut certificate.cert, &known, &provider.signature_verification_algorithms, epoch());
            let config = configure(listener, tls, provider, certificate, verifier);
            let config = config.map_err(|why| vec![ConfigError::new(&*listener.place, why)])?;
            let record_size = tls.record_size.map_or(RECORD_SIZE_MAXIMUM, usize::from);
            let user_name = listener.options.user_name;
            Ok(Some(Setup { config: Arc::new(config), user_name, record_size }))
        }
    }
}

fn configure(
    listener: &Listener,
    tls: &Tls,
    provider: Arc<CryptoProvider>,
    certificate: CertifiedKey,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, String> {
    let versions = if tls.is_1_3_only { &[&TLS13][..] } else { &[&TLS13, &TLS12] };
    let failed = |error: rustls::Error| format!("TLS cannot be set up: {error}");
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let mut config = builder
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    // A client that offers protocols must offer the one spoken here; a client that offers none is accepted.
    config.alpn_protocols = match listener.protocol {
        Protocol::Mqtt => vec![b"mqtt".to_vec()],
        Protocol::WebSocket { .. } => vec![b"http/1.1".to_vec()],
    };
    // Its keys are new with each load, so sessions that were verified against other authorities are not resumed.
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    config.send_tls13_tickets = TICKETS;
    config.max_fragment_size = tls.record_size.map(|size| usize::from(size) + RECORD_HEADER);
    if let Some(path) = &tls.key_log {
        config.key_log = Arc::new(KeyLog::new(path));
    }
    Ok(config)
}

/// Loads a certificate chain and its private key.
pub(super) fn load_certificate(
    [certificate, key]: [&Given<PathBuf>; 2],
    keywords: &Keywords,
    provider: &CryptoProvider,
    errors: &mut Vec<ConfigError>,
) -> Option<CertifiedKey> {
    let chain = load_certificates(certificate, keywords.certificate, errors);
    let loaded = load_key(key, keywords.key, provider, errors);
    let (chain, loaded) = (chain?, loaded?);
    let Some(first) = Certificate::parse(chain.first()?) else {
        errors.push(certificate.error_in("its first certificate is malformed"));
        return None;
    };
    if first.is_on_p521() {
        let what = format!("the key of its first certificate {NO_P521} ({})", keywords.certificate);
        errors.push(certificate.error_in(what));
        return None;
    }
    if loaded.public_key().is_some_and(|public_key| public_key.as_ref() != first.public_key) {
        let what = format!("the key does not belong to the first certificate of {}", certificate.display());
        errors.push(key.error_in(what));
        return None;
    }
    warn_of_dates(certificate, &first, keywords.peers);
    Some(CertifiedKey::new(chain, loaded))
}

/// An expired certificate still works for peers without a clock, so it is only a warning.
fn warn_of_dates(path: &Given<PathBuf>, certificate: &Certificate<'_>, peers: &str) {
    let now = epoch();
    if certificate.not_after < now {
        let what = format!("the certificate in it has expired; most {peers} will refuse it");
        warn!("Warning: {}.", path.error_in(what));
    } else if certificate.not_before > now {
        warn!("Warning: {}.", path.error_in("the certificate in it is not valid yet"));
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are valid for a time")]
pub(super) fn epoch() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn load_key(
    path: &Given<PathBuf>,
    keyword: &str,
    provider: &CryptoProvider,
    errors: &mut Vec<ConfigError>,
) -> Option<Arc<dyn SigningKey>> {
    let bytes = read(path, keyword, errors)?;
    let is_encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| bytes.windows(mark.len()).any(|window| window == *mark));
    let what = match PrivateKeyDer::from_pem_slice(&bytes) {
        _ if is_encrypted => format!("the key is encrypted, one without a password was expected ({keyword})"),
        Ok(key) if key.secret_der().windows(P521.len()).any(|window| window == P521) => {
            format!("the key {NO_P521}, and a certificate for it ({keyword})")
        }
        Ok(key) => match provider.key_provider.load_private_key(key) {
            Ok(key) => return Some(key),
            Err(_) => "the key is of a kind or size that is not supported, \
                       RSA from 2048 bits on, ECDSA with P-256 or P-384, or Ed25519 was expected"
                .to_owned(),
        },
        Err(PemError::NoItemsFound) => {
            format!("there is no private key in it, PEM was expected ({keyword})")
        }
        Err(error) => format!("it is malformed as PEM: {error}"),
    };
    errors.push(path.error_in(what));
    None
}

/// Creates the verifier of clients' certificates. None is requested unless the operator demands one or the User Name
/// is taken from it.
fn load_verifier(
    place: &str,
    tls: &Tls,
    is_named: bool,
    (authorities, lists): (Authorities, Vec<CertificateRevocationListDer<'static>>),
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    if !tls.requires_certificate && (!is_named || authorities.is_empty()) {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    if authorities.is_empty() {
        let is_set = tls.authorities.is_some() || tls.authorities_directory.is_some();
        let what = if is_set {
            "require_certificate needs an authority in cafile or capath, to verify the certificates of clients: a \
             certificate with CA:TRUE"
        } else {
            "require_certificate needs cafile or capath, to verify the certificates of clients"
        };
        return Err(ConfigError::new(place, what));
    }
    let Authorities { roots, self_issued, peers } = authorities;
    let roots = Arc::new(roots);
    let inner = match roots.is_empty() {
        true => None,
        false => Some(verifier_of_rustls(tls, &roots, &lists, provider)?),
    };
    let of_authorities = inner.iter().flat_map(|inner| inner.root_hint_subjects());
    let hints: Vec<DistinguishedName> = of_authorities.cloned().chain(peers).collect();
    Ok(Arc::new(Verifier {
        inner,
        is_mandatory: tls.requires_certificate,
        hints,
        roots,
        self_issued,
        lists,
        algorithms: provider.signature_verification_algorithms,
    }))
}

fn verifier_of_rustls(
    tls: &Tls,
    roots: &Arc<RootCertStore>,
    lists: &[CertificateRevocationListDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    if !lists.is_empty() {
        let lists = lists.iter().cloned();
        builder = builder.with_crls(lists).only_check_end_entity_revocation().enforce_revocation_expiration();
    }
    builder.build().map_err(|error| {
        let path = tls.revoked.clone().unwrap_or_else(|| "crlfile".into());
        path.error_in(format_args!("a list in it is unusable, one of version 2 was expected: {error}"))
    })
}

fn load_revoked(tls: &Tls, errors: &mut Vec<ConfigError>) -> Vec<CertificateRevocationListDer<'static>> {
    let Some(path) = &tls.revoked else { return Vec::new() };
    let Some(bytes) = read(path, "crlfile", errors) else { return Vec::new() };
    let lists: Result<Vec<_>, PemError> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match lists {
        Ok(lists) if lists.is_empty() => {
            errors.push(path.error_in("there is no list in it, PEM was expected (crlfile)"));
            Vec::new()
        }
        Ok(lists) => lists,
        Err(error) => {
            errors.push(path.error_in(format_args!("it is malformed as PEM: {error}")));
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::server::tls::testing::{Authority, Directory, listener};

    fn config_errors(listener: &Listener) -> Vec<String> {
        load(listener).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_listener_without_tls_needs_nothing() {
        let authority = Authority::new();
        let mut listener = listener(&authority.issue("server", "/CN=localhost"));
        assert!(load(&listener).unwrap().is_some());
        listener.tls = None;
        assert!(load(&listener).unwrap().is_none());
    }

    #[test]
    fn every_form_of_a_key_is_read() {
        let authority = Authority::new();
        for kind in ["rsa-pkcs1", "ec", "ec-sec1", "ed25519"] {
            let files = authority.issue_with_key(kind, "/CN=localhost", kind);
            assert_eq!(load(&listener(&files)).map(|_| ()), Ok(()), "{kind}");
        }
    }

    #[test]
    fn a_certificate_of_the_oldest_version_is_shown() {
        let authority = Authority::new();
        let files = authority.issue_v1("old", "/CN=localhost", "ec");
        assert_eq!(load(&listener(&files)).map(|_| ()), Ok(()));
    }

    #[test]
    fn everything_wrong_is_told_in_one_go() {
        let authority = Authority::new();
        let files = authority.issue("server", "/CN=localhost");
        let mut listener = listener(&files);
        let directory = Directory::new();
        let tls = listener.tls.as_mut().unwrap();
        tls.certificate = directory.path("none.crt");
        tls.key = directory.write("empty.key", b"");
        tls.authorities = Some(files.certificate.with_extension("absent").into());
        tls.authorities_directory = Some(directory.path(""));
        tls.revoked =
            Some(directory.write("broken.crl", b"-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----\n"));
        let told = config_errors(&listener);
        assert_eq!(told.len(), 5, "{told:#?}");
        for (line, expected) in told.iter().zip([
            "none.crt: it cannot be read (certfile): No such file",
            "empty.key: there is no private key in it, PEM was expected (keyfile)",
            ".absent: it cannot be read (cafile): No such file",
            ": there is no certificate in it (capath)",
            "broken.crl: it is malformed as PEM",
        ]) {
            assert!(line.contains(expected), "{line} / {expected}");
        }
        listener.tls.as_mut().unwrap().key = "/dev/zero".into();
        assert!(config_errors(&listener)[1].ends_with("it is a device, expected a file"), "it has no end");
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let authority = Authority::new();
        let (one, two) = (authority.issue("one", "/CN=one"), authority.issue("two", "/CN=two"));
        let directory = Directory::new();
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        type Change = fn(&mut Tls, &Path);
        let cases: [(Change, &Path, &str); 5] = [
            (
                |tls, path| tls.key = path.into(),
                &two.key,
                "the key does not belong to the first certificate of",
            ),
            (|tls, path| tls.key = path.into(), &one.certificate, "there is no private key in it"),
            (|tls, path| tls.certificate = path.into(), &one.key, "there is no certificate in it"),
            (
                |tls, path| tls.certificate = path.into(),
                &directory.write("junk.crt", junk.as_bytes()),
                "its first certificate is malformed",
            ),
            (
                |tls, path| tls.key = path.into(),
                &one.encrypted_key(),
                "the key is encrypted, one without a password was expected",
            ),
        ];
        for (change, path, expected) in cases {
            let mut listener = listener(&one);
            change(listener.tls.as_mut().unwrap(), path);
            let told = config_errors(&listener);
            assert!(told.len() == 1 && told[0].contains(expected), "{told:?} / {expected}");
        }
    }

    #[test]
    fn verifying_clients_needs_an_authority() {
        let authority = Authority::new();
        let mut listener = listener(&authority.issue("server", "/CN=localhost"));
        let tls = listener.tls.as_mut().unwrap();
        tls.requires_certificate = true;
        assert_eq!(
            config_errors(&listener),
            [
                "test.conf:1: require_certificate needs cafile or capath, to verify the certificates of clients"
            ]
        );
        let directory = Directory::new();
        directory.write("README", b"not a certificate");
        directory.write("0a1b2c3d.0", &authority.pem());
        listener.tls.as_mut().unwrap().authorities_directory = Some(directory.path(""));
        assert!(load(&listener).is_ok());
    }
}
