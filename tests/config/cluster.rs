//! The keywords of a node: what they set, and what is reported.

use std::fs;

use brooklet::config::file::{self, CommandLine, Finding, Step};
use brooklet::settings::{Cluster, ClusterLogin, RemoteAddress};

use crate::binary::{Scratch, brooklet, text};
use crate::settle::settle;

/// A node without options.
const START: &str = "cluster nats://a.example nats://[::1]:4\ncluster_name home\n";

/// The same with TLS.
const ENCRYPTED: &str = "cluster tls://a.example\ncluster_name home\n";

/// What is reported, without the warning about what nodes do not share yet.
fn told(text: &str) -> Vec<String> {
    let kind = |finding: &Finding| if finding.is_error { "error" } else { "warning" };
    let line = |finding: &Finding| format!("{} {}: {}", kind(finding), finding.place.line, finding.text);
    let findings = settle(text).1;
    findings.iter().filter(|finding| !finding.text.contains("sessions and Shared")).map(line).collect()
}

fn cluster(text: &str) -> Cluster {
    assert_eq!(told(text), [""; 0], "{text}");
    settle(text).0.cluster.expect("it is configured")
}

#[test]
fn a_broker_is_alone_by_default() {
    assert_eq!(settle("listener 1883\n").0.cluster, None);
}

#[test]
fn values_are_set() {
    let node = cluster(START);
    let server = |host: &str, port| RemoteAddress { host: host.to_owned(), port };
    assert_eq!(node.servers, [server("a.example", 4222), server("::1", 4)]);
    assert_eq!((node.name.as_str(), node.node.as_str()), ("home", "HOSTNAME"));
    assert_eq!((node.login, node.tls, node.interest_levels), (None, None, 3));

    let node = cluster(&format!("{START}cluster_node one.example\ncluster_interest_levels 1\n"));
    assert_eq!((node.node.as_str(), node.interest_levels), ("one.example", 1));
    let node = cluster(&format!("{ENCRYPTED}cluster_username u\ncluster_password p w\n"));
    let login = ClusterLogin::Password { user_name: "u".into(), password: "p w".into() };
    assert_eq!(node.login, Some(login));
    let node = cluster(&format!("{START}cluster_credentials a b\n"));
    assert_eq!(node.login, Some(ClusterLogin::Credentials("a b".into())));
    let node = cluster(&format!("{ENCRYPTED}cluster_cafile a\ncluster_certfile c\ncluster_keyfile k\n"));
    let tls = node.tls.expect("it has TLS");
    assert_eq!((tls.trust.authorities, tls.trusts_system), (Some("a".into()), false));
    assert_eq!(tls.identity, Some(["c".into(), "k".into()]));
    let tls = cluster(ENCRYPTED).tls.expect("it has TLS");
    assert_eq!((tls.trust.authorities, tls.trusts_system, tls.identity), (None, true, None));
}

#[test]
fn a_start_is_told_what_nodes_do_not_share_yet() {
    let findings = settle(START).1;
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    assert!(!finding.is_error && finding.text.contains("sessions and Shared"), "{finding:?}");
}

/// What is given before some lines, these lines, and what is reported.
const REPORTS: &[(&str, &str, &str)] = &[
    ("", "cluster_name a\n", "error 1: 'cluster_name' without 'cluster', expected its servers"),
    (
        "",
        "cluster nats://a\n",
        "error 1: 'cluster' without 'cluster_name', expected the same name in all nodes",
    ),
    (
        "",
        "cluster a\ncluster_name b\n",
        "error 1: 'cluster' is 'a', expected one or more servers, each as nats://HOST:PORT, or each as tls://HOST:PORT, with spaces between them",
    ),
    (
        "",
        "cluster nats://a tls://b\ncluster_name b\n",
        "error 1: 'cluster' is 'nats://a tls://b', expected nats:// for all servers, or tls:// for all",
    ),
    (
        "",
        "cluster nats://a nats://A:4222\ncluster_name b\n",
        "error 1: 'cluster' is 'nats://a nats://A:4222', expected each server once",
    ),
    (
        "",
        "cluster nats://a\ncluster_name a.b\n",
        "error 2: 'cluster_name' is 'a.b', expected 1 to 32 letters, digits, '-' and '_'",
    ),
    (
        START,
        "cluster_node a/b\n",
        "error 3: 'cluster_node' is 'a/b', expected 1 to 64 letters, digits, '-', '_' and '.'",
    ),
    (
        START,
        "cluster_interest_levels 9\n",
        "error 3: 'cluster_interest_levels' is '9', expected a number from 1 to 8",
    ),
    (
        START,
        "cluster_username u\ncluster_password p\ncluster_credentials c\n",
        "error 5: 'cluster_credentials' beside a user name or a password, expected one way to log in",
    ),
    (
        ENCRYPTED,
        "cluster_username u\n",
        "error 3: 'cluster_username' without 'cluster_password', expected both",
    ),
    (
        ENCRYPTED,
        "cluster_password p\n",
        "error 3: 'cluster_password' without 'cluster_username', expected both",
    ),
    (
        START,
        "cluster_username u\ncluster_password p\n",
        "warning 4: the password is sent without encryption, expected tls:// for servers on other machines",
    ),
    (START, "cluster_cafile a\n", "error 3: 'cluster_cafile' without TLS, expected tls:// in 'cluster'"),
    (
        ENCRYPTED,
        "cluster_certfile c\n",
        "error 3: 'cluster_certfile' without 'cluster_keyfile', expected both",
    ),
    (
        ENCRYPTED,
        "cluster_keyfile k\n",
        "error 3: 'cluster_keyfile' without 'cluster_certfile', expected both",
    ),
    (
        START,
        "persistence true\n",
        "warning 3: it has no effect beside 'cluster': retained messages and those of QoS 1 and 2 are kept by the servers of NATS",
    ),
];

#[test]
fn what_does_not_fit_together_is_reported_with_its_line() {
    for (before, lines, expected) in REPORTS {
        let text = format!("{before}{lines}");
        let is_expected = |line: &String| line == expected;
        assert!(told(&text).iter().any(is_expected), "{text}{:?}", told(&text));
        assert_eq!(told(&text).len(), 1, "{:?}", told(&text));
    }
    let local = "cluster nats://localhost nats://127.0.0.2:4222\ncluster_name a\ncluster_username u\ncluster_password p\n";
    assert_eq!(told(local), [""; 0], "the password stays on this machine");
}

#[test]
fn a_machine_without_a_usable_name_needs_one_for_its_node() {
    for host_name in [None, Some("no name".to_owned()), Some(String::new())] {
        let (statements, _) = file::parse(START.as_bytes(), "a.conf");
        let steps: Vec<Step> = statements.into_iter().map(Step::Statement).collect();
        let (_, findings) = file::settle(&steps, &CommandLine { host_name, ..CommandLine::default() });
        assert!(findings.iter().any(|finding| finding.is_error && finding.text.contains("'cluster_node'")));
    }
}

#[test]
fn the_files_of_a_node_have_to_be_there() {
    let scratch = Scratch::new("cluster-files");
    let lines = "cluster_cafile no/ca\ncluster_certfile no/client\ncluster_keyfile no/key\ncluster_credentials no/creds\n";
    let path = scratch.file("a.conf", &format!("{ENCRYPTED}cluster_node n\n{lines}"));
    let output = brooklet(&["-c", &path, "--test-config"]);
    assert_eq!(output.status.code(), Some(3));
    let error = text(&output.stderr);
    for name in ["ca", "client", "key", "creds"] {
        assert!(error.contains(&format!("{}/no/{name}: ", crate::binary::ROOT)), "{name}: {error}");
    }
    let good = scratch.file("b.conf", &format!("{START}cluster_node n\n"));
    let output = brooklet(&["-c", &good, "--test-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

/// All that is wrong with the files of a node, as `--test-config` tells it. The start ends with the same.
fn wrong_files(scratch: &Scratch, lines: &str) -> String {
    let path = scratch.file("a.conf", &format!("listener 0 127.0.0.1\nuser root\n{lines}"));
    let errors = |arguments: &[&str]| {
        let output = brooklet(&[&["-c", &path][..], arguments].concat());
        assert!(!output.status.success(), "{lines}");
        let place = |line: &str| line.find(&*path).map(|at| line[at..].trim_end_matches('.').to_owned());
        let told = text(&output.stderr);
        told.lines().filter(|line| line.contains("rror")).filter_map(place).collect::<Vec<_>>().join("\n")
    };
    let tested = errors(&["--test-config"]);
    assert_eq!(errors(&[]), tested);
    tested
}

#[test]
fn a_test_of_the_configuration_reads_the_files_of_a_node() {
    let scratch = Scratch::new("cluster-contents");
    let junk = scratch.file("junk", "SUAJUNK\n");
    let lines = format!(
        "{ENCRYPTED}cluster_node n\ncluster_cafile {junk}\ncluster_certfile {junk}\ncluster_keyfile {junk}\n\
         cluster_credentials {junk}\n"
    );
    let told = wrong_files(&scratch, &lines);
    for expected in [
        "a.conf:6:",
        "there is no certificate in it, PEM was expected (cluster_cafile)",
        "a.conf:7:",
        "there is no certificate in it, PEM was expected (cluster_certfile)",
        "a.conf:8:",
        "(cluster_keyfile)",
        "a.conf:9:",
        "line 1: a seed that is not 58 letters and digits of base32 (cluster_credentials)",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
    let large = scratch.file("large", &"x\n".repeat(10_000));
    let told = wrong_files(&scratch, &format!("{START}cluster_node n\ncluster_credentials {large}\n"));
    assert!(told.contains("a.conf:6:") && told.contains("no credentials file of NATS"), "{told}");
}

#[cfg(feature = "system")]
#[test]
fn a_reload_names_what_waits_for_a_restart_but_no_password() {
    let new = format!("{ENCRYPTED}cluster_node other\ncluster_username u\ncluster_password hidden\n");
    let changes = file::changes(&settle("").0, &settle(&new).0);
    assert!(
        changes.waiting.iter().any(|line| line.contains("cluster") && line.contains("tls://a.example:4222"))
    );
    let old = format!("{ENCRYPTED}cluster_username u\ncluster_password old\n");
    let changes = file::changes(&settle(&old).0, &settle(&new).0);
    let applied = ["cluster_password changed."];
    assert_eq!(changes.applied, applied);
    assert!(
        changes.waiting.iter().any(|line| line.starts_with("cluster_node changed from HOSTNAME to other,"))
    );
    let lines = [&changes.waiting[..], &changes.applied].concat();
    assert!(lines.iter().all(|line| !line.contains("hidden") && !line.contains("old")), "{lines:?}");
}

#[cfg(feature = "system")]
#[test]
fn a_reload_says_when_a_change_takes_effect() {
    let changes = |lines: &str| {
        let changes =
            file::changes(&settle(ENCRYPTED).0, &settle(&format!("cluster_interest_levels 3\n{lines}")).0);
        [changes.applied, changes.waiting].map(|lines| lines.join("\n"))
    };
    let at_once = ["cluster_credentials changed from none to /a.", ""];
    assert_eq!(changes(&format!("{ENCRYPTED}cluster_credentials /a\n")), at_once);
    let later = ["cluster_cafile changed from none to /a, from the next connection of the node on.", ""];
    assert_eq!(changes(&format!("{ENCRYPTED}cluster_cafile /a\n")), later);
    let waits = |line: &str| ["".to_owned(), format!("{line}, which takes effect after a restart.")];
    let name = "cluster tls://a.example\ncluster_name other\n";
    assert_eq!(changes(name), waits("cluster_name changed from home to other"));
    assert_eq!(
        changes("cluster tls://b.example\ncluster_name home\n"),
        waits("cluster changed from tls://a.example:4222 to tls://b.example:4222")
    );
}

#[test]
fn the_configuration_of_the_page_is_good() {
    let page = fs::read_to_string("docs/cluster.md").expect("there is a page");
    let (_, rest) = page.split_once("`brooklet.conf`:\n\n```\n").expect("it has a configuration");
    let text = rest.split("```").next().expect("it ends");
    // The servers of the page are in a network of their own.
    let warning =
        "warning 16: the password is sent without encryption, expected tls:// for servers on other machines";
    assert_eq!(told(text), [warning]);
    assert!(settle(text).0.cluster.is_some());
}
