//! Cases in which the broker does not start: on a file that another broker uses, on a damaged one, and without a place
//! for it. Checks what it says then, and that it changes nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::broker::Place;
use crate::peer::Peer;
use crate::wire::{Connect, V5};

/// The configuration is invalid.
const INVALID: i32 = 3;
/// The system refuses something.
const REFUSED: i32 = 1;

/// The exit code of a broker that does not start to serve, and its output. One that serves all the same is killed, and
/// has no code.
pub fn ends(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary can be started");
    let stderr = child.stderr.take().expect("standard error is a pipe");
    let mut said = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        said += &line;
        said.push('\n');
        if line.ends_with(" running") {
            child.kill().expect("a child can be killed");
        }
    }
    let status = child.wait().expect("a child can be waited for");
    (status.code(), said)
}

/// The contents of the directory, names and bytes.
#[cfg(feature = "system")]
#[expect(clippy::disallowed_methods, reason = "this is about files")]
fn contents(place: &Place) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(place.data()).expect("it is a directory");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut files: Vec<_> =
        paths.map(|path| (path.display().to_string(), fs::read(path).expect("it can be read"))).collect();
    files.sort();
    files
}

/// A directory with a file that has contents, all of them copied in from the journal.
#[cfg(feature = "system")]
fn used() -> Place {
    let mut place = Place::new("used", "");
    let server = place.start();
    let mut peer = Peer::connect_as(server.address(), &Connect::new(V5, "keeper").resume().expiry(1_000));
    assert_eq!(peer.subscribe("a/#", 1), 1);
    peer.disconnect();
    server.signal("TERM");
    server.wait_for_end();
    place
}

#[test]
fn a_second_broker_on_the_same_file_is_refused() {
    let mut place = Place::new("second", "");
    let server = place.start();
    let (code, said) = ends(place.command());
    assert_eq!(code, Some(REFUSED), "{said}");
    assert!(said.contains("another broker"), "{said}");
    Peer::connect(server.address(), "first").disconnect();
}

#[test]
#[cfg(feature = "system")]
#[expect(clippy::disallowed_methods, reason = "this is about files")]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let mut place = used();
    let mut files = contents(&place).into_iter();
    let (path, good) = files.next().expect("there is a file");
    // The contents of the journal would repair what is damaged here.
    for (journal, _) in files {
        fs::remove_file(journal).expect("it is ours");
    }
    let half = good.len() / 2;
    for damaged in [b"no database at all, but a text".repeat(100), [&good[..half], &[0xA5; 5_000]].concat()] {
        fs::write(&path, damaged).expect("it can be written");
        let before = contents(&place);
        let (code, said) = ends(place.command());
        assert_eq!(code, Some(REFUSED), "{said}");
        assert!(said.contains(&path), "{said}");
        assert_eq!(contents(&place), before);
    }
}

#[test]
fn a_file_that_is_taken_away_or_replaced_ends_the_broker() {
    for (name, is_replaced) in [("brooklet.db", false), ("brooklet.db", true), ("brooklet.db-wal", false)] {
        let mut place = Place::new("taken", "");
        let server = place.start();
        let peer = Peer::connect_as(server.address(), &Connect::new(V5, "keeper").resume().expiry(1_000));
        let path = place.data().join(name);
        if is_replaced {
            fs::copy(&path, place.data().join("other")).expect("it can be copied");
            fs::rename(place.data().join("other"), &path).expect("it can be renamed");
        } else {
            fs::remove_file(&path).expect("it is there");
        }
        // Nothing is written in the meantime.
        let (code, lines) = server.wait_for_end();
        let said = lines.join("\n");
        assert!(code == Some(REFUSED) && said.contains(&path.display().to_string()), "{code:?}: {said}");
        drop(peer);
    }
}

#[test]
fn a_place_that_can_not_be_used_is_refused_by_start_and_by_check() {
    let mut place = Place::new("nowhere", "");
    fs::remove_dir_all(place.data()).expect("it is ours");
    refuse(&mut place);
    // A directory that is not writable does not stop root. A file in its place does.
    fs::copy(place.configuration(), place.data()).expect("it can be written");
    refuse(&mut place);
}

fn refuse(place: &mut Place) {
    for flags in [&[][..], &["--test-config"]] {
        let mut command = place.command();
        command.args(flags);
        let (code, said) = ends(command);
        assert_eq!(code, Some(INVALID), "{flags:?}: {said}");
        let named = place.data().display().to_string();
        assert!(said.contains("persistence_location") && said.contains(&named), "{flags:?}: {said}");
    }
}
