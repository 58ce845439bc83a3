//! Tests of what is packed beside the code.

mod build_script;
#[cfg(all(feature = "passwords", feature = "persistence"))]
mod pages;
