//! Conversion from bytes to values and back, and every rule of the standards that needs no state.

pub mod codec;
#[cfg(feature = "websocket")]
pub mod http;
#[cfg(feature = "cluster")]
pub mod nats;
pub mod proxy;
#[cfg(feature = "passwords")]
pub mod scram;
pub mod spoken;
pub mod topic;
pub mod utf8;
#[cfg(feature = "websocket")]
pub mod websocket;
