//! Which subscription gets which message: shared ones, and ones that end.

use rumqttc::QoS;

use crate::client::{Client, in_both_versions};
use crate::server::Server;

#[test]
fn the_members_of_a_shared_subscription_share() {
    const COUNT: usize = 200;
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut members = Vec::new();
        for identifier in ["one", "two"] {
            let mut member = Client::connect(&server, version, identifier).await;
            member.subscribe("$share/group/work/+", QoS::AtLeastOnce).await;
            member.subscribe("end", QoS::AtLeastOnce).await;
            members.push(member);
        }
        let mut outsider = Client::connect(&server, version, "outsider").await;
        outsider.subscribe("work/+", QoS::AtLeastOnce).await;
        outsider.subscribe("end", QoS::AtLeastOnce).await;

        let mut publisher = Client::connect(&server, version, "publisher").await;
        publisher.publish_numbers("work/piece", 0..COUNT).await;
        publisher.publish("end", QoS::AtLeastOnce, false, "").await;

        let mut shared = Vec::new();
        for member in &mut members {
            let part = member.receive_until("end").await;
            assert!(!part.is_empty() && part.len() < COUNT, "{version:?}: {} of {COUNT}", part.len());
            shared.extend(part.into_iter().map(|message| message.payload));
        }
        let mut expected: Vec<Vec<u8>> = (0..COUNT).map(|number| number.to_string().into_bytes()).collect();
        let all: Vec<_> = outsider.receive_until("end").await.into_iter().map(|m| m.payload).collect();
        assert_eq!(all, expected);
        shared.sort();
        expected.sort();
        assert_eq!(shared, expected);
    });
}

#[test]
fn a_subscription_that_has_ended_gets_nothing() {
    in_both_versions(async |version| {
        let server = Server::start(&[]);
        let mut client = Client::connect(&server, version, "client").await;
        client.subscribe("a/#", QoS::AtLeastOnce).await;
        client.subscribe("end", QoS::AtLeastOnce).await;
        client.publish("a", QoS::AtLeastOnce, false, "one").await;
        client.unsubscribe("a/#").await;
        client.publish("a", QoS::AtLeastOnce, false, "two").await;
        client.publish("end", QoS::AtLeastOnce, false, "").await;
        let received = client.receive_until("end").await;
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].payload, b"one");
    });
}
