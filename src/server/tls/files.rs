//! Reads the files with certificates and keys that an operator names.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};

use crate::auth::access_control::read_file;
use crate::settings::{ConfigError, Given};

/// The keywords by which an operator names files, for messages about them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keywords {
    pub(super) certificate: &'static str,
    pub(super) key: &'static str,
    pub(super) authorities: &'static str,
    pub(super) authorities_directory: &'static str,
    /// The programs that verify the certificate.
    pub(super) peers: &'static str,
    /// Accepts a certificate for any name, if there is such a keyword.
    pub(super) ignores_name: Option<&'static str>,
    /// What to set where the system has no authorities.
    pub(super) instead_of_system: &'static str,
}

pub(super) static OF_LISTENER: Keywords = Keywords {
    certificate: "certfile",
    key: "keyfile",
    authorities: "cafile",
    authorities_directory: "capath",
    peers: "clients",
    ignores_name: None,
    instead_of_system: "cafile",
};

pub(super) static OF_BRIDGE: Keywords = Keywords {
    certificate: "bridge_certfile",
    key: "bridge_keyfile",
    authorities: "bridge_cafile",
    authorities_directory: "bridge_capath",
    peers: "servers",
    ignores_name: Some("bridge_insecure"),
    instead_of_system: "bridge_cafile instead of bridge_tls_use_os_certs",
};

#[cfg(feature = "cluster")]
pub(super) static OF_CLUSTER: Keywords = Keywords {
    certificate: "cluster_certfile",
    key: "cluster_keyfile",
    authorities: "cluster_cafile",
    // There is no directory.
    authorities_directory: "",
    peers: "servers",
    ignores_name: None,
    instead_of_system: "cluster_cafile",
};

/// What is wrong with a key on P-521, and what to do.
pub(super) const NO_P521: &str = "is on the curve P-521, which is not supported; make one on P-256 or P-384 (prime256v1 or secp384r1 \
                                  in openssl)";

/// Reads the certificates in a file.
pub(super) fn load_certificates(
    path: &Given<PathBuf>,
    keyword: &str,
    errors: &mut Vec<ConfigError>,
) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = read(path, keyword, errors)?;
    let certificates: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            errors.push(
                path.error_in(format_args!("there is no certificate in it, PEM was expected ({keyword})")),
            );
            None
        }
        Ok(certificates) => Some(certificates),
        Err(error) => {
            errors.push(path.error_in(format_args!("it is malformed as PEM: {error}")));
            None
        }
    }
}

pub(super) fn read(path: &Given<PathBuf>, keyword: &str, errors: &mut Vec<ConfigError>) -> Option<Vec<u8>> {
    read_file(path, keyword).map_err(|error| errors.push(error)).ok()
}
