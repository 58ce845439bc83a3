//! Numbers of things in messages: `1 session`, `2 sessions`.

use std::fmt;

/// A number with a noun, which is given in the singular and put into the plural regularly.
#[derive(Clone, Copy, Debug)]
pub struct Count<N>(pub N, pub &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Count<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        write!(formatter, "{number} {noun}{}", ending(*number == N::from(1)))
    }
}

/// The ending of a noun for one thing, or for another number of things.
pub const fn ending(is_one: bool) -> &'static str {
    if is_one { "" } else { "s" }
}

/// The verb after a number of things in the past.
pub const fn was(is_one: bool) -> &'static str {
    if is_one { "was" } else { "were" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        for (number, expected) in
            [(0_u64, "0 sessions"), (1, "1 session"), (2, "2 sessions"), (11, "11 sessions")]
        {
            assert_eq!(Count(number, "session").to_string(), expected);
        }
        assert_eq!(Count(1_usize, "retained message").to_string(), "1 retained message");
        assert_eq!((was(true), was(false)), ("was", "were"));
    }
}
