//! Frames (RFC 6455, section 5). For received frames, this parses the headers, removes the masks and moves the payloads
//! together. A client masks the frames that it sends, a server does not.
//!
//! The payload of a data frame is passed on as it arrives and is never buffered, so a long frame costs no memory.
//! Between two pieces, only the header in progress is buffered, or at most the 125 bytes of a control frame.

use crate::base::memory;
use crate::protocol::codec::Side;

/// The length of the longest header: two bytes, eight of length, four of mask.
const HEADER_MAXIMUM: usize = 14;
/// The longest payload of a control frame.
const CONTROL_MAXIMUM: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Status codes of a Close frame (RFC 6455, section 7.4.1).
pub(super) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const TOO_BIG: u16 = 1009;

/// A rule that the peer broke: the status code to send, and the reason in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: u16,
    pub(super) why: &'static str,
}

const fn protocol_error(why: &'static str) -> Fault {
    Fault { code: PROTOCOL_ERROR, why }
}

/// The type of a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    Ping,
    Pong,
    Close,
}

/// The supported types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Data,
    Close,
    Ping,
    Pong,
}

/// The part of the current frame that has been received.
#[derive(Clone, Copy, Debug)]
enum State {
    Header { bytes: [u8; HEADER_MAXIMUM], held: u8 },
    Payload { opcode: Opcode, mask: [u8; 4], left: u64 },
}

const AT_A_BOUNDARY: State = State::Header { bytes: [0; HEADER_MAXIMUM], held: 0 };

/// Reads the frames of one peer.
#[derive(Debug)]
pub(super) struct Frames {
    /// Which side reads them.
    side: Side,
    state: State,
    /// Whether further frames of the message in progress follow.
    is_fragmented: bool,
    /// The longest accepted frame, in bytes of payload.
    maximum: u64,
    /// The payload of the current control frame.
    control: Vec<u8>,
}

impl Frames {
    pub(super) const fn new(side: Side, maximum: u64) -> Self {
        Self { side, state: AT_A_BOUNDARY, is_fragmented: false, maximum, control: Vec::new() }
    }

    /// The heap memory that it uses, in bytes.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.control.capacity())
    }

    /// Parses the frames in `bytes`, moves the payloads of data frames to its start, and returns the number of payload
    /// bytes. Passes each control frame to `answer` with its payload. Ignores everything after a Close.
    ///
    /// # Errors
    ///
    /// The peer broke a rule. The returned payload bytes, which were received before that, are valid.
    pub(super) fn receive(
        &mut self,
        bytes: &mut [u8],
        mut answer: impl FnMut(Control, &[u8]),
    ) -> (usize, Result<(), Fault>) {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let (opcode, mask, left) = match self.state {
                State::Header { bytes: mut header, held } => {
                    match next_header(self.side, &mut header, held, bytes[at]) {
                        Ok(None) => {
                            self.state = State::Header { bytes: header, held: held + 1 };
                            at += 1;
                            continue;
                        }
                        Ok(Some(header)) => {
                            at += 1;
                            match self.begin(header) {
                                Ok(begun) => begun,
                                Err(fault) => return (kept, Err(fault)),
                            }
                        }
                        Err(fault) => return (kept, Err(fault)),
                    }
                }
                State::Payload { opcode, mask, left } => (opcode, mask, left),
            };
            let available = bytes.len() - at;
            let count = usize::try_from(left).map_or(available, |left| left.min(available));
            if self.side == Side::Server {
                mask_with(&mut bytes[at..at + count], mask);
            }
            match opcode {
                Opcode::Data => {
                    bytes.copy_within(at..at + count, kept);
                    kept += count;
                }
                _ => self.control.extend_from_slice(&bytes[at..at + count]),
            }
            at += count;
            if left > count as u64 {
                let (mut mask, period) = (mask, mask.len());
                mask.rotate_left(count % period);
                self.state = State::Payload { opcode, mask, left: left - count as u64 };
                break;
            }
            self.state = AT_A_BOUNDARY;
            match self.end_control(opcode, &mut answer) {
                Ok(false) => {}
                Ok(true) => break,
                Err(fault) => return (kept, Err(fault)),
            }
        }
        (kept, Ok(()))
    }

    /// Checks a header, on its own and against the message in progress.
    fn begin(&mut self, header: Header) -> Result<(Opcode, [u8; 4], u64), Fault> {
        let Header { first, mask, length } = header;
        let is_final = first & FINAL != 0;
        if first & RESERVED != 0 {
            return Err(protocol_error("a WebSocket frame of an extension that was not negotiated"));
        }
        let opcode = match first & 0x0f {
            0x0 if !self.is_fragmented => {
                return Err(protocol_error("a WebSocket continuation frame without a message to continue"));
            }
            0x1 | 0x2 if self.is_fragmented => {
                return Err(protocol_error("a WebSocket message inside another one"));
            }
            // [MQTT-6.0.0-1]
            0x1 => return Err(Fault { code: UNSUPPORTED_DATA, why: "a WebSocket frame that is not binary" }),
            0x0 | 0x2 => Opcode::Data,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return Err(protocol_error("a WebSocket frame with an unknown opcode")),
        };
        if opcode == Opcode::Data {
            self.is_fragmented = !is_final;
            if length > self.maximum {
                return Err(Fault { code: TOO_BIG, why: "a WebSocket frame larger than the limit" });
            }
        } else if !is_final || length > CONTROL_MAXIMUM as u64 {
            return Err(protocol_error("a WebSocket control frame that is fragmented or too long"));
        }
        self.control.clear();
        Ok((opcode, mask, length))
    }

    /// Passes a complete control frame to `answer`. Returns whether it is a Close.
    fn end_control(
        &mut self,
        opcode: Opcode,
        answer: &mut impl FnMut(Control, &[u8]),
    ) -> Result<bool, Fault> {
        let payload = std::mem::take(&mut self.control);
        match opcode {
            Opcode::Data => {}
            Opcode::Ping => answer(Control::Ping, &payload),
            Opcode::Pong => answer(Control::Pong, &payload),
            Opcode::Close => {
                check_close(&payload)?;
                answer(Control::Close, &payload);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A received header.
#[derive(Clone, Copy)]
struct Header {
    first: u8,
    mask: [u8; 4],
    length: u64,
}

/// Adds a byte to a header. Returns the header once it is complete.
fn next_header(
    side: Side,
    bytes: &mut [u8; HEADER_MAXIMUM],
    held: u8,
    byte: u8,
) -> Result<Option<Header>, Fault> {
    let held = usize::from(held);
    bytes[held] = byte;
    if held == 0 {
        return Ok(None);
    }
    let mask_length = match (side, bytes[1] & MASKED != 0) {
        (Side::Server, true) => 4,
        (Side::Client, false) => 0,
        (Side::Server, false) => return Err(protocol_error("a WebSocket frame without a mask")),
        (Side::Client, true) => return Err(protocol_error("a WebSocket frame from a server with a mask")),
    };
    let (extended, minimum) = match bytes[1] & !MASKED {
        126 => (2, 126),
        127 => (8, 0x1_0000),
        _ => (0, 0),
    };
    if held + 1 < 2 + extended + mask_length {
        return Ok(None);
    }
    let length = match extended {
        0 => u64::from(bytes[1] & !MASKED),
        _ => bytes[2..2 + extended].iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
    };
    if length < minimum || length > i64::MAX as u64 {
        return Err(protocol_error("a WebSocket frame whose length is malformed"));
    }
    let mut mask = [0; 4];
    mask[..mask_length].copy_from_slice(&bytes[2 + extended..2 + extended + mask_length]);
    Ok(Some(Header { first: bytes[0], mask, length }))
}

fn check_close(payload: &[u8]) -> Result<(), Fault> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(protocol_error("a WebSocket close with half a status code"))
        };
    };
    let is_code = matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999);
    if is_code && core::str::from_utf8(text).is_ok() {
        Ok(())
    } else {
        Err(protocol_error("a WebSocket close with a malformed reason"))
    }
}

/// Adds or removes a mask. The first byte of `mask` applies to the first one of `bytes`.
fn mask_with(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends the header of a frame from the server, which has no mask. The frame is always the final one of its message.
pub(super) fn push_header(bytes: &mut Vec<u8>, opcode: u8, length: usize) {
    push_length(bytes, opcode, 0, length);
}

fn push_length(bytes: &mut Vec<u8>, opcode: u8, masked: u8, length: usize) {
    bytes.push(FINAL | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => bytes.push(masked | short),
        (_, Ok(medium)) => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a frame from the client with this mask. Its payload is the concatenation of `pieces`. The frame is always
/// the final one of its message.
pub(super) fn push_masked<'a>(
    bytes: &mut Vec<u8>,
    opcode: u8,
    mask: [u8; 4],
    pieces: impl Iterator<Item = &'a [u8]> + Clone,
) {
    push_length(bytes, opcode, MASKED, pieces.clone().map(<[u8]>::len).sum());
    bytes.extend_from_slice(&mask);
    let start = bytes.len();
    pieces.for_each(|piece| bytes.extend_from_slice(piece));
    mask_with(&mut bytes[start..], mask);
}
