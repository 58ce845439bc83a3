//! A machine with a server that says what the test says.

use super::*;
use crate::protocol::nats::Secret;

mod life;
mod live;
mod rig;
mod traffic;
