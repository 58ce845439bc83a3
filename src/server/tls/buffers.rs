//! The memory that a session of rustls takes. rustls does not report it, so it is tracked from outside, by the bytes
//! that go in and come out.

use crate::base::memory;

/// Bytes that a session takes before any input has come, and once its handshake is over: keys, and the state of the
/// handshake. Measured with a counting allocator.
const BEGUN: usize = 1024;
const SETTLED: usize = 3 * 1024;

/// Bytes of ciphertext that rustls reads at a time, appended to what it holds.
const READ: usize = 4096;
/// The most ciphertext that it holds, during a handshake.
const HELD_MAXIMUM: usize = 64 * 1024;
/// Bytes of a record's header, the last two of which are the length of the record.
pub(super) const RECORD_HEADER: usize = 5;
/// The most bytes of plaintext in a record, and the most that encryption adds to them in any version.
pub(super) const RECORD_SIZE_MAXIMUM: usize = 16 * 1024;
const ADDED: usize = 29;
/// What a queued record takes beside its bytes: its place in a list, and what the allocator adds.
const BESIDE_RECORD: usize = size_of::<Vec<u8>>() + 16;

/// The estimated buffers of one session.
#[derive(Debug)]
pub(super) struct Buffers {
    /// The most bytes of plaintext in an outgoing record.
    record_size: usize,
    /// The header of the incoming record, and how many bytes of the record have come.
    header: [u8; RECORD_HEADER],
    record: usize,
    /// Bytes that have come since the last output: the records of a message in progress are held.
    unanswered: usize,
    /// Length of the input buffer.
    room: usize,
    /// Ciphertext that was queued when some was last added, and what is left of it.
    queued: usize,
    output: usize,
    /// Memory of the client's certificate chain.
    certificates: usize,
}

impl Buffers {
    /// The buffers of a new session that sends records of at most this many bytes.
    pub(super) const fn of(record_size: usize) -> Self {
        Self {
            record_size,
            header: [0; RECORD_HEADER],
            record: 0,
            unanswered: 0,
            room: 0,
            queued: 0,
            output: 0,
            certificates: 0,
        }
    }

    /// Bytes that the session takes in addition to its own size.
    pub(super) fn memory(&self) -> usize {
        let state = if self.room == 0 { BEGUN } else { SETTLED };
        // A record is freed when all of it has been written.
        let record = self.record_size + ADDED;
        let left = self.queued.saturating_sub(self.output) / record * record;
        let queued = self.queued - left;
        let beside = queued.div_ceil(record) * BESIDE_RECORD;
        let waiting = if self.output == 0 { 0 } else { memory::allocation(queued) + beside };
        state + memory::allocation(self.room) + waiting + self.certificates
    }

    /// Notes that these bytes are read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        let held = self.held();
        let needed = (held + READ).min(HELD_MAXIMUM + READ);
        self.room = if held == 0 { needed } else { self.room.max(needed) };
        self.unanswered += bytes.len();
        while !bytes.is_empty() {
            let length = usize::from(u16::from_be_bytes([
                self.header[RECORD_HEADER - 2],
                self.header[RECORD_HEADER - 1],
            ]));
            let end = if self.record < RECORD_HEADER { RECORD_HEADER } else { RECORD_HEADER + length };
            let (taken, rest) = bytes.split_at(bytes.len().min(end - self.record));
            if let Some(place) = self.header.get_mut(self.record..self.record + taken.len()) {
                place.copy_from_slice(taken);
            }
            self.record += taken.len();
            bytes = rest;
            let length = usize::from(u16::from_be_bytes([
                self.header[RECORD_HEADER - 2],
                self.header[RECORD_HEADER - 1],
            ]));
            if self.record >= RECORD_HEADER && self.record == RECORD_HEADER + length {
                self.record = 0;
            }
        }
    }

    /// Notes that the input has produced plaintext.
    pub(super) const fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// Whether no input is held, and the input buffer is larger than one read needs.
    pub(super) fn may_shrink(&self) -> bool {
        self.held() == 0 && self.room > READ
    }

    /// Notes that the input buffer has its smallest size.
    pub(super) const fn shrunk(&mut self) {
        self.room = READ;
    }

    /// Notes that this much plaintext was encrypted while no ciphertext was queued.
    pub(super) const fn encrypted(&mut self, plaintext: usize) {
        self.queued = plaintext + plaintext.div_ceil(self.record_size) * ADDED;
        self.output = self.queued;
    }

    /// Notes that this much ciphertext is queued.
    pub(super) fn waiting(&mut self, output: usize) {
        self.queued = if output == 0 { 0 } else { self.queued.max(output) };
        self.output = output;
    }

    /// Notes that the client has presented certificates of these lengths.
    pub(super) fn certified(&mut self, lengths: impl Iterator<Item = usize>) {
        self.certificates = lengths.map(|length| memory::allocation(length) + size_of::<Vec<u8>>()).sum();
    }

    /// Bytes of input that are held.
    pub(super) fn held(&self) -> usize {
        self.record.max(self.unanswered).min(HELD_MAXIMUM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: usize = RECORD_SIZE_MAXIMUM;

    fn record(length: u16) -> Vec<u8> {
        [&[23, 3, 3][..], &length.to_be_bytes(), &vec![0; usize::from(length)]].concat()
    }

    #[test]
    fn a_record_in_progress_is_held_and_a_whole_one_is_not() {
        let mut buffers = Buffers::of(FRAGMENT);
        let idle = |buffers: &Buffers| buffers.memory() <= SETTLED + memory::allocation(READ);
        let bytes = [record(3), record(0), record(16_000)].concat();
        for piece in bytes[..bytes.len() - 1].chunks(READ) {
            buffers.read(piece);
            if buffers.record < piece.len() {
                buffers.answered();
            }
        }
        assert!(buffers.memory() > 16_000 && !buffers.may_shrink());
        buffers.read(&bytes[bytes.len() - 1..]);
        buffers.answered();
        assert!(buffers.may_shrink() && !idle(&buffers));
        buffers.shrunk();
        assert!(idle(&buffers));
    }

    #[test]
    fn input_without_any_effect_is_held() {
        let mut buffers = Buffers::of(FRAGMENT);
        for _ in 0..100 {
            buffers.read(&record(1000));
        }
        assert!(buffers.memory() >= HELD_MAXIMUM && buffers.memory() < HELD_MAXIMUM + 3 * READ);
    }

    #[test]
    fn records_that_have_left_are_freed_one_by_one() {
        let mut buffers = Buffers::of(FRAGMENT);
        let idle = buffers.memory();
        buffers.encrypted(4 * FRAGMENT);
        let all = 4 * (FRAGMENT + ADDED);
        let waits = |buffers: &Buffers| (buffers.memory() - idle).div_ceil(FRAGMENT + ADDED + 64);
        for (left, records) in [(0, 4), (1, 4), (FRAGMENT + ADDED, 3), (all - 1, 1), (all, 0)] {
            buffers.waiting(all - left);
            assert_eq!(waits(&buffers), records, "{left}");
        }
    }

    #[test]
    fn small_records_take_more_than_their_contents() {
        let queued = |record_size| {
            let mut buffers = Buffers::of(record_size);
            let idle = buffers.memory();
            buffers.encrypted(FRAGMENT);
            buffers.memory() - idle
        };
        assert!(
            queued(512) >= FRAGMENT + 32 * (ADDED + size_of::<Vec<u8>>()) && queued(512) > queued(FRAGMENT)
        );
    }
}
