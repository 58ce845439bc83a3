//! What an operator asks of a server that runs, by signals.

#[cfg(feature = "signals")]
use log::{error, info, warn};

#[cfg(feature = "signals")]
use crate::logging;
use crate::settings::Settings;

use super::Server;
#[cfg(feature = "signals")]
use super::contents::Contents;
#[cfg(feature = "signals")]
use super::footprint::without_process;
#[cfg(feature = "signals")]
use super::plan::{Plan, changes};
#[cfg(feature = "signals")]
use super::signals::Signal;

/// Filters that are written to the log at one time.
#[cfg(feature = "signals")]
const FILTERS_MAXIMUM: usize = 10_000;

/// Reads the configuration anew. Whoever does it has said in the log what is wrong, if it is `None`.
pub type Reader = Box<dyn FnMut() -> Option<Settings>>;

/// What a server was configured with, and where to read it anew.
pub(super) struct Configuration {
    #[cfg_attr(not(feature = "signals"), expect(dead_code, reason = "only a signal reads it anew"))]
    settings: Settings,
    #[cfg_attr(not(feature = "signals"), expect(dead_code, reason = "only a signal reads it anew"))]
    read: Reader,
    #[cfg(feature = "signals")]
    contents: Contents,
}

impl Server {
    /// Tells what the server was configured with, and how to come by the next settings.
    pub fn reload_by(&mut self, settings: Settings, read: Reader) {
        self.configuration = Some(Configuration {
            #[cfg(feature = "signals")]
            contents: Contents::of(&settings),
            settings,
            read,
        });
    }

    /// Does what signals have asked for. Tells whether the broker is to end.
    #[cfg(feature = "signals")]
    pub(super) fn heed_signals(&mut self) -> bool {
        let mut is_ended = false;
        for signal in self.signals.take() {
            match signal {
                Signal::End => is_ended = true,
                Signal::Reload => {
                    self.notifier.reloading();
                    self.reload();
                    self.notifier.tell("READY=1");
                }
                Signal::ReopenLogs => reopen_logs(),
                Signal::Save => {
                    if self.keeping.is_some() {
                        info!("Writing down what has not been yet.");
                        self.broker.write_down(self.clock.now());
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

    /// All or nothing: what is wrong leaves everything as it was.
    #[cfg(feature = "signals")]
    fn reload(&mut self) {
        info!("Reloading config.");
        // Whoever has moved the log files away wants that even if he has made a mistake in the configuration.
        reopen_logs();
        let Some(configuration) = &mut self.configuration else { return };
        let Some(new) = (configuration.read)() else {
            warn!("The configuration stays as it was.");
            return;
        };
        let mut plan = changes(&configuration.settings, &new);
        let (log, interval) = (configuration.settings.log.clone(), configuration.settings.system_interval);
        let outcome = logging::set_up(&new.log).map_err(|complaint| vec![complaint]);
        if let Err(complaints) = outcome.and_then(|()| self.reload_listeners(&plan, &new.listeners)) {
            // What was open a moment ago can be opened again, or else the new log is as good.
            let _ = logging::set_up(&log);
            complaints.iter().for_each(|complaint| error!("Error: {complaint}"));
            warn!("The configuration stays as it was.");
            return;
        }
        if interval != new.system_interval {
            self.tell_of_itself(new.system_interval);
        }
        self.broker.set_limits(without_process(&new.limits));
        self.broker.set_switches(new.switches);
        if let Some(configuration) = &mut self.configuration {
            let contents = Contents::of(&new);
            plan.applied.extend(configuration.contents.differences(&contents));
            configuration.contents = contents;
            configuration.settings = new;
        }
        report(&plan);
    }
}

#[cfg(feature = "signals")]
fn reopen_logs() {
    logging::reopen().iter().for_each(|complaint| error!("Error: {complaint}"));
}

#[cfg(feature = "signals")]
fn report(plan: &Plan) {
    for line in &plan.applied {
        info!("{line}");
    }
    for line in &plan.waiting {
        warn!("{line}");
    }
    info!("The files were read anew{}.", if plan.is_empty() { ", no setting has changed" } else { "" });
}
