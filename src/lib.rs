//! Brooklet, an MQTT 3.1, 3.1.1 and 5.0 broker for small Linux machines: one process, one thread, one binary.
//!
//! # Architecture
//!
//! Three decisions shape everything else:
//!
//! 1. The protocol is code that is told. What the time is, which bytes came and which connection ended is handed
//!    to it; it asks the operating system for nothing. So it can be fuzzed, simulated and tested with no socket.
//! 2. All state has one owner and is changed through `&mut`. A message on its way meets no lock and no channel.
//! 3. One loop does all input and output, in phases. What costs a system call is paid once a turn of the loop
//!    and not once a message.
//!
//! # Wings, rooms and floors
//!
//! `src` has a few wings, and their order tells which may know which: each knows those that stand above it in this
//! list, never the other way round.
//!
//! - `base`: what knows nothing of MQTT
//! - `protocol`: bytes to values and back
//! - `core`: the broker as a state machine, from the trie to what a packet does
//! - `settings`: what an operator can say, as plain data
//! - `auth`: who the users are, what they may do, and how fast a client may guess
//! - `storage`: what survives the process
//! - `logging`: which lines are written, and where they go
//! - `server`: the loop, sockets and the clock
//! - `config`: what an operator writes, as settings
//!
//! A room is one file or one directory of a wing, or a wing that has no parts. Rooms stand on floors, and a room knows
//! only what stands below it: its floor's neighbours only where the last column names them. `below` stands for all
//! rooms of lower floors. The floors from 4 up are the only ones that may name the poller, sockets, files, threads,
//! clocks and random numbers. Inside of a room no two files know each other in a circle.
//!
//! The test `tests/tidy.rs` reads the list and this table and holds the sources to them.
//!
//! | floor | room | owns | may know |
//! |---|---|---|---|
//! | 0a | `base::escape` | text from outside, made safe for a log line | |
//! | 0a | `base::foreign` | what the binary and the C library know of each other by name | |
//! | 0a | `base::fuzzing` | what the bodies of the fuzz targets share | |
//! | 0a | `base::memory` | the count of what the broker holds | |
//! | 0a | `base::peer` | where a connection comes from | |
//! | 0a | `base::planted` | deliberate faults, for the tests of the simulator alone | |
//! | 0a | `base::time` | moments and spans in milliseconds, as plain numbers that are handed in | |
//! | 0b | `protocol::utf8` | which texts may stand in a packet | below |
//! | 0b | `protocol::topic` | Topic Names and Topic Filters as checked types, matching one against the other | below, `protocol::utf8` |
//! | 0c | `protocol::codec` | bytes to packets and back, in three versions; every rule that needs no state | below |
//! | 0c | `protocol::scram` | the messages of SCRAM, texts to values and back | below |
//! | 0c | `protocol::http` | the heads of HTTP messages, bytes to values | below |
//! | 0c | `protocol::websocket` | MQTT in WebSocket frames, bytes to bytes | below, `protocol::codec`, `protocol::http` |
//! | 0c | `protocol::proxy` | the PROXY header in front of a connection, bytes to facts | below |
//! | 1a | `core::limits` | every bound of the broker as a plain number | below |
//! | 1a | `core::switches` | what the core does or leaves, where an operator may choose | below |
//! | 1a | `core::trie` | the compressed tree of subscriptions: which filters match a topic | below |
//! | 1a | `core::wheel` | all that waits for a moment: arm, cancel, move, expire | below |
//! | 1a | `core::slots` | slabs whose keys know their occupant | below |
//! | 1b | `core::listener` | what the core knows of the listener that a client came in by | below |
//! | 1c | `core::message` | one publication and its encodings, shared by all who receive it | below |
//! | 1c | `core::outbox` | what one connection has still to send | below, `core::message` |
//! | 1c | `core::access` | the seam where a client is authenticated and its acts are authorized | below |
//! | 1c | `core::subscription` | what the trie holds for a subscription | below |
//! | 1d | `core::journal` | what must become durable, and who waits for that | below |
//! | 1d | `core::retained` | the retained message of each topic | below |
//! | 1d | `core::session` | what outlives a connection: Packet Identifiers, messages in flight and queued, Will, expiry | below, `core::journal`, `core::retained` |
//! | 1d | `core::shared_subscription` | which member of a Shared Subscription receives the next message | below |
//! | 2a | `core::connection` | one Network Connection as a state machine: framing, handshake, Keep Alive, Topic Aliases | below |
//! | 2b | `core::broker` | connections, sessions, subscriptions, retained messages and the wheel, and what every packet does to them | below |
//! | 3a | `settings` | what an operator can say, as plain data | below |
//! | 3b | `auth::scram` | what is kept in place of a password, and the exchange that proves that both sides know it | below |
//! | 3b | `auth::passwords` | who the users are, and whether a password is theirs | below, `auth::scram` |
//! | 3b | `auth::acl` | what users may do: access rules and the line that decided | below |
//! | 3b | `auth::attempts` | how fast a client may guess: wrong passwords, right ones, and which is verified next | below, `auth::passwords` |
//! | 3b | `storage::import` | what a database of mosquitto holds, as records of ours | below |
//! | 3b | `storage::timeline` | the age of stored data, by clocks that may be wrong | below |
//! | 4 | `base::files` | files that an operator names, opened without waiting for anybody | below |
//! | 4 | `auth::access_control` | the access control of a configured broker: files of users and rules, and a thread for passwords | below, `base::files` |
//! | 4 | `storage::store` | how durable state is written to the file and read again | below |
//! | 4 | `storage::thread` | the thread that makes batches durable while the loop goes on | below, `storage::store` |
//! | 4 | `logging` | the log: which lines are written, and where they go | below, `base::files` |
//! | 4 | `server` | the loop, listeners, sockets, files and the clock | below, `base::files`, `auth::access_control`, `logging`, `storage::store`, `storage::thread` |
//! | 5 | `config::file` | the configuration file: text to settings | below |
//! | 5 | `config::command_line` | what the command line says | below, `config::file` |
//! | 5 | `lib` | this page and the list of wings | below, `config::command_line` |
//! | 5 | `main` | the binary: wiring and exit codes | below, `config::file`, `config::command_line`, `lib` |

pub mod auth;
pub mod base;
pub mod config;
pub mod core;
pub mod logging;
pub mod protocol;
pub mod server;
pub mod settings;
pub mod storage;
