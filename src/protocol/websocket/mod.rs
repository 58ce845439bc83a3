//! MQTT in WebSocket frames: the bytes of a socket in, the bytes of MQTT out, and the other way round.
//!
//! It is made for a loop that reads and writes each connection once a turn. Frames are opened where they lie, in
//! the buffer that they were read into, and all that was in them is moved together; so however small the frames
//! are, the core is told once. In the other direction all that is written in one call becomes one frame, whose
//! header goes out in front of the very bytes of the caller: nothing is copied and nothing is kept but what the
//! frame in progress still owes.
//!
//! Nothing is compressed, since small messages do not gain from it and every connection would pay with memory.

mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handshake;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::rc::Rc;

pub use handshake::Demands;

use crate::base::memory;
use frames::{Control, Fault, Frames, NORMAL, push_header};
use handshake::{Handshake, Progress};

/// Bytes of answers that may wait; while there are more, a Ping gets no answer of its own, as RFC 6455 allows in
/// section 5.5.3.
const ANSWERS_MAXIMUM: usize = 1024;

/// Bytes of room for headers that an idle connection keeps.
const HEAD_KEPT: usize = 32;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

/// One connection.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    /// The longest frame that is taken, in bytes of payload.
    frame_maximum: u64,
    /// What goes out before anything else: answers, and the header of the frame in progress.
    head: Vec<u8>,
    /// Answers that wait for the frame in progress to end.
    answers: Vec<u8>,
    /// Bytes of payload that the frame in progress still needs.
    owed: usize,
    /// What our Close frame says.
    code: u16,
}

#[derive(Debug)]
enum State {
    /// The request is awaited.
    Opening(Handshake),
    /// Frames go both ways.
    Open(Frames),
    /// We have said our last word.
    Closed,
}

/// What came of bytes from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of MQTT, which lie at the front of the buffer now.
    pub length: usize,
    /// What follows from them.
    pub outcome: Outcome,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Open,
    /// The client has closed it, and its Close is answered.
    Closed,
    /// The client broke a rule, which is named here. What tells it so goes out with [`WebSocket::close`].
    Failed(&'static str),
}

impl WebSocket {
    /// A connection on which nothing has been sent. `frame_maximum` is the longest frame that is taken, in bytes
    /// of payload.
    pub fn new(demands: Rc<Demands>, frame_maximum: usize) -> Self {
        Self {
            state: State::Opening(Handshake::new(demands)),
            frame_maximum: frame_maximum as u64,
            head: Vec::new(),
            answers: Vec::new(),
            owed: 0,
            code: NORMAL,
        }
    }

    /// Bytes that it takes beside its own place.
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Opening(handshake) => handshake.memory(),
            State::Open(frames) => frames.memory(),
            State::Closed => 0,
        };
        memory::allocation(self.head.capacity()) + memory::allocation(self.answers.capacity()) + state
    }

    /// Bytes came from the socket. What is MQTT among them is moved to the front of the buffer.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Received {
        let mut skipped = 0;
        if let State::Opening(handshake) = &mut self.state {
            match handshake.receive(bytes) {
                Progress::Incomplete => return Received { length: 0, outcome: Outcome::Open },
                Progress::Accepted { taken, answer } => {
                    self.head = answer;
                    self.state = State::Open(Frames::new(self.frame_maximum));
                    skipped = taken;
                }
                Progress::Refused { answer, why } => {
                    self.head = answer;
                    self.state = State::Closed;
                    return Received { length: 0, outcome: Outcome::Failed(why) };
                }
            }
        }
        let (length, outcome) = self.receive_frames(&mut bytes[skipped..]);
        bytes.copy_within(skipped..skipped + length, 0);
        Received { length, outcome }
    }

    fn receive_frames(&mut self, bytes: &mut [u8]) -> (usize, Outcome) {
        let State::Open(frames) = &mut self.state else { return (0, Outcome::Open) };
        let answers = &mut self.answers;
        let mut closing = None;
        let (length, outcome) = frames.receive(bytes, |control, payload| match control {
            Control::Ping if answers.len() <= ANSWERS_MAXIMUM => {
                push_header(answers, PONG, payload.len());
                answers.extend_from_slice(payload);
            }
            Control::Ping | Control::Pong => {}
            Control::Close => {
                closing = Some(payload.first_chunk().map_or(NORMAL, |&code| u16::from_be_bytes(code)))
            }
        });
        match (outcome, closing) {
            (Err(Fault { code, why }), _) => {
                self.code = code;
                (length, Outcome::Failed(why))
            }
            (Ok(()), Some(code)) => {
                self.code = code;
                self.close();
                (length, Outcome::Closed)
            }
            (Ok(()), None) => (length, Outcome::Open),
        }
    }

    /// Queues our Close frame, once. Nothing is framed behind it.
    pub fn close(&mut self) {
        if let State::Open(_) = self.state {
            push_header(&mut self.answers, CLOSE, 2);
            self.answers.extend_from_slice(&self.code.to_be_bytes());
        }
        self.state = State::Closed;
    }

    /// Whether MQTT can be sent: the client has shaken hands, and no Close was sent.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Prepares to write so many bytes of MQTT: what goes out in front of them, and how many of them belong to the
    /// frame in progress. A frame is never left before it is whole.
    pub fn frame(&mut self, length: usize) -> (&[u8], usize) {
        if self.owed == 0 {
            // Answers wait for those before them to leave, else their bound would be none for a client that sends
            // Pings and reads nothing.
            if self.head.is_empty() {
                std::mem::swap(&mut self.head, &mut self.answers);
            }
            if length > 0 {
                push_header(&mut self.head, BINARY, length);
                self.owed = length;
            }
        }
        (&self.head, length.min(self.owed))
    }

    /// So many bytes of what [`WebSocket::frame`] gave have left, its head first; tells how many of them were the
    /// caller's.
    pub fn advance(&mut self, count: usize) -> usize {
        let of_head = count.min(self.head.len());
        self.head.drain(..of_head);
        if self.head.is_empty() && self.head.capacity() > HEAD_KEPT {
            self.head = Vec::new();
        }
        self.owed -= count - of_head;
        count - of_head
    }

    /// Whether bytes wait that can go out without any of the caller's.
    pub const fn has_answers(&self) -> bool {
        !self.head.is_empty() || (self.owed == 0 && !self.answers.is_empty())
    }
}
