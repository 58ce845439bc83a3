//! Delivery of messages: the three qualities of service, payloads of all sizes, order, retained messages.

use rumqttc::QoS;

use crate::client::{Client, in_both_versions};
use crate::server::Server;

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn every_quality_of_service_goes_both_ways() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, version, "publisher").await;
        for wanted in ALL {
            let mut subscriber = Client::connect(&server, version, "subscriber").await;
            assert_eq!(subscriber.subscribe("a/+/c", wanted).await, wanted);
            for sent in ALL {
                let payload = format!("{sent:?} to {wanted:?}");
                publisher.publish("a/b/c", sent, false, payload.as_str()).await;
                let message = subscriber.receive().await;
                assert_eq!((message.topic.as_str(), message.payload), ("a/b/c", payload.into_bytes()));
                let lower = if sent < wanted { sent } else { wanted };
                assert_eq!((message.qos, message.retain, message.dup), (lower, false, false));
            }
            subscriber.disconnect().await;
        }
    });
}

#[test]
fn a_client_of_either_version_hears_the_other() {
    in_both_versions(async |version| {
        let other = match version {
            crate::client::Version::V311 => crate::client::Version::V5,
            crate::client::Version::V5 => crate::client::Version::V311,
        };
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, version, "publisher").await;
        let mut subscriber = Client::connect(&server, other, "subscriber").await;
        subscriber.subscribe("#", QoS::ExactlyOnce).await;
        for qos in ALL {
            publisher.publish("topic", qos, false, "payload").await;
            let message = subscriber.receive().await;
            assert_eq!((message.qos, message.payload.as_slice()), (qos, &b"payload"[..]));
        }
    });
}

#[test]
fn a_payload_of_a_mebibyte_and_an_empty_one_arrive_whole() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, version, "publisher").await;
        let mut subscriber = Client::connect(&server, version, "subscriber").await;
        subscriber.subscribe("large", QoS::ExactlyOnce).await;
        // No two parts of it are the same, so that one in the wrong place is noticed.
        let large: Vec<u8> = (0..256 * 1024_u32).flat_map(u32::to_be_bytes).collect();
        for qos in ALL {
            for payload in [&large[..], &[]] {
                let ((), message) =
                    tokio::join!(publisher.publish("large", qos, false, payload), subscriber.receive());
                assert_eq!((message.qos, message.payload.len()), (qos, payload.len()));
                assert!(message.payload == payload, "{version:?} {qos:?}: the payload has changed");
            }
        }
    });
}

#[test]
fn twenty_thousand_messages_arrive_in_order() {
    const COUNT: usize = 20_000;
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, version, "publisher").await;
        let mut subscriber = Client::connect(&server, version, "subscriber").await;
        subscriber.subscribe("numbers", QoS::AtLeastOnce).await;
        // The publisher waits for the reader now and then, so that no more messages are on their way than a queue may
        // hold.
        for from in (0..COUNT).step_by(1000) {
            let numbers = from..from + 1000;
            let reading = async {
                for expected in numbers.clone() {
                    let message = subscriber.receive().await;
                    assert_eq!(message.payload, expected.to_string().into_bytes());
                    assert!(!message.dup, "{expected} is sent once");
                }
            };
            tokio::join!(publisher.publish_numbers("numbers", numbers.clone()), reading);
        }
    });
}

#[test]
fn a_retained_message_is_set_replaced_and_cleared() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, version, "publisher").await;
        let mut early = Client::connect(&server, version, "early").await;
        early.subscribe("state/#", QoS::AtLeastOnce).await;
        for (payload, retained) in [("on", vec!["on"]), ("off", vec!["off"]), ("", vec![])] {
            publisher.publish("state/lamp", QoS::AtLeastOnce, true, payload).await;
            let live = early.receive().await;
            assert_eq!((live.payload.as_slice(), live.retain), (payload.as_bytes(), false));

            let mut late = Client::connect(&server, version, "late").await;
            late.subscribe("state/#", QoS::AtLeastOnce).await;
            publisher.publish("state/end", QoS::AtLeastOnce, false, "").await;
            let found = late.receive_until("state/end").await;
            assert!(found.iter().all(|message| message.retain && message.topic == "state/lamp"));
            let payloads: Vec<_> = found.iter().map(|message| message.payload.as_slice()).collect();
            assert_eq!(payloads, retained.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
            assert!(early.receive_until("state/end").await.is_empty());
            late.disconnect().await;
        }
    });
}
