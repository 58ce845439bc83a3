//! The certificates that an operator trusts: authorities, and certificates that signed themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use log::warn;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{DistinguishedName, RootCertStore, SupportedCipherSuite};

use crate::auth::access_control::unreadable;
use crate::base::escape::Escaped;
use crate::settings::{ConfigError, Given};

use super::certificate::Certificate;
use super::files::{Keywords, NO_P521, load_certificates, read};

/// Trusted certificates.
#[derive(Debug)]
pub(super) struct Authorities {
    /// Those that may issue others.
    pub(super) roots: RootCertStore,
    /// The digests of those certificates that name themselves as their issuer. A peer may present one itself.
    pub(super) self_issued: Vec<Digest>,
    /// The names of those that only a peer may present.
    pub(super) peers: Vec<DistinguishedName>,
}

/// Why a certificate is not trusted.
enum Unusable {
    Malformed,
    /// Its key is on P-521. This is its subject.
    OnP521(String),
}

impl Authorities {
    pub(super) fn none() -> Self {
        Self { roots: RootCertStore::empty(), self_issued: Vec::new(), peers: Vec::new() }
    }

    /// Whether no certificate is trusted.
    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.self_issued.is_empty()
    }

    fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), Unusable> {
        let parsed = Certificate::parse(certificate).ok_or(Unusable::Malformed)?;
        if parsed.is_on_p521() {
            return Err(Unusable::OnP521(parsed.subject_text().unwrap_or_default()));
        }
        // Its owner could otherwise issue certificates in the names of others.
        if parsed.is_authority() {
            self.roots.add(certificate.clone()).map_err(|_| Unusable::Malformed)?;
        } else if parsed.is_self_issued() {
            self.peers.push(DistinguishedName::in_sequence(parsed.subject));
        }
        if parsed.is_self_issued() {
            self.self_issued.push(digest(certificate));
        }
        Ok(())
    }
}

/// The SHA-256 digest of a certificate, which takes less memory than the certificate.
pub(super) type Digest = [u8; 32];

/// The digest of a certificate.
pub(super) fn digest(certificate: &CertificateDer<'_>) -> Digest {
    let common = match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => &suite.common,
        SupportedCipherSuite::Tls12(suite) => &suite.common,
    };
    let digest = common.hash_provider.hash(certificate);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Loads trusted certificates from a file and a directory. Returns them also as they are.
pub(super) fn load_authorities(
    file: Option<&Given<PathBuf>>,
    directory: Option<&Given<PathBuf>>,
    keywords: &Keywords,
    errors: &mut Vec<ConfigError>,
) -> (Authorities, Vec<CertificateDer<'static>>) {
    let mut authorities = Authorities::none();
    let mut all = Vec::new();
    if let Some(path) = file {
        for certificate in load_certificates(path, keywords.authorities, errors).unwrap_or_default() {
            match authorities.add(&certificate) {
                Ok(()) => all.push(certificate),
                Err(Unusable::Malformed) => {
                    errors.push(path.error_in("one of its certificates is malformed"));
                }
                Err(Unusable::OnP521(subject)) => {
                    errors.push(path.error_in(on_p521(&subject, keywords.authorities)))
                }
            }
        }
    }
    if let Some(directory) = directory {
        let keyword = keywords.authorities_directory;
        match files_of(directory) {
            Ok(paths) => {
                let before = all.len();
                let paths: Vec<_> = paths.into_iter().map(|path| directory.map(|_| path)).collect();
                let left_out = load_files(&paths, keyword, &mut authorities, &mut all);
                if all.len() == before {
                    let what =
                        left_out.unwrap_or_else(|| format!("there is no certificate in it ({keyword})"));
                    errors.push(directory.error_in(what));
                }
            }
            Err(error) => errors.push(unreadable(directory, keyword, &error)),
        }
    }
    (authorities, all)
}

/// Loads the certificates in these files, which may contain anything else. Returns what is to be said about one that
/// was left out.
fn load_files(
    paths: &[Given<PathBuf>],
    keyword: &str,
    authorities: &mut Authorities,
    all: &mut Vec<CertificateDer<'static>>,
) -> Option<String> {
    let mut left_out = None;
    for path in paths {
        let Some(bytes) = read(path, keyword, &mut Vec::new()) else { continue };
        for certificate in CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok) {
            match authorities.add(&certificate) {
                Ok(()) => all.push(certificate),
                Err(Unusable::Malformed) => {}
                Err(Unusable::OnP521(subject)) => {
                    let what = on_p521(&subject, keyword);
                    warn!("Warning: {}.", path.error_in(&what));
                    left_out = Some(what);
                }
            }
        }
    }
    left_out
}

fn on_p521(subject: &str, keyword: &str) -> String {
    format!("the key of the certificate of '{}' {NO_P521} ({keyword})", Escaped(subject))
}

/// The files of a directory, in order.
fn files_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths: Vec<PathBuf> = entries?.into_iter().filter(|path| path.is_file()).collect();
    paths.sort_unstable();
    Ok(paths)
}
