//! Outgoing connections and the resolver as part of the loop: what callers ask for, and events of the poller, answers
//! of the resolver and timeouts.

use mio::event::Event;

use super::Server;
use super::destination::{CallId, Destination};
use super::dial::Report;
use super::resolver::LookUp;
use crate::base::time::Time;

impl Server {
    /// Passes reports on to those who have dialled: bridges and the cluster.
    #[cfg(any(feature = "bridge", feature = "cluster"))]
    pub(super) fn take_reports(&mut self, now: Time) {
        while let Some((id, report)) = self.links.calls.next_report() {
            if let Some(report) = self.cluster.take_report(id, report, now) {
                self.take_report(id, report, now);
            }
        }
    }

    /// Starts connecting to a destination. [`Server::next_report`] reports the outcome.
    ///
    /// # Errors
    ///
    /// There are too many outgoing connections, or too many names are being looked up.
    pub fn dial(&mut self, destination: Destination) -> Result<CallId, String> {
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), self.clock.now());
        calls.dial(destination, &mut self.resolver, &mut world)
    }

    /// The next report about an outgoing connection. To be called after each turn until it returns `None`.
    pub fn next_report(&mut self) -> Option<(CallId, Report)> {
        self.links.calls.next_report()
    }

    /// Reads once from an outgoing connection, after [`Report::Readable`], and passes the MQTT bytes to `take`. If
    /// there may be more, [`Report::Readable`] is reported again.
    pub fn receive(&mut self, id: CallId, take: impl FnOnce(&[u8])) {
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), self.clock.now());
        calls.receive(id, take, &mut world);
    }

    /// Sends MQTT bytes on an outgoing connection, as many as it accepts now, and returns their number. If that is
    /// less than all of them, [`Report::Writable`] tells when more can be sent.
    pub fn send(&mut self, id: CallId, bytes: &[u8]) -> usize {
        self.links.calls.send(id, bytes)
    }

    /// Closes an outgoing connection, or abandons one that is not open yet. Nothing more is reported about it.
    pub fn hang_up(&mut self, id: CallId) {
        self.links.calls.hang_up(id, &mut self.resolver);
    }

    /// Replaces the system's name lookup; to be called before the first lookup.
    pub fn look_up_by(&mut self, look_up: LookUp) {
        self.resolver.look_up_by(look_up);
    }

    /// Handles a poller event of the outgoing connection with this number.
    #[inline(never)]
    pub(super) fn handle_call_event(&mut self, number: usize, event: &Event, now: Time) {
        let (calls, mut world) = self.links.outgoing(self.poll.registry(), now);
        if !calls.is_empty() {
            calls.handle_event(number, event, &mut world);
        }
    }

    /// Handles the addresses that have arrived, and gives up attempts that have taken too long.
    #[inline]
    pub(super) fn handle_calls(&mut self, now: Time) {
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

    /// When there is something to do here, if nothing happens before.
    pub(super) fn calls_due(&self) -> Option<Time> {
        #[cfg(feature = "system")]
        let reload = self.reloading.as_ref().map(|reloading| reloading.due());
        #[cfg(not(feature = "system"))]
        let reload = None;
        let due = if self.links.calls.is_empty() { None } else { self.links.calls.due() };
        due.into_iter().chain(reload).min()
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
