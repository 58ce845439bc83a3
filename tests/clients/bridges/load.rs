//! Many messages, and changes of the configuration, beside clients that are served all the time.

use std::cell::Cell;

use super::faults::is_served;
use super::*;

/// How long a long queue is, from one end to the other.
const fn length(kind: Kind) -> usize {
    match kind {
        Kind::Brooklet => 100_000,
        // It takes far longer.
        Kind::Mosquitto => 10_000,
    }
}

/// Limits that allow such a queue.
const LIMITS: &str = "max_queued_messages 200000\nmax_queued_bytes 100000000\n";

/// All messages with these numbers arrive, while the other client is served.
async fn arrive_beside(receiver: &mut Client, other: &mut Client, count: usize) {
    let is_over = Cell::new(false);
    let arrive = async {
        for number in 0..count {
            assert_eq!(receiver.receive().await.payload, number.to_string().into_bytes());
        }
        is_over.set(true);
    };
    let live = async {
        while !is_over.get() {
            is_served(other).await;
        }
    };
    tokio::join!(arrive, live);
}

#[test]
fn a_long_queue_arrives_there_in_order_beside_a_client() {
    for kind in kinds() {
        let sites = Sites::new("long", kind);
        sites.configure("bridge_max_queued_messages 200000\ntopic up/# out 1");
        sites.insert(LIMITS);
        let near = sites.near();
        run(async {
            let mut client = sites.client(Version::V5, false, "near").await;
            client.publish_numbers("up/n", 0..length(kind)).await;
        });
        end(near);
        let _far = sites.far_with(LIMITS);
        run(async {
            let mut far = sites.client(Version::V311, true, "far").await;
            far.subscribe("up/#", QoS::AtLeastOnce).await;
            let _near = sites.near();
            let mut client = sites.client(Version::V5, false, "near").await;
            client.subscribe("own/#", QoS::AtLeastOnce).await;
            arrive_beside(&mut far, &mut client, length(kind)).await;
        });
    }
}

#[test]
fn a_long_queue_arrives_here_in_order_beside_a_client() {
    for kind in kinds() {
        let sites = Sites::new("long-in", kind);
        let _far = sites.far_with(LIMITS);
        sites.configure("topic down/# in 1");
        sites.insert(LIMITS);
        let near = sites.near();
        let options =
            Options { is_persistent: true, ..Options::at(sites.near_port, Version::V5, "receiver") };
        run(async {
            let mut receiver = options.connect().await;
            receiver.subscribe("down/#", QoS::AtLeastOnce).await;
            receiver.subscribe(STATE, QoS::AtMostOnce).await;
            wait_for_state(&mut receiver, "1").await;
            receiver.unsubscribe(STATE).await;
        });
        end(near);
        run(async {
            let mut far = sites.client(Version::V5, true, "far").await;
            far.publish_numbers("down/n", 0..length(kind)).await;
            let _near = sites.near();
            let mut receiver = options.connect().await;
            let mut client = sites.client(Version::V5, false, "near").await;
            client.subscribe("own/#", QoS::AtLeastOnce).await;
            arrive_beside(&mut receiver, &mut client, length(kind)).await;
        });
    }
}

/// Waits until so many lines contain this text, while other clients go on.
async fn wait_for_lines(near: &Server, text: &str, count: usize) {
    let end = now() + PATIENCE / 2;
    while near.lines_with(text).len() < count {
        assert!(now() < end, "no {count} lines with {text:?} in:\n{}", near.lines_with("").join("\n"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes the near broker read its configuration for the nth time.
async fn reload(near: &Server, nth: usize) {
    near.signal("HUP");
    wait_for_lines(near, "The files were read again", nth).await;
}

/// A bridge that changes all the time, and another one that comes and goes, beside a client that publishes for both and
/// for itself.
#[test]
fn reloads_lose_nothing_and_hinder_no_client() {
    const RELOADS: usize = 12;
    let sites = Sites::new("reloads", Kind::Brooklet);
    let _far = sites.far();
    let configure = |round: usize| {
        let second = format!(
            "connection second\naddress 127.0.0.1:{}\nremote_clientid second\ntopic second/# out 1\n",
            sites.far_port
        );
        sites.configure(&format!(
            "bridge_reload_type immediate\ntopic up/# out 1\ntopic round{round}/# out 1\n{}",
            if round % 2 == 1 { &second } else { "" }
        ));
    };
    configure(0);
    let near = sites.near();
    near.wait_for_line("Bridge far: Connected to");
    run(async {
        let mut far = sites.client(Version::V5, true, "far").await;
        far.subscribe("up/#", QoS::AtLeastOnce).await;
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        let is_over = Cell::new(false);
        let change = async {
            for round in 1..=RELOADS {
                configure(round);
                reload(&near, round).await;
                wait_for_lines(&near, "Bridge far: Connected to", round + 1).await;
            }
            is_over.set(true);
        };
        let publish = async {
            let mut count = 0;
            while !is_over.get() {
                client.publish("up/n", QoS::AtLeastOnce, false, count.to_string()).await;
                is_served(&mut client).await;
                count += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            client.publish("up/end", QoS::AtLeastOnce, false, "").await;
            count
        };
        let (count, ()) = tokio::join!(publish, change);
        let received = far.receive_until("up/end").await;
        let mut next = 0;
        for message in received {
            let number: usize = String::from_utf8_lossy(&message.payload).parse().expect("it is a number");
            // What was in flight comes again.
            assert!(number <= next, "{number} instead of {next}");
            next = next.max(number + 1);
        }
        assert_eq!(next, count);
        assert_eq!(near.lines_with("session local.second was dropped").len(), RELOADS / 2);
    });
    end(near);
}

/// By default, a bridge that is connected changes with its next connection.
#[test]
fn a_lazy_reload_waits_for_the_next_connection() {
    let sites = Sites::new("lazy-reload", Kind::Brooklet);
    let far = sites.far();
    sites.configure("topic one/# out 1");
    let near = sites.near();
    run(async {
        let mut client = sites.client(Version::V5, false, "near").await;
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut watcher, "1").await;
        watcher.subscribe("#", QoS::AtLeastOnce).await;
        sites.configure("topic two/# out 1");
        reload(&near, 1).await;
        client.publish("two/a", QoS::AtLeastOnce, false, "").await;
        client.publish("one/a", QoS::AtLeastOnce, false, "").await;
        assert_eq!(watcher.receive().await.topic, "one/a", "neither its state nor its topics have changed");
        drop(far);
        let _far = sites.far();
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe("#", QoS::AtLeastOnce).await;
        watcher.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut watcher, "1").await;
        client.publish("one/b", QoS::AtLeastOnce, false, "").await;
        client.publish("two/b", QoS::AtLeastOnce, false, "").await;
        assert_eq!(watcher.receive().await.topic, "two/b");
        end(near);
    });
}
