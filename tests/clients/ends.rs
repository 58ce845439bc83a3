//! Ends of connections, and the Wills that follow.

use rumqttc::QoS;

use crate::client::{Client, Options, in_both_versions};
use crate::server::Server;

#[test]
fn a_will_follows_an_abnormal_end() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut watcher = Client::connect(&server, version, "watcher").await;
        watcher.subscribe("status/#", QoS::ExactlyOnce).await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let will = Some(("status/device", "gone", qos, true));
            let device = Options { will, ..Options::new(&server, version, "device") }.connect().await;
            drop(device);
            let message = watcher.receive().await;
            assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("status/device", &b"gone"[..]));
            assert_eq!((message.qos, message.retain), (qos, false));
        }
        let mut late = Client::connect(&server, version, "late").await;
        late.subscribe("status/#", QoS::AtMostOnce).await;
        assert!(late.receive().await.retain);
    });
}

#[test]
fn no_will_follows_a_normal_end() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut watcher = Client::connect(&server, version, "watcher").await;
        watcher.subscribe("#", QoS::AtLeastOnce).await;
        let will = Some(("status", "gone", QoS::AtLeastOnce, false));
        let device = Options { will, ..Options::new(&server, version, "device") }.connect().await;
        device.disconnect().await;
        server.wait_for_line("Client device [");
        watcher.publish("end", QoS::AtLeastOnce, false, "").await;
        assert!(watcher.receive_until("end").await.is_empty());
    });
}
