//! `brooklet import`: imports the contents of a mosquitto database into the store of a broker that is not running.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use getopts::{Matches, Options as Parser};

use super::finished::{Finished, failed, options};
use super::with_environment;
use crate::base::escape::Escaped;
use crate::base::files;
use crate::base::time::Time;
use crate::config::file::{self, BRIDGES, CommandLine, is_import_due, is_same, mark_of_import};
use crate::core::journal::{Batch, NextNumbers};
use crate::core::listener::ListenerId;
use crate::server::AllClocks;
use crate::settings::{Address, ListenerName, OnDamage, PERSISTENCE_FILE, Settings, names_of};
use crate::storage::import::{Entrance, Import};
use crate::storage::store::{Beginning, Opening, Store, replace};
use crate::storage::timeline::Clocks;

const USAGE: &str = "\
Usage: brooklet import -c CONFIG FILE
       brooklet import --to DIRECTORY FILE

Imports the retained messages, sessions, subscriptions and queued messages in FILE, a mosquitto.db, into the store of
a broker with this configuration, or into the one in DIRECTORY. Everything is imported or nothing, and only into a new
store or one that holds nothing but what a start makes. Neither that broker nor mosquitto may be running.";

/// The file or the store cannot be used.
const EXIT_FAILURE: u8 = 1;

/// The store to import into.
struct Target {
    store: PathBuf,
    /// The ports of the listeners, in order.
    ports: Vec<u16>,
    /// The names of the listeners.
    listeners: Vec<ListenerName>,
}

fn parser() -> Parser {
    let mut parser = Parser::new();
    parser.optopt("c", "config-file", "the configuration of the broker", "CONFIG");
    parser.optopt("", "to", "the directory of the store", "DIRECTORY");
    parser.optflag("h", "help", "print this help and exit");
    parser
}

pub(super) fn run(arguments: &[String]) -> Finished {
    let matches = match options("import", USAGE, &parser(), arguments) {
        Ok(matches) => matches,
        Err(finished) => return finished,
    };
    let (file, target) = match (matches.free.as_slice(), target(&matches)) {
        ([file], Ok(target)) => (Path::new(file), target),
        (_, Err(error)) => return failed(&error),
        _ => return failed("expected one FILE. Try brooklet import --help."),
    };
    match import(file, &target, &target.store) {
        Ok(output) => Finished { output, ..Finished::default() },
        Err(error) => Finished { error, code: EXIT_FAILURE, ..Finished::default() },
    }
}

fn target(matches: &Matches) -> Result<Target, String> {
    match (matches.opt_str("config-file"), matches.opt_str("to")) {
        (Some(config), None) => {
            let outcome = file::load(Some(&config), &with_environment(CommandLine::default()));
            let settings = outcome.settings.filter(|_| outcome.errors.is_empty()).ok_or_else(|| {
                outcome.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            })?;
            target_of(&settings).ok_or_else(|| persists_nothing(&config))
        }
        (None, Some(directory)) => {
            let store = Path::new(&directory).join(PERSISTENCE_FILE);
            Ok(Target { store, ports: Vec::new(), listeners: Vec::new() })
        }
        _ => Err("expected either -c CONFIG or --to DIRECTORY. Try brooklet import --help.".to_owned()),
    }
}

/// Imports a database into the store of a broker with these settings, which are those of `config`.
pub(super) fn import_into(database: &Path, settings: &Settings, config: &str) -> Result<String, String> {
    let target = target_of(settings).ok_or_else(|| persists_nothing(config))?;
    import(database, &target, &target.store)
}

fn persists_nothing(config: &str) -> String {
    format!(
        "{}: a broker with this configuration does not persist anything, expected 'persistence true'",
        Escaped(config)
    )
}

fn target_of(settings: &Settings) -> Option<Target> {
    let persistence = settings.persistence.as_ref()?;
    let port = |address: &Address| match address {
        Address::Loopback { port } | Address::Internet { port, .. } => *port,
        Address::Unix { .. } => 0,
    };
    Some(Target {
        store: persistence.path().value,
        ports: settings.listeners.iter().map(|listener| port(&listener.address)).collect(),
        listeners: names_of(&settings.listeners),
    })
}

impl Target {
    /// Returns the listener with this port, or the first listener if none has it.
    fn entrance(&self, port: u16) -> Entrance {
        let place = self.ports.iter().position(|&known| known == port && port != 0).unwrap_or(0);
        match (self.listeners.get(place), u16::try_from(place)) {
            (Some(name), Ok(place)) => {
                Entrance { listener: ListenerId(place), proves_names: name.proves_names }
            }
            // Without a configuration the listeners are unknown.
            _ => Entrance { listener: ListenerId::UNKNOWN, proves_names: true },
        }
    }
}

/// Imports a file. The result names the store as `store`.
#[expect(clippy::disallowed_methods, reason = "this floor may open files")]
fn import(file: &Path, target: &Target, store: &Path) -> Result<String, String> {
    let name = shown(file);
    if is_same(file, &target.store) {
        return Err(format!(
            "{name}: this is the path of the store itself; move the file away and import it from its new path"
        ));
    }
    let bytes = fs::read(file).map_err(|why| format!("{name}: cannot be read: {why}"))?;
    let clocks = clocks();
    let import = Import::read(&bytes, clocks.wall).map_err(|why| format!("{name}: {why}"))?;
    let is_new = !target.store.exists();
    write(&import, target, clocks)?;
    if is_new {
        give_away(&target.store)
            .map_err(|why| format!("{}: its owner cannot be changed: {why}", shown(&target.store)))?;
    }
    Ok(summary(&import, file, store))
}

/// Reads the clocks. Times in the databases of mosquitto are those of the wall clock.
fn clocks() -> Clocks {
    let clocks = AllClocks::start().read();
    Clocks { now: Time::from_milliseconds(clocks.wall), ..clocks }
}

fn write(import: &Import<'_>, target: &Target, clocks: Clocks) -> Result<(), String> {
    let in_words = |why: &dyn ToString| format!("{}: {}", shown(&target.store), why.to_string());
    let opening = Opening { listeners: target.listeners.clone(), on_damage: OnDamage::Refuse, clocks };
    let mut store = Store::open(&target.store, opening).map_err(|why| why.to_string())?;
    let names: Vec<String> = store.listeners().map(str::to_owned).collect();
    let mut beginning = Beginning::default();
    let note = |restored| beginning.take_note(restored, names.iter().map(String::as_str), BRIDGES);
    let next = store.load(clocks.now, note).map_err(|why| in_words(&why))?;
    if beginning.has_more() {
        return Err(in_words(&"this store is not empty; move it away to import into a new one"));
    }
    let batch = batch(import, target, (beginning, next), clocks.now);
    store.commit(&batch, clocks).map_err(|why| in_words(&why))
}

/// Puts everything into one batch, since half of an import is worse than none.
fn batch(import: &Import<'_>, target: &Target, (made, next): (Beginning, NextNumbers), now: Time) -> Batch {
    let mut records = made.removal();
    let Ok(()) = import.records(next, &|port| target.entrance(port), |record| {
        records.push(record);
        Ok::<(), Infallible>(())
    });
    Batch { number: 1, now, records, log: Vec::new() }
}

/// Imports the database of mosquitto into the store of a broker that starts, if that is configured and the store is new.
/// Returns what was imported, in lines. This is done once: a store that has become empty since then is not filled again.
///
/// # Errors
///
/// Why the database cannot be imported, in words for the operator.
pub fn import_at_first_start(settings: &Settings) -> Result<Option<String>, String> {
    let Some(persistence) = settings.persistence.as_ref().filter(|persistence| is_import_due(persistence))
    else {
        return Ok(None);
    };
    let (Some(file), Some(target)) = (&persistence.database_of_mosquitto, target_of(settings)) else {
        return Ok(None);
    };
    let store = target.store.clone();
    let summary =
        if store.exists() { import(file, &target, &store)? } else { import_into_new(file, target)? };
    let mark = mark_of_import(&store);
    files::write(&mark, format!("{}\n", shown(file)).as_bytes())
        .map_err(|why| format!("{}: {why}", shown(&mark)))?;
    Ok(Some(summary))
}

/// Imports a file into a store that is not there. The store gets its name when it is complete, so that a start that is
/// broken off can be repeated.
fn import_into_new(file: &Path, target: Target) -> Result<String, String> {
    let mut part = target.store.clone();
    part.as_mut_os_string().push(".import");
    let in_words = |why: io::Error| format!("{}: {why}", shown(&part));
    // What a start has left that was broken off.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(in_words(error)),
        _ => {}
    }
    let store = target.store.clone();
    let summary = import(file, &Target { store: part.clone(), ..target }, &store)?;
    replace(&part, &store).map_err(in_words)?;
    Ok(summary)
}

/// Gives a new store the owner of its directory: import is often run as root, and the broker is not.
fn give_away(store: &Path) -> io::Result<()> {
    let directory = store.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (own, wanted) = (store.metadata()?, directory.metadata()?);
    // Only root may change the owner of a file.
    if own.uid() != 0 || wanted.uid() == 0 {
        return Ok(());
    }
    chown(store, Some(wanted.uid()), Some(wanted.gid()))
}

fn summary(import: &Import<'_>, file: &Path, store: &Path) -> String {
    let brought = import.brought();
    let mut text = format!("Imported from {} into {}:\n", shown(file), shown(store));
    for (count, [one, more]) in [
        (brought.retained, ["retained message", "retained messages"]),
        (brought.sessions, ["session", "sessions"]),
        (brought.subscriptions, ["subscription", "subscriptions"]),
        (brought.queued, ["queued message", "queued messages"]),
        (
            brought.unreleased,
            [
                "QoS 2 message not yet released by its sender",
                "QoS 2 messages not yet released by their senders",
            ],
        ),
    ] {
        let _ = writeln!(text, "{count:>8} {}", if count == 1 { one } else { more });
    }
    if brought.doubtful > 0 {
        let _ = writeln!(
            text,
            "{:>8} of the sessions may belong to clients without a User Name: for these, mosquitto 2.0 repeats the previous one",
            brought.doubtful
        );
    }
    if !import.left_out().is_empty() {
        text += "Omitted:\n";
    }
    for (reason, count) in import.left_out() {
        let _ = writeln!(text, "{count:>8} {}", reason.about(*count == 1));
    }
    text
}

fn shown(path: &Path) -> String {
    Escaped(&path.to_string_lossy()).to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests are about files")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::core::journal::Restored;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/import");

    /// A directory that is removed when dropped.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("brooklet-import-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_string_lossy().into_owned()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn import(arguments: &[&str]) -> Finished {
        run(&arguments.iter().map(|&argument| argument.to_owned()).collect::<Vec<_>>())
    }

    fn golden(name: &str) -> String {
        format!("{GOLDEN}/{name}.db")
    }

    /// The numbers of sessions, subscriptions, queued messages, deliveries and retained messages in a store.
    fn held(store: &str) -> [usize; 5] {
        let clocks = Clocks { now: Time::from_milliseconds(5), ..clocks() };
        let named = |name: &str| ListenerName { name: name.to_owned(), proves_names: false };
        let listeners = vec![named("port 1"), named("port 18830")];
        let opening = Opening { listeners, on_damage: OnDamage::Refuse, clocks };
        let mut held = [0; 5];
        let mut store = Store::open(Path::new(store), opening).unwrap();
        store
            .load(clocks.now, |restored| {
                held[match restored {
                    Restored::Session(session) => {
                        assert_eq!(session.listener, ListenerId(1));
                        0
                    }
                    Restored::Subscription(..) => 1,
                    Restored::Waiting { .. } => 2,
                    Restored::Delivery(..) => 3,
                    Restored::Retained(_) => 4,
                    Restored::Received(..)
                    | Restored::Arrived(..)
                    | Restored::Former(_)
                    | Restored::Begun { .. }
                    | Restored::Owed(_) => panic!("there is none"),
                }] += 1;
            })
            .unwrap();
        held
    }

    #[test]
    fn a_store_is_filled_once() {
        let place = Place::new("once");
        let config = place.path("conf");
        let directory = place.0.display();
        fs::write(
            &config,
            format!("listener 1\nlistener 18830\npersistence true\npersistence_location {directory}\npersistence_file ours\n"),
        )
        .unwrap();
        let finished = import(&["-c", &config, &golden("queued")]);
        assert_eq!((finished.error.as_str(), finished.code), ("", 0));
        for line in ["1 retained message\n", "3 sessions", "6 subscriptions", " queued messages"] {
            assert!(finished.output.contains(line), "{}", finished.output);
        }
        let store = place.path("ours");
        assert_eq!(fs::metadata(&store).unwrap().permissions().mode() & 0o777, 0o600);
        let [sessions, subscriptions, waiting, deliveries, retained] = held(&store);
        assert_eq!([sessions, subscriptions, deliveries, retained], [3, 6, 2, 1]);
        // Two of the twelve expire within a day after the file was written.
        assert!((10..=12).contains(&waiting), "{waiting}");
        let again = import(&["-c", &config, &golden("retained")]);
        assert!(again.code == 1 && again.error.contains("is not empty"), "{again:?}");
        assert_eq!(held(&store)[0], 3);
    }

    #[test]
    fn nothing_is_imported_into_a_store_that_is_in_use_or_no_store() {
        let place = Place::new("wrong");
        let to = place.0.to_string_lossy().into_owned();
        let theirs = place.path(PERSISTENCE_FILE);
        fs::copy(golden("queued"), &theirs).unwrap();
        let finished = import(&["--to", &to, &theirs]);
        assert!(finished.code == 1 && finished.error.contains("move the file away"), "{finished:?}");
        let finished = import(&["--to", &to, &golden("retained")]);
        assert!(finished.code == 1 && finished.error.contains("a database of mosquitto"), "{finished:?}");
        fs::remove_file(&theirs).unwrap();
        let opening = Opening { listeners: Vec::new(), on_damage: OnDamage::Refuse, clocks: clocks() };
        let other = Store::open(Path::new(&theirs), opening).unwrap();
        let finished = import(&["--to", &to, &golden("retained")]);
        assert!(finished.code == 1 && finished.error.contains("another broker"), "{finished:?}");
        drop(other);
        let cut = place.path("cut");
        fs::write(&cut, &fs::read(golden("queued")).unwrap()[..100]).unwrap();
        let finished = import(&["--to", &to, &cut]);
        assert!(finished.code == 1 && finished.error.contains("damaged at byte 55"), "{finished:?}");
        assert_eq!(held(&theirs), [0; 5]);
    }

    #[test]
    fn invalid_combinations_of_arguments_are_refused() {
        let place = Place::new("together");
        let config = place.path("conf");
        fs::write(&config, "listener 1\n").unwrap();
        for (arguments, word) in [
            (&["file"][..], "either"),
            (&["-c", &config, "--to", "x", "file"], "either"),
            (&["--to", "x"], "one FILE"),
            (&["--to", "x", "a", "b"], "one FILE"),
            (&["-c", &config, "file"], "persistence true"),
            (&["-c", &place.path("none"), "file"], "none"),
            (&["-x"], "'x'"),
        ] {
            let finished = import(arguments);
            assert!(finished.code == 3 && finished.error.contains(word), "{arguments:?}: {finished:?}");
        }
        assert!(import(&["--to", "x", "no-such"]).error.starts_with("no-such: cannot be read"));
        assert!(import(&["--help"]).output.contains("brooklet import"));
    }
}
