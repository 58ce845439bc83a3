//! PROXY headers in pieces. Run with `make fuzz TARGET=proxy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::protocol::proxy::fuzzing::check(data));
