//! Any bytes as an entry of the log of a cluster. Run with `make fuzz TARGET=cluster`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::cluster::entry::fuzzing::check(data));
