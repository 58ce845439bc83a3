//! Features of 5.0: properties that are forwarded, Subscription Identifiers, Topic Aliases.

use rumqttc::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use crate::client::{Client, Options, Version, run};
use crate::server::Server;

#[test]
fn the_properties_of_a_message_pass_through() {
    run(async {
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, Version::V5, "publisher").await;
        let mut subscriber = Client::connect(&server, Version::V5, "subscriber").await;
        subscriber.subscribe("topic", QoS::AtLeastOnce).await;
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let sent = PublishProperties {
            payload_format_indicator: Some(1),
            message_expiry_interval: Some(3_600),
            response_topic: Some("answers/here".to_owned()),
            correlation_data: Some(vec![0, 1, 254, 255].into()),
            content_type: Some("text/plain".to_owned()),
            // Their order is kept, and so is a name that occurs twice.
            user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "")],
            ..PublishProperties::default()
        };
        publisher.publish_with("topic", "payload", sent.clone()).await;
        let mut received = subscriber.receive().await.properties;
        let expiry = received.message_expiry_interval.take().expect("what is left of it is told");
        assert!(expiry > 0 && expiry <= 3_600, "{expiry}");
        assert_eq!(received, PublishProperties { message_expiry_interval: None, ..sent });
    });
}

#[test]
fn a_message_is_marked_with_the_identifiers_of_its_subscriptions() {
    run(async {
        let server = Server::start(&[]);
        let mut client = Client::connect(&server, Version::V5, "client").await;
        client.subscribe_as("a/+", 7).await;
        client.subscribe_as("a/#", 300_000).await;
        client.subscribe("#", QoS::AtLeastOnce).await;
        for (topic, expected) in [("a/b", vec![7, 300_000]), ("a/b/c", vec![300_000]), ("b", vec![])] {
            client.publish(topic, QoS::AtLeastOnce, false, "").await;
            client.publish("end", QoS::AtLeastOnce, false, "").await;
            let received = client.receive_until("end").await;
            assert!(received.iter().all(|message| message.topic == topic));
            let mut identifiers: Vec<usize> = received
                .into_iter()
                .flat_map(|message| message.properties.subscription_identifiers)
                .collect();
            identifiers.sort_unstable();
            assert_eq!(identifiers, expected, "{topic}");
        }
    });
}

#[test]
fn a_topic_alias_stands_for_its_topic() {
    run(async {
        let server = Server::start(&[]);
        let mut publisher = Client::connect(&server, Version::V5, "publisher").await;
        let mut plain = Client::connect(&server, Version::V5, "plain").await;
        plain.subscribe("long/#", QoS::AtLeastOnce).await;
        let options = Options::new(&server, Version::V5, "brief");
        let mut brief = Options { topic_aliases: Some(8), ..options }.connect().await;
        brief.subscribe("long/#", QoS::AtLeastOnce).await;

        let aliased = PublishProperties { topic_alias: Some(3), ..PublishProperties::default() };
        for topic in ["long/topic/name", "", ""] {
            publisher.publish_with(topic, "payload", aliased.clone()).await;
        }
        for _ in 0..3 {
            let message = plain.receive().await;
            assert_eq!((message.topic.as_str(), message.properties.topic_alias), ("long/topic/name", None));
        }
        let first = brief.receive().await;
        assert_eq!(first.topic, "long/topic/name");
        let alias = first.properties.topic_alias;
        assert!(alias.is_some_and(|alias| (1..=8).contains(&alias)), "{alias:?}");
        for _ in 0..2 {
            let message = brief.receive().await;
            assert_eq!((message.topic.as_str(), message.properties.topic_alias), ("", alias));
        }
    });
}
