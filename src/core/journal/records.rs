//! Records that are persisted in their order of arrival.

use super::Record;
use crate::base::memory;

/// The records of the open batch.
#[derive(Debug, Default)]
pub(super) struct Records {
    list: Vec<Record>,
    /// Bytes that they have on the heap.
    bytes: usize,
}

impl Records {
    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.memory();
        self.list.push(record);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes all records.
    pub(super) fn take(&mut self) -> Vec<Record> {
        self.bytes = 0;
        std::mem::take(&mut self.list)
    }

    /// Approximate bytes to be persisted.
    pub(super) const fn pending_bytes(&self) -> usize {
        self.list.len() * size_of::<Record>() + self.bytes
    }

    /// Bytes of memory used.
    pub(super) const fn memory(&self) -> usize {
        memory::allocation(self.list.capacity() * size_of::<Record>()) + self.bytes
    }
}
