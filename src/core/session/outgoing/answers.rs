//! The answers of clients to messages, and when a message is sent again because none came.

use super::{InFlight, Outgoing, Queued, Settled, Stage};
use crate::base::time::{Duration, Time};
use crate::core::message::Spares;
use crate::protocol::codec::{PacketIdentifier, QoS};

impl Outgoing {
    /// Handles a PUBACK [MQTT-4.3.2-3].
    #[inline(never)]
    pub fn acknowledge(&mut self, identifier: PacketIdentifier, spares: &mut Spares) -> Settled {
        match self.find(identifier) {
            Some(index) if self.awaits_puback(index) => self.end_acknowledged(index, spares),
            _ => self.acknowledge_otherwise(identifier, spares),
        }
    }

    #[inline]
    fn awaits_puback(&self, index: usize) -> bool {
        matches!(&self.in_flight[index].stage, Stage::Publish(queued) if queued.qos == QoS::AtLeastOnce)
    }

    #[inline(always)]
    fn end_acknowledged(&mut self, index: usize, spares: &mut Spares) -> Settled {
        let former = self.settle(index);
        self.let_message_go(former, spares);
        Settled::Done
    }

    /// Handles a PUBACK that does not answer a delivery in its place.
    #[cold]
    fn acknowledge_otherwise(&mut self, identifier: PacketIdentifier, spares: &mut Spares) -> Settled {
        if self.is_in_place(identifier) {
            return Settled::OutOfPlace;
        }
        self.answer_aside(identifier, |this, index| match this.awaits_puback(index) {
            true => this.end_acknowledged(index, spares),
            false => Settled::OutOfPlace,
        })
    }

    /// Handles a PUBREC: the message is done, and its PUBREL is due [MQTT-4.3.3-4], or the delivery is over if the
    /// client refused it [MQTT-4.4.0-2]. A repeat asks for the PUBREL once more.
    #[inline(never)]
    pub fn receive(
        &mut self,
        identifier: PacketIdentifier,
        is_refused: bool,
        spares: &mut Spares,
    ) -> Settled {
        match self.find(identifier) {
            Some(index) if self.awaits_pubrec(index) => self.take_pubrec(index, is_refused, spares),
            _ => self.receive_otherwise(identifier, is_refused, spares),
        }
    }

    #[inline]
    fn awaits_pubrec(&self, index: usize) -> bool {
        matches!(&self.in_flight[index].stage, Stage::Publish(queued) if queued.qos == QoS::ExactlyOnce)
    }

    #[inline(always)]
    fn take_pubrec(&mut self, index: usize, is_refused: bool, spares: &mut Spares) -> Settled {
        let former = match is_refused {
            true => self.settle(index),
            false => self.replace_stage(index, Stage::Release),
        };
        self.let_message_go(former, spares);
        Settled::Done
    }

    /// Handles a PUBREC that is the first answer to a delivery in its place, and notes that its PUBREL is queued, as
    /// [`Outgoing::released`] does. Returns the copy, which is done; `None` if this is any other PUBREC.
    #[inline(always)]
    pub fn release(
        &mut self,
        identifier: PacketIdentifier,
        now: Time,
        ends_at: u64,
        awaited: u64,
    ) -> Option<Queued> {
        let index = self.find(identifier).filter(|&index| self.awaits_pubrec(index))?;
        let released = InFlight { stage: Stage::Release, queued_at: now, ends_at, retries: 0, awaited };
        match std::mem::replace(&mut self.in_flight[index], released).stage {
            Stage::Publish(queued) => Some(queued),
            Stage::Prepared(_) | Stage::Release | Stage::Settled | Stage::Aside(_) => None,
        }
    }

    /// Handles a PUBREC that is not the first answer to a delivery in its place.
    #[cold]
    fn receive_otherwise(
        &mut self,
        identifier: PacketIdentifier,
        is_refused: bool,
        spares: &mut Spares,
    ) -> Settled {
        let repeat = |this: &Self, index| match this.awaits_pubcomp(index) {
            // It is too late to refuse a message that was received.
            true if is_refused => Settled::Unknown,
            true => Settled::Repeated,
            false => Settled::OutOfPlace,
        };
        if self.is_in_place(identifier) {
            return self.find(identifier).map_or(Settled::Unknown, |index| repeat(self, index));
        }
        self.answer_aside(identifier, |this, index| match this.awaits_pubrec(index) {
            true => this.take_pubrec(index, is_refused, spares),
            false => repeat(this, index),
        })
    }

    /// Notes when the PUBREL that answers a PUBREC was queued. It leaves when the batch `awaited` is durable.
    #[inline]
    pub fn released(&mut self, identifier: PacketIdentifier, now: Time, ends_at: u64, awaited: u64) {
        let in_place = self.find(identifier).filter(|&index| self.awaits_pubcomp(index));
        if let Some(index) = in_place.or_else(|| self.find_aside(identifier)) {
            let entry = &mut self.in_flight[index];
            entry.queued_at = now;
            entry.ends_at = ends_at;
            entry.retries = 0;
            entry.awaited = awaited;
        }
    }

    /// Handles a PUBCOMP [MQTT-4.3.3-5].
    #[inline(never)]
    pub fn complete(&mut self, identifier: PacketIdentifier) -> Settled {
        match self.find(identifier) {
            Some(index) if self.awaits_pubcomp(index) => self.end_released(index),
            _ => self.complete_otherwise(identifier),
        }
    }

    #[inline(always)]
    fn end_released(&mut self, index: usize) -> Settled {
        // It holds nothing to free, and checking that would cost a call.
        std::mem::forget(self.settle(index));
        Settled::Done
    }

    #[inline]
    fn awaits_pubcomp(&self, index: usize) -> bool {
        matches!(self.in_flight[index].stage, Stage::Release)
    }

    /// Handles a PUBCOMP that does not answer a delivery in its place.
    #[cold]
    fn complete_otherwise(&mut self, identifier: PacketIdentifier) -> Settled {
        if self.is_in_place(identifier) {
            return Settled::OutOfPlace;
        }
        self.answer_aside(identifier, |this, index| match this.awaits_pubcomp(index) {
            true => this.end_released(index),
            false => Settled::OutOfPlace,
        })
    }

    /// Whether the delivery with this identifier was sent on this connection, is not over, and was not set aside.
    pub(super) fn is_in_place(&self, identifier: PacketIdentifier) -> bool {
        let is_over_or_aside =
            |index: usize| matches!(self.in_flight[index].stage, Stage::Settled | Stage::Aside(_));
        self.find(identifier).is_some_and(|index| !is_over_or_aside(index))
    }

    /// Notes that a packet that requires an answer is sent now. Returns whether it is the first one at this moment; the
    /// timer that is set for it serves the others, too.
    #[inline]
    pub fn is_first_at(&mut self, now: Time) -> bool {
        std::mem::replace(&mut self.times.sent, now) != now
    }

    /// Notes that an answer of the client has moved or ended a delivery. No other answer shows what has reached
    /// the client.
    #[inline]
    pub const fn progress(&mut self, now: Time) {
        self.times.progressed = now;
    }

    /// When the oldest packet that was sent on this connection and is not acknowledged is due to be sent again, on a
    /// connection with redelivery. This is a pause after it was last sent and after the client's latest answer; the
    /// pause doubles each time. [`Time::NEVER`] if there is no such packet.
    pub fn redelivery_due(&self, interval: Duration) -> Time {
        match self.in_flight.front().filter(|_| self.window.sent > 0) {
            Some(oldest) => {
                oldest.queued_at.max(self.times.progressed) + interval.doubled(u32::from(oldest.retries))
            }
            None => Time::NEVER,
        }
    }

    /// Whether that packet has left the outbox, which has sent `sent` bytes, if all batches up to `durable` are
    /// durable.
    pub fn has_left(&self, sent: u64, durable: u64) -> bool {
        self.in_flight.front().is_some_and(|oldest| oldest.ends_at <= sent && oldest.awaited <= durable)
    }

    /// Notes that the packet has been queued again.
    pub fn retried(&mut self, now: Time, ends_at: u64) {
        if let Some(oldest) = self.in_flight.front_mut() {
            oldest.queued_at = now;
            oldest.ends_at = ends_at;
            oldest.retries = oldest.retries.saturating_add(1);
        }
    }

    /// Notes that nothing waits for an answer and no timer is set: the next packet is the first one again.
    pub const fn rest(&mut self) {
        self.times.sent = Time::NEVER;
    }
}
