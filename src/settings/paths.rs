//! Paths that mean the same wherever a message about them is read.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Address, Listener, LogDestination, Security, Settings, Tls};

/// A relative path is below the directory that the broker was started in. If that is unknown, it stays as it is.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

impl Settings {
    /// Makes all paths [`absolute`].
    pub fn make_paths_absolute(&mut self) {
        make_securities_absolute(&mut self.listeners);
        for path in self.paths() {
            *path = absolute(path);
        }
    }

    /// All paths but those of the users and rules, which listeners share.
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = Vec::new();
        for listener in &mut self.listeners {
            if let Address::Unix { path } = &mut listener.address {
                paths.push(path);
            }
            paths.extend(listener.tls.iter_mut().flat_map(Tls::paths));
        }
        #[cfg(feature = "bridge")]
        for tls in self.bridges.iter_mut().filter_map(|bridge| bridge.tls.as_mut()) {
            paths.extend(tls.trust.authorities.iter_mut().chain(&mut tls.trust.authorities_directory));
            paths.extend(tls.identity.iter_mut().flatten());
        }
        paths.extend(self.log.destinations.iter_mut().filter_map(|destination| match destination {
            LogDestination::File(path) => Some(path),
            _ => None,
        }));
        if let Some(persistence) = &mut self.persistence {
            paths.push(&mut persistence.directory);
            paths.extend(&mut persistence.database_of_mosquitto);
        }
        paths.extend(&mut self.process.pid_file);
        paths
    }
}

impl Tls {
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let optional =
            [&mut self.authorities, &mut self.authorities_directory, &mut self.revoked, &mut self.key_log];
        [&mut self.certificate, &mut self.key].into_iter().chain(optional.into_iter().flatten())
    }
}

/// Listeners that have shared their users and rules still do.
fn make_securities_absolute(listeners: &mut [Listener]) {
    let mut known: Vec<[Rc<Security>; 2]> = Vec::new();
    for listener in listeners {
        let before = listener.security.clone();
        if let Some([_, after]) = known.iter().find(|[other, _]| Rc::ptr_eq(other, &before)) {
            listener.security = after.clone();
            continue;
        }
        let mut security = Security::clone(&before);
        for path in [&mut security.passwords, &mut security.access].into_iter().flatten() {
            *path = absolute(path);
        }
        listener.security = Rc::new(security);
        known.push([before, listener.security.clone()]);
    }
}
