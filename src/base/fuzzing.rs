//! What the bodies of the fuzz targets share: any bytes, read as choices.
//!
//! Every byte string is a valid input, so that no effort of a fuzzer is lost; behind its end all choices are zero.

/// Bytes that decide what a body does.
#[derive(Clone, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Reads from the front of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all bytes have been read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A number below `end`, which is at most 256 and not zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of `choices`, of which there is at least one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A number of any magnitude, small ones as likely as large ones.
    pub fn number(&mut self) -> u64 {
        let width = self.below(9);
        self.bytes(width).iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// The next `count` bytes, or as many as there are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A text for a topic or a filter, of up to 11 pieces that collide often. It may be wrong.
    pub fn topic(&mut self) -> String {
        const PIECES: [&str; 16] = [
            "a",
            "a",
            "b",
            "/",
            "/",
            "/",
            "/",
            "+",
            "+",
            "#",
            "$",
            "!",
            "0",
            "é",
            "aaaaaaaaaaaaaaa",
            "$share/",
        ];
        (0..self.below(12)).map(|_| self.pick(&PIECES)).collect()
    }
}

/// Whether the standard lets a receiver take a character [MQTT-1.5.4], by its own list: no control characters and no
/// non-characters. A second opinion, in other words than those of the codec.
pub fn may_stand_in_a_string(character: char) -> bool {
    let number = u32::from(character);
    let is_control = number <= 0x1F || (0x7F..=0x9F).contains(&number);
    let is_of_the_block = (0xFDD0..0xFDD0 + 32).contains(&number);
    let is_last_of_a_plane =
        (0..=16).any(|plane| [plane * 0x1_0000 + 0xFFFE, plane * 0x1_0000 + 0xFFFF].contains(&number));
    !(is_control || is_of_the_block || is_last_of_a_plane)
}

#[cfg(test)]
pub(crate) use testing::try_out;

#[cfg(test)]
mod testing {
    use std::path::Path;

    /// Runs a body over the checked-in inputs of its target and over `count` byte strings of its own making.
    #[expect(clippy::disallowed_methods, reason = "a test may read files")]
    pub(crate) fn try_out(target: &str, count: u64, body: impl Fn(&[u8])) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        for entry in std::fs::read_dir(directory).expect("the target has inputs") {
            let path = entry.expect("an entry can be read").path();
            body(&std::fs::read(path).expect("an input can be read"));
        }
        for seed in 1..=count {
            body(&bytes_of(seed));
        }
    }

    /// Up to 512 bytes, always the same for a seed: the generator is xorshift.
    fn bytes_of(seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()
        };
        let [high, low, ..] = draw();
        let length = u16::from_be_bytes([high, low]) % 512;
        (0..length).map(|_| draw()[0]).collect()
    }

    #[test]
    fn behind_the_end_all_choices_are_zero() {
        let mut input = super::Input::new(&[2, 1, 1, 7]);
        assert_eq!((input.number(), input.byte(), input.is_empty()), (257, 7, true));
        assert_eq!((input.byte(), input.number(), input.once_in(2), input.bytes(9)), (0, 0, false, &[][..]));
    }
}
