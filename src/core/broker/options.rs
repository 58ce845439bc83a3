//! The options of the operator.

use log::{Level, LevelFilter, log_enabled};

use super::bridges::LocalSide;
use super::listener_options::Listeners;
use crate::core::limits::{Limits, QueueLimits};
use crate::core::listener::{ListenerId, QueueOptions};
use crate::core::switches::Switches;

pub(super) struct Options {
    pub(super) limits: Limits,
    pub(super) switches: Switches,
    pub(super) listeners: Listeners,
    /// The bridges of this broker.
    pub(super) bridges: Vec<LocalSide>,
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
            bridges: Vec::new(),
            in_full_from: LevelFilter::Debug,
        }
    }

    /// The bridges of this broker. A binary without bridges has none, so that what serves only them is left out of it.
    #[inline]
    pub(super) fn bridges(&self) -> &[LocalSide] {
        if cfg!(feature = "bridge") { &self.bridges } else { &[] }
    }

    /// What is special about the queues of the clients of this listener, if it is that of a bridge.
    #[inline]
    pub(super) fn queue_options(&self, listener: ListenerId) -> Option<QueueOptions> {
        if cfg!(feature = "bridge") { self.listeners.of(listener).queue } else { None }
    }

    /// Whether this Client Identifier is that of a bridge and this listener is its own; `None` if no bridge has it.
    pub(super) fn is_of_bridge(&self, client_identifier: &str, listener: ListenerId) -> Option<bool> {
        let bridge = self.bridges().iter().find(|bridge| *bridge.client_identifier == *client_identifier)?;
        Some(bridge.listener == listener)
    }

    /// Whether this Client Identifier is that of a bridge.
    pub(super) fn is_bridge(&self, client_identifier: &str) -> bool {
        self.bridges().iter().any(|bridge| *bridge.client_identifier == *client_identifier)
    }

    /// Whether this is the listener of a bridge.
    pub(super) fn is_listener_of_bridge(&self, listener: ListenerId) -> bool {
        self.bridges().iter().any(|bridge| bridge.listener == listener)
    }

    /// Within which limits a message is queued without further ado for a client of this listener: none for a bridge, whose
    /// queue [is looked at more closely](super::Broker::make_room).
    #[inline]
    pub(super) fn room_at_once(&self, listener: ListenerId) -> QueueLimits {
        match self.queue_options(listener) {
            Some(_) => QueueLimits { length: 0, burst_bytes: 0, bytes: 0 },
            None => self.limits.queue(),
        }
    }

    /// The limits of the queue of a client of this listener.
    pub(super) fn queue_limits(&self, listener: ListenerId) -> QueueLimits {
        let limits = self.limits.queue();
        match self.queue_options(listener).and_then(|queue| queue.length) {
            Some(length) => QueueLimits { length, ..limits },
            None => limits,
        }
    }

    /// Whether new messages take the place of the oldest ones in a full queue of a client of this listener.
    pub(super) fn drops_oldest(&self, listener: ListenerId) -> bool {
        self.queue_options(listener).is_some_and(|queue| queue.drops_oldest)
    }

    /// Whether packets may be processed by the [short ways](super::fast_path), which do not trace single packets. Where
    /// the log level already decides, this is one comparison.
    #[inline]
    pub(super) fn may_be_short(&self) -> bool {
        let is_in_full = || self.in_full_from == LevelFilter::Off || log_enabled!(Level::Debug);
        log::max_level() < self.in_full_from || !is_in_full()
    }
}
