//! What an operator may ask of a running broker.

use super::Broker;
use crate::base::escape::{Escaped, Quoted};
use crate::base::plural::Count;
use crate::core::limits::Limits;
use crate::core::slots::SessionId;
use crate::core::subscription::Target;
use crate::core::switches::Switches;
use crate::core::trie::FilterId;

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

    /// The Topic Filters that have subscribers, in order, one line each: the number of subscribers, the filter, and the
    /// Client Identifiers of the first subscribers. A Shared Subscription counts as one subscriber. At most `most` lines,
    /// and one more if there are more filters.
    pub fn subscription_tree(&self, most: usize) -> Vec<String> {
        let filters = self.routing.trie.filters(most.saturating_add(1));
        let mut lines: Vec<String> = filters
            .iter()
            .take(most)
            .map(|&filter| {
                let count = self.routing.trie.values(filter).len();
                let pattern = self.routing.trie.pattern(filter);
                format!("{count} at {}: {}", Escaped(&pattern), self.subscribers(filter))
            })
            .collect();
        if filters.len() > most {
            lines.push(format!(
                "and others: there are {} in total",
                Count(self.routing.trie.len(), "subscription")
            ));
        }
        lines
    }
    /// The first subscribers of a filter, as a list.
    fn subscribers(&self, filter: FilterId) -> String {
        let values = self.routing.trie.values(filter);
        let mut names = Names::default();
        for subscriber in values {
            let is_shown = match subscriber.target {
                Target::Session(session) => names.push("", self.client_of(session)),
                Target::Group(id) => self.routing.groups.find(id).is_none_or(|group| {
                    let share = format!("$share/{} ", Escaped(&group.share_name));
                    group.members().iter().all(|member| names.push(&share, self.client_of(member.session)))
                }),
            };
            if !is_shown {
                names.list.push_str(", ...");
                break;
            }
        }
        names.list
    }

    fn client_of(&self, session: SessionId) -> &str {
        &self.clients.sessions[session].client_identifier
    }
}

/// A list of Client Identifiers that does not grow beyond a line.
#[derive(Default)]
struct Names {
    list: String,
}

impl Names {
    /// The most bytes of a list, apart from its last name.
    const LENGTH_MAXIMUM: usize = 300;

    /// Adds a name if there is room for it. Returns whether there was.
    fn push(&mut self, before: &str, name: &str) -> bool {
        let has_room = self.list.len() < Self::LENGTH_MAXIMUM;
        if has_room {
            let separator = if self.list.is_empty() { "" } else { ", " };
            self.list += &format!("{separator}{before}{}", Quoted(name));
        }
        has_room
    }
}
