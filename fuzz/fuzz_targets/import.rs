//! Databases of mosquitto. Run with `make fuzz TARGET=import`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::storage::import::fuzzing::check(data));
