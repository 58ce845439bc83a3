//! Counts messages that were lost, duplicated or reordered.

use std::ops::{AddAssign, Range};

/// Messages with a fault, in all streams together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

impl Tally {
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

/// The messages that one subscriber has received of each stream. A stream is what one publisher sends to one topic,
/// numbered from zero without gaps.
#[derive(Debug)]
pub struct Ledger {
    /// The next expected number of each stream.
    next: Vec<u32>,
    /// Numbers that were skipped, with their streams.
    missing: Vec<(usize, Range<u32>)>,
    duplicated: u64,
    reordered: u64,
}

impl Ledger {
    pub fn new(streams: usize) -> Self {
        Self { next: vec![0; streams], missing: Vec::new(), duplicated: 0, reordered: 0 }
    }

    /// Takes the message with this number, and returns how many messages are settled by it: itself, and those that are
    /// known to be missing now.
    #[inline]
    pub fn receive(&mut self, stream: usize, number: u32) -> u32 {
        let next = &mut self.next[stream];
        let settled = number.wrapping_sub(*next).wrapping_add(1);
        if settled == 1 {
            *next += 1;
            return 1;
        }
        self.receive_unexpected(stream, number)
    }

    #[cold]
    fn receive_unexpected(&mut self, stream: usize, number: u32) -> u32 {
        let next = self.next[stream];
        if number > next {
            self.missing.push((stream, next..number));
            self.next[stream] = number + 1;
            return number + 1 - next;
        }
        let place = self.missing.iter().position(|(of, range)| *of == stream && range.contains(&number));
        let Some(place) = place else {
            self.duplicated += 1;
            return 0;
        };
        self.reordered += 1;
        let (_, range) = self.missing.swap_remove(place);
        let parts = [range.start..number, number + 1..range.end];
        self.missing.extend(parts.into_iter().filter(|part| !part.is_empty()).map(|part| (stream, part)));
        0
    }

    /// The faults, if this many messages were sent to this subscriber on each stream.
    pub fn tally(&self, sent: impl Fn(usize) -> u32) -> Tally {
        let inside: u64 = self.missing.iter().map(|(_, range)| u64::from(range.end - range.start)).sum();
        let tail: u64 = self
            .next
            .iter()
            .enumerate()
            .map(|(stream, next)| u64::from(sent(stream).saturating_sub(*next)))
            .sum();
        Tally { lost: inside + tail, duplicated: self.duplicated, reordered: self.reordered }
    }
}

/// The messages that the members of a Shared Subscription have received: each message goes to one of them, and each
/// member sees the numbers of a stream rise.
#[derive(Debug)]
pub struct SharedLedger {
    /// For each stream, a bit for each number that came.
    seen: Vec<Vec<u64>>,
    /// For each member and stream, the number after the highest that came.
    next: Vec<Vec<u32>>,
    duplicated: u64,
    reordered: u64,
}

impl SharedLedger {
    pub fn new(members: usize, streams: usize) -> Self {
        Self {
            seen: vec![Vec::new(); streams],
            next: vec![vec![0; streams]; members],
            duplicated: 0,
            reordered: 0,
        }
    }

    /// As [`Ledger::receive`].
    #[inline]
    pub fn receive(&mut self, member: usize, stream: usize, number: u32) -> u32 {
        let (word, bit) = (number as usize / 64, 1_u64 << (number % 64));
        let seen = &mut self.seen[stream];
        if seen.len() <= word {
            seen.resize(2 * word + 1024, 0);
        }
        if seen[word] & bit != 0 {
            self.duplicated += 1;
            return 0;
        }
        seen[word] |= bit;
        let next = &mut self.next[member][stream];
        if number < *next {
            self.reordered += 1;
        } else {
            *next = number + 1;
        }
        1
    }

    /// The faults, if this many messages were sent on each stream.
    pub fn tally(&self, sent: impl Fn(usize) -> u32) -> Tally {
        let lost = self.seen.iter().enumerate().map(|(stream, seen)| {
            let came: u64 = seen.iter().map(|word| u64::from(word.count_ones())).sum();
            u64::from(sent(stream)).saturating_sub(came)
        });
        Tally { lost: lost.sum(), duplicated: self.duplicated, reordered: self.reordered }
    }
}
