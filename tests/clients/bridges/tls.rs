//! Bridges over TLS, with certificates that `openssl` makes when they are needed.

use super::*;

/// Runs `openssl` in the directory.
fn openssl(directory: &Directory, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(&directory.0).args(arguments).output();
    let output = output.expect("there is a program `openssl`");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// Makes an authority with this name, as `NAME.crt` and `NAME.key`.
fn make_authority(directory: &Directory, name: &str) {
    let (key, certificate, subject) =
        (format!("{name}.key"), format!("{name}.crt"), format!("/CN=authority {name}"));
    let arguments = ["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate];
    openssl(directory, &[&arguments[..], &NEW_KEY].concat());
}

/// Makes a certificate of an authority for this machine, as `NAME.crt` and `NAME.key`. With no days it expires at once.
fn issue(directory: &Directory, authority: &str, name: &str, days: &str) {
    directory
        .write("leaf", "[leaf]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:localhost, IP:127.0.0.1\n");
    let [key, request, certificate] = ["key", "csr", "crt"].map(|kind| format!("{name}.{kind}"));
    let subject = format!("/CN={name}");
    let arguments = ["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request];
    openssl(directory, &[&arguments[..], &NEW_KEY].concat());
    let [authority_key, authority_certificate] = ["key", "crt"].map(|kind| format!("{authority}.{kind}"));
    #[rustfmt::skip]
    openssl(directory, &[
        "x509", "-req", "-in", &request, "-CA", &authority_certificate, "-CAkey", &authority_key, "-CAcreateserial",
        "-sha256", "-days", days, "-extfile", "leaf", "-extensions", "leaf", "-out", &certificate,
    ]);
}

/// Two brokers that have to speak TLS, and their files.
fn sites(name: &str, kind: Kind) -> Sites {
    let sites = Sites::new(name, kind);
    for authority in ["good", "wrong"] {
        make_authority(&sites.directory, authority);
    }
    for name in ["server", "client"] {
        issue(&sites.directory, "good", name, "2");
    }
    sites
}

impl Sites {
    /// Starts a far broker with TLS, and without it at another port.
    fn far_with_tls(&self, requires_certificate: bool, plain_port: u16) -> Far {
        let path = self.directory.0.display();
        let client = format!("cafile {path}/good.crt\nrequire_certificate true\n");
        self.far_with(&format!(
            "certfile {path}/server.crt\nkeyfile {path}/server.key\n{}listener {plain_port} 127.0.0.1\n",
            if requires_certificate { &client } else { "" }
        ))
    }

    /// Configures the near broker so that it trusts this authority.
    fn configure_tls(&self, authority: &str, has_certificate: bool) {
        let path = self.directory.0.display();
        let client = format!("bridge_certfile {path}/client.crt\nbridge_keyfile {path}/client.key\n");
        self.configure(&format!(
            "topic up/# out 1\nbridge_cafile {path}/{authority}.crt\n{}",
            if has_certificate { &client } else { "" }
        ));
    }
}

#[test]
fn a_bridge_over_tls_shows_a_certificate_if_it_has_one() {
    for kind in kinds() {
        for has_certificate in [false, true] {
            let sites = sites(&format!("tls-{has_certificate}"), kind);
            let plain_port = free_port();
            let far = sites.far_with_tls(has_certificate, plain_port);
            sites.configure_tls("good", has_certificate);
            let near = sites.near();
            run(async {
                let mut client = sites.client(Version::V5, false, "near").await;
                client.subscribe(STATE, QoS::AtLeastOnce).await;
                wait_for_state(&mut client, "1").await;
                let mut watcher = Options::at(plain_port, Version::V5, "far").connect().await;
                watcher.subscribe("up/#", QoS::AtLeastOnce).await;
                for length in [1, 400_000, 2] {
                    client.publish("up/a", QoS::AtLeastOnce, false, "x".repeat(length)).await;
                    assert_eq!(watcher.receive().await.payload.len(), length);
                }
            });
            drop(far);
            near.wait_for_line("The connection to");
            end(near);
        }
    }
}

#[test]
fn an_authority_that_is_not_the_right_one_is_refused_in_words() {
    for kind in kinds() {
        let sites = sites("wrong", kind);
        let _far = sites.far_with_tls(false, free_port());
        sites.configure_tls("wrong", false);
        let near = sites.near();
        let line = near.wait_for_line("was not issued by an authority in bridge_cafile");
        assert!(
            line.contains("The attempt to connect to 127.0.0.1:") && line.contains("The next attempt is in")
        );
        end(near);
    }
}

#[test]
fn a_bridge_without_the_certificate_that_is_required_is_told() {
    for kind in kinds() {
        let sites = sites("missing", kind);
        let _far = sites.far_with_tls(true, free_port());
        sites.configure_tls("good", false);
        let near = sites.near();
        // And not that the other broker does not know the version of MQTT.
        let line = near.wait_for_line("the server requires a certificate");
        assert!(line.contains("The attempt to connect to 127.0.0.1:"), "{line}");
        end(near);
    }
}

#[test]
fn a_certificate_that_is_out_of_date_is_refused_in_words() {
    for kind in kinds() {
        let sites = sites("expired", kind);
        issue(&sites.directory, "good", "server", "0");
        // Its time ends with this second.
        std::thread::sleep(Duration::from_secs(2));
        let _far = sites.far_with_tls(false, free_port());
        sites.configure_tls("good", false);
        let near = sites.near();
        let line = near.wait_for_line("has expired (it was valid until");
        assert!(
            line.contains("The attempt to connect to 127.0.0.1:") && line.contains("The next attempt is in")
        );
        near.wait_for_lines("The attempt to connect to 127.0.0.1:", 2);
        end(near);
    }
}
