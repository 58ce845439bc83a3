//! Which keywords name files: each row of the table of keywords, with a relative path.

use std::fs;

use brooklet::config::file::keywords::{Keyword, keywords};
use brooklet::config::file::{self, CommandLine};

use crate::binary::{ROOT, Scratch};

/// A path that is in no other value.
const PATH: &str = "no/x";

/// The keywords with other texts that may look like paths.
const NO_PATHS: [&str; 20] = [
    "clientid_prefixes",
    "log_timestamp_format",
    "persistence_file",
    "user",
    "auto_id_prefix",
    "listener_auto_id_prefix",
    "bind_address",
    "bind_interface",
    "listener_name",
    "mount_point",
    "topic",
    "remote_clientid",
    "clientid",
    "remote_username",
    "remote_password",
    "local_clientid",
    "local_username",
    "local_password",
    "notification_topic",
    "bridge_alpn",
];

/// Statements without which some keywords have no effect.
const CONTEXTS: [&str; 5] = [
    "persistence true\n",
    "listener 1\ncertfile c\nkeyfile k\ncafile a\n",
    "connection a\naddress far.test\ntopic #\nremote_username u\nremote_password p\nbridge_cafile a\n\
     bridge_certfile c\nbridge_keyfile k\n",
    "cluster tls://far.test\ncluster_name n\ncluster_username u\ncluster_password p\ncluster_cafile a\n\
     cluster_certfile c\ncluster_keyfile k\n",
    "cluster nats://far.test\ncluster_name n\n",
];

/// All that the settings and errors with a value of this keyword say.
fn told(scratch: &Scratch, keyword: &Keyword, value: &str) -> String {
    let mut told = String::new();
    for context in CONTEXTS {
        let others: String = context
            .split_inclusive('\n')
            .filter(|line| line.split(' ').next() != Some(keyword.name))
            .collect();
        let path = scratch.file("a.conf", &format!("{others}{} {value}\n", keyword.name));
        let given = CommandLine { host_name: Some("host".to_owned()), ..CommandLine::default() };
        let outcome = file::load(Some(&path), &given);
        if let Some(settings) = &outcome.settings {
            told += &format!("{settings:?}\n");
        }
        let include = outcome.errors.iter().find(|error| error.to_string().contains("cannot be read"));
        told.extend(include.map(|error| format!("{error}\n")));
        fs::remove_file(&path).expect("it was written");
    }
    told
}

#[test]
fn every_path_is_marked_in_the_table_and_becomes_absolute() {
    let scratch = Scratch::new("rows");
    let mut others = Vec::new();
    let mut marked = 0;
    for keyword in keywords() {
        let values = [PATH.to_owned(), format!("file {PATH}"), format!("0 {PATH}")];
        let is_path = |value: &String| keyword.path_in(value).is_some_and(|(_, place)| &value[place] == PATH);
        if let Some(value) = values.iter().find(|value| is_path(value)) {
            let told = told(&scratch, keyword, value);
            let [all, absolute] = [PATH, &format!("{ROOT}/{PATH}")].map(|path| told.matches(path).count());
            assert!(absolute > 0 && all == absolute, "{} {value}: {absolute} of {all}", keyword.name);
            marked += 1;
        } else if values.iter().any(|value| told(&scratch, keyword, value).contains(PATH)) {
            others.push(keyword.name);
        }
    }
    assert!(marked >= 16, "{marked}");
    // Without the feature `cluster`, those of a node are refused.
    let of_node = ["cluster_username", "cluster_password"].into_iter().filter(|_| cfg!(feature = "cluster"));
    assert_eq!(others, NO_PATHS.into_iter().chain(of_node).collect::<Vec<_>>(), "are these paths?");
}
