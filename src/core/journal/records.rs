//! Records that are persisted in their order of arrival.

use super::Record;
use crate::base::memory;

/// Capacity that is never released.
const PLACES_KEPT: usize = 1024;

/// The records of the open batch.
#[derive(Debug, Default)]
pub(super) struct Records {
    list: Vec<Record>,
    /// Bytes that they have on the heap.
    bytes: usize,
}

impl Records {
    #[inline(always)]
    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.memory();
        self.list.push(record);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    /// Moves all records to the end of a batch. Returns the bytes that they have on the heap.
    pub(super) fn append_to(&mut self, batch: &mut Vec<Record>) -> usize {
        batch.append(&mut self.list);
        self.list.shrink_to(PLACES_KEPT);
        std::mem::take(&mut self.bytes)
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
