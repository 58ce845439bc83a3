//! The disk below the broker: it takes one batch at a time and makes it durable later, and serves reads in between; it
//! may be full. After a crash of the broker, its contents are all that the next broker starts with.

use std::collections::BTreeMap;

use brooklet::base::time::{Duration, Time};
use brooklet::core::broker::{Broker, Statistics};
use brooklet::core::journal::{Batch, Fetch, Need, NextNumbers, Pace, Record, Restored, Room, StoredSession};
use brooklet::core::message::Portable;

use crate::chance::Chance;
use crate::machine::Machine;
use crate::plan::DiskPlan;
use crate::store::{Epoch, Store};
use crate::world::World;

/// The latest time that the clock of a new broker may show when it starts.
const LATEST_BEGINNING: u64 = 5_000;

/// A batch that is being written.
struct Writing {
    batch: Batch,
    /// When it will be durable, in the world's time.
    done: Time,
}

pub struct Disk {
    pub plan: DiskPlan,
    pub store: Store,
    machine: Machine,
    chance: Chance,
    busy: Option<Writing>,
    /// What is to be read, and when some of it is.
    wanted: Vec<Fetch>,
    read_at: Time,
    room: Room,
    /// The number of batches closed since there was space, or work from before.
    lean: usize,
    /// Whether it has changed since it was last compared with what it should hold.
    has_changed: bool,
}

impl Disk {
    pub fn new(plan: DiskPlan, chance: Chance) -> Self {
        Self {
            plan,
            store: Store::default(),
            machine: Machine::new(),
            chance,
            busy: None,
            wanted: Vec::new(),
            read_at: Time::ZERO,
            room: Room::Enough,
            lean: 0,
            has_changed: false,
        }
    }

    /// When the batch being written is durable, or something has been read.
    pub fn done_at(&self) -> Option<Time> {
        let written = self.busy.as_ref().filter(|_| self.room != Room::Gone).map(|writing| writing.done);
        let read = (!self.wanted.is_empty()).then_some(self.read_at);
        written.into_iter().chain(read).min()
    }

    /// How long the disk takes for an operation.
    fn wait(&mut self, is_calm: bool) -> Duration {
        let longest = if self.chance.percent(self.plan.slow) { 3_000 } else { self.plan.longest };
        Duration::from_milliseconds(if is_calm { 0 } else { self.chance.between(0, longest) })
    }

    fn take(&mut self, batch: Batch, now: Time, is_calm: bool) {
        let done = now + self.wait(is_calm);
        self.busy = Some(Writing { batch, done });
    }

    /// Adds fetches; earlier ones may be answered first.
    fn want(&mut self, fetches: Vec<Fetch>, now: Time, is_calm: bool) {
        if self.wanted.is_empty() {
            self.read_at = now + self.wait(is_calm);
        }
        self.wanted.extend(fetches);
    }

    /// Checks that whatever needs space was refused without it: then a batch holds only what replaces something. The
    /// first batches may hold what was accepted before, and messages that move from one group member to another look
    /// like new ones.
    fn weigh(&mut self, batch: &Batch, is_uncertain: bool) {
        if self.room == Room::Enough || is_uncertain {
            self.lean = 0;
            return;
        }
        self.lean += 1;
        if self.lean <= 2 {
            return;
        }
        for record in &batch.records {
            let is_in_place = match record {
                // This may end a session that the client had before.
                Record::Session(session) => {
                    let is_same =
                        |known: &StoredSession| known.client_identifier == session.client_identifier;
                    self.store.sessions.values().any(is_same)
                }
                Record::Subscribed(session, subscription) => {
                    self.store.subscriptions.contains_key(&(*session, subscription.filter.clone()))
                }
                record => record.need() < Need::Room,
            };
            assert!(is_in_place, "there is no room for {record:?}");
        }
    }

    /// Makes a batch durable. It may be written twice, since the progress of a failed attempt is unknown.
    fn write(&mut self, writing: &Writing) {
        self.has_changed = true;
        let closed = self.machine.line(writing.batch.now);
        self.store.apply(&writing.batch, closed);
        if self.chance.percent(self.plan.repeated) {
            self.store.apply(&writing.batch, closed);
        }
    }

    /// Takes some of the fetches: sometimes not all sessions, or not all messages of one.
    fn take_wanted(&mut self) -> Vec<Fetch> {
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for mut fetch in std::mem::take(&mut self.wanted) {
            let count = match self.chance.percent(self.plan.repeated) {
                true => self.chance.below(fetch.messages.len() + 1),
                false => fetch.messages.len(),
            };
            let later = fetch.messages.split_off(count);
            if !later.is_empty() {
                left.push(Fetch { session: fetch.session, messages: later });
            }
            if !fetch.messages.is_empty() {
                taken.push(fetch);
            }
        }
        self.wanted = left;
        taken
    }

    /// The time of a new broker, and the state that it starts with.
    fn begin(&mut self, now: Time) -> (Epoch, NextNumbers, Vec<Restored>) {
        let here = Time::from_milliseconds(self.chance.between(0, LATEST_BEGINNING));
        let here = here.min(now);
        self.machine.resume(here, now);
        let epoch = Epoch::new(here, self.machine.line(here));
        let (next, restored) = self.store.restore(epoch, now, &mut self.chance);
        (epoch, next, restored)
    }

    fn pace(&self) -> Pace {
        Pace {
            holds: self.plan.holds,
            urgent: Duration::from_milliseconds(self.plan.urgent),
            lazy: Duration::from_milliseconds(self.plan.lazy),
        }
    }
}

impl World {
    /// Whether the store has work that something may wait for.
    pub fn is_store_busy(&self) -> bool {
        let Some(disk) = &self.disk else { return false };
        let soon = self.clock() + Duration::from_milliseconds(disk.plan.urgent);
        let is_writing = disk.busy.is_some() || self.broker.batch_due().is_some_and(|due| due <= soon);
        is_writing || !disk.wanted.is_empty() || self.broker.wants_pages()
    }

    /// Performs the work that the store has to do now. Returns whether there was any.
    pub fn serve_disk(&mut self) -> bool {
        let now = self.now;
        let Some(disk) = &mut self.disk else { return false };
        let has_place = disk.room != Room::Gone;
        if has_place && disk.busy.as_ref().is_some_and(|writing| writing.done <= now || self.is_calm) {
            self.finish_batch();
            return true;
        }
        if !disk.wanted.is_empty() && (disk.read_at <= now || self.is_calm) {
            self.finish_reading();
            return true;
        }
        let clock = self.epoch.to_broker(now);
        if self.broker.wants_pages() {
            self.begin_reading();
            return true;
        }
        if self.broker.batch_due().is_none_or(|due| due > clock && !self.is_calm) {
            return false;
        }
        self.oracle.batch_is_closed(disk.room == Room::Enough);
        match self.broker.take_batch(clock) {
            Some(batch) => {
                disk.weigh(&batch, self.broker.unfinished().next().is_some() || self.plan.shared.is_some());
                self.trace.note_number(batch.number);
                self.trace.note_number(batch.records.len() as u64);
                disk.take(batch, now, self.is_calm);
            }
            None => self.oracle.batch_is_durable(),
        }
        true
    }

    fn finish_batch(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let Some(writing) = disk.busy.take() else { return };
        disk.write(&writing);
        disk.machine.committed(self.epoch.to_broker(self.now), self.now);
        self.oracle.batch_is_durable();
        self.call(None, |broker, clock| broker.durable(writing.batch.number, clock), |_| ());
    }

    fn begin_reading(&mut self) {
        let fetches = self.call(None, |broker, clock| broker.take_fetches(clock), |_| ());
        self.trace.note_number(fetches.len() as u64);
        let Some(disk) = &mut self.disk else { return };
        disk.want(fetches, self.now, self.is_calm);
    }

    fn finish_reading(&mut self) {
        let (epoch, now) = (self.epoch, self.now);
        let Some(disk) = &mut self.disk else { return };
        let taken = disk.take_wanted();
        disk.read_at = now + disk.wait(self.is_calm);
        let pages = disk.store.read(&taken, epoch);
        self.call(None, |broker, clock| broker.pages(&pages, clock), |_| ());
    }

    /// When everything is durable, the store holds what the devices were promised, and nothing else.
    pub fn check_store(&mut self) {
        // Messages that no member has room for are offered again from time to time.
        let is_offered_again = self.broker.has_left_without_room();
        let is_at_rest = !self.is_store_busy() && !self.broker.has_work() && !is_offered_again;
        let Some(disk) = &mut self.disk else { return };
        if disk.has_changed && self.broker.is_durable() {
            disk.has_changed = false;
            self.oracle.check_store(&disk.store);
            let former = &disk.store.former;
            assert!(
                !is_at_rest || former.is_empty(),
                "{former:?} have left messages that go to no other member"
            );
        }
    }

    /// Sets how much space there is on disk. If it is gone, no batch becomes durable.
    pub fn set_storage_room(&mut self, room: Room) {
        let Some(disk) = &mut self.disk else { return };
        disk.room = room;
        if room == Room::Enough {
            disk.lean = 0;
        }
        self.oracle.set_storage_room(room);
        self.call_ending(|broker, clock| broker.set_storage_room(room, clock));
    }

    /// Sets the wall clock.
    pub fn set_clock(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        disk.machine.set_clock(self.now, &mut disk.chance);
    }

    /// Ends the broker's process and all connections. After some time, another broker starts.
    pub fn crash(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        if let Some(writing) = disk.busy.take()
            && disk.chance.percent(50)
        {
            disk.write(&writing);
            self.oracle.batch_is_durable();
        }
        disk.wanted.clear();
        let down = if disk.chance.percent(20) { 70_000 } else { 1_000 };
        let down = Duration::from_milliseconds(disk.chance.between(0, down));
        let clock = self.epoch.to_broker(self.now);
        self.now = disk.machine.restart(clock, self.now, down, &mut disk.chance);
        self.lose_links();
        let Some(disk) = &mut self.disk else { return };
        let (epoch, next, restored) = disk.begin(self.now);
        let pace = disk.pace();
        disk.room = Room::Enough;
        let (retained, begun) = (payloads(&disk.store), begun(&disk.store));
        let order = clients(&restored);
        self.oracle.crash(&retained, &begun, self.now);
        self.oracle.set_storage_room(Room::Enough);
        self.epoch = epoch;
        let clock = self.clock();
        self.broker = self.new_broker(clock);
        self.broker.begin_journal(next, pace);
        self.restore(restored, &order, clock);
        self.settle();
    }

    fn restore(&mut self, restored: Vec<Restored>, order: &[String], clock: Time) {
        for restored in restored {
            self.broker.restore(restored, clock);
        }
        self.broker.finish_restore(clock);
        let after = self.broker.statistics().clone();
        self.oracle.begin_call(&Statistics::default(), &after, self.now);
        let broker = &self.broker;
        self.oracle.pass(order, |client| broker.has_will(client));
        self.oracle.end_call();
        self.report_unfinished();
    }

    fn new_broker(&mut self, clock: Time) -> Broker {
        self.generation += 1;
        self.begin_broker(clock)
    }

    /// The broker of a new world starts with an empty store.
    pub fn begin_disk(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        let (_, next, _) = disk.begin(self.now);
        self.broker.begin_journal(next, disk.pace());
        self.oracle.begin_durability(disk.plan.holds);
    }
}

fn payloads(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let payload =
        |(topic, message): (&String, &Portable)| (topic.clone(), message.publication().payload.to_vec());
    store.retained.iter().map(payload).collect()
}

/// The QoS 1 deliveries that have begun, by client: the Packet Identifier and the message.
fn begun(store: &Store) -> BTreeMap<String, Vec<(u16, Portable)>> {
    let mut begun = BTreeMap::<String, Vec<(u16, Portable)>>::new();
    for unsettled in store.messages.values() {
        for recipient in &unsettled.open {
            let session = store.sessions.get(&recipient.session);
            if let (Some(identifier), Some(session)) = (recipient.identifier, session) {
                let of_client = begun.entry(session.client_identifier.clone()).or_default();
                of_client.push((identifier.value(), unsettled.message.clone()));
            }
        }
    }
    begun
}

/// The clients of the sessions that are restored, in order.
fn clients(restored: &[Restored]) -> Vec<String> {
    let sessions = restored.iter().filter_map(|restored| match restored {
        Restored::Session(session) => Some(session.client_identifier.clone()),
        _ => None,
    });
    sessions.collect()
}
