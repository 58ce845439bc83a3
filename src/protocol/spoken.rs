//! Recognises what a peer speaks by its first bytes, for messages about peers at the wrong port.

/// A protocol, as far as the first bytes of a connection tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// A CONNECT of MQTT.
    Mqtt,
    /// A handshake of TLS.
    Tls,
    /// A request of HTTP, maybe for WebSocket.
    Http,
    /// A PROXY header of either version.
    Proxy,
    /// The banner of SSH.
    Ssh,
}

/// What a port expects first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// MQTT.
    Mqtt,
    /// TLS.
    Tls,
    /// A request for WebSocket.
    WebSocket,
    /// A PROXY header.
    Proxy,
}

const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"TRACE ", b"CONNECT "];

impl Spoken {
    /// Recognises the protocol of a connection that begins with these bytes. Four bytes are enough for most protocols.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x16, 0x03, ..] => Some(Self::Tls),
            [b'S', b'S', b'H', b'-', ..] => Some(Self::Ssh),
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] | [b'\r', b'\n', b'\r', b'\n', 0, ..] => {
                Some(Self::Proxy)
            }
            [b'P', b'R', b'I', b' ', b'*', ..] => Some(Self::Http),
            [0x10, rest @ ..] => is_connect(rest).then_some(Self::Mqtt),
            _ => METHODS.iter().any(|method| bytes.starts_with(method)).then_some(Self::Http),
        }
    }

    /// What a peer that speaks this has done wrong at a port, and what to do about it; `None` if it is what the port
    /// expects.
    pub const fn at(self, port: Port) -> Option<&'static str> {
        Some(match (self, port) {
            (Self::Mqtt, Port::Mqtt) | (Self::Tls, Port::Tls) | (Self::Http, Port::WebSocket) => return None,
            (Self::Ssh, _) => "it is SSH: this port is for MQTT",
            (Self::Tls, Port::Mqtt) if !cfg!(feature = "tls") => {
                "it is TLS at a port without TLS: turn TLS off in the client"
            }
            (Self::Tls, Port::WebSocket) if !cfg!(feature = "tls") => {
                "it is TLS at a WebSocket port without TLS: use ws instead of wss in the client"
            }
            (Self::Http, Port::Mqtt) if !cfg!(feature = "websocket") => {
                "it is HTTP or WebSocket at a port for MQTT: turn WebSocket off in the client"
            }
            (Self::Tls, Port::Mqtt) => {
                "it is TLS at a port without TLS: turn TLS off in the client, or set certfile and keyfile here"
            }
            (Self::Tls, Port::WebSocket) => {
                "it is TLS at a WebSocket port without TLS: use ws instead of wss in the client, or set certfile and \
                 keyfile here"
            }
            (Self::Http, Port::Mqtt) => {
                "it is HTTP or WebSocket at a port for MQTT: turn WebSocket off in the client, or set protocol \
                 websockets here"
            }
            (Self::Http, Port::Tls) => {
                "it is HTTP or WebSocket without TLS at a port with TLS: use https or wss in the client"
            }
            (Self::Mqtt, Port::Tls) => "it is MQTT without TLS at a port with TLS: turn TLS on in the client",
            (Self::Mqtt, Port::WebSocket) => {
                "it is MQTT at a port for WebSocket: turn WebSocket on in the client, or set protocol mqtt here"
            }
            (Self::Proxy, Port::Proxy) => {
                "it is a PROXY header of the other version: change enable_proxy_protocol, or the proxy"
            }
            (Self::Proxy, _) => {
                "it is a PROXY header at a port that expects none: set enable_proxy_protocol here, or turn it off in \
                 the proxy"
            }
            (Self::Mqtt | Self::Tls | Self::Http, Port::Proxy) => {
                "it is a connection without a PROXY header: connect through the proxy and turn the header on there, or \
                 remove enable_proxy_protocol"
            }
        })
    }

    /// What a peer whose connection begins with these bytes has done wrong at a port.
    pub fn advice(bytes: &[u8], port: Port) -> Option<&'static str> {
        Self::of(bytes)?.at(port)
    }
}

/// Whether these bytes after the first one are of a CONNECT, as far as they have arrived.
fn is_connect(rest: &[u8]) -> bool {
    let width = 1 + rest.iter().take_while(|&&byte| byte & 0x80 != 0).count();
    let name = rest.get(width..).unwrap_or_default();
    !name.is_empty()
        && [b"\0\x04MQTT", &b"\0\x06MQIsdp"[..]]
            .iter()
            .any(|full| name.iter().zip(*full).all(|(a, b)| a == b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_recognised_by_their_first_bytes() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], Some(Spoken::Tls)),
            (b"\x10\x0f\x00\x04MQTT\x04", Some(Spoken::Mqtt)),
            (b"\x10\x80\x01\x00\x06MQIsdp\x03", Some(Spoken::Mqtt)),
            (b"\x10\x0f\x00", Some(Spoken::Mqtt)),
            (b"\x10\x0f\x00\x05MQTT", None),
            (b"\x10", None),
            (b"GET / HTTP/1.1\r\n", Some(Spoken::Http)),
            (b"CONNECT host:443 HTTP/1.1\r\n", Some(Spoken::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(Spoken::Http)),
            (b"PROXY TCP4 1.2.3.4", Some(Spoken::Proxy)),
            (b"\r\n\r\n\0\r\nQUIT\n", Some(Spoken::Proxy)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(Spoken::Ssh)),
            (b"GE", None),
            (b"\xc0\x00", None),
            (b"", None),
        ] {
            assert_eq!(Spoken::of(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn only_what_a_port_expects_needs_no_advice() {
        for (spoken, port) in
            [(Spoken::Mqtt, Port::Mqtt), (Spoken::Tls, Port::Tls), (Spoken::Http, Port::WebSocket)]
        {
            for other in [Port::Mqtt, Port::Tls, Port::WebSocket, Port::Proxy] {
                assert_eq!(spoken.at(other).is_none(), other == port, "{spoken:?} {other:?}");
            }
        }
    }
}
