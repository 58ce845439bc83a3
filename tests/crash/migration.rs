//! A store of an older layout that is migrated to the present one while the broker is killed, the power fails or the
//! disk is full. Afterwards it has the complete old layout or the complete present one, and nothing in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brooklet::base::time::Time;
use brooklet::settings::{ListenerName, OnDamage};
use brooklet::storage::store::{Opening, Store};
use brooklet::storage::timeline::Clocks;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::broker::Place;
use crate::chance::Chance;
use crate::disk::{Cut, Disk};
use crate::has_strace;
use crate::peer::Peer;
use crate::refusals::ends;
use crate::server::Server;
use crate::wire::{Publish, V5};

/// Made by a broker of that version.
const VERSION_1: &[u8] = include_bytes!("../clients/stores/version_1.db");

/// The files that SQLite makes in the directory.
const FILES: [&str; 3] = ["brooklet.db", "brooklet.db-wal", "brooklet.db-journal"];

/// The calls that change the disk.
const WRITING: [&str; 5] = ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink"];

/// Rows that are added, so that many pages change.
const ROWS: i64 = 100;

/// A directory with an old store of many pages, whose listener is known by a name.
fn place(name: &str) -> Place {
    let place = Place::new(name, "listener_name a\n");
    put_old(&place.data());
    place
}

/// Puts the old store into a directory that may hold another one.
#[expect(clippy::disallowed_methods, reason = "this is about files")]
fn put_old(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).expect("a directory can be made");
    let file = directory.join(FILES[0]);
    fs::write(&file, VERSION_1).expect("a file can be written");
    let old = Connection::open(&file).expect("it is a database");
    let insert = "INSERT INTO retained (id, flags, topic, properties, payload) VALUES (?1, 1, 't/' || ?1, x'', zeroblob(100))";
    for row in 100..100 + ROWS {
        old.execute(insert, [row]).expect("it has this layout");
    }
}

/// The version of the layout, and the tables with all their rows.
fn dump(file: &Path) -> (i64, Vec<String>) {
    let connection = Connection::open(file).expect("it is a database");
    let version = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).expect("it has one");
    let text = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(text).expect("it is a database");
    let tables = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).expect("it can be read");
    let tables: Vec<(String, String)> = tables.collect::<Result<_, _>>().expect("it can be read");
    let mut lines = Vec::new();
    for (name, made) in tables {
        lines.push(made);
        let mut statement = connection.prepare(&format!("SELECT * FROM {name}")).expect("it is there");
        let count = statement.column_count();
        let mut rows = statement.query(()).expect("it can be read");
        while let Some(row) = rows.next().expect("it can be read") {
            let values: Vec<ValueRef<'_>> =
                (0..count).map(|column| row.get_ref(column).expect("it is there")).collect();
            lines.push(format!("{name} {values:?}"));
        }
    }
    (version, lines)
}

/// What a broker would restore. The file is migrated to the present layout for that.
fn restored(file: &Path) -> Vec<String> {
    let wall = std::time::UNIX_EPOCH.elapsed().expect("it is later").as_millis();
    let clocks = Clocks { now: Time::ZERO, boot: None, wall: wall.try_into().expect("it is not so late") };
    let listeners = vec![ListenerName { name: "name a".to_owned(), proves_names: false }];
    let opening = Opening { listeners, on_damage: OnDamage::Refuse, clocks };
    let mut store = Store::open(file, opening).expect("it can be opened");
    let mut all = Vec::new();
    store.load(Time::ZERO, |restored| all.push(format!("{restored:?}"))).expect("it can be read");
    all
}

/// What an old store must hold, as it is and after the migration.
struct Expected {
    /// For copies that are examined.
    scratch: Scratch,
    version: i64,
    old: Vec<String>,
    restored: Vec<String>,
    /// The files that were checked already, and whether they have the present layout.
    checked: BTreeMap<Vec<Option<Vec<u8>>>, bool>,
}

impl Expected {
    fn new(scratch: Scratch) -> Self {
        put_old(&scratch.0);
        let file = scratch.0.join(FILES[0]);
        let (version, old) = dump(&file);
        let restored = restored(&file);
        assert!(restored.len() > 60, "there is something in it");
        let (present, _) = dump(&file);
        assert!(present > version, "an older broker refuses what is newer");
        Self { scratch, version, old, restored, checked: BTreeMap::new() }
    }

    /// Asserts that a copy of this directory has the old layout, unchanged, or the present one, and that a broker
    /// would restore the same from it. Returns whether it has the present one.
    #[expect(clippy::disallowed_methods, reason = "this is about files")]
    fn check(&mut self, directory: &Path, when: &str) -> bool {
        let files: Vec<_> = FILES.iter().map(|name| fs::read(directory.join(name)).ok()).collect();
        if let Some(is_present) = self.checked.get(&files) {
            return *is_present;
        }
        self.scratch.copy(directory);
        let file = self.scratch.0.join(FILES[0]);
        let (version, lines) = dump(&file);
        let is_old = version == self.version;
        assert!(!is_old || lines == self.old, "{when}: it is partly changed");
        let restored = restored(&file);
        let other = restored.iter().zip(&self.restored).find(|(found, expected)| found != expected);
        assert!(
            restored.len() == self.restored.len() && other.is_none(),
            "{when}, layout {version}: {other:?}"
        );
        self.checked.insert(files, !is_old);
        !is_old
    }
}

/// A directory for copies.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("brooklet-migration-{name}-{}", std::process::id())))
    }

    fn copy(&self, directory: &Path) {
        let _ = fs::remove_dir_all(&self.0);
        fs::create_dir_all(&self.0).expect("a directory can be made");
        for name in FILES {
            // Not all of them exist.
            let _ = fs::copy(directory.join(name), self.0.join(name));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The broker under `strace`, which injects this into a call of this kind on the files of the store.
fn injected(place: &mut Place, call: &str, what: &str) -> Command {
    let broker = place.command();
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", "signal=none", "-e", &format!("inject={call}:{what}")]);
    for name in FILES {
        command.arg("-P").arg(place.data().join(name));
    }
    command.arg("-P").arg(place.data());
    command.arg(broker.get_program()).args(broker.get_args()).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// A directory with an old store, and what is expected of it. `None` without `strace`.
fn traced(name: &str) -> Option<(Place, Expected)> {
    has_strace().then(|| (place(&format!("migration-{name}")), Expected::new(Scratch::new(name))))
}

#[test]
fn a_kill_at_any_write_leaves_the_old_layout_or_the_present_one() {
    let Some((mut place, mut expected)) = traced("kill") else { return };
    let mut kills = [0, 0];
    for call in WRITING {
        for count in 1.. {
            put_old(&place.data());
            let (_, said) = ends(injected(&mut place, call, &format!("signal=KILL:when={count}")));
            let is_present = expected.check(&place.data(), &format!("{call} {count}"));
            if said.contains(" running") {
                assert!(is_present, "it serves with the present layout");
                break;
            }
            kills[usize::from(is_present)] += 1;
        }
    }
    println!("{} kills before and {} after", kills[0], kills[1]);
    assert!(kills.iter().all(|kills| *kills > 0), "it was killed before and after: {kills:?}");
}

#[test]
fn a_full_disk_refuses_the_migration_and_the_error_names_the_space_needed() {
    let Some((mut place, mut expected)) = traced("full") else { return };
    let mut refusals = 0;
    for count in 1.. {
        put_old(&place.data());
        let (code, said) = ends(injected(&mut place, "pwrite64", &format!("error=ENOSPC:when={count}+")));
        let is_present = expected.check(&place.data(), &format!("full from {count} on"));
        if said.contains(" running") {
            break;
        }
        refusals += 1;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("Free 2 MiB on its disk") && !is_present, "{count}: {said}");
    }
    assert!(refusals > 5, "each page is written by itself: {refusals}");
    let (_, said) = ends(place.command());
    assert!(said.contains(" running"), "there is room again: {said}");
}

#[test]
fn a_power_cut_leaves_the_old_layout_or_the_present_one() {
    let Some((mut place, mut expected)) = traced("cut") else { return };
    let (cut_place, mut chance) = (Scratch::new("cut-disk"), Chance::new(1));
    let before = Disk::of(&place.data());
    place.is_traced = true;
    let server = Server::follow(place.command());
    server.signal("KILL");
    server.wait_for_end();
    let (log, directory) = (place.read_trace(), place.data().display().to_string());
    let lines: Vec<&str> = log.lines().collect();
    let mut found = [0, 0];
    for count in 0..=lines.len() {
        let mut disk = before.clone();
        disk.follow(&lines[..count].join("\n"), &directory, true);
        // The cuts that leave something to chance take turns.
        for cut in [Cut::Nothing, Cut::Everything, chance.pick(&[Cut::Beginning, Cut::Writes, Cut::Sectors])]
        {
            disk.write_after(cut, &mut chance, &cut_place.0);
            let when = format!("{cut:?} after {count} of {} calls", lines.len());
            let is_present = expected.check(&cut_place.0, &when);
            assert!(is_present || count < lines.len(), "{when}: it has served with the present layout");
            found[usize::from(is_present)] += 1;
        }
    }
    assert!(found.iter().all(|found| *found > 0), "it is cut before and after: {found:?}");

    // What is acknowledged next is durable on top of it.
    let found = Disk::of(&place.data());
    let server = Server::follow(place.command());
    let mut peer = Peer::connect(server.address(), "publisher");
    peer.send(&Publish::new(V5, "t/new", b"new").qos(1, 1).retain().bytes());
    assert_eq!(peer.packet()[0], 0x40);
    server.signal("KILL");
    server.wait_for_end();
    let mut disk = found;
    disk.follow(&place.read_trace(), &directory, true);
    disk.write_after(Cut::Nothing, &mut chance, &cut_place.0);
    expected.scratch.copy(&cut_place.0);
    let restored = restored(&expected.scratch.0.join(FILES[0]));
    assert_eq!(restored.len(), expected.restored.len() + 1);
    expected.restored.retain(|line| !restored.contains(line));
    assert!(expected.restored.is_empty(), "{:?}", expected.restored);
}

#[test]
fn a_store_of_a_later_version_is_refused_with_a_word_and_left_alone() {
    let mut place = place("migration-later");
    let (_, said) = ends(place.command());
    assert!(said.contains(" running"), "{said}");
    let file = place.data().join(FILES[0]);
    let later = Connection::open(&file).expect("it is a database");
    let version: i64 = later.query_row("PRAGMA user_version", (), |row| row.get(0)).expect("it has one");
    later.pragma_update(None, "user_version", version + 1).expect("it can be written");
    drop(later);
    let before = dump(&file);
    let (code, said) = ends(place.command());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a later version of the broker has written it"), "{said}");
    assert!(said.contains(&format!("layout {}, this one knows up to {version}", version + 1)), "{said}");
    assert_eq!(dump(&file), before);
}
