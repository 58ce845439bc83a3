//! The client's side of TLS: which servers are trusted.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Connection, Error};

use crate::settings::{ConfigError, Trust};

use super::load::load_authorities;

/// The setup of TLS connections to other servers.
///
/// They are created through a closure, so that a binary that never makes one does not link the client's side of TLS.
#[derive(Clone)]
pub struct ClientSetup {
    begin: Arc<dyn Fn(ServerName<'static>) -> Result<Connection, Error> + Send + Sync>,
}

impl ClientSetup {
    fn new(config: ClientConfig) -> Self {
        let config = Arc::new(config);
        Self { begin: Arc::new(move |name| Ok(ClientConnection::new(Arc::clone(&config), name)?.into())) }
    }

    /// Starts a connection to a server, which must present a certificate for this name or address.
    pub(super) fn begin(&self, name: &str) -> Result<Connection, String> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| "no certificate can be issued for such a name".to_owned())?;
        (self.begin)(name).map_err(|error| error.to_string())
    }
}

impl fmt::Debug for ClientSetup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientSetup")
    }
}

/// Loads the setup of TLS connections to servers that present a certificate for their name, issued by one of these
/// authorities.
///
/// # Errors
///
/// Everything that is wrong with the files.
pub fn load_client(trust: &Trust) -> Result<ClientSetup, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let (file, directory) = (trust.authorities.as_deref(), trust.authorities_directory.as_deref());
    let roots = load_authorities(file, directory, &mut errors);
    if roots.is_empty() && errors.is_empty() {
        let what = "TLS to another server needs cafile or capath, to verify its certificate";
        errors.push(ConfigError::new(&*trust.place, what));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| vec![ConfigError::new(&*trust.place, format!("TLS cannot be set up: {error}"))])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // There is one server to resume a session with.
    config.resumption = Resumption::in_memory_sessions(1);
    Ok(ClientSetup::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tls::testing::{Authority, Directory};

    #[test]
    fn verifying_a_server_needs_an_authority() {
        let trust = |file, directory| Trust {
            place: "test.conf:1".to_owned(),
            authorities: file,
            authorities_directory: directory,
        };
        let told = |trust: &Trust| {
            let errors = load_client(trust).map(|_| ()).unwrap_err();
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert!(told(&trust(None, None)).starts_with("test.conf:1: TLS to another server needs cafile"));
        let directory = Directory::new();
        assert!(told(&trust(None, Some(directory.path("")))).contains("there is no certificate in it"));
        assert!(told(&trust(Some(directory.path("none")), None)).contains("it cannot be read (cafile)"));
        let authority = directory.write("authority.crt", &Authority::new().pem());
        assert!(load_client(&trust(Some(authority), None)).is_ok());
        assert!(load_client(&trust(None, Some(directory.path("")))).is_ok());
    }
}
