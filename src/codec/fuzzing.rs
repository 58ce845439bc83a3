//! The body of the fuzz target for the decoder, in the library so that ordinary tests run it, too. It takes any bytes
//! and panics if a promise is broken.

use super::{Packet, ProtocolVersion, Status, decode, frame};

/// The first byte picks the version; the rest is a stream of packets. Whatever decodes must encode to something no
/// longer that decodes to the same again.
pub fn decode_stream(data: &[u8]) {
    let Some((&selector, mut stream)) = data.split_first() else {
        return;
    };
    let version = match selector % 3 {
        0 => ProtocolVersion::V31,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V5,
    };
    let mut encoded = Vec::new();
    loop {
        let cut = match frame(stream, data.len()) {
            Ok(Status::Complete(cut)) => cut,
            Ok(Status::Incomplete { needed }) => {
                assert!(needed > stream.len());
                return;
            }
            Err(_) => return,
        };
        let Ok(packet) = decode(&cut, version) else {
            return;
        };
        encoded.clear();
        packet.encode(version, &mut encoded);
        assert!(encoded.len() <= cut.length, "{packet:?} grew");
        check_again(&packet, version, &encoded);
        stream = stream.get(cut.length..).unwrap_or_default();
    }
}

fn check_again(packet: &Packet<'_>, version: ProtocolVersion, encoded: &[u8]) {
    let Ok(Status::Complete(cut)) = frame(encoded, encoded.len()) else {
        panic!("{packet:?} does not make a frame");
    };
    assert_eq!(cut.length, encoded.len());
    assert_eq!(decode(&cut, version), Ok(*packet));
    match packet {
        Packet::Publish(publish) => assert_eq!(publish.encoded_length(version), encoded.len()),
        Packet::Subscribe(subscribe) => {
            assert_eq!(subscribe.subscriptions.iter().count(), subscribe.subscriptions.len());
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert_eq!(unsubscribe.filters.iter().count(), unsubscribe.filters.len());
        }
        _ => {}
    }
}
