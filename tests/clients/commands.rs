//! The commands of the binary that end by themselves.

use std::io::Write;
use std::process::{Output, Stdio};

#[cfg(feature = "passwords")]
use crate::place::Place;
use crate::server::brooklet;

fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = brooklet();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary can be started");
    // It need not read what it has no use for.
    let _ = child.stdin.take().expect("standard input is a pipe").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the binary writes text")
}

#[cfg(feature = "passwords")]
#[test]
fn passwd_reads_a_password_from_a_pipe() {
    let place = Place::new("passwd");
    let file = place.0.join("users");
    let file = file.to_str().expect("its name is text");
    let created = run(&["passwd", "-c", file, "ann"], b"a Secret\nmore");
    assert_eq!((created.status.code(), text(&created.stderr)), (Some(0), ""));
    assert_eq!(text(&created.stdout), "", "there is no prompt");
    let before = std::fs::read_to_string(file).expect("it was written");
    assert!(
        before.starts_with("ann:$7$") && before.lines().count() == 1 && !before.contains("Secret"),
        "{before}"
    );
    for input in [&b""[..], b"\nsecret\n"] {
        let empty = run(&["passwd", file, "ann"], input);
        let error = text(&empty.stderr);
        assert!(empty.status.code() == Some(1) && error.contains("standard input"), "{error}");
        assert_eq!(std::fs::read_to_string(file).expect("it is there"), before);
    }
}

#[test]
fn help_and_version_have_short_names() {
    let help = run(&["help"], b"");
    assert_eq!((help.status.code(), &help.stdout), (Some(0), &run(&["--help"], b"").stdout));
    let acl = run(&["help", "acl"], b"");
    assert_eq!((acl.status.code(), &acl.stdout), (Some(0), &run(&["acl", "--help"], b"").stdout));
    assert!(text(&acl.stdout).starts_with("Usage: brooklet acl "));
    let version = run(&["-V"], b"");
    assert_eq!(text(&version.stdout), format!("brooklet version {}\n", env!("CARGO_PKG_VERSION")));
    let unknown = run(&["help", "psswd"], b"");
    assert_eq!(unknown.status.code(), Some(3));
    assert!(text(&unknown.stderr).contains("'psswd'") && text(&unknown.stderr).contains("acl"));
}

#[test]
fn the_help_offers_only_what_the_binary_has() {
    let help = run(&["-h"], b"");
    let help = text(&help.stdout);
    for (word, is_there) in [
        ("brooklet passwd", cfg!(feature = "passwords")),
        ("brooklet import", cfg!(feature = "persistence")),
        ("brooklet acl", true),
        ("--daemon", cfg!(feature = "system")),
        ("--tls-keylog", cfg!(feature = "tls")),
        ("--port", true),
    ] {
        assert_eq!(help.contains(word), is_there, "{word}: {help}");
    }
}

#[cfg(feature = "system")]
#[test]
fn usr2_lists_who_has_subscribed() {
    use crate::client::{Client, Version, run};
    use crate::server::Server;
    use rumqttc::QoS;

    run(async {
        let server = Server::start(&[]);
        let mut clients = Vec::new();
        for (identifier, filter) in [
            ("kitchen", "house/+"),
            ("h\u{202e}all'", "house/+"),
            ("attic", "$share/group/house/#"),
            ("cellar", "$share/group/house/#"),
        ] {
            let mut client = Client::connect(&server, Version::V5, identifier).await;
            client.subscribe(filter, QoS::AtMostOnce).await;
            clients.push(client);
        }
        for number in 0..40 {
            let mut client =
                Client::connect(&server, Version::V5, &format!("a-client-with-a-long-name-{number}")).await;
            client.subscribe("many", QoS::AtMostOnce).await;
            clients.push(client);
        }
        server.signal("USR2");
        server.wait_for_line(": 2 at house/+: 'kitchen', 'h\\u{202e}all\\''");
        server.wait_for_line(": 1 at house/#: $share/group 'attic', $share/group 'cellar'");
        let many = server.wait_for_line(": 40 at many: 'a-client-with-a-long-name-0', ");
        assert!(many.ends_with(", ...") && many.len() < 500, "{many}");
    });
}

#[cfg(feature = "persistence")]
#[test]
#[expect(clippy::disallowed_methods, reason = "a test may write files")]
fn an_error_about_a_variable_of_the_environment_names_it() {
    let place = crate::place::Place::new("environment");
    let file = place.0.join("conf");
    std::fs::write(&file, "user root\npersistence true\n").expect("a file can be written");
    let mut command = brooklet();
    command.arg("--test-config").arg("-c").arg(&file).env("MOSQUITTO_PERSISTENCE_LOCATION", "/no/where");
    let output = command.output().expect("the binary can be started");
    let error = text(&output.stderr);
    let expected = "Error: MOSQUITTO_PERSISTENCE_LOCATION in the environment: /no/where: ";
    assert!(error.contains(expected), "{error}");
    assert_eq!(output.status.code(), Some(3));
}
