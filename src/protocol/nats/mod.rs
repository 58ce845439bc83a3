//! The client protocol of NATS: what a client and a server send each other, as values.
//!
//! Three kinds of faults are kept apart. A server that breaks the protocol ends the connection: [`Malformed`] of
//! [`decode`]. A message of another client may have any subject, headers and size, since the server passes them on
//! unchecked; it is refused alone. What this side may not send is [`Invalid`], and no byte of it is written.

mod authentication;
mod connect;
mod failure;
mod headers;
mod incoming;
mod info;
pub mod jetstream;
mod key;
mod outgoing;
mod subject;
#[cfg(test)]
mod tests;

use std::fmt;

pub use authentication::{Authentication, CREDENTIALS_MAXIMUM, CredentialsError, Secret};
pub use connect::write_connect;
pub use failure::Failure;
pub use headers::{HEADERS_MAXIMUM, HeaderBlock, Headers, StatusLine};
pub use incoming::{Decoded, Incoming, Message, decode};
pub use info::{ServerInfo, TlsOffer};
pub use key::UserKey;
pub use outgoing::{Publication, QueueGroup, write_ping, write_pong, write_subscribe, write_unsubscribe};
pub use subject::{Subject, SubjectPattern};

/// What is wrong with something that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A number of decimal digits only.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number.checked_mul(10)?.checked_add(u64::from(digit))).flatten()
    })
}
