//! A reload that waits for the addresses of listeners' hosts. The loop goes on; nothing changes until all of the
//! addresses are there.

use std::io;
use std::net::SocketAddr;

use super::listener::unbound;
use super::plan::{Changes, Plan};
use super::resolver::{Answer, Resolver, Ticket, address_of};
use crate::base::time::{Duration, Time};
use crate::settings::{Address, ConfigError, Listener, Settings};

/// How long a reload waits for the addresses of its names. The system asks several name servers for five seconds each.
const PATIENCE: Duration = Duration::from_seconds(30);

/// A reload that has begun.
pub(super) struct Reloading {
    pub(super) new: Settings,
    pub(super) plan: Plan,
    pub(super) changes: Changes,
    /// The hosts of the new listeners, in the order of the plan.
    hosts: Vec<Host>,
    /// When it is given up.
    until: Time,
}

/// The addresses of one host.
enum Host {
    /// Being looked up under this ticket.
    Asked(Ticket),
    /// The addresses, or why there are none.
    Known(Answer),
}

impl Reloading {
    /// Starts looking up all names that the plan needs.
    pub(super) fn begin(
        new: Settings,
        (plan, changes): (Plan, Changes),
        resolver: &mut Resolver,
        now: Time,
    ) -> Self {
        let hosts = plan.added.iter().map(|&index| Host::of(&new.listeners[index], resolver)).collect();
        Self { new, plan, changes, hosts, until: now + PATIENCE }
    }

    /// Takes the answer to a question.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer) {
        let is_asked = |host: &&mut Host| matches!(host, Host::Asked(asked) if *asked == ticket);
        if let Some(host) = self.hosts.iter_mut().find(is_asked) {
            *host = Host::Known(answer);
        }
    }

    /// When the reload goes on, unless an answer comes before.
    pub(super) fn due(&self) -> Time {
        let is_waiting = self.hosts.iter().any(|host| matches!(host, Host::Asked(_)));
        if is_waiting { self.until } else { Time::ZERO }
    }

    /// Withdraws all questions that are still open.
    pub(super) fn withdraw(&self, resolver: &mut Resolver) {
        for host in &self.hosts {
            if let Host::Asked(ticket) = host {
                resolver.withdraw(*ticket);
            }
        }
    }

    /// The addresses of all hosts, in the order of the plan.
    ///
    /// # Errors
    ///
    /// The hosts that have no address.
    pub(super) fn addresses(&self) -> Result<Vec<Vec<SocketAddr>>, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut addresses = Vec::new();
        for (host, &index) in self.hosts.iter().zip(&self.plan.added) {
            let why = match host {
                Host::Known(Ok(known)) => {
                    addresses.push(known.clone());
                    continue;
                }
                Host::Known(Err(why)) => why.clone(),
                Host::Asked(_) => format!("no name server has answered within {} s", PATIENCE.seconds()),
            };
            errors.push(unbound(&self.new.listeners[index], &io::Error::other(why)));
        }
        if errors.is_empty() { Ok(addresses) } else { Err(errors) }
    }
}

impl Host {
    fn of(listener: &Listener, resolver: &mut Resolver) -> Self {
        let Address::Internet { host: Some(name), .. } = &listener.address else {
            return Self::Known(Ok(Vec::new()));
        };
        match address_of(name) {
            Some(address) => Self::Known(Ok(vec![address])),
            None => resolver.ask_first(name).map_or_else(|why| Self::Known(Err(why)), Self::Asked),
        }
    }
}
