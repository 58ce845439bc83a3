//! The cost of one turn: the core is driven in-process like by the server's loop, by attacks that ask for far more
//! work than a turn has steps. No turn may exceed its budget, a client beside the attack is answered within two turns,
//! and all the work is done in the end. Turns and steps are counted; no clock is used.

mod bystander;
mod clients;
mod distribution;
mod ends;
mod fan_out;
mod filters;
mod groups;
mod order;
mod persisted;
mod retained;
mod server;
mod shares;
mod silence;
#[path = "../conformance/wire.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod wire;

#[path = "../simulation/chance.rs"]
#[expect(dead_code, reason = "the simulator uses the rest")]
mod chance;
#[path = "../simulation/store.rs"]
mod store;
