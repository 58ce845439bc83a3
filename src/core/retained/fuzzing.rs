//! The body of the fuzz target for the retained messages, in the library so that ordinary tests run it, too: a list of
//! operations on them and on a map whose matches are found by trying each. It panics if they differ.

use std::collections::BTreeMap;

use super::{Position, Retained, Taken, Walk};
use crate::base::fuzzing::Input;
use crate::base::time::Time;
use crate::core::message::{Message, Publication, Spares};
use crate::protocol::codec::{Properties, QoS};
use crate::protocol::topic::{TopicFilter, TopicName};

/// The calls after which a walk must be over: each pauses at least one topic further on, or at one that was refused.
const CALLS_MAXIMUM: usize = 10_000;

/// When the message of each topic expires.
type Model = BTreeMap<String, Time>;

/// Runs the operations in `data`: messages to retain and to clear, and filters for walks.
pub fn operate(data: &[u8]) {
    let mut input = Input::new(data);
    let mut retained = Retained::default();
    let mut model = Model::new();
    let mut now = Time::ZERO;
    while !input.is_empty() {
        match input.below(8) {
            0..=3 => set(&mut input, &mut retained, &mut model),
            4 => clear(&mut input, &mut retained, &mut model),
            5 if input.once_in(4) => {
                now = Time::from_milliseconds(now.milliseconds() + u64::from(input.byte() % 8));
                expire(&mut input, &mut retained, &mut model, now);
            }
            _ => walk(&mut input, &retained, &model, now),
        }
        retained.check_invariants();
        assert_eq!(retained.len(), model.len());
        assert_eq!(retained.has_expiring(), model.values().any(|&expires| expires != Time::NEVER));
    }
}

fn set(input: &mut Input<'_>, retained: &mut Retained, model: &mut Model) {
    let text = input.topic();
    let expires = if input.once_in(4) { Time::from_milliseconds(input.byte().into()) } else { Time::NEVER };
    let Ok(topic) = TopicName::new(&text) else { return };
    let publication = Publication {
        topic,
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: true,
        properties: Properties::default(),
        expires,
        publisher: None,
    };
    retained.set(Message::new(&publication, &mut Spares::default()));
    model.insert(text, expires);
}

fn clear(input: &mut Input<'_>, retained: &mut Retained, model: &mut Model) {
    let chosen = input.below(256) % model.len().max(1);
    let Some(text) = model.keys().nth(chosen).cloned() else { return };
    let topic = TopicName::trusted(&text);
    assert!(retained.find(topic).is_some() && retained.clear(topic) && !retained.clear(topic));
    model.remove(&text);
}

fn expire(input: &mut Input<'_>, retained: &mut Retained, model: &mut Model, now: Time) {
    let budget = input.below(5) + 1;
    let mut position = Position::default();
    let is_over =
        (0..CALLS_MAXIMUM).any(|_| retained.expire(&mut position, now, budget, |_| {}) == Walk::Over);
    assert!(is_over, "the search for expired messages ends");
    model.retain(|_, expires| *expires > now);
}

/// A walk in small steps, of which messages are refused now and then, finds each match once and in order.
fn walk(input: &mut Input<'_>, retained: &Retained, model: &Model, now: Time) {
    let text = input.topic();
    let (budget, refusals) = (input.below(5) + 1, input.byte());
    let Ok(filter) = TopicFilter::new(&text) else { return };
    let is_match = |name: &str| TopicName::new(name).is_ok_and(|name| filter.matches(name));
    let expected: Vec<&String> = model
        .iter()
        .filter(|(name, expires)| is_match(name) && **expires > now)
        .map(|(name, _)| name)
        .collect();
    let mut found = Vec::new();
    let mut position = Position::default();
    let mut asked = 0_u32;
    let is_over = (0..CALLS_MAXIMUM).any(|_| {
        let walk = retained.walk(filter, &mut position, now, &mut { budget }, |message, _| {
            asked += 1;
            if refusals >> (asked % 8) & 1 == 1 && !asked.is_multiple_of(8) {
                return Taken::No;
            }
            found.push(message.publication().topic.to_string());
            if asked.is_multiple_of(3) { Taken::YesAndStop } else { Taken::Yes }
        });
        walk == Walk::Over
    });
    assert!(is_over, "the walk of {filter} ends");
    assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_operations_leave_the_retained_messages_a_map() {
        crate::base::fuzzing::try_out("retained", 400, super::operate);
    }
}
