//! Messages that leave a session other than to its client.

use std::collections::VecDeque;

use super::{InFlight, Outgoing, Queued, Stage};
use crate::core::subscription::GroupId;
use crate::protocol::codec::QoS;

/// One item that a session has left.
#[derive(Debug)]
pub struct Leftover {
    /// The message, if it was one.
    pub queued: Option<Queued>,
    /// Whether another member of its Shared Subscription may have it.
    pub may_move: bool,
}

impl Outgoing {
    /// Removes the queued messages that may go to another member of their Shared Subscription. In the store they still
    /// belong to this session until they have gone there.
    pub fn take_shared(&mut self, mut wanted: impl FnMut(GroupId) -> bool) -> VecDeque<Queued> {
        if !self.queue.iter().any(|queued| queued.group.is_some_and(&mut wanted)) {
            return VecDeque::new();
        }
        let moving = self.queue.take(|queued| queued.group.is_some_and(&mut wanted));
        self.count();
        moving
    }

    /// Whether any message that came by a Shared Subscription is queued or in flight.
    pub fn has_shared(&self) -> bool {
        self.queue
            .iter()
            .chain(self.in_flight.iter().filter_map(InFlight::queued))
            .any(|queued| queued.group.is_some())
            || self.backlog.as_ref().is_some_and(|backlog| backlog.has_shared())
    }

    /// Removes the next message of a session that is over: first those in flight, then the queued ones.
    pub fn pop_leftover(&mut self) -> Option<Leftover> {
        (self.window.sent, self.window.unsettled) = (0, 0);
        if !self.in_flight.is_empty() {
            self.forget_aside(0);
        }
        if let Some(stage) = self.pop_first() {
            self.forget_settled();
            return Some(match stage {
                // A QoS 2 delivery that has begun may not go to another member [MQTT-4.8.2-5].
                Stage::Publish(queued) => {
                    Leftover { may_move: queued.qos == QoS::AtLeastOnce, queued: Some(queued) }
                }
                Stage::Prepared(queued) => Leftover { may_move: false, queued: Some(queued) },
                Stage::Release | Stage::Settled | Stage::Aside(_) => {
                    Leftover { may_move: false, queued: None }
                }
            });
        }
        if let Some(queued) = self.queue.pop() {
            return Some(Leftover { may_move: true, queued: Some(queued) });
        }
        self.retained_sends.take_any().map(|_| Leftover { may_move: false, queued: None })
    }
}
