//! The normative statements of MQTT 5.0 and 3.1.1 as exchanges of packets with the core: bytes in, bytes out, and a
//! clock that the test controls. A test is named after the number of its statement; `statements.md` lists them all,
//! and `make conformance` compares the two.

mod admission;
#[cfg(feature = "bridge")]
mod bridge_queues;
#[cfg(feature = "bridge")]
mod bridge_retained;
#[cfg(feature = "bridge")]
mod bridges;
mod budget;
mod durability;
mod durable_batches;
#[cfg(feature = "bridge")]
mod durable_bridges;
mod durable_groups;
mod durable_identifiers;
mod identifiers;
mod identity;
mod longest;
mod mosquitto;
mod queued_order;
mod regression;
mod room;
mod rules;
mod sys;
mod v31;
mod v311;
mod v311_connect;
mod v311_data;
mod v311_flow;
mod v311_publish;
mod v311_session;
mod v311_subscribe;
mod v311_topics;
mod v311_will;
mod v5_access;
mod v5_acknowledge;
mod v5_authentication;
mod v5_connack;
mod v5_connect;
mod v5_delivery;
mod v5_disconnect;
mod v5_exchange;
mod v5_flows;
mod v5_format;
mod v5_limits;
mod v5_order;
mod v5_peers;
mod v5_publish;
mod v5_retained;
mod v5_subscribe;
mod v5_topics;
mod v5_will;
mod verdicts;
#[cfg(feature = "websocket")]
mod websocket;
mod wire;
mod world;

#[path = "../simulation/chance.rs"]
#[expect(dead_code, reason = "the simulator uses the rest")]
mod chance;
#[path = "../simulation/store.rs"]
mod store;

/// Whether everything is persisted that can be: not here, but in `tests/persistent.rs`.
const IS_PERSISTENT: bool = false;
