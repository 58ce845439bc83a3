//! The owner of a link takes the bytes that come in on it. The token of the socket identifies it.

use mio::Token;

use super::FIRST_LINK;
use super::destination::CALLS_MAXIMUM;

/// The owner of a link. Bridges, other brokers and administration will be further owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The core, for a client's connection.
    Client,
    /// The caller of an outgoing connection.
    Caller,
}

impl Owner {
    /// The token of the owner's link with this number.
    pub(super) const fn token(self, number: usize) -> Token {
        match self {
            Self::Client => Token(FIRST_LINK + CALLS_MAXIMUM + number),
            Self::Caller => Token(FIRST_LINK + number),
        }
    }

    /// The owner of the link with this token, and the number of the link. The token must be that of a link.
    #[inline]
    pub(super) const fn of(Token(token): Token) -> (Self, usize) {
        match token - FIRST_LINK {
            number @ 0..CALLS_MAXIMUM => (Self::Caller, number),
            number => (Self::Client, number - CALLS_MAXIMUM),
        }
    }
}
