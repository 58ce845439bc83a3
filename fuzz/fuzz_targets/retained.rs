//! Operations on the retained messages and on a plain map. Run with `make fuzz TARGET=retained`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::core::retained::fuzzing::operate(data));
