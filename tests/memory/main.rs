//! Compares the broker's own count of its memory with the allocator: each kind of state is blown up in turn, and the
//! count is right within a tenth and 256 KiB, at the peak and after it.

#![cfg(test)]

mod connections;
mod journal;
mod lab;
mod messages;
mod pressure;
mod subscriptions;
mod truth;
#[expect(dead_code, reason = "the conformance tests use the rest")]
#[path = "../conformance/wire.rs"]
mod wire;

use std::sync::{Mutex, PoisonError};

/// The allocator counts for the whole process, so one test waits for the other.
static ALONE: Mutex<()> = Mutex::new(());

fn is_right(compare: impl FnOnce() -> Vec<String>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let wrong = compare();
    assert!(wrong.is_empty(), "the count is off:\n{}", wrong.join("\n"));
}

#[test]
fn connections_are_counted() {
    is_right(connections::compare_all);
}

#[test]
fn subscriptions_are_counted() {
    is_right(subscriptions::compare_all);
}

#[test]
fn messages_are_counted() {
    is_right(messages::compare_all);
}

#[test]
fn no_more_is_held_than_may_be() {
    is_right(pressure::compare_all);
}

#[test]
fn data_that_waits_to_become_durable_is_counted() {
    is_right(journal::compare_all);
}
