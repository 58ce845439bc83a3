//! What an operator writes, as settings: the configuration file and the command line.

pub mod command_line;
pub mod file;
