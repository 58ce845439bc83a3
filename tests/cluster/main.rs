//! Clusters with real servers of NATS, which are killed, frozen and started again.
//!
//! The program is the one that `NATS_SERVER` names, or `nats-server` from the path, of version 2.14 or newer.
//! `tests/cluster/server` fetches one and prints its path:
//! `NATS_SERVER=$(tests/cluster/server) cargo test --features cluster --test cluster`.

mod client;
mod servers;
mod subjects;
