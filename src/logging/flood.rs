//! A rate limit for log lines. Without it, clients could fill the disk by connecting again and again.

/// The maximum number of lines about clients in a burst, and the rate per second in the long run. Further lines are
/// omitted.
const LINES_AT_ONCE: u64 = 1000;
const LINES_PER_SECOND: u64 = 20;

/// A token bucket for lines. Lines that exceed the limit are counted.
#[derive(Debug)]
pub(super) struct Flood {
    /// The number of lines that may be written now.
    allowed: u64,
    /// The second in which `allowed` was last updated.
    second: u64,
    omitted: u64,
}

impl Default for Flood {
    fn default() -> Self {
        Self { allowed: LINES_AT_ONCE, second: 0, omitted: 0 }
    }
}

impl Flood {
    /// Returns the number of lines omitted before this one if it may be written in this second, otherwise `None`.
    pub(super) fn admit(&mut self, second: u64) -> Option<u64> {
        let raise = second.saturating_sub(self.second).saturating_mul(LINES_PER_SECOND);
        self.allowed = self.allowed.saturating_add(raise).min(LINES_AT_ONCE);
        self.second = second;
        if self.allowed == 0 {
            self.omitted += 1;
            return None;
        }
        self.allowed -= 1;
        Some(std::mem::take(&mut self.omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_limited_and_counted() {
        let mut flood = Flood::default();
        let admitted = (0..1_500).filter(|_| flood.admit(7).is_some()).count();
        assert_eq!(admitted, 1_000);
        assert_eq!(flood.admit(6), None, "a clock that is set back does not allow more");
        assert_eq!([flood.admit(8), flood.admit(8)], [Some(501), Some(0)]);
        assert_eq!((0..100).filter(|_| flood.admit(9).is_some()).count(), 58);
    }
}
