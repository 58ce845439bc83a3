//! Operations on the timer wheel and on a sorted map. Run with `make fuzz TARGET=wheel`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::core::wheel::fuzzing::operate(data));
