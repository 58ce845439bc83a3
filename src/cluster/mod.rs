//! Several brokers that act as one, connected by NATS JetStream: how messages are named and written on the way from one
//! node to another.

pub mod claims;
pub mod direct;
pub mod engine;
pub mod entry;
pub mod interest;
pub mod log;
pub mod node;
pub mod origin;
pub mod subjects;
