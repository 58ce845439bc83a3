//! Any text as the command line. Run with `make fuzz TARGET=options`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| brooklet::config::command_line::fuzzing::check(data));
