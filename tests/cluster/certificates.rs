//! Certificates that `openssl` makes when they are needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// A directory with certificates. It is removed when this is dropped.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    /// An authority `ca`, and certificates of it: `server` for this machine, `other` for another host and `client` for a
    /// node. The authority `foreign` has issued none of them.
    pub(crate) fn make(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("brooklet-keys-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory can be made");
        let this = Self(directory);
        for authority in ["ca", "foreign"] {
            this.openssl(&format!(
                "req -x509 -days 2 {NEW_KEY} -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ));
        }
        this.issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        this.issue("other", "subjectAltName=DNS:other.example");
        this.issue("client", "extendedKeyUsage=clientAuth");
        this
    }

    #[expect(clippy::disallowed_methods, reason = "openssl reads a file")]
    fn issue(&self, name: &str, extension: &str) {
        let extensions = format!("[leaf]\nbasicConstraints=CA:FALSE\n{extension}\n");
        fs::write(self.path("leaf"), extensions).expect("a file can be written");
        self.openssl(&format!("req -new {NEW_KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 2 -extfile leaf -extensions \
             leaf -out {name}.crt"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").current_dir(&self.0).args(arguments.split(' ')).output();
        let output = output.expect("there is a program `openssl`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The lines of a server of NATS with one of the certificates.
    pub(crate) fn lines_of_server(&self, name: &str) -> String {
        format!(
            "cert_file: \"{}\"\nkey_file: \"{}\"\nca_file: \"{}\"\n",
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
            self.path("ca.crt")
        )
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
