//! The options of the operator.

use log::{Level, LevelFilter, log_enabled};

use super::listener_options::Listeners;
use crate::core::limits::Limits;
use crate::core::switches::Switches;

pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) switches: Switches,
    pub(super) listeners: Listeners,
    /// The log level from which on each packet is processed by itself and in full, so that it can be traced. With
    /// [`LevelFilter::Off`], which is below all levels, it always is.
    pub(super) in_full_from: LevelFilter,
}

impl Options {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            listeners: Listeners::new(&limits),
            limits,
            switches: Switches::default(),
            in_full_from: LevelFilter::Debug,
        }
    }

    /// Whether packets may be processed by the [short ways](super::fast_path), which do not trace single packets. Where
    /// the log level already decides, this is one comparison.
    #[inline]
    pub(super) fn may_be_short(&self) -> bool {
        let is_in_full = || self.in_full_from == LevelFilter::Off || log_enabled!(Level::Debug);
        log::max_level() < self.in_full_from || !is_in_full()
    }
}
