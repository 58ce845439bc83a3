//! Databases of mosquitto. Run with `make fuzz TARGET=import`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::import::fuzzing::check(data));
