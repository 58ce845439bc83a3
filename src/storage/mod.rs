//! What survives the process: the store, its thread and its timeline, and the import of another broker's database.

pub mod import;
#[cfg(feature = "persistence")]
pub mod store;
#[cfg(feature = "persistence")]
pub mod thread;
pub mod timeline;
