//! Any bytes as the configuration file. Run with `make fuzz TARGET=config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::config::file::fuzzing::check(data));
