//! Several nodes as one broker: real binaries on real servers of NATS, which are killed, frozen and started again, with
//! clients of rumqttc.
//!
//! The program is the one that `NATS_SERVER` names, or `nats-server` from the path, of version 2.14 or newer.
//! `tests/cluster/server` fetches one and prints its path:
//! `NATS_SERVER=$(tests/cluster/server) cargo test --features cluster --test cluster`.

mod account;
mod certificates;
#[path = "../simulation/chance.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod chance;
mod client;
mod direct;
mod example;
mod faults;
#[path = "../crash/ledger.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod ledger;
#[path = "../crash/link.rs"]
mod link;
mod log;
#[path = "../clients/client.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod mqtt;
mod nodes;
#[path = "../crash/client.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod participant;
mod reload;
mod rounds;
mod secure;
#[path = "../clients/server.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod server;
mod servers;
mod subjects;
mod takeover;
#[path = "../conformance/wire.rs"]
#[allow(dead_code, reason = "the conformance tests use the rest")]
mod wire;
