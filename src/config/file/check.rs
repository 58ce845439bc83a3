//! What a start would find wrong beyond the text of the configuration: files that can not be read, a user that there
//! is not. It reads and touches nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use crate::auth::access_control::{Policies, warning_of_mode};
use crate::base::escape::Escaped;
use crate::base::files;
use crate::core::listener::ListenerId;
use crate::server::{self, sandbox};
use crate::settings::{Complaint, LogDestination, Settings};

/// What came of checking settings.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What a start with these settings would stumble over.
    pub errors: Vec<Complaint>,
    /// What the operator should look at.
    pub warnings: Vec<Complaint>,
}

/// Reads everything that the settings name.
pub fn check(settings: &Settings) -> Checked {
    let mut checked = Checked::default();
    let mut securities = Vec::new();
    for (listener, number) in settings.listeners.iter().zip(0..) {
        securities.push((ListenerId(number), Rc::clone(&listener.security)));
        for complaint in server::check(listener) {
            // Listeners share files, and nobody wants to read of them twice.
            if !checked.errors.contains(&complaint) {
                checked.errors.push(complaint);
            }
        }
    }
    // To collect a set is to sort it first, which takes more code than to insert one by one.
    let mut keys = BTreeSet::<&Path>::new();
    keys.extend(settings.listeners.iter().filter_map(|listener| Some(&*listener.tls.as_ref()?.key)));
    checked.warnings.extend(keys.into_iter().filter_map(warning_of_mode));
    match Policies::load(&securities) {
        Ok(policies) => checked.warnings.extend(policies.warnings().cloned()),
        Err(complaints) => checked.errors.extend(complaints),
    }
    for destination in &settings.log.destinations {
        if let LogDestination::File(path) = destination {
            expect_room(path, "log_dest file", &mut checked.errors);
        }
    }
    if let Some(path) = &settings.process.pid_file {
        expect_file(path, "pid_file", &mut checked.errors);
    }
    let key_log = settings.listeners.iter().find_map(|listener| listener.tls.as_ref()?.key_log.as_ref());
    if let Some(path) = key_log {
        expect_file(path, "--tls-keylog", &mut checked.errors);
    }
    checked.errors.extend(sandbox::check_user(&settings.process).err());
    if let Some(persistence) = &settings.persistence {
        expect_directory(&persistence.directory, "persistence_location", &mut checked.errors);
    }
    checked
}

fn expect_directory(path: &Path, keyword: &str, complaints: &mut Vec<Complaint>) {
    if let Err(error) = fs::read_dir(path) {
        complain(path, &format!("{error}, expected a directory ({keyword})"), complaints);
    }
}

/// What is not written by a thread of its own, as the log is, must be a file.
fn expect_file(path: &Path, keyword: &str, complaints: &mut Vec<Complaint>) {
    match files::expect_file(path) {
        Ok(()) => expect_room(path, keyword, complaints),
        Err(why) => complain(path, &format!("{why} ({keyword})"), complaints),
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

fn complain(path: &Path, text: &str, complaints: &mut Vec<Complaint>) {
    complaints.push(Complaint::new(Escaped(&path.display().to_string()).to_string(), text));
}
