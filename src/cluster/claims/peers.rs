//! What was heard of the other nodes, by the numbers of their messages.

use crate::base::ordered_map::OrderedMap;

/// The most incarnations that are remembered. Beyond it, the one that was heard least recently is forgotten.
const INCARNATIONS_MAXIMUM: usize = 256;

/// What the number of a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It follows the last one, or was heard before.
    InOrder,
    /// It is the first one that its node has ever sent.
    First,
    /// Its node was not known, and has sent others before.
    FirstOfSeveral,
    /// Some before it were not heard.
    AfterLoss,
}

/// The last number of each incarnation.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// The number, and when it was heard, counted in messages.
    last: OrderedMap<u64, (u64, u64)>,
    count: u64,
}

impl Peers {
    /// The bytes of an entry.
    pub(super) const ENTRY: usize = size_of::<(u64, (u64, u64))>();

    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    /// Takes note of a message.
    pub(super) fn hear(&mut self, incarnation: u64, number: u64) -> Heard {
        self.count += 1;
        if let Some((last, heard)) = self.last.find_mut(&incarnation) {
            *heard = self.count;
            let is_next = number <= last.saturating_add(1);
            *last = number.max(*last);
            return if is_next { Heard::InOrder } else { Heard::AfterLoss };
        }
        if self.last.len() >= INCARNATIONS_MAXIMUM {
            let oldest =
                self.last.iter().min_by_key(|(_, (_, heard))| *heard).map(|(&incarnation, _)| incarnation);
            oldest.map(|incarnation| self.last.remove(&incarnation));
        }
        self.last.insert(incarnation, (number, self.count));
        if number == 1 { Heard::First } else { Heard::FirstOfSeveral }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_found_once() {
        let mut peers = Peers::default();
        let heard: Vec<Heard> =
            [1, 2, 2, 5, 3, 4, 6, 1].into_iter().map(|number| peers.hear(7, number)).collect();
        let mut expected = vec![Heard::InOrder; 8];
        expected[0] = Heard::First;
        expected[3] = Heard::AfterLoss;
        assert_eq!(heard, expected);
        assert_eq!(peers.hear(8, 2), Heard::FirstOfSeveral);
        assert_eq!(peers.hear(8, u64::MAX), Heard::AfterLoss);
        assert_eq!(peers.hear(8, u64::MAX), Heard::InOrder);
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut peers = Peers::default();
        for incarnation in 0..2 * INCARNATIONS_MAXIMUM as u64 {
            assert_eq!(peers.hear(incarnation, 1), Heard::First);
            assert_eq!(peers.hear(0, 1), Heard::InOrder);
        }
        assert_eq!(peers.last.len(), INCARNATIONS_MAXIMUM);
    }
}
