//! MQTT in WebSocket frames: the bytes of a socket in, the bytes of MQTT out, and the other way round.
//!
//! It is made for a loop that reads and writes each connection once a turn. Frames are opened where they lie, in
//! the buffer that they were read into, and all that was in them is moved together; so however small the frames
//! are, the core is told once. In the other direction all that is written in one call becomes one frame, whose
//! header goes out in front of the very bytes of the caller: nothing is copied and nothing is kept but what the
//! frame in progress still owes.
//!
//! A client masks what it sends (RFC 6455, section 5.3), which changes every byte. So on that side, and on no other, a
//! frame is put together here before it goes out, and the next one waits until it has left.
//!
//! Nothing is compressed, since small messages do not gain from it and every connection would pay with memory.

mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handshake;
mod masks;
mod request;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io::IoSlice;
use std::rc::Rc;

pub use handshake::Demands;
pub use request::Resource;

use crate::base::memory;
use crate::protocol::codec::Side;
use frames::{Control, Fault, Frames, NORMAL, push_header, push_masked};
use handshake::{Handshake, Progress};
use masks::Masks;
use request::{Answered, Request};

/// Bytes of answers that may wait; while there are more, a Ping gets no answer of its own, as RFC 6455 allows in
/// section 5.5.3.
const ANSWERS_MAXIMUM: usize = 1024;

/// Bytes of MQTT in one frame of a client at most.
const MASKED_MAXIMUM: usize = 16 * 1024;

/// Bytes of room for headers that an idle connection keeps.
const HEAD_KEPT: usize = 32;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

/// One connection.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    /// What masks the frames of a client; a server has none.
    masks: Option<Masks>,
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
    /// The client's request is awaited.
    Opening(Handshake),
    /// The server's answer is awaited.
    Requesting(Request),
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
    /// The peer has closed it, and its Close is answered.
    Closed,
    /// The peer broke a rule, which is named here. What tells it so goes out with [`WebSocket::close`].
    Failed(&'static str),
}

impl WebSocket {
    /// The server's side of a connection on which nothing has been sent. `frame_maximum` is the longest frame that is
    /// taken, in bytes of payload.
    pub fn new(demands: Rc<Demands>, frame_maximum: usize) -> Self {
        Self::begin(State::Opening(Handshake::new(demands)), None, frame_maximum, Vec::new())
    }

    /// The client's side of a connection, on which its request is to be written first. The `seed` is chance that no one
    /// else may know.
    pub fn request(resource: &Resource, frame_maximum: usize, seed: [u8; 16]) -> Self {
        let mut masks = Masks::new(seed);
        let (request, head) = Request::new(resource, &mut masks);
        Self::begin(State::Requesting(request), Some(masks), frame_maximum, head)
    }

    const fn begin(state: State, masks: Option<Masks>, frame_maximum: usize, head: Vec<u8>) -> Self {
        Self {
            state,
            masks,
            frame_maximum: frame_maximum as u64,
            head,
            answers: Vec::new(),
            owed: 0,
            code: NORMAL,
        }
    }

    /// Bytes that it takes beside its own place.
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Opening(handshake) => handshake.memory(),
            State::Requesting(request) => request.memory(),
            State::Open(frames) => frames.memory(),
            State::Closed => 0,
        };
        memory::allocation(self.head.capacity()) + memory::allocation(self.answers.capacity()) + state
    }

    /// Bytes came from the socket. What is MQTT among them is moved to the front of the buffer.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Received {
        let skipped = match self.shake_hands(bytes) {
            Ok(Some(skipped)) => skipped,
            Ok(None) => return Received { length: 0, outcome: Outcome::Open },
            Err(why) => return Received { length: 0, outcome: Outcome::Failed(why) },
        };
        let (length, outcome) = self.receive_frames(&mut bytes[skipped..]);
        bytes.copy_within(skipped..skipped + length, 0);
        Received { length, outcome }
    }

    /// Goes on with the handshake. Tells how many bytes belonged to it, once it is over.
    fn shake_hands(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let (side, taken) = match &mut self.state {
            State::Opening(handshake) => match handshake.receive(bytes) {
                Progress::Incomplete => return Ok(None),
                Progress::Accepted { taken, answer } => {
                    self.head = answer;
                    (Side::Server, taken)
                }
                Progress::Refused { answer, why } => {
                    self.head = answer;
                    self.state = State::Closed;
                    return Err(why);
                }
            },
            State::Requesting(request) => match request.receive(bytes) {
                Answered::Incomplete => return Ok(None),
                Answered::Accepted { taken } => (Side::Client, taken),
                Answered::Refused(why) => {
                    self.state = State::Closed;
                    return Err(why);
                }
            },
            State::Open(_) | State::Closed => return Ok(Some(0)),
        };
        self.state = State::Open(Frames::new(side, self.frame_maximum));
        Ok(Some(taken))
    }

    fn receive_frames(&mut self, bytes: &mut [u8]) -> (usize, Outcome) {
        let State::Open(frames) = &mut self.state else { return (0, Outcome::Open) };
        let (answers, masks) = (&mut self.answers, &mut self.masks);
        let mut closing = None;
        let (length, outcome) = frames.receive(bytes, |control, payload| match control {
            Control::Ping if answers.len() <= ANSWERS_MAXIMUM => {
                push_answer(answers, masks.as_mut(), PONG, payload);
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
            push_answer(&mut self.answers, self.masks.as_mut(), CLOSE, &self.code.to_be_bytes());
        }
        self.state = State::Closed;
    }

    /// Whether MQTT can be sent: the peer has shaken hands, and no Close was sent.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether bytes of MQTT are to be handed over to [`WebSocket::mask`] and not to be framed where they lie.
    pub const fn is_masking(&self) -> bool {
        self.masks.is_some()
    }

    /// Takes bytes of MQTT into a frame of their own, up to its limit, and tells how many. Only for who must mask, and
    /// once nothing waits, so that nothing adds up here.
    ///
    /// # Panics
    ///
    /// If something waits.
    pub fn mask(&mut self, slices: &[IoSlice<'_>]) -> usize {
        assert!(!self.has_answers(), "one frame at a time");
        let Some(masks) = &mut self.masks else { return 0 };
        let mut left = MASKED_MAXIMUM;
        let pieces: Vec<&[u8]> = slices
            .iter()
            .map(|slice| {
                let piece = &slice[..slice.len().min(left)];
                left -= piece.len();
                piece
            })
            .collect();
        let taken = MASKED_MAXIMUM - left;
        if taken > 0 {
            push_masked(&mut self.head, BINARY, masks.mask(), pieces.into_iter());
        }
        taken
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

/// Appends a frame that answers, as this side sends it.
fn push_answer(answers: &mut Vec<u8>, masks: Option<&mut Masks>, opcode: u8, payload: &[u8]) {
    match masks {
        Some(masks) => push_masked(answers, opcode, masks.mask(), std::iter::once(payload)),
        None => {
            push_header(answers, opcode, payload.len());
            answers.extend_from_slice(payload);
        }
    }
}
