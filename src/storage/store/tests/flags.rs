//! How SQLite was compiled.

use rusqlite::Connection;

/// The compile-time options that SQLite reports.
fn options() -> Vec<String> {
    let connection = Connection::open_in_memory().expect("opened");
    let mut statement = connection.prepare("PRAGMA compile_options").expect("a statement");
    let rows = statement.query_map((), |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a text")).collect()
}

/// HAVE_FDATASYNC is the option that matters, and SQLite does not report it. It is set in the same variable as the
/// others, so it took effect if they did. Where it can, `.ci/run` looks at the system calls, too.
#[test]
fn a_commit_uses_fdatasync_and_not_fsync() {
    let flags = option_env!("LIBSQLITE3_FLAGS").unwrap_or_default();
    assert!(flags.split_whitespace().any(|flag| flag == "-DHAVE_FDATASYNC=1"), "{flags}");
    let options = options();
    for flag in flags.split_whitespace() {
        let (is_set, name) = match (flag.strip_prefix("-DSQLITE_"), flag.strip_prefix("-USQLITE_")) {
            (Some(name), _) => (true, name),
            (None, Some(name)) => (false, name),
            (None, None) => continue,
        };
        let is_known = options.iter().any(|option| option.split('=').next() == name.split('=').next());
        assert_eq!(is_known, is_set, "{flag}: {options:?}");
    }
}
