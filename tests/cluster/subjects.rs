//! Topics and filters as subjects, at a real server.

use std::collections::BTreeMap;

use brooklet::cluster::subjects::{Form, Purpose, Subjects};
use brooklet::protocol::topic::{TopicFilter, TopicName};
use brooklet::settings::ClusterName;

use crate::servers::Servers;

fn topics() -> Vec<String> {
    let levels = ["a", "", " ", "*", ">", "%", "%_", ".", "a.b", "$x", "é", "*a", "d", "\u{10FFFD}"];
    let mut topics: Vec<String> = levels.map(str::to_owned).into();
    topics.extend(levels.iter().flat_map(|one| levels.map(|other| format!("{one}/{other}"))));
    topics.extend(["a/b/c", "a/b/c/d", "$x/b/c", "a//", "//", "$SYSTEM/a", "a/$x/b"].map(str::to_owned));
    topics.extend([64, 65, 201].map(|count| vec!["a"; count].join("/")));
    topics.extend([900, 957, 958, 65_000].map(|length| format!("a/{}", "x".repeat(length))));
    topics.push(format!("a/{}", ".".repeat(21_000)));
    topics.retain(|topic| TopicName::new(topic).is_ok());
    topics
}

fn filters() -> Vec<String> {
    let mut filters = topics();
    filters.extend(
        [
            "#", "+", "+/+", "/#", "/+", "a/#", "a/+", "+/a", "+/+/#", "a/b/#", "a/+/c", "$x/#", "$x/+",
            "*/#", ">/+", "%_/#",
        ]
        .map(str::to_owned),
    );
    filters.extend([63, 64, 65].map(|count| format!("{}/#", vec!["a"; count].join("/"))));
    filters.extend([63, 64, 65].map(|count| vec!["+"; count].join("/")));
    filters
}

/// What the subscriptions of each filter get of each topic is what MQTT prescribes, for topics that fit into a subject,
/// and no less for the others.
#[test]
fn a_server_delivers_what_filters_match() {
    let servers = Servers::start("subjects", 1);
    let subjects = Subjects::new(&ClusterName::new("test").expect("a name"));
    let (topics, filters) = (topics(), filters());
    let mut client = servers.client(0);
    for (number, filter) in filters.iter().enumerate() {
        let found = subjects.filter(Purpose::Direct, TopicFilter::new(filter).expect("a filter"));
        // A number that a connection has already is ignored by the server.
        for (half, subject) in [found.whole, found.shortened].into_iter().enumerate() {
            subject.iter().for_each(|subject| client.subscribe(subject, 2 * number + half));
        }
    }
    for (number, topic) in topics.iter().enumerate() {
        let mut subject = String::new();
        let name = TopicName::new(topic).expect("a topic");
        let form = subjects.push_topic(Purpose::Direct, name, &mut subject).expect("it has a subject");
        client.publish(&subject, number.to_string().as_bytes());
        let messages = client.flush().expect("the server takes all subjects");
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for message in messages {
            assert_eq!((&message.subject, message.payload), (&subject, number.to_string().into_bytes()));
            *counts.entry(message.subscription / 2).or_default() += 1;
        }
        for (number, filter) in filters.iter().enumerate() {
            let count = counts.get(&number).copied().unwrap_or_default();
            let expected = usize::from(TopicFilter::new(filter).expect("a filter").matches(name));
            let is_expected = count == expected || form == Form::Shortened && count == 1;
            assert!(is_expected, "{count} of {subject} for {filter:.99}");
        }
    }
}
