//! The body of the fuzz target for messages from other nodes. It reads any bytes with any subject, and writes any message
//! and damages it. It panics if reading or writing does, or if a message that was read is a different one after it was
//! written.

use super::{Body, NamedPublisher, Origin, Received, read, write};
use crate::base::fuzzing::Input;
use crate::base::time::Duration;
use crate::cluster::subjects::{Purpose, Subjects};
use crate::protocol::codec::{Properties, Property, PropertyBuffer, QoS};
use crate::protocol::topic::TopicName;
use crate::settings::ClusterName;

/// The first byte determines whether the rest is a subject and a body, or selects the content of a message.
pub fn check(data: &[u8]) {
    let subjects = Subjects::new(&ClusterName::new("c").expect("a name"));
    let mut input = Input::new(data);
    if input.once_in(4) {
        let length = input.below(256);
        let subject = String::from_utf8_lossy(input.bytes(length)).into_owned();
        check_read(&subjects, &format!("{}{subject}", subjects.base()), input.bytes(usize::MAX));
        return;
    }
    let topic = input.topic() + &"/long".repeat(if input.once_in(3) { 60 } else { 0 });
    let Ok(topic) = TopicName::new(&topic) else { return };
    let mut properties = PropertyBuffer::default();
    let body = body_of(&mut input, &mut properties);
    let purpose = input.pick(&[Purpose::Direct, Purpose::Log(1), Purpose::Retained(0)]);
    let (mut subject, mut bytes) = (String::new(), Vec::new());
    if write((&subjects, purpose), topic, &body, (&mut subject, &mut bytes)).is_none() {
        return;
    }
    let mut place = String::new();
    let received = read(&subjects, &subject, &bytes, &mut place).expect("a node has written it");
    assert_eq!((received.purpose, received.topic), (purpose, topic));
    assert_eq!(Body { topic: None, ..received.body }, body);
    for _ in 0..input.below(4) {
        damage(&mut input, &mut bytes);
    }
    check_read(&subjects, &subject, &bytes);
}

/// Reads a message that is perhaps not valid, and what is written of it.
fn check_read(subjects: &Subjects, subject: &str, bytes: &[u8]) {
    let mut place = String::new();
    let Ok(Received { purpose, topic, body }) = read(subjects, subject, bytes, &mut place) else { return };
    let (mut same, mut written) = (String::new(), Vec::new());
    write((subjects, purpose), topic, &body, (&mut same, &mut written)).expect("it came from another node");
    assert_eq!(same, subject);
    assert!(written.len() <= bytes.len(), "it has no more than what was read");
    let mut place = String::new();
    assert_eq!(read(subjects, subject, &written, &mut place), Ok(Received { purpose, topic, body }));
}

fn body_of<'a>(input: &mut Input<'a>, properties: &'a mut PropertyBuffer) -> Body<'a> {
    const NAMES: [&str; 4] = ["", "a", "é", "8883"];
    let publisher = NamedPublisher {
        listener: input.pick(&NAMES),
        client_identifier: input.pick(&NAMES),
        user_name: Some(input.pick(&NAMES)).filter(|name| *name != "a"),
    };
    for _ in 0..input.below(3) {
        properties.push(Property::UserProperty(input.pick(&NAMES), input.pick(&NAMES)));
    }
    Body {
        origin: Origin { incarnation: input.number(), counter: input.number() },
        topic: None,
        publisher: Some(publisher).filter(|_| input.once_in(2)),
        qos: input.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        properties: Properties::trusted(properties.properties().bytes()),
        lifetime: Some(Duration::from_milliseconds(input.number())).filter(|_| input.once_in(2)),
        payload: {
            let length = input.below(32);
            input.bytes(length)
        },
    }
}

/// Changes, inserts or removes a byte.
fn damage(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = input.below(256) % bytes.len();
    match input.below(4) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, input.byte()),
        2 => drop(bytes.remove(at)),
        _ => bytes[at] = input.byte(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_message_is_read_or_refused() {
        crate::base::fuzzing::try_out("cluster", 20_000, super::check);
    }
}
