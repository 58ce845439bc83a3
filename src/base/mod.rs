//! What knows nothing of MQTT: text made safe, moments, memory counted, files opened.

pub mod escape;
pub mod files;
pub mod foreign;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod memory;
pub mod peer;
pub mod planted;
pub mod time;
