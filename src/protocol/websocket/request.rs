//! The client's side of the handshake: the request that opens a WebSocket connection, and the check of the server's
//! answer (RFC 6455, section 4.1).

use super::handshake::{accept_key, base64};
use super::masks::Masks;
use crate::base::memory;
use crate::protocol::http::{self, Arrival, Head, items, once};

/// The maximum length of an answer in bytes.
const ANSWER_MAXIMUM: usize = 8 * 1024;

/// The resource to request, and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The host and the path in the form that the request has.
    host: String,
    path: String,
}

impl Resource {
    /// The resource `path` on a host. `port` is `None` for the default port. Returns `None` if the host or the path are
    /// not valid in a request.
    pub fn new(host: &str, port: Option<u16>, path: &str) -> Option<Self> {
        let is_clean = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_clean(host) || !is_clean(path) || !path.starts_with('/') {
            return None;
        }
        // In a request, an IPv6 address is in brackets.
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let host = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        Some(Self { host, path: path.to_owned() })
    }
}

/// A request that has been sent, and the part of its answer that has arrived.
#[derive(Debug)]
pub(super) struct Request {
    /// The value of `Sec-WebSocket-Accept` that the server must send.
    expected: String,
    answer: Head,
}

/// The result of receiving an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The answer is not yet complete.
    Incomplete,
    /// Frames follow from here on. `taken` of the bytes belonged to the answer.
    Accepted { taken: usize },
    /// The server does not accept the connection, for this reason.
    Refused(&'static str),
}

const MALFORMED: &str = "the answer to the WebSocket handshake is malformed";
const TOO_LONG: &str = "the answer to the WebSocket handshake is too long";
const NO_UPGRADE: &str = "the server does not support WebSocket at this path";
const FOREIGN_KEY: &str = "the answer to the WebSocket handshake belongs to another request";
const FOREIGN_SUBPROTOCOL: &str = "the server does not support the subprotocol mqtt";
const FOREIGN_EXTENSION: &str = "the server uses a WebSocket extension that was not requested";

impl Request {
    /// Creates the request for a resource. Returns it with its bytes. The key is from the same generator as the masks.
    pub(super) fn new(resource: &Resource, masks: &mut Masks) -> (Self, Vec<u8>) {
        let Resource { host, path } = resource;
        let key = base64(&masks.key());
        // [MQTT-6.0.0-3]
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        (Self { expected: accept_key(&key), answer: Head::new(ANSWER_MAXIMUM) }, request.into_bytes())
    }

    /// The heap memory that the request uses, in bytes.
    pub(super) const fn memory(&self) -> usize {
        self.answer.memory() + memory::allocation(self.expected.capacity())
    }

    /// Receives bytes until the answer is complete.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Answered {
        match self.answer.receive(bytes) {
            Arrival::Incomplete => Answered::Incomplete,
            Arrival::TooLong => Answered::Refused(TOO_LONG),
            Arrival::Whole { taken } => match check(&self.answer, &self.expected) {
                Ok(()) => Answered::Accepted { taken },
                Err(why) => Answered::Refused(why),
            },
        }
    }
}

/// The relevant fields of an answer.
#[derive(Debug, Default)]
struct Fields<'a> {
    accept: Option<&'a str>,
    subprotocol: Option<&'a str>,
    is_upgrade: bool,
    is_websocket: bool,
}

fn check(answer: &Head, expected: &str) -> Result<(), &'static str> {
    let response = answer.response().map_err(|_| MALFORMED)?;
    if response.code != "101" {
        return Err(NO_UPGRADE);
    }
    let fields = choose_fields(response.fields)?;
    if !(fields.is_upgrade && fields.is_websocket) {
        return Err(NO_UPGRADE);
    }
    if fields.accept != Some(expected) {
        return Err(FOREIGN_KEY);
    }
    if fields.subprotocol == Some("mqtt") { Ok(()) } else { Err(FOREIGN_SUBPROTOCOL) }
}

fn choose_fields(all: http::Fields<'_>) -> Result<Fields<'_>, &'static str> {
    let mut fields = Fields::default();
    for field in all {
        let http::Field { name, value } = field.map_err(|_| MALFORMED)?;
        let take = |field: &mut _| once(field, value).map_err(|_| MALFORMED);
        match &*name {
            "sec-websocket-accept" => take(&mut fields.accept)?,
            "sec-websocket-protocol" => take(&mut fields.subprotocol)?,
            "sec-websocket-extensions" => return Err(FOREIGN_EXTENSION),
            "connection" => {
                fields.is_upgrade |= items(value).any(|item| item.eq_ignore_ascii_case("upgrade"))
            }
            "upgrade" => fields.is_websocket = value.eq_ignore_ascii_case("websocket"),
            _ => {}
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn begin() -> (Request, String) {
        let resource = Resource::new("broker.example", Some(8080), "/mqtt").unwrap();
        let (request, bytes) = Request::new(&resource, &mut Masks::new([7; 16]));
        let accept = request.expected.clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("GET /mqtt HTTP/1.1\r\nHost: broker.example:8080\r\n"), "{text}");
        let good = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\nServer: x\r\n\r\n"
        );
        (request, good)
    }

    #[test]
    fn only_a_valid_resource_is_requested() {
        let host = |host, port| Resource::new(host, port, "/").map(|resource| resource.host);
        assert_eq!(host("a", None).as_deref(), Some("a"));
        assert_eq!(host("::1", Some(1)).as_deref(), Some("[::1]:1"));
        for (host, path) in [("", "/"), ("a\r\nX: y", "/"), ("a b", "/"), ("a", ""), ("a", "x"), ("a", "/ x")]
        {
            assert_eq!(Resource::new(host, None, path), None, "{host:?} {path:?}");
        }
    }

    #[test]
    fn an_answer_must_be_complete() {
        let accept = |accept: &str| format!("Sec-WebSocket-Accept: {accept}");
        let (request, good) = begin();
        let key = accept(&request.expected);
        let others = [
            ("101", "200", NO_UPGRADE),
            ("HTTP/1.1", "HTTP/1.0", MALFORMED),
            ("Upgrade: WebSocket\r\n", "", NO_UPGRADE),
            ("Upgrade: WebSocket", "Upgrade: h2c", NO_UPGRADE),
            ("keep-alive, Upgrade", "keep-alive", NO_UPGRADE),
            (&*key, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", FOREIGN_KEY),
            (&*key, "X: y", FOREIGN_KEY),
            (&*key, "Sec-WebSocket-Accept: a\r\nSec-WebSocket-Accept: b", MALFORMED),
            ("Protocol: mqtt", "Protocol: mqttv3.1", FOREIGN_SUBPROTOCOL),
            ("Sec-WebSocket-Protocol: mqtt\r\n", "", FOREIGN_SUBPROTOCOL),
            ("Server: x", "Sec-WebSocket-Extensions: permessage-deflate", FOREIGN_EXTENSION),
            ("Server: x", "Server", MALFORMED),
            ("Server: x", "Ser ver: x", MALFORMED),
        ];
        for (from, to, expected) in others {
            let (mut request, good) = begin();
            let outcome = request.receive(good.replace(from, to).as_bytes());
            assert_eq!(outcome, Answered::Refused(expected), "{from:?} -> {to:?}");
        }
        let (mut request, _) = begin();
        assert_eq!(request.receive(good.as_bytes()), Answered::Accepted { taken: good.len() });
    }

    #[test]
    fn the_length_of_an_answer_is_limited() {
        let (mut request, _) = begin();
        for _ in 0..ANSWER_MAXIMUM - 1 {
            assert_eq!(request.receive(b"x"), Answered::Incomplete);
        }
        assert_eq!(request.receive(&[b'x'; 4096]), Answered::Refused(TOO_LONG));
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_result_as_the_whole(pieces in prop::collection::vec(1_usize..60, 0..20)) {
            let (mut request, good) = begin();
            let stream = [good.as_bytes(), b"frames follow"].concat();
            let mut start = 0;
            for piece in pieces.into_iter().chain([stream.len()]) {
                let end = stream.len().min(start + piece);
                match request.receive(&stream[start..end]) {
                    Answered::Incomplete => prop_assert!(end < good.len()),
                    Answered::Accepted { taken } => {
                        prop_assert_eq!(start + taken, good.len());
                        break;
                    }
                    Answered::Refused(why) => prop_assert!(false, "{}", why),
                }
                start = end;
            }
        }
    }
}
