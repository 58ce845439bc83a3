//! What an operator may ask of a broker that runs.

use super::Broker;
use crate::base::escape::Escaped;
use crate::core::limits::Limits;
use crate::core::switches::Switches;

impl Broker {
    /// Other limits hold from now on. Who or what is beyond them already stays.
    pub fn set_limits(&mut self, limits: Limits) {
        let _entered = self.account.enter();
        self.options.listeners.apply(&limits, self.options.switches);
        self.turn.set_budget(limits.steps_per_turn);
        self.options.limits = limits;
    }

    /// From now on other things are done or left.
    pub fn set_switches(&mut self, switches: Switches) {
        let _entered = self.account.enter();
        self.options.listeners.apply(&self.options.limits, switches);
        self.options.switches = switches;
    }

    /// The Topic Filters that somebody is subscribed to, in their order, a line each: how many subscribers and the
    /// filter, of which a Shared Subscription is one. At most `most` lines, and one more if there are more filters.
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
            lines.push(format!("and others: there are {} subscriptions in all", self.routing.trie.len()));
        }
        lines
    }
}
