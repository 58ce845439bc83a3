//! What keeps a flood of lines from filling a disk: clients can cause one by connecting again and again.

/// Lines about clients that may come at once, and a second in the long run; more are left out.
const LINES_AT_ONCE: u64 = 1000;
const LINES_PER_SECOND: u64 = 20;

/// Lines beyond the first many are written so many a second, and the others counted.
#[derive(Debug)]
pub(super) struct Flood {
    /// Lines that may be written at once.
    allowed: u64,
    /// When that was last raised.
    second: u64,
    left_out: u64,
}

impl Default for Flood {
    fn default() -> Self {
        Self { allowed: LINES_AT_ONCE, second: 0, left_out: 0 }
    }
}

impl Flood {
    /// Whether one more line may be written in this second: how many were left out before it, or `None`.
    pub(super) fn admit(&mut self, second: u64) -> Option<u64> {
        let raise = second.saturating_sub(self.second).saturating_mul(LINES_PER_SECOND);
        self.allowed = self.allowed.saturating_add(raise).min(LINES_AT_ONCE);
        self.second = second;
        if self.allowed == 0 {
            self.left_out += 1;
            return None;
        }
        self.allowed -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut flood = Flood::default();
        let admitted = (0..1_500).filter(|_| flood.admit(7).is_some()).count();
        assert_eq!(admitted, 1_000);
        assert_eq!(flood.admit(6), None, "a clock that is set back raises nothing");
        assert_eq!([flood.admit(8), flood.admit(8)], [Some(501), Some(0)]);
        assert_eq!((0..100).filter(|_| flood.admit(9).is_some()).count(), 58);
    }
}
