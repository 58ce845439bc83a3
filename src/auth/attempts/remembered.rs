//! A bounded memory of what was met: what has gone unused for longest is forgotten first.

use std::collections::HashMap;
use std::hash::Hash;

use crate::base::memory;

/// Beyond: the eighth that has gone unused for longest is forgotten. So many fill a table of 8,192 places.
const REMEMBERED_MAXIMUM: usize = 7_000;

/// Keys that are remembered.
#[derive(Debug)]
pub(super) struct Remembered<K> {
    /// By key: which use of all uses was its latest.
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
        // Made anew, since a table that is emptied in place grows all the same.
        let used = std::mem::take(&mut self.used);
        self.used = used.into_iter().filter(|(_, used)| *used > latest).collect();
    }

    /// Bytes of memory that it takes.
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
