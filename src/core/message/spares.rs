//! Memory of dropped messages, which later messages use again: otherwise the allocator would be called twice for each
//! message of QoS 1.

use super::Message;
use crate::base::memory::{self, Audit};

/// The number of sizes that are kept, in steps of [`SIZE_STEP`].
const SIZES: usize = 17;
const SIZE_STEP: usize = 16;

/// The most bytes that are kept in all; the rest goes back to the allocator.
const MEMORY_MAXIMUM: usize = 64 * 1024;

/// The spare messages by the memory that each takes.
#[derive(Debug, Default)]
pub struct Spares {
    of_size: [Vec<Message>; SIZES],
    memory: usize,
}

impl Spares {
    /// Takes a spare message of this many bytes of memory.
    #[inline]
    pub(super) fn take(&mut self, memory: usize) -> Option<Message> {
        let message = self.of_size.get_mut(memory / SIZE_STEP)?.pop()?;
        self.memory -= memory;
        Some(message)
    }

    /// Keeps the memory of a message, if this is its last owner.
    #[inline]
    pub fn keep(&mut self, mut message: Message) {
        let memory = message.memory();
        if let Some(of_size) = self.of_size.get_mut(memory / SIZE_STEP)
            && self.memory + memory <= MEMORY_MAXIMUM
            && message.is_only_holder()
        {
            self.memory += memory;
            memory::discount_stored(message.payload_length());
            of_size.push(message);
        }
    }

    /// Adds the memory of the spare messages to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        self.of_size.iter().flatten().for_each(|message| message.audit(audit));
    }
}

impl Drop for Spares {
    /// A dropped message is discounted from those stored, but these have been discounted already.
    fn drop(&mut self) {
        self.of_size.iter().flatten().for_each(|message| memory::count_stored(message.payload_length()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory;
    use crate::base::memory::{Stored, stored};
    use crate::base::time::Time;
    use crate::core::message::Publication;
    use crate::protocol::codec::{Properties, QoS};
    use crate::protocol::topic::TopicName;

    fn publication(payload: &[u8]) -> Publication<'_> {
        Publication {
            topic: TopicName::new("t").unwrap(),
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: None,
            properties: Properties::default(),
            expires: Time::NEVER,
        }
    }

    #[test]
    fn memory_is_used_again_without_former_contents() {
        let (mut spares, before) = (Spares::default(), memory::held());
        for length in [0, 1, 7, 8, 9, 100, 200, 1000] {
            let long = vec![b'x'; length];
            let first = Message::new(&publication(&long), &mut spares);
            let (memory, second) = (first.memory(), first.clone());
            assert_eq!(memory, Message::memory_of(&publication(&long)));
            spares.keep(first);
            assert!(spares.take(memory).is_none(), "there is another owner");
            spares.keep(second);
            let held = memory::held();
            let short = long.get(1..).unwrap_or_default();
            let third = Message::new(&publication(short), &mut spares);
            assert_eq!(third.payload(), short);
            assert_eq!(third.publication().payload, short);
            assert_eq!(stored(), Stored { count: 1, bytes: short.len() as u64 });
            let is_same_size = third.memory() == memory && memory < SIZES * SIZE_STEP;
            assert_eq!(memory::held() == held, is_same_size, "{length}");
        }
        drop(spares);
        assert_eq!((memory::held(), stored()), (before, Stored::default()));
    }

    #[test]
    fn spare_memory_is_limited() {
        let mut spares = Spares::default();
        let messages: Vec<Message> =
            (0..2000).map(|_| Message::new(&publication(b"payload"), &mut spares)).collect();
        messages.into_iter().for_each(|message| spares.keep(message));
        let mut audit = Audit::default();
        spares.audit(&mut audit);
        assert_eq!(audit.bytes(), spares.memory);
        assert!((MEMORY_MAXIMUM - 64..=MEMORY_MAXIMUM).contains(&spares.memory));
    }
}
