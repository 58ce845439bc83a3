//! What can be said in the log about a packet that is larger than its receiver accepts, from the bytes that have arrived.

use std::fmt;

use super::{Status, frame, kind};
use crate::base::escape::Quoted;
use crate::base::plural::Count;

/// The first bytes of such a packet. It displays the kind of the packet and its length.
#[derive(Clone, Copy, Debug)]
pub struct Oversized<'a>(pub &'a [u8]);

impl Oversized<'_> {
    fn length(&self) -> usize {
        match frame(self.0, usize::MAX) {
            Ok(Status::Complete(frame)) => frame.length,
            Ok(Status::Incomplete { needed }) => needed,
            Err(_) => self.0.len(),
        }
    }

    fn kind(&self) -> u8 {
        self.0.first().map_or(0, |first| first >> 4)
    }

    /// The topic of a PUBLISH for the log, as far as it has arrived.
    pub fn topic(&self) -> Option<String> {
        let rest = self.0.get(1..).filter(|_| self.kind() == kind::PUBLISH)?;
        let width = 1 + rest.iter().take_while(|&&byte| byte & 0x80 != 0).count();
        let (&length, rest) = rest.get(width..)?.split_first_chunk()?;
        let whole = rest.get(..u16::from_be_bytes(length).into());
        let topic = String::from_utf8_lossy(whole.unwrap_or(rest));
        let end = if whole.is_none() { "..." } else { "" };
        Some(format!("{}{end}", Quoted(&topic))).filter(|_| !topic.is_empty())
    }
}

impl fmt::Display for Oversized<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {}", kind::name(self.kind()), Count(self.length(), "byte"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_described_as_far_as_it_has_arrived() {
        for (bytes, what, topic) in [
            (&b"\x30\x80\x01"[..], "PUBLISH", None),
            (b"\x30\x80\x01\x00", "PUBLISH", None),
            (b"\x30\x80\x01\x00\x03", "PUBLISH", None),
            (b"\x30\x80\x01\x00\x00", "PUBLISH", None),
            (b"\x30\x80\x01\x00\x03a/", "PUBLISH", Some("'a/'...")),
            (b"\x30\x80\x01\x00\x03a/b", "PUBLISH", Some("'a/b'")),
            (b"\x3d\x80\x01\x00\x03a/bxxx", "PUBLISH", Some("'a/b'")),
            (b"\x30\x80\x01\x00\x03a\n'", "PUBLISH", Some("'a\\u{a}\\''")),
            (b"\x30\x80\x01\x00\x03a\xff\xfe", "PUBLISH", Some("'a\u{fffd}\u{fffd}'")),
            (b"\x82\x80\x01\x00\x03a/b", "SUBSCRIBE", None),
            (b"\x00\x80\x01", "unknown packet", None),
        ] {
            assert_eq!(Oversized(bytes).to_string(), format!("{what} of 131 bytes"), "{bytes:?}");
            assert_eq!(Oversized(bytes).topic().as_deref(), topic, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_topic_is_cut() {
        let long = [&b"\x30\xff\xff\x7f\x03\xe8"[..], &[b'x'; 1000]].concat();
        assert!(Oversized(&long).topic().is_some_and(|topic| topic.len() < 300));
    }
}
