//! The broker as a state machine: input and the time are handed in; what to send and to persist is taken from it. No
//! clock, socket, file, thread or random number.

pub mod access;
pub mod broker;
pub mod connection;
pub mod journal;
pub mod limits;
pub mod listener;
pub mod message;
pub mod nodes;
pub mod outbox;
pub mod retained;
pub mod session;
pub mod shared_subscription;
pub mod slots;
pub mod subscription;
pub mod switches;
pub mod trie;
pub mod wheel;
