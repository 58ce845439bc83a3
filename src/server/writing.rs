//! Output: which links are written in a turn, in which order, and which of them are closed.

use std::io;

use super::Server;
use crate::base::time::Time;
use crate::core::slots::ConnectionId;

/// Connections written in a turn, in addition to those that are answered, and the bytes after which no other is
/// started.
const WRITES_PER_TURN: usize = 256;
const WRITTEN_BYTES_PER_TURN: u64 = 4 * 1024 * 1024;
/// Links that are closed in a turn.
const REAPED_PER_TURN: usize = 256;

impl Server {
    /// Handles that the socket of a link takes bytes again.
    pub(super) fn writable(&mut self, id: ConnectionId) {
        if self.broker.has_output(id) {
            self.broker.writable(id);
        }
        let layers = self.links.clients.find(id).and_then(|link| link.layers.as_ref());
        if layers.is_some_and(|layers| layers.has_output()) {
            self.links.unflushed.push(id);
        }
    }

    /// Writes to connections that were read in this turn, so that their answers do not wait for deliveries to others.
    pub(super) fn answer(&mut self, now: Time) {
        let mut answered = std::mem::take(&mut self.links.answered);
        for id in answered.drain(..) {
            self.write_one(id, now);
        }
        self.links.answered = answered;
    }

    /// Writes dirty connections once, as many as this turn has time for.
    pub(super) fn write(&mut self, now: Time) {
        let mut dirty = self.broker.take_dirty(std::mem::take(&mut self.links.dirty));
        self.links.writing.extend(dirty.drain(..));
        self.links.dirty = dirty;
        let before = self.broker.statistics().sent.bytes;
        for _ in 0..WRITES_PER_TURN {
            if self.broker.statistics().sent.bytes - before >= WRITTEN_BYTES_PER_TURN {
                break;
            }
            let Some(id) = self.links.writing.pop_front() else { break };
            // It may have been written earlier in this turn.
            if self.broker.has_output(id) {
                self.write_one(id, now);
            }
        }
        for id in std::mem::take(&mut self.links.unflushed) {
            self.finish(id, now);
        }
    }

    /// Writes the output of a connection.
    #[inline(always)]
    pub(super) fn write_one(&mut self, id: ConnectionId, now: Time) {
        let Some(link) = self.links.clients.find(id) else { return self.write_to_bridge(id, now) };
        let (outcome, may_have_more) = match &mut link.layers {
            None => (self.broker.write_to(id, &mut link.stream, now), link.is_closing()),
            Some(layers) => {
                let ahead = self.broker.copied_ahead();
                (self.broker.write_to(id, &mut layers.writer(&mut link.stream, ahead), now), true)
            }
        };
        match outcome {
            Ok(()) if may_have_more => self.finish(id, now),
            Ok(()) => {}
            Err(error) => self.lose_output(id, &error, now),
        }
    }

    /// Handles that nothing can be written to a link any longer. It is read to its end, since what the peer has sent
    /// before counts.
    fn lose_output(&mut self, id: ConnectionId, error: &io::Error, now: Time) {
        if let Some(link) = self.links.clients.find(id) {
            link.lose_output(error);
        }
        self.broker.lose_output(id, now);
        self.links.list(id);
    }

    /// Flushes the layers of a link. Once everything is written on a link that is closing, the peer is told that
    /// nothing more comes.
    pub(super) fn finish(&mut self, id: ConnectionId, now: Time) {
        let Some(link) = self.links.clients.find(id).filter(|link| link.lost().is_none()) else { return };
        let is_written = !self.broker.has_output(id);
        if let Err(error) = link.finish(is_written) {
            self.lose_output(id, &error, now);
        }
    }

    /// Removes closed links, as many as the turn has time for. Their slots are free from the next turn on.
    pub(super) fn reap(&mut self, now: Time) {
        for _ in 0..REAPED_PER_TURN {
            if !self.broker.takes_ends() {
                return;
            }
            let Some((id, why)) = self.links.dead.pop_front() else { return };
            let Some(mut link) = self.links.clients.remove(id) else {
                self.close_local(id, now);
                continue;
            };
            if let Some(layers) = &mut link.layers {
                layers.close();
                // A client that has gone does not need it.
                let _ = layers.flush(&mut link.stream);
            }
            let listener = link.listener;
            // Dropping the socket closes it and takes it out of the poller.
            drop(link);
            self.broker.closed(id, &why, now);
            if let Some(listener) = listener {
                self.has_left(listener);
            }
        }
    }
}
