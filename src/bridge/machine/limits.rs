//! What the other broker accepts, as its CONNACK says and the operator knows.

use crate::base::time::Duration;
use crate::protocol::codec::{ConnAck, PACKET_SIZE_MAXIMUM, QoS};
use crate::protocol::topic::TopicFilter;
use crate::settings::Remote;

/// The limits of the other broker. Before MQTT 5.0 they are those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The highest QoS of a message. Higher ones are lowered.
    pub qos: QoS,
    /// Whether messages may have RETAIN. If not, it is cleared.
    pub retains: bool,
    /// The largest packet in bytes. Messages that are larger are dropped.
    pub packet_size: usize,
    /// The most QoS 1 and 2 messages in flight.
    pub receive_maximum: Option<u16>,
    /// The Keep Alive that the other broker assigned.
    pub keep_alive: Option<Duration>,
    wildcards: bool,
    shared: bool,
}

impl Limits {
    /// Those of a broker that accepts everything that the protocol allows.
    pub const UNLIMITED: Self = Self {
        qos: QoS::ExactlyOnce,
        retains: true,
        packet_size: PACKET_SIZE_MAXIMUM,
        receive_maximum: None,
        keep_alive: None,
        wildcards: true,
        shared: true,
    };

    /// The limits in a CONNACK that accepts the connection, or those of the operator where they are lower.
    pub fn of(connack: &ConnAck<'_>, settings: &Remote) -> Self {
        let properties = &connack.properties;
        let sizes = [properties.maximum_packet_size(), settings.packet_size];
        let size = sizes.into_iter().flatten().min().and_then(|size| usize::try_from(size).ok());
        let keep_alive = properties.server_keep_alive();
        Self {
            qos: properties.maximum_qos().unwrap_or(QoS::ExactlyOnce),
            retains: properties.retain_available().unwrap_or(true),
            packet_size: size.unwrap_or(usize::MAX).min(PACKET_SIZE_MAXIMUM),
            receive_maximum: properties.receive_maximum(),
            keep_alive: keep_alive.map(|seconds| Duration::from_seconds(seconds.into())),
            wildcards: properties.wildcard_subscription_available().unwrap_or(true),
            shared: properties.shared_subscription_available().unwrap_or(true),
        }
    }

    /// Why the other broker would refuse this filter; `None` if it accepts it.
    pub fn refusal(&self, filter: TopicFilter<'_>) -> Option<&'static str> {
        match filter {
            _ if !self.wildcards && filter.has_wildcard() => Some("it has no wildcards"),
            _ if !self.shared && filter.share_name().is_some() => Some("it has no shared subscriptions"),
            _ => None,
        }
    }
}
