//! The client's side of TLS: which servers are trusted, and which certificate is presented to them.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Connection, Error};
use rustls_native_certs::{CertificateResult, load_native_certs};

use crate::settings::{ClientTls, ConfigError};

use super::authorities::{Authorities, load_authorities};
use super::chain::complete;
#[cfg(feature = "cluster")]
use super::files::OF_CLUSTER;
use super::files::{Keywords, OF_BRIDGE};
use super::load::{epoch, load_certificate};
use super::server_verifier::ServerVerifier;
use super::words::Terms;

/// The longest name of a protocol in ALPN, in bytes.
const ALPN_MAXIMUM: usize = 255;

/// The setup of TLS connections to other servers.
///
/// They are created through a closure, so that a binary that never makes one does not link the client's side of TLS.
#[derive(Clone)]
pub struct ClientSetup {
    begin: Arc<dyn Fn(ServerName<'static>) -> Result<Connection, Error> + Send + Sync>,
    terms: Arc<Terms>,
}

impl ClientSetup {
    fn new(config: ClientConfig, terms: Terms) -> Self {
        let config = Arc::new(config);
        let begin = move |name| Ok(ClientConnection::new(Arc::clone(&config), name)?.into());
        Self { begin: Arc::new(begin), terms: Arc::new(terms) }
    }

    /// Starts a connection to a server, which must present a certificate for this name or address.
    pub(super) fn begin(&self, name: &str) -> Result<Connection, String> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| "no certificate can be issued for such a name".to_owned())?;
        (self.begin)(name).map_err(|error| error.to_string())
    }

    /// The terms of the connections, for messages.
    pub(super) fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.terms)
    }
}

impl fmt::Debug for ClientSetup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents stay private.
        formatter.write_str("ClientSetup")
    }
}

/// Loads the setup of TLS connections to the server of a bridge.
///
/// Its certificate must have been issued by a trusted authority, and be valid now and for the name that is connected
/// to. A certificate without a subjectAltName is for its Common Name. The server may also present a certificate that
/// signed itself and that is in one of the files of trusted authorities.
///
/// Files are read once, here. A session is resumed as long as the setup lives.
///
/// # Errors
///
/// Everything that is wrong with the settings and the files; among others, that no authority is trusted.
pub fn load_client(tls: &ClientTls) -> Result<ClientSetup, Vec<ConfigError>> {
    load_with(tls, &OF_BRIDGE)
}

/// Loads the setup of TLS connections of a node to the servers of its cluster, as [`load_client`] does.
///
/// # Errors
///
/// Those of [`load_client`].
#[cfg(feature = "cluster")]
pub fn load_client_of_node(tls: &ClientTls) -> Result<ClientSetup, Vec<ConfigError>> {
    load_with(tls, &OF_CLUSTER)
}

/// Everything that is wrong with the settings of a bridge and the files in them. The authorities of the system are not
/// looked for.
#[cfg(feature = "bridge")]
pub fn check_client(tls: &ClientTls) -> Vec<ConfigError> {
    Material::read(tls, &OF_BRIDGE).1
}

/// The same for the settings of a node.
#[cfg(feature = "cluster")]
pub fn check_client_of_node(tls: &ClientTls) -> Vec<ConfigError> {
    Material::read(tls, &OF_CLUSTER).1
}

/// What the files have.
struct Material {
    provider: Arc<CryptoProvider>,
    authorities: Authorities,
    /// The certificates of the authorities as they are.
    known: Vec<CertificateDer<'static>>,
    identity: Option<CertifiedKey>,
}

impl Material {
    /// Reads the files, and returns also what is wrong.
    fn read(tls: &ClientTls, keywords: &Keywords) -> (Self, Vec<ConfigError>) {
        let provider = Arc::new(ring::default_provider());
        let place = &*tls.trust.place;
        let mut errors = Vec::new();
        let (file, directory) = (tls.trust.authorities.as_ref(), tls.trust.authorities_directory.as_ref());
        let (authorities, known) = load_authorities(file, directory, keywords, &mut errors);
        if authorities.is_empty() && errors.is_empty() && !tls.trusts_system {
            errors.push(ConfigError::new(place, lack_of_authorities(tls, keywords)));
        }
        let is_alpn_possible = |protocol: &str| (1..=ALPN_MAXIMUM).contains(&protocol.len());
        if tls.alpn.as_deref().is_some_and(|protocol| !is_alpn_possible(protocol)) {
            let what = format!("bridge_alpn must have from 1 to {ALPN_MAXIMUM} bytes");
            errors.push(ConfigError::new(place, what));
        }
        let identity = tls.identity.as_ref().and_then(|[certificate, key]| {
            load_certificate([certificate, key], keywords, &provider, &mut errors)
        });
        (Self { provider, authorities, known, identity }, errors)
    }
}

fn load_with(tls: &ClientTls, keywords: &'static Keywords) -> Result<ClientSetup, Vec<ConfigError>> {
    let place = &*tls.trust.place;
    let (Material { provider, mut authorities, known, identity }, mut errors) = Material::read(tls, keywords);
    if tls.trusts_system {
        errors.extend(trust_system(&mut authorities, load_native_certs(), (place, keywords)).err());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let terms = Terms {
        trusted: trusted(tls, keywords),
        is_1_3_only: tls.is_1_3_only,
        has_certificate: identity.is_some(),
        keywords,
    };
    let identity = identity.map(|mut identity| {
        complete(&mut identity.cert, &known, &provider.signature_verification_algorithms, epoch());
        SingleCertAndKey::from(identity)
    });
    let config = configure(tls, provider, authorities, identity);
    let config = config.map_err(|error| {
        let what = format!("TLS cannot be set up: {error}");
        vec![ConfigError::new(place, what)]
    })?;
    Ok(ClientSetup::new(config, terms))
}

fn lack_of_authorities(tls: &ClientTls, keywords: &Keywords) -> String {
    let (file, directory) = (keywords.authorities, keywords.authorities_directory);
    let either = if directory.is_empty() { file.to_owned() } else { format!("{file} or {directory}") };
    if tls.trust.authorities.is_some() || tls.trust.authorities_directory.is_some() {
        return format!(
            "TLS to another server needs an authority in {either} to verify its certificate: a certificate with \
             CA:TRUE, or that of the server if it signed itself"
        );
    }
    "TLS to another server needs an authority to verify its certificate; set bridge_cafile, bridge_capath or \
     bridge_tls_use_os_certs"
        .to_owned()
}

fn configure(
    tls: &ClientTls,
    provider: Arc<CryptoProvider>,
    authorities: Authorities,
    identity: Option<SingleCertAndKey>,
) -> Result<ClientConfig, Error> {
    let algorithms = provider.signature_verification_algorithms;
    let verifier = ServerVerifier { authorities, ignores_name: tls.ignores_name, algorithms };
    let versions = if tls.is_1_3_only { &[&TLS13][..] } else { &[&TLS13, &TLS12] };
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
    };
    config.alpn_protocols = tls.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // There is one server to resume a session with.
    config.resumption = Resumption::in_memory_sessions(1);
    Ok(config)
}

/// Trusts the authorities of the system as well. Those that rustls cannot use are ignored.
fn trust_system(
    authorities: &mut Authorities,
    found: CertificateResult,
    (place, keywords): (&str, &Keywords),
) -> Result<(), ConfigError> {
    let (added, _) = authorities.roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    let what = format!(
        "the system has no certificates of authorities in /etc/ssl or where SSL_CERT_FILE and SSL_CERT_DIR \
         say{why}; install them, as the package ca-certificates does, or set {}",
        keywords.instead_of_system
    );
    Err(ConfigError::new(place, what))
}

/// The trusted authorities by their keywords, for messages.
fn trusted(tls: &ClientTls, keywords: &Keywords) -> String {
    let with_path = |keyword: &str, path: &Path| format!("{keyword} {}", path.display());
    let file = tls.trust.authorities.as_deref().map(|path| with_path(keywords.authorities, path));
    let directory = tls.trust.authorities_directory.as_deref();
    let directory = directory.map(|path| with_path(keywords.authorities_directory, path));
    let system = tls.trusts_system.then(|| "the store of the system".to_owned());
    [file, directory, system].into_iter().flatten().collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tls::testing::{Authority, Directory, bridge_tls};
    use crate::settings::Trust;
    use rustls_native_certs::load_certs_from_paths;

    /// The errors of loading, one on each line.
    fn errors_of(tls: &ClientTls) -> String {
        let errors = load_client(tls).map(|_| ()).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn verifying_a_server_needs_an_authority() {
        let tls = |authorities, authorities_directory| {
            let place = "test.conf:1".to_owned();
            ClientTls { trust: Trust { place, authorities, authorities_directory }, ..ClientTls::default() }
        };
        let without = errors_of(&tls(None, None));
        assert!(without.starts_with("test.conf:1: TLS to another server needs an authority"), "{without}");
        assert!(without.contains("set bridge_cafile, bridge_capath or bridge_tls_use_os_certs"), "{without}");
        let directory = Directory::new();
        let empty = errors_of(&tls(None, Some(directory.path(""))));
        assert!(empty.ends_with("there is no certificate in it (bridge_capath)"), "{empty}");
        let missing = errors_of(&tls(Some(directory.path("none")), None));
        assert!(missing.contains("none: it cannot be read (bridge_cafile)"), "{missing}");
        let authority = directory.write("authority.crt", &Authority::new().pem());
        assert!(load_client(&tls(Some(authority), None)).is_ok());
        assert!(load_client(&tls(None, Some(directory.path("")))).is_ok());
    }

    #[test]
    fn everything_wrong_is_told_in_one_go() {
        let authority = Authority::new();
        let (one, two) = (authority.issue("one", "/CN=one"), authority.issue("two", "/CN=two"));
        let mut tls = bridge_tls(&one);
        tls.identity = Some([one.certificate.clone(), one.encrypted_key()]);
        tls.alpn = Some("".into());
        let told = errors_of(&tls);
        assert!(told.contains("test.conf:1: bridge_alpn must have from 1 to 255 bytes"), "{told}");
        assert!(told.contains("one without a password was expected (bridge_keyfile)"), "{told}");
        tls.identity = Some([one.certificate.clone(), two.key]);
        tls.alpn = Some("x".repeat(256).into());
        let told = errors_of(&tls);
        assert!(told.contains("bridge_alpn must"), "{told}");
        assert!(told.contains("the key does not belong to the first certificate of"), "{told}");
        tls.identity = Some([one.key.clone(), one.key.clone()]);
        tls.alpn = Some("x".repeat(255).into());
        let told = errors_of(&tls);
        assert!(
            told.ends_with("there is no certificate in it, PEM was expected (bridge_certfile)"),
            "{told}"
        );
        tls.identity = Some([one.certificate.clone(), one.key]);
        assert!(load_client(&tls).is_ok());
    }

    #[test]
    fn the_store_of_the_system_must_have_something() {
        let directory = Directory::new();
        let refused = |found| {
            trust_system(&mut Authorities::none(), found, ("test.conf:1", &OF_BRIDGE))
                .unwrap_err()
                .to_string()
        };
        let missing = refused(load_certs_from_paths(Some(&directory.path("none.pem")), None));
        assert!(
            missing.starts_with("test.conf:1: the system has no certificates of authorities"),
            "{missing}"
        );
        assert!(missing.contains("none.pem") && missing.contains("ca-certificates"), "{missing}");
        let empty = refused(load_certs_from_paths(None, Some(&directory.path(""))));
        assert!(empty.contains("SSL_CERT_FILE") && empty.contains("bridge_tls_use_os_certs"), "{empty}");
        directory.write("junk.crt", b"junk");
        refused(load_certs_from_paths(None, Some(&directory.path(""))));
        directory.write("authority.crt", &Authority::new().pem());
        let mut authorities = Authorities::none();
        let found = load_certs_from_paths(None, Some(&directory.path("")));
        assert_eq!(trust_system(&mut authorities, found, ("test.conf:1", &OF_BRIDGE)), Ok(()));
        assert_eq!((authorities.roots.len(), authorities.self_issued.len()), (1, 0));
        // Whether this machine has one or not, it is asked.
        let trust = Trust { place: "test.conf:1".to_owned(), ..Trust::default() };
        let tls = ClientTls { trust, trusts_system: true, ..ClientTls::default() };
        if let Err(errors) = load_client(&tls) {
            assert!(errors[0].to_string().contains("the system has no certificates"), "{errors:?}");
        }
    }

    #[test]
    fn messages_name_all_that_is_trusted() {
        let mut tls = bridge_tls(&Authority::new().issue("server", "/CN=localhost"));
        tls.trust.authorities = Some("/ca.crt".into());
        assert_eq!(trusted(&tls, &OF_BRIDGE), "bridge_cafile /ca.crt");
        tls.trust.authorities_directory = Some("/ca".into());
        tls.trusts_system = true;
        assert_eq!(
            trusted(&tls, &OF_BRIDGE),
            "bridge_cafile /ca.crt or bridge_capath /ca or the store of the system"
        );
    }
}
