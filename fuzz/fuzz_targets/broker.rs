//! Operations of clients, clock and network on the whole core. Run with `make fuzz TARGET=broker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::core::broker::fuzzing::operate(data));
