//! Several brokers that act as one, connected by NATS JetStream: how messages are named and written on the way from one
//! node to another.

pub mod claims;
pub mod direct;
pub mod engine;
pub mod interest;
pub mod message;
pub mod node;
pub mod subjects;
