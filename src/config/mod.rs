//! The configuration file and the command line, converted to settings.

pub mod command_line;
pub mod file;
