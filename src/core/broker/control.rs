//! What an operator may ask of a running broker.

use super::Broker;
use crate::base::escape::Escaped;
use crate::core::limits::Limits;
use crate::core::switches::Switches;

impl Broker {
    /// Sets the limits from now on. What already exceeds them stays.
    pub fn set_limits(&mut self, limits: Limits) {
        let _entered = self.account.enter();
        self.options.listeners.apply(&limits, self.options.switches);
        self.turn.set_budget(limits.steps_per_turn);
        self.options.limits = limits;
    }

    /// Sets the switches from now on.
    pub fn set_switches(&mut self, switches: Switches) {
        let _entered = self.account.enter();
        self.options.listeners.apply(&self.options.limits, switches);
        self.options.switches = switches;
    }

    /// The Topic Filters that have subscribers, in order, one line each: the number of subscribers and the filter. A
    /// Shared Subscription counts as one subscriber. At most `most` lines, and one more if there are more filters.
    pub fn subscription_tree(&self, most: usize) -> Vec<String> {
        let filters = self.routing.trie.filters(most.saturating_add(1));
        let mut lines: Vec<String> = filters
            .iter()
            .take(most)
            .map(|&filter| {
                let count = self.routing.trie.values(filter).len();
                format!("{count} at {}", Escaped(&self.routing.trie.pattern(filter)))
            })
            .collect();
        if filters.len() > most {
            lines.push(format!("and others: there are {} subscriptions in total", self.routing.trie.len()));
        }
        lines
    }
}
