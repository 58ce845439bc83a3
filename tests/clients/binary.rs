//! The binary from the operator's view: flags, exit codes, signals and the log.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Output;

use rumqttc::QoS;

use crate::client::{Client, Options, Version, in_both_versions, run};
use crate::server::{PATIENCE, Server, brooklet};

/// A CONNECT of 3.1.1 with the Client Identifier `bad`.
const CONNECT: &[u8] = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03bad";

fn output(arguments: &[&str]) -> Output {
    brooklet().args(arguments).output().expect("the binary can be started")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the broker writes text")
}

/// A connection without a client, which waits no longer than a test should.
fn raw(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
    stream.write_all(bytes).expect("the broker reads");
    stream
}

/// Reads until the broker closes the connection.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the broker closes in good order");
    bytes
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = format!("brooklet version {}\n", env!("CARGO_PKG_VERSION"));
    for (flag, expected) in
        [("--help", "--port"), ("-h", "--quiet"), ("--help", "--verbose"), ("--version", version.as_str())]
    {
        let output = output(&[flag]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(text(&output.stdout).contains(expected), "{flag}: {}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "", "{flag}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_3_and_one_line() {
    let eleven: Vec<String> = (1..=11).map(|port| format!("-p{port}")).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    for (arguments, expected) in [
        (&["--prot", "1883"][..], "'prot'"),
        (&["-x"], "'x'"),
        (&["-p", "65536"], "'65536'"),
        (&["-p", "-1"], "'-1'"),
        (&["-p", "mqtt"], "'mqtt'"),
        (&["-p", ""], "''"),
        (&["-p"], "'p'"),
        (&eleven, "11 times"),
        (&["1883"], "'1883'"),
        (&["-q", "-v"], "exclude"),
        (&["--version=1"], "'version'"),
        (&["a\nb"], "'a\\u{a}b'"),
        (&["--a\nb"], "'a\\u{a}b'"),
    ] {
        let output = output(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {error}");
        assert!(error.starts_with("Error: ") && error.contains(expected), "{arguments:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_named_and_ends_with_1() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a port");
    let port = taken.local_addr().expect("it has an address").port().to_string();
    let output = output(&["-q", "-p", &port]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    // The words for the reason are those of the C library.
    assert!(error.contains(&format!("port {port} of the loopback addresses: Address ")), "{error}");
    assert!(error.contains(" in use"), "{error}");
}

#[test]
fn every_port_given_is_served() {
    run(async {
        let first = Server::start(&["-p", "0"]);
        let opened = first.lines_with("Opening ipv4 listen socket on port ");
        assert_eq!(opened.len(), 2);
        for line in opened {
            let number = line.trim_end_matches('.').rsplit(' ').next().unwrap().parse::<u16>().unwrap();
            TcpStream::connect((Ipv4Addr::LOCALHOST, number)).expect("the broker listens");
            first.wait_for_line(&format!(" on port {number}."));
        }
    });
}

#[test]
fn signals_end_it_with_0_after_it_has_disconnected_its_clients() {
    for signal in ["TERM", "INT"] {
        in_both_versions(async |version| {
            let server = Server::start(&[]);
            let client = Client::connect(&server, version, "client").await;
            server.signal(signal);
            let (_, why) = client.wait_for_end().await;
            assert_eq!(why.contains("ServerShuttingDown"), version == Version::V5, "{why}");
            let refused = TcpStream::connect(server.address()).map(|_| ()).map_err(|error| error.kind());
            assert_eq!(refused, Err(std::io::ErrorKind::ConnectionRefused));
            let (code, lines) = server.wait_for_end();
            assert_eq!(code, Some(0), "{signal}");
            assert!(lines.iter().any(|line| line.ends_with(" terminating")), "{lines:#?}");
        });
    }
}

#[test]
fn the_wills_of_all_reach_all_before_the_end() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut clients = Vec::new();
        for (identifier, topic) in [("a", "will/a"), ("b", "will/b"), ("c", "will/c")] {
            let will = Some((topic, "gone", QoS::AtLeastOnce, false));
            let options = Options { will, ..Options::new(&server, version, identifier) };
            let mut client = options.connect().await;
            client.subscribe("will/+", QoS::AtLeastOnce).await;
            clients.push(client);
        }
        server.signal("TERM");
        for client in clients {
            let (messages, _) = client.wait_for_end().await;
            let mut topics: Vec<_> = messages.iter().map(|message| message.topic.as_str()).collect();
            topics.sort_unstable();
            assert_eq!(topics, ["will/a", "will/b", "will/c"]);
        }
        assert_eq!(server.wait_for_end().0, Some(0));
    });
}

#[test]
fn quiet_logs_errors_only() {
    run(async {
        // Its port is not in the log, so another broker is asked for a free one.
        let port = Server::start(&[]).port();
        let mut quiet = brooklet()
            .args(["-q", "-p", &port.to_string()])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            tokio::task::yield_now().await;
        }
        let status = std::process::Command::new("kill").arg(quiet.id().to_string()).status().unwrap();
        assert!(status.success());
        assert_eq!(quiet.wait().unwrap().code(), Some(0));
        let mut log = String::new();
        quiet.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!(log, "");
    });
}

#[test]
fn every_line_of_the_log_begins_with_the_time() {
    run(async {
        let server = Server::start(&["-v"]);
        Client::connect(&server, Version::V5, "client").await.disconnect().await;
        server.signal("TERM");
        let (_, lines) = server.wait_for_end();
        for line in lines {
            let (time, rest) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            assert!(time.parse::<u64>().is_ok_and(|time| time > 1_000_000_000) && !rest.is_empty(), "{line}");
        }
    });
}

#[test]
fn the_log_has_clients_that_connect_and_disconnect() {
    run(async {
        let server = Server::start(&[]);
        let client = Options::persistent(&server, Version::V311, "client").connect().await;
        let connection = server.wait_for_line("New connection from 127.0.0.1:");
        assert!(connection.ends_with(&format!(" on port {}.", server.port())), "{connection}");
        let came = server.wait_for_line("New client connected from 127.0.0.1:");
        assert!(came.ends_with(" as client (p4, c0, k60)."), "{came}");
        client.disconnect().await;
        let went = server.wait_for_line("Client client [127.0.0.1:");
        assert!(went.ends_with("] disconnected."), "{went}");
        assert!(server.lines_with("Received ").is_empty() && server.lines_with("Sending ").is_empty());
    });
}

#[test]
fn the_log_reports_how_a_connection_ended() {
    run(async {
        let server = Server::start(&[]);
        let connect_v5 = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03bad";
        for (bytes, expected) in [
            (&b"\xe0\x00"[..], "] disconnected."),
            (b"\xe0\x01\x04", "] disconnected: by the client, disconnect with will message."),
            (b"\xe0\x01\x99", "] disconnected: by the client, payload format invalid."),
            (b"\xc0\x01", "] disconnected: connection closed by client."),
            (b"\xc0\x01\x00", "] disconnected: malformed packet: "),
        ] {
            let mut stream = raw(&server, &[&connect_v5[..], bytes].concat());
            let peer = stream.local_addr().expect("it has an address");
            stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
            read_to_end(&mut stream);
            let line = server.wait_for_line(&format!("Client bad [{peer}"));
            assert!(line.contains(expected), "{bytes:?}: {line}");
        }
    });
}

#[test]
fn verbose_logs_the_packets() {
    in_both_versions(async |version| {
        let server = Server::start(&["-v"]);
        let mut client = Client::connect(&server, version, "client").await;
        client.subscribe("a/+", QoS::ExactlyOnce).await;
        client.publish("a/b", QoS::ExactlyOnce, true, "12345").await;
        client.receive().await;
        client.disconnect().await;
        server.wait_for_line("Received DISCONNECT from client");
        for expected in [
            "Sending CONNACK to client (0, 0)",
            "Received SUBSCRIBE from client a/+ (QoS 2)",
            "Sending SUBACK to client",
            "Received PUBLISH from client (d0, q2, r1, m2, 'a/b', ... (5 bytes))",
            "Sending PUBREC to client (m2, rc0)",
            "Received PUBREL from client (m2, rc0)",
            "Sending PUBCOMP to client (m2, rc0)",
            "Sending PUBLISH to client (d0, q2, r0, m1, 'a/b', ... (5 bytes))",
        ] {
            let lines = server.lines_with(expected);
            assert!(lines.len() == 1 && lines[0].ends_with(expected), "{expected}: {lines:?}");
        }
    });
}

#[test]
fn no_client_writes_a_log_line_of_its_own() {
    in_both_versions(async |version| {
        let server = Server::start(&["-v"]);
        // Characters that may be in a packet but end a line, and some that may not.
        let mut client = Client::connect(&server, version, "a\u{2028}Forged\u{2029}").await;
        client.publish("b\u{2028}Forged", QoS::AtMostOnce, false, "").await;
        client.disconnect().await;
        let mut refused = raw(&server, b"\x10\x17\x00\x04MQTT\x04\x02\x00\x00\x00\x0Ba\nForged\x1b[2");
        assert_eq!(refused.read(&mut [0; 1]).expect("it is closed"), 0);
        server.signal("TERM");
        let (_, lines) = server.wait_for_end();
        assert!(
            lines.iter().all(|line| !line.starts_with("Forged") && !line.contains(['\u{1b}', '\u{2028}'])),
            "{lines:#?}"
        );
        assert!(lines.iter().any(|line| line.contains(" as a\\u{2028}Forged\\u{2029} (p")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("'b\\u{2028}Forged'")), "{lines:#?}");
    });
}

#[test]
fn a_bad_packet_costs_one_line_and_no_other_client() {
    run(async {
        let server = Server::start(&[]);
        let mut client = Client::connect(&server, Version::V5, "client").await;
        client.subscribe("topic", QoS::AtLeastOnce).await;
        let publish_of_qos_3 = b"\x36\x05\x00\x01t\x00\x01";
        for (bytes, reason) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "the first packet is not CONNECT"),
            ([CONNECT, publish_of_qos_3].concat(), "malformed packet"),
        ] {
            let mut stream = raw(&server, &bytes);
            let peer = stream.local_addr().expect("it has an address").to_string();
            read_to_end(&mut stream);
            drop(stream);
            client.publish("topic", QoS::AtLeastOnce, false, "still here").await;
            assert_eq!(client.receive().await.payload, b"still here");
            server.wait_for_line(reason);
            let lines: Vec<String> = server
                .lines_with(&peer)
                .into_iter()
                .filter(|line| line.contains(" disconnected: "))
                .collect();
            assert!(lines.len() == 1 && lines[0].contains(reason), "{lines:?}");
        }
    });
}
