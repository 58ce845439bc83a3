//! The body of the fuzz target for what nodes say about their clients. It lets one node hear anything, and two nodes each
//! other with damages on the way. It panics if reading does, if a refused message has an effect, if a node says more
//! than it has to, or if a client is still at two nodes when all was heard.

use super::{Claims, ClientHash, ENTRIES_MAXIMUM, ENTRY_LENGTH, HEAD_LENGTH};
use crate::base::fuzzing::Input;
use crate::base::time::{Duration, Time};
use crate::core::slots::ConnectionId;

const CLIENTS: [&str; 4] = ["a", "b", "c", "d"];

/// Each byte selects what happens next.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Time::from_milliseconds(input.number() >> 32);
    let mut nodes = [1, 2].map(|incarnation| {
        // Within 35 years: nodes that differ by more than two hundred do not hear each other.
        Claims::new(incarnation, Duration::from_milliseconds(input.number() >> 24), now)
    });
    let mut index = 0;
    while !input.is_empty() {
        let place = input.below(2);
        let node = &mut nodes[place];
        match input.below(6) {
            0 => {
                index += 1;
                node.connected(ClientHash::of(input.pick(&CLIENTS), None), ConnectionId::of(index, 0), now);
            }
            1 => node.ended(ConnectionId::of(u32::from(input.byte()), 0)),
            2 => now = now + Duration::from_milliseconds(input.number() >> 40),
            3 => hear_anything(node, &mut input, now),
            4 => node.begin_again(),
            _ => drop(pass(&mut nodes, place, now, |body| damage(&mut input, body))),
        }
    }
    finish(&mut nodes, now);
}

fn hear_anything(node: &mut Claims, input: &mut Input<'_>, now: Time) {
    let mut body = vec![input.pick(&[1, 1, 1, 0, 2])];
    for _ in 0..3 {
        body.extend_from_slice(&input.number().to_be_bytes());
    }
    for _ in 0..input.below(4) {
        body.extend_from_slice(&ClientHash::of(input.pick(&CLIENTS), None).0);
        body.extend_from_slice(&input.number().to_be_bytes());
    }
    damage(input, &mut body);
    hear(node, &body, now);
}

/// A message that is refused has no effect.
fn hear(node: &mut Claims, body: &[u8], now: Time) {
    let before = format!("{node:?}");
    match node.hear(body, now) {
        Ok(count) => assert!(count <= ENTRIES_MAXIMUM),
        Err(_) => assert_eq!(format!("{node:?}"), before),
    }
    while node.next_lost().is_some() {}
}

/// Passes one message on, if there is one.
fn pass(nodes: &mut [Claims; 2], from: usize, now: Time, change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut body = Vec::new();
    let had_claims = nodes[from].has_claims() || nodes[from].wants_round;
    if !nodes[from].write_next(HEAD_LENGTH + ENTRY_LENGTH, now, &mut body) {
        return false;
    }
    assert!(body.len() <= HEAD_LENGTH + ENTRY_LENGTH);
    assert!(had_claims || body.len() == HEAD_LENGTH);
    change(&mut body);
    hear(&mut nodes[1 - from], &body, now);
    true
}

fn damage(input: &mut Input<'_>, body: &mut Vec<u8>) {
    for _ in 0..input.below(3) {
        let at = input.below(256) % body.len().max(1);
        match input.below(3) {
            0 => body.truncate(at),
            1 => body.extend_from_slice(input.bytes(at)),
            _ => body.iter_mut().skip(at).take(1).for_each(|byte| *byte = 0),
        }
    }
}

/// Both hear all of each other, and no client is at both. What was heard of an impossible time makes them differ, so
/// that only this is certain.
fn finish(nodes: &mut [Claims; 2], mut now: Time) {
    nodes.iter_mut().for_each(Claims::begin_again);
    for _ in 0..4 {
        now = now + Duration::from_seconds(10);
        let rounds =
            (0..1_000).take_while(|_| pass(nodes, 0, now, |_| ()) | pass(nodes, 1, now, |_| ())).count();
        assert!(rounds < 1_000, "they come to an end");
    }
    for client in nodes[0].clients.keys() {
        assert!(!nodes[1].clients.contains_key(client), "{client:?} is at both");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn anything_is_heard_or_refused() {
        crate::base::fuzzing::try_out("claims", 20_000, super::check);
    }
}
