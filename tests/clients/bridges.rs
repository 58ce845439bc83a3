//! Bridges between two brokers: this one at the near end, and this one or mosquitto at the far end.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::QoS;

use crate::client::{Client, Options, Version, run};
use crate::place::end;
use crate::server::{PATIENCE, Server, brooklet};

mod circles;
mod faults;
mod load;
mod namespace;
mod network;
mod queues;
mod retained;
#[cfg(feature = "tls")]
mod tls;

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A directory for one test, which is removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("brooklet-bridge-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        self.write_bytes(name, text.as_bytes())
    }

    #[expect(clippy::disallowed_methods, reason = "a test may write files")]
    fn write_bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address").port()
}

/// The kind of broker at the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Brooklet,
    Mosquitto,
}

/// The kinds that this machine has.
fn kinds() -> Vec<Kind> {
    let has_mosquitto =
        Command::new("mosquitto").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let mut kinds = vec![Kind::Brooklet];
    kinds.extend(has_mosquitto.is_ok().then_some(Kind::Mosquitto));
    kinds
}

/// A broker at the far end, which is killed when this is dropped.
enum Far {
    Brooklet(Server),
    Mosquitto(Child),
}

impl Far {
    fn start(kind: Kind, file: &Path, port: u16) -> Self {
        match kind {
            Kind::Brooklet => {
                let mut command = brooklet();
                command.arg("-c").arg(file);
                Self::Brooklet(Server::follow(command))
            }
            Kind::Mosquitto => {
                let mut command = Command::new("mosquitto");
                command.arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let child = command.spawn().expect("it can be started");
                wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
                Self::Mosquitto(child)
            }
        }
    }
}

impl Far {
    /// Sends a signal to it by its name.
    fn signal(&self, name: &str) {
        match self {
            Self::Brooklet(server) => server.signal(name),
            Self::Mosquitto(_) => panic!("only Brooklet gets signals"),
        }
    }

    /// Ends it in an orderly way, so that it stores its state.
    fn stop(mut self) {
        match &mut self {
            Self::Brooklet(server) => {
                server.signal("TERM");
                // Until the log ends.
                server.wait_for_lines("", usize::MAX);
            }
            Self::Mosquitto(child) => {
                let id = child.id().to_string();
                Command::new("kill").arg(id).status().expect("it gets the signal");
                child.wait().expect("it ends");
            }
        }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if let Self::Mosquitto(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that waits in vain has to end")]
fn now() -> Instant {
    Instant::now()
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !condition() {
        assert!(now() < end, "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Two brokers and the files that configure them.
struct Sites {
    directory: Directory,
    kind: Kind,
    far_port: u16,
    near_port: u16,
}

impl Sites {
    fn new(name: &str, kind: Kind) -> Self {
        let name = format!("{name}-{kind:?}");
        Self { directory: Directory::new(&name), kind, far_port: free_port(), near_port: free_port() }
    }

    fn far(&self) -> Far {
        self.far_with("")
    }

    /// Starts the far broker with further lines.
    fn far_with(&self, lines: &str) -> Far {
        let lines = format!("user root\nlistener {} 127.0.0.1\nallow_anonymous true\n{lines}", self.far_port);
        Far::start(self.kind, &self.directory.write("far.conf", &lines), self.far_port)
    }

    /// Writes the configuration of the near broker, with these lines for the bridge.
    fn configure(&self, lines: &str) {
        let Self { directory, far_port, near_port, .. } = self;
        let text = format!(
            "user root\nlistener {near_port} 127.0.0.1\nallow_anonymous true\nlog_type all\npersistence true\n\
             persistence_location {}\nconnection far\naddress 127.0.0.1:{far_port}\nremote_clientid edge\n\
             restart_timeout 1\n{lines}\n",
            directory.0.display()
        );
        directory.write("near.conf", &text);
    }

    /// Inserts lines at the start of the configuration of the near broker.
    fn insert(&self, lines: &str) {
        let text = fs::read_to_string(self.directory.0.join("near.conf")).expect("it was written");
        self.directory.write("near.conf", &format!("{lines}{text}"));
    }

    /// Replaces this text in the configuration of the near broker.
    fn replace(&self, before: &str, after: &str) {
        let text = fs::read_to_string(self.directory.0.join("near.conf")).expect("it was written");
        assert!(text.contains(before), "{text}");
        self.directory.write("near.conf", &text.replace(before, after));
    }

    fn near(&self) -> Server {
        let mut command = brooklet();
        command.arg("-c").arg(self.directory.0.join("near.conf"));
        Server::follow(command)
    }

    async fn client(&self, version: Version, is_far: bool, identifier: &str) -> Client {
        let port = if is_far { self.far_port } else { self.near_port };
        Options::at(port, version, identifier).connect().await
    }
}

/// Waits for a retained state at the topic where the bridge reports it.
async fn wait_for_state(watcher: &mut Client, state: &str) {
    while watcher.receive().await.payload != state.as_bytes() {}
}

const STATE: &str = "$SYS/broker/connection/edge/state";

#[test]
fn messages_go_both_ways_at_every_qos() {
    for kind in kinds() {
        for protocol in ["mqttv311", "mqttv50"] {
            let sites = Sites::new(&format!("both-{protocol}"), kind);
            let _far = sites.far();
            sites.configure(&format!(
                "bridge_protocol_version {protocol}\ntopic up/# out 2\ntopic down/# in 2\ntopic # both 2 here/ there/"
            ));
            let _near = sites.near();
            run(async {
                let mut near = sites.client(Version::V5, false, "near").await;
                let mut far = sites.client(Version::V5, true, "far").await;
                far.subscribe(STATE, QoS::AtLeastOnce).await;
                wait_for_state(&mut far, "1").await;
                near.subscribe(STATE, QoS::AtLeastOnce).await;
                wait_for_state(&mut near, "1").await;
                for filter in ["up/#", "there/#"] {
                    far.subscribe(filter, QoS::ExactlyOnce).await;
                }
                for filter in ["down/#", "here/#"] {
                    near.subscribe(filter, QoS::ExactlyOnce).await;
                }
                for qos in ALL {
                    near.publish("up/a", qos, false, "out").await;
                    let message = far.receive().await;
                    assert_eq!((&*message.topic, &*message.payload, message.qos), ("up/a", &b"out"[..], qos));
                    far.publish("down/a", qos, false, "in").await;
                    let message = near.receive().await;
                    assert_eq!(
                        (&*message.topic, &*message.payload, message.qos),
                        ("down/a", &b"in"[..], qos)
                    );
                    near.publish("here/a", qos, false, "renamed").await;
                    assert_eq!(near.receive().await.topic, "here/a", "its own subscription");
                    assert_eq!(far.receive().await.topic, "there/a");
                    far.publish("there/b", qos, false, "renamed").await;
                    assert_eq!(far.receive().await.topic, "there/b", "its own subscription");
                    assert_eq!(near.receive().await.topic, "here/b");
                }
                // Nothing has come back over the bridge.
                near.publish("here/end", QoS::AtLeastOnce, false, "").await;
                assert!(near.receive_until("here/end").await.is_empty());
                assert!(far.receive_until("there/end").await.is_empty());
            });
        }
    }
}

#[test]
fn what_was_acknowledged_while_the_bridge_was_away_survives_a_kill_and_arrives_in_order() {
    for kind in kinds() {
        for protocol in ["mqttv311", "mqttv50"] {
            let sites = Sites::new(&format!("away-{protocol}"), kind);
            sites.configure(&format!("bridge_protocol_version {protocol}\ntopic up/# out 1"));
            let near = sites.near();
            run(async {
                let mut publisher = sites.client(Version::V5, false, "publisher").await;
                publisher.publish_numbers("up/n", 0..500).await;
            });
            near.signal("KILL");
            near.wait_for_end();
            let _far = sites.far();
            run(async {
                let mut far = sites.client(Version::V311, true, "far").await;
                far.subscribe("up/#", QoS::AtLeastOnce).await;
                let _near = sites.near();
                for number in 0..500 {
                    let message = far.receive().await;
                    assert_eq!(message.payload, number.to_string().into_bytes());
                }
            });
        }
    }
}

/// The near broker queues while the far one is away, and the far one for the bridge.
#[test]
fn both_brokers_may_restart() {
    for kind in kinds() {
        for protocol in ["mqttv311", "mqttv50"] {
            let sites = Sites::new(&format!("restart-{protocol}"), kind);
            sites.configure(&format!(
                "bridge_protocol_version {protocol}\ntopic up/# out 2\ntopic down/# in 2"
            ));
            let near = sites.near();
            run(async {
                let mut publisher = sites.client(Version::V5, false, "publisher").await;
                for round in 0..3 {
                    // The bridge is away.
                    publisher.publish_numbers("up/n", 0..20).await;
                    let far = sites.far();
                    let mut watcher = sites.client(Version::V311, true, "far").await;
                    watcher.subscribe("up/#", QoS::ExactlyOnce).await;
                    for number in 0..20 {
                        let mut payload = watcher.receive().await.payload;
                        // The acknowledgement of the last message may have been lost with the broker.
                        if round > 0 && number == 0 && payload == b"19" {
                            payload = watcher.receive().await.payload;
                        }
                        assert_eq!(payload, number.to_string().into_bytes(), "{round}");
                    }
                    drop(far);
                }
            });
            assert!(near.lines_with("Bridge far: The connection to").len() >= 2);
            end(near);
        }
    }
}

#[test]
fn retained_messages_are_not_sent_again_to_a_session_that_lives() {
    for kind in kinds() {
        let sites = Sites::new("retained", kind);
        sites.configure("topic up/# out 1");
        run(async {
            let _far = sites.far();
            let mut watcher = sites.client(Version::V5, true, "far").await;
            watcher.subscribe("up/#", QoS::AtLeastOnce).await;
            let near = sites.near();
            let mut publisher = sites.client(Version::V5, false, "publisher").await;
            for number in 0..50 {
                publisher.publish(&format!("up/{number}"), QoS::AtLeastOnce, true, "first").await;
            }
            publisher.publish("up/end", QoS::AtLeastOnce, false, "").await;
            let topics: BTreeSet<String> =
                watcher.receive_until("up/end").await.into_iter().map(|message| message.topic).collect();
            assert_eq!(topics.len(), 50);
            // By then, all of them are acknowledged.
            for number in 0..5 {
                let topic = format!("up/ping/{number}");
                publisher.publish(&topic, QoS::AtLeastOnce, false, "").await;
                watcher.receive_until(&topic).await;
            }
            // The near broker comes back. Meanwhile, the far one remembers the session.
            end(near);
            let _near = sites.near();
            let mut publisher = sites.client(Version::V5, false, "publisher").await;
            publisher.publish("up/0", QoS::AtLeastOnce, true, "").await;
            publisher.publish("up/last", QoS::AtLeastOnce, false, "").await;
            let again = watcher.receive_until("up/last").await;
            let topics = again.iter().map(|message| &*message.topic);
            let topics: Vec<&str> = topics.filter(|topic| !topic.starts_with("up/ping/")).collect();
            assert_eq!(topics, ["up/0"], "only what has changed");
            let mut late = sites.client(Version::V5, true, "late").await;
            late.subscribe("up/#", QoS::AtLeastOnce).await;
            for _ in 0..49 {
                let message = late.receive().await;
                assert!(message.retain && message.topic != "up/0", "it was deleted there as well");
            }
        });
    }
}

/// It is refused before anything of its CONNECT takes effect, whether it wants the session or its end.
#[test]
fn no_client_takes_the_queue_of_a_bridge() {
    const REFUSED_311: &[u8] = &[2, 0, 2];
    // The reason follows in words.
    const REFUSED_5: &[u8] = &[62, 0, 0x85];
    let sites = Sites::new("identifier", Kind::Brooklet);
    sites.configure("topic up/# out 1");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        publisher.publish("up/secret", QoS::AtLeastOnce, false, "secret").await;
        for (count, (version, flags, refused)) in
            [(4, 0, REFUSED_311), (4, 2, REFUSED_311), (5, 0, REFUSED_5), (5, 2, REFUSED_5)]
                .into_iter()
                .enumerate()
        {
            let properties: &[u8] = if version == 5 { &[0] } else { &[] };
            let rest =
                [&[0, 4, b'M', b'Q', b'T', b'T', version, flags, 0, 60], properties, b"\0\x0Alocal.edge"];
            let rest = rest.concat();
            let length = u8::try_from(rest.len()).expect("it is short");
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, sites.near_port)).expect("it listens");
            stream.write_all(&[&[0x10, length], &rest[..]].concat()).expect("it reads");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("it answers");
            assert!(
                answer[0] == 0x20 && answer[1..].starts_with(refused),
                "{answer:?} to version {version}, flags {flags}"
            );
            near.wait_for_lines("the Client Identifier belongs to a bridge of this broker", count + 1);
        }
        let _far = sites.far();
        let mut far = sites.client(Version::V5, true, "far").await;
        far.subscribe("up/#", QoS::AtLeastOnce).await;
        assert_eq!(far.receive().await.payload, b"secret");
    });
    end(near);
}

#[test]
fn a_reload_adds_changes_and_removes_bridges_beside_clients() {
    let sites = Sites::new("reload", Kind::Brooklet);
    let _far = sites.far();
    let base = |lines: &str| {
        let Sites { directory, near_port, .. } = &sites;
        directory.write(
            "near.conf",
            &format!(
                "user root\nlistener {near_port} 127.0.0.1\nallow_anonymous true\nlog_type all\n{lines}"
            ),
        );
    };
    let bridge = |topic: &str| {
        format!(
            "connection far\naddress 127.0.0.1:{}\nremote_clientid edge\nbridge_reload_type immediate\n\
             restart_timeout 1\ntopic {topic} out 1\n",
            sites.far_port
        )
    };
    base("");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe("#", QoS::AtLeastOnce).await;
        watcher.subscribe(STATE, QoS::AtLeastOnce).await;
        base(&bridge("one/#"));
        near.signal("HUP");
        wait_for_state(&mut watcher, "1").await;
        publisher.publish("one/a", QoS::AtLeastOnce, false, "").await;
        assert_eq!(watcher.receive().await.topic, "one/a");
        // A bridge in another line is still the same bridge.
        base(&format!("# Another line.\n{}", bridge("one/#")));
        near.signal("HUP");
        near.wait_for_lines("The files were read again", 2);
        publisher.publish("one/a", QoS::AtLeastOnce, false, "").await;
        assert_eq!(watcher.receive().await.topic, "one/a", "no state");
        base(&bridge("two/#"));
        near.signal("HUP");
        wait_for_state(&mut watcher, "0").await;
        wait_for_state(&mut watcher, "1").await;
        publisher.publish("one/a", QoS::AtLeastOnce, false, "").await;
        publisher.publish("two/a", QoS::AtLeastOnce, false, "").await;
        assert_eq!(watcher.receive().await.topic, "two/a");
        base("");
        near.signal("HUP");
        wait_for_state(&mut watcher, "0").await;
        publisher.publish("two/a", QoS::AtLeastOnce, false, "").await;
        near.wait_for_line("was removed or renamed");
        publisher.subscribe("$SYS/broker/bridge/#", QoS::AtLeastOnce).await;
        publisher.subscribe("end", QoS::AtLeastOnce).await;
        publisher.publish("end", QoS::AtLeastOnce, false, "").await;
        let shown = publisher.receive_until("end").await;
        assert!(shown.is_empty(), "nothing is shown of a bridge that is gone: {shown:?}");
    });
    end(near);
}
