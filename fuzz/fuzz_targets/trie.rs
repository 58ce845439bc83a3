//! Operations on the trie and on a plain map. Run with `make fuzz TARGET=trie`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::core::trie::fuzzing::operate(data));
