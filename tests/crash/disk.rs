//! A disk that loses power: what it may contain then, by everything that a broker did to it.
//!
//! `strace` records every change of a file and every flush. Flushed data is there after a power cut. Of other data,
//! any part may be: any selection of writes, torn between sectors of 512 bytes, a file grown without its content, a
//! new name or a removal that did not happen. Flushing a file also persists its name, as in the journaling file
//! systems of Linux; other changes of a directory are persisted by flushing the directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::broker::is_ballast;
use crate::chance::Chance;

/// A sector of a disk is written whole or not at all.
const SECTOR: usize = 512;

/// The calls that change files, for `strace`.
pub const CALLS: &str = "trace=openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,\
    fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat";

/// A change of a file that was not flushed.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

/// One file: its certain contents, and its changes since.
#[derive(Clone, Debug, Default)]
struct File {
    flushed: Vec<u8>,
    changes: Vec<Change>,
    /// Whether its name is certain.
    is_named: bool,
}

/// The files of one directory.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<String, File>,
    /// Removed, and perhaps still there.
    removed: BTreeMap<String, File>,
    /// A write that had not returned when the power went.
    unfinished: Option<(String, Change)>,
}

/// How much of the unflushed data is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Nothing,
    /// All of it, as after the death of the process alone.
    Everything,
    /// All up to some moment.
    Beginning,
    /// Random whole writes.
    Writes,
    /// Random sectors.
    Sectors,
}

impl Cut {
    pub const ALL: [Self; 5] =
        [Self::Nothing, Self::Everything, Self::Beginning, Self::Writes, Self::Sectors];
}

impl File {
    fn flush(&mut self) {
        for change in self.changes.drain(..) {
            apply(&mut self.flushed, &change);
        }
        self.is_named = true;
    }

    /// The contents of the file that the disk may have.
    fn after(&self, cut: Cut, chance: &mut Chance) -> Vec<u8> {
        let mut content = self.flushed.clone();
        let beginning = match cut {
            Cut::Nothing => 0,
            Cut::Beginning => chance.below(self.changes.len() + 1),
            _ => self.changes.len(),
        };
        for change in &self.changes[..beginning] {
            match (cut, change) {
                (Cut::Sectors, Change::Write(offset, bytes)) => {
                    tear(&mut content, *offset, bytes, chance);
                }
                (Cut::Writes | Cut::Sectors, change) if chance.percent(50) => apply(&mut content, change),
                (Cut::Writes | Cut::Sectors, _) => {}
                _ => apply(&mut content, change),
            }
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(length) => content.resize(*length, 0),
        Change::Write(offset, bytes) => {
            let end = offset + bytes.len();
            content.resize(content.len().max(end), 0);
            content[*offset..end].copy_from_slice(bytes);
        }
    }
}

/// Writes some of the sectors, and for the others either grows the file or does not.
fn tear(content: &mut Vec<u8>, offset: usize, bytes: &[u8], chance: &mut Chance) {
    if chance.percent(50) {
        content.resize(content.len().max(offset + bytes.len()), 0);
    }
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes.len().min(start + SECTOR - (offset + start) % SECTOR);
        if chance.percent(50) {
            apply(content, &Change::Write(offset + start, bytes[start..end].to_vec()));
        }
        start = end;
    }
}

impl Disk {
    /// A disk with the contents of a directory, all of them flushed.
    #[expect(clippy::disallowed_methods, reason = "this is about files")]
    pub fn of(directory: &Path) -> Self {
        let mut disk = Self::default();
        for entry in fs::read_dir(directory).expect("the directory can be read") {
            let entry = entry.expect("the directory can be read");
            let name = entry.file_name().into_string().expect("names are text");
            if is_ballast(&name) {
                continue;
            }
            let flushed = fs::read(entry.path()).expect("the file can be read");
            disk.files.insert(name, File { flushed, changes: Vec::new(), is_named: true });
        }
        disk
    }

    /// Applies the calls in this log of `strace` to the directory. With `hears_flushes` false, nothing is ever
    /// flushed, to prove that flushing is what preserves data.
    pub fn follow(&mut self, log: &str, directory: &str, hears_flushes: bool) {
        let mut begun: BTreeMap<&str, String> = BTreeMap::new();
        for line in log.lines() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            if let Some(start) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(thread, start.to_owned());
            } else if let Some((_, end)) =
                call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>"))
            {
                let start = begun.remove(thread).unwrap_or_default();
                self.happen(&(start + end), directory, hears_flushes);
            } else {
                self.happen(call, directory, hears_flushes);
            }
        }
        for start in begun.into_values().filter(|start| start.starts_with("pwrite64(")) {
            let call = Call::read(&format!("{start}) = ?"));
            if let Some((name, change)) = call.and_then(|call| call.written(directory)) {
                self.unfinished = Some((name, change));
            }
        }
    }

    fn happen(&mut self, text: &str, directory: &str, hears_flushes: bool) {
        let Some(call) = Call::read(text) else {
            return;
        };
        // A call without a result may have taken effect or not; such a write is handled after the last line.
        if call.result == "?" {
            self.unfinished = call.written(directory);
            return;
        }
        if call.result.starts_with('-') {
            return;
        }
        let Some(name) = call.file(directory) else {
            let is_of_names = call.name.ends_with("sync") && call.path().as_deref() == Some(directory);
            if is_of_names && hears_flushes {
                self.flush_names();
            }
            return;
        };
        if is_ballast(&name) {
            return;
        }
        match &*call.name {
            "openat" | "open" if call.arguments.iter().any(|argument| argument.contains("O_CREAT")) => {
                assert!(!call.arguments.iter().any(|argument| argument.contains("O_TRUNC")), "{text}");
                self.files.entry(name).or_default();
            }
            "openat" | "open" => {}
            "pwrite64" | "ftruncate" => {
                let (_, change) = call.written(directory).expect("it is about a file in here");
                self.files.entry(name).or_default().changes.push(change);
            }
            "fsync" | "fdatasync" if hears_flushes => self.files.entry(name).or_default().flush(),
            "fsync" | "fdatasync" => {}
            "unlink" => {
                let file = self.files.remove(&name).unwrap_or_default();
                self.removed.insert(name, file);
            }
            _ => panic!("what does this do to a disk: {text}"),
        }
    }

    fn flush_names(&mut self) {
        self.removed.clear();
        for file in self.files.values_mut() {
            file.is_named = true;
        }
    }

    /// Replaces the contents of a directory with what the disk may have after a power cut.
    #[expect(clippy::disallowed_methods, reason = "this is about files")]
    pub fn write_after(&self, cut: Cut, chance: &mut Chance, directory: &Path) {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).expect("a directory can be made");
        let is_partial = !matches!(cut, Cut::Nothing | Cut::Everything);
        for (name, file) in &self.files {
            let is_there = match cut {
                Cut::Nothing => file.is_named,
                Cut::Everything => true,
                _ => file.is_named || chance.percent(50),
            };
            let mut file = file.clone();
            if let Some((unfinished, change)) = &self.unfinished
                && unfinished == name
            {
                file.changes.push(change.clone());
            }
            if is_there {
                fs::write(directory.join(name), file.after(cut, chance)).expect("a file can be written");
            }
        }
        for (name, file) in self.removed.iter().filter(|(name, _)| !self.files.contains_key(*name)) {
            if file.is_named && is_partial && chance.percent(50) {
                fs::write(directory.join(name), file.after(cut, chance)).expect("a file can be written");
            }
        }
    }

    /// Proves that the log was understood: with nothing lost, the disk has the contents of the directory.
    pub fn check_against(&self, directory: &Path) {
        let mut chance = Chance::new(0);
        let there = Self::of(directory);
        assert!(there.files.keys().eq(self.files.keys()), "{:?} {:?}", there.files.keys(), self.files.keys());
        for (name, file) in &there.files {
            let mut expected = self.files[name].after(Cut::Everything, &mut chance);
            let mut is_same = expected == file.flushed;
            if let Some((unfinished, change)) = &self.unfinished
                && unfinished == name
            {
                apply(&mut expected, change);
                is_same |= expected == file.flushed;
            }
            assert!(is_same, "{name} is not what the log of the calls says");
        }
    }

    /// Whether a power cut leaves nothing to chance.
    pub fn is_certain(&self) -> bool {
        let is_certain = |file: &File| file.changes.is_empty() && file.is_named;
        self.files.values().all(is_certain) && self.removed.is_empty() && self.unfinished.is_none()
    }

    /// Bytes that were written and not flushed, in the files whose names are chosen.
    pub fn unflushed(&self, chooses: impl Fn(&str) -> bool) -> usize {
        let chosen = self.files.iter().filter(|(name, _)| chooses(name));
        let changes = chosen.flat_map(|(_, file)| &file.changes);
        changes.map(|change| if let Change::Write(_, bytes) = change { bytes.len() } else { 0 }).sum()
    }
}

/// One parsed line of the log.
struct Call {
    name: String,
    arguments: Vec<String>,
    result: String,
}

impl Call {
    /// Returns `None` for a line about a signal or an exit.
    fn read(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(')'))?;
        let result = result.trim_start_matches([' ', '=']);
        // An unnamed error is what a call left in the register when a kill interrupted it.
        let is_cut_off = result.contains("(errno ");
        let result = if is_cut_off { "?" } else { result.split(['<', ' ']).next()? };
        let arguments = arguments.split(", ").map(str::to_owned).collect();
        Some(Self { name: name.to_owned(), arguments, result: result.to_owned() })
    }

    /// The path that the call is about: that of its first descriptor, or its first text.
    fn path(&self) -> Option<String> {
        let argument = self.arguments.get(usize::from(self.name == "openat"))?;
        let (_, behind) = argument.split_once(['<', '"'])?;
        String::from_utf8(unescape(behind.split(['>', '"']).next()?)).ok()
    }

    /// The name of the file that the call is about, if it is in this directory.
    fn file(&self, directory: &str) -> Option<String> {
        Some(self.path()?.strip_prefix(directory)?.strip_prefix('/')?.to_owned())
    }

    fn written(&self, directory: &str) -> Option<(String, Change)> {
        let name = self.file(directory)?;
        let number = |index: usize| self.arguments.get(index)?.parse::<usize>().ok();
        let change = match &*self.name {
            "pwrite64" => {
                let mut bytes = unescape(self.arguments.get(1)?.trim_matches('"'));
                bytes.truncate(self.result.parse().unwrap_or(bytes.len()));
                Change::Write(number(3)?, bytes)
            }
            "ftruncate" => Change::Resize(number(1)?),
            _ => return None,
        };
        Some((name, change))
    }
}

/// The bytes of a text in which each is written as `\\x2f`.
fn unescape(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").filter(|digits| !digits.is_empty());
    digits.map(|digits| u8::from_str_radix(digits, 16).expect("two digits")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
        10 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x64\\x2f\\x61\", O_RDWR|O_CREAT, 0600) = 3<\\x2f\\x64\\x2f\\x61>\n\
        10 pwrite64(3<\\x2f\\x64\\x2f\\x61>, \"\\x01\\x02\", 2, 0) = 2\n\
        10 fdatasync(3<\\x2f\\x64\\x2f\\x61> <unfinished ...>\n\
        11 write(2<\\x2f\\x65>, \"\\x01\", 1) = 1\n\
        10 <... fdatasync resumed>)          = 0\n\
        10 pwrite64(3<\\x2f\\x64\\x2f\\x61>, \"\\x03\", 1, 2) = 1\n\
        10 pwrite64(3<\\x2f\\x64\\x2f\\x61>, \"\\x04\", 1, 3 <unfinished ...>\n\
        10 +++ killed by SIGKILL +++\n";

    fn after(disk: &Disk, cut: Cut, seed: u64) -> Vec<u8> {
        disk.files["a"].after(cut, &mut Chance::new(seed))
    }

    #[test]
    fn flushed_data_is_there_and_the_rest_by_chance() {
        let mut disk = Disk::default();
        disk.follow(LOG, "/d", true);
        assert_eq!(after(&disk, Cut::Nothing, 0), [1, 2]);
        assert_eq!(after(&disk, Cut::Everything, 0), [1, 2, 3]);
        let some: Vec<Vec<u8>> = (0..20).map(|seed| after(&disk, Cut::Sectors, seed)).collect();
        for expected in [&[1, 2][..], &[1, 2, 0], &[1, 2, 3]] {
            assert!(some.iter().any(|content| content == expected), "{expected:?}");
        }
        assert!(
            matches!(&disk.unfinished, Some((name, Change::Write(3, bytes))) if name == "a" && *bytes == [4])
        );
    }

    #[test]
    fn a_call_that_was_cut_off_may_have_been_done() {
        let mut disk = Disk::default();
        let last =
            "10 pwrite64(3<\\x2f\\x64\\x2f\\x61>, \"\\x04\", 1, 3) = -1 (errno 18446744073709551598)\n";
        disk.follow(
            &LOG.replace("10 pwrite64(3<\\x2f\\x64\\x2f\\x61>, \"\\x04\", 1, 3 <unfinished ...>\n", last),
            "/d",
            true,
        );
        assert!(
            matches!(&disk.unfinished, Some((name, Change::Write(3, bytes))) if name == "a" && *bytes == [4])
        );
    }

    #[test]
    fn without_flushes_nothing_is_sure() {
        let mut disk = Disk::default();
        disk.follow(LOG, "/d", false);
        assert_eq!(after(&disk, Cut::Nothing, 0), [0; 0]);
        assert!(!disk.files["a"].is_named);
    }
}
