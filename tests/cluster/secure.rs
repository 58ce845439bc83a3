//! TLS between nodes and servers.

#![expect(clippy::disallowed_methods, reason = "a server that is none needs a thread")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rumqttc::QoS;

use crate::certificates::Certificates;
use crate::mqtt::{Version, run};
use crate::nodes::{Nodes, wait_until_heard};
use crate::servers::Servers;

/// What a node logs that does not connect.
const UNUSABLE: &str = " cannot be used: ";
const LOGIN: &str = "cluster_username node\ncluster_password hidden\n";
const USERS: &str = "authorization { users: [{ user: node, password: hidden }] }\n";

/// Whether a message goes from one node to another.
fn expect_exchange(nodes: &Nodes) {
    run(async {
        let mut writer = nodes.client(0, Version::V5, "writer").await;
        let mut reader = nodes.client(1, Version::V5, "reader").await;
        reader.subscribe("a/#", QoS::AtMostOnce).await;
        wait_until_heard(&mut writer, &mut reader, "a/b").await;
        let large = vec![b'x'; 200_000];
        writer.publish("a/large", QoS::AtMostOnce, false, large.clone()).await;
        while reader.receive().await.payload != large {}
    });
}

#[test]
fn nodes_and_servers_show_certificates_to_each_other() {
    let certificates = Certificates::make("both");
    let tls = certificates.lines_of_server("server");
    let servers = Servers::start_with("secure-both", &format!("tls {{\n{tls}verify: true\n}}\n{USERS}"));
    let address = format!("cluster tls://localhost:{}\n", servers.port(0));
    let authority = format!("cluster_cafile {}\n", certificates.path("ca.crt"));
    let identity = ["cert", "key"].map(|kind| {
        let file = if kind == "cert" { "client.crt" } else { "client.key" };
        format!("cluster_{kind}file {}\n", certificates.path(file))
    });
    let lines = format!("{address}{authority}{}{LOGIN}", identity.concat());
    expect_exchange(&Nodes::start_at("secure-both", &lines, 2));

    let without = Nodes::begin("secure-without", &format!("{address}{authority}{LOGIN}"), 1);
    let line = without.node(0).wait_for_line(UNUSABLE);
    assert!(line.contains("cluster_certfile") && line.contains("cluster_keyfile"), "{line}");
}

#[test]
fn a_server_has_to_be_the_one_that_is_meant() {
    let certificates = Certificates::make("meant");
    let tls = certificates.lines_of_server("other");
    let servers = Servers::start_with("secure-meant", &format!("tls {{\n{tls}}}\n{USERS}"));
    let lines = |authority: &str| {
        let authority = certificates.path(authority);
        format!("cluster tls://127.0.0.1:{}\ncluster_cafile {authority}\n{LOGIN}", servers.port(0))
    };
    let nodes = Nodes::begin("secure-name", &lines("ca.crt"), 1);
    let line = nodes.node(0).wait_for_line(UNUSABLE);
    assert!(line.contains("is for other.example, not for 127.0.0.1; use a name that it has"), "{line}");
    assert!(!line.contains("bridge_"), "{line}");
    let nodes = Nodes::begin("secure-authority", &lines("foreign.crt"), 1);
    let line = nodes.node(0).wait_for_line(UNUSABLE);
    assert!(line.contains("was not issued by an authority in cluster_cafile "), "{line}");
}

#[test]
fn a_server_that_requires_tls_gets_it() {
    let certificates = Certificates::make("required");
    let tls = certificates.lines_of_server("server");
    let servers = Servers::start_with("secure-required", &format!("tls {{\n{tls}}}\n{USERS}"));
    let lines = format!("cluster nats://localhost:{}\n{LOGIN}", servers.port(0));
    let nodes = Nodes::begin("secure-required", &lines, 1);
    let line = nodes.node(0).wait_for_line(UNUSABLE);
    assert!(
        line.contains("the store of the system") || line.contains("the system has no certificates"),
        "{line}"
    );

    let nodes = Nodes::begin_trusting("secure-trusting", &lines, 2, &certificates.path("ca.crt"));
    (0..2).for_each(|node| drop(nodes.node(node).wait_for_line("Connected to the NATS server ")));
    expect_exchange(&nodes);
}

#[test]
fn a_server_that_only_offers_tls_is_used_with_and_without() {
    let certificates = Certificates::make("offered");
    let tls = certificates.lines_of_server("server");
    let servers = Servers::start_with("secure-offered", &format!("tls {{\n{tls}}}\nallow_non_tls: true\n"));
    let plain = format!("cluster nats://localhost:{}\n", servers.port(0));
    Nodes::start_at("secure-plain", &plain, 1);
    let secure = format!(
        "cluster tls://localhost:{}\ncluster_cafile {}\n",
        servers.port(0),
        certificates.path("ca.crt")
    );
    expect_exchange(&Nodes::start_at("secure-offered", &secure, 2));
}

/// Greets like a server, and answers whatever comes next with `answer`. Passes on what came.
fn pretend(greeting: &'static str, answer: &'static [u8]) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    let port = listener.local_addr().expect("it has an address").port();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut heard = Vec::new();
            let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
            let _ = stream.write_all(greeting.as_bytes());
            let mut piece = [0; 4_096];
            while let Ok(count) = stream.read(&mut piece) {
                if count == 0 {
                    break;
                }
                heard.extend_from_slice(&piece[..count]);
                let _ = stream.write_all(answer);
            }
            if sender.send(heard).is_err() {
                return;
            }
        }
    });
    (port, receiver)
}

#[test]
fn nothing_secret_is_sent_without_encryption() {
    let certificates = Certificates::make("secret");
    let plain = "INFO {\"server_id\":\"s\",\"headers\":true,\"max_payload\":1000}\r\n";
    let offer = "INFO {\"server_id\":\"s\",\"headers\":true,\"tls_required\":true}\r\n";
    let more = "INFO {\"server_id\":\"s\",\"headers\":true,\"tls_required\":true}\r\nPING\r\n";
    for (number, (greeting, answer, expected)) in [
        (plain, &b""[..], "it does not encrypt connections"),
        (offer, b"-ERR 'no TLS today'\r\n", "the server does not speak TLS"),
        (offer, b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server does not speak TLS"),
        (more, b"", "unencrypted after INFO"),
    ]
    .into_iter()
    .enumerate()
    {
        let (port, heard) = pretend(greeting, answer);
        let lines = format!(
            "cluster tls://localhost:{port}\ncluster_cafile {}\n{LOGIN}",
            certificates.path("ca.crt")
        );
        let nodes = Nodes::begin(&format!("secret-{number}"), &lines, 1);
        let line = nodes.node(0).wait_for_line(UNUSABLE);
        assert!(line.contains(expected), "{line}");
        let heard = heard.recv().expect("the node was there");
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(!heard.contains("CONNECT") && !heard.contains("hidden"), "{heard}");
    }
}
