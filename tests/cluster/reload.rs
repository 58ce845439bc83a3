//! What a reload changes in how a node gets to the servers.

use std::fs;

use brooklet::protocol::nats::UserKey;

use crate::certificates::Certificates;
use crate::nodes::Nodes;
use crate::servers::Servers;

const CONNECTED: &str = "Connected to the NATS server ";
const UNUSABLE: &str = " cannot be used: ";
const RELOADED: &str = "The files were read again";
/// Keys of two users, which belong to no account.
const SEEDS: [&str; 2] = [
    "SUAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6IC5CQ",
    "SUACCIRDEQSSMJZIFEVCWLBNFYXTAMJSGM2DKNRXHA4TUOZ4HU7D6QDZBM",
];

/// Gives a node other lines.
fn reload(nodes: &Nodes, lines: &str) {
    nodes.configure(0, lines);
    nodes.node(0).signal("HUP");
}

#[test]
fn a_changed_login_is_used_at_once() {
    let users =
        "authorization { users: [{ user: ann, password: first }, { user: bob, password: second }] }\n";
    let servers = Servers::start_with("reload-login", users);
    let address = format!("cluster nats://localhost:{}\n", servers.port(0));
    let lines = |user: &str, password: &str| {
        format!("{address}cluster_username {user}\ncluster_password {password}\n")
    };
    let nodes = Nodes::start_at("reload-login", &lines("ann", "first"), 1);
    let node = nodes.node(0);
    reload(&nodes, &lines("bob", "second"));
    node.wait_for_line("cluster_username changed from ann to bob.");
    node.wait_for_line("cluster_password changed.");
    node.wait_for_line("Logging in to the NATS server ");
    node.wait_for_lines(CONNECTED, 2);
    // Nothing has changed, so the connection stays.
    node.signal("HUP");
    node.wait_for_line("The files were read again, no setting has changed.");
    assert_eq!(node.lines_with(CONNECTED).len(), 2);
    reload(&nodes, &lines("bob", "mistyped"));
    assert!(node.wait_for_line(UNUSABLE).contains("Authorization Violation"));
    reload(&nodes, &lines("ann", "first"));
    node.wait_for_lines(CONNECTED, 3);
    assert!(node.lines_with("mistyped").is_empty() && node.lines_with("second").is_empty());
    // What waits for a restart does not keep the rest from taking effect.
    reload(&nodes, &format!("{}cluster_interest_levels 5\n", lines("bob", "second")));
    node.wait_for_line("cluster_interest_levels changed from 3 to 5, which takes effect after a restart.");
    node.wait_for_lines(CONNECTED, 4);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the broker reads a file")]
fn a_file_is_read_again() {
    let certificates = Certificates::make("reload");
    let keys = SEEDS.map(|seed| UserKey::from_seed(seed).expect("it is a seed").public());
    let tls = certificates.lines_of_server("server");
    let lines_of_server =
        |key: &str| format!("tls {{\n{tls}}}\nauthorization {{ users: [{{ nkey: {key} }}] }}\n");
    let mut servers = Servers::start_with("reload-files", &lines_of_server(&keys[0]));
    let [authorities, credentials] = ["trusted.crt", "node.creds"].map(|name| certificates.path(name));
    let copy = |from: &str| fs::copy(certificates.path(from), &authorities).expect("a file can be copied");
    copy("foreign.crt");
    fs::write(&credentials, SEEDS[0]).expect("a file can be written");
    let lines = format!(
        "cluster tls://localhost:{}\ncluster_cafile {authorities}\ncluster_credentials {credentials}\n",
        servers.port(0)
    );
    let nodes = Nodes::begin("reload-files", &lines, 1);
    let node = nodes.node(0);
    assert!(node.wait_for_line(UNUSABLE).contains("was not issued by an authority in "));
    copy("ca.crt");
    node.signal("HUP");
    node.wait_for_line(&format!("{authorities} was changed."));
    node.wait_for_line(CONNECTED);

    // The connection stays, and the next one needs the other key.
    fs::write(&credentials, SEEDS[1]).expect("a file can be written");
    node.signal("HUP");
    node.wait_for_line(&format!("{credentials} was changed."));
    node.wait_for_lines(RELOADED, 2);
    assert_eq!(node.lines_with(CONNECTED).len(), 1);
    servers.restart_with(&lines_of_server(&keys[1]));
    node.wait_for_lines(CONNECTED, 2);

    // With a file that is wrong, everything stays as it was.
    fs::write(&credentials, "SUnot a seed").expect("a file can be written");
    node.signal("HUP");
    let line = node.wait_for_line("line 1: a seed that is not ");
    assert!(line.contains("Error: ") && !line.contains("SUnot"), "{line}");
    node.wait_for_line("The configuration stays as it was.");
    servers.restart_with(&lines_of_server(&keys[1]));
    node.wait_for_lines(CONNECTED, 3);

    fs::write(&credentials, SEEDS[1]).expect("a file can be written");
    reload(&nodes, &lines.replace("tls://", "nats://").replace("cluster_cafile", "#"));
    let line = node.wait_for_line("cluster changed from tls://localhost:");
    assert!(line.contains(", which takes effect after a restart."), "{line}");
}
