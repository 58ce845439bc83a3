//! Checks what a start needs beyond the text of the configuration: that files can be read, that the user exists. It
//! only reads and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::auth::access_control::{Policies, warning_of_mode};
#[cfg(all(feature = "bridge", feature = "persistence"))]
use crate::base::escape::Escaped;
use crate::base::files;
#[cfg(all(feature = "bridge", feature = "persistence"))]
use crate::base::plural::Count;
use crate::core::listener::ListenerId;
#[cfg(all(feature = "bridge", feature = "persistence"))]
use crate::server::AllClocks;
#[cfg(feature = "bridge")]
use crate::server::tls::check_client;
use crate::server::{self, privileges};
#[cfg(all(feature = "bridge", feature = "persistence"))]
use crate::settings::Bridge;
#[cfg(feature = "cluster")]
use crate::settings::Cluster;
use crate::settings::{ConfigError, Given, LogDestination, Settings};
#[cfg(all(feature = "bridge", feature = "persistence"))]
use crate::storage::store::{StoredQueue, survey};

/// The result of checking settings.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What would make a start with these settings fail.
    pub errors: Vec<ConfigError>,
    /// What the operator should look into.
    pub warnings: Vec<ConfigError>,
}

/// Checks the settings and reads everything that they name.
pub fn check(settings: &Settings) -> Checked {
    let mut checked = Checked::default();
    let mut securities = Vec::new();
    for (listener, number) in settings.listeners.iter().zip(0..) {
        securities.push((ListenerId(number), Rc::clone(&listener.security)));
        for error in server::check(listener) {
            // Listeners may share files, whose errors are reported once.
            if !checked.errors.contains(&error) {
                checked.errors.push(error);
            }
        }
    }
    #[cfg(feature = "bridge")]
    for tls in settings.bridges.iter().filter_map(|bridge| bridge.tls.as_ref()) {
        checked.errors.extend(check_client(tls));
    }
    #[cfg(feature = "cluster")]
    checked.errors.extend(settings.cluster.iter().flat_map(server::check_node));
    let keys = settings.listeners.iter().filter_map(|listener| Some(&listener.tls.as_ref()?.key));
    #[cfg(feature = "bridge")]
    let keys = keys.chain(settings.bridges.iter().filter_map(|bridge| {
        let [_, key] = bridge.tls.as_ref()?.identity.as_ref()?;
        Some(key)
    }));
    #[cfg(feature = "cluster")]
    let keys = keys.chain(settings.cluster.iter().flat_map(Cluster::secret_files));
    // Several may share a key, which is reported once.
    let mut reported = BTreeSet::<&Path>::new();
    checked.warnings.extend(keys.filter(|key| reported.insert(key)).filter_map(warning_of_mode));
    match Policies::load(&securities) {
        Ok(policies) => checked.warnings.extend(policies.warnings().cloned()),
        Err(errors) => checked.errors.extend(errors),
    }
    for destination in &settings.log.destinations {
        if let LogDestination::File(path) = &destination.value {
            expect_room(&destination.map(|_| path.clone()), "log_dest file", &mut checked.errors);
        }
    }
    if let Some(path) = &settings.process.pid_file {
        expect_file(path, "pid_file", &mut checked.errors);
    }
    let key_log = settings.listeners.iter().find_map(|listener| listener.tls.as_ref()?.key_log.as_ref());
    if let Some(path) = key_log {
        expect_file(path, "--tls-keylog", &mut checked.errors);
    }
    checked.errors.extend(privileges::check_user(&settings.process).err());
    if let Some(persistence) = &settings.persistence {
        expect_directory(&persistence.directory, "persistence_location", &mut checked.errors);
    }
    checked
}

/// Returns which sessions in the store a start with these settings would drop, because their bridges are gone. Changes
/// nothing. A broker that has the store open must not call it.
#[cfg(all(feature = "bridge", feature = "persistence"))]
pub fn check_sessions(settings: &Settings) -> Vec<ConfigError> {
    let Some(persistence) = &settings.persistence else { return Vec::new() };
    let path = persistence.path();
    let queues = match survey(&path, Bridge::STORED_NAME_BEGINS, AllClocks::start().read()) {
        Ok(queues) => queues,
        Err(why) => {
            let text = format!(
                "it is not known whether bridges that are gone have left messages in it: {}",
                Escaped(&why)
            );
            return vec![path.error_in(text)];
        }
    };
    let is_gone = |queue: &StoredQueue| {
        let mut bridges = settings.bridges.iter();
        bridges.all(|bridge| *bridge.local.client_identifier != *queue.client_identifier)
    };
    let told = |StoredQueue { client_identifier, listener, messages }: StoredQueue| {
        let client = Escaped(&client_identifier);
        let text = format!(
            "session {client} of {} will be dropped with {}, since that bridge is gone",
            Escaped(&listener),
            Count(messages, "message"),
        );
        path.error_in(text)
    };
    queues.into_iter().filter(is_gone).map(told).collect()
}

fn expect_directory(path: &Given<PathBuf>, keyword: &str, errors: &mut Vec<ConfigError>) {
    if let Err(error) = fs::read_dir(path) {
        errors.push(path.error_in(format_args!("{error}, expected a directory ({keyword})")));
    }
}

/// Checks that the path names a file, or that one can be created there. Unlike the log, these files are not written by
/// a separate thread.
fn expect_file(path: &Given<PathBuf>, keyword: &str, errors: &mut Vec<ConfigError>) {
    match files::expect_file(path) {
        Ok(()) => expect_room(path, keyword, errors),
        Err(why) => errors.push(path.error_in(format_args!("{why} ({keyword})"))),
    }
}

/// Checks that the path is not a directory, and that its parent is. The file itself need not exist.
fn expect_room(path: &Given<PathBuf>, keyword: &str, errors: &mut Vec<ConfigError>) {
    if path.is_dir() {
        errors.push(path.error_in(format_args!("it is a directory, expected a file ({keyword})")));
        return;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(Err(error)) = directory.map(fs::metadata) {
        errors.push(path.error_in(format_args!("{error}, expected a directory for it ({keyword})")));
    }
}
