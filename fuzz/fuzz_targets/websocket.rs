//! WebSocket in pieces. Run with `make fuzz TARGET=websocket`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::protocol::websocket::fuzzing::check(data));
