//! The body of the fuzz target for WebSocket: any bytes in pieces, after a handshake or as one. It panics if the pieces
//! are read differently from the whole, or if more waits for the client than is allowed.

use std::rc::Rc;

use super::{ANSWERS_MAXIMUM, Demands, Outcome, WebSocket};
use crate::base::fuzzing::Input;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
/// Bytes of an answer to a request, or of a last word, at most.
const ANSWER_MAXIMUM: usize = 512;

/// The first bytes choose whether a good handshake comes first, how it may be broken, and where the rest is cut.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stream = Vec::new();
    if !input.once_in(8) {
        stream.extend_from_slice(REQUEST);
        if input.once_in(4) {
            let place = input.below(REQUEST.len());
            stream[place] = input.byte();
        }
    }
    let cuts: Vec<usize> = (0..input.below(8)).map(|_| 1 + input.below(256)).collect();
    stream.extend_from_slice(input.bytes(usize::MAX));
    let whole = read(&stream, &[]);
    assert_eq!(read(&stream, &cuts), whole, "{stream:02x?} cut by {cuts:?}");
}

fn read(mut stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Outcome) {
    let demands = Demands { origins: Vec::new(), request_maximum: 1024 };
    let mut socket = WebSocket::new(Rc::new(demands), 4096);
    let mut payload = Vec::new();
    let mut outcome = Outcome::Open;
    for &cut in cuts.iter().chain([&usize::MAX]) {
        let (piece, rest) = stream.split_at(stream.len().min(cut));
        let mut buffer = piece.to_vec();
        let received = socket.receive(&mut buffer);
        payload.extend_from_slice(&buffer[..received.length]);
        outcome = received.outcome;
        if outcome != Outcome::Open {
            break;
        }
        stream = rest;
    }
    socket.close();
    let waiting = socket.frame(0).0.len();
    assert!(waiting <= ANSWER_MAXIMUM + ANSWERS_MAXIMUM + 127, "{waiting} bytes wait");
    (payload, outcome)
}

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_read_as_the_whole() {
        crate::base::fuzzing::try_out("websocket", 2_000, super::check);
    }
}
