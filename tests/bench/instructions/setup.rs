//! The setups of a broker, and the files that each needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::packets::Fault;

/// The only user, and the password.
pub const USER: (&str, &str) = ("bench", "secret");

/// A setup of a broker. Each differs from `Plain` in one aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    Plain,
    /// Users have passwords, and rules define what they may do.
    Acl,
    /// What is acknowledged is on disk, and the subscribers' sessions are persistent.
    Persistence,
    Tls,
}

impl Setup {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Acl, Self::Persistence, Self::Tls];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Acl => "acl_file",
            Self::Persistence => "persistence",
            Self::Tls => "TLS",
        }
    }

    /// The reported columns: the loop and, if it has a part in each message, the storage thread.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["plain"],
            Self::Acl => &["acl_file"],
            Self::Persistence => &["persistence", "its storage thread"],
            Self::Tls => &["TLS"],
        }
    }

    /// The directory of all its files.
    pub fn directory(self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions-{}", self.name()))
    }

    /// Creates its files and returns the path of the configuration. Nothing in it happens by the clock.
    pub fn configure(self, port: u16) -> Result<PathBuf, Fault> {
        let directory = self.directory();
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        let place = directory.display();
        let more = match self {
            Self::Plain => String::new(),
            Self::Acl => {
                let (name, password) = USER;
                // A password costs as little as possible, since there is one for each client.
                run(
                    &directory,
                    env!("CARGO_BIN_EXE_brooklet"),
                    &["passwd", "-c", "-b", "-H", "sha512", "passwd", name, password],
                )?;
                write(&directory.join("acl"), &format!("user {name}\ntopic readwrite bench/#\n"))?;
                format!("password_file {place}/passwd\nacl_file {place}/acl\n")
            }
            Self::Persistence => format!("persistence true\npersistence_location {place}\n"),
            Self::Tls => {
                let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost -keyout key -out certificate";
                run(&directory, "openssl", &request.split_whitespace().collect::<Vec<_>>())?;
                format!("certfile {place}/certificate\nkeyfile {place}/key\n")
            }
        };
        let is_anonymous = self != Self::Acl;
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous {is_anonymous}\nuser root\nsys_interval 0\nlog_type error\n{more}"
        );
        let path = directory.join("conf");
        write(&path, &text)?;
        Ok(path)
    }

    /// How clients of a configured broker speak TLS, if they do.
    pub fn tls(self) -> Result<Option<Arc<ClientConfig>>, Fault> {
        if self != Self::Tls {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(self.directory().join("certificate"))
            .map_err(|error| format!("cannot read the certificate: {error}"))?;
        roots.add(certificate).map_err(|error| format!("the certificate is none: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("no TLS: {error}"))?;
        Ok(Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Fault> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<(), Fault> {
    match Command::new(program).args(arguments).current_dir(directory).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}
