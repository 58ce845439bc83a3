//! Tests against a handwritten WebSocket client, and of both sides against each other.

use std::io::IoSlice;
use std::rc::Rc;

use proptest::prelude::*;

use super::testing::{BINARY, CLOSE, PING, PONG, REQUEST, TEXT, frame};
use super::{ANSWERS_MAXIMUM, Demands, MASKED_MAXIMUM, Outcome, Resource, WebSocket};

const FRAME_MAXIMUM: usize = 100_000;

/// The server's side of a connection after the handshake, whose answer has been sent.
fn open() -> WebSocket {
    let demands = Rc::new(Demands { origins: Vec::new(), request_maximum: 4096 });
    let mut socket = WebSocket::new(demands, FRAME_MAXIMUM);
    let received = socket.receive(&mut REQUEST.as_bytes().to_vec());
    assert_eq!((received.length, received.outcome), (0, Outcome::Open));
    let answer = take(&mut socket);
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    socket
}

/// Takes the bytes that can be sent without any bytes of MQTT.
fn take(socket: &mut WebSocket) -> Vec<u8> {
    let (head, of_caller) = socket.frame(0);
    assert_eq!(of_caller, 0);
    let head = head.to_vec();
    assert_eq!(socket.advance(head.len()), 0);
    assert!(!socket.has_answers());
    head
}

/// A frame from the server.
fn answer(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::push_header(&mut bytes, opcode, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

/// Parses the frames of a server strictly: they must be final, without a mask, and with the length in its shortest
/// form.
fn read_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0));
        let (length, rest) = match second {
            126 => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let length = usize::from(u16::from_be_bytes(*length));
                assert!(length >= 126);
                (length, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let length = usize::try_from(u64::from_be_bytes(*length)).unwrap();
                assert!(length > 0xffff);
                (length, rest)
            }
            short => (usize::from(*short), rest),
        };
        frames.push((first & 0x0f, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    frames
}

fn receive(socket: &mut WebSocket, bytes: &[u8]) -> (Vec<u8>, Outcome) {
    let mut buffer = bytes.to_vec();
    let received = socket.receive(&mut buffer);
    (buffer[..received.length].to_vec(), received.outcome)
}

#[test]
fn frames_that_arrive_with_the_request_are_received() {
    let mut socket = WebSocket::new(Rc::new(Demands { origins: Vec::new(), request_maximum: 4096 }), 10);
    let stream = [REQUEST.as_bytes(), &frame(BINARY, true, b"MQTT")].concat();
    assert_eq!(receive(&mut socket, &stream), (b"MQTT".to_vec(), Outcome::Open));
}

#[test]
fn a_refused_request_is_answered_and_no_frames_are_sent() {
    let mut socket = WebSocket::new(Rc::new(Demands { origins: Vec::new(), request_maximum: 4096 }), 10);
    let (_, outcome) = receive(&mut socket, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(outcome, Outcome::Failed(_)));
    socket.close();
    assert!(!socket.is_open());
    let answer = take(&mut socket);
    assert!(answer.starts_with(b"HTTP/1.1 426 ") && answer.ends_with(b".\n"));
}

#[test]
fn broken_rules_are_reported_with_their_status_code() {
    let cases: [(Vec<u8>, u16); 16] = [
        (frame(TEXT, true, b"text"), 1003),
        (frame(TEXT, false, b""), 1003),
        (frame(0, true, b"continues nothing"), 1002),
        ([frame(BINARY, false, b"a"), frame(BINARY, true, b"b")].concat(), 1002),
        (frame(3, true, b""), 1002),
        (frame(0xb, true, b""), 1002),
        (frame(0x42, true, b"compressed"), 1002),
        (frame(PING, false, b""), 1002),
        (frame(PING, true, &[0; 126]), 1002),
        (frame(BINARY, true, &[0; FRAME_MAXIMUM + 1]), 1009),
        (vec![0x82, 0x04], 1002),
        (vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0], 1002),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], 1002),
        (vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
        (frame(CLOSE, true, &[3]), 1002),
        (frame(CLOSE, true, &[3, 0xed]), 1002),
    ];
    for (bytes, code) in cases {
        let mut socket = open();
        let stream = [frame(BINARY, true, b"before"), bytes].concat();
        let (payload, outcome) = receive(&mut socket, &stream);
        assert!(matches!(outcome, Outcome::Failed(_)), "{:02x?}", &stream[12..stream.len().min(40)]);
        assert!(payload.starts_with(b"before"));
        socket.close();
        assert_eq!(take(&mut socket), answer(CLOSE, &code.to_be_bytes()));
    }
}

#[test]
fn a_close_is_answered_with_its_code_and_nothing_after_it_is_received() {
    for (sent, code) in [(&[0x0f, 0xa1, b'!'][..], 4001_u16), (&[0x03, 0xe8], 1000), (&[], 1000)] {
        let mut socket = open();
        let stream =
            [frame(BINARY, true, b"last"), frame(CLOSE, true, sent), frame(TEXT, true, b"")].concat();
        assert_eq!(receive(&mut socket, &stream), (b"last".to_vec(), Outcome::Closed));
        assert_eq!(take(&mut socket), answer(CLOSE, &code.to_be_bytes()));
        socket.close();
        assert!(take(&mut socket).is_empty(), "a Close is sent only once");
    }
}

#[test]
fn closing_sends_the_status_code_for_a_normal_close() {
    let mut socket = open();
    socket.close();
    assert_eq!(take(&mut socket), answer(CLOSE, &1000_u16.to_be_bytes()));
    assert_eq!(receive(&mut socket, &frame(BINARY, true, b"too late")), (Vec::new(), Outcome::Open));
}

#[test]
fn answers_to_a_flood_of_pings_are_limited() {
    let mut socket = open();
    let flood = frame(PING, true, &[b'p'; 125]).repeat(1000);
    assert_eq!(receive(&mut socket, &flood), (Vec::new(), Outcome::Open));
    let pongs = take(&mut socket);
    assert!(pongs.len() <= ANSWERS_MAXIMUM + 127);
    assert!(read_frames(&pongs).iter().all(|(opcode, payload)| *opcode == PONG && payload.len() == 125));
    receive(&mut socket, &frame(PING, true, b"again"));
    assert_eq!(take(&mut socket), answer(PONG, b"again"), "Pings are answered again");
}

#[test]
fn answers_to_single_pings_are_limited_as_well() {
    let mut socket = open();
    for _ in 0..1_000 {
        receive(&mut socket, &frame(PING, true, &[7; 125]));
        assert!(socket.frame(0).0.len() <= ANSWERS_MAXIMUM + 127, "nothing has been sent");
    }
    socket.close();
    let mut answers = Vec::new();
    while socket.has_answers() {
        let head = socket.frame(0).0.to_vec();
        socket.advance(head.len());
        answers.extend(head);
    }
    let frames = read_frames(&answers);
    assert!((9..30).contains(&frames.len()), "{} answers", frames.len());
    assert_eq!(frames.last().map(|(opcode, _)| *opcode), Some(CLOSE), "the Close is not lost");
}

#[test]
fn an_answer_waits_for_the_frame_in_progress() {
    let mut socket = open();
    assert_eq!(socket.frame(5).1, 5);
    assert_eq!(socket.advance(4), 2, "the header and two bytes");
    receive(&mut socket, &frame(PING, true, b"?"));
    assert!(!socket.has_answers());
    assert_eq!(socket.frame(100), (&[][..], 3));
    assert_eq!(socket.advance(3), 3);
    assert!(socket.has_answers());
    assert_eq!(socket.frame(0), (&answer(PONG, b"?")[..], 0));
}

/// One message of a client, in frames, and whether Pings come between them.
fn message() -> impl Strategy<Value = (Vec<Vec<u8>>, bool)> {
    let part = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 120..130),
        1 => prop::collection::vec(any::<u8>(), 65_530..65_540),
    ];
    (prop::collection::vec(part, 1..4), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_from_a_client_arrive_however_they_are_cut(
        messages in prop::collection::vec(message(), 0..8),
        pieces in prop::collection::vec(1_usize..200, 0..60),
    ) {
        let (mut stream, mut expected, mut pings) = (Vec::new(), Vec::new(), Vec::new());
        for (number, (parts, is_pinged)) in messages.iter().enumerate() {
            for (index, part) in parts.iter().enumerate() {
                let opcode = if index == 0 { BINARY } else { 0 };
                stream.extend(frame(opcode, index + 1 == parts.len(), part));
                expected.extend_from_slice(part);
                if *is_pinged {
                    let text = vec![u8::try_from(number).unwrap(); index];
                    stream.extend(frame(PING, true, &text));
                    pings.push((PONG, text));
                }
            }
        }
        let mut socket = open();
        let (mut arrived, mut start) = (Vec::new(), 0);
        for piece in pieces.into_iter().chain([stream.len()]) {
            let end = stream.len().min(start + piece);
            let (payload, outcome) = receive(&mut socket, &stream[start..end]);
            prop_assert_eq!(outcome, Outcome::Open);
            arrived.extend(payload);
            start = end;
        }
        prop_assert!(arrived == expected);
        prop_assert_eq!(read_frames(&take(&mut socket)), pings);
    }

    #[test]
    fn messages_from_the_server_arrive_however_little_is_sent_at_a_time(
        steps in prop::collection::vec((0_usize..70_000, 0_usize..70_000, any::<bool>()), 1..20),
    ) {
        let mut socket = open();
        let (mut waiting, mut expected, mut wire, mut pings) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut write = |socket: &mut WebSocket, waiting: &mut Vec<u8>, allowance: usize| {
            let (head, of_caller) = socket.frame(waiting.len());
            let bytes = [head, &waiting[..of_caller]].concat();
            let count = bytes.len().min(allowance);
            wire.extend_from_slice(&bytes[..count]);
            let used = socket.advance(count);
            waiting.drain(..used);
        };
        for (number, (length, allowance, is_pinged)) in steps.into_iter().enumerate() {
            let bytes = vec![u8::try_from(number).unwrap(); length];
            waiting.extend_from_slice(&bytes);
            expected.extend(bytes);
            if is_pinged {
                receive(&mut socket, &frame(PING, true, b"?"));
                pings += 1;
            }
            write(&mut socket, &mut waiting, allowance);
        }
        while !waiting.is_empty() || socket.has_answers() {
            write(&mut socket, &mut waiting, usize::MAX);
        }
        let frames = read_frames(&wire);
        let pongs = frames.iter().filter(|(opcode, _)| *opcode == PONG).count();
        prop_assert_eq!(pongs, pings);
        let data = frames.into_iter().filter(|(opcode, _)| *opcode == BINARY).flat_map(|(_, data)| data);
        prop_assert!(data.collect::<Vec<_>>() == expected);
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(1_usize..30, 0..20),
    ) {
        let mut socket = open();
        let mut start = 0;
        for piece in pieces.into_iter().chain([bytes.len()]) {
            let end = bytes.len().min(start + piece);
            if receive(&mut socket, &bytes[start..end]).1 != Outcome::Open {
                break;
            }
            start = end;
        }
        socket.close();
        prop_assert!(take(&mut socket).len() <= ANSWERS_MAXIMUM + 127 + 4);
    }
}

/// Both sides after the handshake.
fn open_both() -> (WebSocket, WebSocket) {
    let demands = Rc::new(Demands { origins: Vec::new(), request_maximum: 4096 });
    let mut server = WebSocket::new(demands, FRAME_MAXIMUM);
    let resource = Resource::new("broker.example", None, "/mqtt").unwrap();
    let mut client = WebSocket::request(&resource, FRAME_MAXIMUM, [3; 16]);
    assert!(!client.is_open());
    assert_eq!(receive(&mut server, &take(&mut client)), (Vec::new(), Outcome::Open));
    assert_eq!(receive(&mut client, &take(&mut server)), (Vec::new(), Outcome::Open));
    assert!(client.is_open() && server.is_open() && client.is_masking() && !server.is_masking());
    (client, server)
}

#[test]
fn both_sides_understand_each_other() {
    let (mut client, mut server) = open_both();
    let message: Vec<u8> = (0..50_000).map(|number: u32| number.to_le_bytes()[0]).collect();
    let mut arrived = Vec::new();
    while arrived.len() < message.len() {
        // At most one frame is taken, however the bytes are split.
        let (one, two) = message[arrived.len()..].split_at((message.len() - arrived.len()) / 3);
        let taken = client.mask(&[IoSlice::new(one), IoSlice::new(two)]);
        assert!((1..=MASKED_MAXIMUM).contains(&taken));
        let bytes = take(&mut client);
        assert!(bytes.len() <= MASKED_MAXIMUM + 14);
        let (payload, outcome) = receive(&mut server, &bytes);
        assert_eq!((payload.len(), outcome), (taken, Outcome::Open));
        arrived.extend(payload);
    }
    assert!(arrived == message);
    assert_eq!(client.mask(&[]), 0);
    assert!(!client.has_answers(), "no bytes make no frame");
    assert_eq!(receive(&mut client, &answer(PING, b"there?")), (Vec::new(), Outcome::Open));
    assert_eq!(take(&mut client)[1] & 0x80, 0x80, "answers are masked as well");
    client.close();
    assert_eq!(receive(&mut server, &take(&mut client)), (Vec::new(), Outcome::Closed));
    assert_eq!(
        receive(&mut client, &take(&mut server)),
        (Vec::new(), Outcome::Open),
        "the Close has been answered"
    );
}

#[test]
fn a_frame_from_a_server_has_no_mask() {
    let (mut client, _) = open_both();
    assert_eq!(receive(&mut client, &answer(BINARY, b"MQTT")), (b"MQTT".to_vec(), Outcome::Open));
    let (payload, outcome) = receive(&mut client, &frame(BINARY, true, b"MQTT"));
    assert!(payload.is_empty() && matches!(outcome, Outcome::Failed(why) if why.contains("with a mask")));
    client.close();
    assert_eq!(take(&mut client)[..2], [0x88, 0x82], "the server is informed");
}
