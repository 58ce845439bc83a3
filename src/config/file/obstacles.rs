//! What a start would meet on this machine at this moment, beyond what is wrong with a configuration: a port or a store in
//! use, a damaged store, a directory that the broker's user cannot write to.

#[cfg(feature = "system")]
use std::path::{Path, PathBuf};

#[cfg(feature = "persistence")]
use crate::server::AllClocks;
#[cfg(feature = "system")]
use crate::server::privileges::Rights;
use crate::server::probe;
#[cfg(feature = "persistence")]
use crate::settings::OnDamage;
use crate::settings::{ConfigError, Settings};
#[cfg(feature = "system")]
use crate::settings::{Given, LogDestination};
#[cfg(feature = "persistence")]
use crate::storage::store::{OpenError, inspect};

/// What a start would meet.
#[derive(Debug, Default)]
pub struct Obstacles {
    /// What would make it fail.
    pub errors: Vec<ConfigError>,
    /// What it would warn about.
    pub warnings: Vec<ConfigError>,
}

/// Returns what a start with these settings would meet now. Changes nothing, and binds ports only to close them at once. A
/// broker that has the store open must not call it.
pub fn obstacles(settings: &Settings) -> Obstacles {
    let errors = settings.listeners.iter().filter_map(probe);
    #[cfg(feature = "system")]
    let errors = errors.chain(unwritable(settings));
    let found = Obstacles { errors: errors.collect(), warnings: Vec::new() };
    #[cfg(feature = "persistence")]
    let found = with_store(settings, found);
    found
}

/// Adds that the store cannot be opened, or what of it is damaged.
#[cfg(feature = "persistence")]
fn with_store(settings: &Settings, mut found: Obstacles) -> Obstacles {
    let Some(persistence) = &settings.persistence else { return found };
    let path = persistence.path();
    match inspect(&path, AllClocks::start().read()) {
        Ok(damaged) => {
            found.warnings.extend(damaged.iter().map(|what| path.error_in(format_args!("it is {what}"))));
        }
        Err(OpenError::Damaged { .. }) if persistence.on_damage == OnDamage::SetAside => {}
        Err(error) => found.errors.push(path.error("persistence_file", error)),
    }
    found
}

/// The files and directories that the broker's user cannot write to.
#[cfg(feature = "system")]
fn unwritable(settings: &Settings) -> Vec<ConfigError> {
    let Some(rights) = Rights::of(&settings.process) else { return Vec::new() };
    let mut found = Vec::new();
    if let Some(persistence) = &settings.persistence {
        expect_writable(&persistence.directory, "persistence_location", &rights, &mut found);
        let file = persistence.path();
        if file.exists() {
            expect_writable(&file, "persistence_file", &rights, &mut found);
        }
    }
    // Root opens these before it becomes another user.
    if rights.are_own() {
        let logs = settings.log.destinations.iter().filter_map(|destination| match &destination.value {
            LogDestination::File(path) => Some((destination.map(|_| path.clone()), "log_dest file")),
            _ => None,
        });
        let pid_file = settings.process.pid_file.iter().map(|path| (path.clone(), "pid_file"));
        for (path, keyword) in logs.chain(pid_file) {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new(".")).to_owned();
            let written = if path.exists() { path } else { path.map(|_| directory) };
            expect_writable(&written, keyword, &rights, &mut found);
        }
    }
    found
}

#[cfg(feature = "system")]
fn expect_writable(path: &Given<PathBuf>, keyword: &str, rights: &Rights, found: &mut Vec<ConfigError>) {
    let text = match rights.allow(path) {
        Ok(true) => return,
        Ok(false) => {
            format!("{} cannot write to it ({keyword}); give it to that user", rights.user())
        }
        Err(why) => format!("{why} ({keyword})"),
    };
    found.push(path.error_in(text));
}
