//! Who the users are, what they may do, and how fast a client may guess.

pub mod access_control;
pub mod acl;
#[cfg(feature = "passwords")]
pub mod attempts;
pub mod passwords;
#[cfg(feature = "passwords")]
pub mod scram;
