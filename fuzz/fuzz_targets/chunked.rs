//! One stream of bytes, whole and in pieces. Run with `make fuzz TARGET=chunked`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::core::broker::fuzzing::cut(data));
