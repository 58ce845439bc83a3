//! The build script, compiled and run as Cargo does it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Compiles the build script into the directory for temporary files of this test.
fn compile() -> PathBuf {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-script");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs");
    let status = Command::new(compiler).args(["--edition=2024", source, "-o"]).arg(&script).status();
    assert!(status.expect("the compiler can be started").success());
    script
}

fn run(script: &Path, persists: bool, flags: Option<&str>) -> Output {
    let mut command = Command::new(script);
    command.env_clear();
    if persists {
        command.env("CARGO_FEATURE_PERSISTENCE", "1");
    }
    command.envs(flags.map(|flags| ("LIBSQLITE3_FLAGS", flags)));
    command.output().expect("the build script can be started")
}

#[test]
fn a_build_without_the_flags_of_sqlite_stops_with_a_line_that_works() {
    let script = compile();
    for (persists, flags, succeeds) in [
        (false, None, true),
        (true, None, false),
        (true, Some(""), false),
        (true, Some("-DSQLITE_OMIT_JSON -UHAVE_FDATASYNC"), false),
        (true, Some("-DHAVE_FDATASYNC=0"), false),
        (true, Some("-DSQLITE_OMIT_JSON  -DHAVE_FDATASYNC=1 "), true),
        (true, Some("-DHAVE_FDATASYNC"), true),
        (true, Some(env!("LIBSQLITE3_FLAGS")), true),
    ] {
        let output = run(&script, persists, flags);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), succeeds, "{persists} {flags:?}: {error}");
        let line = "LIBSQLITE3_FLAGS=-DHAVE_FDATASYNC=1 cargo install --locked brooklet\n";
        assert_eq!(error.contains(line), !succeeds, "{persists} {flags:?}: {error}");
    }
}
