//! What happens to the queue of a bridge that changes.

use super::*;

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
