//! The choices of an operator about what the core does.

/// The choices of an operator about what the core does, for the clients of all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Whether messages may be retained (`retain_available`). If not, 5.0 clients are told so; a client that publishes
    /// with RETAIN all the same is sent 0x9A, and its connection ends.
    pub retain_available: bool,
    /// Whether QoS 0 messages are queued for disconnected clients, like others (`queue_qos0_messages`). If not, only
    /// connected clients get them.
    pub queues_at_most_once: bool,
    /// Whether a message is delivered at the QoS of the subscription if that is higher (`upgrade_outgoing_qos`), which
    /// the standards forbid [MQTT-3.8.4-8].
    pub raises_qos: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { retain_available: true, queues_at_most_once: false, raises_qos: false }
    }
}
