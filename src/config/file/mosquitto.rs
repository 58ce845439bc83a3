//! The database of mosquitto that lies where the broker persists its state. It is never changed, so that mosquitto can go
//! on with it, and the operator is told that the broker does not use it.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::outcome::Finding;
use super::pending::CommandLine;
use super::statements::Step;
use super::text::Statement;
use crate::base::escape::Escaped;
use crate::server::AllClocks;
#[cfg(feature = "bridge")]
use crate::settings::Bridge;
use crate::settings::{ConfigError, PERSISTENCE_FILE, Persistence, Settings};
use crate::storage::store::{holds_nothing, is_database_of_mosquitto};

/// The default name of mosquitto's database.
const DATABASE: &str = "mosquitto.db";

/// What begins the names of the listeners of bridges in a store.
#[cfg(feature = "bridge")]
pub const BRIDGES: &str = Bridge::STORED_NAME_BEGINS;
/// Without bridges there are none.
#[cfg(not(feature = "bridge"))]
pub const BRIDGES: &str = "bridge ";

/// Finds the database of mosquitto, and chooses another name for the store if it would have that one. A new store is not
/// named like mosquitto's database either, because mosquitto would not start with it.
pub(super) fn spare(
    mut settings: Settings,
    steps: &[Step],
    given: &CommandLine,
    findings: &mut Vec<Finding>,
) -> Settings {
    if let Some(persistence) = &mut settings.persistence {
        findings.extend(spare_name(persistence, steps, given));
    }
    settings
}

fn spare_name(persistence: &mut Persistence, steps: &[Step], given: &CommandLine) -> Option<Finding> {
    let is_theirs = |path: &Path| {
        !given.open_store.as_deref().is_some_and(|open| is_same(open, path)) && is_database_of_mosquitto(path)
    };
    let named = persistence.path().value;
    let usual = persistence.directory.join(DATABASE);
    let is_taken = is_theirs(&named);
    let found = if is_taken { Some(&named) } else { Some(&usual).filter(|path| is_theirs(path)) };
    persistence.database_of_mosquitto = found.cloned();
    if !is_taken && (*persistence.file != *DATABASE || named.exists()) {
        return None;
    }
    persistence.file.value = PERSISTENCE_FILE.to_owned();
    let place = steps.iter().find_map(|step| match step {
        Step::Statement(Statement { keyword, value_place, .. }) if keyword.name == "persistence_file" => {
            Some(value_place)
        }
        _ => None,
    })?;
    let text = match is_taken {
        true => format!("this file belongs to mosquitto and is left as it is; '{PERSISTENCE_FILE}' is used"),
        false => format!("this is the name of mosquitto's database; '{PERSISTENCE_FILE}' is used"),
    };
    Some(Finding::warning(place, text))
}

/// Warns if there is a database of mosquitto, and nothing in the store that would have come from it. `config` is the name
/// of the configuration file. Changes nothing. A broker that has the store open must not call it.
pub fn check_database_of_mosquitto(settings: &Settings, config: &str) -> Option<ConfigError> {
    let persistence = settings.persistence.as_ref()?;
    let database = persistence.database_of_mosquitto.as_deref()?;
    let store = persistence.path().value;
    if !is_new(&store) || is_import_due(persistence) {
        return None;
    }
    let (shown, config, store) = (shown(database), Escaped(config), shown(&store));
    let text = format!(
        "what this database of mosquitto holds is not in {store}, which holds nothing; to bring it there, stop the \
         broker and run: brooklet import -c {config} {shown}"
    );
    Some(persistence.path().map(|_| database.to_owned()).error_in(text))
}

/// Whether the next start imports the database of mosquitto (`persistence_import`): the store is new, and was not filled
/// before in this way. Not for a broker that has the store open.
pub fn is_import_due(persistence: &Persistence) -> bool {
    let store = persistence.path().value;
    persistence.imports
        && persistence.database_of_mosquitto.is_some()
        && (!store.exists() || !mark_of_import(&store).exists() && is_new(&store))
}

/// Whether a store holds nothing, or only what a start makes. If it cannot be read, the start says why.
fn is_new(store: &Path) -> bool {
    holds_nothing(store, BRIDGES, AllClocks::start().read()).unwrap_or(false)
}

/// The path of the file that says that a store was filled by a start. It may have become empty since then.
pub fn mark_of_import(store: &Path) -> PathBuf {
    let mut name = OsString::from(store);
    name.push(".imported");
    PathBuf::from(name)
}

/// Whether both paths lead to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path: &Path| path.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    number(one).is_some_and(|one| number(other) == Some(one))
}

fn shown(path: &Path) -> String {
    Escaped(&path.display().to_string()).to_string()
}
