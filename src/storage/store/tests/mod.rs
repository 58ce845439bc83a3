//! The store, compared with a model, and opened with files that are damaged or invalid.

mod damage;
mod files;
mod flags;
mod listeners;
mod model;
mod pages;
mod property;
mod records;
mod runs;
mod time;
mod upkeep;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::base::time::Time;
use crate::core::journal::{Batch, Record};
use crate::settings::{ListenerName, OnDamage};
use crate::storage::store::{OpenError, Opening, Store};
use crate::storage::timeline::Clocks;

/// The wall clock in tests for which its time does not matter.
const WALL: u64 = 1_800_000_000_000;

/// Clocks for all tests that need no others.
const CLOCKS: Clocks = Clocks { now: Time::ZERO, boot: None, wall: WALL };

/// A directory that is removed with the test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("brooklet-storage-{}-{count}", std::process::id()));
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("store.db")
    }

    fn store(&self) -> Store {
        open(&self.file()).expect("it can be opened")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(path, opening(OnDamage::Refuse, CLOCKS))
}

fn opening(on_damage: OnDamage, clocks: Clocks) -> Opening {
    Opening { listeners: (0..10).map(|count| named(&format!("port {count}"))).collect(), on_damage, clocks }
}

fn named(name: &str) -> ListenerName {
    ListenerName { name: name.to_owned(), proves_names: true }
}

fn batch(records: Vec<Record>) -> Batch {
    Batch { number: 1, now: Time::ZERO, records, log: Vec::new() }
}
