//! Every message about the value of a keyword names the line that has it, also if only the start finds what is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use brooklet::config::file::keywords::keywords;
use brooklet::config::file::{self, CommandLine};
use brooklet::settings::ConfigError;

use crate::binary::Scratch;

/// Values of which at least one is wrong for every keyword that can be wrong. `@` is a directory that has a directory, a
/// file that is nothing known, and a file that every user can read.
const VALUES: [&str; 9] = [
    "@/none/x",
    "@/directory",
    "@/text",
    "file @/none/log",
    "file @/directory",
    "no-such-name",
    "mosquitto.db",
    "true",
    "7",
];

/// What the keyword is added to: a listener, one with TLS, one of a socket, a bridge.
const BASES: [&str; 4] = [
    "",
    "certfile @/text\nkeyfile @/text\ncafile @/text\n",
    "listener 0 @/socket\n",
    "connection far\naddress far.test\ntopic #\nremote_clientid far\nbridge_cafile @/text\nbridge_certfile @/text\n\
     bridge_keyfile @/text\n",
];

/// What can be wrong with a value that is in order as text.
const FOUND_LATER: [&str; 17] = [
    "acl_file",
    "bridge_cafile",
    "bridge_capath",
    "bridge_certfile",
    "bridge_keyfile",
    "cafile",
    "capath",
    "certfile",
    "crlfile",
    "keyfile",
    "listener",
    "log_dest",
    "password_file",
    "persistence_file",
    "persistence_location",
    "pid_file",
    "socket_group",
];

/// The findings of a start, without those about the text alone.
fn findings(path: &str) -> Vec<ConfigError> {
    let given = CommandLine { host_name: Some("host".to_owned()), ..CommandLine::default() };
    let outcome = file::load(Some(path), &given);
    let Some(settings) = outcome.settings else { return Vec::new() };
    let checked = file::check(&settings);
    let met = file::obstacles(&settings);
    [checked.errors, checked.warnings, met.errors, met.warnings, file::check_sessions(&settings)].concat()
}

/// The keyword of the line that a message names; `None` if it names none.
fn keyword_named(error: &ConfigError, path: &str, text: &str) -> Option<String> {
    let numbers = error.place.strip_prefix(path)?.strip_prefix(':')?;
    let line: usize = numbers.split(':').next()?.parse().ok()?;
    text.lines().nth(line.checked_sub(1)?)?.split(' ').next().map(str::to_owned)
}

#[test]
fn every_message_about_a_value_names_its_line() {
    let scratch = Scratch::new("places");
    let root = scratch.0.display().to_string();
    fs::create_dir_all(scratch.0.join("directory")).expect("a directory can be made");
    fs::create_dir_all(scratch.0.join("store")).expect("a directory can be made");
    let file = scratch.file("text", "this is no file of the broker\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let is_root = Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0);
    let mut named = BTreeSet::new();
    for keyword in keywords() {
        for value in VALUES {
            for base in BASES {
                let line = format!("{} {value}", keyword.name);
                let text = match keyword.name {
                    "persistence_location" | "persistence_file" => format!("persistence true\n{line}\n"),
                    "user" => format!("{line}\n"),
                    name => {
                        let others = base.lines().filter(|other| !other.starts_with(&format!("{name} ")));
                        let others: Vec<&str> = others.collect();
                        format!("user root\nlistener 0 127.0.0.1\n{}\n{line}\n", others.join("\n"))
                    }
                };
                let text = text.replace('@', &root);
                let path = scratch.file("a.conf", &text);
                for error in findings(&path) {
                    // A line of the file that the value names is as good.
                    if error.place.starts_with(&format!("{file}:")) {
                        continue;
                    }
                    let found = keyword_named(&error, &path, &text);
                    assert!(found.is_some(), "no line of the configuration is named by: {error}\n{text}");
                    named.extend(found);
                }
            }
        }
    }
    if is_root {
        assert!(named.contains("user"), "{named:?}");
    }
    let missing: Vec<_> = FOUND_LATER.iter().filter(|keyword| !named.contains(**keyword)).collect();
    assert!(missing.is_empty(), "the test never made these fail: {missing:?}");
}
