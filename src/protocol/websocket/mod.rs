//! MQTT in WebSocket frames: converts the bytes of a socket to the bytes of MQTT, and the other way round.
//!
//! It is designed for a loop that reads and writes each connection once per turn. Received frames are decoded in place,
//! in the buffer that they were read into, and their payloads are moved together. So the core is called once, however
//! small the frames are. In the other direction, all bytes of one write become one frame. Its header is sent before the
//! bytes of the caller, which are not copied. The only state is the number of bytes that the frame in progress still
//! needs.
//!
//! A client masks what it sends (RFC 6455, section 5.3), which changes every byte. So on the client's side only, a
//! frame is assembled here before it is sent, and the next one has to wait until it has been sent.
//!
//! Compression is not supported: small messages do not gain from it, and it would cost memory for every connection.

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

/// The limit on queued answers, in bytes. While more than that are queued, Pings are not answered, which RFC 6455
/// allows in section 5.5.3.
const ANSWERS_MAXIMUM: usize = 1024;

/// The maximum number of bytes of MQTT in one frame of a client.
const MASKED_MAXIMUM: usize = 16 * 1024;

/// The capacity in bytes for headers that an idle connection keeps at most.
const HEAD_KEPT: usize = 32;

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

/// The state of one connection.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    /// The source of masks for the frames of a client; `None` on the server's side.
    masks: Option<Masks>,
    /// The longest accepted frame, in bytes of payload.
    frame_maximum: u64,
    /// The bytes to send first: answers, and the header of the frame in progress.
    head: Vec<u8>,
    /// Answers that are queued until the end of the frame in progress.
    answers: Vec<u8>,
    /// The number of payload bytes that the frame in progress still needs.
    owed: usize,
    /// The status code in the Close frame that this side sends.
    code: u16,
}

#[derive(Debug)]
enum State {
    /// Waiting for the client's request.
    Opening(Handshake),
    /// Waiting for the server's answer.
    Requesting(Request),
    /// The handshake is complete; frames can be sent and received.
    Open(Frames),
    /// This side has queued its Close frame, or the handshake has failed.
    Closed,
}

/// The result of receiving bytes from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The number of bytes of MQTT, which are now at the start of the buffer.
    pub length: usize,
    /// Whether the connection stays open.
    pub outcome: Outcome,
}

/// Whether a connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stays open.
    Open,
    /// The peer has closed it, and the answer to its Close is queued.
    Closed,
    /// The peer broke this rule. [`WebSocket::close`] queues the frame that reports it to the peer.
    Failed(&'static str),
}

impl WebSocket {
    /// The server's side of a new connection. `frame_maximum` is the longest accepted frame, in bytes of payload.
    pub fn new(demands: Rc<Demands>, frame_maximum: usize) -> Self {
        Self::begin(State::Opening(Handshake::new(demands)), None, frame_maximum, Vec::new())
    }

    /// The client's side of a new connection, which sends its request first. The `seed` is random and must be kept
    /// secret.
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

    /// The heap memory that the connection uses, in bytes.
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Opening(handshake) => handshake.memory(),
            State::Requesting(request) => request.memory(),
            State::Open(frames) => frames.memory(),
            State::Closed => 0,
        };
        memory::allocation(self.head.capacity()) + memory::allocation(self.answers.capacity()) + state
    }

    /// Processes bytes from the socket. Moves the bytes of MQTT among them to the start of the buffer.
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

    /// Continues the handshake. Once it is complete, returns the number of bytes that belonged to it.
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

    /// Queues a Close frame, unless one has already been queued. No frames are sent after it.
    pub fn close(&mut self) {
        if let State::Open(_) = self.state {
            push_answer(&mut self.answers, self.masks.as_mut(), CLOSE, &self.code.to_be_bytes());
        }
        self.state = State::Closed;
    }

    /// Whether MQTT can be sent: the handshake is complete, and no Close has been sent.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether bytes of MQTT must be passed to [`WebSocket::mask`], because they cannot be sent in place.
    pub const fn is_masking(&self) -> bool {
        self.masks.is_some()
    }

    /// Copies bytes of MQTT into a new frame, up to its limit, and returns how many. Does nothing on a side that does
    /// not mask. May only be called while nothing is queued, so that the queue stays limited.
    ///
    /// # Panics
    ///
    /// If answers or a frame are queued.
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

    /// Prepares to write `length` bytes of MQTT. Returns the bytes to send before them, and how many of them belong to
    /// the frame in progress. A frame is always completed before anything else is sent.
    pub fn frame(&mut self, length: usize) -> (&[u8], usize) {
        if self.owed == 0 {
            // New answers wait until the previous ones have been sent. Otherwise, a client that sends Pings and does
            // not read could exceed the limit on answers.
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

    /// Records that `count` bytes have been sent, of those that [`WebSocket::frame`] returned and, after them, of the
    /// caller's. Returns how many of them were the caller's.
    pub fn advance(&mut self, count: usize) -> usize {
        let of_head = count.min(self.head.len());
        self.head.drain(..of_head);
        if self.head.is_empty() && self.head.capacity() > HEAD_KEPT {
            self.head = Vec::new();
        }
        self.owed -= count - of_head;
        count - of_head
    }

    /// Whether there are bytes that can be sent without any of the caller's.
    pub const fn has_answers(&self) -> bool {
        !self.head.is_empty() || (self.owed == 0 && !self.answers.is_empty())
    }
}

/// Appends a control frame, masked if this side is the client.
fn push_answer(answers: &mut Vec<u8>, masks: Option<&mut Masks>, opcode: u8, payload: &[u8]) {
    match masks {
        Some(masks) => push_masked(answers, opcode, masks.mask(), std::iter::once(payload)),
        None => {
            push_header(answers, opcode, payload.len());
            answers.extend_from_slice(payload);
        }
    }
}
