//! Outgoing connections and names in the loop: what those who dial ask for, and what the poller, the resolver and the
//! clock have to say about it.

use mio::event::Event;

use super::Server;
use super::destination::{CallId, Destination};
use super::dial::Report;
use super::resolver::LookUp;
use crate::base::time::Time;

impl Server {
    /// Begins to connect to a destination. What comes of it is told by [`Server::next_report`].
    ///
    /// # Errors
    ///
    /// There are too many outgoing connections, or no more names can be looked up.
    pub fn dial(&mut self, destination: Destination) -> Result<CallId, String> {
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), self.clock.now());
        calls.dial(destination, &mut self.resolver, &mut world)
    }

    /// What has come of an outgoing connection; to be asked after each turn until there is nothing.
    pub fn next_report(&mut self) -> Option<(CallId, Report)> {
        self.links.calls.next_report()
    }

    /// Reads once from an outgoing connection, after [`Report::Readable`], and hands over what of it is MQTT. If there
    /// may be more, it is reported again.
    pub fn receive(&mut self, id: CallId, take: impl FnOnce(&[u8])) {
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), self.clock.now());
        calls.receive(id, take, &mut world);
    }

    /// Sends bytes of MQTT by an outgoing connection, as many as are taken now, and tells how many. If they are not
    /// all, [`Report::Writable`] says when more may be.
    pub fn send(&mut self, id: CallId, bytes: &[u8]) -> usize {
        self.links.calls.send(id, bytes)
    }

    /// Ends an outgoing connection, or what was to become one. Nothing more is reported of it.
    pub fn hang_up(&mut self, id: CallId) {
        self.links.calls.hang_up(id, &mut self.resolver);
    }

    /// Looks up names by other means than the system's; to be called before the first is looked up.
    pub fn look_up_by(&mut self, look_up: LookUp) {
        self.resolver.look_up_by(look_up);
    }

    /// The poller says something of the outgoing connection with this number.
    #[inline(never)]
    pub(super) fn hear_call(&mut self, number: usize, event: &Event, now: Time) {
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
        calls.heard(number, event, &mut world);
    }

    /// Takes the addresses that have come, and gives up what has taken too long.
    #[inline]
    pub(super) fn attend_calls(&mut self, now: Time) {
        if self.resolver.is_asked() {
            self.take_addresses(now);
        }
        if !self.links.calls.is_empty() {
            let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
            calls.expire(&mut world);
        }
        #[cfg(feature = "system")]
        if self.reloading.is_some() {
            self.go_on_reloading(now);
        }
    }

    /// When something is to be done here, if nothing happens before.
    pub(super) fn calls_due(&self) -> Option<Time> {
        #[cfg(feature = "system")]
        let reload = self.reloading.as_ref().map(|reloading| reloading.due());
        #[cfg(not(feature = "system"))]
        let reload = None;
        self.links.calls.due().into_iter().chain(reload).min()
    }

    #[inline(never)]
    fn take_addresses(&mut self, now: Time) {
        while let Some((ticket, answer)) = self.resolver.next_answer() {
            if let Some(id) = self.links.calls.asker_of(ticket) {
                let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
                calls.resolved(id, answer, &mut world);
                continue;
            }
            #[cfg(feature = "system")]
            if let Some(reloading) = &mut self.reloading {
                reloading.answered(ticket, answer);
            }
        }
    }
}
