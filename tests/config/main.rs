//! Typical configuration files, and broken ones: the result of each is in `expected.txt`.

mod binary;
#[cfg(feature = "bridge")]
mod bridges;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "persistence")]
mod databases;
#[cfg(all(feature = "bridge", feature = "tls", feature = "websocket"))]
mod digest;
#[cfg(any(feature = "bridge", feature = "system"))]
mod keywords;
#[cfg(all(feature = "persistence", feature = "system"))]
mod obstacles;
#[cfg(all(feature = "bridge", feature = "persistence", feature = "tls"))]
mod paths;
#[cfg(all(feature = "bridge", feature = "persistence", feature = "system", feature = "tls"))]
mod places;
#[cfg(all(feature = "system", feature = "tls", feature = "websocket"))]
mod plan;
#[cfg(any(feature = "bridge", feature = "cluster", feature = "system"))]
mod settle;
#[cfg(all(feature = "bridge", feature = "tls", feature = "websocket"))]
mod table;

use brooklet::config::file::{self, CommandLine, Verbosity};

#[test]
fn the_command_line_goes_before_the_file() {
    let given = CommandLine {
        ports: vec![1885, 1886],
        verbosity: Verbosity::Quiet,
        memory_limit: Some(5_000_000),
        is_daemon: true,
        persistence_location: Some("/srv".to_owned()),
        ..CommandLine::default()
    };
    let outcome = file::load(Some("tests/config/good/docker-volumes.conf"), &given);
    let settings = outcome.settings.expect("it is good");
    assert_eq!(settings.limits.memory, Some(5_000_000));
    assert_eq!(settings.persistence.map(|persistence| persistence.directory), Some("/srv".into()));
    assert!(settings.process.is_daemon && settings.log.kinds.error && !settings.log.kinds.warning);
    assert_eq!(settings.listeners.len(), 1, "the file has a listener");
    assert!(outcome.warnings.iter().any(|warning| warning.text.contains("--port")), "{:?}", outcome.warnings);

    let settings = file::load(None, &given).settings.expect("it is good");
    let places: Vec<String> =
        settings.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(places, ["port 1885 of the loopback addresses", "port 1886 of the loopback addresses"]);
    assert!(settings.listeners.iter().all(|listener| listener.security.allows_anonymous));
}

#[test]
fn the_environment_is_checked_like_the_file() {
    let said = |text: &str| Some(text.to_owned());
    let given = CommandLine {
        user_number: said("1883"),
        group_number: said("7"),
        file_mask: said("0027"),
        ..CommandLine::default()
    };
    let process = file::load(None, &given).settings.expect("it is good").process;
    let numbers = (process.user_number, process.group_number, process.file_mask);
    assert_eq!(numbers, (Some(1883), Some(7), Some(0o27)));
    let given = CommandLine {
        user_number: said("0"),
        group_number: said("staff"),
        file_mask: said("8"),
        ..CommandLine::default()
    };
    let errors = file::load(None, &given).errors;
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "PUID: '0' in the environment, expected a number above zero; use `user root` in the configuration to stay root",
        "PGID: 'staff' in the environment, expected a number above zero; use `user root` in the configuration to stay root",
        "UMASK_SET: '8' in the environment, expected permissions in octal, such as 0022",
    ];
    assert_eq!(errors, expected);
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_certificates_are_refused() {
    let errors = file::load(Some("tests/config/good/tls-server.conf"), &CommandLine::default()).errors;
    let expected = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/config/good/tls-server.conf:3:1: this binary was built without TLS (feature tls)"
    );
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[cfg(not(feature = "bridge"))]
#[test]
fn without_bridges_they_are_refused() {
    let errors =
        file::load(Some("tests/config/good/bridge-test-server.conf"), &CommandLine::default()).errors;
    let expected = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/config/good/bridge-test-server.conf:1:1: 'connection': this binary was built without bridges (feature bridge)"
    );
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[cfg(not(feature = "cluster"))]
#[test]
fn without_clusters_they_are_refused() {
    let (statements, findings) = file::parse(b"cluster nats://localhost\ncluster_name a\n", "a.conf");
    let steps: Vec<_> = statements.into_iter().map(file::Step::Statement).collect();
    let (_, more) = file::settle(&steps, &CommandLine::default());
    let findings: Vec<&str> = findings.iter().chain(&more).map(|finding| &*finding.text).collect();
    assert_eq!(findings, ["'cluster': this binary was built without clusters (feature cluster)"]);
}

#[cfg(not(feature = "websocket"))]
#[test]
fn without_websocket_its_listeners_are_refused() {
    let errors = file::load(Some("tests/config/good/docker-websocket.conf"), &CommandLine::default()).errors;
    let expected = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/config/good/docker-websocket.conf:10:1: this binary was built without WebSocket (feature websocket)"
    );
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

/// No error advises what the binary was built without.
#[cfg(not(any(feature = "passwords", feature = "tls", feature = "websocket")))]
#[test]
fn without_features_no_error_advises_them() {
    let absent =
        ["passwd", "password_file and", "certfile and", "'certfile' and", "a keyfile", "websockets;"];
    for text in [
        "psk_file /a",
        "psk_hint a",
        "tls_engine a",
        "plugin /a",
        "global_plugin /a",
        "auth_plugin /a",
        "plugin_load a /a",
        "listener 1\ncertfile /a",
        "listener 1\nkeyfile /a",
        "listener 1\ncafile /a",
        "listener 1\nrequire_certificate true",
        "listener 1\nuse_identity_as_username true",
        "listener 1\nwebsockets_origin a",
        "listener 1\nprotocol http_api",
        "listener 1\nprotocol a",
    ] {
        let (statements, findings) = file::parse(format!("{text}\n").as_bytes(), "a.conf");
        let steps: Vec<_> = statements.into_iter().map(file::Step::Statement).collect();
        let (_, more) = file::settle(&steps, &CommandLine::default());
        let found: Vec<&str> = findings.iter().chain(&more).map(|finding| &*finding.text).collect();
        assert!(!found.is_empty(), "{text} is an error");
        let is_advised = |words: &&str| found.iter().any(|found| found.contains(*words));
        assert_eq!(absent.iter().find(|words| is_advised(words)), None, "{text}: {found:?}");
        let is_absent = |found: &&str| found.contains("without") && found.contains("expected");
        assert_eq!(found.iter().find(|found| is_absent(found)), None, "{text}");
    }
}
