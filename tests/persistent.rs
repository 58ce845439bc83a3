//! Runs the conformance tests again with everything persisted: each acknowledgement waits for a store that accepts
//! everything at once, and queued messages come back from there. Left out are the tests of the numbers below `$SYS`,
//! of which there are more then, and those that have a journal of their own.

#![cfg(feature = "persistence")]

#[cfg(feature = "bridge")]
#[path = "conformance/bridge_queues.rs"]
mod bridge_queues;
#[cfg(feature = "bridge")]
#[path = "conformance/bridges.rs"]
mod bridges;
#[path = "conformance/identifiers.rs"]
mod identifiers;
#[path = "conformance/identity.rs"]
mod identity;
#[path = "conformance/mosquitto.rs"]
mod mosquitto;
#[path = "conformance/queued_order.rs"]
mod queued_order;
#[path = "conformance/rules.rs"]
mod rules;
#[path = "conformance/v31.rs"]
mod v31;
#[path = "conformance/v311.rs"]
mod v311;
#[path = "conformance/v311_connect.rs"]
mod v311_connect;
#[path = "conformance/v311_data.rs"]
mod v311_data;
#[path = "conformance/v311_flow.rs"]
mod v311_flow;
#[path = "conformance/v311_publish.rs"]
mod v311_publish;
#[path = "conformance/v311_session.rs"]
mod v311_session;
#[path = "conformance/v311_subscribe.rs"]
mod v311_subscribe;
#[path = "conformance/v311_topics.rs"]
mod v311_topics;
#[path = "conformance/v311_will.rs"]
mod v311_will;
#[path = "conformance/v5_access.rs"]
mod v5_access;
#[path = "conformance/v5_acknowledge.rs"]
mod v5_acknowledge;
#[path = "conformance/v5_authentication.rs"]
mod v5_authentication;
#[path = "conformance/v5_connack.rs"]
mod v5_connack;
#[path = "conformance/v5_connect.rs"]
mod v5_connect;
#[path = "conformance/v5_delivery.rs"]
mod v5_delivery;
#[path = "conformance/v5_disconnect.rs"]
mod v5_disconnect;
#[path = "conformance/v5_exchange.rs"]
mod v5_exchange;
#[path = "conformance/v5_flows.rs"]
mod v5_flows;
#[path = "conformance/v5_format.rs"]
mod v5_format;
#[path = "conformance/v5_limits.rs"]
mod v5_limits;
#[path = "conformance/v5_order.rs"]
mod v5_order;
#[path = "conformance/v5_peers.rs"]
mod v5_peers;
#[path = "conformance/v5_publish.rs"]
mod v5_publish;
#[path = "conformance/v5_retained.rs"]
mod v5_retained;
#[path = "conformance/v5_subscribe.rs"]
mod v5_subscribe;
#[path = "conformance/v5_topics.rs"]
mod v5_topics;
#[path = "conformance/v5_will.rs"]
mod v5_will;
#[path = "conformance/verdicts.rs"]
mod verdicts;
#[path = "conformance/wire.rs"]
mod wire;
#[path = "conformance/world.rs"]
mod world;

#[path = "simulation/chance.rs"]
#[expect(dead_code, reason = "the simulator uses the rest")]
mod chance;
#[path = "simulation/store.rs"]
mod store;

/// Whether everything is persisted that can be.
const IS_PERSISTENT: bool = true;
