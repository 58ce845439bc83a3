//! What a start would find wrong beyond the text of the configuration: files that can not be read. It reads and
//! touches nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::server;
use crate::settings::{Complaint, Listener, LogDestination, Security, Settings};

/// Everything that a start with these settings would stumble over.
pub fn check(settings: &Settings) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for listener in &settings.listeners {
        check_listener(listener, &mut complaints);
    }
    for destination in &settings.log.destinations {
        if let LogDestination::File(path) = destination {
            expect_room(path, "log_dest file", &mut complaints);
        }
    }
    if let Some(path) = &settings.process.pid_file {
        expect_room(path, "pid_file", &mut complaints);
    }
    if let Some(persistence) = &settings.persistence {
        expect_directory(&persistence.directory, "persistence_location", &mut complaints);
    }
    complaints
}

fn check_listener(listener: &Listener, complaints: &mut Vec<Complaint>) {
    let Security { passwords, access, .. } = &*listener.security;
    let files = [("password_file", passwords.as_deref()), ("acl_file", access.as_deref())];
    for complaint in server::check(listener) {
        if !complaints.contains(&complaint) {
            complaints.push(complaint);
        }
    }
    for (keyword, path) in files {
        if let Some(path) = path
            && let Err(error) = open(path)
        {
            complain(path, &format!("{error}, expected a file that can be read ({keyword})"), complaints);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "whether a file can be read is seen by reading it")]
fn open(path: &Path) -> io::Result<()> {
    // A directory can be opened, too.
    File::open(path)?.read(&mut [0]).map(|_| ())
}

fn expect_directory(path: &Path, keyword: &str, complaints: &mut Vec<Complaint>) {
    if let Err(error) = fs::read_dir(path) {
        complain(path, &format!("{error}, expected a directory ({keyword})"), complaints);
    }
}

/// The file itself may come later.
fn expect_room(path: &Path, keyword: &str, complaints: &mut Vec<Complaint>) {
    if path.is_dir() {
        complain(path, &format!("it is a directory, expected a file ({keyword})"), complaints);
        return;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(Err(error)) = directory.map(fs::metadata) {
        complain(path, &format!("{error}, expected a directory to put it into ({keyword})"), complaints);
    }
}

/// Listeners share files, and nobody wants to read of them twice.
fn complain(path: &Path, text: &str, complaints: &mut Vec<Complaint>) {
    let complaint = Complaint::new(path.display().to_string(), text);
    if !complaints.contains(&complaint) {
        complaints.push(complaint);
    }
}
