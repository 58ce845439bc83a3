//! A bridge between this broker and any other. Run with `make fuzz TARGET=bridge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::bridge::machine::fuzzing::operate(data));
