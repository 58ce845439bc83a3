//! The Topic Aliases of the other broker.

use crate::base::memory::{Counted, allocation};

/// The most bytes of topics that are kept for aliases. Beyond: the connection ends.
const BYTES_MAXIMUM: usize = 1024 * 1024;

/// The topics that the other broker has given numbers on this connection.
#[derive(Debug, Default)]
pub struct Aliases {
    /// The highest number allowed.
    most: u16,
    topics: Vec<Option<Box<str>>>,
    bytes: usize,
    counted: Counted,
}

impl Aliases {
    /// No aliases yet, and numbers up to this one.
    pub fn new(most: u16) -> Self {
        Self { most, ..Self::default() }
    }

    /// Gives a topic a number. Returns what is wrong, if it is not possible.
    pub fn set(&mut self, alias: u16, topic: &str) -> Result<(), &'static str> {
        if alias > self.most {
            return Err("a topic alias above the maximum");
        }
        let index = usize::from(alias);
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        let place = &mut self.topics[index];
        if place.as_deref() == Some(topic) {
            return Ok(());
        }
        self.bytes -= place.as_ref().map_or(0, |old| allocation(old.len()));
        self.bytes += allocation(topic.len());
        if self.bytes > BYTES_MAXIMUM {
            *place = None;
            return Err("topic aliases take more than 1 MiB");
        }
        *place = Some(topic.into());
        self.counted.set(self.bytes + allocation(self.topics.capacity() * size_of::<Option<Box<str>>>()));
        Ok(())
    }

    /// The topic with this number.
    pub fn topic(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias))?.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_bounded_in_number_and_bytes() {
        let mut aliases = Aliases::new(20);
        assert_eq!((aliases.set(20, "a"), aliases.set(21, "a").is_err()), (Ok(()), true));
        assert_eq!((aliases.topic(20), aliases.topic(1), aliases.topic(999)), (Some("a"), None, None));
        let long = "x".repeat(65_000);
        assert!((1..=16).all(|alias| aliases.set(alias, &long).is_ok()));
        assert!(aliases.set(17, &long).is_err());
        let mut again = Aliases::new(5);
        for _ in 0..100 {
            assert_eq!((again.set(1, &long), again.set(1, "b")), (Ok(()), Ok(())));
        }
    }
}
