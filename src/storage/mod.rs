//! What survives the process: the file, its thread, its clock, and the import of what another broker has left.

pub mod import;
#[cfg(feature = "persistence")]
pub mod store;
#[cfg(feature = "persistence")]
pub mod thread;
pub mod timeline;
