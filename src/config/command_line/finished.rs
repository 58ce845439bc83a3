//! What a subcommand ends with.

use getopts::{Matches, Options as Parser};

use crate::settings::ConfigError;

/// The result of a subcommand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// The text for standard output.
    pub output: String,
    /// What the operator should look into, for standard error.
    pub warnings: Vec<ConfigError>,
    /// The text for standard error, without a line feed at its end; empty if there was no error.
    pub error: String,
    /// The exit code.
    pub code: u8,
}

/// An option or an argument is invalid.
pub(super) const EXIT_INVALID: u8 = 3;

/// The result for invalid arguments.
pub(super) fn failed(error: &str) -> Finished {
    Finished { error: error.to_owned(), code: EXIT_INVALID, ..Finished::default() }
}

/// Parses the options of a subcommand.
///
/// # Errors
///
/// There is nothing more to do: the result is its help, or what is wrong.
pub(super) fn options(
    name: &str,
    usage: &str,
    parser: &Parser,
    arguments: &[String],
) -> Result<Matches, Finished> {
    let matches =
        parser.parse(arguments).map_err(|fail| failed(&format!("{fail}. Try brooklet {name} --help.")))?;
    if matches.opt_present("help") {
        return Err(Finished { output: parser.usage(usage), ..Finished::default() });
    }
    Ok(matches)
}
