//! How the engine was compiled.

use rusqlite::Connection;

/// The options that the engine tells of itself.
fn options() -> Vec<String> {
    let connection = Connection::open_in_memory().expect("opened");
    let mut statement = connection.prepare("PRAGMA compile_options").expect("a statement");
    let rows = statement.query_map((), |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a text")).collect()
}

/// HAVE_FDATASYNC is the one that matters and the one that the engine does not tell. It comes with the others in one
/// variable, so it was seen if they were; `.ci/run` looks at the system calls, too, where it can.
#[test]
fn a_commit_is_no_fsync() {
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
