//! Any subject and any bytes as a message from another node. Run with `make fuzz TARGET=cluster`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::cluster::message::fuzzing::check(data));
