//! Messages of QoS 0 from another node of the cluster, on the short way.

use std::rc::Rc;

use super::shortcut::{Shortcut, note};
use super::{Broker, Matched, RUN_BYTES, is_plain_topic, steps};
use crate::core::limits::COPIED_PAYLOAD_MAXIMUM;
use crate::core::message::Outbound;
use crate::protocol::codec::{
    Delivery, PACKET_SIZE_MAXIMUM, PlainRun, ProtocolVersion, QoS, Status, frame, unchecked_publish,
};

impl Broker {
    /// Publishes as many packets of another node as can be published together. Returns their length, or `None` if the
    /// first one is left to the full path.
    #[inline]
    pub(in super::super) fn try_batch_of_node(
        &mut self,
        bytes: &[u8],
        version: ProtocolVersion,
    ) -> Option<usize> {
        if !self.options.may_be_short() {
            return None;
        }
        self.try_run_of_node(bytes, version).or_else(|| self.try_one_of_node(bytes, version))
    }

    fn try_run_of_node(&mut self, bytes: &[u8], version: ProtocolVersion) -> Option<usize> {
        let run = PlainRun::new(bytes, version, COPIED_PAYLOAD_MAXIMUM, RUN_BYTES);
        if run.count < 2 || self.options.switches.raises_qos {
            return None;
        }
        let matched = self.known_subscribers(run.topic)?;
        let taken = steps::run(matched.subscribers().len(), run.bytes.len());
        if !self.is_run_for_all(&run, version, &matched) || !self.turn.has_room_for(taken) {
            return None;
        }
        self.turn.take(taken);
        note(Shortcut::RelayRun);
        self.output.statistics.received.count(run.count, run.payload_bytes);
        self.copy_run(&run, &matched);
        Some(run.bytes.len())
    }

    fn try_one_of_node(&mut self, bytes: &[u8], version: ProtocolVersion) -> Option<usize> {
        let Ok(Status::Complete(first)) = frame(bytes, PACKET_SIZE_MAXIMUM) else { return None };
        let unchecked = unchecked_publish(&first, version).ok()??;
        let publish = unchecked.plain(version).filter(|publish| publish.delivery == Delivery::AtMostOnce)?;
        let matched = self.known_subscribers(unchecked.topic)?;
        if !self.fits_share(&matched, QoS::AtMostOnce) {
            return None;
        }
        note(Shortcut::Relay);
        self.turn.take(steps::PACKET);
        self.output.statistics.received.count(1, publish.payload.len());
        let mut outbound = Outbound::plain(matched.topic(), &publish, !self.output.sender.must_look());
        self.persistence.begin_message(None);
        self.route_at_most_once(&mut outbound, None, &matched);
        Some(first.length)
    }

    /// Returns the subscribers of a topic, if they are known.
    fn known_subscribers(&mut self, topic: &[u8]) -> Option<Rc<Matched>> {
        is_plain_topic(topic).then(|| self.routing.match_cache.find(&self.routing.trie, topic))?
    }
}
