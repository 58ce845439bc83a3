//! What nodes say to each other about their clients, damaged. Run with `make fuzz TARGET=claims`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::cluster::claims::fuzzing::check(data));
