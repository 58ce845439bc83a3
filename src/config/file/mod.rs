//! The configuration file: text to settings.
//!
//! Text becomes statements ([`parse`]), statements become settings ([`settle`]); both are pure, work in one pass and
//! report everything that is wrong in it, in the order of the lines. [`load`] puts files around them. What keywords
//! there are, what each may be given and what becomes of it is one table,
//! [`keywords`].
//!
//! The rules of the text are those of mosquitto.conf: one statement a line, a keyword and behind spaces its value; a
//! comment is a line that begins with `#`; what follows a `listener` is about that listener. Tabs are taken for
//! spaces.

mod build;
#[cfg(feature = "system")]
mod changes;
mod check;
mod conflicts;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod keywords;
mod outcome;
mod pending;
mod statements;
mod text;
mod values;

pub use build::settle;
#[cfg(feature = "system")]
pub use changes::changes;
pub use check::{Checked, check};
pub use files::load;
pub use outcome::{Finding, Outcome, Place};
pub use pending::{CommandLine, Verbosity};
pub use statements::Step;
pub use text::{Statement, parse};
pub use values::{MEMORY_LIMIT_MINIMUM, bytes};
