//! A hostile NATS server. Run with `make fuzz TARGET=nats`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::cluster::engine::fuzzing::check(data));
