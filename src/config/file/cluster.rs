//! The keywords for a node of a cluster: parses their values, checks combinations and fills in derived values.

use crate::settings::{ClientTls, Cluster, ClusterLogin, ClusterName, NodeName, RemoteAddress, Trust};

use super::hosts::address;
use super::outcome::{Finding, Place};
use super::pending::{Globals, PendingCluster, Places};
use super::values::is_blank;

/// The port of NATS.
const DEFAULT_PORT: u16 = 4222;

pub(super) const SERVERS: &str =
    "one or more servers, each as nats://HOST:PORT, or each as tls://HOST:PORT, with spaces between them";

pub(super) const NAME: &str = "1 to 32 letters, digits, '-' and '_'";

pub(super) const NODE: &str = "1 to 64 letters, digits, '-', '_' and '.'";

pub(super) const AWAY: &str = "hold or refuse";

/// Parses what becomes of clients while the servers cannot be used: whether they are refused at once.
pub(super) fn refuses(text: &str) -> Result<bool, &'static str> {
    match text {
        "hold" => Ok(false),
        "refuse" => Ok(true),
        _ => Err(AWAY),
    }
}

/// Parses the servers, and whether they speak TLS, which must be the same for all.
pub(super) fn servers(text: &str) -> Result<(Vec<RemoteAddress>, bool), &'static str> {
    let mut servers = Vec::new();
    let mut has_tls = None;
    for word in text.split(is_blank).filter(|word| !word.is_empty()) {
        let (scheme, rest) = word.split_once("://").ok_or(SERVERS)?;
        let is_tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(SERVERS),
        };
        if *has_tls.get_or_insert(is_tls) != is_tls {
            return Err("nats:// for all servers, or tls:// for all");
        }
        let server = address(rest, DEFAULT_PORT, SERVERS)?;
        if servers.iter().any(|other| is_same(other, &server)) {
            return Err("each server once");
        }
        servers.push(server);
    }
    has_tls.map(|has_tls| (servers, has_tls)).ok_or(SERVERS)
}

fn is_same(one: &RemoteAddress, other: &RemoteAddress) -> bool {
    one.port == other.port && one.host.eq_ignore_ascii_case(&other.host)
}

/// Converts the pending settings; `None` if no cluster is configured, or its name or that of the node is missing.
pub(super) fn complete(
    globals: &mut Globals,
    host_name: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Option<Cluster> {
    let pending = std::mem::replace(&mut globals.cluster, PendingCluster::new());
    let places = &globals.places;
    let Some(place) = places.place("cluster") else {
        let first = places.iter().find(|(keyword, _)| keyword.starts_with("cluster_"));
        if let Some((keyword, place)) = first
            && !pending.wrong.contains(&"cluster")
        {
            let text = format!("'{keyword}' without 'cluster', expected its servers");
            findings.push(Finding::error(place, text));
        }
        return None;
    };
    let mut completion = Completion { place, places, findings };
    completion.check_login(&pending);
    completion.check_tls(&pending);
    if globals.is_persistent {
        completion.warn_of_persistence();
    }
    completion.findings.push(Finding::warning(
        place,
        "sessions and Shared Subscriptions are those of each node alone in this version, and end with its process",
    ));
    let name = completion.name(&pending);
    let node = completion.node(&pending, host_name);
    Some(Cluster {
        name: name?,
        node: node?,
        login: login(&pending),
        tls: pending.has_tls.then(|| ClientTls {
            trusts_system: pending.authorities.is_none(),
            trust: Trust {
                place: format!("{}:{}", place.file, place.line),
                authorities: pending.authorities,
                authorities_directory: None,
            },
            identity: pending.certificate.zip(pending.key).map(|(certificate, key)| [certificate, key]),
            ..ClientTls::default()
        }),
        servers: pending.servers,
        interest_levels: pending.interest_levels,
        log: pending.log,
    })
}

/// What was given, though it may not be complete, which is reported.
fn login(pending: &PendingCluster) -> Option<ClusterLogin> {
    let PendingCluster { user_name, password, credentials, .. } = pending;
    if let Some(credentials) = credentials {
        return Some(ClusterLogin::Credentials(credentials.clone()));
    }
    let is_given = user_name.is_some() || password.is_some();
    is_given.then(|| ClusterLogin::Password {
        user_name: user_name.clone().unwrap_or_default(),
        password: password.clone().unwrap_or_default(),
    })
}

/// The conversion of the settings.
struct Completion<'a> {
    /// The place of `cluster`.
    place: &'a Place,
    places: &'a Places,
    findings: &'a mut Vec<Finding>,
}

impl Completion<'_> {
    fn error_at(&mut self, keyword: &str, text: impl Into<String>) {
        let place = self.places.place(keyword).unwrap_or(self.place);
        self.findings.push(Finding::error(place, text));
    }

    fn name(&mut self, pending: &PendingCluster) -> Option<ClusterName> {
        if pending.name.is_none() && !pending.wrong.contains(&"cluster_name") {
            self.error_at("cluster", "'cluster' without 'cluster_name', expected the same name in all nodes");
        }
        pending.name.clone()
    }

    /// The name of the node, which is that of the machine if it was not given.
    fn node(&mut self, pending: &PendingCluster, host_name: Option<&str>) -> Option<NodeName> {
        if pending.node.is_some() || pending.wrong.contains(&"cluster_node") {
            return pending.node.clone();
        }
        let node = host_name.and_then(NodeName::new);
        if node.is_none() {
            let text = format!(
                "the name of this machine cannot be that of the node, expected 'cluster_node' with {NODE}"
            );
            self.error_at("cluster", text);
        }
        node
    }

    fn check_login(&mut self, pending: &PendingCluster) {
        let PendingCluster { user_name, password, credentials, .. } = pending;
        if credentials.is_some() && (user_name.is_some() || password.is_some()) {
            let text = "'cluster_credentials' beside a user name or a password, expected one way to log in";
            self.error_at("cluster_credentials", text);
            return;
        }
        match (user_name, password) {
            (Some(_), None) => {
                self.error_at(
                    "cluster_username",
                    "'cluster_username' without 'cluster_password', expected both",
                );
            }
            (None, Some(_)) => {
                self.error_at(
                    "cluster_password",
                    "'cluster_password' without 'cluster_username', expected both",
                );
            }
            _ => {}
        }
        if user_name.is_some() && !pending.has_tls && !pending.servers.iter().all(is_local) {
            let text =
                "the password is sent without encryption, expected tls:// for servers on other machines";
            let place = self.places.place("cluster_password").unwrap_or(self.place);
            self.findings.push(Finding::warning(place, text));
        }
    }

    fn check_tls(&mut self, pending: &PendingCluster) {
        if !pending.has_tls {
            for keyword in ["cluster_cafile", "cluster_certfile", "cluster_keyfile"] {
                if self.places.place(keyword).is_some() {
                    self.error_at(keyword, format!("'{keyword}' without TLS, expected tls:// in 'cluster'"));
                }
            }
            return;
        }
        match (&pending.certificate, &pending.key) {
            (Some(_), None) => {
                self.error_at(
                    "cluster_certfile",
                    "'cluster_certfile' without 'cluster_keyfile', expected both",
                );
            }
            (None, Some(_)) => {
                self.error_at(
                    "cluster_keyfile",
                    "'cluster_keyfile' without 'cluster_certfile', expected both",
                );
            }
            _ => {}
        }
    }

    fn warn_of_persistence(&mut self) {
        let keyword = ["persistence", "retained_persistence"];
        let place = keyword.into_iter().find_map(|keyword| self.places.place(keyword)).unwrap_or(self.place);
        let text = "it has no effect beside 'cluster': retained messages and those of QoS 1 and 2 are kept by the servers of NATS";
        self.findings.push(Finding::warning(place, text));
    }
}

fn is_local(server: &RemoteAddress) -> bool {
    let is_loopback = |host: &str| host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    server.host == "localhost" || is_loopback(&server.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_one_scheme_and_perhaps_ports() {
        let read = |text: &str| -> Vec<String> {
            let (servers, has_tls) = servers(text).expect("it is valid");
            servers.iter().map(|server| format!("{} {} {has_tls}", server.host, server.port)).collect()
        };
        assert_eq!(read("nats://a.example"), ["a.example 4222 false"]);
        assert_eq!(read("tls://a:1 \t tls://[::1]:2"), ["a 1 true", "::1 2 true"]);
        for wrong in [
            "",
            "a",
            "a:4222",
            "nats://",
            "nats://a:0",
            "nats://a:x",
            "ws://a",
            "NATS://a",
            "nats://u:p@a",
            "nats://a tls://b",
            "nats://a nats://b nats://A:4222",
            "nats://a,nats://b",
            "nats://a/b",
            "nats://a # comment",
        ] {
            assert!(servers(wrong).is_err(), "{wrong}");
        }
    }
}
