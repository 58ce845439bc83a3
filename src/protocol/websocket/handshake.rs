//! The HTTP request that opens a WebSocket connection, and the responses to it (RFC 6455, section 4.2).
//!
//! Any other request receives a short response that says so, and the connection is closed. No other HTTP is supported.

use std::rc::Rc;

use crate::protocol::http::{self, Arrival, Head, items, once};
use crate::protocol::spoken::{Port, Spoken};

/// The suffix for computing the answer to a key (RFC 6455, section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The number of characters of a key, which is 16 bytes in Base64.
const KEY_LENGTH: usize = 24;

/// The requirements of a listener for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// The allowed origins of web pages. All, if the list is empty. An origin without a scheme is compared with the
    /// host. Browsers name the origin of a page in each request; a request that names none does not come from a page.
    pub origins: Vec<String>,
    /// The maximum length of the request in bytes.
    pub request_maximum: usize,
}

/// A request, or the part of it that has arrived.
#[derive(Debug)]
pub(super) struct Handshake {
    demands: Rc<Demands>,
    head: Head,
}

/// The result of receiving a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The request is not yet complete.
    Incomplete,
    /// Send this answer; frames follow from here on. `taken` of the bytes belonged to the request.
    Accepted { taken: usize, answer: Vec<u8> },
    /// Send this answer and close. The reason is for the log.
    Refused { answer: Vec<u8>, why: &'static str },
}

/// A reason to refuse a request, as an HTTP status and in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: &'static str,
    why: &'static str,
}

const fn refusal(status: &'static str, why: &'static str) -> Refusal {
    Refusal { status, why }
}

impl From<http::Malformed> for Refusal {
    fn from(_: http::Malformed) -> Self {
        MALFORMED
    }
}

const MALFORMED: Refusal = refusal("400 Bad Request", "the HTTP request is malformed");
const NO_SUBPROTOCOL: Refusal =
    refusal("400 Bad Request", "the WebSocket handshake offers no subprotocol mqtt or mqttv3.1");
const FOREIGN_ORIGIN: Refusal = refusal("403 Forbidden", "the page's origin is not one of websockets_origin");
const NOT_A_GET: Refusal =
    refusal("405 Method Not Allowed\r\nAllow: GET", "an HTTP request with a method other than GET");
const NO_UPGRADE: Refusal =
    refusal("426 Upgrade Required", "an HTTP request that does not request WebSocket");
const FOREIGN_VERSION: Refusal = refusal("426 Upgrade Required", "a WebSocket version other than 13");
const TOO_LONG: Refusal =
    refusal("431 Request Header Fields Too Large", "the HTTP request is longer than websockets_headers_size");

impl Handshake {
    pub(super) fn new(demands: Rc<Demands>) -> Self {
        Self { head: Head::new(demands.request_maximum), demands }
    }

    /// The heap memory that the handshake uses, in bytes.
    pub(super) const fn memory(&self) -> usize {
        self.head.memory()
    }

    /// Receives bytes until the request is complete.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Progress {
        let is_first = self.head.bytes().is_empty();
        let arrival = self.head.receive(bytes);
        let begun = if is_first { bytes } else { self.head.bytes() };
        if let Some(why) = Spoken::advice(begun, Port::WebSocket) {
            return refuse(refusal("400 Bad Request", why));
        }
        let taken = match arrival {
            // Whatever else it is, it need not be waited for.
            Arrival::Incomplete if !self.head.may_be_request() => return refuse(MALFORMED),
            Arrival::Incomplete => return Progress::Incomplete,
            Arrival::TooLong => return refuse(TOO_LONG),
            Arrival::Whole { taken } => taken,
        };
        match answer(&self.head, &self.demands) {
            Ok(answer) => Progress::Accepted { taken, answer },
            Err(refusal) => refuse(refusal),
        }
    }
}

fn refuse(refusal: Refusal) -> Progress {
    let Refusal { status, why } = refusal;
    let body = format!("This port speaks MQTT over WebSocket: {why}.\n");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nConnection: upgrade, close\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    Progress::Refused { answer: answer.into_bytes(), why }
}

/// The relevant fields of a request.
#[derive(Debug, Default)]
struct Fields<'a> {
    host: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<&'a str>,
    origin: Option<&'a str>,
    is_upgrade: bool,
    is_websocket: bool,
    speaks_mqtt: bool,
    speaks_mqtt_3_1: bool,
}

fn answer(head: &Head, demands: &Demands) -> Result<Vec<u8>, Refusal> {
    let request = head.request()?;
    // All paths are accepted.
    if request.method != "GET" {
        return Err(NOT_A_GET);
    }
    let fields = choose_fields(request.fields)?;
    fields.host.ok_or(MALFORMED)?;
    if !(fields.is_upgrade && fields.is_websocket) {
        return Err(NO_UPGRADE);
    }
    if fields.version != Some("13") {
        return Err(FOREIGN_VERSION);
    }
    let key = fields.key.filter(|key| is_key(key)).ok_or(MALFORMED)?;
    if !demands.origins.is_empty() && fields.origin.is_some_and(|origin| !is_one_of(origin, demands)) {
        return Err(FOREIGN_ORIGIN);
    }
    // The client has to offer one, and the answer names the selected one [MQTT-6.0.0-3] [MQTT-6.0.0-4].
    let subprotocol = match (fields.speaks_mqtt, fields.speaks_mqtt_3_1) {
        (true, _) => "mqtt",
        (false, true) => "mqttv3.1",
        (false, false) => return Err(NO_SUBPROTOCOL),
    };
    let accept = accept_key(key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    Ok(answer.into_bytes())
}

fn choose_fields(all: http::Fields<'_>) -> Result<Fields<'_>, Refusal> {
    let mut fields = Fields::default();
    for field in all {
        let http::Field { name, value } = field?;
        match &*name {
            "host" => once(&mut fields.host, value)?,
            "sec-websocket-key" => once(&mut fields.key, value)?,
            "sec-websocket-version" => once(&mut fields.version, value)?,
            "origin" => once(&mut fields.origin, value)?,
            "connection" => {
                fields.is_upgrade |= items(value).any(|item| item.eq_ignore_ascii_case("upgrade"))
            }
            "upgrade" => {
                fields.is_websocket |= items(value).any(|item| item.eq_ignore_ascii_case("websocket"))
            }
            "sec-websocket-protocol" => {
                fields.speaks_mqtt |= items(value).any(|item| item == "mqtt");
                fields.speaks_mqtt_3_1 |= items(value).any(|item| item == "mqttv3.1");
            }
            // The body of the request would be read as frames.
            "transfer-encoding" => return Err(MALFORMED),
            "content-length" if value != "0" => return Err(MALFORMED),
            _ => {}
        }
    }
    Ok(fields)
}

fn is_key(text: &str) -> bool {
    let is_of_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    text.len() == KEY_LENGTH && text.strip_suffix("==").is_some_and(|digits| digits.bytes().all(is_of_base64))
}

fn is_one_of(origin: &str, demands: &Demands) -> bool {
    let host = origin.split_once("://").map(|(_, host)| host);
    demands.origins.iter().any(|allowed| {
        allowed.eq_ignore_ascii_case(origin) || host.is_some_and(|host| allowed.eq_ignore_ascii_case(host))
    })
}

/// Computes the answer to a key. It proves to the client that the server has read the key, but provides no security.
pub(super) fn accept_key(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(KEY_SUFFIX);
    base64(&hash.digest().bytes())
}

pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            let is_there = digit <= chunk.len();
            text.push(if is_there { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::websocket::testing::REQUEST;
    use proptest::prelude::*;

    fn demands(origins: &[&str]) -> Rc<Demands> {
        let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        Rc::new(Demands { origins, request_maximum: 1024 })
    }

    fn receive(request: &str, origins: &[&str]) -> Progress {
        Handshake::new(demands(origins)).receive(request.as_bytes())
    }

    fn status(request: &str) -> String {
        let (Progress::Accepted { answer, .. } | Progress::Refused { answer, .. }) = receive(request, &[])
        else {
            panic!("there is no answer to {request:?}");
        };
        String::from_utf8(answer).unwrap()[9..12].to_owned()
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!(["", "f", "fo", "foo"].map(|text| base64(text.as_bytes())), ["", "Zg==", "Zm8=", "Zm9v"]);
    }

    #[test]
    fn the_key_of_the_standard_has_the_answer_of_the_standard() {
        let Progress::Accepted { taken, answer } = receive(REQUEST, &[]) else { panic!("it is refused") };
        assert_eq!(taken, REQUEST.len());
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(!answer.contains("Extensions"), "{answer}");
    }

    #[test]
    fn the_subprotocol_mqtt_is_preferred_to_its_old_name() {
        for (offer, picked) in [
            ("mqttv3.1, mqtt", Some("mqtt")),
            ("mqtt", Some("mqtt")),
            ("mqttv3.1", Some("mqttv3.1")),
            ("soap,mqtt", Some("mqtt")),
            ("MQTT", None),
            ("mqtt5", None),
            ("", None),
        ] {
            let request = REQUEST.replace("mqttv3.1, mqtt", offer);
            match receive(&request, &[]) {
                Progress::Accepted { answer, .. } => {
                    let line = format!("\r\nSec-WebSocket-Protocol: {}\r\n", picked.expect("it is accepted"));
                    assert!(String::from_utf8(answer).unwrap().contains(&line), "{offer}");
                }
                Progress::Refused { why, .. } => {
                    assert!(picked.is_none() && why.contains("subprotocol"), "{offer}: {why}");
                }
                Progress::Incomplete => panic!("{offer}"),
            }
        }
        let two = REQUEST.replace("mqttv3.1, mqtt", "soap\r\nSec-WebSocket-Protocol: mqtt");
        assert_eq!(status(&two), "101");
    }

    #[test]
    fn other_requests_are_answered_with_a_status() {
        assert_eq!(status(REQUEST), "101");
        let plain = "GET / HTTP/1.1\r\nHost: broker.example\r\n\r\n";
        assert_eq!(status(plain), "426");
        assert_eq!(status(&plain.replace("GET", "POST")), "405");
        for (from, to, expected) in [
            ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", "426"),
            ("Sec-WebSocket-Version: 13\r\n", "", "426"),
            ("upgrade: WebSocket", "upgrade: h2c", "426"),
            ("keep-alive, Upgrade", "keep-alive", "426"),
            ("Host: broker.example\r\n", "", "400"),
            ("Host: broker.example\r\n", "Host: a\r\nHost: b\r\n", "400"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", "400"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=!", "400"),
            ("HTTP/1.1", "HTTP/1.0", "400"),
            ("GET /mqtt", "GET /mq tt", "400"),
            ("GET /mqtt", "GET ", "400"),
            ("Host:", "Host :", "400"),
            ("Host:", " Host:", "400"),
            ("Host: ", "Host: \0", "400"),
            ("Host: ", "Host: a\nX: ", "400"),
            ("Host: ", "Content-Length: 5\r\nHost: ", "400"),
            ("Host: ", "Transfer-Encoding: chunked\r\nHost: ", "400"),
        ] {
            assert_eq!(status(&REQUEST.replace(from, to)), expected, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let outcome = |origins: &[&str], request: &str| match receive(request, origins) {
            Progress::Accepted { .. } => "accepted",
            Progress::Refused { why, .. } => why,
            Progress::Incomplete => "incomplete",
        };
        for origins in [&[][..], &["https://a.example"], &["b.example", "a.example"], &["HTTPS://A.example"]]
        {
            assert_eq!(outcome(origins, REQUEST), "accepted", "{origins:?}");
        }
        for origins in [&["https://b.example"][..], &["http://a.example"], &["example"]] {
            assert_eq!(outcome(origins, REQUEST), FOREIGN_ORIGIN.why, "{origins:?}");
        }
        for unknown in ["", "null", "https://", "a.example.org", "https://a.example:8443"] {
            let request = REQUEST.replace("https://a.example", unknown);
            assert_eq!(outcome(&["https://a.example"], &request), FOREIGN_ORIGIN.why, "{unknown:?}");
        }
    }

    #[test]
    fn a_client_that_is_no_page_has_no_origin() {
        let unnamed = REQUEST.replace("Origin: https://a.example\r\n", "");
        assert_ne!(unnamed, REQUEST);
        let outcome = receive(&unnamed, &["b.example"]);
        assert!(matches!(outcome, Progress::Accepted { .. }), "{outcome:?}");
    }

    #[test]
    fn the_length_of_a_request_is_limited() {
        let mut handshake = Handshake::new(demands(&[]));
        for _ in 0..1023 {
            assert_eq!(handshake.receive(b"x"), Progress::Incomplete);
        }
        let outcome = handshake.receive(&[b'x'; 4096]);
        assert!(matches!(outcome, Progress::Refused { why, .. } if why == TOO_LONG.why));
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_result_as_the_whole(pieces in prop::collection::vec(1_usize..60, 0..40)) {
            let stream = [REQUEST.as_bytes(), b"frames follow"].concat();
            let mut handshake = Handshake::new(demands(&[]));
            let mut start = 0;
            for piece in pieces.into_iter().chain([stream.len()]) {
                let end = stream.len().min(start + piece);
                match handshake.receive(&stream[start..end]) {
                    Progress::Incomplete => prop_assert!(end < REQUEST.len()),
                    Progress::Accepted { taken, .. } => {
                        prop_assert_eq!(start + taken, REQUEST.len());
                        break;
                    }
                    Progress::Refused { why, .. } => prop_assert!(false, "{}", why),
                }
                start = end;
            }
        }

        #[test]
        fn damaged_requests_never_panic(at in 0..REQUEST.len(), bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            let mut request = REQUEST.as_bytes().to_vec();
            request.splice(at..(at + bytes.len()).min(REQUEST.len()), bytes);
            Handshake::new(demands(&["a.example"])).receive(&request);
        }
    }
}
