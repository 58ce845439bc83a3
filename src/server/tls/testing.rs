//! Certificates for tests, made by `openssl` when they are needed, so that no stored certificate can expire.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::core::limits::Limits;
use crate::core::listener::ListenerOptions;
use crate::settings::{Address, ClientTls, Given, Listener, Protocol, Security, SocketFile, Tls, Trust};

/// The configuration file of `openssl`.
const CONFIGURATION: &str = "\
[req]
distinguished_name = dn
prompt = no
[dn]
[authority]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
[leaf]
basicConstraints = CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
[server_only]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
[ca]
default_ca = this
[this]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = authority.crt
private_key = authority.key
default_md = sha256
default_days = 2
default_crl_days = 2
unique_subject = no
policy = anything
x509_extensions = leaf
[anything]
commonName = supplied
";

/// A directory that is removed when it is dropped.
pub(in crate::server) struct Directory(PathBuf);

impl Directory {
    pub(in crate::server) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("brooklet-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the directory is new");
        Self(path)
    }

    pub(in crate::server) fn path(&self, name: &str) -> Given<PathBuf> {
        self.0.join(name).into()
    }

    #[expect(clippy::disallowed_methods, reason = "tests write files")]
    pub(in crate::server) fn write(&self, name: &str, bytes: &[u8]) -> Given<PathBuf> {
        let path = self.path(name);
        fs::write(&path, bytes).expect("the file can be written");
        path
    }

    /// Runs `openssl` in the directory and returns its output.
    fn openssl(&self, arguments: &str) -> String {
        let mut command = Command::new("openssl");
        command.current_dir(&self.0).args(arguments.split('\u{1}').flat_map(|part| {
            // A subject, which may contain spaces, stands between two marks.
            if part.starts_with('/') { vec![part] } else { part.split_whitespace().collect() }
        }));
        let output = command.output().expect("there is a program `openssl`");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "openssl {arguments}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The directory is removed for tidiness only.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority that issues certificates.
pub(in crate::server) struct Authority {
    directory: Arc<Directory>,
}

/// A certificate with its key and its authority.
#[derive(Clone)]
pub(in crate::server) struct Files {
    directory: Arc<Directory>,
    pub(in crate::server) certificate: Given<PathBuf>,
    pub(in crate::server) key: Given<PathBuf>,
    pub(in crate::server) authority: Given<PathBuf>,
}

impl Authority {
    pub(in crate::server) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Authorities with the same name would be confused.
        Self::with_name(&format!("authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn with_name(name: &str) -> Self {
        Self::with_key(name, "P-256")
    }

    /// An authority with a key on P-521.
    pub(in crate::server) fn of_p521() -> Self {
        Self::with_key("large", "P-521")
    }

    fn with_key(name: &str, curve: &str) -> Self {
        let directory = Arc::new(Directory::new());
        directory.write("openssl.cnf", CONFIGURATION.as_bytes());
        directory.write("index.txt", b"");
        directory.write("serial", b"1000\n");
        directory.write("crlnumber", b"01\n");
        directory.openssl(&format!(
            "req -x509 -config openssl.cnf -extensions authority -newkey ec -pkeyopt ec_paramgen_curve:{curve} -nodes \
             -keyout authority.key -out authority.crt -days 2 -subj \u{1}/CN={name}",
        ));
        Self { directory }
    }

    pub(in crate::server) fn pem(&self) -> Vec<u8> {
        read(&self.directory.path("authority.crt"))
    }

    /// Issues a certificate for this subject, valid for clients and servers.
    pub(in crate::server) fn issue(&self, name: &str, subject: &str) -> Files {
        self.issue_with_key(name, subject, "ec")
    }

    /// Issues a certificate with a key of this kind.
    pub(in crate::server) fn issue_with_key(&self, name: &str, subject: &str, kind: &str) -> Files {
        self.request(name, subject, kind);
        self.sign(name, "-extfile openssl.cnf -extensions leaf")
    }

    /// Issues a certificate without extensions, as `openssl` does by default, with a key of this kind.
    pub(in crate::server) fn issue_v1(&self, name: &str, subject: &str, kind: &str) -> Files {
        self.request(name, subject, kind);
        self.sign(name, "")
    }

    /// Issues a certificate with these extensions, each on its line.
    pub(in crate::server) fn issue_with(&self, name: &str, subject: &str, extensions: &str) -> Files {
        self.request(name, subject, "ec");
        self.write_extensions(name, extensions);
        self.sign(name, &format!("-extfile {name}.ext -extensions these"))
    }

    /// Issues a certificate that is valid from one of these dates to the other.
    pub(in crate::server) fn issue_dated(&self, name: &str, subject: &str, dates: [&str; 2]) -> Files {
        self.request(name, subject, "ec");
        self.sign_dated(name, dates, "");
        self.files(name)
    }

    /// A certificate that signed itself, with these extensions, valid from one of these dates to the other. The authority
    /// has nothing to do with it.
    pub(in crate::server) fn self_signed(
        &self,
        name: &str,
        subject: &str,
        extensions: &str,
        dates: [&str; 2],
    ) -> Files {
        self.request(name, subject, "ec");
        self.write_extensions(name, extensions);
        let by_itself = format!("-selfsign -keyfile {name}.key -extfile {name}.ext -extensions these");
        self.sign_dated(name, dates, &by_itself);
        let files = self.files(name);
        Files { authority: files.certificate.clone(), ..files }
    }

    /// Another certificate of the same name and key, which signed itself as well.
    pub(in crate::server) fn signed_again(&self, files: &Files, extensions: &str) -> Files {
        let (key, name) = (files.key.display(), "again");
        self.write_extensions(name, extensions);
        let subject = format!("/{}", files.openssl_subject());
        self.directory.openssl(&format!(
            "req -new -utf8 -config openssl.cnf -key {key} -out {name}.csr -subj \u{1}{subject}"
        ));
        let by_itself = format!("-selfsign -keyfile {key} -extfile {name}.ext -extensions these");
        self.sign_dated(name, ["20200101000000Z", "20800101000000Z"], &by_itself);
        let again = self.files(name);
        Files { authority: again.certificate.clone(), key: files.key.clone(), ..again }
    }

    /// A certificate for this subject, issued with a certificate that may not do so.
    pub(in crate::server) fn issued_by(&self, issuer: &Files, name: &str, subject: &str) -> Files {
        self.request(name, subject, "ec");
        let (certificate, key) = (issuer.certificate.display(), issuer.key.display());
        self.directory.openssl(&format!(
            "x509 -req -in {name}.csr -CA {certificate} -CAkey {key} -CAcreateserial -sha256 -days 2 \
             -out {name}.crt -extfile openssl.cnf -extensions leaf"
        ));
        self.files(name)
    }

    /// The revocation list of a certificate that signed itself, with or without itself in it.
    pub(in crate::server) fn list_of(&self, files: &Files, is_revoked: bool) -> Given<PathBuf> {
        let (certificate, key) = (files.certificate.display(), files.key.display());
        let issuer = format!("-cert {certificate} -keyfile {key}");
        if is_revoked {
            self.directory.openssl(&format!("ca -config openssl.cnf {issuer} -revoke {certificate}"));
        }
        let name = format!("own-{is_revoked}.crl");
        self.directory.openssl(&format!("ca -config openssl.cnf {issuer} -gencrl -out {name}"));
        self.directory.path(&name)
    }

    /// An authority that this one has certified with these extensions, in addition to those of an authority.
    pub(in crate::server) fn certify(&self, extensions: &str) -> Self {
        self.certify_as(Self::new(), extensions)
    }

    /// The same with the name and the key of this one.
    pub(in crate::server) fn certify_as(&self, other: Self, extensions: &str) -> Self {
        let directory = &other.directory;
        other.write_extensions("authority", &format!("basicConstraints = critical, CA:TRUE\n{extensions}"));
        let above = self.directory.path("authority").display().to_string();
        directory.openssl("x509 -in authority.crt -signkey authority.key -x509toreq -out authority.csr");
        directory.openssl(&format!(
            "x509 -req -in authority.csr -CA {above}.crt -CAkey {above}.key -CAcreateserial -sha256 -days 2 \
             -extfile authority.ext -extensions these -out authority.crt"
        ));
        other
    }

    /// Another authority with the same name.
    pub(in crate::server) fn impostor(&self) -> Self {
        let told = self.directory.openssl("x509 -in authority.crt -noout -subject -nameopt RFC2253");
        Self::with_name(told.trim_end().trim_start_matches("subject=CN="))
    }

    /// Issues a certificate that is valid for servers only.
    pub(in crate::server) fn issue_for_servers(&self, name: &str, subject: &str) -> Files {
        self.request(name, subject, "ec");
        self.sign(name, "-extfile openssl.cnf -extensions server_only")
    }

    /// Issues a certificate that was valid for a day in the past.
    pub(in crate::server) fn issue_expired(&self, name: &str, subject: &str) -> Files {
        self.request(name, subject, "ec");
        self.sign_dated(name, ["20200101000000Z", "20200102000000Z"], "");
        self.files(name)
    }

    /// Signs a request, with dates.
    fn sign_dated(&self, name: &str, [from, until]: [&str; 2], how: &str) {
        self.directory.openssl(&format!(
            "ca -batch -notext -config openssl.cnf -startdate {from} -enddate {until} {how} \
             -in {name}.csr -out {name}.crt"
        ));
    }

    fn write_extensions(&self, name: &str, extensions: &str) {
        self.directory.write(&format!("{name}.ext"), format!("[these]\n{extensions}\n").as_bytes());
    }

    /// A revocation list with this certificate in it.
    pub(in crate::server) fn revoke(&self, files: &Files) -> Given<PathBuf> {
        let path = files.certificate.display();
        self.directory.openssl(&format!("ca -config openssl.cnf -revoke {path}"));
        self.directory.openssl("ca -config openssl.cnf -gencrl -out revoked.crl");
        self.directory.path("revoked.crl")
    }

    fn request(&self, name: &str, subject: &str, kind: &str) {
        let openssl = |arguments: &str| self.directory.openssl(arguments);
        match kind {
            "ec" | "ec-sec1" => openssl(&format!(
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve -out {name}.key"
            )),
            "p521" => {
                openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out {name}.key"))
            }
            "ed25519" => openssl(&format!("genpkey -algorithm ed25519 -out {name}.key")),
            _ => openssl(&format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out {name}.key")),
        };
        match kind {
            "ec-sec1" => openssl(&format!("ec -in {name}.key -out {name}.key")),
            "rsa-pkcs1" => openssl(&format!("rsa -in {name}.key -traditional -out {name}.key")),
            _ => String::new(),
        };
        openssl(&format!(
            "req -new -utf8 -config openssl.cnf -key {name}.key -out {name}.csr -subj \u{1}{subject}"
        ));
    }

    fn sign(&self, name: &str, extensions: &str) -> Files {
        self.directory.openssl(&format!(
            "x509 -req -in {name}.csr -CA authority.crt -CAkey authority.key -CAcreateserial -sha256 -days 2 \
             -out {name}.crt {extensions}"
        ));
        self.files(name)
    }

    fn files(&self, name: &str) -> Files {
        Files {
            directory: Arc::clone(&self.directory),
            certificate: self.directory.path(&format!("{name}.crt")),
            key: self.directory.path(&format!("{name}.key")),
            authority: self.directory.path("authority.crt"),
        }
    }

    /// A client that trusts the authority, and presents this certificate if asked for one.
    pub(in crate::server) fn client(&self, shown: Option<&Files>) -> ClientConfig {
        self.client_of(&[&TLS12, &TLS13], shown)
    }

    /// A client that speaks these versions.
    pub(in crate::server) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Files>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.pem()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.unwrap().with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let key = PrivateKeyDer::from_pem_slice(&read(&files.key)).unwrap();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let shown = CertifiedKey::new(vec![files.certificate_der().into()], key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }
}

impl Files {
    pub(in crate::server) fn certificate_der(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(&read(&self.certificate)).unwrap().to_vec()
    }

    pub(in crate::server) fn pem(&self) -> Vec<u8> {
        read(&self.certificate)
    }

    pub(in crate::server) fn authority_pem(&self) -> Vec<u8> {
        read(&self.authority)
    }

    /// The subject as `openssl` prints it by RFC 2253.
    pub(in crate::server) fn openssl_subject(&self) -> String {
        let path = self.certificate.display();
        let told = self.directory.openssl(&format!("x509 -noout -subject -nameopt RFC2253 -in {path}"));
        told.trim_end().trim_start_matches("subject=").to_owned()
    }

    /// Its key, encrypted with a password.
    pub(in crate::server) fn encrypted_key(&self) -> Given<PathBuf> {
        let path = self.key.display();
        self.directory.openssl(&format!("pkey -in {path} -aes128 -passout pass:secret -out encrypted.key"));
        self.directory.path("encrypted.key")
    }
}

/// TLS with a server whose certificate was issued by the authority of this one.
pub(in crate::server) fn bridge_tls(files: &Files) -> ClientTls {
    let place = "test.conf:1".to_owned();
    let authorities = Some(files.authority.clone());
    ClientTls { trust: Trust { place, authorities, authorities_directory: None }, ..ClientTls::default() }
}

/// A listener with TLS and this certificate, which trusts no authority.
pub(in crate::server) fn listener(files: &Files) -> Listener {
    Listener {
        name: None,
        place: "test.conf:1".to_owned(),
        address: Address::Loopback { port: 0 },
        interface: None,
        socket_file: SocketFile::default(),
        protocol: Protocol::Mqtt,
        tls: Some(Tls {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            authorities: None,
            authorities_directory: None,
            revoked: None,
            requires_certificate: false,
            is_1_3_only: false,
            record_size: None,
            key_log: None,
        }),
        proxy: None,
        proxies: Vec::new(),
        connections: usize::MAX,
        options: Rc::new(ListenerOptions::within(&Limits::default())),
        security: Rc::new(Security { allows_anonymous: true, ..Security::default() }),
    }
}

#[expect(clippy::disallowed_methods, reason = "tests read files")]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
