//! Joins the machine of a bridge with the near core and with the link to the far one, as the server does with sockets.

use std::rc::Rc;

use brooklet::base::time::{Duration, Time};
use brooklet::bridge::local_connection::LocalConnection;
use brooklet::bridge::machine::{Action, Machine};
use brooklet::core::slots::ConnectionId;
use brooklet::settings::Bridge;

use super::node::{BRIDGE, Node, Owner};
use crate::chance::Chance;

/// The bytes given to the machine at once.
const READ_SIZE: usize = 16 * 1024;

/// The directions of the link.
pub const UP: usize = 0;
pub const DOWN: usize = 1;

/// The link to the far broker.
pub struct Link {
    /// The bytes that may be on the way in each direction.
    pub room: usize,
    /// The bytes that may pass in each direction until the next step.
    pub allowed: [usize; 2],
    pub is_blocked: [bool; 2],
}

impl Link {
    const fn most(&self, direction: usize) -> usize {
        if self.is_blocked[direction] { 0 } else { self.allowed[direction] }
    }

    const fn passes(&mut self, direction: usize, count: usize) {
        self.allowed[direction] = self.allowed[direction].saturating_sub(count);
    }
}

/// The connection to the far broker.
enum Remote {
    None,
    Dialling {
        until: Time,
    },
    Open(ConnectionId),
    /// It is cut, and the machine does not know. It takes so many bytes more, as a socket does.
    Dead {
        takes: usize,
    },
}

pub struct Joint {
    settings: Rc<Bridge>,
    pub machine: Machine,
    local: Option<LocalConnection>,
    remote: Remote,
    pub link: Link,
    /// What the machine had to say.
    pub lines: Vec<String>,
    /// How often the far broker was reached.
    pub connects: u64,
    /// Messages that machines before this one have dropped.
    dropped_before: u64,
    /// When this machine began.
    began: Time,
    seed: u64,
}

impl Joint {
    pub fn new(settings: Rc<Bridge>, packet_size: usize, room: usize, seed: u64) -> Self {
        Self {
            machine: Machine::new(Rc::clone(&settings), packet_size, seed, Time::ZERO),
            settings,
            local: None,
            remote: Remote::None,
            link: Link { room, allowed: [usize::MAX; 2], is_blocked: [false; 2] },
            lines: Vec::new(),
            connects: 0,
            dropped_before: 0,
            began: Time::ZERO,
            seed,
        }
    }

    /// The near broker has crashed, and with it the machine. The far one learns of it at some time.
    pub fn crash(&mut self, far: &mut Node, until: Time, now: Time, chance: &mut Chance) {
        self.abandon(far, now, chance);
        self.local = None;
        self.dropped_before = self.dropped();
        self.seed += 1_000_000;
        self.began = until;
        let packet_size = brooklet::core::limits::Limits::default().packet_size;
        self.machine = Machine::new(Rc::clone(&self.settings), packet_size, self.seed, until);
    }

    /// Messages that could not be forwarded.
    pub fn dropped(&self) -> u64 {
        self.dropped_before + self.machine.status().dropped
    }

    /// Asserts that no more messages were forwarded per second than allowed.
    pub fn check_pace(&self, now: Time) {
        if let Some(rate) = self.settings.queue.rate.map(u64::from) {
            let most = rate * now.since(self.began).milliseconds() / 1_000 + rate / 10 + 2;
            assert!(self.machine.status().forwarded <= most, "more than {rate} per second");
        }
    }

    /// When something is due next.
    pub fn due(&self) -> Option<Time> {
        let dialled = match self.remote {
            Remote::Dialling { until } => Some(until),
            _ => None,
        };
        self.machine.next_deadline().into_iter().chain(dialled).min()
    }

    /// The far broker sees the end of the connection at some time, and may still process what is on its way.
    fn abandon(&mut self, far: &mut Node, now: Time, chance: &mut Chance) {
        let Remote::Open(id) = std::mem::replace(&mut self.remote, Remote::None) else { return };
        let Some(wire) = far.wires.get_mut(&id) else { return };
        wire.up.truncate(chance.below(wire.up.len() + 1));
        let later = Duration::from_milliseconds(chance.between(0, 100_000));
        wire.owner = Owner::Gone(chance.pick(&[now, now, now + later, Time::NEVER]));
    }

    /// The link is cut. What is on its way may arrive in part. The machine may learn of it at once.
    pub fn cut(&mut self, far: &mut Node, now: Time, chance: &mut Chance) {
        let Remote::Open(id) = self.remote else { return };
        let arriving = chance.below(far.wires.get(&id).map_or(0, |wire| wire.down.len()) + 1);
        let bytes = far.take_down(id, arriving);
        if self.machine.takes_remote() && !bytes.is_empty() {
            self.machine.remote_received(&bytes, now);
        }
        self.abandon(far, now, chance);
        self.breaks(now, chance);
    }

    /// The far broker has crashed.
    pub fn far_has_crashed(&mut self, now: Time, chance: &mut Chance) {
        if matches!(self.remote, Remote::Open(_)) {
            self.breaks(now, chance);
        }
    }

    fn breaks(&mut self, now: Time, chance: &mut Chance) {
        if chance.percent(60) {
            self.remote = Remote::None;
            self.machine.remote_closed("the connection was reset", now);
        } else {
            self.remote = Remote::Dead { takes: self.link.room };
        }
    }

    /// Whether the far broker was ever not told that this is a bridge. Then it may send back what it was sent, and the
    /// bridge recognizes that only for a while and until it crashes.
    pub fn was_plain(&self) -> bool {
        self.lines.iter().any(|line| line.ends_with("with MQTT 3.1.1."))
    }

    /// Whether the link is cut and the machine does not know.
    pub const fn is_dead(&self) -> bool {
        matches!(self.remote, Remote::Dead { .. })
    }

    /// The core takes bytes again.
    pub fn resume(&mut self, id: ConnectionId, now: Time) {
        if let Some(local) = self.local.as_mut().filter(|local| local.id() == id) {
            local.resume(&mut self.machine, now);
        }
    }

    /// The core ends the connection.
    pub fn close_local(&mut self, id: ConnectionId, near: &mut Node, now: Time) {
        if self.local.as_ref().is_some_and(|local| local.id() == id) {
            self.receive_from_local(near, now);
            self.close_side_here(near, now);
            self.machine.local_closed("this broker has closed the connection", now);
        }
    }

    /// Passes bytes on in both directions. Returns whether any moved.
    pub fn run(&mut self, near: &mut Node, far: &mut Node, now: Time, chance: &mut Chance) -> bool {
        self.machine.queued(near.broker.waiting_messages(&self.settings.local.client_identifier), now);
        self.machine.tick(now);
        let has_acted = self.act(near, far, now, chance);
        let has_dialled = self.dial(far, now);
        let has_passed = self.pass_to_remote(far, now) | self.receive_from_remote(far, now);
        let is_busy = self.run_local(near, now);
        self.act(near, far, now, chance) || has_acted || has_dialled || has_passed || is_busy
    }

    fn act(&mut self, near: &mut Node, far: &mut Node, now: Time, chance: &mut Chance) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.machine.next_action() {
            has_acted = true;
            match action {
                Action::OpenLocal => {
                    assert!(self.local.is_none(), "there is a connection already");
                    self.local = LocalConnection::open(&mut near.broker, BRIDGE, now);
                }
                Action::CloseLocal => self.close_side_here(near, now),
                Action::Dial(_) => {
                    let until = now + Duration::from_milliseconds(chance.between(0, 50));
                    self.remote = Remote::Dialling { until };
                }
                Action::Probe(_) => panic!("there is only one address"),
                Action::HangUp => {
                    self.abandon(far, now, chance);
                    self.remote = Remote::None;
                }
                Action::ForgetReceived => {
                    let client_identifier = &self.settings.local.client_identifier;
                    near.broker.forget_received(client_identifier);
                    near.broker.owe_all_retained(client_identifier, now);
                }
                Action::CatchUp => near.broker.catch_up(&self.settings.local.client_identifier, now),
            }
        }
        while let Some((level, line)) = self.machine.next_line() {
            self.lines.push(format!("{} {level} {line}", now.milliseconds()));
        }
        has_acted
    }

    fn dial(&mut self, far: &mut Node, now: Time) -> bool {
        if !matches!(self.remote, Remote::Dialling { until } if until <= now) {
            return false;
        }
        self.remote = Remote::None;
        if far.is_up() {
            self.connects += 1;
            self.remote = Remote::Open(far.accept(Owner::Bridge, self.link.room, now));
            self.machine.connected(now);
        } else {
            self.machine.dial_failed("connection refused", now);
        }
        true
    }

    fn pass_to_remote(&mut self, far: &mut Node, now: Time) -> bool {
        let bytes = self.machine.remote_output();
        let count = match &mut self.remote {
            Remote::Open(id) => {
                let Some(wire) = far.wires.get_mut(id) else { return false };
                let count = bytes.len().min(self.link.room.saturating_sub(wire.up.len()));
                wire.up.extend(&bytes[..count]);
                count
            }
            Remote::Dead { takes } => {
                let count = bytes.len().min(*takes);
                *takes -= count;
                count
            }
            Remote::None | Remote::Dialling { .. } => 0,
        };
        if count > 0 {
            self.machine.remote_sent(count, now);
        }
        if let Remote::Open(id) = self.remote {
            let before = far.wires.get(&id).map_or(0, |wire| wire.up.len());
            far.deliver_up(id, self.link.most(UP), now);
            let after = far.wires.get(&id).map_or(0, |wire| wire.up.len());
            self.link.passes(UP, before - after);
            return count > 0 || before > after;
        }
        count > 0
    }

    fn close_side_here(&mut self, near: &mut Node, now: Time) {
        if let Some(local) = self.local.take() {
            local.close(&mut near.broker, now);
        }
    }

    fn receive_from_remote(&mut self, far: &mut Node, now: Time) -> bool {
        let Remote::Open(id) = self.remote else { return false };
        if far.is_finished(id) {
            self.remote = Remote::None;
            far.close(id, now);
            self.machine.remote_closed("the connection was closed", now);
            return true;
        }
        if !self.machine.takes_remote() {
            return false;
        }
        let bytes = far.take_down(id, self.link.most(DOWN).min(READ_SIZE));
        if bytes.is_empty() {
            return false;
        }
        self.link.passes(DOWN, bytes.len());
        self.machine.remote_received(&bytes, now);
        true
    }

    fn receive_from_local(&mut self, near: &mut Node, now: Time) {
        if let Some(local) = &mut self.local {
            local.receive(&mut near.broker, &mut self.machine, now);
        }
    }

    /// Passes bytes on between the machine and the core. Returns whether that is to be done again.
    fn run_local(&mut self, near: &mut Node, now: Time) -> bool {
        if let Some(local) = &mut self.local {
            local.send(&mut near.broker, &mut self.machine, now);
        }
        self.receive_from_local(near, now);
        self.local.as_ref().is_some_and(|local| local.is_busy(&self.machine))
    }
}
