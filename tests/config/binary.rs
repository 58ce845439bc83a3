//! The binary and its configuration file, from the operator's view.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A directory for one test, which is removed with it.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("brooklet-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    /// Writes a file and returns its path.
    #[expect(clippy::disallowed_methods, reason = "a test may write files")]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file can be written");
        path.to_str().expect("names are text").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn brooklet(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brooklet")).args(arguments).output().expect("the binary can be started")
}

/// The directory in which the tests run, to which relative paths belong.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the broker writes text")
}

#[test]
fn a_good_file_ends_with_0() {
    for arguments in [
        &["-c", "tests/config/good/docker-minimal.conf", "--test-config"][..],
        &["--test-config", "-c", "tests/config/good/local-only.conf", "-p", "0"],
        &["--test-config"],
    ] {
        let output = brooklet(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "The configuration is good.\n");
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_broken_file_ends_with_3_whether_tested_or_started() {
    let path = "tests/config/broken/misspelt.conf";
    for arguments in [&["-c", path, "--test-config"][..], &["-c", path], &["-d", "-c", path]] {
        let output = brooklet(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let error = text(&output.stderr);
        assert_eq!(
            error
                .lines()
                .filter(|line| line.starts_with(&format!("Error: {ROOT}/tests/config/broken/")))
                .count(),
            6,
            "{error}"
        );
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = brooklet(&["-c", "/no/such.conf", "--test-config"]);
    assert_eq!(output.status.code(), Some(3));
    let expected =
        "Error: /no/such.conf: No such file or directory (os error 2), expected a configuration file\n";
    assert_eq!(text(&output.stderr), expected);
    let output = brooklet(&["-c", "tests", "--test-config"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stderr).starts_with(&format!("Error: {ROOT}/tests: Is a directory")),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn files_that_are_named_have_to_be_there() {
    let scratch = Scratch::new("named");
    let path = scratch.file(
        "a.conf",
        "listener 1883\npassword_file /no/passwords\nacl_file /no/acl\nlog_dest file /no/where/log\npid_file /tmp\n\
         persistence true\npersistence_location /no/where\n",
    );
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    for part in ["/no/passwords: ", "/no/acl: ", "/no/where/log: ", "/tmp: it is a directory", "/no/where: "]
    {
        assert_eq!(error.matches(&format!(": {part}")).count(), 1, "{part}: {error}");
    }
}

/// Each of these paths is wrong, and is named as it is found from anywhere.
#[cfg(all(feature = "tls", feature = "persistence", feature = "bridge"))]
#[test]
fn a_relative_path_is_named_as_an_absolute_one() {
    let scratch = Scratch::new("relative");
    let path = scratch.file(
        "a.conf",
        "persistence true\npersistence_location no/store\nlog_dest file no/log/log\npid_file no/pid/pid\n\
         listener 1883\ncertfile no/server\nkeyfile no/key\ncafile no/ca\ncapath no/cas\ncrlfile no/crl\n\
         require_certificate true\npassword_file no/passwords\nacl_file no/acl\n\
         connection far\naddress far.test\ntopic #\nbridge_cafile no/far-ca\nbridge_capath no/far-cas\n\
         bridge_certfile no/far-client\nbridge_keyfile no/far-key\n",
    );
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    for name in [
        "store",
        "log/log",
        "server",
        "key",
        "ca",
        "cas",
        "crl",
        "passwords",
        "acl",
        "far-ca",
        "far-cas",
        "far-client",
        "far-key",
    ] {
        assert!(error.contains(&format!(": {ROOT}/no/{name}: ")), "{name}: {error}");
    }
    assert_eq!(error.matches("no/").count(), error.matches(&format!("{ROOT}/no/")).count(), "{error}");
    let broken = scratch.file("b.conf", "include_dir no/directory\n");
    let error = text(&brooklet(&["-c", &broken, "--test-config"]).stderr);
    assert!(error.contains(&format!("{ROOT}/no/directory")), "{error}");
}

#[cfg(feature = "tls")]
#[test]
fn keys_that_everyone_can_read_cause_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("mode");
    let key = scratch.file("key", "no key");
    let listener = format!("certfile {key}\nkeyfile {key}\n");
    let path = scratch.file("a.conf", &format!("listener 1883\n{listener}listener 1884\n{listener}"));
    for (mode, count) in [(0o644, 1), (0o640, 0)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is ours");
        let told = text(&brooklet(&["-c", &path, "--test-config"]).stderr);
        let warning = format!(": {key}: every user of this machine can read it (mode 0644)");
        assert_eq!(told.matches(&warning).count(), count, "{mode:o}: {told}");
    }
}

#[cfg(all(feature = "bridge", feature = "tls"))]
#[test]
fn files_of_a_bridge_have_to_be_there() {
    let scratch = Scratch::new("bridge");
    let bridge = "connection a\naddress 192.0.2.1\ntopic #\nremote_clientid a\n";
    let path = scratch.file(
        "a.conf",
        &format!("{bridge}bridge_cafile /no/ca\nbridge_certfile /no/certificate\nbridge_keyfile /no/key\n"),
    );
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    for part in ["/no/ca: ", "/no/certificate: ", "/no/key: "] {
        assert_eq!(error.matches(&format!(": {part}")).count(), 1, "{part}: {error}");
    }
}

#[cfg(all(feature = "bridge", feature = "tls"))]
#[test]
fn the_key_of_a_bridge_that_everyone_can_read_causes_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("bridge-mode");
    let key = scratch.file("key", "no key");
    let bridge = "connection a\naddress 192.0.2.1\ntopic #\nbridge_tls_use_os_certs true\n";
    let path = scratch.file("a.conf", &format!("{bridge}bridge_certfile {key}\nbridge_keyfile {key}\n"));
    for (mode, count) in [(0o644, 1), (0o640, 0)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is ours");
        let told = text(&brooklet(&["-c", &path, "--test-config"]).stderr);
        let warning = format!(": {key}: every user of this machine can read it (mode 0644)");
        assert_eq!(told.matches(&warning).count(), count, "{mode:o}: {told}");
    }
}

/// The name of this machine, which the system knows, is a part of the default Client Identifiers.
#[cfg(feature = "bridge")]
#[test]
fn a_bridge_needs_no_client_identifier() {
    let scratch = Scratch::new("host-name");
    let path = scratch.file("a.conf", "connection a\naddress 192.0.2.1\ntopic #\n");
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

/// What a bridge does not have is refused, unless it matters only to mosquitto.
#[cfg(feature = "bridge")]
#[test]
fn what_a_bridge_does_not_have_is_named_with_its_line() {
    let scratch = Scratch::new("bridge-lacks");
    let bridge = "connection a\naddress 192.0.2.1\ntopic #\nremote_clientid a\n";
    let pre_shared = "TLS with pre-shared keys is not supported";
    for (line, kind, told) in [
        ("bridge_psk 00", "Error", pre_shared),
        ("bridge_identity i", "Error", pre_shared),
        ("bridge_require_ocsp true", "Error", "OCSP is not supported"),
        ("bridge_ciphers HIGH", "Warning", "TLS uses only strong cipher suites"),
        ("bridge_ciphers_tls1.3 TLS_AES_128_GCM_SHA256", "Warning", "TLS uses only strong cipher suites"),
    ] {
        let path = scratch.file("a.conf", &format!("{bridge}{line}\n"));
        let output = brooklet(&["-c", &path, "--test-config"]);
        let found = text(&output.stderr);
        assert_eq!(output.status.code(), Some(if kind == "Error" { 3 } else { 0 }), "{line}: {found}");
        assert!(found.starts_with(&format!("{kind}: {path}:5:")) && found.contains(told), "{line}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[cfg(feature = "bridge")]
#[test]
fn a_bridge_to_which_no_rules_apply_is_named_with_its_line() {
    let scratch = Scratch::new("bridge-rules");
    let rules = scratch.file("rules", "topic read #\n");
    let bridge = "connection a\naddress 192.0.2.1\ntopic #\nremote_clientid a\n";
    for (user, count) in [("", 1), ("local_username u\n", 0)] {
        let path = scratch.file("a.conf", &format!("acl_file {rules}\n{bridge}{user}"));
        let output = brooklet(&["-c", &path, "--test-config"]);
        assert_eq!(output.status.code(), Some(0));
        let warning = format!(
            "Warning: {path}:2:1: access rules do not apply to bridge 'a', which has no 'local_username'\n"
        );
        let told = text(&output.stderr);
        let warnings: String =
            told.split_inclusive('\n').filter(|line| line.starts_with("Warning")).collect();
        assert_eq!(warnings, warning.repeat(count));
    }
}

/// What differs from mosquitto is told, but is nothing to fail for, and nothing to log at each start.
#[cfg(feature = "passwords")]
#[test]
fn what_differs_is_told_with_its_line() {
    let scratch = Scratch::new("differs");
    let users = scratch.file("users", "");
    let path = scratch.file("a.conf", &format!("retry_interval 20\n\npassword_file {users}\n"));
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(0), "The configuration is good.\n"));
    let told = text(&output.stderr);
    for (line, keyword) in [(1, "retry_interval"), (3, "password_file")] {
        let note = format!("Note: {path}:{line}:1: '{keyword}' differs: ");
        assert_eq!(told.matches(&note).count(), 1, "{told}");
    }
}

#[test]
fn a_user_to_become_has_to_be_there() {
    let scratch = Scratch::new("user");
    let path = scratch.file("a.conf", "user no-such-user\n");
    let own = fs::metadata("/proc/self").map_or(1, |own| std::os::unix::fs::MetadataExt::uid(&own));
    // A process that is not root's does not switch users.
    let code = if own == 0 { 3 } else { 0 };
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr).contains("'no-such-user'"), own == 0);
}

#[test]
fn a_test_of_the_configuration_touches_nothing() {
    let scratch = Scratch::new("touch");
    let log = scratch.0.join("log");
    let path = scratch.file("a.conf", &format!("listener 1\nlog_dest file {}\n", log.display()));
    let before = fs::read_dir(&scratch.0).expect("it is there").count();
    assert_eq!(brooklet(&["-c", &path, "--test-config"]).status.code(), Some(0));
    assert_eq!(fs::read_dir(&scratch.0).expect("it is there").count(), before);
}

#[test]
fn ports_of_the_command_line_yield_to_those_of_the_file() {
    let output = brooklet(&["-c", "tests/config/good/docker-minimal.conf", "-p", "1885", "--test-config"]);
    assert_eq!(output.status.code(), Some(0));
    let warning = format!(
        "Warning: {ROOT}/tests/config/good/docker-minimal.conf: it has listeners, so --port is ignored\n"
    );
    assert_eq!(text(&output.stderr), warning);
}

// Without the feature `system`, a signal ends it before it can remove the file.
#[cfg(feature = "system")]
#[test]
fn in_the_background_it_leaves_its_number_in_a_file() {
    let scratch = Scratch::new("background");
    let pid_file = scratch.0.join("pid");
    // When started as root, it would switch to a user that could not remove the file.
    let path = scratch.file("a.conf", &format!("user root\npid_file {}\n", pid_file.display()));
    let output = brooklet(&["-d", "-p", "0", "-c", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let number = || fs::read_to_string(&pid_file).ok().filter(|number| number.ends_with('\n'));
    wait_until(|| number().is_some());
    let status = Command::new("kill").arg(number().expect("it was there").trim()).status();
    assert!(status.expect("there is a program kill").success());
    wait_until(|| !pid_file.exists());
}

/// Everything opened before an error is closed again, and removed from the file system.
#[test]
fn a_start_that_fails_leaves_no_socket() {
    let scratch = Scratch::new("socket");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it has an address").port();
    let socket = scratch.0.join("socket");
    let opened = format!("listener 0 {}\nlistener {port} 127.0.0.1\n", socket.display());
    let output = brooklet(&["-c", &scratch.file("a.conf", &format!("user root\n{opened}"))]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(!socket.exists());
}

/// Waits for a condition, but not for ever.
#[cfg(feature = "system")]
fn wait_until(condition: impl Fn() -> bool) {
    let is_there = (0..6_000).any(|_| {
        condition() || {
            std::thread::sleep(std::time::Duration::from_millis(10));
            false
        }
    });
    assert!(is_there, "waited in vain");
}

/// Files on which an open would block are recognized before they are opened, wherever a configuration names them.
#[test]
fn a_fifo_in_place_of_a_file_is_reported_at_once() {
    let scratch = Scratch::new("fifo");
    let directory = scratch.0.join("included");
    fs::create_dir_all(&directory).expect("a directory can be made");
    let fifo = directory.join("fifo.conf");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("there is mkfifo").success());
    let (fifo, directory) = (fifo.display().to_string(), directory.display().to_string());
    let mut said =
        vec![format!("include_dir {directory}"), format!("acl_file {fifo}"), format!("pid_file {fifo}")];
    if cfg!(feature = "passwords") {
        said.push(format!("password_file {fifo}"));
    }
    if cfg!(feature = "tls") {
        said.extend([
            format!("certfile {fifo}\nkeyfile /dev/null"),
            format!("certfile /dev/null\nkeyfile {fifo}"),
            format!("certfile /dev/null\nkeyfile /dev/null\ncafile {fifo}"),
            format!("certfile /dev/null\nkeyfile /dev/null\ncrlfile {fifo}"),
        ]);
    }
    if cfg!(all(feature = "bridge", feature = "tls")) {
        let bridge = "connection a\naddress 192.0.2.1\ntopic #\nbridge_tls_use_os_certs true\n";
        said.extend([
            format!("{bridge}bridge_cafile {fifo}"),
            format!("{bridge}bridge_certfile {fifo}\nbridge_keyfile /dev/null"),
            format!("{bridge}bridge_certfile /dev/null\nbridge_keyfile {fifo}"),
        ]);
    }
    let mut files: Vec<String> = (0..)
        .zip(&said)
        .map(|(number, said)| {
            scratch.file(
                &format!("{number}.conf"),
                &format!("listener 0 127.0.0.1\nallow_anonymous true\n{said}\n"),
            )
        })
        .collect();
    files.push(fifo);
    for file in &files {
        for arguments in [&["-c", file, "--test-config"][..], &["-c", file]] {
            let output = brooklet(arguments);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{file}: {told}");
            assert!(told.contains("it is a FIFO, expected a file"), "{file}: {told}");
        }
    }
}
