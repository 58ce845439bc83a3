//! Bytes to packets and back. Run with `cargo +nightly fuzz run decode`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::codec::fuzzing::decode_stream(data));
