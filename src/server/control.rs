//! What an operator asks of a server that runs, by signals.

use log::{error, info, warn};

use crate::base::time::Time;
use crate::logging;
use crate::settings::Settings;

use super::Server;
use super::fingerprint::Fingerprint;
use super::footprint::without_process;
use super::names::Reloading;
use super::plan::{Changes, plan};
use super::signals::Signal;
pub use super::signals::Signals;

/// Filters that are written to the log at one time.
const FILTERS_MAXIMUM: usize = 10_000;

/// Reads the configuration anew, and tells how it differs from the former settings. It has said in the log what is
/// wrong, if it is `None`.
pub type Reader = Box<dyn FnMut(&Settings) -> Option<(Settings, Changes)>>;

/// What a server was configured with, and where to read it anew.
pub(super) struct Configuration {
    settings: Settings,
    read: Reader,
    fingerprint: Fingerprint,
}

impl Server {
    /// Tells what the server was configured with, and how to come by the next settings.
    pub fn reload_by(&mut self, settings: Settings, read: Reader) {
        self.configuration = Some(Configuration { fingerprint: Fingerprint::of(&settings), settings, read });
    }

    /// Does what signals have asked for. Tells whether the broker is to end.
    pub(super) fn heed_signals(&mut self) -> bool {
        let mut is_ended = false;
        for signal in self.signals.take() {
            match signal {
                Signal::End => is_ended = true,
                Signal::Reload => self.reload(),
                Signal::ReopenLogs => reopen_logs(),
                Signal::Save => {
                    if self.persistence.is_some() {
                        info!("Writing down what has not been yet.");
                        self.broker.persist(self.clock.now());
                    } else {
                        info!("There is nothing to be saved: sessions and messages live in memory alone.");
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

    /// Reads the configuration anew and puts it in force, or begins to. Whatever an earlier reload still waits for is
    /// of no more use.
    pub(super) fn reload(&mut self) {
        self.notifier.reloading();
        self.begin_reload();
        self.go_on_reloading(self.clock.now());
    }

    /// All or nothing: what is wrong leaves everything as it was.
    fn begin_reload(&mut self) {
        info!("Reloading config.");
        // Whoever has moved the log files away wants that even if he has made a mistake in the configuration.
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

    /// Goes on with a reload, once the names that it needs are looked up or that has taken too long. The service
    /// manager is told when there is none any more.
    pub(super) fn go_on_reloading(&mut self, now: Time) {
        if let Some(reloading) = self.reloading.take_if(|reloading| reloading.due() <= now) {
            self.finish_reload(*reloading);
        }
        if self.reloading.is_none() {
            self.notifier.tell("READY=1");
        }
    }

    /// All or nothing: what is wrong leaves everything as it was.
    fn finish_reload(&mut self, reloading: Reloading) {
        reloading.withdraw(&mut self.resolver);
        let hosts = reloading.addresses();
        let Reloading { new, plan, mut changes, .. } = reloading;
        let Some(Configuration { settings: old, .. }) = &self.configuration else { return };
        let (log, interval) = (old.log.clone(), old.system_interval);
        let outcome = hosts.and_then(|hosts| {
            logging::set_up(&new.log).map_err(|error| vec![error])?;
            self.reload_listeners(&plan, &new.listeners, &hosts)
        });
        if let Err(errors) = outcome {
            // What was open a moment ago can be opened again, or else the new log is as good.
            let _ = logging::set_up(&log);
            errors.iter().for_each(|error| error!("Error: {error}"));
            warn!("The configuration stays as it was.");
            return;
        }
        if interval != new.system_interval {
            self.tell_of_itself(new.system_interval);
        }
        self.broker.set_limits(without_process(&new.limits));
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
    logging::reopen().iter().for_each(|error| error!("Error: {error}"));
}

fn report(changes: &Changes) {
    for line in &changes.applied {
        info!("{line}");
    }
    for line in &changes.waiting {
        warn!("{line}");
    }
    info!("The files were read anew{}.", if changes.is_empty() { ", no setting has changed" } else { "" });
}
