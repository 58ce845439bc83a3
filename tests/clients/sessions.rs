//! Sessions that outlive their connections, and connections that take a session over.

use rumqttc::QoS;

use crate::client::{Client, Options, Version, in_both_versions};
use crate::server::Server;

#[test]
fn a_persistent_session_queues_messages_while_its_client_is_disconnected() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let options = Options::persistent(&server, version, "sleeper");
        let mut sleeper = options.connect().await;
        assert!(!sleeper.session_present);
        sleeper.subscribe("news/#", QoS::ExactlyOnce).await;
        sleeper.disconnect().await;

        let mut publisher = Client::connect(&server, version, "publisher").await;
        for number in 0..100 {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            publisher.publish("news/today", qos, false, number.to_string()).await;
        }

        let mut sleeper = options.connect().await;
        assert!(sleeper.session_present);
        for number in 0..100 {
            let message = sleeper.receive().await;
            assert_eq!(message.payload, number.to_string().into_bytes());
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            assert_eq!((message.qos, message.dup), (qos, false));
        }
        // The subscription still exists as well.
        publisher.publish("news/end", QoS::AtLeastOnce, false, "").await;
        assert!(sleeper.receive_until("news/end").await.is_empty());
    });
}

#[test]
fn a_clean_session_is_forgotten() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut persistent = Options::persistent(&server, version, "client").connect().await;
        persistent.subscribe("topic", QoS::AtLeastOnce).await;
        persistent.disconnect().await;
        let clean = Client::connect(&server, version, "client").await;
        assert!(!clean.session_present);
        clean.disconnect().await;

        let mut publisher = Client::connect(&server, version, "publisher").await;
        publisher.publish("topic", QoS::AtLeastOnce, false, "lost").await;
        let mut client = Options::persistent(&server, version, "client").connect().await;
        assert!(!client.session_present);
        client.subscribe("end", QoS::AtLeastOnce).await;
        publisher.publish("topic", QoS::AtLeastOnce, false, "lost").await;
        publisher.publish("end", QoS::AtLeastOnce, false, "").await;
        assert!(client.receive_until("end").await.is_empty());
    });
}

#[test]
fn unacknowledged_messages_come_again_in_order() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let options = Options { is_silent: true, ..Options::persistent(&server, version, "silent") };
        let mut silent = options.connect().await;
        silent.subscribe("topic", QoS::ExactlyOnce).await;
        let mut publisher = Client::connect(&server, version, "publisher").await;
        let sent = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce];
        for (number, qos) in sent.into_iter().enumerate() {
            publisher.publish("topic", qos, false, number.to_string()).await;
            assert!(!silent.receive().await.dup);
        }
        drop(silent);

        let mut talking = Options::persistent(&server, version, "silent").connect().await;
        assert!(talking.session_present);
        for (number, qos) in sent.into_iter().enumerate() {
            let message = talking.receive().await;
            assert_eq!(message.payload, number.to_string().into_bytes());
            assert_eq!((message.qos, message.dup), (qos, true));
        }
    });
}

#[test]
fn a_second_connection_takes_the_session_over() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let options = Options::persistent(&server, version, "twin");
        let mut first = options.connect().await;
        first.subscribe("topic", QoS::AtLeastOnce).await;
        let mut second = options.connect().await;
        assert!(second.session_present);

        let (messages, why) = first.wait_for_end().await;
        assert!(messages.is_empty());
        assert_eq!(why.contains("SessionTakenOver"), version == Version::V5, "{why}");
        second.publish("topic", QoS::AtLeastOnce, false, "to myself").await;
        assert_eq!(second.receive().await.payload, b"to myself");
    });
}
