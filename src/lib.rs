//! Brooklet, an MQTT 3.1, 3.1.1 and 5.0 broker for small Linux machines: one process, one thread, one binary.
//!
//! # Architecture
//!
//! Three decisions shape everything else:
//!
//! 1. The protocol code makes no system calls. Its caller passes in the time, received bytes and closed connections.
//!    So it can be fuzzed, simulated and tested without sockets.
//! 2. All state has one owner and is changed through `&mut`. A message passes no lock and no channel on its way.
//! 3. One loop does all input and output, in phases. A system call is made once per turn of the loop, not once per
//!    message.
//!
//! # Wings, rooms and floors
//!
//! `src` consists of wings. A wing may use those above it in this list, never the other way round.
//!
//! - `base`: helpers that do not depend on MQTT
//! - `protocol`: conversion from bytes to values and back
//! - `core`: the broker as a state machine, from the trie to the effects of packets
//! - `settings`: the settings of an operator, as plain data
//! - `auth`: users, their passwords and rights, and limits on guessing
//! - `storage`: the state that survives the process
//! - `bridge`: connections to other brokers, as state machines
//! - `cluster`: several brokers that act as one
//! - `logging`: the log and its destinations
//! - `server`: the loop, sockets and the clock
//! - `config`: the configuration file and the command line, converted to settings
//!
//! A room is a file or a directory of a wing, or a wing without parts. Each room is on a floor and may use the rooms of
//! lower floors, which the last column calls `below`. It may use rooms of its own floor only if the last column names
//! them. Only the floors from 4 up may use the poller, sockets, files, threads, clocks and random numbers. Inside a
//! room, the dependencies between files have no cycles.
//!
//! The test `tests/tidy.rs` checks the sources against the list and this table.
//!
//! | floor | room | owns | may know |
//! |---|---|---|---|
//! | 0a | `base::absent` | what a binary was built without | |
//! | 0a | `base::byte_order_mark` | the byte order mark at the start of a text file | |
//! | 0a | `base::escape` | escaping of untrusted text for log lines | |
//! | 0a | `base::foreign` | functions that the binary and the C library call in each other | |
//! | 0a | `base::fuzzing` | helpers for the bodies of the fuzz targets | |
//! | 0a | `base::json` | JSON texts within limits | |
//! | 0a | `base::memory` | the count of the memory that the broker uses | |
//! | 0a | `base::ordered_map` | a map in order that takes little code | |
//! | 0a | `base::peer` | the origin of a connection | |
//! | 0a | `base::plural` | numbers of things in messages | |
//! | 0a | `base::time` | moments and durations in milliseconds, as plain numbers that are passed in | |
//! | 0b | `protocol::utf8` | which texts are allowed in a packet | below |
//! | 0b | `protocol::spoken` | what a peer speaks, recognised by its first bytes | below |
//! | 0b | `protocol::topic` | Topic Names and Topic Filters as checked types, and matching | below, `protocol::utf8` |
//! | 0c | `protocol::codec` | bytes to packets and back, in three versions; every rule that needs no state | below |
//! | 0c | `protocol::scram` | the messages of SCRAM | below |
//! | 0c | `protocol::http` | the heads of HTTP messages | below |
//! | 0c | `protocol::websocket` | MQTT in WebSocket frames | below, `protocol::codec`, `protocol::http` |
//! | 0c | `protocol::nats` | the client protocol of NATS | below, `protocol::codec` |
//! | 0c | `protocol::proxy` | the PROXY header at the start of a connection | below |
//! | 1a | `core::limits` | all limits of the broker, as plain numbers | below |
//! | 1a | `core::switches` | options of the core that an operator may switch | below |
//! | 1a | `core::trie` | the compressed tree of subscriptions, which finds the filters that match a topic | below |
//! | 1a | `core::wheel` | timers: arm, cancel, move, expire | below |
//! | 1a | `core::slots` | slabs whose keys have a generation | below |
//! | 1b | `core::nodes` | what is said to the other nodes of a cluster | below |
//! | 1b | `core::listener` | the options of the listener to which a client is connected | below |
//! | 1c | `core::message` | a publication and its encodings, shared by all receivers | below |
//! | 1c | `core::outbox` | the output that a connection still has to send | below, `core::message` |
//! | 1c | `core::access` | the interface for authentication and authorization | below |
//! | 1c | `core::subscription` | the data of a subscription in the trie | below |
//! | 1d | `core::journal` | the records that must become durable, and the answers that wait for that | below |
//! | 1d | `core::retained` | the retained message of each topic | below |
//! | 1d | `core::session` | the state that outlives a connection: Packet Identifiers, messages in flight and queued, Will, expiry | below, `core::journal`, `core::retained` |
//! | 1d | `core::shared_subscription` | which member of a Shared Subscription receives the next message | below |
//! | 2a | `core::connection` | one Network Connection as a state machine: framing, handshake, Keep Alive, Topic Aliases | below |
//! | 2b | `core::broker` | connections, sessions, subscriptions, retained messages and timers, and the effects of packets on them | below |
//! | 3a | `settings` | the settings of an operator, as plain data | below |
//! | 3b | `auth::scram` | what is stored in place of a password, and the exchange that proves that both sides know it | below |
//! | 3b | `auth::passwords` | users, and the verification of their passwords | below, `auth::scram` |
//! | 3b | `auth::acl` | access rules, and the line that decides | below |
//! | 3b | `auth::attempts` | limits on guessing: wrong and right passwords, and which is verified next | below, `auth::passwords` |
//! | 3b | `storage::import` | databases of mosquitto, converted to records | below |
//! | 3b | `storage::timeline` | the age of stored data, with clocks that may be wrong | below |
//! | 3b | `bridge::restart` | how long a bridge waits before it connects again | below |
//! | 3b | `bridge::topics` | the topics of a bridge, and their names on each side | below |
//! | 3b | `cluster::subjects` | the names of topics, filters, sessions and nodes in NATS | below |
//! | 3b | `cluster::interest` | the few subscriptions in NATS that reach all that clients have subscribed to | below, `cluster::subjects` |
//! | 3b | `cluster::origin` | the node that a message comes from, and its number | below |
//! | 3c | `cluster::claims` | which clients are connected to which node, so that one is connected to one alone | below |
//! | 3c | `cluster::direct` | messages that are not stored on their way to other nodes | below, `cluster::origin` |
//! | 3c | `cluster::entry` | an entry of the log as bytes, and what is checked when it is read | below, `cluster::origin` |
//! | 3c | `bridge::machine` | a bridge as a client of two brokers: bytes and time in, bytes and actions out | below |
//! | 3c | `cluster::engine` | the connection of a node to NATS as a state machine | below |
//! | 3d | `bridge::local_connection` | the connection of a bridge to its own broker, in memory | below, `bridge::machine` |
//! | 3d | `cluster::log` | the log of the cluster in JetStream: appended to, read, and loaded at the start | below, `cluster::engine`, `cluster::entry` |
//! | 3e | `cluster::node` | a node between the core and NATS | below, `cluster::engine`, `cluster::log` |
//! | 4 | `base::files` | access to files that an operator names, without blocking | below |
//! | 4 | `auth::access_control` | the access control of a configured broker: files with users and rules, and a thread for passwords | below, `base::files` |
//! | 4 | `storage::store` | the file with the durable state | below |
//! | 4 | `storage::thread` | the thread that makes batches durable while the loop continues | below, `storage::store` |
//! | 4 | `logging` | the log and its destinations | below, `base::files` |
//! | 4 | `server` | the loop, listeners, sockets, files and the clock | below, `base::files`, `auth::access_control`, `logging`, `storage::store`, `storage::thread` |
//! | 5 | `config::file` | the configuration file, converted to settings | below |
//! | 5 | `config::command_line` | the command line | below, `config::file` |
//! | 5 | `lib` | this page and the list of wings | below, `config::command_line` |
//! | 5 | `main` | the binary: wiring and exit codes | below, `config::file`, `config::command_line`, `lib` |

pub mod auth;
pub mod base;
#[cfg(feature = "bridge")]
pub mod bridge;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod config;
pub mod core;
pub mod logging;
pub mod protocol;
pub mod server;
pub mod settings;
pub mod storage;
