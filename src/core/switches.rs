//! What the core does or leaves, where an operator may choose.

/// What the core does or leaves, whichever listener a client has come in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Whether messages may ask to be retained (`retain_available`). If not, 5.0 clients are told so, and who asks all
    /// the same is told 0x9A and the connection ends.
    pub retain_available: bool,
    /// Whether QoS 0 messages wait for clients that are away, like others (`queue_qos0_messages`). If not, they are for
    /// those who are there.
    pub queues_at_most_once: bool,
    /// Whether a message of low QoS is delivered at the QoS of a higher subscription (`upgrade_outgoing_qos`), which
    /// the standards forbid [MQTT-3.8.4-8].
    pub raises_qos: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { retain_available: true, queues_at_most_once: false, raises_qos: false }
    }
}
