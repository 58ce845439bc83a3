//! The configuration file: text to settings.
//!
//! Text is parsed to statements ([`parse`]), and statements are converted to settings ([`settle`]). Both are pure, work
//! in one pass and report all errors, in the order of the lines. [`load`] adds the reading of files. The keywords,
//! their values and their effects are defined in one table, [`keywords`].
//!
//! The syntax is that of mosquitto.conf: one statement per line, a keyword followed by spaces and its value; a comment
//! is a line that starts with `#`; options after a `listener` apply to that listener, and those after a `connection` to
//! that bridge. Tabs are accepted as spaces.

#[cfg(feature = "bridge")]
mod bridge_values;
#[cfg(feature = "bridge")]
mod bridges;
mod build;
#[cfg(feature = "system")]
mod changes;
mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod conflicts;
mod differences;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(any(feature = "bridge", feature = "cluster"))]
mod hosts;
pub mod keywords;
#[cfg(feature = "persistence")]
mod mosquitto;
mod obstacles;
mod outcome;
mod pending;
mod statements;
mod text;
mod values;

pub use build::settle;
#[cfg(feature = "system")]
pub use changes::changes;
#[cfg(all(feature = "bridge", feature = "persistence"))]
pub use check::check_sessions;
pub use check::{Checked, check};
pub use files::{files_of, load};
pub use keywords::Named;
#[cfg(feature = "persistence")]
pub use mosquitto::check_database_of_mosquitto;
#[cfg(feature = "persistence")]
pub(super) use mosquitto::{BRIDGES, is_import_due, is_same, mark_of_import};
pub use obstacles::obstacles;
pub use outcome::{Finding, Outcome, Place};
pub use pending::{CommandLine, Verbosity};
pub use statements::Step;
pub use text::{Statement, parse};
pub use values::{MEMORY_LIMIT_MINIMUM, bytes};
