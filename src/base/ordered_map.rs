//! A map in the order of its keys.

use std::borrow::Borrow;

/// The most entries of a block.
const BLOCK_MAXIMUM: usize = 64;

/// A map in the order of its keys, for what few packets pass through. It takes a tenth of the code of a `BTreeMap`, of
/// which each pair of types has its own copy.
///
/// The entries are in blocks, so that little has to move for a new one however many there are: those of one block, and
/// the list of the blocks for every few dozen entries. No block takes more than half as much room again as its entries
/// and four more, or twice as much after some were removed.
#[derive(Clone, Debug)]
pub struct OrderedMap<K, V> {
    /// In order, and none of them empty.
    blocks: Vec<Vec<(K, V)>>,
    length: usize,
}

/// The index of a block, and of an entry in it.
type Place = (usize, usize);

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self { blocks: Vec::new(), length: 0 }
    }
}

impl<K: Ord, V> OrderedMap<K, V> {
    /// The number of entries.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no entries.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The place of a key, or else the one where it would have to be inserted.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let after = self.blocks.partition_point(|block| block[0].0.borrow() <= key);
        let Some(index) = after.checked_sub(1) else { return Err((0, 0)) };
        match self.blocks[index].binary_search_by(|(other, _)| other.borrow().cmp(key)) {
            Ok(place) => Ok((index, place)),
            Err(place) => Err((index, place)),
        }
    }

    /// Whether there is an entry for this key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// Returns the value of a key.
    pub fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (index, place) = self.place(key).ok()?;
        Some(&self.blocks[index][place].1)
    }

    /// Returns the value of a key.
    pub fn find_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (index, place) = self.place(key).ok()?;
        Some(&mut self.blocks[index][place].1)
    }

    /// Sets the value of a key. Returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (index, place) = match self.place(&key) {
            Ok((index, place)) => return Some(std::mem::replace(&mut self.blocks[index][place].1, value)),
            Err(place) => place,
        };
        self.length += 1;
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
        }
        let block = &mut self.blocks[index];
        if block.len() == block.capacity() {
            block.reserve_exact(block.len() / 2 + 1);
        }
        block.insert(place, (key, value));
        if block.len() > BLOCK_MAXIMUM {
            // Most keys come in rising order: then the blocks stay full.
            let is_last = place == BLOCK_MAXIMUM;
            let upper = block.split_off(if is_last { BLOCK_MAXIMUM } else { BLOCK_MAXIMUM / 2 });
            block.shrink_to_fit();
            self.blocks.insert(index + 1, upper);
        }
        None
    }

    /// Removes a key. Returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        Some(self.take(place).1)
    }

    /// Returns the first entry.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// Removes the first entry.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.is_empty()).then(|| self.take((0, 0)))
    }

    fn take(&mut self, (index, place): Place) -> (K, V) {
        self.length -= 1;
        let taken = self.blocks[index].remove(place);
        let left = self.blocks[index].len();
        let next = self.blocks.get_mut(index + 1);
        if let Some(next) = next.filter(|next| next.len() + left <= BLOCK_MAXIMUM / 2) {
            let mut next = std::mem::take(next);
            self.blocks[index].append(&mut next);
            self.blocks.remove(index + 1);
        }
        let block = &mut self.blocks[index];
        if block.is_empty() {
            self.blocks.remove(index);
        } else if block.capacity() > 2 * block.len() + 4 {
            block.shrink_to(block.len() + block.len() / 2);
        }
        if self.blocks.capacity() > 2 * self.blocks.len() + 4 {
            self.blocks.shrink_to(self.blocks.len() + self.blocks.len() / 2);
        }
        taken
    }

    /// Removes the entries for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for (key, mut value) in std::mem::take(self).blocks.into_iter().flatten() {
            if keep(&key, &mut value) {
                self.insert(key, value);
            }
        }
    }

    /// Returns all entries.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.blocks.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Returns the entry of this key and all after it.
    pub fn iter_from(&self, key: &K) -> impl Iterator<Item = (&K, &V)> {
        let (Ok((index, place)) | Err((index, place))) = self.place(key);
        let blocks = self.blocks.get(index..).unwrap_or_default();
        blocks.iter().flatten().skip(place).map(|(key, value)| (key, value))
    }

    /// Returns all values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.blocks.iter().flatten().map(|(_, value)| value)
    }

    /// Returns all values.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.blocks.iter_mut().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl<K: Ord, V> OrderedMap<K, V> {
        /// Checks what holds between any two calls.
        fn check(&self) {
            assert_eq!(self.blocks.iter().map(Vec::len).sum::<usize>(), self.length);
            assert!(self.iter().zip(self.iter().skip(1)).all(|((one, _), (next, _))| one < next));
            for block in &self.blocks {
                assert!((1..=BLOCK_MAXIMUM).contains(&block.len()));
                assert!(block.capacity() <= 2 * block.len() + 4, "{} of {}", block.len(), block.capacity());
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(calls in prop::collection::vec((0..8u8, 0..400u16), 0..1_500), rises: bool) {
            let (mut map, mut model) = (OrderedMap::default(), BTreeMap::new());
            for (number, (kind, key)) in calls.into_iter().enumerate() {
                match kind {
                    0..=3 => {
                        let key = if rises { u16::try_from(number).unwrap() } else { key };
                        prop_assert_eq!(map.insert(key, number), model.insert(key, number));
                    }
                    4 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    5 => prop_assert_eq!(map.pop_first(), model.pop_first()),
                    6 => {
                        prop_assert_eq!(map.find(&key), model.get(&key));
                        prop_assert!(map.iter_from(&key).eq(model.range(key..)));
                        prop_assert_eq!(map.find_mut(&key), model.get_mut(&key));
                    }
                    _ if number % 64 == 0 => {
                        map.retain(|key, _| key % 5 != 0);
                        model.retain(|key, _| key % 5 != 0);
                    }
                    _ => prop_assert!(map.values_mut().rev().eq(model.values_mut().rev())),
                }
                map.check();
                prop_assert!(map.len() == model.len() && map.iter().eq(&model));
            }
        }
    }
}
