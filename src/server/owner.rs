//! Who takes what comes in by a link, which the token of its socket tells.

use mio::Token;

use super::FIRST_LINK;
use super::destination::CALLS_MAXIMUM;

/// Who takes what comes in by a link. Bridges, other brokers and those who administer this one will be others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The core: a client has come in.
    Client,
    /// Who has dialled.
    Caller,
}

impl Owner {
    /// The token of its link of this number.
    pub(super) const fn token(self, number: usize) -> Token {
        match self {
            Self::Client => Token(FIRST_LINK + CALLS_MAXIMUM + number),
            Self::Caller => Token(FIRST_LINK + number),
        }
    }

    /// Whose link has this token, which belongs to one, and its number.
    #[inline]
    pub(super) const fn of(Token(token): Token) -> (Self, usize) {
        match token - FIRST_LINK {
            number @ 0..CALLS_MAXIMUM => (Self::Caller, number),
            number => (Self::Client, number - CALLS_MAXIMUM),
        }
    }
}
