//! The `brooklet` binary.

fn main() {}
