//! The body of the fuzz target for WebSocket. It passes any bytes in pieces to either side, after a handshake or in
//! place of one. It panics if the result differs from that of the whole, or if more is queued for the peer than is
//! allowed.

use std::rc::Rc;

use super::{ANSWERS_MAXIMUM, Demands, Outcome, Resource, WebSocket};
use crate::base::fuzzing::Input;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
/// The maximum length in bytes of an answer to a request, or of a Close frame.
const ANSWER_MAXIMUM: usize = 512;

/// The first bytes select whether a handshake comes first, how it is damaged, and where the rest is cut.
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
    let rest = input.bytes(usize::MAX);
    stream.extend_from_slice(rest);
    check_side(server, &stream, &cuts);
    let (_, answer) = client_and_answer();
    check_side(|| client_and_answer().0, &[&answer, rest].concat(), &cuts);
}

fn check_side(open: impl Fn() -> WebSocket, stream: &[u8], cuts: &[usize]) {
    let whole = read(open(), stream, &[]);
    assert_eq!(read(open(), stream, cuts), whole, "{stream:02x?} cut by {cuts:?}");
}

fn server() -> WebSocket {
    let demands = Demands { origins: Vec::new(), request_maximum: 1024 };
    WebSocket::new(Rc::new(demands), 4096)
}

/// A client that has sent its request, and the answer of a server.
fn client_and_answer() -> (WebSocket, Vec<u8>) {
    let resource = Resource::new("a", None, "/").expect("the resource is valid");
    let mut client = WebSocket::request(&resource, 4096, [0; 16]);
    let mut request = client.frame(0).0.to_vec();
    client.advance(request.len());
    let mut server = server();
    server.receive(&mut request);
    (client, server.frame(0).0.to_vec())
}

fn read(mut socket: WebSocket, mut stream: &[u8], cuts: &[usize]) -> (Vec<u8>, Outcome) {
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
    assert!(waiting <= ANSWER_MAXIMUM + ANSWERS_MAXIMUM + 127, "{waiting} bytes are queued");
    (payload, outcome)
}

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_give_the_same_result_as_the_whole() {
        crate::base::fuzzing::try_out("websocket", 2_000, super::check);
    }
}
