//! Tests of what is packed beside the code.

mod build_script;
mod openwrt;
#[cfg(all(feature = "passwords", feature = "persistence"))]
mod pages;
