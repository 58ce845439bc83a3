//! The client side of a bridge: what it says to the other broker and to this one, without a socket or a clock.

pub mod local_connection;
pub mod machine;
pub mod restart;
pub mod topics;
