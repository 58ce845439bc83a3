//! What the broker itself has allocated, where a test allocates all the time: each call of the broker is measured by
//! itself.

use crate::truth::{Comparison, Live};

#[derive(Debug)]
pub struct Ledger {
    bytes: isize,
    blocks: isize,
}

impl Ledger {
    pub fn begin() -> Self {
        Self { bytes: 0, blocks: 0 }
    }

    /// A call of the broker. What it allocates and does not free is its own.
    pub fn call<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let before = Live::now();
        let result = act();
        let after = Live::now();
        self.bytes += after.bytes.cast_signed() - before.bytes.cast_signed();
        self.blocks += after.blocks.cast_signed() - before.blocks.cast_signed();
        result
    }

    /// The same, when it writes to a buffer that is not its own.
    pub fn call_to_fill<R>(&mut self, buffer: &mut Vec<u8>, act: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = buffer.capacity();
        let result = self.call(|| act(buffer));
        self.bytes -= buffer.capacity().cast_signed() - before.cast_signed();
        self.blocks -= isize::from(before == 0 && buffer.capacity() > 0);
        result
    }

    /// Holds the broker's count, so many bytes, against what was allocated.
    ///
    /// # Panics
    ///
    /// If it is wrong.
    pub fn check(&self, held: usize) {
        let live =
            Live { bytes: self.bytes.max(0).cast_unsigned(), blocks: self.blocks.max(0).cast_unsigned() };
        let comparison = Comparison { live, counted: held };
        assert!(comparison.is_right(), "the count is wrong: {comparison}");
    }
}
