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
//! # Rooms and floors
//!
//! A room is one file of `src` or one directory. Rooms stand on floors, and a room knows only what stands below
//! it: its floor's neighbours only where the last column names them. `below` stands for all rooms of lower
//! floors. The floors from 4 up are the only ones that may name the poller, sockets, files, threads, clocks and
//! random numbers.
//!
//! The test `tests/tidy.rs` reads this table and holds the sources to it. A room `(to come)` has its place here
//! before it has a file.
//!
//! | floor | room | owns | may know |
//! |---|---|---|---|
//! | 0a | `fuzzing` | what the bodies of the fuzz targets share | |
//! | 0a | `time` | moments and spans in milliseconds, as plain numbers that are handed in | |
//! | 0a | `utf8` | which texts may stand in a packet | `fuzzing` |
//! | 0a | `topic` | Topic Names and Topic Filters as checked types, matching one against the other | `fuzzing`, `utf8` |
//! | 0a | `escape` | text from outside, made safe for a log line | |
//! | 0a | `memory` | the count of what the broker holds | |
//! | 0a | `planted` | deliberate faults, for the tests of the simulator alone | |
//! | 0b | `limits` | every bound of the broker as a plain number | below |
//! | 0b | `codec` | bytes to packets and back, in three versions; every rule that needs no state | below |
//! | 0b | `trie` | the compressed tree of subscriptions: which filters match a topic | below |
//! | 0b | `wheel` | all that waits for a moment: arm, cancel, move, expire | below |
//! | 0b | `slots` | slabs whose keys know their occupant | below |
//! | 1a | `settings` | what an operator can say, as plain data | below |
//! | 1a | `message` | one publication and its encodings, shared by all who receive it | below, `settings` |
//! | 1a | `outbox` | what one connection has still to send | below, `message` |
//! | 1a | `access` | the seam where a client is authenticated and its acts are authorised | below, `settings` |
//! | 1a | `subscription` | what the trie holds for a subscription | below |
//! | 1a | `scram` | what is kept in place of a password, and the proof that both sides know it | below |
//! | 1b | `journal` | what must become durable, and who waits for that | below |
//! | 1b | `retained` | the retained message of each topic | below |
//! | 1b | `passwords` | who the users are, and whether a password is theirs | below |
//! | 1b | `acl` | what users may do: access rules and the line that decided | below |
//! | 1b | `session` | what outlives a connection: Packet Identifiers, messages in flight and queued, Will, expiry | below, `journal`, `retained` |
//! | 1b | `share` | which member of a Shared Subscription receives the next message | below |
//! | 2a | `connection` | one Network Connection as a state machine: framing, handshake, Keep Alive, Topic Aliases | below |
//! | 2b | `broker` | the core: connections, sessions, subscriptions, retained messages and the wheel, and what every packet does to them | below |
//! | 3 | `websocket` | MQTT in WebSocket frames, bytes to bytes | below |
//! | 3 | `proxy` | the PROXY header in front of a connection, bytes to bytes | below |
//! | 3 | `import` | what a database of mosquitto holds, as records of ours | below |
//! | 3 | `timeline` | the age of stored data, by clocks that may be wrong | below |
//! | 3 | `bridge` (to come) | the client's side of a link to another broker | below |
//! | 4 | `files` | files that an operator names, opened without waiting for anybody | below |
//! | 4 | `authority` | the access control of a configured broker: files of users and rules, a thread for passwords, who has guessed | below, `files` |
//! | 4 | `logging` | the log: which lines are written, and where they go | below, `files` |
//! | 4 | `storage` | how durable state is written down and read again | below |
//! | 4 | `keeper` | the thread that makes batches durable while the loop goes on | below, `storage` |
//! | 4 | `server` | the loop, listeners, sockets, files and the clock | below, `files`, `authority`, `logging`, `storage`, `keeper` |
//! | 5 | `config` | the configuration file: text to settings | below |
//! | 5 | `options` | what the command line says | below, `config` |
//! | 5 | `lib` | this page and the list of rooms | below, `options` |
//! | 5 | `main` | the binary: wiring and exit codes | below, `config`, `options`, `lib` |

pub mod access;
pub mod acl;
pub mod authority;
pub mod broker;
pub mod codec;
pub mod config;
pub mod connection;
pub mod escape;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod import;
pub mod journal;
#[cfg(feature = "persistence")]
pub mod keeper;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod message;
pub mod options;
pub mod outbox;
pub mod passwords;
pub mod planted;
pub mod proxy;
pub mod retained;
#[cfg(feature = "passwords")]
pub mod scram;
pub mod server;
pub mod session;
pub mod settings;
pub mod share;
pub mod slots;
#[cfg(feature = "persistence")]
pub mod storage;
pub mod subscription;
pub mod time;
pub mod timeline;
pub mod topic;
pub mod trie;
pub mod utf8;
#[cfg(feature = "websocket")]
pub mod websocket;
pub mod wheel;
