//! What happens to the queue of a bridge when messages wait for too long, and when the bridge changes.

use super::*;

#[test]
fn a_message_that_has_waited_for_too_long_does_not_arrive() {
    let sites = Sites::new("age", Kind::Brooklet);
    sites.configure("bridge_max_age 1\ntopic up/# out 1");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        publisher.subscribe("$SYS/broker/bridge/far/#", QoS::AtLeastOnce).await;
        publisher.publish("up/old", QoS::AtLeastOnce, false, "").await;
        let line = near.wait_for_line("are being dropped that have waited for more than 1 s");
        assert!(line.contains("The limit is bridge_max_age"), "{line}");
        let _far = sites.far();
        let mut far = sites.client(Version::V5, true, "far").await;
        far.subscribe("up/#", QoS::AtLeastOnce).await;
        far.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut far, "1").await;
        publisher.publish("up/new", QoS::AtLeastOnce, false, "").await;
        assert_eq!(far.receive().await.topic, "up/new");
        loop {
            let message = publisher.receive().await;
            if message.topic.ends_with("/dropped") && message.payload == b"1" {
                break;
            }
        }
    });
    end(near);
}

#[test]
fn messages_become_too_old_in_the_store() {
    let sites = Sites::new("store", Kind::Brooklet);
    sites.configure("bridge_max_age 2\ntopic up/# out 1");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        publisher.publish("up/old", QoS::AtLeastOnce, false, "").await;
    });
    near.signal("KILL");
    near.wait_for_end();
    // Its session has connected by then, but not to forward anything.
    let near = sites.near();
    near.wait_for_line("are being dropped that have waited for more than 2 s");
    end(near);
}

#[test]
fn the_age_of_the_oldest_message_is_published() {
    let sites = Sites::new("oldest", Kind::Brooklet);
    sites.configure("topic up/# out 1");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        publisher.publish("up/a", QoS::AtLeastOnce, false, "").await;
    });
    near.signal("KILL");
    near.wait_for_end();
    let near = sites.near();
    run(async {
        let mut watcher = sites.client(Version::V5, false, "watcher").await;
        watcher.subscribe("$SYS/broker/bridge/far/oldest", QoS::AtLeastOnce).await;
        while watcher.receive().await.payload == b"0" {}
        let _far = sites.far();
        while watcher.receive().await.payload != b"0" {}
    });
    end(near);
}

#[test]
fn a_lazy_reload_gives_a_bridge_another_session_with_its_next_connection() {
    let sites = Sites::new("lazy", Kind::Brooklet);
    let far = sites.far();
    sites.configure("topic up/# out 1\nlocal_clientid one");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe("up/#", QoS::AtLeastOnce).await;
        watcher.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut watcher, "1").await;
        sites.configure("topic up/# out 1\nlocal_clientid two");
        near.signal("HUP");
        near.wait_for_line("The files were read again");
        // The connection goes on.
        publisher.publish("up/a", QoS::AtLeastOnce, false, "").await;
        let states = watcher.receive_until("up/a").await;
        assert!(states.iter().all(|state| state.payload == b"1"), "{states:?}");
        assert!(near.lines_with("was removed or renamed").is_empty());
        drop(far);
        near.wait_for_line("session one was dropped with");
        publisher.publish("up/b", QoS::AtLeastOnce, false, "").await;
        let _far = sites.far();
        let mut watcher = sites.client(Version::V5, true, "far").await;
        watcher.subscribe("up/#", QoS::AtLeastOnce).await;
        assert_eq!(watcher.receive().await.topic, "up/b");
        end(near);
    });
}
