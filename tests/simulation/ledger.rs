//! The memory that the broker itself has allocated, in a test that allocates all the time: each call of the broker is
//! measured separately.

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

    /// Measures a call of the broker. Memory that it allocates and does not free is the broker's.
    pub fn call<R>(&mut self, act: impl FnOnce() -> R) -> R {
        let before = Live::now();
        let result = act();
        let after = Live::now();
        self.bytes += after.bytes.cast_signed() - before.bytes.cast_signed();
        self.blocks += after.blocks.cast_signed() - before.blocks.cast_signed();
        result
    }

    /// Measures a call that writes to a buffer which is not the broker's.
    pub fn call_to_fill<R>(&mut self, buffer: &mut Vec<u8>, act: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = buffer.capacity();
        let result = self.call(|| act(buffer));
        self.bytes -= buffer.capacity().cast_signed() - before.cast_signed();
        self.blocks -= isize::from(before == 0 && buffer.capacity() > 0);
        result
    }

    /// Compares the broker's count, `held` bytes, with what was allocated.
    ///
    /// # Panics
    ///
    /// If the count is wrong.
    pub fn check(&self, held: usize) {
        let live =
            Live { bytes: self.bytes.max(0).cast_unsigned(), blocks: self.blocks.max(0).cast_unsigned() };
        let comparison = Comparison { live, counted: held };
        assert!(comparison.is_right(), "the count is wrong: {comparison}");
    }
}
