//! Brooklet, an MQTT 3.1, 3.1.1 and 5.0 broker for small Linux machines: one process, one thread, one binary.

pub mod codec;
pub mod time;
pub mod topic;
pub mod trie;
pub mod wheel;
