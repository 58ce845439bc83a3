//! Any text as Topic Name and Topic Filter. Run with `make fuzz TARGET=topic`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::protocol::topic::fuzzing::check(data));
