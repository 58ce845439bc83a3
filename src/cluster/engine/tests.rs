//! A machine with a server that says what the test says.

use super::*;
use crate::protocol::nats::Secret;

mod life;
mod rig;
mod traffic;
