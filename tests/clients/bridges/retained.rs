//! Retained messages that change while the other broker is away.

use super::*;

/// What a bridge forwards, and what the changes are that its queue does not hold.
const RULES: [&str; 4] = [
    "topic up/# out 0",
    "topic up/# out 1",
    "topic up/# out 1\nlocal_cleansession true",
    "topic up/# out 2\nbridge_max_queued_messages 1\nbridge_queue_drop oldest",
];

/// Retains 20 messages in both brokers. When this returns, the other broker has acknowledged them.
async fn fill(publisher: &mut Client, watcher: &mut Client) {
    for number in 0..20 {
        publisher.publish(&format!("up/{number}"), QoS::AtLeastOnce, true, "old").await;
    }
    for _ in 0..20 {
        watcher.receive().await;
    }
    // Once these are acknowledged and durable there, a message comes after the acknowledgements.
    watcher.publish("durable", QoS::AtLeastOnce, true, "x").await;
    publisher.subscribe("down/#", QoS::AtLeastOnce).await;
    watcher.publish("down/end", QoS::AtLeastOnce, false, "").await;
    publisher.receive_until("down/end").await;
}

async fn change(publisher: &mut Client) {
    for (topic, payload, qos) in [
        ("up/1", "new", QoS::AtMostOnce),
        ("up/2", "", QoS::AtMostOnce),
        ("up/3", "new", QoS::AtLeastOnce),
        ("up/new", "new", QoS::ExactlyOnce),
        ("up/4", "", QoS::AtLeastOnce),
    ] {
        publisher.publish(topic, qos, true, payload).await;
    }
}

/// What has changed, as it arrives.
async fn changes(watcher: &mut Client) -> BTreeSet<String> {
    let mut changes = BTreeSet::new();
    for _ in 0..5 {
        let message = watcher.receive().await;
        assert!(!message.retain);
        changes.insert(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload)));
    }
    changes
}

#[test]
fn what_changes_while_the_other_broker_is_away_arrives_and_nothing_else() {
    for kind in kinds() {
        for (rule, restarts) in RULES.into_iter().flat_map(|rule| [(rule, false), (rule, true)]) {
            let sites = Sites::new("changes", kind);
            let place = sites.directory.0.display();
            let store = format!("persistence true\npersistence_location {place}/\npersistence_file far.db\n");
            sites.configure(&format!("bridge_protocol_version mqttv50\ntopic down/# in 1\n{rule}"));
            run(async {
                let far = sites.far_with(&store);
                let near = sites.near();
                let mut watcher = sites.client(Version::V5, true, "far").await;
                watcher.subscribe("up/#", QoS::AtLeastOnce).await;
                let mut publisher = sites.client(Version::V5, false, "publisher").await;
                publisher.subscribe(STATE, QoS::AtLeastOnce).await;
                wait_for_state(&mut publisher, "1").await;
                fill(&mut publisher, &mut watcher).await;
                drop(watcher);
                far.stop();
                wait_for_state(&mut publisher, "0").await;
                change(&mut publisher).await;
                near.signal(if restarts { "KILL" } else { "STOP" });
                let stopped = if restarts {
                    near.wait_for_end();
                    None
                } else {
                    Some(near)
                };
                let _far = sites.far_with(&store);
                let mut watcher = sites.client(Version::V5, true, "far").await;
                watcher.subscribe("up/#", QoS::AtLeastOnce).await;
                for _ in 0..20 {
                    let message = watcher.receive().await;
                    assert_eq!((message.retain, &*message.payload), (true, &b"old"[..]), "{rule}");
                }
                let near = stopped.unwrap_or_else(|| sites.near());
                near.signal("CONT");
                let expected = ["up/1=new", "up/2=", "up/3=new", "up/4=", "up/new=new"];
                assert_eq!(
                    changes(&mut watcher).await,
                    expected.map(str::to_owned).into(),
                    "{kind:?} {rule}"
                );
                let mut publisher = sites.client(Version::V5, false, "again").await;
                publisher.publish("up/end", QoS::AtLeastOnce, false, "").await;
                assert!(watcher.receive_until("up/end").await.is_empty(), "{kind:?} {rule}");
                end(near);
            });
        }
    }
}

#[test]
fn too_many_changes_are_named_once() {
    let sites = Sites::new("too-many", Kind::Brooklet);
    sites.configure("bridge_max_retained_changes 2\ntopic up/# out 0");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        for number in 0..20 {
            publisher.publish(&format!("up/{number}"), QoS::AtLeastOnce, true, "new").await;
        }
        near.wait_for_line(
            "too many retained messages have changed that client local.edge has not been sent",
        );
        let _far = sites.far();
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe("up/#", QoS::AtLeastOnce).await;
        for _ in 0..20 {
            watcher.receive().await;
        }
        let lines = near.lines_with("too many retained messages have changed");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("The limit is 2 (bridge_max_retained_changes)."), "{}", lines[0]);
    });
    end(near);
}
