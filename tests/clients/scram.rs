//! Logins by SCRAM-SHA-256, the enhanced authentication of MQTT 5.0, with the real binary and a password file that it has
//! made.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest as _, Sha256};

use crate::place::{Place, end};
use crate::server::{PATIENCE, Server, brooklet};
use crate::wire::{Connect, V5, field, packet, properties};

const METHOD: u8 = 0x15;
const DATA: u8 = 0x16;
const REASON_STRING: u8 = 0x1F;
const CONTINUE: u8 = 0x18;
const NOT_AUTHORIZED: u8 = 0x87;
const TOO_MANY: u8 = 0x9F;

/// Where in the body of a packet its properties begin.
const AFTER_FLAGS_AND_CODE: usize = 2;
const AFTER_CODE: usize = 1;

fn property(identifier: u8, text: &str) -> Vec<u8> {
    [vec![identifier], field(text)].concat()
}

/// The first byte and the body of the next packet, which is short.
fn next(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a packet comes");
    let mut length = usize::from(head[1]);
    if head[1] >= 0x80 {
        let mut high = [0];
        stream.read_exact(&mut high).expect("the length is complete");
        length = length - 0x80 + usize::from(high[0]) * 0x80;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the packet is complete");
    (head[0], body)
}

/// The text of a property. The identifiers that are looked for are in no other property here.
fn text_of(body: &[u8], start: usize, identifier: u8) -> Option<String> {
    let at = start + body[start..].iter().position(|byte| *byte == identifier)?;
    let length = usize::from(u16::from_be_bytes([body[at + 1], body[at + 2]]));
    String::from_utf8(body.get(at + 3..at + 3 + length)?.to_vec()).ok()
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// The last message of the client, and what the server must answer.
fn answers(bare: &str, challenge: &str, password: &str) -> (String, String) {
    let part =
        |mark| challenge.split(',').find_map(|part| part.strip_prefix(mark)).expect("a challenge has it");
    let salt = Base64::decode_vec(part("s=")).expect("base64");
    let mut salted = [0; 32];
    pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, part("i=").parse().expect("a number"), &mut salted);
    let client_key = mac(&salted, "Client Key");
    let without_proof = format!("c=biws,r={}", part("r="));
    let said = [bare, challenge, &without_proof].join(",");
    let signature = mac(&Sha256::digest(client_key), &said);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
    let verified = mac(&mac(&salted, "Server Key"), &said);
    let last = format!("{without_proof},p={}", Base64::encode_string(&proof));
    (last, format!("v={}", Base64::encode_string(&verified)))
}

/// How a login has ended: the Reason Code, the Reason String, and the last data with what it must be.
struct Login {
    code: u8,
    reason: Option<String>,
    data: Option<String>,
    expected: String,
}

fn log_in(server: &Server, user: &str, password: &str) -> Login {
    let bare = format!("n={user},r=abcdefgh");
    let connect = Connect::new(V5, "kitchen")
        .property(&property(METHOD, "SCRAM-SHA-256"))
        .property(&property(DATA, &format!("n,,{bare}")));
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
    stream.write_all(&connect.bytes()).expect("the broker reads");
    let (kind, body) = next(&mut stream);
    if kind == 0x20 {
        let reason = text_of(&body, AFTER_FLAGS_AND_CODE, REASON_STRING);
        return Login { code: body[1], reason, data: None, expected: String::new() };
    }
    assert_eq!((kind, body[0]), (0xF0, CONTINUE));
    let challenge = text_of(&body, AFTER_CODE, DATA).expect("the challenge");
    let (last, expected) = answers(&bare, &challenge, password);
    let all = properties(&[&property(METHOD, "SCRAM-SHA-256"), &property(DATA, &last)]);
    stream.write_all(&packet(0xF0, &[&[CONTINUE], &all[..]].concat())).expect("the broker reads");
    let (kind, body) = next(&mut stream);
    assert_eq!(kind, 0x20);
    let [reason, data] = [REASON_STRING, DATA].map(|name| text_of(&body, AFTER_FLAGS_AND_CODE, name));
    Login { code: body[1], reason, data, expected }
}

#[test]
fn a_login_by_scram_is_proved_by_both_sides_and_the_log_alone_says_why_one_is_refused() {
    let place = Place::new("scram");
    let users = place.0.join("users").display().to_string();
    for (user, kind) in [("ann", "scram-sha-256"), ("bob", "sha512-pbkdf2")] {
        let mut command = brooklet();
        command.args(["passwd", "-b", "-H", kind, "-I", "10"]);
        if user == "ann" {
            command.arg("-c");
        }
        let status = command.args([&users, user, "pencil"]).status().expect("it can be started");
        assert!(status.success(), "{user}");
    }
    place.configure(&format!(
        "listener 0 127.0.0.1\nallow_anonymous false\npassword_file {users}\nmax_password_attempts 3\n"
    ));
    let server = place.serve();
    let login = log_in(&server, "ann", "pencil");
    assert_eq!((login.code, login.reason), (0, None));
    assert_eq!(login.data, Some(login.expected), "the broker proves that it knows the password");

    let mut told = Vec::new();
    for (user, why) in [
        ("ann", "wrong password"),
        ("eve", "no such user"),
        ("bob", "the password of this user is not stored for SCRAM-SHA-256"),
    ] {
        let login = log_in(&server, user, "eraser");
        assert_eq!(login.code, NOT_AUTHORIZED);
        told.push(login.reason);
        server.wait_for_line(&format!("Client Identifier 'kitchen', User Name '{user}': {why}."));
    }
    assert!(told.iter().all(|reason| *reason == told[0]), "{told:?}");

    let codes: Vec<u8> = (0..3).map(|_| log_in(&server, "ann", "eraser").code).collect();
    assert_eq!(codes, [NOT_AUTHORIZED, NOT_AUTHORIZED, TOO_MANY]);
    server.wait_for_line(
        "User Name 'ann': the limit is 3 for a user, 30 for an address (max_password_attempts).",
    );
    assert!(server.lines_with("eraser").is_empty() && server.lines_with("pencil").is_empty());
    end(server);
}
