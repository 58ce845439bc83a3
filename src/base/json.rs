//! JSON texts, within limits on their length, their nesting and the number of their values, which are all checked before
//! anything is allocated for them.
//!
//! The values are those of `serde_json`, which takes 37 KiB of the binary, without its derived code. Of the smaller
//! crates, jzon (24 KiB) has not changed since 2023 and turns `1e999999999` into another number; tinyjson (36 KiB) keeps
//! whole numbers as fractions, which is too few digits for the sequences of a stream, and overflows the stack at 100,000
//! nested arrays; miniserde (34 KiB) reports nothing about an error.
//!
//! Refused are numbers that a fraction of 64 bits cannot hold, surrogates without their other half and everything that
//! is not UTF-8. Whole numbers of 64 bits are exact. Of equal names in an object, the last one counts.

use std::fmt;

pub use serde_json::{Map, Value};

/// The deepest nesting of arrays and objects.
const DEPTH_MAXIMUM: usize = 32;
/// The most values in a text, names not counted. Each takes up to 100 bytes of memory, and an object 600 more.
const VALUES_MAXIMUM: usize = 16_384;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(Box<str>);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Parses a text of at most `length_maximum` bytes.
///
/// # Errors
///
/// It is too long, nested too deeply, has too many values or is not JSON.
pub fn parse(text: &[u8], length_maximum: usize) -> Result<Value, Refused> {
    if text.len() > length_maximum {
        return Err(Refused("JSON that is too long".into()));
    }
    check_shape(text).map_err(|why| Refused(why.into()))?;
    serde_json::from_slice(text).map_err(|error| Refused(format!("malformed JSON: {error}").into()))
}

/// Checks the nesting and the number of values of a text, which may be malformed.
fn check_shape(text: &[u8]) -> Result<(), &'static str> {
    let (mut depth, mut values) = (0_usize, 0_usize);
    let (mut is_string, mut is_escaped) = (false, false);
    for &byte in text {
        if is_string {
            is_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'"' => is_string = true,
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > DEPTH_MAXIMUM {
            return Err("JSON that is nested more than 32 times");
        }
        if values > VALUES_MAXIMUM {
            return Err("JSON with more than 16,384 values");
        }
    }
    Ok(())
}

/// An object with these fields. Those that are null are left out.
pub fn object<const COUNT: usize>(fields: [(&str, Value); COUNT]) -> Value {
    let mut map = Map::new();
    // To collect them would sort them first, which takes more code.
    for (name, value) in fields {
        if !value.is_null() {
            map.insert(name.to_owned(), value);
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_refused(text: impl AsRef<[u8]>) -> bool {
        parse(text.as_ref(), usize::MAX).is_err()
    }

    #[test]
    fn texts_are_limited_before_they_are_parsed() {
        assert!(is_refused("[".repeat(100_000)) && is_refused("{\"a\":".repeat(100_000)));
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!is_refused(nested(DEPTH_MAXIMUM)) && is_refused(nested(DEPTH_MAXIMUM + 1)));
        let flat = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        assert!(!is_refused(flat(VALUES_MAXIMUM)) && is_refused(flat(VALUES_MAXIMUM + 2)));
        assert!(!is_refused(format!("[{:?}]", "[{,".repeat(VALUES_MAXIMUM))), "they are in a string");
        assert!(!is_refused(r#"["\\",["\"[",[]]]"#));
        assert!(parse(b"[1]", 3).is_ok() && parse(b"[1]", 2).is_err());
    }

    #[test]
    fn odd_texts_are_refused_and_whole_numbers_are_exact() {
        for text in [
            "",
            "[1e999999999]",
            &"9".repeat(100_000),
            r#""\ud800""#,
            "[1,]",
            "{'a':1}",
            "[1] 2",
            "\"\n\"",
            "NaN",
        ] {
            assert!(is_refused(text), "{text}");
        }
        assert!(is_refused(b"\"\xff\"") && is_refused(b"\"\xed\xa0\x80\""));
        let exact = parse(b"[18446744073709551615,-9223372036854775808]", 100).unwrap();
        assert_eq!((exact[0].as_u64(), exact[1].as_i64()), (Some(u64::MAX), Some(i64::MIN)));
        assert_eq!(parse(b"18446744073709551616", 100).unwrap().as_u64(), None);
        assert_eq!(parse(br#"{"a":1,"a":2}"#, 100).unwrap()["a"], 2);
    }

    #[test]
    fn fields_that_are_null_are_left_out() {
        let text = object([("b", 1.into()), ("a", Value::Null), ("c", "\"\n\u{e9}".into())]).to_string();
        assert_eq!(text, "{\"b\":1,\"c\":\"\\\"\\n\u{e9}\"}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(text in prop::collection::vec(prop::sample::select(br#"[]{},:"\u01e-. tn"#.to_vec()), 0..40)) {
            if let Ok(value) = parse(&text, 100) {
                prop_assert_eq!(parse(value.to_string().as_bytes(), 1_000), Ok(value));
            }
        }

        #[test]
        fn any_string_is_written_and_read(text: String) {
            let value = object([("a", text.into())]);
            prop_assert_eq!(parse(value.to_string().as_bytes(), usize::MAX), Ok(value));
        }
    }
}
