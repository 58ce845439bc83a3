//! Handshakes and frames of a WebSocket client, for tests.

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

/// A handshake that offers both subprotocols.
pub(crate) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.example\r\n\
    upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\nOrigin: https://a.example\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

/// A frame from a client.
pub(crate) fn frame(opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, u8::try_from(payload.len() % 251).unwrap()];
    let length = match payload.len() {
        short @ 0..126 => vec![0x80 | u8::try_from(short).unwrap()],
        medium @ 126..0x1_0000 => [&[0xfe][..], &u16::try_from(medium).unwrap().to_be_bytes()].concat(),
        long => [&[0xff][..], &(long as u64).to_be_bytes()].concat(),
    };
    let masked: Vec<u8> = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    [&[u8::from(is_final) << 7 | opcode], &length[..], &mask, &masked].concat()
}
