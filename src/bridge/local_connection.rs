//! The connection of a bridge to its own broker, in memory: bytes go from the machine to the core and back.

use std::io::{self, Write};

use crate::base::memory::Account;
use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::bridge::machine::Machine;
use crate::core::broker::{Broker, Intake};
use crate::core::listener::ListenerId;
use crate::core::slots::ConnectionId;

/// The bytes taken from the core at once, beyond the last piece of its outbox.
const ROOM: usize = 64 * 1024;

/// A connection to the core.
#[derive(Debug)]
pub struct LocalConnection {
    id: ConnectionId,
    /// How many bytes wait in the core for their turn. Until it has processed them, it takes no more, and the machine
    /// takes them for not sent: it closes the connection only after its last packet was processed.
    waiting: Option<usize>,
    /// Whether the core could give more bytes than were taken.
    is_full: bool,
}

/// Passes the bytes of the core to the machine, up to a limit and as long as it takes them.
struct Feed<'a> {
    machine: &'a mut Machine,
    room: usize,
    is_full: bool,
    now: Time,
}

impl Write for Feed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 || !self.machine.takes_local() {
            self.is_full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // The core counts what it allocates on its own account while it is called. The machine is not a part of it.
        let outside = Account::of_thread();
        let _entered = outside.enter();
        let count = self.machine.local_received(bytes, self.now);
        self.room = self.room.saturating_sub(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LocalConnection {
    /// Opens a connection; `None` if there is no room for it.
    pub fn open(broker: &mut Broker, listener: ListenerId, now: Time) -> Option<Self> {
        let id = broker.accept(Peer::Local, listener, now)?;
        Some(Self { id, waiting: None, is_full: false })
    }

    /// Its number in the core.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Ends the connection.
    pub fn close(self, broker: &mut Broker, now: Time) {
        broker.closed(self.id, "the bridge has closed", now);
    }

    /// The core has processed everything and takes bytes again.
    pub fn resume(&mut self, machine: &mut Machine, now: Time) {
        if let Some(count) = self.waiting.take() {
            machine.local_sent(count, now);
        }
    }

    /// Whether bytes can be passed on at once.
    pub fn is_busy(&self, machine: &Machine) -> bool {
        self.is_full && machine.takes_local() || self.waiting.is_none() && !machine.local_output().is_empty()
    }

    /// Passes on what the machine has to say.
    pub fn send(&mut self, broker: &mut Broker, machine: &mut Machine, now: Time) {
        let bytes = machine.local_output();
        if self.waiting.is_some() || bytes.is_empty() {
            return;
        }
        let count = bytes.len();
        match broker.received(self.id, bytes, now) {
            Intake::Paused => self.waiting = Some(count),
            Intake::More => machine.local_sent(count, now),
        }
    }

    /// Passes on what the core has to say, as far as the machine takes it. What the core withholds until it is durable
    /// does not count: the connection becomes dirty when it may leave.
    pub fn receive(&mut self, broker: &mut Broker, machine: &mut Machine, now: Time) {
        if !machine.takes_local() {
            self.is_full |= broker.has_output(self.id);
            return;
        }
        if std::mem::take(&mut self.is_full) {
            broker.writable(self.id);
        }
        if !broker.has_output(self.id) {
            return;
        }
        let mut feed = Feed { machine, room: ROOM, is_full: false, now };
        let taken = broker.write_to(self.id, &mut feed, now);
        assert!(taken.is_ok(), "the machine takes bytes or says that it does not");
        self.is_full = feed.is_full;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::rc::Rc;

    use super::*;
    use crate::base::time::Duration;
    use crate::bridge::machine::tests::rig::settings;
    use crate::bridge::machine::{Action, Condition};
    use crate::core::access::AllowAll;
    use crate::core::broker::Effect;
    use crate::core::journal::{MessageNumber, NextNumbers, Pace, SessionNumber};
    use crate::core::limits::Limits;
    use crate::protocol::codec::ProtocolVersion;

    /// A broker that makes nothing durable before it is told to.
    fn broker() -> Broker {
        let mut broker = Broker::new(Limits::default(), Box::new(AllowAll), 1, Time::ZERO);
        let next =
            NextNumbers { session: SessionNumber(NonZeroU64::MIN), message: MessageNumber(NonZeroU64::MIN) };
        broker.begin_journal(next, Pace { holds: true, urgent: Duration::ZERO, lazy: Duration::ZERO });
        broker
    }

    /// Ends the turn of the core, and goes on with what waits for the next one.
    fn begin_turn(broker: &mut Broker, machine: &mut Machine, local: &mut LocalConnection, now: Time) {
        broker.tick(now, 1_000);
        while let Some(effect) = broker.next_effect() {
            if let Effect::Resume(id) = effect
                && broker.resume(id, now) == Intake::More
                && id == local.id()
            {
                local.resume(machine, now);
            }
        }
    }

    #[test]
    fn a_connection_ends_after_its_last_packet_was_processed() {
        let now = Time::ZERO;
        let limits = Limits { steps_per_turn: 64, ..Limits::default() };
        let mut broker = Broker::new(limits, Box::new(AllowAll), 1, now);
        let mut machine = Machine::new(Rc::new(settings(ProtocolVersion::V5)), 100_000, 1, now);
        let mut local = LocalConnection::open(&mut broker, ListenerId::default(), now).unwrap();
        assert_eq!(machine.next_action(), Some(Action::OpenLocal));

        // Another client has used up the turn.
        let other = broker.accept(Peer::Local, ListenerId::default(), now).unwrap();
        let mut bytes = b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0".to_vec();
        bytes.extend(b"\xc0\0".repeat(1_000));
        assert_eq!(broker.received(other, &bytes, now), Intake::Paused);
        machine.shut_down(now);
        local.send(&mut broker, &mut machine, now);
        assert!(!machine.is_over() && machine.next_action().is_none() && !local.is_busy(&machine));

        for _ in 0..1_000 {
            begin_turn(&mut broker, &mut machine, &mut local, now);
        }
        assert!(machine.is_over());
        assert_eq!(machine.next_action(), Some(Action::CloseLocal));
        assert_eq!(broker.census().retained, 1, "it was told that the bridge is not connected");
    }

    #[test]
    fn answers_that_are_not_durable_keep_the_bridge_waiting_and_not_busy() {
        let now = Time::ZERO;
        let mut broker = broker();
        let mut machine = Machine::new(Rc::new(settings(ProtocolVersion::V5)), 100_000, 1, now);
        let mut local = LocalConnection::open(&mut broker, ListenerId::default(), now).unwrap();
        for _ in 0..10 {
            local.send(&mut broker, &mut machine, now);
            local.receive(&mut broker, &mut machine, now);
        }
        assert!(broker.has_output(local.id()) && !local.is_busy(&machine));
        assert_eq!(machine.status().condition, Condition::Preparing);
        for _ in 0..5 {
            if let Some(batch) = broker.take_batch(now) {
                broker.durable(batch.number, now);
            }
            broker.tick(now, 10);
            local.send(&mut broker, &mut machine, now);
            local.receive(&mut broker, &mut machine, now);
        }
        assert_ne!(machine.status().condition, Condition::Preparing, "SUBACK has come");
    }
}
