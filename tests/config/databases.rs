//! A database of mosquitto where the broker persists its state, from the operator's view.

#![expect(clippy::disallowed_methods, reason = "a test may read and write files")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::binary::{Scratch, brooklet, text};

const DATABASE: &str = "tests/import/queued.db";

/// Starts the broker and returns what it has logged until it runs or has failed. Then it is gone.
fn start(path: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_brooklet"))
        .args(["-c", path])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut told = String::new();
    while let Some(Ok(line)) = lines.next() {
        told += &format!("{line}\n");
        if line.ends_with(" running") {
            break;
        }
    }
    child.kill().expect("it is ours");
    child.wait().expect("it has ended");
    told
}

/// A directory with mosquitto's database, and a configuration with these lines besides.
fn place(name: &str, lines: &str) -> (Scratch, String) {
    let scratch = Scratch::new(name);
    fs::copy(DATABASE, scratch.0.join("mosquitto.db")).expect("it can be copied");
    let path = conf(&scratch, lines);
    (scratch, path)
}

fn conf(scratch: &Scratch, lines: &str) -> String {
    let directory = scratch.0.display();
    let text = format!(
        "user root\nlistener 0 127.0.0.1\npersistence true\npersistence_location {directory}\n{lines}"
    );
    scratch.file("a.conf", &text)
}

fn is_untouched(scratch: &Scratch) -> bool {
    fs::read(scratch.0.join("mosquitto.db")).expect("it is there") == fs::read(DATABASE).expect("it is there")
}

/// What a start and a test say while the database is not in use, and the command that they name.
fn advice(scratch: &Scratch, path: &str) -> String {
    let database = scratch.0.join("mosquitto.db");
    format!("stop the broker and run: brooklet import -c {path} {}", database.display())
}

#[test]
fn a_database_that_is_not_used_is_named_until_it_is_imported() {
    let (scratch, path) = place("unused", "");
    let advice = advice(&scratch, &path);
    for _ in 0..2 {
        let output = brooklet(&["-c", &path, "--test-config"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stderr).contains(&advice), "{}", text(&output.stderr));
        let told = start(&path);
        assert!(told.contains(&advice) && told.contains("Restored 0 sessions"), "{told}");
    }
    let output = brooklet(&["import", "-c", &path, scratch.0.join("mosquitto.db").to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = start(&path);
    assert!(!told.contains("brooklet import") && told.contains("Restored 3 sessions"), "{told}");
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert!(!text(&output.stderr).contains("brooklet import"), "{}", text(&output.stderr));
    assert!(is_untouched(&scratch));
}

/// What the start of a bridge stores is no reason to refuse an import.
#[cfg(feature = "bridge")]
#[test]
fn a_store_with_nothing_but_the_session_of_a_bridge_takes_an_import() {
    let lines = "connection b\naddress 127.0.0.1:1\ntopic a/# both 1\nnotifications_local_only true\n";
    let (scratch, path) = place("bridge-store", lines);
    let database = scratch.0.join("mosquitto.db");
    let advice = advice(&scratch, &path);
    for _ in 0..2 {
        let told = start(&path);
        assert!(told.contains(&advice), "{told}");
    }
    let output = brooklet(&["import", "-c", &path, database.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let again = brooklet(&["import", "-c", &path, database.to_str().expect("text")]);
    assert_eq!(again.status.code(), Some(1));
    let told = start(&path);
    assert!(told.contains("Restored 3 sessions") && !told.contains("brooklet import"), "{told}");
}

#[test]
fn a_database_is_imported_once_at_the_first_start() {
    let (scratch, path) = place("first", "persistence_import true\n");
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert!(!text(&output.stderr).contains("brooklet import"), "{}", text(&output.stderr));
    assert!(!scratch.0.join("brooklet.db").exists(), "a test makes no store");
    // A start that was broken off has left something.
    scratch.file("brooklet.db.import", "half a store");
    let told = start(&path);
    assert!(told.contains("3 sessions") && told.contains("Restored 3 sessions"), "{told}");
    let told = start(&path);
    assert!(!told.contains("Imported") && told.contains("Restored 3 sessions"), "{told}");
    assert!(is_untouched(&scratch) && !scratch.0.join("brooklet.db.import").exists());
}

/// The keyword may be added after a first start without it.
#[test]
fn a_database_is_imported_into_a_store_that_holds_nothing_and_only_once() {
    let (scratch, path) = place("later", "");
    assert!(start(&path).contains("Restored 0 sessions"));
    let path = conf(&scratch, "persistence_import true\n");
    let told = start(&path);
    assert!(told.contains("Restored 3 sessions") && !told.contains("brooklet import"), "{told}");
    // The store becomes empty again.
    for name in ["brooklet.db", "brooklet.db-wal"] {
        let _ = fs::remove_file(scratch.0.join(name));
    }
    let without = conf(&scratch, "");
    assert!(start(&without).contains("Restored 0 sessions"));
    let path = conf(&scratch, "persistence_import true\n");
    let told = start(&path);
    assert!(told.contains("Restored 0 sessions") && told.contains("brooklet import"), "{told}");
}

/// A reload looks at what lies beside the store, and must not take its lock away.
#[cfg(feature = "system")]
#[test]
fn a_reload_leaves_the_store_locked() {
    for lines in ["", "persistence_file mosquitto.db\n", "persistence_file ours.db\n"] {
        let (scratch, path) = place("reload", lines);
        let mut broker = Command::new(env!("CARGO_BIN_EXE_brooklet"))
            .args(["-c", &path])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let mut told = BufReader::new(broker.stderr.take().expect("it is piped")).lines();
        let mut wait_for = |text: &str| assert!(told.any(|line| line.is_ok_and(|line| line.contains(text))));
        wait_for(" running");
        let number = broker.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &number]).status().expect("there is kill").success());
        wait_for("The files were read again");
        let database = scratch.0.join("mosquitto.db");
        let output = brooklet(&["import", "-c", &path, database.to_str().expect("text")]);
        broker.kill().expect("it is ours");
        broker.wait().expect("it has ended");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("another process has locked it"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_damaged_database_ends_the_first_start_and_leaves_no_store() {
    let (scratch, path) = place("damaged", "persistence_import true\n");
    fs::OpenOptions::new()
        .write(true)
        .open(scratch.0.join("mosquitto.db"))
        .and_then(|file| file.set_len(100))
        .expect("it can be cut");
    let told = start(&path);
    assert!(told.contains("Error: ") && told.contains("damaged at byte"), "{told}");
    assert!(!scratch.0.join("brooklet.db").exists());
}

#[test]
fn the_name_of_a_database_is_left_to_mosquitto() {
    for is_there in [true, false] {
        let (scratch, path) = place(&format!("name-{is_there}"), "persistence_file mosquitto.db\n");
        if !is_there {
            fs::remove_file(scratch.0.join("mosquitto.db")).expect("it is there");
        }
        let warning = format!("Warning: {path}:5:18: ");
        let output = brooklet(&["-c", &path, "--test-config"]);
        let told = text(&output.stderr);
        assert!(told.contains(&warning) && told.contains("'brooklet.db' is used"), "{told}");
        let told = start(&path);
        assert!(told.contains(&warning) && told.contains("Restored 0 sessions"), "{told}");
        assert!(scratch.0.join("brooklet.db").exists());
        assert_eq!(scratch.0.join("mosquitto.db").exists(), is_there);
        assert!(!is_there || is_untouched(&scratch));
    }
}

#[test]
fn a_store_with_the_name_of_a_database_stays_in_use() {
    let (scratch, path) = place("store", "");
    assert!(start(&path).contains("Restored 0 sessions"));
    fs::rename(scratch.0.join("brooklet.db"), scratch.0.join("mosquitto.db")).expect("it is there");
    let path = conf(&scratch, "persistence_file mosquitto.db\n");
    let told = start(&path);
    assert!(told.contains("mosquitto.db.") && !told.contains("Warning"), "{told}");
    assert!(!scratch.0.join("brooklet.db").exists());
}
