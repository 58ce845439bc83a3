//! What goes wrong at the far end, or on the way there. A client of the near broker is served all the time.

use super::*;

/// The other broker, played by the test.
struct Pretender {
    listener: TcpListener,
    port: u16,
}

impl Pretender {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it has an address").port();
        Self { listener, port }
    }

    /// Accepts the bridge and reads its CONNECT.
    fn accept(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().expect("the bridge connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
        assert_eq!(read_packet(&mut stream)[0], 0x10, "CONNECT");
        stream
    }

    /// Accepts the bridge, accepts its CONNECT, and reads its SUBSCRIBE. Returns the identifier of that as well.
    fn accept_subscribe(&self, connack: &[u8]) -> (TcpStream, [u8; 2]) {
        let mut stream = self.accept();
        stream.write_all(connack).expect("it reads");
        let subscribe = read_packet(&mut stream);
        assert_eq!(subscribe[0], 0x82, "SUBSCRIBE");
        (stream, [subscribe[1], subscribe[2]])
    }
}

/// Reads a packet of less than 16 KiB. Returns its first byte and what follows the length.
fn read_packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut byte = || {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("there is a packet");
        byte[0]
    };
    let (first, mut length) = (byte(), usize::from(byte()));
    if length >= 128 {
        length = length - 128 + 128 * usize::from(byte());
    }
    let mut packet = vec![first; 1 + length];
    stream.read_exact(&mut packet[1..]).expect("there is a whole packet");
    packet
}

const CONNACK_311: &[u8] = &[0x20, 2, 0, 0];
const CONNACK_5: &[u8] = &[0x20, 3, 0, 0, 0];

/// Publishes something, and waits until it comes back.
pub(super) async fn is_served(client: &mut Client) {
    client.publish("own/a", QoS::AtLeastOnce, false, "own").await;
    while client.receive().await.topic != "own/a" {}
}

/// Waits for a line that contains this text. Returns how often the client was served meanwhile.
pub(super) async fn wait_for_line(near: &Server, client: &mut Client, text: &str) -> usize {
    let end = now() + PATIENCE / 2;
    let mut served = 0;
    loop {
        is_served(client).await;
        served += 1;
        if !near.lines_with(text).is_empty() {
            return served;
        }
        assert!(now() < end, "no line with {text:?} in:\n{}", near.lines_with("").join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The near broker names this reason and how long it waits. Its client is served meanwhile.
async fn names(near: &Server, client: &mut Client, what: &str, reason: &str) {
    wait_for_line(near, client, reason).await;
    let line = &near.lines_with(reason)[0];
    assert!(line.contains(what) && line.ends_with("The next attempt is in 1.0 s."), "{line}");
}

#[test]
fn a_frozen_broker_is_noticed_and_the_bridge_comes_back_when_it_thaws() {
    let sites = Sites::new("frozen", Kind::Brooklet);
    let far = sites.far();
    sites.configure("keepalive_interval 5\ntopic up/# out 1");
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        client.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut client, "1").await;
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe("up/#", QoS::AtLeastOnce).await;
        far.signal("STOP");
        wait_for_state(&mut client, "0").await;
        let line = near.wait_for_line("PINGRESP has not come");
        assert!(line.contains("The connection to 127.0.0.1:"), "{line}");
        client.publish_numbers("up/n", 0..10).await;
        far.signal("CONT");
        wait_for_state(&mut client, "1").await;
        for number in 0..10 {
            assert_eq!(watcher.receive().await.payload, number.to_string().into_bytes());
        }
    });
}

#[test]
fn nonsense_of_the_other_broker_is_named_and_hinders_no_client() {
    let pretender = Pretender::new();
    let mut sites = Sites::new("nonsense", Kind::Brooklet);
    sites.far_port = pretender.port;
    sites.configure("try_private false\nnotifications false\nmax_packet_size 10000\ntopic down/# in 1");
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        client.subscribe("down/#", QoS::AtLeastOnce).await;
        let attempt = "The attempt to connect to 127.0.0.1:";
        drop(pretender.accept());
        names(&near, &mut client, attempt, "connection closed").await;
        let silent = pretender.accept();
        names(&near, &mut client, attempt, "CONNACK has not come").await;
        drop(silent);
        let mut stream = pretender.accept();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n400 Bad Request\r\n").expect("it reads");
        names(&near, &mut client, attempt, "reserved flags of the fixed header").await;
        let mut stream = pretender.accept();
        stream.write_all(&[0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).expect("it reads");
        names(&near, &mut client, attempt, "remaining length over four bytes").await;
        let mut stream = pretender.accept();
        stream.write_all(&[0x20, 0xFF, 0xFF, 0x7F]).expect("it reads");
        names(&near, &mut client, attempt, "packet too large").await;
        let (mut stream, [high, low]) = pretender.accept_subscribe(CONNACK_311);
        stream.write_all(&[0x90, 2, high, low]).expect("it reads");
        names(&near, &mut client, attempt, "packet without a reason code").await;
        let (mut stream, [high, low]) = pretender.accept_subscribe(CONNACK_311);
        stream.write_all(&[0x90, 4, high, low, 1, 1]).expect("it reads");
        names(&near, &mut client, attempt, "SUBACK for another number of filters").await;
        let (mut stream, [high, low]) = pretender.accept_subscribe(CONNACK_311);
        stream.write_all(&[0x90, 3, high, low ^ 1, 1]).expect("it reads");
        names(&near, &mut client, attempt, "an answer to no request").await;
        // Before MQTT 5.0, a message that is too large is skipped.
        let (mut stream, [high, low]) = pretender.accept_subscribe(CONNACK_311);
        stream.write_all(&[0x90, 3, high, low, 1]).expect("it reads");
        let mut large = b"\x32\xA0\x9C\x01\x00\x06down/a\x00\x01".to_vec();
        large.resize(4 + 20_000, b'x');
        stream.write_all(&large).expect("it reads");
        stream.write_all(b"\x32\x0B\x00\x06down/b\x00\x02x").expect("it reads");
        assert_eq!(read_packet(&mut stream), [0x40, 0, 1]);
        assert_eq!(client.receive().await.topic, "down/b");
        assert_eq!(read_packet(&mut stream), [0x40, 0, 2]);
        near.wait_for_line("was dropped: it is larger than the receiver accepts; topic down/a");
        drop(stream);
        names(&near, &mut client, "The connection to", "The connection to").await;
    });
    end(near);
}

#[test]
fn nonsense_in_5_is_named_as_well() {
    let pretender = Pretender::new();
    let mut sites = Sites::new("nonsense5", Kind::Brooklet);
    sites.far_port = pretender.port;
    sites.configure(
        "bridge_protocol_version mqttv50\nnotifications false\nmax_packet_size 10000\ntopic down/# in 1",
    );
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        let (mut stream, [high, low]) = pretender.accept_subscribe(CONNACK_5);
        stream.write_all(&[0x90, 4, high, low, 0, 1]).expect("it reads");
        near.wait_for_line("Connected to");
        stream.write_all(&[0x32, 0xA0, 0x9C, 1]).expect("it reads");
        names(&near, &mut client, "The connection to", "packet too large").await;
        let (mut stream, [high, low]) = pretender.accept_subscribe(CONNACK_5);
        stream.write_all(&[0x90, 3, high, low, 0]).expect("it reads");
        names(&near, &mut client, "The attempt to connect to", "packet without a reason code").await;
        let mut stream = pretender.accept();
        stream.write_all(&[0x20, 3, 0, 0x88, 0]).expect("it reads");
        names(&near, &mut client, "The attempt to connect to", "has refused the connection").await;
        let (mut stream, _) = pretender.accept_subscribe(CONNACK_5);
        stream.write_all(&[0xE0, 1, 0x8B]).expect("it reads");
        names(&near, &mut client, "The attempt to connect to", "the other broker has disconnected").await;
    });
    end(near);
}

#[test]
fn a_name_that_does_not_resolve_is_named_and_the_next_address_is_tried() {
    let sites = Sites::new("name", Kind::Brooklet);
    let _far = sites.far();
    sites.configure("");
    let Sites { directory, far_port, near_port, .. } = &sites;
    directory.write(
        "near.conf",
        &format!(
            "user root\nlistener {near_port} 127.0.0.1\nallow_anonymous true\nlog_type all\nconnection far\n\
             addresses nowhere.invalid:1884 127.0.0.1:{far_port}\nremote_clientid edge\nrestart_timeout 1\n\
             topic up/# out 1\n"
        ),
    );
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        names(&near, &mut client, "to nowhere.invalid:1884 has ended", "nowhere.invalid: ").await;
        client.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut client, "1").await;
    });
    end(near);
}

/// Without a user the bridge may forward everything, with one what that user may.
#[test]
fn the_rules_of_a_user_apply_to_a_bridge_that_has_one() {
    for user in [None, Some("bob")] {
        let sites = Sites::new(&format!("rules-{}", user.unwrap_or("none")), Kind::Brooklet);
        let _far = sites.far();
        let rules = sites.directory.write(
            "rules",
            "topic readwrite up/#\ntopic readwrite down/#\ntopic read $SYS/#\n\nuser bob\ntopic read up/good/#\n\
             topic write down/good/#\n",
        );
        let user_name = user.map(|name| format!("local_username {name}\n")).unwrap_or_default();
        sites.configure(&format!("topic up/# out 1\ntopic down/# in 1\n{user_name}"));
        sites.insert(&format!("acl_file {}\n", rules.display()));
        let near = sites.near();
        run(async {
            let mut client = sites.client(Version::V5, false, "near").await;
            client.subscribe(STATE, QoS::AtLeastOnce).await;
            wait_for_state(&mut client, "1").await;
            client.subscribe("down/#", QoS::AtLeastOnce).await;
            let mut far = sites.client(Version::V5, true, "far").await;
            far.subscribe("up/#", QoS::AtLeastOnce).await;
            let expected: &[&str] = if user.is_none() { &["bad", "good"] } else { &["good"] };
            for what in ["bad", "good"] {
                client.publish(&format!("up/{what}/a"), QoS::AtLeastOnce, false, "").await;
                far.publish(&format!("down/{what}/a"), QoS::AtLeastOnce, false, "").await;
            }
            for what in expected {
                assert_eq!(far.receive().await.topic, format!("up/{what}/a"), "{user:?}");
                assert_eq!(client.receive().await.topic, format!("down/{what}/a"), "{user:?}");
            }
        });
        end(near);
    }
}

/// The near broker is killed again and again while it forwards a queue.
#[test]
fn qos_2_is_exactly_once_though_the_broker_is_killed() {
    for kind in kinds() {
        for protocol in ["mqttv311", "mqttv50"] {
            let sites = Sites::new(&format!("killed-{protocol}"), kind);
            sites.configure(&format!("bridge_protocol_version {protocol}\ntopic up/# out 2"));
            let near = sites.near();
            run(async {
                let mut client = sites.client(Version::V5, false, "near").await;
                for number in 0..200 {
                    client.publish("up/n", QoS::ExactlyOnce, false, number.to_string()).await;
                }
            });
            end(near);
            let _far = sites.far();
            run(async {
                let mut far = sites.client(Version::V311, true, "far").await;
                far.subscribe("up/#", QoS::ExactlyOnce).await;
                for round in 0..4 {
                    let near = sites.near();
                    for number in round * 50..(round + 1) * 50 {
                        let message = far.receive().await;
                        assert_eq!(message.payload, number.to_string().into_bytes(), "{kind:?} {protocol}");
                    }
                    near.signal("KILL");
                    near.wait_for_end();
                }
                far.publish("up/end", QoS::AtLeastOnce, false, "").await;
                assert!(far.receive_until("up/end").await.is_empty());
            });
        }
    }
}

/// The far broker is killed again and again while it takes a queue, and persists what it has.
#[test]
fn qos_2_is_exactly_once_though_the_other_broker_is_killed() {
    const ANSWER: &str = "Received PUBREC from local.edge";
    for protocol in ["mqttv311", "mqttv50"] {
        let sites = Sites::new(&format!("far-killed-{protocol}"), Kind::Brooklet);
        let place = sites.directory.0.join("far");
        fs::create_dir(&place).expect("a directory can be made");
        let far = || sites.far_with(&format!("persistence true\npersistence_location {}\n", place.display()));
        let receiver =
            Options { is_persistent: true, ..Options::at(sites.far_port, Version::V5, "receiver") };
        let first = far();
        run(async {
            let mut receiver = receiver.connect().await;
            receiver.subscribe("up/#", QoS::ExactlyOnce).await;
            receiver.disconnect().await;
        });
        drop(first);
        // Slow enough to be killed in between.
        sites.configure(&format!(
            "bridge_protocol_version {protocol}\nbridge_drain_rate 100\ntopic up/# out 2"
        ));
        let near = sites.near();
        run(async {
            let mut client = sites.client(Version::V5, false, "near").await;
            for number in 0..200 {
                client.publish("up/n", QoS::ExactlyOnce, false, number.to_string()).await;
            }
            client.publish("up/end", QoS::ExactlyOnce, false, "").await;
            for _ in 0..4 {
                let answered = near.lines_with(ANSWER).len();
                let killed = far();
                near.wait_for_lines(ANSWER, answered + 20);
                drop(killed);
            }
            let _far = far();
            let mut receiver = receiver.connect().await;
            let received = receiver.receive_until("up/end").await;
            let numbers: Vec<String> = (0..200).map(|number: u32| number.to_string()).collect();
            let received: Vec<String> = received
                .into_iter()
                .map(|message| String::from_utf8(message.payload).expect("it is a number"))
                .collect();
            assert_eq!(received, numbers, "{protocol}");
        });
        end(near);
    }
}

#[test]
fn the_state_and_the_queue_are_published() {
    let sites = Sites::new("figures", Kind::Brooklet);
    sites.configure("topic up/# out 1");
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        client.publish_numbers("up/n", 0..3).await;
        client.subscribe("$SYS/broker/bridge/far/#", QoS::AtLeastOnce).await;
        let is_shown = async |client: &mut Client, what: &str, value: &str| {
            let topic = format!("$SYS/broker/bridge/far/{what}");
            loop {
                let message = client.receive().await;
                if message.topic == topic && message.payload == value.as_bytes() {
                    return;
                }
            }
        };
        is_shown(&mut client, "queue", "3").await;
        let _far = sites.far();
        is_shown(&mut client, "state", "connected").await;
        is_shown(&mut client, "queue", "0").await;
    });
    end(near);
}

/// Another broker that reads nothing does not keep a bridge that is removed.
#[test]
fn a_bridge_that_is_removed_closes_its_connection() {
    let pretender = Pretender::new();
    let mut sites = Sites::new("removed", Kind::Brooklet);
    sites.far_port = pretender.port;
    sites.configure("");
    let without =
        format!("user root\nlistener {} 127.0.0.1\nallow_anonymous true\nlog_type all\n", sites.near_port);
    sites.directory.write(
        "near.conf",
        &format!(
            "{without}connection far\naddress 127.0.0.1:{}\ntry_private false\nnotifications false\n\
             bridge_attempt_unsubscribe false\ntopic up/# out 0\n",
            sites.far_port
        ),
    );
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        let mut stream = pretender.accept();
        stream.write_all(CONNACK_311).expect("it reads");
        near.wait_for_line("Connected to");
        // More than the sockets take.
        for _ in 0..20 {
            client.publish("up/a", QoS::AtLeastOnce, false, "x".repeat(1_000_000)).await;
        }
        sites.directory.write("near.conf", &without);
        near.signal("HUP");
        near.wait_for_line("was removed or renamed");
        std::io::copy(&mut stream, &mut std::io::sink()).expect("the connection ends");
    });
    end(near);
}
