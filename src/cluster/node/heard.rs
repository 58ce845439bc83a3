//! Which bodies of other nodes were received. NATS delivers those of one node in their order, and one that matches several
//! subscriptions several times.

use crate::base::ordered_map::OrderedMap;

use crate::cluster::origin::Origin;

/// The most incarnations that are remembered. Beyond it, the one that was heard least recently is forgotten, and a body of
/// it that comes twice is delivered twice.
const INCARNATIONS_MAXIMUM: usize = 256;

/// What was heard of each incarnation.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The number of its last body, and when it came, counted in bodies.
    last: OrderedMap<u64, (u64, u64)>,
    count: u64,
}

impl Heard {
    /// Whether a body was not heard before. It is from now on.
    pub(super) fn is_new(&mut self, origin: Origin) -> bool {
        self.count += 1;
        if let Some((counter, heard)) = self.last.find_mut(&origin.incarnation) {
            *heard = self.count;
            let is_new = origin.counter > *counter;
            *counter = origin.counter.max(*counter);
            return is_new;
        }
        if self.last.len() >= INCARNATIONS_MAXIMUM {
            let oldest =
                self.last.iter().min_by_key(|(_, (_, heard))| *heard).map(|(&incarnation, _)| incarnation);
            oldest.map(|incarnation| self.last.remove(&incarnation));
        }
        self.last.insert(origin.incarnation, (origin.counter, self.count));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_new_once() {
        let mut heard = Heard::default();
        let mut is_new = |incarnation, counter| heard.is_new(Origin { incarnation, counter });
        assert_eq!(
            [is_new(1, 5), is_new(1, 5), is_new(2, 5), is_new(1, 4), is_new(1, 9)],
            [true, false, true, false, true]
        );
        for incarnation in 3..=INCARNATIONS_MAXIMUM as u64 + 1 {
            assert!(is_new(incarnation, 1));
        }
        assert!(!is_new(1, 9), "2 was heard least recently");
        assert!(is_new(2, 5));
    }
}
