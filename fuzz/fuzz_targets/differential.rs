//! The same calls to several brokers, which must give the same answers on different paths. Run with `make fuzz
//! TARGET=differential`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::core::broker::fuzzing::compare(data));
