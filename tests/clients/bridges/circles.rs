//! Bridges that form circles.

use super::*;

/// Three brokers, each with a bridge to the next one.
fn ring(name: &str, protocol: &str) -> (Directory, Vec<Server>) {
    let directory = Directory::new(name);
    let ports = [free_port(), free_port(), free_port()];
    let brokers: Vec<Server> = (0..3)
        .map(|place| {
            let (port, next) = (ports[place], ports[(place + 1) % 3]);
            let file = directory.write(
                &format!("ring{place}.conf"),
                &format!(
                    "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nlog_type all\nconnection next\n\
                     address 127.0.0.1:{next}\nremote_clientid ring{place}\nrestart_timeout 1\n\
                     bridge_protocol_version {protocol}\ntopic # both 1\n"
                ),
            );
            let mut command = brooklet();
            command.arg("-c").arg(file);
            Server::follow(command)
        })
        .collect();
    for broker in &brokers {
        broker.wait_for_line("Connected to");
    }
    (directory, brokers)
}

#[test]
fn a_ring_of_brokers_ends_every_journey() {
    let (_directory, brokers) = ring("ring", "mqttv50");
    run(async {
        let mut client = Client::connect(&brokers[0], Version::V5, "client").await;
        client.subscribe("#", QoS::AtLeastOnce).await;
        client.publish("round/a", QoS::AtLeastOnce, false, "").await;
        // One way around and the other.
        for _ in 0..3 {
            assert_eq!(client.receive().await.topic, "round/a");
        }
        let named = brokers[0].wait_for_line("it has come over this bridge before");
        assert!(named.contains("Bridge next: ") && named.ends_with("topic round/a."), "{named}");
        for number in 0..20 {
            let topic = format!("later/{number}");
            client.publish(&topic, QoS::AtLeastOnce, false, "").await;
            for _ in 0..3 {
                assert_eq!(client.receive().await.topic, topic, "it does not go on");
            }
        }
    });
}

/// What the log says of messages that circle where no hop list can end that.
const CIRCLES: &str = "Is there a loop of bridges? Topic ";

/// Before 5.0, a message has no room for the names of bridges.
#[test]
fn a_message_that_circles_in_a_ring_of_3_1_1_is_named_once() {
    let (_directory, brokers) = ring("ring3", "mqttv311");
    run(async {
        let mut client = Client::connect(&brokers[0], Version::V311, "client").await;
        client.publish("round/a", QoS::AtLeastOnce, false, "around").await;
        for broker in &brokers {
            let line = broker.wait_for_line(CIRCLES);
            assert!(line.contains("Bridge next: ") && line.ends_with("Topic round/a."), "{line}");
        }
        // Others circle as well, and the client is still served.
        client.subscribe("round/b", QoS::AtLeastOnce).await;
        client.publish("round/b", QoS::AtLeastOnce, false, "around").await;
        for _ in 0..500 {
            client.receive().await;
        }
        for broker in &brokers {
            assert_eq!(broker.lines_with(CIRCLES).len(), 1, "once");
        }
    });
}

#[test]
fn a_bridge_to_its_own_broker_ends_every_journey_or_names_the_topic() {
    for protocol in ["mqttv311", "mqttv50"] {
        let mut sites = Sites::new(&format!("itself-{protocol}"), Kind::Brooklet);
        sites.far_port = sites.near_port;
        sites.configure(&format!("bridge_protocol_version {protocol}\ntopic round/# both 1"));
        let near = sites.near();
        near.wait_for_line("Connected to");
        run(async {
            let mut client = sites.client(Version::V5, false, "client").await;
            client.subscribe("own/#", QoS::AtLeastOnce).await;
            client.publish("round/a", QoS::AtLeastOnce, false, "around").await;
            if protocol == "mqttv50" {
                near.wait_for_line("it has come over this bridge before; topic round/a");
                client.subscribe("round/#", QoS::AtLeastOnce).await;
                for number in 0..20 {
                    let topic = format!("round/{number}");
                    client.publish(&topic, QoS::AtLeastOnce, false, "around").await;
                    // The message itself, out over the bridge, and in over it.
                    for _ in 0..3 {
                        assert_eq!(client.receive().await.topic, topic, "it does not go on");
                    }
                }
            } else {
                let line = near.wait_for_line(CIRCLES);
                assert!(line.contains("Bridge far: ") && line.ends_with("Topic round/a."), "{line}");
            }
            faults::is_served(&mut client).await;
            assert!(near.lines_with(CIRCLES).len() <= 1);
        });
        end(near);
    }
}
