//! Hostile peers on real sockets against the real binary. Every test states how much memory and how many log lines the
//! attack may cost, shows that a well-behaved client is served during the attack, and that everything is given back
//! afterwards.

#![cfg(test)]

mod budget;
mod connections;
mod descriptors;
#[cfg(all(feature = "persistence", feature = "tls"))]
mod directory;
#[cfg(target_env = "gnu")]
mod given_back;
#[cfg(all(feature = "persistence", feature = "tls", feature = "websocket"))]
mod last_words;
mod messages;
#[cfg(all(feature = "passwords", feature = "persistence", feature = "system", feature = "tls"))]
mod passwords;
mod peak;
mod peer;
#[cfg(all(feature = "persistence", feature = "tls"))]
mod resident;
#[cfg(all(feature = "persistence", feature = "tls"))]
mod secure;
#[expect(dead_code, reason = "the clients' tests use the rest")]
#[path = "../clients/server.rs"]
mod server;
mod subscriptions;
mod target;
#[expect(dead_code, reason = "the conformance tests use the rest")]
#[path = "../conformance/wire.rs"]
mod wire;
