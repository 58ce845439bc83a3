//! Tests the broker with clients written by others: the real binary on a port of its own, and rumqttc at the other
//! end, for 3.1.1 and 5.0. Then there are the tests of the binary itself: flags, log, signals, exit codes.

mod binary;
#[cfg(all(feature = "bridge", feature = "persistence"))]
mod bridges;
#[allow(dead_code, reason = "other tests need more of it")]
mod client;
#[cfg(feature = "persistence")]
mod clocks;
mod commands;
mod delivery;
mod ends;
mod listeners;
mod place;
mod properties;
#[cfg(feature = "persistence")]
mod proxies;
mod refusals;
mod reload;
#[cfg(all(feature = "passwords", feature = "persistence"))]
mod scram;
mod server;
mod sessions;
mod subscriptions;
#[cfg(feature = "persistence")]
mod unix_sockets;
#[cfg(all(feature = "passwords", feature = "persistence"))]
#[expect(dead_code, reason = "the conformance tests use the rest")]
#[path = "../conformance/wire.rs"]
mod wire;
