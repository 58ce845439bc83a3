//! Fingerprints of the files that the settings name, so that a reload can report which of them have changed. Only a
//! hash is kept, so that no secret stays in memory.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::escape::Escaped;
use crate::base::files;
#[cfg(any(feature = "bridge", feature = "cluster"))]
use crate::settings::ClientTls;
use crate::settings::{Given, Settings};

/// A hash of each file; `None` if it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<PathBuf, Option<u64>>);

impl Fingerprint {
    /// The fingerprint of all files that a reload reads again.
    pub(super) fn of(settings: &Settings) -> Self {
        let mut files = Self::default();
        for listener in &settings.listeners {
            let security = &listener.security;
            files.add(security.passwords.iter().chain(&security.access));
            if let Some(tls) = &listener.tls {
                files.add([&tls.certificate, &tls.key]);
                files.add(tls.authorities.iter().chain(&tls.authorities_directory).chain(&tls.revoked));
            }
        }
        #[cfg(feature = "bridge")]
        settings.bridges.iter().for_each(|bridge| files.add_client(bridge.tls.as_ref()));
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &settings.cluster {
            files.add_client(cluster.tls.as_ref());
            files.add(cluster.secret_files());
        }
        files
    }

    /// Adds the files of connections to other servers.
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    fn add_client(&mut self, tls: Option<&ClientTls>) {
        let Some(ClientTls { trust, identity, .. }) = tls else { return };
        self.add(trust.authorities.iter().chain(&trust.authorities_directory));
        self.add(identity.iter().flatten());
    }

    fn add<'a>(&mut self, paths: impl IntoIterator<Item = &'a Given<PathBuf>>) {
        for path in paths {
            self.0.entry(path.value.clone()).or_insert_with(|| print(path).ok());
        }
    }

    /// Returns a line for each file that was named before as well and has other contents now.
    pub(super) fn changes(&self, new: &Self) -> Vec<String> {
        let is_other =
            |path: &Path, now: u64| self.0.get(path).copied().flatten().is_some_and(|was| was != now);
        let changed = new.0.iter().filter(|(path, now)| now.is_some_and(|now| is_other(path, now)));
        changed.map(|(path, _)| format!("{} was changed.", Escaped(&path.display().to_string()))).collect()
    }
}

/// Hashes a file, or a directory with all its files.
fn print(path: &Path) -> io::Result<u64> {
    let mut writer = Printer(DefaultHasher::new());
    if !path.is_dir() {
        io::copy(&mut files::open(path)?, &mut writer)?;
        return Ok(writer.0.finish());
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file());
    paths.sort_unstable();
    for path in paths {
        path.hash(&mut writer.0);
        io::copy(&mut files::open(&path)?, &mut writer)?;
    }
    Ok(writer.0.finish())
}

/// A writer that hashes the bytes written to it.
struct Printer(DefaultHasher);

impl Write for Printer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_compared_by_their_contents() {
        let place = std::env::temp_dir().join(format!("brooklet-fingerprint-{}", std::process::id()));
        let directory = place.join("d");
        fs::create_dir_all(&directory).unwrap();
        let paths = [place.join("a"), place.join("b"), directory.clone()];
        let read = || {
            let mut fingerprint = Fingerprint::default();
            fingerprint.add(&paths.clone().map(Given::from));
            fingerprint
        };
        fs::write(&paths[0], "one").unwrap();
        let first = read();
        assert_eq!(first.0[&paths[1]], None, "it is not there");
        fs::write(&paths[0], "one").unwrap();
        fs::write(&paths[1], "new").unwrap();
        let second = read();
        assert_eq!(first.changes(&second), [""; 0], "what was not read is not known to have changed");
        fs::write(&paths[0], "two").unwrap();
        fs::write(directory.join("c"), "").unwrap();
        let expected = [&paths[0], &directory].map(|path| format!("{} was changed.", path.display()));
        assert_eq!(second.changes(&read()), expected);
        fs::remove_dir_all(&place).unwrap();
    }
}
