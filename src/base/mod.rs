//! Code that does not depend on MQTT: escaping of text, moments in time, the count of memory, access to files, a map in order.

#[cfg(not(any(feature = "persistence", feature = "cluster", feature = "fuzzing")))]
pub mod absent;
pub mod byte_order_mark;
pub mod escape;
pub mod files;
pub mod foreign;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(feature = "cluster")]
pub mod json;
pub mod memory;
pub mod ordered_map;
pub mod peer;
pub mod plural;
pub mod time;
