//! A broker that reloads its configuration while clients are connected.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;

use rumqttc::QoS;

use crate::client::{Client, Version, in_both_versions, run};
use crate::server::{PATIENCE, Server};

/// A configuration file for one test, which is removed with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("brooklet-reload-{name}-{}.conf", std::process::id()));
        let file = Self(path);
        file.write(text);
        file
    }

    #[expect(clippy::disallowed_methods, reason = "a test may write files")]
    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("a file can be written");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("names are text")
    }

    fn serve(&self) -> Server {
        let mut command = crate::server::brooklet();
        command.args(["-c", self.path()]);
        Server::follow(command)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn is_served(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a port");
    listener.local_addr().expect("it has an address").port()
}

const OPEN: &str = "listener 0 127.0.0.1\nallow_anonymous true\n";

#[test]
fn listeners_come_and_go_and_clients_stay() {
    in_both_versions(async |version| {
        let file = File::new(&format!("listeners-{version:?}"), OPEN);
        let server = file.serve();
        let mut client = Client::connect(&server, version, "client").await;
        let port = free_port();
        file.write(&format!("listener {port} 127.0.0.1\nallow_anonymous true\n"));
        server.signal("HUP");
        server.wait_for_line("Listener at port 0 of 127.0.0.1 removed.");
        assert!(is_served(port) && !is_served(server.port()));
        client.subscribe("a", QoS::AtLeastOnce).await;
        client.publish("a", QoS::AtLeastOnce, false, "still here").await;
        assert_eq!(client.receive().await.payload, b"still here");
    });
}

#[test]
fn an_error_leaves_everything_as_it_was() {
    run(async {
        let file = File::new("wrong", OPEN);
        let server = file.serve();
        let mut client = Client::connect(&server, Version::V5, "client").await;
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the system has a port");
        let taken = taken.local_addr().expect("it has an address").port();
        for (text, expected) in [
            (
                "listner 1883\n".to_owned(),
                ":1:1: unknown keyword 'listner', did you mean 'listener'?".to_owned(),
            ),
            (format!("{OPEN}password_file /no/such\n"), "/no/such: ".to_owned()),
            (
                format!("{OPEN}listener {}\ncertfile /no/such\nkeyfile /no/such\n", free_port()),
                "/no/such".to_owned(),
            ),
            (
                format!("listener {taken} 127.0.0.2\nlistener {} 192.0.2.1\n", free_port()),
                "192.0.2.1".to_owned(),
            ),
        ] {
            let before = server.lines_with("The configuration stays as it was.").len();
            file.write(&text);
            server.signal("HUP");
            server.wait_for_lines("The configuration stays as it was.", before + 1);
            assert!(!server.lines_with(&expected).is_empty(), "{expected}");
            assert!(is_served(server.port()));
        }
        client.subscribe("a", QoS::AtLeastOnce).await;
        client.publish("a", QoS::AtLeastOnce, false, "still here").await;
        assert_eq!(client.receive().await.payload, b"still here");
    });
}

/// Logs in a client of 3.1.1; returns the return code of the CONNACK and the connection.
fn log_in(server: &Server, user: &str, password: &str) -> (u8, TcpStream) {
    let mut body = b"\x00\x04MQTT\x04\xc2\x00\x3c".to_vec();
    for text in [user, user, password] {
        body.extend(u16::try_from(text.len()).expect("it is short").to_be_bytes());
        body.extend(text.as_bytes());
    }
    let length = u8::try_from(body.len()).expect("it is short");
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
    stream.write_all(&[&[0x10, length], &body[..]].concat()).expect("the broker reads");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("the broker answers");
    (connack[3], stream)
}

#[test]
fn users_come_and_go_with_their_file() {
    run(async {
        let users = File::new("users", "");
        let mut made = crate::server::brooklet();
        let made = made.args(["passwd", "-b", "-c", users.path(), "old", "secret"]).status();
        assert!(made.expect("the binary can be started").success());
        // When started as root, it would switch to a user that could not read the file again.
        let text = format!("user root\nlistener 0 127.0.0.1\npassword_file {}\n", users.path());
        let file = File::new("passwords", &text);
        let server = file.serve();
        let (code, mut old) = log_in(&server, "old", "secret");
        assert_eq!(code, 0);
        assert_eq!([log_in(&server, "old", "wrong").0, log_in(&server, "new", "secret").0], [4, 4]);
        let renamed = fs::read_to_string(users.path()).expect("it is there").replace("old:", "new:");
        users.write(&renamed);
        server.signal("HUP");
        server.wait_for_line(&format!("{} was changed.", users.path()));
        server.wait_for_line("The files were read again.");
        let mut rest = Vec::new();
        old.read_to_end(&mut rest).expect("the broker closes in good order");
        assert_eq!([log_in(&server, "old", "secret").0, log_in(&server, "new", "secret").0], [4, 0]);
        users.write("new:nonsense\n");
        server.signal("HUP");
        server.wait_for_line("The configuration stays as it was.");
        assert_eq!(log_in(&server, "new", "secret").0, 0);
    });
}

/// The properties of the CONNACK for a client of 5.0.
fn properties_of_connack(server: &Server) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
    stream.write_all(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c").expect("the broker reads");
    let mut header = [0; 5];
    stream.read_exact(&mut header).expect("the broker answers");
    let mut properties = vec![0; usize::from(header[4])];
    stream.read_exact(&mut properties).expect("the broker answers");
    properties
}

#[test]
fn switches_hold_from_the_start_and_from_a_reload_on() {
    run(async {
        let file = File::new("switches", &format!("{OPEN}retain_available false\n"));
        let server = file.serve();
        let is_told = || properties_of_connack(&server).windows(2).any(|pair| pair == [0x25, 0]);
        assert!(is_told(), "no message is retained");
        file.write(OPEN);
        server.signal("HUP");
        server.wait_for_line("retain_available changed from false to true.");
        server.wait_for_line("The files were read again.");
        assert!(!is_told());
    });
}

#[test]
fn limits_hold_from_the_reload_on() {
    run(async {
        let file = File::new("limits", OPEN);
        let server = file.serve();
        let mut client = Client::connect(&server, Version::V311, "client").await;
        client.publish("a", QoS::AtLeastOnce, false, "x".repeat(1000)).await;
        file.write(&format!("{OPEN}max_packet_size 100\npid_file /tmp/brooklet-is-not-written\n"));
        server.signal("HUP");
        server.wait_for_line("max_packet_size changed from 2000000 to 100.");
        server.wait_for_line(
            "pid_file changed from none to /tmp/brooklet-is-not-written, which takes effect after a restart.",
        );
        client.publish("a", QoS::AtMostOnce, false, "x".repeat(1000)).await;
        server.wait_for_line("packet too large");
    });
}

#[test]
fn the_other_signals_are_answered_in_the_log() {
    run(async {
        let file = File::new("signals", OPEN);
        let server = file.serve();
        let mut client = Client::connect(&server, Version::V5, "client").await;
        client.subscribe("b/#", QoS::AtMostOnce).await;
        client.subscribe("a/+", QoS::AtMostOnce).await;
        server.signal("USR1");
        server.wait_for_line("There is nothing to save: sessions and messages are kept in memory only.");
        server.signal("USR2");
        server.wait_for_line(": 1 at b/#");
        assert_eq!(server.lines_with(": 1 at a/+").len(), 1);
        server.signal("HUP");
        server.wait_for_line("The files were read again, no setting has changed.");
    });
}

/// What is wrong with the files that a configuration names is the same at the start, at a reload and with
/// `--test-config`, with its line; so is what is only unusual.
#[test]
#[cfg(feature = "passwords")]
fn files_are_judged_alike_wherever_they_are_read() {
    let told = |command: &mut std::process::Command| {
        let output = command.output().expect("the binary can be started");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let passwords = File::new("alike-passwords", "");
    let rules = File::new("alike-rules", "");
    let text = format!("user root\n{OPEN}password_file {}\nacl_file {}\n", passwords.path(), rules.path());
    let file = File::new("alike", &text);
    let mark = "\u{feff}# a comment\n";
    for (users, access, wrong) in [
        ("ann:\n", "", Some(format!("{}:1:5: no password after ':'", passwords.path()))),
        ("\n#\nann:pencil\n", "", Some(format!("{}:3:5: a plain password", passwords.path()))),
        ("", "topic a\n\u{feff}topic b\n", Some(format!("{}:2:1: a byte order mark inside", rules.path()))),
        (mark, mark, None),
    ] {
        passwords.write("");
        rules.write("topic a\n");
        file.write(&text);
        let server = file.serve();
        passwords.write(users);
        rules.write(access);
        server.signal("HUP");
        let marks = [&passwords, &rules].map(|file| format!("{}:1:1: {SKIPPED}", file.path()));
        let (code, expected) = match wrong {
            Some(wrong) => {
                server.wait_for_line("The configuration stays as it was.");
                (3, vec![format!("Error: {wrong}")])
            }
            None => {
                file.write(&format!("\u{feff}{text}"));
                server.signal("HUP");
                let marks = [&marks[..], &[format!("{}:1:1: {SKIPPED}", file.path())]].concat();
                (0, marks.into_iter().map(|mark| format!("Warning: {mark}")).collect())
            }
        };
        let test = told(crate::server::brooklet().args(["--test-config", "-c", file.path()]));
        assert_eq!(test.0, Some(code), "{test:?}");
        for line in expected {
            server.wait_for_line(&line);
            assert!(test.1.contains(&line), "{line} in {test:?}");
            if code == 0 {
                file.serve().wait_for_line(&line);
            } else {
                let start = told(crate::server::brooklet().args(["-c", file.path()]));
                assert!(start.0 == Some(code) && start.1.contains(&line), "{line} in {start:?}");
            }
        }
    }
}

#[cfg(feature = "passwords")]
const SKIPPED: &str = "a byte order mark, which mosquitto would not skip, is skipped";
