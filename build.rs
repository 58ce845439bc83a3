//! Refuses to build a binary whose commits would cost twice: see `.cargo/config.toml`, which Cargo reads only in a
//! checkout.

use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    let persists = std::env::var_os("CARGO_FEATURE_PERSISTENCE").is_some();
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    if !persists || syncs_only_data(&flags) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{REFUSAL}");
    ExitCode::FAILURE
}

/// Whether SQLite, compiled with these flags, commits with `fdatasync`.
fn syncs_only_data(flags: &str) -> bool {
    flags.split_whitespace().any(|flag| matches!(flag, "-DHAVE_FDATASYNC" | "-DHAVE_FDATASYNC=1"))
}

const REFUSAL: &str = "
Cargo has not read Brooklet's .cargo/config.toml, so SQLite would be built without HAVE_FDATASYNC, and every commit
would cost twice. `cargo install` of a registry or with --git never reads it. This works:

    LIBSQLITE3_FLAGS=-DHAVE_FDATASYNC=1 cargo install --locked brooklet

and with --git the same, with `--git URL` before the name. In a checkout, which also makes a smaller binary:

    cargo install --locked --path .
";
