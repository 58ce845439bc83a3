//! -ERR: what a server complains about.

/// What a complaint means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client is not who it has to be, or no longer. The connection ends.
    Authorization,
    /// The client may not publish or subscribe to one subject. The connection goes on.
    Permission,
    /// One subject was refused. The connection goes on.
    Subject,
    /// The client has not read fast enough. The connection ends.
    SlowConsumer,
    /// The server cannot serve the client, for now or on this connection. It ends.
    Unavailable,
}

impl Failure {
    /// What a text means. An unknown one is a failure of the connection.
    pub fn of(text: &[u8]) -> Self {
        const KNOWN: [(&str, Failure); 8] = [
            ("permissions violation", Failure::Permission),
            ("invalid subject", Failure::Subject),
            ("invalid publish subject", Failure::Subject),
            ("authorization", Failure::Authorization),
            ("authentication", Failure::Authorization),
            ("account authentication", Failure::Authorization),
            ("user authentication", Failure::Authorization),
            ("slow consumer", Failure::SlowConsumer),
        ];
        let begins = |start: &str| {
            text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start.as_bytes()))
        };
        KNOWN.iter().find(|(start, _)| begins(start)).map_or(Self::Unavailable, |(_, failure)| *failure)
    }

    /// Whether the connection goes on.
    pub const fn is_survived(self) -> bool {
        matches!(self, Self::Permission | Self::Subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_apart() {
        for (text, expected) in [
            ("Authorization Violation", Failure::Authorization),
            ("User Authentication Expired", Failure::Authorization),
            ("Account Authentication Expired", Failure::Authorization),
            ("Authentication Timeout", Failure::Authorization),
            ("Permissions Violation for Publish to \"a\"", Failure::Permission),
            ("permissions violation for subscription to \"a\"", Failure::Permission),
            ("Invalid Subject", Failure::Subject),
            ("Slow Consumer", Failure::SlowConsumer),
            ("Stale Connection", Failure::Unavailable),
            ("maximum connections exceeded", Failure::Unavailable),
            ("Unknown Protocol Operation", Failure::Unavailable),
            ("", Failure::Unavailable),
        ] {
            assert_eq!(Failure::of(text.as_bytes()), expected, "{text}");
        }
        assert!(Failure::Permission.is_survived() && !Failure::SlowConsumer.is_survived());
        assert_eq!(Failure::of(b"\xff"), Failure::Unavailable);
    }
}
