//! Has the linker put side by side what a start needs.
//!
//! The system maps 64 KiB around whatever code is touched. A start needs a seventh of it, but scattered over all of it
//! that seventh would make most of the file resident: a fifth of what a broker holds that nobody talks to. The order
//! changes nothing else, so what is missing from the list, or is too much on it, costs some memory alone.

use std::path::PathBuf;
use std::{env, fs, io};

/// Parts of the names of sections, each of which holds one function, as compilers write paths: length and name.
/// Found with callgrind.
const NEEDED_AT_START: [&str; 68] = [
    "main",
    "rust_alloc",
    "brooklet..config",
    "brooklet..server..listener",
    "9reload_by",
    "8brooklet4read",
    "8brooklet6config",
    "8brooklet7logging6output",
    "8brooklet7logging6set_up",
    "brooklet..logging",
    "8brooklet7options16with_environment",
    "8brooklet9authority",
    "8brooklet6server6Server",
    "8brooklet6server8contents",
    "8brooklet6server8entrance",
    "8brooklet6server8listener",
    "8brooklet6server6rights",
    "8brooklet6server7sandbox",
    "8brooklet6server6socket",
    "8brooklet6server3tls4load4load",
    "8brooklet6broker3sys",
    "8brooklet6broker5rules",
    "8brooklet6broker6budget",
    "8brooklet6broker7matches",
    "8brooklet6broker6Broker",
    "Broker$GT$5route",
    "Broker$GT$7publish",
    "Broker$GT$10publish_of",
    "Broker$GT$11sweep_later",
    "Broker$GT$10can_retain",
    "Broker$GT$10matches_of",
    "Broker$GT$9set_rules",
    "8brooklet7message",
    "brooklet..message",
    "brooklet..settings",
    "drop_in_place$LT$brooklet..authority",
    "8brooklet8retained",
    "8brooklet4trie4pool",
    "8brooklet5wheel",
    "getopts",
    "signal_hook",
    "3mio",
    "2tz",
    "5alloc2rc",
    "5alloc3fmt",
    "5alloc6string",
    "5alloc7raw_vec",
    "5btree3map25IntoIter",
    "..vec..Vec$LT$",
    "copy_from_slice_impl",
    "slice..Concat",
    "slice..cmp",
    "4core3fmt",
    "core..fmt..Display",
    "4core4bstr",
    "4core4iter",
    "core..iter..",
    "3net6parser",
    "4core3ops",
    "4core3str",
    "core..hash",
    "3std3env",
    "3std3sys",
    "3std2fs",
    "19default_read_to_end",
    "3std4sync4once",
    "3std4sync9once_lock",
    "3std4time",
];

/// Parts of names of much that is not needed then, so that what the list above misses lies closer together.
const NEEDED_LATER: [&str; 13] = [
    "8brooklet6broker",
    "8brooklet5codec",
    "8brooklet3acl",
    "8brooklet7session",
    "backtrace_rs",
    "5gimli",
    "9addr2line4line",
    "9addr2line4unit",
    "9addr2line8function",
    "14rustc_demangle",
    "11miniz_oxide",
    "5slice4sort",
    "4cell4once",
];

#[expect(clippy::disallowed_methods, reason = "this is not the core")]
fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    // Whoever chooses a linker may have one that knows no scripts.
    let is_chosen = variable("CARGO_ENCODED_RUSTFLAGS").contains("-fuse-ld");
    if variable("CARGO_CFG_TARGET_OS") != "linux" || is_chosen {
        return Ok(());
    }
    let script =
        section(".text.start", &NEEDED_AT_START, "BEFORE") + &section(".text.later", &NEEDED_LATER, "AFTER");
    let path = PathBuf::from(variable("OUT_DIR")).join("start.ld");
    fs::write(&path, script)?;
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", path.display());
    Ok(())
}

/// What tells a linker to gather functions beside all others. Of two sections that would take one the first gets it.
fn section(name: &str, functions: &[&str], side: &str) -> String {
    let patterns: String = functions.iter().map(|part| format!("*(.text.*{part}*)\n")).collect();
    format!("SECTIONS {{ {name} : {{\n{patterns}}} }} INSERT {side} .text;\n")
}
