//! The limits of the brokers that fuzz targets make.

use crate::base::fuzzing::Input;
use crate::base::time::Duration;
use crate::core::limits::Limits;

/// Returns the default limits, or limits that are reached soon.
pub(super) fn limits(input: &mut Input<'_>) -> Limits {
    let choices = input.byte();
    let has = |bit: u8| choices >> bit & 1 == 1;
    let mut limits = Limits::default();
    if !has(0) {
        limits.session_expiry_maximum = 1_000;
    }
    if has(1) {
        limits.memory = Some(input.pick(&[0, 2_000, 10_000, 40_000]));
    }
    if has(2) {
        limits.outbox_bytes = input.pick(&[0, 10, 100, 3_000]);
        limits.outbox_answer_bytes = input.pick(&[0, 10, 100]);
        limits.outbox_refill_bytes = limits.outbox_bytes / 2;
    }
    if has(3) {
        limits.queue_length = input.pick(&[0, 1, 3]);
        limits.queue_bytes = input.pick(&[0, 100, 3_000]);
        limits.burst_bytes = limits.queue_bytes / 2;
    }
    if has(4) {
        limits.in_flight = input.pick(&[1, 2, 5]);
        limits.receive_maximum = input.pick(&[1, 2]);
        limits.topic_alias_maximum = input.pick(&[0, 1, 2]);
        limits.packet_size = input.pick(&[10, 300, 3_000]);
        limits.connect_packet_size = input.pick(&[40, 300]);
    }
    if has(5) {
        limits.connections = 2;
        limits.sessions = 3;
        limits.subscriptions_per_session = 2;
        limits.subscriptions = 4;
    }
    if has(6) {
        limits.retained_count = 2;
        limits.retained_bytes = 400;
    }
    if has(7) {
        limits.keep_alive_maximum = 60;
        limits.retry_interval = Duration::ZERO;
    }
    limits
}
