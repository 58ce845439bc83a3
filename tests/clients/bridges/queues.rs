//! What happens to the queue of a bridge when messages wait for too long, and when the bridge is gone.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;

impl Sites {
    /// The configuration without a bridge.
    fn remove_bridge(&self) {
        let text = fs::read_to_string(self.directory.0.join("near.conf")).expect("it was written");
        let (before, _) = text.split_once("connection far").expect("there is one");
        self.directory.write("near.conf", before);
    }

    /// What is told about the configuration of the near broker.
    fn test(&self) -> String {
        let file = self.directory.0.join("near.conf");
        let output = brooklet().arg("--test-config").arg("-c").arg(file).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stderr).expect("it is a text")
    }

    /// The files of the near broker, by name: what is in them, and when they were changed.
    #[expect(clippy::disallowed_methods, reason = "a test may read files")]
    fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let entries =
            fs::read_dir(&self.directory.0).expect("it is there").map(|entry| entry.expect("it is read"));
        let file = |path: PathBuf| {
            let changed = fs::metadata(&path).and_then(|found| found.modified()).expect("the system knows");
            (path.clone(), (fs::read(path).expect("it is ours"), changed))
        };
        entries.map(|entry| file(entry.path())).collect()
    }
}

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

/// Whether the store is in use, was left by a broker that was killed, or by one that has ended in order.
#[test]
fn a_test_of_the_configuration_names_what_a_bridge_that_is_gone_has_left() {
    let sites = Sites::new("gone", Kind::Brooklet);
    sites.configure("topic up/# out 1");
    assert_eq!(sites.test().matches("will be dropped").count(), 0, "there is no store");
    assert!(!sites.directory.0.join("brooklet.db").exists(), "and none is made");
    let near = sites.near();
    run(async {
        let mut publisher = sites.client(Version::V5, false, "publisher").await;
        publisher.publish_numbers("up/n", 0..5).await;
    });
    assert_eq!(sites.test().matches("will be dropped").count(), 0, "the bridge is still there");
    sites.remove_bridge();
    let expected = "brooklet.db: session local.edge of bridge far will be dropped with 5 messages, since that bridge is gone";
    let told = |state: &str| {
        let before = sites.files();
        let told = sites.test();
        assert!(told.contains(expected), "{state}: {told}");
        assert!(sites.files() == before, "{state}: nothing is touched");
    };
    told("in use");
    near.signal("KILL");
    near.wait_for_end();
    told("killed");
    // The bridge is renamed.
    sites.configure("topic up/# out 1");
    let text = fs::read_to_string(sites.directory.0.join("near.conf")).expect("it was written");
    let renamed =
        text.replace("connection far", "connection other").replace("clientid edge", "clientid cliff");
    sites.directory.write("near.conf", &renamed);
    told("renamed");
    sites.configure("topic up/# out 1");
    end(sites.near());
    sites.remove_bridge();
    told("ended");
    let near = sites.near();
    near.wait_for_line(
        "session local.edge was dropped with 5 messages, since its bridge was removed or renamed",
    );
    end(near);
    assert_eq!(sites.test().matches("will be dropped").count(), 0);
}

#[expect(clippy::disallowed_methods, reason = "a test may read files")]
#[test]
fn a_damaged_store_does_not_make_the_configuration_bad() {
    let sites = Sites::new("damaged", Kind::Brooklet);
    sites.configure("topic up/# out 1");
    end(sites.near());
    sites.remove_bridge();
    let path = sites.directory.0.join("brooklet.db");
    let mut bytes = fs::read(&path).expect("it is ours");
    for (from, what) in [(100, "schema"), (0, "header"), (4096, "pages")] {
        bytes[from..].iter_mut().step_by(3).for_each(|byte| *byte ^= 0x55);
        bytes.extend_from_slice(b"bridge far");
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        sites.directory.write_bytes("brooklet.db", &bytes);
        let before = sites.files();
        let told = sites.test();
        let expected = "it is not known whether bridges that are gone have left messages in it";
        assert!(told.contains(expected), "{what}: {told}");
        assert!(sites.files() == before, "{what}: nothing is touched");
    }
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
