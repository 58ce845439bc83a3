//! Input: which links are read in a turn, in which order, and what happens to the bytes.

use mio::event::Event;
use mio::{Events, Token};

use super::accept::announce;
use super::layers::{Outcome, Received};
use super::link::{Asked, Reading, Turn};
use super::owner::Owner;
use super::{BYTES_PER_STEP, READ_BYTES, SIGNALS, SUSPECTS_PER_TURN, Server, WAKER};
use crate::base::time::Time;
use crate::core::broker::Intake;
use crate::core::limits::LITTLE_MEMORY;
use crate::core::slots::ConnectionId;

/// Bytes read from one link where many have input, and where memory runs out.
const READ_BYTES_OF_MANY: usize = 16 * 1024;
const READ_BYTES_UNDER_PRESSURE: usize = 4 * 1024;
/// Bytes read from a client that has closed its side before it was accepted.
const READ_BYTES_AT_END: usize = 4 * 1024;
/// More links with input than this are many.
const MANY: usize = 32;
/// How often a link is read before the silence of its peer is judged, however much is still unread. A whole packet
/// would have been found by then; a larger one has made progress.
pub(super) const READS_OF_SUSPECT: u8 = 64;
/// Steps of the core that a read takes, in addition to those for its bytes.
const READ_STEPS: usize = 16;

/// What may be left to read from a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// More bytes for the core.
    More,
    /// Nothing for now, or nothing that the core takes.
    Nothing,
    /// Nothing: the link has ended.
    End,
}

impl Server {
    /// Reads the links that have input, and those that had more than their share in an earlier turn. Returns whether a
    /// signal asks the broker to end.
    pub(super) fn read_input(&mut self, events: &Events, now: Time) -> bool {
        self.read_suspects(now);
        self.read_soon(now);
        if self.is_crowded {
            let is_signalled = self.take_events(events, now);
            self.read_again(self.links.again.len(), now);
            return is_signalled;
        }
        // They have waited longer. Links that are listed in this turn have had their share of it.
        self.read_again(self.links.again.len(), now);
        self.take_events(events, now)
    }

    fn take_events(&mut self, events: &Events, now: Time) -> bool {
        let mut is_signalled = false;
        for event in events {
            match event.token() {
                WAKER => self.broker.take_decisions(),
                SIGNALS => is_signalled |= self.handle_signals(),
                Token(token) if token < SIGNALS.0 => self.connections_wait(token),
                token => match Owner::of(token) {
                    (Owner::Client, number) => self.handle_client_event(number, event, now),
                    (Owner::Caller, number) => self.handle_call_event(number, event, now),
                },
            }
        }
        is_signalled
    }

    #[inline]
    fn handle_client_event(&mut self, number: usize, event: &Event, now: Time) {
        let Some((id, link)) = self.links.clients.at(number) else { return };
        if event.is_read_closed() {
            link.read_closed();
            self.look_for_end(id, now);
        }
        if event.is_writable() {
            self.writable(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            if self.is_crowded { self.read_in_order(id, now) } else { self.read(id, now) }
        }
    }

    /// Shares out this turn among `links` links that may have input.
    pub(super) fn share_turn(&mut self, links: usize) {
        self.is_crowded = self.broker.share_input(links);
        self.links.room = match links {
            _ if self.broker.is_under_pressure() => READ_BYTES_UNDER_PRESSURE,
            0..=MANY => READ_BYTES,
            _ => READ_BYTES_OF_MANY,
        };
    }

    /// Reads one of many links that have input, if its peer asks for little; otherwise, lists it.
    fn read_in_order(&mut self, id: ConnectionId, now: Time) {
        let Some(link) = self.links.clients.find(id) else { return };
        if link.turn == Turn::Waiting(Asked::Little) && self.broker.takes_little() {
            self.read(id, now);
        } else {
            self.links.list(id);
        }
    }

    /// Reads the links of peers that ask for little, which had to wait in an earlier turn.
    fn read_soon(&mut self, now: Time) {
        for _ in 0..self.links.soon.len() {
            if !self.broker.takes_little() {
                return;
            }
            let Some(id) = self.links.soon.pop_front() else { return };
            self.read_listed(id, Asked::Little, now);
        }
    }

    /// Reads links that had more than their share in an earlier turn.
    fn read_again(&mut self, count: usize, now: Time) {
        for _ in 0..count {
            let Some(id) = self.links.again.pop_front() else { return };
            self.read_listed(id, Asked::Much, now);
        }
    }

    fn read_listed(&mut self, id: ConnectionId, asked: Asked, now: Time) {
        if let Some(link) = self.links.clients.find(id).filter(|link| link.turn == Turn::Listed) {
            link.turn = Turn::Waiting(asked);
            self.read(id, now);
        }
    }

    /// Reads the links of peers that seem to be silent, and tells the core which of them have no input. The poller
    /// need not have reported them: it may have more to report than fits into a turn, or have been interrupted.
    fn read_suspects(&mut self, now: Time) {
        for _ in 0..self.links.suspects.len().min(SUSPECTS_PER_TURN) {
            if !self.broker.takes_input() {
                return;
            }
            let Some((id, reads)) = self.links.suspects.pop_front() else { return };
            match self.read_suspect(id, now) {
                Left::More if reads > 1 => self.links.suspects.push_back((id, reads - 1)),
                Left::More | Left::Nothing => self.broker.heard_out(id, now),
                Left::End => {}
            }
        }
    }

    /// Reads the link of such a peer once. It stays on the list that it is on.
    fn read_suspect(&mut self, id: ConnectionId, now: Time) -> Left {
        let Some(link) = self.links.clients.find(id) else { return Left::End };
        let (asked, is_listed) = match link.turn {
            Turn::Waiting(asked) => (asked, false),
            Turn::Listed => (Asked::Much, true),
            Turn::Paused => return Left::Nothing,
        };
        let left = self.read_once(id, asked, now);
        if !is_listed && left == Left::More {
            self.links.list(id);
        }
        if let Some(link) = self.links.clients.find(id)
            && is_listed
            && link.turn != Turn::Paused
        {
            link.turn = Turn::Listed;
        }
        left
    }

    /// Reads a link once if this turn takes more input; otherwise, lists it for the next one.
    fn read(&mut self, id: ConnectionId, now: Time) {
        let Some(link) = self.links.clients.find(id) else { return };
        let Turn::Waiting(asked) = link.turn else { return };
        if !self.broker.takes_input() {
            self.links.list(id);
            return;
        }
        if self.read_once(id, asked, now) == Left::More {
            self.links.list(id);
        }
    }

    /// Reads a link once.
    #[inline(always)]
    fn read_once(&mut self, id: ConnectionId, asked: Asked, now: Time) -> Left {
        let Some(link) = self.links.clients.find(id) else { return Left::End };
        let before = self.broker.steps_taken();
        let (count, may_have_more) = match link.read(&mut self.links.buffer[..self.links.room]) {
            Ok(Reading::More(count)) => (count, true),
            Ok(Reading::Last(count)) => (count, false),
            Ok(Reading::End) => {
                let why = link
                    .lost()
                    .map_or_else(|| "connection closed by client".to_owned(), |kind| kind.to_string());
                self.links.dead.push_back((id, why));
                return Left::End;
            }
            Err(error) => {
                self.links.dead.push_back((id, error.to_string()));
                return Left::End;
            }
        };
        let is_paused = self.take_in(id, count, now) == Intake::Paused;
        if self.broker.has_output(id) {
            self.links.answered.push(id);
        }
        let steps = self.broker.steps_taken() - before;
        let Some(link) = self.links.clients.find(id) else { return Left::End };
        link.turn = if is_paused { Turn::Paused } else { Turn::Waiting(asked.and(steps)) };
        if is_paused {
            self.look_for_end(id, now);
            return Left::Nothing;
        }
        if may_have_more || link.has_ended_input() { Left::More } else { Left::Nothing }
    }

    /// Looks for the end of a link that is not read because its client waits to be accepted. If the client has closed
    /// its side and sends nothing more, it is gone, and no decision about it is needed. Anything else that it sends
    /// waits, as it would have otherwise.
    fn look_for_end(&mut self, id: ConnectionId, now: Time) {
        let Some(link) = self.links.clients.find(id) else { return };
        if link.turn != Turn::Paused || !link.is_read_closed() {
            return;
        }
        if self.broker.awaits_its_turn(id) {
            self.links.leaving.push(id);
            return;
        }
        if !self.broker.awaits_nothing_else(id) {
            return;
        }
        match link.read(&mut self.links.buffer[..READ_BYTES_AT_END]) {
            Ok(Reading::End) | Err(_) => {}
            Ok(Reading::More(count) | Reading::Last(count)) => {
                // The bytes may be no more than the closing message of a layer.
                self.take_in(id, count, now);
                let has_ended = self.links.clients.find(id).is_some_and(|link| link.has_ended_input());
                if !has_ended || !self.broker.awaits_nothing_else(id) {
                    return;
                }
            }
        }
        self.links.dead.push_back((id, "connection closed by client".to_owned()));
    }

    /// Looks again at the links that had closed their side before it was their turn to be accepted.
    pub(super) fn look_for_ends(&mut self, now: Time) {
        for id in std::mem::take(&mut self.links.leaving) {
            self.look_for_end(id, now);
        }
    }

    /// Passes the bytes that were read to the core, through the layers of their link.
    #[inline(always)]
    fn take_in(&mut self, id: ConnectionId, count: usize, now: Time) -> Intake {
        if self.links.clients.find(id).is_some_and(|link| link.layers.is_some()) {
            return self.take_in_through_layers(id, count, now);
        }
        self.broker.take_steps(READ_STEPS + count / BYTES_PER_STEP);
        if count > 0 { self.broker.received(id, &self.links.buffer[..count], now) } else { Intake::More }
    }

    #[inline(never)]
    fn take_in_through_layers(&mut self, id: ConnectionId, count: usize, now: Time) -> Intake {
        let bytes = &mut self.links.buffer[..count];
        let Some(link) = self.links.clients.find(id) else { return Intake::More };
        let Some(layers) = &mut link.layers else { return Intake::More };
        self.broker.take_steps(READ_STEPS + layers.steps(count));
        if count == 0 {
            return Intake::More;
        }
        let Received { introduction, is_new, bytes, outcome } =
            layers.receive(bytes, &mut self.links.plaintext);
        if let Some(introduction) = introduction {
            self.broker.introduce(id, introduction);
        }
        if is_new && let (Some(peer), Some(number)) = (self.broker.peer(id), link.listener) {
            announce(&self.listeners, number, peer);
        }
        let intake = if bytes.is_empty() { Intake::More } else { self.broker.received(id, bytes, now) };
        let is_over = outcome == Outcome::Closed;
        match outcome {
            Outcome::Open if layers.holds_much() && self.broker.lacks_memory_for_more(id) => {
                // The client is told, if its socket takes that now, and the link does not linger: its memory is
                // needed.
                self.broker.abandon(id, LITTLE_MEMORY, now);
                self.links.dead.push_back((id, LITTLE_MEMORY.to_owned()));
            }
            Outcome::Open | Outcome::Closed => {}
            Outcome::Failed(why) => self.broker.abandon(id, &why, now),
        }
        if layers.has_output() {
            self.links.unflushed.push(id);
        }
        if layers.is_done() {
            link.layers = None;
        }
        if is_over {
            link.end_input();
        }
        intake
    }
}
