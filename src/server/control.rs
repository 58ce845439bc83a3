//! What an operator asks of a running server, by signals.

use log::{error, info, warn};

use crate::base::time::Time;
use crate::logging;
use crate::settings::Settings;

use super::Server;
use super::fingerprint::Fingerprint;
use super::footprint;
use super::names::Reloading;
use super::plan::{Changes, plan};
use super::signals::Signal;
pub use super::signals::Signals;

/// Filters written to the log for one signal.
const FILTERS_MAXIMUM: usize = 10_000;

/// Reads the configuration again, and returns it with its differences from the former settings. `None` if it is
/// invalid; what is wrong is in the log then.
pub type Reader = Box<dyn FnMut(&Settings) -> Option<(Settings, Changes)>>;

/// The server's configuration, and how to read it again.
pub(super) struct Configuration {
    settings: Settings,
    read: Reader,
    fingerprint: Fingerprint,
}

impl Server {
    /// Sets what the server was configured with, and how to read the configuration again.
    pub fn reload_by(&mut self, settings: Settings, read: Reader) {
        self.configuration = Some(Configuration { fingerprint: Fingerprint::of(&settings), settings, read });
    }

    /// Handles the signals that have come. Returns whether the broker is to end.
    pub(super) fn handle_signals(&mut self) -> bool {
        let mut is_ended = false;
        for signal in self.signals.take() {
            match signal {
                Signal::End => is_ended = true,
                Signal::Reload => self.reload(),
                Signal::ReopenLogs => reopen_logs(),
                Signal::Save => {
                    if self.persistence.is_some() {
                        info!("Writing unsaved state to disk.");
                        self.broker.persist(self.clock.now());
                    } else {
                        info!("There is nothing to save: sessions and messages are kept in memory only.");
                    }
                }
                Signal::ListSubscriptions => {
                    info!("Subscriptions:");
                    for line in self.broker.subscription_tree(FILTERS_MAXIMUM) {
                        info!("{line}");
                    }
                }
            }
        }
        is_ended
    }

    /// Reads the configuration again and puts it in force, or starts to. An earlier reload that still waits for names
    /// is abandoned.
    pub(super) fn reload(&mut self) {
        self.notifier.reloading();
        self.begin_reload();
        self.go_on_reloading(self.clock.now());
    }

    /// All or nothing: any error leaves everything as it was.
    fn begin_reload(&mut self) {
        info!("Reloading config.");
        // An operator who has moved the log files away wants new ones even if the configuration has an error.
        reopen_logs();
        if let Some(former) = self.reloading.take() {
            former.withdraw(&mut self.resolver);
        }
        let Some(configuration) = &mut self.configuration else { return };
        let Some((new, changes)) = (configuration.read)(&configuration.settings) else {
            warn!("The configuration stays as it was.");
            return;
        };
        let plan = plan(&configuration.settings.listeners, &new.listeners);
        let reloading = Reloading::begin(new, (plan, changes), &mut self.resolver, self.clock.now());
        self.reloading = Some(Box::new(reloading));
    }

    /// Continues a reload once the names that it needs are resolved or have taken too long. The service manager is
    /// told when no reload is left.
    pub(super) fn go_on_reloading(&mut self, now: Time) {
        if let Some(reloading) = self.reloading.take_if(|reloading| reloading.due() <= now) {
            self.finish_reload(*reloading);
        }
        if self.reloading.is_none() {
            self.notifier.tell("READY=1");
        }
    }

    /// All or nothing: any error leaves everything as it was.
    fn finish_reload(&mut self, reloading: Reloading) {
        reloading.withdraw(&mut self.resolver);
        let hosts = reloading.addresses();
        let Reloading { new, plan, mut changes, .. } = reloading;
        let Some(Configuration { settings: old, .. }) = &self.configuration else { return };
        let (log, interval) = (old.log.clone(), old.system_interval);
        let outcome = hosts.and_then(|hosts| {
            logging::set_up(&new.log).map_err(|error| vec![error])?;
            let bridges = self.load_bridges(&new)?;
            let access = self.load_access(&new)?;
            self.reload_listeners(&plan, &new.listeners, &hosts, &bridges)?;
            self.replace_bridges(bridges, &new.limits, self.clock.now());
            self.change_access(access, &new, self.clock.now());
            Ok(())
        });
        if let Err(errors) = outcome {
            // The former log could be opened before, so it can be again; if not, the new log does as well.
            let _ = logging::set_up(&log);
            errors.iter().for_each(|error| error!("Error: {error}."));
            warn!("The configuration stays as it was.");
            return;
        }
        if interval != new.system_interval {
            self.publish_sys(new.system_interval);
        }
        self.broker.set_limits(footprint::prepare(&new.limits));
        self.broker.set_switches(new.switches);
        if let Some(configuration) = &mut self.configuration {
            let fingerprint = Fingerprint::of(&new);
            changes.applied.extend(configuration.fingerprint.changes(&fingerprint));
            configuration.fingerprint = fingerprint;
            configuration.settings = new;
        }
        report(&changes);
    }
}

fn reopen_logs() {
    logging::reopen().iter().for_each(|error| error!("Error: {error}."));
}

fn report(changes: &Changes) {
    for line in &changes.applied {
        info!("{line}");
    }
    for line in &changes.waiting {
        warn!("{line}");
    }
    info!("The files were read again{}.", if changes.is_empty() { ", no setting has changed" } else { "" });
}
