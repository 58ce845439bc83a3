//! A TLS client that trusts every certificate.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use crate::peer::dial;

/// Creates a certificate and its key, as `tls.crt` and `tls.key`.
pub fn issue(directory: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    command.args(["-keyout", "tls.key", "-out", "tls.crt", "-days", "2", "-subj", "/CN=localhost"]);
    let status = command.current_dir(directory).stderr(Stdio::null()).status();
    assert!(status.expect("there is a program `openssl`").success());
}

/// The configuration that the clients share.
pub fn config() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let believer = Arc::new(Believer(provider));
    let builder = builder.expect("versions of TLS").dangerous().with_custom_certificate_verifier(believer);
    Arc::new(builder.with_no_client_auth())
}

/// Connects a client that sends these bytes once its handshake is over.
pub fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    bytes: &[u8],
) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = dial(address);
    let connection = ClientConnection::new(config.clone(), "localhost".try_into().expect("a name"));
    let mut stream = StreamOwned::new(connection.expect("a configuration that works"), socket);
    // The broker may refuse it.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    stream
}

#[derive(Debug)]
struct Believer(Arc<CryptoProvider>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
