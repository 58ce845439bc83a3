//! The byte order mark, which some editors write at the start of a file.

/// U+FEFF in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The warning about a mark at the start of a file.
pub const SKIPPED: &str = "a byte order mark, which mosquitto would not skip, is skipped";
/// The error about a mark at the start of any other line, where it would become part of a word without being seen.
pub const MISPLACED: &str = "a byte order mark inside the file, expected none";

/// What follows the mark, if the bytes start with one.
pub fn after_mark(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(MARK)
}
