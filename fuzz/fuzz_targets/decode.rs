//! Bytes to packets and back. Run with `make fuzz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::protocol::codec::fuzzing::decode_stream(data));
