//! What a start would meet on this machine, as `--test-config` notes it, `--test-start` refuses it and a start in the
//! background reports it.

#![expect(clippy::disallowed_methods, reason = "a test may read and write files")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::binary::{Scratch, brooklet, text};

/// The names of the files in a directory, with their lengths.
fn files(scratch: &Scratch) -> Vec<(String, u64)> {
    let entries = fs::read_dir(&scratch.0).expect("it is there");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("it can be read"))
        .map(|entry| (entry.file_name().display().to_string(), entry.metadata().map_or(0, |file| file.len())))
        .collect();
    files.sort();
    files
}

/// A port that is in use, and the socket that uses it.
fn used_port() -> (TcpListener, u16) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = socket.local_addr().expect("it has an address").port();
    (socket, port)
}

/// As below, and both change nothing.
fn expect_obstacle(scratch: &Scratch, path: &str, told: &str) {
    let before = files(scratch);
    expect_told(path, told);
    assert_eq!(files(scratch), before, "{told}");
}

/// A test of the configuration notes this text and succeeds, and a test of the start fails with it.
fn expect_told(path: &str, told: &str) {
    for (flag, code, kind) in [("--test-config", 0, "Note: "), ("--test-start", 1, "Error: ")] {
        let output = brooklet(&["-c", path, flag]);
        let found = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flag}: {found}");
        let is_told = found.lines().any(|line| line.starts_with(kind) && line.contains(told));
        assert!(is_told, "{flag}, {told}: {found}");
        assert_eq!(text(&output.stdout).is_empty(), code == 1);
    }
}

fn expect_no_obstacle(path: &str) {
    let output = brooklet(&["-c", path, "--test-start"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "The configuration is good.\n");
}

/// A start in the background fails with this text.
fn expect_failure(path: &str, told: &str) {
    let output = brooklet(&["-d", "-c", path]);
    let found = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}: {found}");
    assert!(found.contains("Error: ") && found.contains(told), "{told}: {found}");
}

#[test]
fn a_port_or_a_socket_in_use_is_an_obstacle() {
    let scratch = Scratch::new("obstacle-port");
    let (used, port) = used_port();
    let path = scratch.file("a.conf", &format!("user root\nlistener {port} 127.0.0.1\n"));
    expect_obstacle(&scratch, &path, "another program, or another broker, listens there");
    expect_failure(&path, "listens there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_brooklet"));
    let output = command.current_dir(&scratch.0).args(["-c", "a.conf"]).output().expect("it can be started");
    let told = text(&output.stderr);
    assert!(told.contains(&format!("Config loaded from {path}.")), "{told}");
    drop(used);
    expect_no_obstacle(&path);
    let socket = scratch.0.join("socket");
    let path = scratch.file("b.conf", &format!("user root\nlistener 0 {}\n", socket.display()));
    expect_no_obstacle(&path);
    let used = UnixListener::bind(&socket).expect("it can be made");
    expect_obstacle(&scratch, &path, "another broker answers there");
    expect_failure(&path, "another broker answers there");
    drop(used);
    expect_no_obstacle(&path);
    assert!(socket.exists(), "a test removes nothing");
}

/// A store, and a configuration that names it.
fn store(name: &str, lines: &str) -> (Scratch, String) {
    let scratch = Scratch::new(name);
    let directory = scratch.0.display().to_string();
    let output = brooklet(&["import", "--to", &directory, "tests/import/queued.db"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let path = scratch.file(
        "a.conf",
        &format!(
            "user root\nlistener 0 127.0.0.1\npersistence true\npersistence_location {directory}\n{lines}"
        ),
    );
    (scratch, path)
}

#[test]
fn a_damaged_newer_or_foreign_store_is_an_obstacle() {
    let (scratch, path) = store("obstacle-store", "");
    expect_no_obstacle(&path);
    let file = scratch.0.join("brooklet.db");
    let whole = fs::read(&file).expect("it is there");
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&file, changed).expect("it is ours");
    };
    // In the header of SQLite: the version of the layout, and the kind of the application.
    with(60, &[0, 0, 0, 99]);
    expect_obstacle(&scratch, &path, "a later version of the broker has written it");
    expect_failure(&path, "a later version of the broker has written it");
    with(68, &[0, 0, 0, 1]);
    expect_obstacle(&scratch, &path, "this is a database of another program");
    expect_failure(&path, "this is a database of another program");
    with(0, b"This is no database of SQLite");
    expect_obstacle(&scratch, &path, "it is damaged");
    expect_failure(&path, "it is damaged");
    // The beginning of the page of the first table.
    with(2 * 4096, &[0xFF; 64]);
    expect_obstacle(&scratch, &path, "it is damaged");
    expect_failure(&path, "it is damaged");
    let directory = scratch.0.display();
    let lenient = scratch.file(
        "b.conf",
        &format!("persistence true\npersistence_location {directory}\npersistence_damaged set_aside\nuser root\nlistener 0 ::1\n"),
    );
    expect_no_obstacle(&lenient);
    fs::write(&file, &whole).expect("it is ours");
    expect_no_obstacle(&path);
}

/// What a start only warns about, since it goes on without it.
#[test]
fn damaged_rows_of_a_store_are_told() {
    for (statement, told) in [
        (
            "INSERT INTO owed VALUES ('bridge', 'a/b', 1)",
            "a retained message that has changed may not reach a bridge",
        ),
        ("UPDATE msg SET topic = 'another'", " is lost (the checksum of a row of 'msg' does not match)"),
    ] {
        let (scratch, path) = store("obstacle-rows", "");
        let database = rusqlite::Connection::open(scratch.0.join("brooklet.db")).expect("it is a database");
        database.execute(statement, ()).expect("it can be changed");
        database.close().expect("it can be closed");
        let before = files(&scratch);
        for flag in ["--test-config", "--test-start"] {
            let output = brooklet(&["-c", &path, flag]);
            let found = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{flag}: {found}");
            let is_told = |line: &str| {
                line.starts_with("Warning: ") && line.contains("it is damaged: ") && line.contains(told)
            };
            assert!(found.lines().any(is_told), "{flag}, {statement}: {found}");
            assert_eq!(files(&scratch), before, "{flag}");
        }
    }
}

#[test]
fn a_store_in_use_is_an_obstacle_and_stays_locked() {
    let (_scratch, path) = store("obstacle-lock", "");
    let mut broker = Command::new(env!("CARGO_BIN_EXE_brooklet"))
        .args(["-c", &path])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut lines = BufReader::new(broker.stderr.take().expect("it is piped")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with(" running"))));
    for _ in 0..2 {
        expect_told(&path, "another process has locked it");
        expect_failure(&path, "another process has locked it");
    }
    broker.kill().expect("it is ours");
    broker.wait().expect("it has ended");
    expect_no_obstacle(&path);
}

/// Root becomes another user, who needs the rights; any other user needs them itself.
#[test]
fn a_directory_that_the_user_cannot_write_to_is_an_obstacle() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new("obstacle-rights");
    let directory = scratch.0.join("data");
    fs::create_dir_all(&directory).expect("a directory can be made");
    let path = scratch.file(
        "a.conf",
        &format!(
            "user nobody\nlistener 0 127.0.0.1\npersistence true\npersistence_location {}\n",
            directory.display()
        ),
    );
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let set = |mode| {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    set(if is_root { 0o755 } else { 0o555 });
    expect_obstacle(&scratch, &path, "cannot write to it (persistence_location)");
    expect_failure(&path, "cannot write into it");
    set(0o777);
    expect_no_obstacle(&path);
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 0);
}

/// The command returns when the broker runs, and not before.
#[test]
fn a_start_in_the_background_is_over_when_the_command_is() {
    let scratch = Scratch::new("obstacle-daemon");
    let (free, port) = used_port();
    drop(free);
    let pid_file = scratch.0.join("pid");
    let path = scratch
        .file("a.conf", &format!("user root\nlistener {port} 127.0.0.1\npid_file {}\n", pid_file.display()));
    let output = brooklet(&["-d", "-c", &path]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    expect_failure(&path, "listens there");
    let number = fs::read_to_string(&pid_file).expect("it is written");
    assert!(Command::new("kill").arg(number.trim()).status().expect("there is kill").success());
}

/// Errors of the configuration keep their exit code, and those that come after it reach the terminal as well.
#[test]
fn a_start_in_the_background_fails_with_the_code_of_the_error() {
    let scratch = Scratch::new("obstacle-code");
    let log = scratch.0.join("directory/log");
    fs::create_dir_all(log.join("x")).expect("a directory can be made");
    let path = scratch
        .file("a.conf", &format!("user root\nlistener 0 127.0.0.1\nlog_dest file {}\n", log.display()));
    let output = brooklet(&["-d", "-c", &path]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let (used, port) = used_port();
    let log = scratch.0.join("log");
    let path = scratch
        .file("b.conf", &format!("user root\nlistener {port} 127.0.0.1\nlog_dest file {}\n", log.display()));
    expect_failure(&path, "listens there");
    assert!(fs::read_to_string(&log).expect("it is written").contains("listens there"));
    drop(used);
}
