//! A bounded set of keys that drops those that have gone unused for the longest time.

use std::collections::HashMap;
use std::hash::Hash;

use crate::base::memory;

/// Maximum number of keys. Beyond: the eighth that has gone unused for longest is forgotten. So many fill a table of
/// 8,192 places.
const REMEMBERED_MAXIMUM: usize = 7_000;

/// Keys that are remembered.
#[derive(Debug)]
pub(super) struct Remembered<K> {
    /// For each key, the number of its latest use.
    used: HashMap<K, u64>,
    uses: u64,
}

impl<K> Default for Remembered<K> {
    fn default() -> Self {
        Self { used: HashMap::new(), uses: 0 }
    }
}

impl<K: Eq + Hash> Remembered<K> {
    /// Remembers a key.
    pub(super) fn note(&mut self, key: K) {
        if self.used.len() >= REMEMBERED_MAXIMUM && !self.used.contains_key(&key) {
            self.forget_some();
        }
        self.uses += 1;
        self.used.insert(key, self.uses);
    }

    /// Whether a key is remembered.
    pub(super) fn knows(&self, key: &K) -> bool {
        self.used.contains_key(key)
    }

    fn forget_some(&mut self) {
        let mut uses: Vec<u64> = self.used.values().copied().collect();
        let (_, &mut latest, _) = uses.select_nth_unstable(REMEMBERED_MAXIMUM / 8);
        // Into a new table: one that is emptied in place would still grow.
        let used = std::mem::take(&mut self.used);
        self.used = used.into_iter().filter(|(_, used)| *used > latest).collect();
    }

    /// Bytes of memory used.
    pub(super) fn memory(&self) -> usize {
        memory::allocation(self.used.capacity() * (size_of::<(K, u64)>() + 1) * 8 / 7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut remembered = Remembered::default();
        for key in 0..20_000_u32 {
            remembered.note(key);
            remembered.note(7);
        }
        assert!(remembered.knows(&7) && remembered.knows(&19_999) && !remembered.knows(&8));
        assert!(remembered.used.len() <= REMEMBERED_MAXIMUM);
        assert!(remembered.memory() <= 150_000, "{}", remembered.memory());
    }
}
